//! Reads a [`Schema`] from the JSON that evaluating `schema.ts` gives, and says of what can't be used which table and
//! field it is, and what would be right.

use crate::declared::{Field, FieldType, Index, Layout, Schema, Table};
use crate::error::SchemaError;
use crate::names::{BY_CREATION_TIME, NAME_BYTES_MAX, index_name};
use convoy_types::nearest;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// What Postgres puts behind a table's name for the index of its primary key.
const PRIMARY_KEY: &str = "pkey";

/// Columns that every table has already (PostgreSQL manual, 5.5).
const SYSTEM_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Postgres' limit for the columns of an index (`INDEX_MAX_KEYS`), less the two that we add.
const INDEX_FIELDS_MAX: usize = 30;

/// A table has no more fields than this: it has 1,600 columns at most (`MaxHeapAttributeNumber`), and dropped ones
/// count.
const FIELDS_MAX: usize = 1000;

impl Schema {
    /// Reads a schema.
    ///
    /// ```
    /// # fn main() -> Result<(), convoy_schema::SchemaError> {
    /// let schema = convoy_schema::Schema::from_json(
    ///     r#"{"tables": [{
    ///         "name": "projects", "managed": true, "layout": "document",
    ///         "fields": [{"name": "name", "type": "string", "ref": null, "optional": false, "nullable": false}],
    ///         "indexes": [{"name": "by_name", "fields": ["name"]}]
    ///     }]}"#,
    /// )?;
    /// assert!(schema.table("projects").is_some_and(|table| table.index("by_name").is_some()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SchemaError::Json`] for what is no JSON, [`SchemaError::Declared`] for what can't stand in Postgres.
    pub fn from_json(text: &str) -> Result<Schema, SchemaError> {
        let json: Value = serde_json::from_str(text).map_err(SchemaError::Json)?;
        let whole = At { path: "the schema".to_owned() };
        let mut schema = Schema::default();
        for (position, table) in whole.array(&json, "tables")?.iter().enumerate() {
            let table = read_table(&format!("table number {}", position + 1), table)?;
            if schema.table(&table.name).is_some() {
                return Err(At::table(&table.name).wrong("is declared twice"));
            }
            schema.tables.push(table);
        }
        check_relation_names(&schema)?;
        for table in &schema.tables {
            for field in &table.fields {
                let Some(target) = &field.references else { continue };
                if schema.table(target).is_none() {
                    let names = schema.tables.iter().map(|table| table.name.as_str());
                    let meant = meant(target, names);
                    let what = format!("is a reference to {target:?}, which is no table{meant}");
                    return Err(At::field(&table.name, &field.name).wrong(what));
                }
            }
        }
        Ok(schema)
    }
}

/// Checks that no index takes the name of a table, or of another table's index: in Postgres all of them share their
/// names.
fn check_relation_names(schema: &Schema) -> Result<(), SchemaError> {
    let mut names = HashMap::new();
    for table in &schema.tables {
        names.insert(table.name.clone(), format!("table {:?}", table.name));
    }
    for table in schema.tables.iter().filter(|table| table.managed) {
        let declared = table.indexes.iter().map(|index| index.name.as_str());
        for index in declared.chain([BY_CREATION_TIME, PRIMARY_KEY]) {
            let name = index_name(&table.name, index);
            let place = format!("index {index:?} of table {:?}", table.name);
            if let Some(other) = names.insert(name.clone(), place.clone()) {
                let what =
                    format!("is called {name:?} in Postgres, as {other} is: rename one of them");
                return Err(SchemaError::Declared { place, what });
            }
        }
    }
    Ok(())
}

fn read_table(position: &str, json: &Value) -> Result<Table, SchemaError> {
    let at = At { path: position.to_owned() };
    let name = at.string(json, "name")?;
    check_table_name(name)?;
    let at = At::table(name);
    let layout = match at.string(json, "layout")? {
        "document" => Layout::Document,
        "relational" => Layout::Relational,
        other => {
            return Err(at.wrong(format!("has the layout {other:?}: it is document or relational")));
        }
    };
    let mut table = Table {
        name: name.to_owned(),
        managed: at.boolean(json, "managed")?,
        layout,
        fields: Vec::new(),
        indexes: Vec::new(),
    };
    for field in at.array(json, "fields")? {
        let field = read_field(&at, &table, field)?;
        if table.field(&field.name).is_some() {
            return Err(At::field(name, &field.name).wrong("is declared twice"));
        }
        table.fields.push(field);
    }
    if table.fields.len() > FIELDS_MAX {
        let what = format!("has {} fields; {FIELDS_MAX} is the limit", table.fields.len());
        return Err(at.wrong(what));
    }
    for index in at.array(json, "indexes")? {
        let index = read_index(&at, &table, index)?;
        table.indexes.push(index);
    }
    Ok(table)
}

