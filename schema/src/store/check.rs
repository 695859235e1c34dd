//! Documents held against what is declared, the same for both layouts: so that a table can go from one to the other
//! without a change in the functions, and an index on a document's field never meets a value that it can't hold.

use super::StoreError;
use crate::declared::{Field, FieldType, Table};
use crate::declared_json::meant;
use serde_json::{Map, Value};

/// Checks fields that are to be written; all that have to be there are.
pub(crate) fn check_whole(table: &Table, doc: &Map<String, Value>) -> Result<(), StoreError> {
    check_some(table, doc)?;
    for field in table.fields.iter().filter(|field| !field.optional) {
        if !doc.contains_key(&field.name) {
            return Err(StoreError::invalid(format!(
                "{:?} of table {:?} is missing: it is {}, and not optional",
                field.name,
                table.name,
                field.ty.described()
            )));
        }
    }
    Ok(())
}

/// Checks some fields that are to be written.
pub(crate) fn check_some(table: &Table, doc: &Map<String, Value>) -> Result<(), StoreError> {
    for (name, value) in doc {
        check_value(table, known(table, name)?, value)?;
    }
    Ok(())
}

/// Checks that a field may be taken away.
pub(crate) fn check_unset(table: &Table, name: &str) -> Result<(), StoreError> {
    if known(table, name)?.optional {
        return Ok(());
    }
    Err(StoreError::invalid(format!(
        "{name:?} of table {:?} can't be taken away: it is not optional",
        table.name
    )))
}

fn known<'a>(table: &'a Table, name: &str) -> Result<&'a Field, StoreError> {
    table.field(name).ok_or_else(|| {
        let meant = meant(name, table.fields.iter().map(|field| field.name.as_str()));
        let message = match name.starts_with('_') {
            true => format!("{name:?} can't be written: fields that begin with _ are Convoy's own"),
            false => format!("table {:?} has no field {name:?}{meant}", table.name),
        };
        StoreError::invalid(message)
    })
}

fn check_value(table: &Table, field: &Field, value: &Value) -> Result<(), StoreError> {
    let fits = match (field.ty, value) {
        (_, Value::Null) => field.nullable,
        (FieldType::String, Value::String(_)) | (FieldType::Boolean, Value::Bool(_)) => true,
        (FieldType::Number, Value::Number(number)) => number.as_f64().is_some_and(f64::is_finite),
        // Of tables of somebody else's: bigint and numeric come as strings.
        (FieldType::Number, Value::String(_)) => !table.managed,
        (FieldType::Json, _) => true,
        (FieldType::String | FieldType::Number | FieldType::Boolean, _) => false,
    };
    if fits {
        return Ok(());
    }
    let or_null = if field.nullable { " or null" } else { "" };
    Err(StoreError::invalid(format!(
        "{:?} of table {:?} is {}{or_null}, not {}",
        field.name,
        table.name,
        field.ty.described(),
        kind_of(value)
    )))
}

/// Returns what a value is; the value itself may be somebody's secret.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
