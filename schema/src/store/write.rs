//! `db.get`, `db.insert`, `db.patch`, `db.replace` and `db.delete`: one row, by its id.

use super::args::Args;
use super::check::{check_some, check_unset, check_whole};
use super::record::{record_get, record_missing};
use super::rows::Selected;
use super::sql::Sql;
use super::value::{described, is_value, param};
use super::{CreationClock, RecordedRead, Store, StoreError};
use crate::catalogue::Column;
use crate::declared::{Field, Layout};
use crate::layout::{CREATION_TIME, DOC, Kind, TableLayout};
use crate::names::{literal, quoted};
use serde_json::{Map, Value};
use tokio_postgres::Client;

impl Store {
    /// Reads a row; `null` where there is none.
    ///
    /// # Errors
    /// [`StoreError::InvalidArgs`] for a table that is not declared; what Postgres says.
    pub async fn get(
        &self,
        client: &Client,
        args: &str,
        reads: &mut Vec<RecordedRead>,
    ) -> Result<String, StoreError> {
        let args = Args::read("db.get", args)?;
        let id = args.id()?;
        let layout = self.table_of(args.string("table")?, &id);
        let layout = layout.inspect_err(|error| record_missing(error, reads))?;
        if !is_value(layout.id.kind, &id) {
            return Ok("null".to_owned());
        }
        let selected = Selected::new(layout, []);
        let mut sql = Sql::new(selected.select());
        sql.push(&format!(" from {}", quoted(&layout.table.name)));
        where_id(layout, &id, &mut sql);
        record_get(layout, &id, reads);
        let rows = sql.query(client).await?;
        let mut answer = String::new();
        match rows.first() {
            Some(row) => selected.write(row, &mut answer)?,
            None => answer.push_str("null"),
        }
        Ok(answer)
    }

    /// Inserts a row and returns its id, as JSON.
    ///
    /// # Errors
    /// [`StoreError::InvalidArgs`] where the document is not as declared, or a constraint is violated;
    /// [`StoreError::Conflict`] where a value has to be unique; what Postgres says.
    pub async fn insert(
        &self,
        client: &Client,
        args: &str,
        clock: &mut CreationClock,
    ) -> Result<String, StoreError> {
        let mut args = Args::read("db.insert", args)?;
        let doc = args.object("doc")?;
        let layout = self.table(args.needed_string("table")?)?;
        check_whole(&layout.table, &doc)?;
        let mut columns = Vec::new();
        let mut values = Sql::default();
        let mut add = |column: String, value: Given| {
            values.push(if columns.is_empty() { "" } else { ", " });
            columns.push(column);
            match value {
                Given::Expression(expression) => values.push(&expression),
                Given::Value(value) => values.bind(value),
            };
        };
        let id_is_field = layout.columns().any(|(field, column)| {
            quoted(&column.name) == layout.id.ordered && doc.contains_key(&field.name)
        });
        if !layout.own_id && !id_is_field {
            let uuid = "pg_catalog.gen_random_uuid()";
            match layout.id.kind {
                Kind::Text => {
                    let name = literal(&format!("{}:", layout.table.name));
                    let id = format!("{name} || {uuid}::text");
                    add(layout.id.ordered.clone(), Given::Expression(id));
                }
                // A uuid, if anything; where it is none Postgres says what is missing.
                Kind::Other => add(layout.id.ordered.clone(), Given::Expression(uuid.to_owned())),
                _ => {}
            }
        }
        if layout.creation_time.is_some() {
            let now = clock.tick();
            add(quoted(CREATION_TIME), Given::Value(Some(now.to_string())));
        }
        match layout.shape {
            Layout::Document => {
                add(quoted(DOC), Given::Value(Some(Value::Object(doc).to_string())));
            }
            Layout::Relational => {
                for (field, column) in layout.columns() {
                    if let Some(value) = doc.get(&field.name) {
                        add(
                            quoted(&column.name),
                            Given::Value(column_value(layout, field, column, value)?),
                        );
                    }
                }
            }
        }
        let mut sql = values;
        let table = quoted(&layout.table.name);
        sql.text = match columns.is_empty() {
            true => format!("insert into {table} default values"),
            false => format!("insert into {table} ({}) values ({})", columns.join(", "), sql.text),
        };
        sql.push(&format!(" returning {}::text", layout.id.ordered));
        let rows = sql.query(client).await?;
        let id: Option<&str> = match rows.first() {
            Some(row) => row.try_get(0)?,
            None => None,
        };
        Ok(Value::from(id).to_string())
    }