fn check_table_name(name: &str) -> Result<(), SchemaError> {
    let at = At::table(name);
    if name.is_empty() || name.contains('\0') {
        return Err(at.wrong("needs a name: any text but an empty one"));
    }
    if name.len() > NAME_BYTES_MAX {
        let what = format!("has a name of {} bytes; Postgres keeps {NAME_BYTES_MAX}", name.len());
        return Err(at.wrong(what));
    }
    // The system's catalogue comes first in every search path.
    if name.starts_with("pg_") {
        return Err(at.wrong("has a name that begins with pg_, which is Postgres' own"));
    }
    Ok(())
}

fn read_field(of: &At, table: &Table, json: &Value) -> Result<Field, SchemaError> {
    let name = of.string(json, "name")?;
    let at = At::field(&table.name, name);
    if name.is_empty() || name.contains('\0') {
        return Err(at.wrong("needs a name: any text but an empty one"));
    }
    if name.starts_with('_') {
        return Err(at.wrong(
            "begins with _, as only Convoy's own fields do (_id and _creationTime are in every table): leave it out, or \
             rename it",
        ));
    }
    if table.layout == Layout::Relational || !table.managed {
        check_column_name(&table.name, name)?;
    }
    let ty = match at.string(json, "type")? {
        "string" => FieldType::String,
        "number" => FieldType::Number,
        "boolean" => FieldType::Boolean,
        "json" => FieldType::Json,
        other => {
            let what = format!("has the type {other:?}: it is string, number, boolean or json");
            return Err(at.wrong(what));
        }
    };
    let references = match at.object(json)?.get("ref") {
        None | Some(Value::Null) => None,
        Some(Value::String(target)) => Some(target.clone()),
        Some(_) => return Err(at.wrong("has a ref that is no table's name")),
    };
    let (optional, nullable) = (at.boolean(json, "optional")?, at.boolean(json, "nullable")?);
    Ok(Field { name: name.to_owned(), ty, references, optional, nullable })
}

/// Checks that a field can be a column.
pub(crate) fn check_column_name(table: &str, name: &str) -> Result<(), SchemaError> {
    let at = At::field(table, name);
    if name.len() > NAME_BYTES_MAX {
        let what = format!("is {} bytes long; a column's name has {NAME_BYTES_MAX}", name.len());
        return Err(at.wrong(what));
    }
    if SYSTEM_COLUMNS.contains(&name) {
        return Err(at.wrong("is a column that Postgres has in every table: rename it"));
    }
    Ok(())
}

fn read_index(of: &At, table: &Table, json: &Value) -> Result<Index, SchemaError> {
    let name = of.string(json, "name")?;
    let at = At { path: format!("index {:?} of table {:?}", name, table.name) };
    if name.is_empty() || name.contains('\0') {
        return Err(at.wrong("needs a name: any text but an empty one"));
    }
    if name == BY_CREATION_TIME {
        return Err(at.wrong("is there already: every table has one of that name"));
    }
    if table.index(name).is_some() {
        return Err(at.wrong("is declared twice"));
    }
    let (mut fields, mut seen) = (Vec::new(), HashSet::new());
    for field in at.array(json, "fields")? {
        let Value::String(field) = field else {
            return Err(at.wrong("has a field that is no name"));
        };
        if field.starts_with('_') {
            let what =
                format!("names {field:?}: _creationTime and _id end every index by themselves");
            return Err(at.wrong(what));
        }
        if table.field(field).is_none() {
            let meant = meant(field, table.fields.iter().map(|field| field.name.as_str()));
            let what = format!("is on {field:?}, which the table does not have{meant}");
            return Err(at.wrong(what));
        }
        if !seen.insert(field) {
            return Err(at.wrong(format!("names {field:?} twice")));
        }
        fields.push(field.clone());
    }
    if fields.is_empty() || fields.len() > INDEX_FIELDS_MAX {
        let what = format!("has {} fields: 1 to {INDEX_FIELDS_MAX} are right", fields.len());
        return Err(at.wrong(what));
    }
    Ok(Index { name: name.to_owned(), fields })
}

/// Returns a question after the name that somebody probably meant.
pub(crate) fn meant<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => String::new(),
    }
}

/// A place in the schema, for errors.
struct At {
    path: String,
}

impl At {
    fn table(name: &str) -> At {
        At { path: format!("table {name:?}") }
    }

    fn field(table: &str, field: &str) -> At {
        At { path: format!("field {field:?} of table {table:?}") }
    }

    fn wrong(&self, what: impl Into<String>) -> SchemaError {
        SchemaError::Declared { place: self.path.clone(), what: what.into() }
    }

