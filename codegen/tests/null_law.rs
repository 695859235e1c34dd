//! The law of nulls: a column that is said not to be null is null in no row that Postgres gives. Random statements over
//! small tables that match one another in part. `CONVOY_SEED` replays one run.

use convoy_codegen::describe;
use convoy_engine::Statement;
use convoy_postgres::testing::Dice;
use convoy_postgres::{Pool, SessionOptions, testing};
use std::time::Duration;

const TABLES: &str = "
create table a (id int4 not null, x int4 not null, y int4);
create table b (id int4 not null, x int4 not null, y int4);
create table c (id int4 not null, x int4 not null, y int4);
insert into a values (1, 1, null), (2, 2, 2), (3, 3, 3);
insert into b values (2, 1, 1), (3, 2, null), (4, 4, 4);
insert into c values (3, 3, 3), (4, 1, 1), (5, 5, null);
";
const STATEMENTS: usize = 600;

/// Something to select from, with the expressions by which its columns are called.
struct From {
    text: String,
    columns: Vec<String>,
}

/// Makes statements; each name is used once.
struct Writer {
    dice: Dice,
    names: usize,
}

impl Writer {
    fn name(&mut self) -> String {
        self.names += 1;
        format!("n{}", self.names)
    }

    fn table(&mut self) -> From {
        let table = ["a", "b", "c"][self.dice.below(3)];
        let name = self.name();
        let columns = ["id", "x", "y"].map(|column| format!("{name}.{column}"));
        From { text: format!("{table} as {name}"), columns: columns.into() }
    }

    fn item(&mut self, depth: usize) -> From {
        match self.dice.below(if depth == 0 { 3 } else { 9 }) {
            0..=2 => self.table(),
            3..=6 => {
                let (left, right) = (self.item(depth - 1), self.item(depth - 1));
                let join =
                    ["join", "left join", "right outer join", "full join"][self.dice.below(4)];
                let on =
                    format!("{} = {}", self.one_of(&left.columns), self.one_of(&right.columns));
                let text = format!("({} {join} {} on {on})", left.text, right.text);
                From { text, columns: [left.columns, right.columns].concat() }
            }
            _ => {
                let (query, columns) = self.query(depth - 1);
                let name = self.name();
                let columns = columns.iter().map(|column| format!("{name}.{column}")).collect();
                From { text: format!("({query}) as {name}"), columns }
            }
        }
    }

    fn one_of(&mut self, list: &[String]) -> String {
        list[self.dice.below(list.len())].clone()
    }

    /// Returns a query, and its columns' names.
    fn query(&mut self, depth: usize) -> (String, Vec<String>) {
        let names: Vec<String> = (0..1 + self.dice.below(3)).map(|_| self.name()).collect();
        let first = self.select(depth, &names);
        let query = match self.dice.below(8) {
            0 if depth > 0 => {
                let operation = ["union all", "union", "except all"][self.dice.below(3)];
                format!("{first} {operation} {}", self.select(depth - 1, &names))
            }
            1 => {
                let (name, with) = (self.name(), self.name());
                let column = self.one_of(&names);
                let join = ["join", "left join", "right join"][self.dice.below(3)];
                let table = self.table();
                let other = self.one_of(&table.columns);
                let columns: Vec<String> =
                    names.iter().map(|column| format!("{name}.{column}")).collect();
                format!(
                    "with {with} as ({first}) select {} from {} {join} {with} as {name} on {name}.{column} = {other}",
                    columns.join(", "),
                    table.text
                )
            }
            _ => first,
        };
        (query, names)
    }

    fn select(&mut self, depth: usize, names: &[String]) -> String {
        let mut from = self.item(depth);
        if self.dice.below(4) == 0 {
            let other = self.item(0);
            from.text = format!("{}, {}", from.text, other.text);
            from.columns.extend(other.columns);
        }
        let columns: Vec<String> = names.iter().map(|_| self.one_of(&from.columns)).collect();
        let named: Vec<String> =
            columns.iter().zip(names).map(|(column, name)| format!("{column} as {name}")).collect();
        let groups = match self.dice.below(10) {
            0 => format!(" group by rollup ({})", columns.join(", ")),
            1 => format!(" group by grouping sets (({}), ())", columns.join(", ")),
            2 => format!(" group by {}", columns.join(", ")),
            _ => String::new(),
        };
        format!("select {} from {}{groups}", named.join(", "), from.text)
    }
}

#[tokio::test]
async fn what_is_said_not_to_be_null_never_is() {
    let url = testing::shared().await.database("null_law").await;
    let url = url.parse().expect("a URL");
    let pool = Pool::new(url, SessionOptions::default(), 1, Duration::from_secs(5));
    let mut lease = pool.get().await.expect("a connection");
    lease.client().batch_execute(TABLES).await.expect("tables");
    let mut writer = Writer { dice: Dice::new(), names: 0 };
    let (mut sure, mut made_null, mut unsure) = (0, 0, 0);
    for _ in 0..STATEMENTS {
        let (text, _) = writer.query(3);
        let statement = Statement::named("q", &text).expect("a statement");
        let query = describe(&mut lease, &statement, "queries/q.sql").await;
        let query = query.unwrap_or_else(|error| panic!("{text}: {}", error.message));
        let rows = lease.client().query(text.as_str(), &[]).await.expect("rows");
        for (position, column) in query.columns.iter().enumerate() {
            let is_null = rows.iter().any(|row| row.get::<_, Option<i32>>(position).is_none());
            match (column.nullable, is_null) {
                (false, true) => panic!("{} is null in\n{text}", column.name),
                (false, false) => sure += 1,
                (true, true) => made_null += 1,
                (true, false) => unsure += 1,
            }
        }
    }
    println!("not null {sure}, null {made_null}, in doubt {unsure}");
    assert!(sure > STATEMENTS / 6 && made_null > STATEMENTS / 6, "{sure}, {made_null}, {unsure}");
}
