//! Predicates against a real server: what changes a result is matched, and a condition says of a row what Postgres
//! says.
//!
//! Statements and rows are random; `CONVOY_SEED` replays a run.

mod conditions;
mod joins;
mod unheld;

use crate::database::harness::{Harness, statement};
use convoy_engine::analyse::analyse;
use convoy_engine::{QueryTemplate, TableFacts};
use convoy_postgres::testing;
use convoy_types::Datum;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Rows as Postgres prints them.
type Rows = Vec<Vec<Option<String>>>;

/// Dice that make statements, conditions and rows.
struct Dice(testing::Dice);

impl Dice {
    fn new() -> Dice {
        Dice(testing::Dice::new())
    }
}

impl Deref for Dice {
    type Target = testing::Dice;

    fn deref(&self) -> &testing::Dice {
        &self.0
    }
}

impl DerefMut for Dice {
    fn deref_mut(&mut self) -> &mut testing::Dice {
        &mut self.0
    }
}

/// Analyses a statement as the engine would; none where Postgres does not take it.
async fn template(harness: &mut Harness, sql: &str) -> Option<QueryTemplate> {
    let statement = statement(sql);
    let facts = harness.describe(&statement).await.ok()?;
    let analysis = analyse(&statement, &facts).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let requests = analysis.constants().to_vec();
    let constants = match requests.is_empty() {
        true => Vec::new(),
        false => harness.cast(requests).await,
    };
    let constants: Vec<_> = constants.into_iter().map(|value| value.ok().flatten()).collect();
    Some(analysis.finish(&constants).unwrap_or_else(|error| panic!("{sql}: {error}")))
}

/// Returns a statement's rows, or none where it fails.
async fn rows(client: &Client, sql: &str) -> Option<Rows> {
    let messages = client.simple_query(sql).await.ok()?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect())
        }
        _ => None,
    };
    Some(messages.into_iter().filter_map(row).collect())
}

/// Returns a row as the stream would bring it.
fn data(row: &[Option<String>]) -> Vec<Datum> {
    let datum = |text: &Option<String>| match text {
        Some(text) => Datum::Text(text.clone().into_bytes().into()),
        None => Datum::Null,
    };
    row.iter().map(datum).collect()
}

/// Returns a table of a template by name.
fn table<'a>(template: &'a QueryTemplate, name: &str) -> Option<&'a Arc<TableFacts>> {
    template.tables.iter().find(|table| table.name == name)
}
