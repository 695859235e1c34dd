//! Asking Postgres: what a query shows, as text that compares.

use super::queries::{Order, Query};
use super::schema::quoted;
use super::subscribers::Content;
use tokio_postgres::{Client, NoTls, Statement};

/// What Postgres says a query shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub names: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

/// Connects, with the settings that Convoy's own sessions have.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    let settings = "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; \
                    SET extra_float_digits = 1; SET bytea_output = 'hex'; SET lc_monetary = 'C'; SET jit = off";
    client.batch_execute(settings).await.expect("settings");
    client
}

/// A query made ready on a session.
pub struct Asked {
    statement: Statement,
    names: Vec<String>,
}

impl Asked {
    /// Makes a query ready.
    pub async fn prepare(client: &Client, query: &Query) -> Asked {
        let wrong = |error| panic!("the test's own query is wrong: {error:?}\n{}", query.expected);
        let described = client.prepare(&query.expected).await.unwrap_or_else(wrong);
        let names: Vec<String> =
            described.columns().iter().map(|column| column.name().to_owned()).collect();
        let list: Vec<String> =
            names.iter().map(|name| format!("to_jsonb(q.{})::text", quoted(name))).collect();
        let wrapped = format!("SELECT {} FROM ({}) q", list.join(", "), query.expected);
        let statement = client.prepare(&wrapped).await.unwrap_or_else(wrong);
        Asked { statement, names }
    }

    /// Asks.
    pub async fn ask(&self, client: &Client) -> Result<Answer, tokio_postgres::Error> {
        let rows = client.query(&self.statement, &[]).await?;
        let cell = |cell: Option<String>| cell.unwrap_or_else(|| "null".to_owned());
        let row = |row: &tokio_postgres::Row| {
            (0..row.len()).map(|column| cell(row.get(column))).collect()
        };
        Ok(Answer { names: self.names.clone(), rows: rows.iter().map(row).collect() })
    }
}

/// Says how what is shown differs from what Postgres says.
pub fn difference(query: &Query, shown: &Content, answer: &Answer) -> Option<String> {
    let names: Vec<&String> = shown.columns.iter().map(|(name, _)| name).collect();
    if names != answer.names.iter().collect::<Vec<_>>() {
        return Some(format!("columns {names:?} instead of {:?}", answer.names));
    }
    let mut shown: Vec<&Vec<String>> = shown.rows.iter().map(|row| &row.1).collect();
    let mut expected: Vec<&Vec<String>> = answer.rows.iter().collect();
    if query.order == Order::Any {
        shown.sort();
        expected.sort();
    }
    if shown == expected {
        return None;
    }
    let short = |row: &&&Vec<String>| -> Vec<String> {
        row.iter().map(|cell| cell.chars().take(40).collect()).collect()
    };
    let more: Vec<_> =
        shown.iter().filter(|row| !expected.contains(row)).take(3).map(|row| short(&row)).collect();
    let missing: Vec<_> =
        expected.iter().filter(|row| !shown.contains(row)).take(3).map(|row| short(&row)).collect();
    let (len, expected_len) = (shown.len(), expected.len());
    Some(match more.is_empty() && missing.is_empty() {
        true => {
            let at =
                shown.iter().zip(&expected).position(|(left, right)| left != right).unwrap_or(len);
            let window = |rows: &[&Vec<String>]| -> Vec<Vec<String>> {
                rows.iter().skip(at).take(3).map(|row| short(&row)).collect()
            };
            format!(
                "{len} rows instead of {expected_len}, the same in another order: from {at} on {:?} instead of {:?}",
                window(&shown),
                window(&expected)
            )
        }
        false => format!(
            "{len} rows instead of {expected_len}; too many: {more:?}; missing: {missing:?}"
        ),
    })
}
