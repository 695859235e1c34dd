//! `ctx.db`: the operations of a function, JSON text in and out, on a transaction that is its caller's.
//!
//! | file | has |
//! |---|---|
//! | `args` | what an operation is asked, read from JSON |
//! | `scan`, `segments`, `condition` | a scan: which stretches of which order, and how each is read |
//! | `cursor` | places in an order |
//! | `record` | the statements that cover what was read |
//! | `rows` | rows as documents |
//! | `write`, `check` | insert, patch, replace, delete; documents held against what is declared |
//! | `raw` | SQL of the function's own |
//! | `value`, `sql` | values as text; statements in the making |
//!
//! Values are parameters, always; of names only declared ones get into a statement, in quotes.

mod args;
mod check;
mod condition;
mod cursor;
mod raw;
mod record;
mod rows;
mod scan;
mod segments;
mod sql;
mod value;
mod write;

use crate::catalogue::standing;
use crate::declared::Schema;
use crate::declared_json::meant;
use crate::error::{SchemaError, StoreError};
use crate::layout::TableLayout;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_postgres::Client;

/// The tables of a schema as they stand, and what can be done with them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    tables: Arc<BTreeMap<String, Result<TableLayout, String>>>,
}

/// A statement that covers what was read: whenever a change could make the read's answer another, the changed row, as
/// it was or as it is, is one of the statement's. It is to be analysed, never executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedRead {
    /// The statement; reads that differ in values alone have one text. It selects all columns that the read gives, so
    /// that an update of any of them counts.
    pub sql: String,
    /// The values of its parameters, as text that their types' input functions read.
    pub args: Vec<Option<String>>,
}

/// Gives the rows that one mutation inserts creation times that go up, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct CreationClock {
    next_ms: f64,
}

impl CreationClock {
    /// Returns a clock for a mutation that began at this time, in milliseconds since 1970.
    pub fn new(now_ms: f64) -> CreationClock {
        CreationClock { next_ms: now_ms }
    }

    fn tick(&mut self) -> f64 {
        let now = self.next_ms;
        // A microsecond: a double still tells them apart for some hundred years to come.
        self.next_ms += 0.001;
        now
    }
}

impl Store {
    /// Looks up how a schema's tables stand. Tables that are not there, or not as declared, are found out when an
    /// operation names them; [`StoreError::is_outdated`] says when to load again.
    ///
    /// # Errors
    /// [`SchemaError::Database`] where the database can't be asked.
    pub async fn load(client: &Client, schema: Arc<Schema>) -> Result<Store, SchemaError> {
        let names = schema.tables.iter().map(|table| table.name.as_str());
        let standing = standing(client, names).await?;
        let tables = schema
            .tables
            .iter()
            .map(|table| (table.name.clone(), TableLayout::new(table, standing.get(&table.name))));
        Ok(Store { tables: Arc::new(tables.collect()) })
    }

    fn table(&self, name: &str) -> Result<&TableLayout, StoreError> {
        match self.tables.get(name) {
            Some(Ok(table)) => Ok(table),
            Some(Err(message)) => {
                Err(StoreError::Layout { message: message.clone(), table: name.to_owned() })
            }
            None => {
                let meant = meant(name, self.tables.keys().map(String::as_str));
                Err(StoreError::invalid(format!("there is no table {name:?} in the schema{meant}")))
            }
        }
    }

    /// Returns the table of an id: the one that is named, or the one that the id begins with.
    fn table_of(&self, table: Option<&str>, id: &str) -> Result<&TableLayout, StoreError> {
        let name = match (table, id.rsplit_once(':')) {
            (Some(name), _) => name,
            (None, Some((name, _))) => name,
            (None, None) => {
                return Err(StoreError::invalid(format!(
                    "the id {id:?} does not begin with its table's name: give the table too, as in get(\"projects\", id)"
                )));
            }
        };
        self.table(name)
    }
}
