//! Random live queries of all kinds, each beside the statement that says what it must show: the same with the order that
//! Convoy promises spelt out, and its arguments in place.

use super::aggregates::aggregates;
use super::dice::Dice;
use super::schema::{Column, Kind, Table};
use super::values::present;
use convoy_engine::Argument;

/// How the rows of a result are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// One by one.
    Stated,
    /// As a set with repetitions: the promised order is that of the rows' values, or of keys that this test does not
    /// know.
    Any,
}

/// A query to be kept live.
#[derive(Clone, Debug)]
pub struct Query {
    /// What kind it is, for reports.
    pub kind: &'static str,
    /// What is subscribed to.
    pub sql: String,
    pub args: Vec<Argument>,
    /// What it must show.
    pub expected: String,
    pub order: Order,
    /// Tables that the test names late: nobody subscribes to them at the beginning.
    pub late: bool,
    /// Read on an interval: no cut is exact, the end is.
    pub on_interval: bool,
}

/// The queries whose panels must agree with each other in every transition.
pub const TRANSFERS: [(&str, &str); 6] = [
    ("list", "SELECT id, region, balance FROM accounts ORDER BY id"),
    ("total", "SELECT sum(balance)::int8 AS total FROM accounts"),
    ("count", "SELECT count(*) AS count FROM accounts"),
    (
        "regions",
        "SELECT region, sum(balance)::int8 AS total FROM accounts GROUP BY region ORDER BY region",
    ),
    ("richest", "SELECT id, balance FROM accounts ORDER BY balance DESC LIMIT 5"),
    ("max", "SELECT max(balance) AS most FROM accounts"),
];

/// Returns the queries of a seed.
pub fn queries(tables: &[Table], dice: &mut Dice) -> Vec<Query> {
    let mut queries = Vec::new();
    for table in tables {
        let maker = Maker { table };
        let late = table.name.starts_with("late");
        let mut of_table = Vec::new();
        if table.is_live() {
            of_table.push(maker.whole());
            let repeats = if late { 1 } else { 2 };
            for _ in 0..repeats {
                of_table.push(maker.filtered(dice));
                of_table.push(maker.ordered(dice));
                of_table.push(maker.limited(dice));
                of_table.push(maker.with_argument(dice));
            }
            of_table.push(maker.counted(dice));
            of_table.push(maker.grouped(dice));
            of_table.push(maker.distinct(dice));
            of_table.extend(maker.family());
            of_table.extend(aggregates(table, dice, |dice| maker.condition(dice)));
            of_table.push(maker.expressions());
            of_table.push(maker.ranked());
            if table.columns.iter().any(|column| column.kind == Kind::Generated) {
                of_table.push(maker.generated());
            }
            if let Some(query) = maker.any_of(dice) {
                of_table.push(query);
            }
        } else {
            of_table.push(maker.on_interval());
        }
        of_table.iter_mut().for_each(|query| query.late = late);
        queries.append(&mut of_table);
    }
    let live: Vec<&Table> =
        tables.iter().filter(|table| table.is_live() && !table.name.starts_with("late")).collect();
    for pair in live.windows(2) {
        queries.push(joined(pair[0], pair[1]));
        queries.push(exists(pair[0], pair[1], dice));
        queries.push(united(pair[0], pair[1]));
        queries.push(outer_joined(pair[0], pair[1]));
        queries.push(with(pair[0], pair[1]));
    }
    for table in live.iter().filter(|table| table.key_len > 0) {
        queries.extend(held(table, live[0], dice));
    }
    for (_, sql) in TRANSFERS {
        let expected = sql.replace("balance DESC", "balance DESC, id");
        queries.push(Query::new("transfers", sql.to_owned(), expected, Order::Stated));
    }
    queries
}

impl Query {
    pub fn new(kind: &'static str, sql: String, expected: String, order: Order) -> Query {
        Query { kind, sql, args: Vec::new(), expected, order, late: false, on_interval: false }
    }
}

struct Maker<'a> {
    table: &'a Table,
}

