//! The declared schema: tables, fields, indexes. `declared_json` reads it, and refuses what can't stand in Postgres.

/// All tables that a project declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schema {
    /// In the order of `schema.ts`.
    pub tables: Vec<Table>,
}

/// One table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name in Postgres too, as it is written here.
    pub name: String,
    /// Whether Convoy creates it; a table of somebody else's is taken as it stands.
    pub managed: bool,
    /// How it is to stand in Postgres.
    pub layout: Layout,
    /// Its fields, without `_id` and `_creationTime`, which every table has.
    pub fields: Vec<Field>,
    /// Its indexes, without the one by creation time, which every managed table has.
    pub indexes: Vec<Index>,
}

/// How a table's rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All fields in one jsonb column, `doc`.
    Document,
    /// A column for each field.
    Relational,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name: a key of documents, or a column.
    pub name: String,
    /// What it holds.
    pub ty: FieldType,
    /// The table whose ids it holds, where it is a reference.
    pub references: Option<String>,
    /// Whether it may be missing.
    pub optional: bool,
    /// Whether it may be null.
    pub nullable: bool,
}

/// What a field holds, as far as Postgres is to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// A string; ids and enums too.
    String,
    /// A double.
    Number,
    /// True or false.
    Boolean,
    /// Anything else.
    Json,
}

/// An index; `_creationTime` and `_id` follow its fields, so that its order is total.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Its name, unique in its table.
    pub name: String,
    /// Its fields, in order.
    pub fields: Vec<String>,
}

impl Schema {
    /// Returns a table by its name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

impl Table {
    /// Returns a field by its name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// Returns an index by its name.
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == name)
    }
}

impl Field {
    /// Returns whether a row may be without a value of it.
    pub fn may_be_absent(&self) -> bool {
        self.optional || self.nullable
    }
}

impl FieldType {
    /// Returns the word that the schema's JSON has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            FieldType::String => "string",
            FieldType::Number => "number",
            FieldType::Boolean => "boolean",
            FieldType::Json => "json",
        }
    }

    /// Returns it with an article, for messages.
    pub(crate) fn described(self) -> &'static str {
        match self {
            FieldType::String => "a string",
            FieldType::Number => "a number",
            FieldType::Boolean => "a boolean",
            FieldType::Json => "any JSON",
        }
    }

    /// Returns the type of its column in a relational table.
    pub fn column_type(self) -> &'static str {
        match self {
            FieldType::String => "text collate \"C\"",
            FieldType::Number => "float8",
            FieldType::Boolean => "boolean",
            FieldType::Json => "jsonb",
        }
    }
}
