//! Joins: a change that alters a result is matched by the predicates that the conditions and the columns' equalities
//! give.

use super::{Dice, Rows, data, rows, table, template};
use crate::database::harness::Harness;
use convoy_engine::{QueryTemplate, TableFacts};
use convoy_query_index::{FieldId, FieldSet, NaiveIndex, QueryId, RowImages, TemplateId};
use convoy_types::{Datum, Key};
use std::sync::Arc;

const QUERIES: usize = 100;
const CHANGES: usize = 15;

/// Columns of like types carry like names in different tables, so that `USING` and `NATURAL` have something to merge.
pub(super) const SCHEMA: &str = "\
create table a (id int4 primary key, x int4, y int8, t text);
create table b (id int4 primary key, x int4, y int4, t varchar(9), flag bool);
create table c (id int8 primary key, x int8, t text collate \"C\", d char(3));
alter table a replica identity full;
alter table b replica identity full;
alter table c replica identity full;";

pub(super) const TABLES: [(&str, &[(&str, Kind)]); 3] = [
    ("a", &[("id", Kind::Int), ("x", Kind::Int), ("y", Kind::Int), ("t", Kind::Text)]),
    (
        "b",
        &[
            ("id", Kind::Int),
            ("x", Kind::Int),
            ("y", Kind::Int),
            ("t", Kind::Text),
            ("flag", Kind::Bool),
        ],
    ),
    ("c", &[("id", Kind::Int), ("x", Kind::Int), ("t", Kind::Text), ("d", Kind::Text)]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Text,
    Bool,
}

/// A table in a FROM, by position in [`TABLES`], and its alias.
pub(super) type Source = (usize, &'static str);

impl Dice {
    pub(super) fn column(
        &mut self,
        sources: &[Source],
        kind: Option<Kind>,
    ) -> Option<(String, Kind)> {
        let columns: Vec<_> = sources
            .iter()
            .flat_map(|&(table, alias)| TABLES[table].1.iter().map(move |column| (alias, column)))
            .filter(|(_, column)| kind.is_none_or(|kind| column.1 == kind))
            .collect();
        if columns.is_empty() {
            return None;
        }
        let (alias, column) = columns[self.below(columns.len())];
        // An unqualified name means a merged column, or nothing that Postgres takes.
        let name =
            if self.percent(12) { column.0.to_owned() } else { format!("{alias}.{}", column.0) };
        Some((name, column.1))
    }

    pub(super) fn constant(&mut self, kind: Kind) -> String {
        match kind {
            Kind::Int if self.percent(25) => "$1::int4".to_owned(),
            Kind::Int => self.below(3).to_string(),
            Kind::Text if self.percent(25) => "$2::text".to_owned(),
            Kind::Text => self.pick(&["'k'", "'l'", "''"]).to_owned(),
            Kind::Bool => self.pick(&["true", "false"]).to_owned(),
        }
    }

    fn condition(&mut self, sources: &[Source], depth: usize) -> String {
        match self.below(if depth > 1 { 8 } else { 11 }) {
            0..=3 => {
                let (left, kind) = self.column(sources, None).expect("a source has columns");
                let (right, _) = self.column(sources, Some(kind)).expect("one has the kind");
                format!("{left} = {right}")
            }
            4 => {
                let (column, _) = self.column(sources, None).expect("a source has columns");
                format!("{column} is {}", self.pick(&["null", "not null"]))
            }
            5 => {
                let (column, kind) = self.column(sources, None).expect("a source has columns");
                format!("{column} in ({}, {})", self.constant(kind), self.constant(kind))
            }
            6 | 7 => {
                let (column, kind) = self.column(sources, None).expect("a source has columns");
                let op = self.pick(&["=", "=", "=", "<>", "<", ">="]);
                format!("{column} {op} {}", self.constant(kind))
            }
            8 => format!("not {}", self.condition_in_brackets(sources, depth)),
            _ => {
                let left = self.condition_in_brackets(sources, depth);
                format!("{left} or {}", self.condition_in_brackets(sources, depth))
            }
        }
    }

    pub(super) fn condition_in_brackets(&mut self, sources: &[Source], depth: usize) -> String {
        format!("({})", self.condition(sources, depth + 1))
    }

    pub(super) fn conditions(&mut self, sources: &[Source], least: usize) -> String {
        let count = least + self.below(3);
        let parts: Vec<_> = (0..count).map(|_| self.condition_in_brackets(sources, 0)).collect();
        parts.join(" and ")
    }

    /// Returns a FROM item over the sources.
    pub(super) fn item(&mut self, sources: &[Source]) -> String {
        if let [(table, alias)] = sources {
            return format!("{} {alias}", TABLES[*table].0);
        }
        let (left, right) = sources.split_at(1 + self.below(sources.len() - 1));
        let mut side = |sources: &[Source]| match sources.len() {
            1 => self.item(sources),
            _ => format!("({})", self.item(sources)),
        };
        let (left, right) = (side(left), side(right));
        let kind =
            self.pick(&["join", "join", "left join", "left join", "right join", "full join"]);
        match self.below(8) {
            0 => format!("{left} {kind} {right} using ({})", self.pick(&["id", "x", "t", "x, t"])),
            1 => format!("{left} natural {kind} {right}"),
            _ => {
                let on = match kind {
                    // Postgres wants an equality there.
                    "full join" => {
                        format!("{} and {}", self.equality(sources), self.equality(sources))
                    }
                    _ => self.conditions(sources, 1),
                };
                format!("{left} {kind} {right} on {on}")
            }
        }
    }

    fn equality(&mut self, sources: &[Source]) -> String {
        let (left, kind) = self.column(&sources[..1], None).expect("a source has columns");
        let (right, _) = self.column(&sources[1..], Some(kind)).unwrap_or(("1".to_owned(), kind));
        format!("{left} = {right}")
    }

    fn query(&mut self) -> String {
        let count = 2 + self.below(2);
        let sources: Vec<Source> =
            (0..count).map(|position| (self.below(3), ["p", "q", "r"][position])).collect();
        let from = if self.percent(20) {
            let items: Vec<_> = sources.iter().map(|source| self.item(&[*source])).collect();
            items.join(", ")
        } else {
            self.item(&sources)
        };
        let columns: Vec<_> = sources
            .iter()
            .flat_map(|(table, alias)| {
                TABLES[*table]
                    .1
                    .iter()
                    .map(move |(name, _)| format!("{alias}.{name} as {alias}_{name}"))
            })
            .collect();
        let conditions = self.conditions(&sources, 0);
        let filter =
            if conditions.is_empty() { String::new() } else { format!(" where {conditions}") };
        format!("select {} from {from}{filter}", columns.join(", "))
    }

    pub(super) fn value(&mut self, kind: Kind) -> String {
        match kind {
            _ if self.percent(15) => "null".to_owned(),
            Kind::Int => self.below(3).to_string(),
            Kind::Text => self.pick(&["'k'", "'l'", "'k '", "''"]).to_owned(),
            Kind::Bool => self.pick(&["true", "false"]).to_owned(),
        }
    }

    /// Returns a change of a table's row: which table, which row, and the statement.
    fn change(&mut self) -> (&'static str, usize, String) {
        let (name, columns) = TABLES[self.below(3)];
        let id = self.below(4);
        let rest: Vec<_> =
            columns[1..].iter().map(|column| (column.0, self.value(column.1))).collect();
        let sql = match self.below(4) {
            0 => format!("delete from {name} where id = {id}"),
            1 => {
                let values: Vec<_> = rest.iter().map(|(_, value)| value.as_str()).collect();
                format!(
                    "insert into {name} values ({id}, {}) on conflict do nothing",
                    values.join(", ")
                )
            }
            _ => {
                let mut sets: Vec<_> =
                    rest.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                while sets.len() > 1 && self.percent(70) {
                    sets.remove(self.below(sets.len()));
                }
                format!("update {name} set {} where id = {id}", sets.join(", "))
            }
        };
        (name, id, sql)
    }
}

/// How many changes were matched, and altered the result.
#[derive(Debug, Default)]
struct Tally {
    changes: usize,
    altered: usize,
    matched: usize,
}

pub(super) fn changed_fields(old: &[Datum], new: &[Datum]) -> FieldSet {
    let pairs = old.iter().zip(new).enumerate();
    pairs
        .filter(|(_, (old, new))| old != new)
        .map(|(position, _)| FieldId(u16::try_from(position).expect("a small table")))
        .collect()
}

pub(super) fn key(table: &TableFacts, row: &[Option<String>]) -> Key {
    let text = row[0].as_deref().expect("a primary key");
    Key::of(&table.columns[0].ty, text.as_bytes()).expect("a number")
}

fn is_matched(
    template: &QueryTemplate,
    index: &NaiveIndex,
    table: &Arc<TableFacts>,
    old: &Rows,
    new: &Rows,
) -> bool {
    let (old, new) = (old.first(), new.first());
    let values = |row: &Vec<Option<String>>| template.field_values(table, &data(row));
    let (old_values, new_values) = (old.map(values), new.map(values));
    let (old_key, new_key) = (old.map(|row| key(table, row)), new.map(|row| key(table, row)));
    let changed = old.zip(new).map(|(old, new)| changed_fields(&data(old), &data(new)));
    let images = RowImages {
        relation: table.id,
        old: old_values.as_deref(),
        new: new_values.as_deref(),
        old_key: old_key.as_ref(),
        new_key: new_key.as_ref(),
        changed: changed.as_ref(),
    };
    let mut hits = Vec::new();
    index.matches(&images, &mut hits);
    !hits.is_empty()
}

#[tokio::test]
async fn what_changes_a_joins_result_is_matched() {
    let mut dice = Dice::new();
    let mut harness = Harness::new("join_predicates", SCHEMA).await;
    let (mut tally, mut queries) = (Tally::default(), 0);
    while queries < QUERIES {
        let sql = dice.query();
        let Some(template) = template(&mut harness, &sql).await else { continue };
        let args = [dice.below(3).to_string(), dice.pick(&["k", "l"]).to_owned()];
        let texts: Vec<Option<Arc<str>>> =
            args.iter().map(|text| Some(text.as_str().into())).collect();
        let slots = template.slot_values(&texts[..template.params.len()]).expect("values");
        let mut index = NaiveIndex::new();
        index.add_template(TemplateId(0), template.predicates.clone());
        index.insert(QueryId(0), TemplateId(0), slots);
        let asked = sql.replace("$1", &args[0]).replace("$2", &format!("'{}'", args[1]));

        let result = async |harness: &Harness| {
            let mut found = rows(&harness.admin, &asked).await?;
            found.sort();
            Some(found)
        };
        // Postgres plans a FULL JOIN only where it can be merged or hashed.
        let Some(mut before) = result(&harness).await else { continue };
        queries += 1;
        for _ in 0..CHANGES {
            let (name, id, change) = dice.change();
            let row = format!("select * from {name} where id = {id}");
            let old = rows(&harness.admin, &row).await.expect("a row or none");
            harness.admin.batch_execute(&change).await.expect("a change");
            let new = rows(&harness.admin, &row).await.expect("a row or none");
            if old == new {
                continue;
            }
            let after = result(&harness).await.expect("a result");
            let altered = before != after;
            let matched = table(&template, name)
                .is_some_and(|table| is_matched(&template, &index, table, &old, &new));
            assert!(
                matched || !altered,
                "{sql}\nwith {args:?}\n{change}\n{old:?} -> {new:?}\n{before:?} -> {after:?}\n{:?}\n{:?}",
                template.predicates,
                template.notes
            );
            tally.changes += 1;
            tally.altered += usize::from(altered);
            tally.matched += usize::from(matched);
            before = after;
        }
    }
    println!("{tally:?}");
    // Most changes of the tables have nothing to do with the result, and most of what is matched has.
    assert!(tally.altered * 10 > tally.changes, "{tally:?}");
    assert!(tally.matched * 10 < tally.changes * 8, "{tally:?}");
}