    /// Changes some fields of a row.
    ///
    /// # Errors
    /// Those of [`Store::insert`], and [`StoreError::NotFound`].
    pub async fn patch(&self, client: &Client, args: &str) -> Result<String, StoreError> {
        let mut args = Args::read("db.patch", args)?;
        let mut set = args.object("set")?;
        let unset = args.array("unset")?;
        let id = args.id()?;
        let layout = self.table_of(args.string("table")?, &id)?;
        leave_own_fields(&mut set, &id)?;
        check_some(&layout.table, &set)?;
        let mut taken = Vec::new();
        for name in &unset {
            let Value::String(name) = name else {
                return Err(StoreError::invalid("db.patch takes unset as an array of names"));
            };
            check_unset(&layout.table, name)?;
            set.remove(name);
            taken.push(name.as_str());
        }
        let mut sql = Sql::default();
        if set.is_empty() && taken.is_empty() {
            sql.push(&format!("select 1 from {}", quoted(&layout.table.name)));
            where_id(layout, &id, &mut sql);
            return one_row(layout, &id, &sql, client).await;
        }
        sql.push(&format!("update {} set ", quoted(&layout.table.name)));
        match layout.shape {
            Layout::Document => {
                sql.push(&format!("{DOC} = ({DOC} || "));
                sql.bind(Some(Value::Object(set).to_string())).push("::jsonb)");
                for name in taken {
                    sql.push(" - ").bind(Some(name.to_owned())).push("::text");
                }
            }
            Layout::Relational => {
                let changes = layout.columns().filter_map(|(field, column)| {
                    match (set.get(&field.name), taken.contains(&field.name.as_str())) {
                        (Some(value), _) => Some((field, column, Some(value))),
                        (None, true) => Some((field, column, None)),
                        (None, false) => None,
                    }
                });
                set_columns(layout, changes, &mut sql)?;
            }
        }
        where_id(layout, &id, &mut sql);
        one_row(layout, &id, &sql, client).await
    }

    /// Puts another document in a row's place; its id and creation time stay.
    ///
    /// # Errors
    /// Those of [`Store::patch`].
    pub async fn replace(&self, client: &Client, args: &str) -> Result<String, StoreError> {
        let mut args = Args::read("db.replace", args)?;
        let mut doc = args.object("doc")?;
        let id = args.id()?;
        let layout = self.table_of(args.string("table")?, &id)?;
        leave_own_fields(&mut doc, &id)?;
        check_whole(&layout.table, &doc)?;
        let mut sql = Sql::new(format!("update {} set ", quoted(&layout.table.name)));
        match layout.shape {
            Layout::Document => {
                sql.push(&format!("{DOC} = ")).bind(Some(Value::Object(doc).to_string()));
            }
            Layout::Relational => {
                let all =
                    layout.columns().map(|(field, column)| (field, column, doc.get(&field.name)));
                if layout.columns().next().is_none() {
                    // There is nothing to write, and the row may not be there.
                    sql.push(&format!("{0} = {0}", layout.id.ordered));
                }
                set_columns(layout, all, &mut sql)?;
            }
        }
        where_id(layout, &id, &mut sql);
        one_row(layout, &id, &sql, client).await
    }

    /// Deletes a row.
    ///
    /// # Errors
    /// [`StoreError::NotFound`]; [`StoreError::InvalidArgs`] where another row refers to it; what Postgres says.
    pub async fn delete(&self, client: &Client, args: &str) -> Result<String, StoreError> {
        let args = Args::read("db.delete", args)?;
        let id = args.id()?;
        let layout = self.table_of(args.string("table")?, &id)?;
        let mut sql = Sql::new(format!("delete from {}", quoted(&layout.table.name)));
        where_id(layout, &id, &mut sql);
        one_row(layout, &id, &sql, client).await
    }
}

/// What a column is given.
enum Given {
    Expression(String),
    Value(Option<String>),
}

fn where_id(layout: &TableLayout, id: &str, sql: &mut Sql) {
    sql.push(&format!(" where {} = ", layout.id.ordered)).bind(Some(id.to_owned()));
}

/// Executes what has to find one row.
async fn one_row(
    layout: &TableLayout,
    id: &str,
    sql: &Sql,
    client: &Client,
) -> Result<String, StoreError> {
    let not_found = || StoreError::NotFound { table: layout.table.name.clone(), id: id.to_owned() };
    if !is_value(layout.id.kind, id) {
        return Err(not_found());
    }
    let mut sql = sql.clone();
    if !sql.text.starts_with("select") {
        sql.push(" returning null::text");
    }
    match sql.query(client).await?.is_empty() {
        true => Err(not_found()),
        false => Ok("null".to_owned()),
    }
}

fn set_columns<'a>(
    layout: &TableLayout,
    columns: impl Iterator<Item = (&'a Field, &'a Column, Option<&'a Value>)>,
    sql: &mut Sql,
) -> Result<(), StoreError> {
    for (position, (field, column, value)) in columns.enumerate() {
        let value = match value {
            Some(value) => column_value(layout, field, column, value)?,
            None => None,
        };
        sql.push(if position == 0 { "" } else { ", " });
        sql.push(&format!("{} = ", quoted(&column.name))).bind(value);
    }
    Ok(())
}

fn column_value(
    layout: &TableLayout,
    field: &Field,
    column: &Column,
    value: &Value,
) -> Result<Option<String>, StoreError> {
    param(column.kind, value).ok_or_else(|| {
        StoreError::invalid(format!(
            "{:?} of table {:?} is a column of type {}, which is given {} here; ctx.db.raw writes anything else",
            field.name,
            layout.table.name,
            column.type_name,
            described(column.kind)
        ))
    })
}

/// Takes out what a document that was read before has of our own, if it is the same row's.
fn leave_own_fields(doc: &mut Map<String, Value>, id: &str) -> Result<(), StoreError> {
    doc.shift_remove("_creationTime");
    match doc.shift_remove("_id") {
        Some(other) if other != *id => {
            Err(StoreError::invalid(format!("the document's _id is {other}, and the row's {id:?}")))
        }
        Some(_) | None => Ok(()),
    }
}
