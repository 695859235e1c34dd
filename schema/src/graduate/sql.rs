//! The SQL of a graduation, to be read, kept and run by whoever means it.
//!
//! One transaction, under a lock that keeps everybody else out: first each document is held against what is declared,
//! and what would not survive stops it all, with the ids; then columns are made and filled, and the indexes made
//! anew. Run once more it finds itself done.

use crate::catalogue::{index_mark, table_mark};
use crate::declared::{Field, FieldType, Layout, Table};
use crate::error::SchemaError;
use crate::layout::{DOC, index_keys};
use crate::names::{BY_CREATION_TIME, index_name, literal, quoted};

/// What the column with the documents is called while there are others: no field begins with an underscore.
const OLD_DOC: &str = "_doc";

/// At most so many ids are named in an error.
const IDS_MAX: usize = 10;

/// How a table goes from documents to columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graduation {
    /// The statements, with comments, to be run as one script.
    pub sql: String,
    /// What to know first.
    pub notes: Vec<String>,
}

/// Returns the SQL that moves a declared document table to columns.
///
/// # Errors
/// [`SchemaError::Declared`] for a table that is not Convoy's, or whose fields can't be columns.
pub fn graduation(table: &Table) -> Result<Graduation, SchemaError> {
    let wrong =
        |what: String| SchemaError::Declared { place: format!("table {:?}", table.name), what };
    if !table.managed {
        return Err(wrong("is declared .unmanaged(): its layout is yours to change".to_owned()));
    }
    for field in &table.fields {
        crate::declared_json::check_column_name(&table.name, &field.name)?;
    }
    let mut notes = Vec::new();
    for field in table.fields.iter().filter(|field| field.optional && field.nullable) {
        if field.ty != FieldType::Json {
            notes.push(format!(
                "{:?} may be missing and may be null: a column keeps no difference, and both will be null",
                field.name
            ));
        }
    }
    let name = quoted(&table.name);
    let mut body = format!(
        "declare\n\
         \x20 wrong text;\n\
         begin\n\
         \x20 if not exists (select from pg_attribute where attrelid = {}::regclass and attname = '{DOC}' and not attisdropped)\n\
         \x20    or coalesce(obj_description({}::regclass, 'pg_class'), '') = {} then\n\
         \x20   raise notice '%', {};\n\
         \x20   return;\n\
         \x20 end if;\n\n",
        literal(&name),
        literal(&name),
        literal(&table_mark(Layout::Relational)),
        literal(&format!("table {name} has columns already: nothing to do")),
    );
    checks(table, &name, &mut body);
    changes(table, &name, &mut body);
    body.push_str("end\n");
    // Names may hold anything, the quotes around them too.
    let mut tag = "$convoy$".to_owned();
    while body.contains(&tag) {
        tag.insert(tag.len() - 1, '_');
    }
    let mut sql = format!(
        "-- Moves the documents of table {} to columns, under the same name; _id and _creation_time stay.\n\
         -- Nobody reads or writes the table meanwhile: the transaction holds ACCESS EXCLUSIVE, and writers wait for it, or fail\n\
         -- at their lock_timeout. Every row is written once. Triggers of your own on UPDATE fire for each row.\n\
         -- Functions go on without a change. Running it twice does nothing the second time.\n",
        one_line(&name)
    );
    for note in &notes {
        sql.push_str(&format!("-- {}\n", one_line(note)));
    }
    sql.push_str(&format!(
        "begin;\nlock table {name} in access exclusive mode;\ndo {tag}\n{body}{tag};\ncommit;\n"
    ));
    Ok(Graduation { sql, notes })
}

