//! A random table of the types that aggregates take, and random changes of its rows.

use convoy_postgres::testing::Dice;
use convoy_postgres::testing::values::laws;

/// A table's name.
pub const TABLE: &str = "things";

/// Rows have one of so many ids.
const IDS: usize = 28;

/// A kind of column: its type, and what aggregates can do with it that does not depend on how equals are written.
pub struct Kind {
    pub sql_type: &'static str,
    /// The type whose edges are among its values; none where its own are fewer.
    edges: Option<&'static str>,
    /// The values that most rows have: few, so that groups have several.
    common: &'static [&'static str],
    /// Whether it can be summed up.
    pub sums: bool,
    /// Whether Postgres has a least and a greatest of it, and equals look alike.
    pub extremes: bool,
    /// Whether equals look alike, so that a group shows the same whichever row it takes the value of.
    pub groups: bool,
    /// Whether conditions can be on values inside of it.
    pub documents: bool,
    /// Whether it has `=`.
    pub equality: bool,
    /// Whether it has `<` by what is written, and not by a language or a list.
    pub order: bool,
}

const KINDS: &[Kind] = &[
    number("int2", Some("int2"), &["-1", "0", "1", "2"]),
    number("int4", Some("int4"), &["-1", "0", "1", "2", "3"]),
    number("int8", Some("int8"), &["-1", "0", "1", "4000000000"]),
    Kind {
        extremes: false,
        groups: false,
        ..number(
            "numeric",
            Some("numeric"),
            &["0", "0.00", "1", "1.0", "1.00", "-1.5", "2.25", "100000000000000000000", "0.001"],
        )
    },
    number("numeric(12,2)", None, &["0.00", "1.50", "-3.25", "19.99", "NaN", "9999999999.99"]),
    number("numeric(20,0)", None, &["0", "7", "-12", "12345678901234567890"]),
    Kind { sums: false, ..number("text collate \"C\"", Some("text"), &["a", "b", "A", "ä", ""]) },
    Kind {
        sums: false,
        extremes: false,
        order: false,
        ..number("text collate \"und-x-icu\"", None, &["a", "B", "A", "ä", "z"])
    },
    Kind { sums: false, ..number("varchar(9) collate \"C\"", Some("varchar"), &["x", "y", "Z"]) },
    Kind { sums: false, ..number("date", Some("date"), &["2026-01-01", "2026-01-02"]) },
    Kind {
        sums: false,
        ..number(
            "timestamp",
            Some("timestamp"),
            &["2026-01-01 10:00:00", "2026-01-01 10:00:00.5", "1999-12-31 23:59:59.999999"],
        )
    },
    Kind {
        sums: false,
        ..number(
            "timestamptz",
            Some("timestamptz"),
            &["2026-01-01 10:00:00+02", "2026-01-01 08:00:00+00"],
        )
    },
    Kind {
        sums: false,
        extremes: false,
        order: false,
        ..number("mood", Some("mood"), &["sad", "ä"])
    },
    Kind { sums: false, extremes: false, ..number("bool", None, &["t", "f"]) },
    Kind {
        sums: false,
        extremes: false,
        ..number("uuid", Some("uuid"), &["12345678-0000-0000-0000-000000000000"])
    },
    Kind {
        sums: false,
        extremes: false,
        groups: false,
        ..number("float8", Some("float8"), &["0", "1.5", "-0"])
    },
    Kind {
        sums: false,
        extremes: false,
        groups: false,
        documents: true,
        equality: false,
        order: false,
        ..number(
            "jsonb",
            Some("jsonb"),
            &[
                "{\"k\": \"a\", \"n\": 7}",
                "{\"k\": \"b\", \"n\": \"-1\"}",
                "{\"k\": null, \"n\": null}",
                "[7]",
            ],
        )
    },
];

const fn number(
    sql_type: &'static str,
    edges: Option<&'static str>,
    common: &'static [&'static str],
) -> Kind {
    Kind {
        sql_type,
        edges,
        common,
        sums: true,
        extremes: true,
        groups: true,
        documents: false,
        equality: true,
        order: true,
    }
}

/// Columns beside the key, by these names.
const NAMES: &[&str] = &["n", "amount", "Mixed Case", "sel\"ect", "e", "f", "g", "h", "order", "z"];

pub struct Column {
    name: &'static str,
    pub kind: &'static Kind,
    /// The texts that it may have.
    values: Vec<String>,
    edges: Vec<String>,
}

impl Column {
    /// Returns its name in quotes.
    pub fn sql(&self) -> String {
        format!("\"{}\"", self.name.replace('"', "\"\""))
    }

    /// Returns a value of it as a text.
    pub fn present(&self, dice: &mut Dice) -> String {
        let from = if dice.percent(6) { &self.edges } else { &self.values };
        let from = if from.is_empty() { &self.values } else { from };
        from[dice.below(from.len())].clone()
    }
}

pub struct Table {
    pub columns: Vec<Column>,
    /// How many in a hundred values are edges of their types.
    edges: u32,
    /// How many are null.
    nulls: u32,
}

