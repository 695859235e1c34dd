//! Random tables: of every type that a result may hold, nullable everywhere, with and without keys, partitioned, under
//! names that need quotes.

use super::dice::Dice;
use std::fmt::Write;

/// How many different keys a table's rows have: few, so that writers meet.
pub const KEYS: usize = 40;

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Int4,
    Int8,
    Text,
    Varchar,
    Numeric,
    Float8,
    Bool,
    Timestamptz,
    Date,
    Uuid,
    Jsonb,
    Json,
    Bytea,
    Ints,
    Texts,
    Mood,
    Small,
    /// Computed from another column.
    Generated,
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
}

/// Where the rows live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Plain,
    /// In three leaves, of which one has its columns in another order.
    Partitioned,
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    pub name: String,
    /// Those of the key come first.
    pub columns: Vec<Column>,
    /// How many columns the primary key has.
    pub key_len: usize,
    pub is_full: bool,
    pub shape: Shape,
}

/// Returns a name in quotes.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What is made before any table.
pub const TYPES: &str = "CREATE TYPE mood AS ENUM ('wary', 'calm', 'angry');\
    CREATE DOMAIN small AS int4 CHECK (VALUE BETWEEN -100 AND 100);";

/// The accounts between which writers move money.
pub const ACCOUNTS: &str = "CREATE TABLE accounts (id int4 PRIMARY KEY, region text, balance int8 NOT NULL, \
    hid int8 NOT NULL DEFAULT nextval('oracle.hid'))";

impl Kind {
    /// The kinds that a plain column may have.
    const PLAIN: [Kind; 17] = [
        Kind::Int4,
        Kind::Int8,
        Kind::Text,
        Kind::Varchar,
        Kind::Numeric,
        Kind::Float8,
        Kind::Bool,
        Kind::Timestamptz,
        Kind::Date,
        Kind::Uuid,
        Kind::Jsonb,
        Kind::Json,
        Kind::Bytea,
        Kind::Ints,
        Kind::Texts,
        Kind::Mood,
        Kind::Small,
    ];

    /// Returns the type's name.
    pub fn sql(self) -> &'static str {
        match self {
            Kind::Int4 | Kind::Generated => "int4",
            Kind::Int8 => "int8",
            Kind::Text => "text",
            Kind::Varchar => "varchar(12)",
            Kind::Numeric => "numeric",
            Kind::Float8 => "float8",
            Kind::Bool => "boolean",
            Kind::Timestamptz => "timestamptz",
            Kind::Date => "date",
            Kind::Uuid => "uuid",
            Kind::Jsonb => "jsonb",
            Kind::Json => "json",
            Kind::Bytea => "bytea",
            Kind::Ints => "int4[]",
            Kind::Texts => "text[]",
            Kind::Mood => "mood",
            Kind::Small => "small",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Int4 => "n",
            Kind::Int8 => "Big",
            Kind::Text => "txt",
            Kind::Varchar => "short txt",
            Kind::Numeric => "num",
            Kind::Float8 => "flt",
            Kind::Bool => "ok",
            Kind::Timestamptz => "At",
            Kind::Date => "day",
            Kind::Uuid => "uid",
            Kind::Jsonb => "doc",
            Kind::Json => "js",
            Kind::Bytea => "raw",
            Kind::Ints => "ints",
            Kind::Texts => "order",
            Kind::Mood => "mood",
            Kind::Small => "sm\"all",
            Kind::Generated => "twice",
        }
    }

    /// Whether Postgres compares such values with `=` and orders them.
    pub fn has_order(self) -> bool {
        self != Kind::Json
    }

    /// Whether values that are equal look the same, so that DISTINCT has one outcome.
    pub fn equals_look_alike(self) -> bool {
        !matches!(self, Kind::Json | Kind::Jsonb | Kind::Numeric | Kind::Float8)
    }
}

impl Column {
    /// Returns the name in quotes.
    pub fn sql(&self) -> String {
        quoted(&self.name)
    }
}

impl Table {
    /// Returns the name in quotes.
    pub fn sql(&self) -> String {
        quoted(&self.name)
    }

    /// Returns the primary key's columns.
    pub fn key(&self) -> &[Column] {
        &self.columns[..self.key_len]
    }

    /// Returns the columns that a writer may set, those of the key left out.
    pub fn data(&self) -> Vec<&Column> {
        self.columns[self.key_len..]
            .iter()
            .filter(|column| column.kind != Kind::Generated)
            .collect()
    }

    /// Returns whether the stream tells every change.
    pub fn is_live(&self) -> bool {
        self.is_full || self.key_len > 0
    }