impl Maker<'_> {
    /// Returns an ORDER BY of these items and the key, and how rows compare under it.
    fn order_by(&self, items: &[String], alias: &str) -> (String, Order) {
        let key = self.table.key().iter().map(|column| format!("{alias}{}", column.sql()));
        let all: Vec<String> = items.iter().cloned().chain(key).collect();
        let order = if self.table.key_len == 0 { Order::Any } else { Order::Stated };
        match all.is_empty() {
            true => (String::new(), order),
            false => (format!(" ORDER BY {}", all.join(", ")), order),
        }
    }

    fn list(&self, dice: &mut Dice) -> String {
        if dice.percent(25) {
            return "*".to_owned();
        }
        let names: Vec<String> = self.table.columns.iter().map(Column::sql).collect();
        let mut some = dice.some(&names, 40);
        if dice.percent(30) {
            some.reverse();
        }
        some.join(", ")
    }

    fn column(&self, dice: &mut Dice, fits: impl Fn(Kind) -> bool) -> Option<Column> {
        let fitting: Vec<&Column> =
            self.table.columns.iter().filter(|column| fits(column.kind)).collect();
        (!fitting.is_empty()).then(|| (*dice.pick(&fitting)).clone())
    }

    /// Returns a condition on one column.
    fn comparison(&self, dice: &mut Dice) -> String {
        let column = self
            .column(dice, |kind| kind.has_order() && kind != Kind::Generated)
            .expect("every table has n");
        let name = column.sql();
        if let Some(condition) = inside(&column, dice) {
            return condition;
        }
        let mut literal = || match column.kind {
            // A literal that is a keyword needs no quotes, and may have them.
            kind @ (Kind::Jsonb | Kind::Ints | Kind::Texts) => {
                format!("{}::{}", present(kind, dice), kind.sql())
            }
            kind => present(kind, dice),
        };
        let (first, second) = (literal(), literal());
        match dice.below(11) {
            0..=2 => format!("{name} = {first}"),
            3 => format!("{name} <> {first}"),
            4 => format!("{name} > {first}"),
            5 => format!("{name} <= {first}"),
            6 => format!("{name} BETWEEN {first} AND {second}"),
            7 => format!("{name} IN ({first}, {second})"),
            8 => format!("{name} IS NULL"),
            9 => format!("{name} IS NOT NULL"),
            _ => format!("{name} IS DISTINCT FROM {first}"),
        }
    }

    fn condition(&self, dice: &mut Dice) -> String {
        let first = self.comparison(dice);
        match dice.below(6) {
            0 => format!("{first} AND {}", self.comparison(dice)),
            1 => format!("{first} OR {}", self.comparison(dice)),
            2 => format!("NOT ({first})"),
            3 => format!(
                "({first} OR {}) AND NOT ({})",
                self.comparison(dice),
                self.comparison(dice)
            ),
            _ => first,
        }
    }

    fn order_items(&self, dice: &mut Dice) -> Vec<String> {
        let mut items = Vec::new();
        for _ in 0..dice.between(1, 2) {
            let column = self
                .column(dice, |kind| kind.has_order() && kind != Kind::Generated)
                .expect("every table has n");
            let direction = dice.pick(&["", " ASC", " DESC", " DESC NULLS LAST", " NULLS FIRST"]);
            items.push(format!("{}{direction}", column.sql()));
        }
        items
    }

    fn whole(&self) -> Query {
        let sql = format!("SELECT * FROM {}", self.table.sql());
        let (order_by, order) = self.order_by(&[], "");
        Query::new("whole", sql.clone(), format!("{sql}{order_by}"), order)
    }

    fn filtered(&self, dice: &mut Dice) -> Query {
        let sql = format!(
            "SELECT {} FROM {} WHERE {}",
            self.list(dice),
            self.table.sql(),
            self.condition(dice)
        );
        let (order_by, order) = self.order_by(&[], "");
        Query::new("filtered", sql.clone(), format!("{sql}{order_by}"), order)
    }

    fn ordered(&self, dice: &mut Dice) -> Query {
        let items = self.order_items(dice);
        let mut sql = format!("SELECT * FROM {}", self.table.sql());
        if dice.percent(50) {
            sql.push_str(&format!(" WHERE {}", self.condition(dice)));
        }
        let (order_by, order) = self.order_by(&items, "");
        Query::new(
            "ordered",
            format!("{sql} ORDER BY {}", items.join(", ")),
            format!("{sql}{order_by}"),
            order,
        )
    }

    fn limited(&self, dice: &mut Dice) -> Query {
        let items = self.order_items(dice);
        let mut sql = format!("SELECT {} FROM {}", self.list(dice), self.table.sql());
        if dice.percent(60) {
            sql.push_str(&format!(" WHERE {}", self.condition(dice)));
        }
        let mut limit = format!(" LIMIT {}", dice.between(1, 12));
        if dice.percent(40) {
            limit.push_str(&format!(" OFFSET {}", dice.between(0, 6)));
        }
        if self.table.key_len == 0 {
            // By all values, so nothing but those is shown.
            let sql = format!("SELECT n, txt FROM {}", self.table.sql());
            let query = format!("{sql} ORDER BY n{limit}");
            return Query::new(
                "limited",
                query,
                format!("{sql} ORDER BY n, txt{limit}"),
                Order::Stated,
            );
        }
        let (order_by, order) = self.order_by(&items, "");
        Query::new(
            "limited",
            format!("{sql} ORDER BY {}{limit}", items.join(", ")),
            format!("{sql}{order_by}{limit}"),
            order,
        )
    }

    fn with_argument(&self, dice: &mut Dice) -> Query {
        let operator = *dice.pick(&["=", "=", "<", ">="]);
        let kinds = [
            Kind::Int4,
            Kind::Int8,
            Kind::Text,
            Kind::Uuid,
            Kind::Mood,
            Kind::Numeric,
            Kind::Timestamptz,
        ];
        let column = self.column(dice, |kind| kinds.contains(&kind)).expect("every table has n");
        let literal = present(column.kind, dice);
        let inner = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
        let argument = match inner {
            Some(inner) => Argument::String(inner.replace("''", "'")),
            None => Argument::Number(literal.clone()),
        };
        let sql = format!("SELECT * FROM {} WHERE {} {operator}", self.table.sql(), column.sql());
        let (order_by, order) = self.order_by(&[], "");
        Query {
            args: vec![argument],
            ..Query::new(
                "argument",
                format!("{sql} $1"),
                format!("{sql} {literal}{order_by}"),
                order,
            )
        }
    }

    fn any_of(&self, dice: &mut Dice) -> Option<Query> {
        let column = self.column(dice, |kind| matches!(kind, Kind::Int4 | Kind::Int8))?;
        let numbers: Vec<String> = (0..3).map(|_| dice.between(-3, 9).to_string()).collect();
        let argument = Argument::Array(numbers.iter().cloned().map(Argument::Number).collect());
        let sql = format!("SELECT * FROM {} WHERE {} = ANY", self.table.sql(), column.sql());
        let (order_by, order) = self.order_by(&[], "");
        let expected = format!("{sql} ('{{{}}}'){order_by}", numbers.join(","));
        Some(Query {
            args: vec![argument],
            ..Query::new("any", format!("{sql} ($1)"), expected, order)
        })
    }

    fn counted(&self, dice: &mut Dice) -> Query {
        let ordered = self.column(dice, |kind| {
            matches!(
                kind,
                Kind::Int4 | Kind::Int8 | Kind::Text | Kind::Date | Kind::Timestamptz | Kind::Mood
            )
        });
        let column = ordered.expect("every table has n").sql();
        let sql = format!(
            "SELECT count(*) AS count, count({column}) AS \"Some\", min({column}) AS low, max({column}) AS high, \
             sum(n) AS sum, avg(n) AS avg FROM {} WHERE {}",
            self.table.sql(),
            self.condition(dice)
        );
        Query::new("aggregate", sql.clone(), sql, Order::Stated)
    }

    fn grouped(&self, dice: &mut Dice) -> Query {
        let column = self.column(dice, |kind| kind.equals_look_alike() && kind != Kind::Generated);
        let column = column.expect("every table has n").sql();
        let sql = format!(
            "SELECT {column}, count(*) AS count, sum(n) AS sum FROM {} GROUP BY {column}",
            self.table.sql()
        );
        let sql = if dice.percent(40) { format!("{sql} HAVING count(*) > 1") } else { sql };
        Query::new("grouped", sql.clone(), format!("{sql} ORDER BY {column}"), Order::Stated)
    }

    fn distinct(&self, dice: &mut Dice) -> Query {
        let column = self.column(dice, |kind| kind.equals_look_alike() && kind != Kind::Generated);
        let column = column.expect("every table has n").sql();
        let sql = format!("SELECT DISTINCT {column} FROM {}", self.table.sql());
        Query::new("distinct", sql.clone(), format!("{sql} ORDER BY 1"), Order::Stated)
    }

    /// Returns queries that differ in an argument alone, and so are read together.
    fn family(&self) -> Vec<Query> {
        let sql = format!("SELECT DISTINCT n, txt FROM {} WHERE n", self.table.sql());
        let member = |n: i32| Query {
            args: vec![Argument::Number(n.to_string())],
            ..Query::new(
                "family",
                format!("{sql} = $1"),
                format!("{sql} = {n} ORDER BY 1, 2"),
                Order::Any,
            )
        };
        (1..=4).map(member).collect()
    }

    fn expressions(&self) -> Query {
        let sql = format!(
            "SELECT upper(txt) AS up, n::int8 * 2 AS double, coalesce(n, -1) AS n, length(txt) AS length, \
             CASE WHEN n > 3 THEN 'many' WHEN n IS NULL THEN NULL ELSE 'few' END AS \"How many\" FROM {}",
            self.table.sql()
        );
        let (order_by, order) = self.order_by(&[], &format!("{}.", self.table.sql()));
        Query::new("expressions", sql.clone(), format!("{sql}{order_by}"), order)
    }

    fn ranked(&self) -> Query {
        let key: Vec<String> = self.table.key().iter().map(Column::sql).collect();
        let by = if key.is_empty() { "hid".to_owned() } else { key.join(", ") };
        let sql = format!(
            "SELECT {by}, row_number() OVER (PARTITION BY n ORDER BY {by}) AS rank, count(*) OVER () AS total FROM {}",
            self.table.sql()
        );
        let (order_by, order) = self.order_by(&[], "");
        Query::new("ranked", sql.clone(), format!("{sql}{order_by}"), order)
    }

    fn generated(&self) -> Query {
        let sql = format!("SELECT n, twice FROM {} WHERE twice > 4", self.table.sql());
        let (order_by, order) = self.order_by(&[], "");
        Query::new("generated", sql.clone(), format!("{sql}{order_by}"), order)
    }

    fn on_interval(&self) -> Query {
        let sql = format!("SELECT * FROM {}", self.table.sql());
        Query {
            on_interval: true,
            ..Query::new("interval", format!("-- @refresh 500ms\n{sql}"), sql, Order::Any)
        }
    }
}