    fn object<'a>(&self, json: &'a Value) -> Result<&'a Map<String, Value>, SchemaError> {
        json.as_object().ok_or_else(|| self.wrong("is no object"))
    }

    fn get<'a>(&self, json: &'a Value, key: &str) -> Result<&'a Value, SchemaError> {
        self.object(json)?.get(key).ok_or_else(|| self.wrong(format!("has no {key:?}")))
    }

    fn array<'a>(&self, json: &'a Value, key: &str) -> Result<&'a [Value], SchemaError> {
        let array = self.get(json, key)?.as_array().map(Vec::as_slice);
        array.ok_or_else(|| self.wrong(format!("has {key:?} that is no array")))
    }

    fn string<'a>(&self, json: &'a Value, key: &str) -> Result<&'a str, SchemaError> {
        let string = self.get(json, key)?.as_str();
        string.ok_or_else(|| self.wrong(format!("has {key:?} that is no string")))
    }

    fn boolean(&self, json: &Value, key: &str) -> Result<bool, SchemaError> {
        let boolean = self.get(json, key)?.as_bool();
        boolean.ok_or_else(|| self.wrong(format!("has {key:?} that is neither true nor false")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str, indexes: &str) -> Result<Schema, SchemaError> {
        Schema::from_json(&format!(
            r#"{{"tables":[{{"name":"t","managed":true,"layout":"relational","fields":[{fields}],"indexes":[{indexes}]}}]}}"#
        ))
    }

    fn field(name: &str) -> String {
        format!(
            r#"{{"name":"{name}","type":"string","ref":null,"optional":false,"nullable":true}}"#
        )
    }

    fn refused(fields: &str, indexes: &str, expect: &str) {
        let error = schema(fields, indexes).expect_err(expect).to_string();
        assert!(error.contains(expect), "{error:?} does not say {expect:?}");
    }

    #[test]
    fn reads_what_is_declared() {
        let index = r#"{"name":"by_a","fields":["a"]}"#;
        let schema = schema(&field("a"), index).expect("a schema");
        let table = schema.table("t").expect("the table");
        assert_eq!(table.layout, Layout::Relational);
        let a = table.field("a").expect("the field");
        assert!(a.nullable && !a.optional && a.references.is_none() && a.ty == FieldType::String);
        assert_eq!(table.index("by_a").expect("the index").fields, ["a"]);
    }

    #[test]
    fn refuses_with_table_and_field() {
        refused(&field("_id"), "", "field \"_id\" of table \"t\" begins with _");
        refused(&field("_creationTime"), "", "begins with _");
        refused(&field("xmin"), "", "in every table");
        refused(&field(&"x".repeat(64)), "", "64 bytes");
        refused(
            &[field("a"), field("a")].join(","),
            "",
            "field \"a\" of table \"t\" is declared twice",
        );
        let index = r#"{"name":"by_b","fields":["nam"]}"#;
        refused(&field("name"), index, "did you mean \"name\"?");
        let index = r#"{"name":"by_a","fields":["a"]}"#;
        refused(
            &field("a"),
            &[index, index].join(","),
            "index \"by_a\" of table \"t\" is declared twice",
        );
        refused(&field("a"), r#"{"name":"by_creation_time","fields":["a"]}"#, "there already");
        refused(&field("a"), r#"{"name":"x","fields":["a","a"]}"#, "\"a\" twice");
        refused(&field("a"), r#"{"name":"x","fields":[]}"#, "0 fields");
        refused(r#"{"name":"a","type":"date"}"#, "", "string, number, boolean or json");
        let reference = field("a").replace("null,\"opt", "\"u\",\"opt");
        refused(&reference, "", "reference to \"u\"");
    }

    #[test]
    fn refuses_names_that_meet_in_postgres() {
        let table = |name: &str, index: &str| {
            format!(
                r#"{{"name":"{name}","managed":true,"layout":"document","fields":[{}],"indexes":[{index}]}}"#,
                field("a")
            )
        };
        let index = |name: &str| format!(r#"{{"name":"{name}","fields":["a"]}}"#);
        for (tables, expect) in [
            ([table("t", &index("x")), table("t_x", "")], "as table \"t_x\" is"),
            (
                [table("t", ""), table("t_pkey", "")],
                "index \"pkey\" of table \"t\" is called \"t_pkey\"",
            ),
            ([table("t", &index("x_y")), table("t_x", &index("y"))], "rename one of them"),
            ([table("t", &index("pkey")), table("u", "")], "rename one of them"),
        ] {
            let json = format!(r#"{{"tables":[{}]}}"#, tables.join(","));
            let error = Schema::from_json(&json).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn refuses_tables_that_postgres_would_not_find() {
        for (name, expect) in [("", "any text"), ("pg_class", "Postgres' own")] {
            let json = format!(
                r#"{{"tables":[{{"name":"{name}","managed":true,"layout":"document","fields":[],"indexes":[]}}]}}"#
            );
            let error = Schema::from_json(&json).expect_err(expect).to_string();
            assert!(error.contains(expect), "{error}");
        }
        assert!(matches!(Schema::from_json("{"), Err(SchemaError::Json(_))));
        assert!(Schema::from_json("{}").expect_err("no tables").to_string().contains("tables"));
    }
}