    /// Returns the names of the tables that hold its rows.
    pub fn leaves(&self) -> Vec<String> {
        match self.shape {
            Shape::Plain => vec![self.name.clone()],
            Shape::Partitioned => (0..3).map(|leaf| format!("{} leaf {leaf}", self.name)).collect(),
        }
    }

    /// Returns what makes the table.
    pub fn create(&self) -> String {
        let mut columns = Vec::new();
        for column in &self.columns {
            let generated = match column.kind {
                Kind::Generated => " GENERATED ALWAYS AS (coalesce(n, 0) % 50 * 2) STORED",
                _ => "",
            };
            columns.push(format!("{} {}{generated}", column.sql(), column.kind.sql()));
        }
        let key: Vec<String> = self.key().iter().map(Column::sql).collect();
        let key = match key.is_empty() {
            true => String::new(),
            false => format!(", PRIMARY KEY ({})", key.join(", ")),
        };
        let hid = "hid int8 NOT NULL DEFAULT nextval('oracle.hid')";
        let (name, list) = (self.sql(), columns.join(", "));
        let mut sql = String::new();
        match self.shape {
            Shape::Plain => {
                let _ = write!(sql, "CREATE TABLE {name} ({list}, {hid}{key});");
            }
            Shape::Partitioned => {
                let by = self.columns[0].sql();
                let _ = write!(
                    sql,
                    "CREATE TABLE {name} ({list}, {hid}{key}) PARTITION BY RANGE ({by});"
                );
                for (number, leaf) in self.leaves().iter().enumerate() {
                    let leaf = quoted(leaf);
                    let bounds =
                        ["FROM (MINVALUE) TO (10)", "FROM (10) TO (25)", "FROM (25) TO (MAXVALUE)"]
                            [number];
                    if number == 1 {
                        columns.reverse();
                        let list = columns.join(", ");
                        let _ = write!(
                            sql,
                            "CREATE TABLE {leaf} (gone int, {hid}, {list}{key}); ALTER TABLE {leaf} DROP COLUMN gone; \
                             ALTER TABLE {name} ATTACH PARTITION {leaf} FOR VALUES {bounds};"
                        );
                    } else {
                        let _ = write!(
                            sql,
                            "CREATE TABLE {leaf} PARTITION OF {name} FOR VALUES {bounds};"
                        );
                    }
                }
            }
        }
        for leaf in self.leaves() {
            let leaf = quoted(&leaf);
            if self.is_full {
                let _ = write!(sql, "ALTER TABLE {leaf} REPLICA IDENTITY FULL;");
            }
            // So that long values are TOASTed, not compressed.
            for column in
                self.columns.iter().filter(|column| matches!(column.kind, Kind::Text | Kind::Jsonb))
            {
                let _ = write!(
                    sql,
                    "ALTER TABLE {leaf} ALTER COLUMN {} SET STORAGE EXTERNAL;",
                    column.sql()
                );
            }
        }
        sql
    }
}

/// Returns the tables of a seed.
pub fn tables(dice: &mut Dice) -> Vec<Table> {
    let mut tables = Vec::new();
    let shapes: [(&str, usize, Shape); 7] = [
        ("items", 1, Shape::Plain),
        ("Mixed Case", 2, Shape::Plain),
        ("parts", 1, Shape::Partitioned),
        ("no key", 0, Shape::Plain),
        ("bare", 0, Shape::Plain),
        ("late \"one\"", 1, Shape::Plain),
        ("late_parts", 2, Shape::Partitioned),
    ];
    for (number, (name, key_len, shape)) in shapes.into_iter().enumerate() {
        let is_full = match name {
            "no key" => true,
            "bare" => false,
            _ => dice.percent(50),
        };
        let mut columns = Vec::new();
        for position in 0..key_len {
            let kind = match (shape, position, number) {
                (Shape::Partitioned, 0, _) | (_, _, 0) => Kind::Int4,
                _ => *dice.pick(&[
                    Kind::Int4,
                    Kind::Int8,
                    Kind::Text,
                    Kind::Uuid,
                    Kind::Date,
                    Kind::Numeric,
                ]),
            };
            columns.push(Column { name: ["id", "Sub Key"][position].to_owned(), kind });
        }
        // Every table has these: there is something to count, to sum, to compare and to TOAST.
        let always = [Kind::Int4, Kind::Text];
        for kind in Kind::PLAIN {
            let chance = if kind == Kind::Json { 20 } else { 55 };
            if always.contains(&kind) || dice.percent(chance) {
                columns.push(Column { name: kind.name().to_owned(), kind });
            }
        }
        if dice.percent(25) {
            columns.push(Column { name: Kind::Generated.name().to_owned(), kind: Kind::Generated });
        }
        tables.push(Table { name: name.to_owned(), columns, key_len, is_full, shape });
    }
    tables
}