fn keys(table: &Table, alias: &str) -> Vec<String> {
    table.key().iter().map(|column| format!("{alias}.{}", column.sql())).collect()
}

/// Returns ORDER BY the keys of both, where both have them.
fn by_keys(left: &Table, right: &Table) -> (String, Order) {
    if left.key_len == 0 || right.key_len == 0 {
        return (String::new(), Order::Any);
    }
    let keys = [keys(left, "l"), keys(right, "r")].concat();
    (format!(" ORDER BY {}", keys.join(", ")), Order::Stated)
}

/// Returns a condition on what is in a value: how a text begins, an array's elements, a jsonb's members.
fn inside(column: &Column, dice: &mut Dice) -> Option<String> {
    let conditions: &[&str] = match column.kind {
        Kind::Text | Kind::Varchar => &[
            "? LIKE 'b%'",
            "? LIKE 'Z_b%'",
            "? NOT LIKE 'a%'",
            "? LIKE 'c'",
            "? ^@ 'back\\'",
            "starts_with(?, 'C')",
        ],
        Kind::Jsonb => &[
            "?->>'a' = '1'",
            "?->>'a' > '1'",
            "?->>'a' IS NULL",
            "?->>'long' IS NOT NULL",
            "? #>> '{a}' IN ('1.50', '2')",
            "?->>'ü' LIKE 'é%'",
            "? @> '{\"a\": 1}'",
            "? @> '{\"a\": [\"x\", null]}'",
            "?->'a' @> '1'",
            "? @> '[1, 2]'",
        ],
        Kind::Ints => &["? @> '{1}'", "? && ARRAY[-1, 3]", "3 = ANY(?)", "? @> ARRAY[1, NULL]"],
        Kind::Texts => &["? @> ARRAY['a']", "? && '{ä,\"a,b\"}'", "'NULL' = ANY(?)", "'{}' <@ ?"],
        _ => return None,
    };
    dice.percent(50).then(|| dice.pick(conditions).replace('?', &column.sql()))
}

