//! How a table stands in Postgres: the expressions by which its fields are found, compared and ordered.

use crate::catalogue::{Column, Standing};
use crate::declared::{Field, FieldType, Layout, Table};
use crate::names::{literal, quoted};

/// The column that all fields of a document are in.
pub(crate) const DOC: &str = "doc";
/// The column of the id, in tables that have one.
pub(crate) const ID: &str = "_id";
/// The column of the creation time, in milliseconds, in tables that have one.
pub(crate) const CREATION_TIME: &str = "_creation_time";

/// As what values are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Strings. Their order is that of bytes only where the expression has such a collation.
    Text,
    /// Exact decimals.
    Numeric,
    /// Doubles, and floats.
    Float,
    /// Whole numbers that a double holds.
    Int,
    /// Whole numbers that a double may not hold.
    BigInt,
    Bool,
    Jsonb,
    /// Any other type of a table of somebody else's: strings are given to its input function, and `to_jsonb` shows it.
    Other,
}

/// Something that rows are compared and ordered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    /// The field, for messages.
    pub(crate) name: String,
    /// The expression, as an index has it.
    pub(crate) ordered: String,
    /// The same where only equality matters, in the form that the engine's analysis knows.
    pub(crate) plain: String,
    pub(crate) kind: Kind,
    /// Whether it may be SQL's null.
    pub(crate) nullable: bool,
    /// Whether texts are ordered by their bytes.
    pub(crate) byte_order: bool,
}

/// A table as it stands.
#[derive(Clone, Debug)]
pub(crate) struct TableLayout {
    pub(crate) table: Table,
    pub(crate) shape: Layout,
    pub(crate) id: KeyColumn,
    pub(crate) creation_time: Option<KeyColumn>,
    /// Whether the key has a default that is not ours.
    pub(crate) own_id: bool,
    /// Fields with their columns, in a relational table.
    columns: Vec<(Field, Column)>,
}

impl TableLayout {
    /// Lays a declared table over what stands in the database.
    ///
    /// # Errors
    /// What is missing, and what mends it.
    pub(crate) fn new(table: &Table, standing: Option<&Standing>) -> Result<TableLayout, String> {
        let name = &table.name;
        let Some(standing) = standing else {
            return Err(match table.managed {
                true => format!("table {name:?} is not in the database: run convoy migrate"),
                false => format!(
                    "table {name:?} is declared .unmanaged() and not in the database: create it, or leave .unmanaged() out"
                ),
            });
        };
        let shape = standing.shape(table);
        let id = match (standing.column(ID), standing.primary_key.as_slice()) {
            (Some(column), _) => column,
            (None, [only]) => standing.column(only).ok_or("its primary key can't be seen")?,
            (None, keys) => {
                let found = if keys.is_empty() { "none" } else { "one of several columns" };
                return Err(format!(
                    "table {name:?} has no _id column, and instead of a primary key of one column {found}: read and write it \
                     with ctx.db.raw"
                ));
            }
        };
        let creation_time = standing
            .column(CREATION_TIME)
            .filter(|column| matches!(column.kind, Kind::Float | Kind::Numeric) && column.not_null)
            .map(|column| KeyColumn::of_column("_creationTime", column));
        let mut columns = Vec::new();
        if shape == Layout::Relational {
            for field in &table.fields {
                match standing.column(&field.name) {
                    Some(column) => columns.push((field.clone(), column.clone())),
                    None => {
                        let mend = match table.managed {
                            true => "run convoy migrate",
                            false => "leave the field out, or add the column",
                        };
                        return Err(format!(
                            "table {name:?} has no column {:?}, which is declared: {mend}",
                            field.name
                        ));
                    }
                }
            }
        }
        let own_id = !table.managed && id.has_default;
        let id = KeyColumn { nullable: false, ..KeyColumn::of_column("_id", id) };
        Ok(TableLayout { table: table.clone(), shape, id, creation_time, own_id, columns })
    }

    /// Returns a field as something to compare and order by.
    pub(crate) fn key_column(&self, field: &str) -> Option<KeyColumn> {
        match self.shape {
            Layout::Document => self.table.field(field).map(KeyColumn::of_document),
            Layout::Relational => self
                .columns()
                .find(|(of, _)| of.name == field)
                .map(|(field, column)| KeyColumn::of_column(&field.name, column)),
        }
    }

    /// Returns the fields of a relational table with their columns.
    pub(crate) fn columns(&self) -> impl Iterator<Item = (&Field, &Column)> {
        self.columns.iter().map(|(field, column)| (field, column))
    }

    /// Returns what ends every order, so that it is total.
    pub(crate) fn tail(&self) -> Vec<KeyColumn> {
        self.creation_time.iter().chain([&self.id]).cloned().collect()
    }
}

impl KeyColumn {
    /// Returns a field of documents.
    pub(crate) fn of_document(field: &Field) -> KeyColumn {
        let key = literal(&field.name);
        let (ordered, plain, kind) = match field.ty {
            FieldType::String => {
                (format!("(doc->>{key}) collate \"C\""), format!("doc->>{key}"), Kind::Text)
            }
            FieldType::Number => {
                let number = format!("(doc->>{key})::numeric");
                (number.clone(), number, Kind::Numeric)
            }
            FieldType::Boolean => {
                let boolean = format!("(doc->>{key})::boolean");
                (boolean.clone(), boolean, Kind::Bool)
            }
            FieldType::Json => (format!("(doc->{key})"), format!("doc->{key}"), Kind::Jsonb),
        };
        // Whoever else writes to the table may leave any field out.
        KeyColumn {
            name: field.name.clone(),
            ordered,
            plain,
            kind,
            nullable: true,
            byte_order: true,
        }
    }

    fn of_column(field: &str, column: &Column) -> KeyColumn {
        let expression = quoted(&column.name);
        KeyColumn {
            name: field.to_owned(),
            ordered: expression.clone(),
            plain: expression,
            kind: column.kind,
            nullable: !column.not_null,
            byte_order: column.is_c,
        }
    }

    /// Returns a field of a relational table that is to be made.
    pub(crate) fn of_new_column(field: &Field) -> KeyColumn {
        let kind = match field.ty {
            FieldType::String => Kind::Text,
            FieldType::Number => Kind::Float,
            FieldType::Boolean => Kind::Bool,
            FieldType::Json => Kind::Jsonb,
        };
        let expression = quoted(&field.name);
        KeyColumn {
            name: field.name.clone(),
            ordered: expression.clone(),
            plain: expression,
            kind,
            nullable: field.may_be_absent(),
            byte_order: true,
        }
    }
}

/// Returns what a declared index is on, as it is written in `create index`: its fields, creation time and id.
pub(crate) fn index_keys(table: &Table, fields: &[String], shape: Layout) -> String {
    let mut keys: Vec<String> = Vec::new();
    for field in fields.iter().filter_map(|name| table.field(name)) {
        let column = match shape {
            Layout::Document => KeyColumn::of_document(field),
            Layout::Relational => KeyColumn::of_new_column(field),
        };
        keys.push(match shape {
            Layout::Document => format!("({})", column.ordered),
            Layout::Relational => column.ordered,
        });
    }
    keys.extend([CREATION_TIME.to_owned(), ID.to_owned()]);
    keys.join(", ")
}
