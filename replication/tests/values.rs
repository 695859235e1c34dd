//! Values of every type as they come in the stream, held against what the server itself says of them (`docs/postgres.md`,
//! P9): the text, the JSON, equality and order. `CONVOY_SEED` replays a run.

use crate::support::{Database, within};
use convoy_postgres::testing::values::{Law, TYPES, laws};
use convoy_types::{
    ChangeKind, Changes, Collation, Datum, Key, OldRow, PgType, Row, Transaction, write_json,
};
use std::cmp::Ordering;
use std::collections::HashMap;
use tokio_postgres::SimpleQueryMessage;

/// Rows of each type.
const ROWS: usize = 200;

/// What the columns after the number hold: two values, and arrays of them.
const COLUMNS: [&str; 4] = ["a", "b", "flat", "square"];

/// Makes a table of a type's values.
fn table(number: usize, law: &Law) -> String {
    let ty = law.sql_type;
    format!(
        "create table law_{number} (n int primary key, a {ty}, b {ty}, flat {ty}[], square {ty}[]); \
         alter table law_{number} replica identity full; alter publication convoy_full add table law_{number}"
    )
}

/// Fills it, and changes each row's number, which sends its values as old ones and as new ones.
fn fill(number: usize, law: &Law) -> String {
    let value = law.value();
    format!(
        "insert into law_{number} select n, a, b, array[a, null, b, a], array[[a, b], [b, null]] \
         from (select n, {value} as a, {value} as b from generate_series(1, {ROWS}) n) as pairs; \
         update law_{number} set n = n + {ROWS}"
    )
}

/// What the server says of each row, by its number: the texts, their JSON, and how the first two compare.
async fn told(database: &Database, number: usize) -> HashMap<String, Vec<String>> {
    // As they are: a cast to text is another thing than what a type is sent as.
    let texts = COLUMNS.join(", ");
    let json = COLUMNS.map(|column| format!("to_jsonb({column})::text")).join(", ");
    let sql = format!(
        "select n, {texts}, {json}, case when a < b then '<' when a = b then '=' else '>' end from law_{number}"
    );
    let messages = database.client.simple_query(&sql).await.expect("rows");
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let texts = rows.map(|row| {
        let text = |column| row.get(column).expect("not null").to_owned();
        (text(0), (1..row.len()).map(text).collect())
    });
    texts.collect()
}

fn texts(row: &Row) -> Vec<&[u8]> {
    fn text(datum: &Datum) -> &[u8] {
        let Datum::Text(text) = datum else { panic!("no text: {datum:?}") };
        text
    }
    row.0.iter().map(text).collect()
}

/// Holds a row of the stream against what the server says of it.
fn check(law: &Law, row: &[&[u8]], told: &[String]) {
    let array = PgType::Array(Box::new(law.ty.clone()));
    for (at, ty) in [&law.ty, &law.ty, &array, &array].into_iter().enumerate() {
        let shown = String::from_utf8_lossy(row[at]);
        assert_eq!(shown, told[at], "{}", law.sql_type);
        let mut json = String::new();
        write_json(ty, row[at], &mut json).expect("a value");
        assert_eq!(json, told[COLUMNS.len() + at], "{} {shown:?}", law.sql_type);
    }
    if !law.ty.has_equality(Collation::ByteOrder) {
        return;
    }
    let key = |text: &[u8]| Key::of(&law.ty, text).expect("a value");
    let expected = match told[2 * COLUMNS.len()].as_str() {
        "<" => Ordering::Less,
        "=" => Ordering::Equal,
        _ => Ordering::Greater,
    };
    let order = key(row[0]).cmp(&key(row[1]));
    assert_eq!(order.is_eq(), expected.is_eq(), "{} {told:?}", law.sql_type);
    if law.ty.has_order(Collation::ByteOrder) {
        assert_eq!(order, expected, "{} {told:?}", law.sql_type);
    }
}

/// Checks the rows of one table; returns how many values came.
fn check_all(
    law: &Law,
    transactions: &[Transaction],
    told: &HashMap<String, Vec<String>>,
) -> usize {
    let number = |text: &[u8]| String::from_utf8_lossy(text).parse::<usize>().expect("a number");
    let mut count = 0;
    for transaction in transactions {
        let Changes::Rows(changes) = &transaction.changes else { panic!("no rows") };
        for change in changes {
            let rows: Vec<&Row> = match &change.kind {
                ChangeKind::Insert { new } => vec![new],
                ChangeKind::Update { old: OldRow::Full(old), new } => vec![old, new],
                other => panic!("{other:?}"),
            };
            for row in rows {
                let row = texts(row);
                // All of a row but its number stays as it was.
                let n = (number(row[0]) - 1) % ROWS + 1 + ROWS;
                check(law, &row[1..], &told[&n.to_string()]);
                count += 1;
            }
        }
    }
    count
}

#[tokio::test]
async fn p9_values_of_the_stream_are_as_those_of_a_select() {
    within(async {
        let database = Database::new("values", "select 1").await;
        let client = &database.client;
        let given = std::env::var("CONVOY_SEED").ok().and_then(|seed| seed.parse::<u32>().ok());
        let seed = given.unwrap_or_else(rand::random);
        println!("replay with CONVOY_SEED={seed}");
        // The settings that every connection of Convoy's has; the walsender's are to be ours, whatever the database says.
        let settings = format!(
            "{TYPES}; set timezone = 'UTC'; set intervalstyle = postgres; set datestyle = 'ISO'; set extra_float_digits = 1; \
             set bytea_output = hex; select setseed({}); \
             do $$ declare setting text; begin \
             foreach setting in array '{{datestyle = German,timezone = Japan,intervalstyle = iso_8601,extra_float_digits = -5,bytea_output = escape}}'::text[] \
             loop execute format('alter database %I set %s', current_database(), setting); end loop; end $$",
            f64::from(seed) / f64::from(u32::MAX)
        );
        client.batch_execute(&settings).await.expect("types and settings");
        let laws = laws();
        for (number, law) in laws.iter().enumerate() {
            client.batch_execute(&table(number, law)).await.expect(law.sql_type);
        }
        let mut stream = database.stream().await;
        for (number, law) in laws.iter().enumerate() {
            client.batch_execute(&fill(number, law)).await.expect(law.sql_type);
            let transactions = database.read(&mut stream).await;
            let told = told(&database, number).await;
            assert_eq!(check_all(law, &transactions, &told), 3 * ROWS, "{}", law.sql_type);
        }
        stream.shutdown().await;
    })
    .await;
}