fn joined(left: &Table, right: &Table) -> Query {
    let sql = format!(
        "SELECT l.n, l.txt AS \"left\", r.txt AS \"right\" FROM {} l JOIN {} r ON l.n = r.n AND l.n BETWEEN 2 AND 4",
        left.sql(),
        right.sql()
    );
    let (order_by, order) = by_keys(left, right);
    Query::new("join", sql.clone(), format!("{sql}{order_by}"), order)
}

fn outer_joined(left: &Table, right: &Table) -> Query {
    let sql = format!(
        "SELECT l.n, r.n AS other, r.txt FROM {} l LEFT JOIN {} r ON l.n = r.n AND r.txt < 'b' WHERE l.n > 4",
        left.sql(),
        right.sql()
    );
    Query::new("outer join", sql.clone(), sql, Order::Any)
}

/// Returns joins of which most rows of the inner table, `items`, are in no result: numbers are few, and its keys many.
fn held(left: &Table, items: &Table, dice: &mut Dice) -> [Query; 2] {
    let from = |kind: &str| {
        let condition = "ON r.id = l.n AND l.txt IS NOT NULL";
        format!(
            "SELECT l.n, r.txt, r.n AS other FROM {} l {kind} JOIN {} r {condition}",
            left.sql(),
            items.sql()
        )
    };
    let keys = [keys(left, "l"), keys(items, "r")].concat().join(", ");
    let all = from(dice.pick::<&str>(&["INNER", "LEFT"]));
    let first = from(dice.pick::<&str>(&["INNER", "INNER", "LEFT", "RIGHT"]));
    let order = dice.pick(&["r.txt DESC NULLS LAST", "l.n", "other NULLS FIRST", "2 DESC"]);
    let mut limit = format!(" LIMIT {}", dice.between(2, 9));
    if dice.percent(25) {
        limit.push_str(" OFFSET 2");
    }
    [
        Query::new("held", all.clone(), format!("{all} ORDER BY {keys}"), Order::Stated),
        Query::new(
            "held limit",
            format!("{first} ORDER BY {order}{limit}"),
            format!("{first} ORDER BY {order}, {keys}{limit}"),
            Order::Stated,
        ),
    ]
}