/// Returns a text as SQL's literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Ends all rows at once.
pub const TRUNCATE: &str = "truncate things";

/// A change of a row, and which ids it is seen under before and after.
pub struct Change {
    pub sql: String,
    pub before: usize,
    pub after: usize,
}

impl Table {
    pub fn new(dice: &mut Dice) -> Table {
        let edges_of = |kind: &Kind| -> Vec<String> {
            let laws = laws();
            let law = laws.iter().find(|law| kind.edges == Some(law.sql_type));
            let edges = law.map_or(&[] as &[_], |law| law.edges);
            // What is compared here has to go through a literal.
            let fits = |edge: &&&str| !edge.contains('\\') && !edge.contains('\u{1}');
            edges.iter().filter(fits).map(|edge| (*edge).to_owned()).collect()
        };
        let mut kinds: Vec<&'static Kind> = KINDS.iter().collect();
        let count = 5 + dice.below(NAMES.len() - 4);
        let mut columns = Vec::new();
        for &name in &NAMES[..count] {
            // Two of the same kind are as good as one.
            let kind = match columns.len() {
                0 => &KINDS[1],
                _ => kinds.swap_remove(dice.below(kinds.len())),
            };
            let values = kind.common.iter().map(|value| (*value).to_owned()).collect();
            columns.push(Column { name, kind, values, edges: edges_of(kind) });
        }
        // Edges hide what the others come to: an infinity, a sum that is too large.
        let (edges, nulls) = ([0, 0, 2, 12][dice.below(4)], [0, 10, 30][dice.below(3)]);
        Table { columns, edges, nulls }
    }

    pub fn create(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| format!("{} {}", column.sql(), column.kind.sql_type))
            .collect();
        format!(
            "create type mood as enum ('sad', 'ok ay', 'q\"\\', 'ä');\n\
             create table {TABLE} (id int4 primary key, {});\n\
             alter table {TABLE} replica identity full;",
            columns.join(", ")
        )
    }

    /// Returns the columns in their order, the key first.
    pub fn list(&self) -> String {
        let columns: Vec<String> = self.columns.iter().map(Column::sql).collect();
        format!("id, {}", columns.join(", "))
    }

    fn value(&self, column: &Column, dice: &mut Dice) -> String {
        if dice.percent(self.nulls) {
            return "null".to_owned();
        }
        let from = if dice.percent(self.edges) { &column.edges } else { &column.values };
        let from = if from.is_empty() { &column.values } else { from };
        literal(&from[dice.below(from.len())])
    }

    /// Returns a row's insert, which does nothing where the id is taken.
    pub fn insert(&self, id: usize, dice: &mut Dice) -> Change {
        let values: Vec<String> =
            self.columns.iter().map(|column| self.value(column, dice)).collect();
        let sql = format!(
            "insert into {TABLE} values ({id}, {}) on conflict do nothing",
            values.join(", ")
        );
        Change { sql, before: id, after: id }
    }

    fn change(&self, id: usize, dice: &mut Dice) -> Change {
        match dice.below(20) {
            0..=6 => self.insert(id, dice),
            7..=10 => Change {
                sql: format!("delete from {TABLE} where id = {id}"),
                before: id,
                after: id,
            },
            11 => {
                let after = dice.below(IDS);
                let sql = format!(
                    "update {TABLE} set id = {after} where id = {id} \
                     and not exists (select from {TABLE} where id = {after})"
                );
                Change { sql, before: id, after }
            }
            _ => {
                let mut sets: Vec<String> = self
                    .columns
                    .iter()
                    .map(|column| format!("{} = {}", column.sql(), self.value(column, dice)))
                    .collect();
                while sets.len() > 1 && dice.percent(80) {
                    sets.swap_remove(dice.below(sets.len()));
                }
                let sql = format!("update {TABLE} set {} where id = {id}", sets.join(", "));
                Change { sql, before: id, after: id }
            }
        }
    }

    /// Returns the changes of a transaction: of rows here and there, of one row again and again, or of so many that groups
    /// go.
    pub fn changes(&self, dice: &mut Dice) -> Vec<Change> {
        match dice.below(40) {
            0 => vec![Change { sql: TRUNCATE.to_owned(), before: 0, after: 0 }],
            1..=3 => {
                let gone = |id| Change {
                    sql: format!("delete from {TABLE} where id = {id}"),
                    before: id,
                    after: id,
                };
                (0..IDS).filter(|_| dice.percent(60)).map(gone).collect()
            }
            4..=7 => (0..IDS).map(|id| self.insert(id, dice)).collect(),
            8..=15 => {
                let id = dice.below(IDS);
                (0..2 + dice.below(5)).map(|_| self.change(id, dice)).collect()
            }
            _ => {
                let count = 1 + dice.below(6);
                let change = |_| {
                    let id = dice.below(IDS);
                    self.change(id, dice)
                };
                (0..count).map(change).collect()
            }
        }
    }
}