/// Returns a text as a comment can hold it.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Writes what has to be true of all documents.
fn checks(table: &Table, name: &str, sql: &mut String) {
    let mut check = |condition: &str, what: &str| {
        sql.push_str(&format!(
            "\x20 select string_agg(_id, ', ' order by _id) into wrong\n\
             \x20   from (select _id from {name} where {condition} order by _id limit {IDS_MAX}) as t;\n\
             \x20 if wrong is not null then\n\
             \x20   raise exception using message = {} || wrong;\n\
             \x20 end if;\n",
            literal(&format!("{what}: "))
        ));
    };
    for field in &table.fields {
        let (key, place) = (literal(&field.name), format!("{}.{}", table.name, field.name));
        if field.ty != FieldType::Json {
            check(
                &format!("jsonb_typeof({DOC}->{key}) not in ('{}', 'null')", field.ty.as_str()),
                &format!(
                    "{place} is declared {}, and these hold something else",
                    field.ty.as_str()
                ),
            );
        }
        if field.ty == FieldType::Number {
            check(
                // An order of evaluation is not promised by AND.
                &format!(
                    "case when jsonb_typeof({DOC}->{key}) = 'number' then\n\
                     \x20     abs(({DOC}->>{key})::numeric) > 1.7976931348623157e308\n\
                     \x20     or case when abs(({DOC}->>{key})::numeric) <= 1.7976931348623157e308\n\
                     \x20        then ({DOC}->>{key})::float8::text::numeric <> ({DOC}->>{key})::numeric else true end\n\
                     \x20   else false end"
                ),
                &format!("{place} is to be a double, and these hold numbers that none is"),
            );
        }
        let (missing, null) = (format!("not {DOC} ? {key}"), format!("{DOC}->{key} = 'null'"));
        let condition = match (field.optional, field.nullable) {
            (true, true) => continue,
            (true, false) => null,
            (false, true) => missing,
            (false, false) => format!("({missing} or {null})"),
        };
        let mend = match (field.optional, field.nullable) {
            (true, _) => "has null, which is not declared (.nullable()), in these",
            (false, true) => "is missing, which is not declared (.optional()), in these",
            (false, false) => {
                "is missing or null, which is not declared (.optional(), .nullable()), in these"
            }
        };
        check(&condition, &format!("{place} {mend}"));
    }
    let known: Vec<String> = table.fields.iter().map(|field| literal(&field.name)).collect();
    check(
        &format!("({DOC} - array[{}]::text[]) <> '{{}}'", known.join(", ")),
        &format!(
            "{} has documents with keys that are not declared, which would be lost (declare them, or take them out), in these",
            table.name
        ),
    );
    // Convoy's own go and come again; those of others would go for good.
    sql.push_str(&format!(
        "\x20 select string_agg(i.indexrelid::regclass::text, ', ') into wrong\n\
         \x20   from pg_index i\n\
         \x20   where i.indrelid = {}::regclass\n\
         \x20     and coalesce(obj_description(i.indexrelid, 'pg_class'), '') not like 'convoy: %'\n\
         \x20     and exists (select from pg_depend d join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid\n\
         \x20                  where d.objid = i.indexrelid and d.refobjid = i.indrelid and a.attname = '{DOC}');\n\
         \x20 if wrong is not null then\n\
         \x20   raise exception using message = {} || wrong;\n\
         \x20 end if;\n\n",
        literal(name),
        literal("indexes on doc that Convoy did not make would be lost: drop them, and make them on the columns afterwards: ")
    ));
}

fn changes(table: &Table, name: &str, sql: &mut String) {
    let mut line = |statement: String| sql.push_str(&format!("\x20 {statement};\n"));
    let indexes = table.indexes.iter().map(|index| (index.name.as_str(), index.fields.as_slice()));
    let indexes: Vec<_> = std::iter::once((BY_CREATION_TIME, &[][..])).chain(indexes).collect();
    for (index, _) in indexes.iter().skip(1) {
        line(format!("drop index if exists {}", quoted(&index_name(&table.name, index))));
    }
    // A field may be called as the column is.
    line(format!("alter table {name} rename column {DOC} to {OLD_DOC}"));
    if !table.fields.is_empty() {
        let columns = table.fields.iter().map(|field| {
            format!("\n      add column {} {}", quoted(&field.name), field.ty.column_type())
        });
        line(format!("alter table {name}{}", columns.collect::<Vec<_>>().join(",")));
        let values = table
            .fields
            .iter()
            .map(|field| format!("\n      {} = {}", quoted(&field.name), column_value(field)));
        line(format!("update {name} set{}", values.collect::<Vec<_>>().join(",")));
    }
    let needed = table.fields.iter().filter(|field| !field.may_be_absent());
    for field in needed {
        line(format!("alter table {name} alter column {} set not null", quoted(&field.name)));
    }
    line(format!("alter table {name} drop column {OLD_DOC}"));
    for (index, fields) in indexes {
        let index = quoted(&index_name(&table.name, index));
        let keys = index_keys(table, fields, Layout::Relational);
        line(format!("create index if not exists {index} on {name} ({keys})"));
        line(format!("comment on index {index} is {}", literal(&index_mark(&keys))));
    }
    line(format!("comment on table {name} is {}", literal(&table_mark(Layout::Relational))));
}

fn column_value(field: &Field) -> String {
    let key = literal(&field.name);
    match field.ty {
        FieldType::String => format!("{OLD_DOC}->>{key}"),
        FieldType::Number => format!("({OLD_DOC}->>{key})::float8"),
        FieldType::Boolean => format!("({OLD_DOC}->>{key})::boolean"),
        FieldType::Json => format!("{OLD_DOC}->{key}"),
    }
}