fn exists(left: &Table, right: &Table, dice: &mut Dice) -> Query {
    let not = if dice.percent(50) { "NOT " } else { "" };
    let sql = format!(
        "SELECT l.n, l.txt FROM {} l WHERE {not}EXISTS (SELECT FROM {} r WHERE r.n = l.n AND r.txt IS NOT NULL)",
        left.sql(),
        right.sql()
    );
    let order = if left.key_len == 0 { Order::Any } else { Order::Stated };
    let order_by = if left.key_len == 0 {
        String::new()
    } else {
        format!(" ORDER BY {}", keys(left, "l").join(", "))
    };
    Query::new("exists", sql.clone(), format!("{sql}{order_by}"), order)
}

fn united(left: &Table, right: &Table) -> Query {
    let sql = format!(
        "SELECT n, txt FROM {} WHERE n < 3 UNION SELECT n, txt FROM {} WHERE n > 6 EXCEPT SELECT 1, 'a'",
        left.sql(),
        right.sql()
    );
    Query::new("union", sql.clone(), format!("{sql} ORDER BY 1, 2"), Order::Any)
}

fn with(left: &Table, right: &Table) -> Query {
    let sql = format!(
        "WITH counts AS (SELECT n, count(*) AS count FROM {} GROUP BY n) \
         SELECT c.n, c.count, (SELECT count(*) FROM {} r WHERE r.n = c.n) AS others FROM counts c",
        left.sql(),
        right.sql()
    );
    Query::new("with", sql.clone(), sql, Order::Any)
}
