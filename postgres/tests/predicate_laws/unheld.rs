//! Rows that a result does not hold: a change that alters what is read of a join is matched, though updates and deletes
//! of such rows are spared where the analysis says so.
//!
//! A result is read as the engine reads it, in its order and with its keys. What the index is told it holds stays what it
//! was until a change is matched, as in the engine: what is overlooked once would be overlooked again.

use super::joins::{Kind, SCHEMA, Source, TABLES, changed_fields, key};
use super::{Dice, Rows, data, rows, table, template};
use crate::database::harness::Harness;
use convoy_engine::{Plan, QueryTemplate, TableFacts};
use convoy_query_index::{FieldId, FieldSet, Holdings, NaiveIndex, QueryId, RowImages, TemplateId};
use convoy_types::{Key, KeyBuilder, RelationId, ReplicaIdentity};
use std::collections::BTreeSet;
use std::sync::Arc;

const QUERIES: usize = 120;
const CHANGES: usize = 20;

/// How many rows a table has at most.
const IDS: usize = 6;

/// The only live query of an index that knows what it holds, and of one that does not.
const QUERY: QueryId = QueryId(0);

impl Dice {
    /// Returns the FROM of a join, and what is in it.
    fn sources(&mut self) -> (Vec<Source>, String) {
        let count = [1, 2, 2, 2, 3, 3][self.below(6)];
        let sources: Vec<Source> =
            (0..count).map(|position| (self.below(3), ["p", "q", "r"][position])).collect();
        let from = if self.percent(15) {
            let items: Vec<_> = sources.iter().map(|source| self.item(&[*source])).collect();
            items.join(", ")
        } else {
            self.item(&sources)
        };
        (sources, from)
    }

    /// Returns the FROM of an outer join, what is in it, and a condition that is true of the nulls that it makes and
    /// leaves out rows of the table that they stand for: one that goes may bring a row of the other's. Or an order in
    /// which that row is one of the first.
    fn missing(&mut self) -> (Vec<Source>, String, String, String) {
        let sources: Vec<Source> = ["p", "q", "r"].map(|alias| (self.below(3), alias)).into();
        let [p, q, r] = [0, 1, 2].map(|position| TABLES[sources[position].0].0);
        let join = format!("{p} p left join {q} q on p.x = q.{}", self.pick(&["id", "x"]));
        let looks = self.pick(&["?.id is null", "?.x is null", "coalesce(?.x, 1) = 1"]);
        match self.below(4) {
            // Another join looks at it.
            0 => {
                let from = format!("{join} left join {r} r on r.x = q.x");
                (sources, from, looks.replace('?', "r"), String::new())
            }
            1 => {
                let from = format!("{r} r join ({join}) on r.id = p.id or r.x = q.x");
                (sources, from, looks.replace('?', "q"), String::new())
            }
            2 => (sources[..2].to_vec(), join, looks.replace('?', "q"), String::new()),
            _ => {
                let by = self.pick(&["q.id nulls first", "q.t desc", "q.x is null desc, p.t"]);
                let tail = format!(" order by {by} limit {}", 1 + self.below(3));
                (sources[..2].to_vec(), join, String::new(), tail)
            }
        }
    }

    /// Returns a select list and the names of its columns.
    fn shown(&mut self, sources: &[Source]) -> (Vec<String>, Vec<String>) {
        let (mut items, mut names): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
        if self.percent(10) {
            let (table, alias) = sources[0];
            items.push(format!("{alias}.*"));
            names.extend(TABLES[table].1.iter().map(|(name, _)| (*name).to_owned()));
        }
        let count = 1 + self.below(4);
        while items.len() < count {
            let (table, alias) = sources[self.below(sources.len())];
            let (column, kind) = TABLES[table].1[self.below(TABLES[table].1.len())];
            // Names that are columns' too: ORDER BY takes them for the result's.
            let names_of_tables = ["x", "y", "t", "id", "flag"];
            let name = match self.percent(25) {
                true => self.pick(&names_of_tables).to_owned(),
                false => format!("{alias}_{column}_{}", items.len()),
            };
            if names.contains(&name) {
                continue;
            }
            let shown = match (self.below(12), kind) {
                (0, Kind::Int) => format!("{alias}.{column} + 1"),
                (0, Kind::Text) => format!("coalesce({alias}.{column}, 'none')"),
                (1, _) => format!("({alias}.{column} is null)"),
                (2, _) => format!("(select count(*) from a s where s.x = {alias}.id)"),
                _ => format!("{alias}.{column}"),
            };
            items.push(format!("{shown} as {name}"));
            names.push(name);
        }
        (items, names)
    }

    fn order(&mut self, sources: &[Source], names: &[String]) -> String {
        let mut items = Vec::new();
        for _ in 0..1 + self.below(2) {
            let item = match self.below(6) {
                0 => names[self.below(names.len())].clone(),
                1 => (1 + self.below(names.len())).to_string(),
                2 => format!("({} is null)", self.column(sources, None).expect("a column").0),
                _ => self.column(sources, None).expect("a source has columns").0,
            };
            let way = self.pick(&["", "", " desc", " nulls first", " desc nulls last"]);
            items.push(format!("{item}{way}"));
        }
        format!(" order by {}", items.join(", "))
    }

    /// Returns a statement, and what is in its FROM.
    fn statement(&mut self) -> (Vec<Source>, String) {
        let (sources, from, mut conditions, mut tail) = match self.percent(30) {
            true => self.missing(),
            false => {
                let (sources, from) = self.sources();
                let conditions = self.conditions(&sources, 0);
                (sources, from, conditions, String::new())
            }
        };
        let (mut items, names) = self.shown(&sources);
        if self.percent(8) {
            let (table, alias) = sources[self.below(sources.len())];
            let inner = TABLES[self.below(3)].0;
            let of = TABLES[table].1[self.below(2)].0;
            let exists = format!("exists (select 1 from {inner} i where i.x = {alias}.{of})");
            conditions = match conditions.is_empty() {
                true => exists,
                false => format!("{exists} and {conditions}"),
            };
        }
        let filter =
            if conditions.is_empty() { String::new() } else { format!(" where {conditions}") };
        let mut distinct = "";
        match self.below(25) {
            _ if !tail.is_empty() => {}
            0 => distinct = "distinct ",
            1 => {
                let of = self.column(&sources, None).expect("a column").0;
                // Among equals the place would be anybody's.
                let ids: Vec<_> = sources.iter().map(|(_, alias)| format!("{alias}.id")).collect();
                let over = format!("order by {of}, {}", ids.join(", "));
                items.push(format!("row_number() over ({over}) as place"));
            }
            2 => {
                items = vec!["count(*) as n".to_owned()];
                let of = self.column(&sources, None).expect("a column").0;
                tail = format!(" group by {of}");
            }
            3 => tail = " union all select 1".to_owned(),
            _ => {}
        }
        if tail.is_empty() && distinct.is_empty() {
            if self.percent(60) {
                tail = self.order(&sources, &names);
            }
            if self.percent(35) {
                tail.push_str(&format!(" limit {}", 1 + self.below(4)));
            }
            if self.percent(12) {
                tail.push_str(&format!(" offset {}", self.below(3)));
            }
        }
        let sql = format!("select {distinct}{} from {from}{filter}{tail}", items.join(", "));
        (sources, sql)
    }

    /// Returns a change of a table's row, mostly of those that are read: which table, the row's id before and after it, and
    /// the statement.
    fn row_change(&mut self, sources: &[Source]) -> (&'static str, usize, usize, String) {
        let read = sources[self.below(sources.len())].0;
        let (name, columns) = TABLES[if self.percent(10) { self.below(3) } else { read }];
        let id = self.below(IDS);
        let rest: Vec<_> =
            columns[1..].iter().map(|column| (column.0, self.value(column.1))).collect();
        let sql = match self.below(10) {
            0 | 1 => format!("delete from {name} where id = {id}"),
            2..=4 => {
                let values: Vec<_> = rest.iter().map(|(_, value)| value.as_str()).collect();
                format!(
                    "insert into {name} values ({id}, {}) on conflict do nothing",
                    values.join(", ")
                )
            }
            5 => {
                let to = self.below(IDS);
                let sql = format!("update {name} set id = {to} where id = {id}");
                return (name, id, to, sql);
            }
            _ => {
                let mut sets: Vec<_> =
                    rest.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                while sets.len() > 1 && self.percent(75) {
                    sets.remove(self.below(sets.len()));
                }
                format!("update {name} set {} where id = {id}", sets.join(", "))
            }
        };
        (name, id, id, sql)
    }
}

/// Returns the rows of tables that a read's rows name.
fn held(template: &QueryTemplate, read: &Rows) -> BTreeSet<(RelationId, Key)> {
    let Plan::Refresh(plan) = &template.plan else { return BTreeSet::new() };
    let mut held = BTreeSet::new();
    for table in &plan.held {
        let from = template.columns.len() + table.first;
        for row in read {
            let mut key = KeyBuilder::new();
            let texts = row[from..from + table.types.len()].iter().flatten();
            let pushed =
                table.types.iter().zip(texts).map(|(ty, text)| key.push(ty, text.as_bytes()));
            if pushed.filter(Result::is_ok).count() == table.types.len() {
                held.insert((table.relation, key.finish()));
            }
        }
    }
    held
}

/// One live query, with what the index is told of it.
struct Live<'a> {
    template: &'a QueryTemplate,
    index: NaiveIndex,
    held: BTreeSet<(RelationId, Key)>,
}

impl Live<'_> {
    fn hold(&mut self, held: BTreeSet<(RelationId, Key)>) {
        for (relation, key) in &self.held {
            self.index.release(QUERY, *relation, key);
        }
        for (relation, key) in &held {
            self.index.hold(QUERY, *relation, key.clone());
        }
        self.held = held;
    }

    /// Returns whether a change is matched, by what is held and as if that were not known.
    fn is_matched(&mut self, table: &Arc<TableFacts>, old: &Rows, new: &Rows) -> (bool, bool) {
        let is_full = table.identity == ReplicaIdentity::Full;
        let (old, new) = (old.first(), new.first());
        let values = |row: &Vec<Option<String>>| self.template.field_values(table, &data(row));
        let (old_values, new_values) = (old.map(values), new.map(values));
        let (old_key, new_key) = (old.map(|row| key(table, row)), new.map(|row| key(table, row)));
        let is_same_key = old_key == new_key;
        // Under a key identity only the key is told of the old row, and of an update that leaves it alone nothing.
        let of_key = |values: &[convoy_query_index::FieldValue]| values[..1].into();
        let told: Option<Box<[convoy_query_index::FieldValue]>> = match (&old_values, is_full) {
            (Some(values), false) => Some(if is_same_key { [].into() } else { of_key(values) }),
            (values, _) => values.clone(),
        };
        let changed = old.zip(new).and_then(|(old, new)| match (is_full, is_same_key) {
            (true, _) => Some(changed_fields(&data(old), &data(new))),
            (false, true) => {
                Some((1..table.columns.len() as u16).map(FieldId).collect::<FieldSet>())
            }
            (false, false) => None,
        });
        let images = RowImages {
            relation: table.id,
            old: told.as_deref(),
            new: new_values.as_deref(),
            old_key: old_key.as_ref(),
            new_key: new_key.as_ref(),
            changed: changed.as_ref(),
        };
        let mut hits = Vec::new();
        self.index.set_holdings(QUERY, Holdings::Unknown);
        self.index.matches(&images, &mut hits);
        let without = !hits.is_empty();
        self.index.set_holdings(QUERY, Holdings::Known);
        self.index.matches(&images, &mut hits);
        (!hits.is_empty(), without)
    }
}

/// How many changes were matched, altered the result, and were spared because their row was not held.
#[derive(Debug, Default)]
struct Tally {
    changes: usize,
    altered: usize,
    matched: usize,
    spared: usize,
    spared_updates: usize,
    spared_deletes: usize,
    spared_under_default: usize,
    with_unheld: usize,
}

#[tokio::test]
async fn what_changes_a_result_is_matched_or_held() {
    let mut dice = Dice::new();
    let mut harness = Harness::new("unheld_rows", SCHEMA).await;
    let (mut tally, mut queries) = (Tally::default(), 0);
    while queries < QUERIES {
        let is_full = dice.percent(65);
        let identity = if is_full { "full" } else { "default" };
        for (name, _) in TABLES {
            let sql = format!("alter table {name} replica identity {identity}");
            harness.admin.batch_execute(&sql).await.expect("a table of ours");
        }
        let (sources, sql) = dice.statement();
        let Some(template) = template(&mut harness, &sql).await else { continue };
        let args = [dice.below(3).to_string(), dice.pick(&["k", "l"]).to_owned()];
        let texts: Vec<Option<Arc<str>>> =
            args.iter().map(|text| Some(text.as_str().into())).collect();
        let slots = template.slot_values(&texts[..template.params.len()]).expect("values");
        let mut index = NaiveIndex::new();
        index.add_template(TemplateId(0), template.predicates.clone());
        index.insert(QUERY, TemplateId(0), slots);
        let mut live = Live { template: &template, index, held: BTreeSet::new() };
        let asked = template.read.sql.replace("$1", &args[0]);
        let asked = asked.replace("$2", &format!("'{}'", args[1]));

        // Postgres plans a FULL JOIN only where it can be merged or hashed.
        let Some(mut before) = rows(&harness.admin, &asked).await else { continue };
        // What is kept from the changes themselves is another law's.
        if template.plan.is_incremental() {
            continue;
        }
        queries += 1;
        tally.with_unheld +=
            usize::from(template.predicates.iter().any(|predicate| predicate.unheld.is_some()));
        live.hold(held(&template, &before));
        for _ in 0..CHANGES {
            let (name, from, to, change) = dice.row_change(&sources);
            let row = |id| format!("select * from {name} where id = {id}");
            let old = rows(&harness.admin, &row(from)).await.expect("a row or none");
            if harness.admin.batch_execute(&change).await.is_err() {
                // The id is taken.
                continue;
            }
            let new = rows(&harness.admin, &row(to)).await.expect("a row or none");
            if old == new || (from != to && old.is_empty()) {
                continue;
            }
            let after = rows(&harness.admin, &asked).await.expect("a result");
            let altered = before != after;
            let (matched, without) = match table(&template, name) {
                Some(table) => live.is_matched(table, &old, &new),
                None => (false, false),
            };
            assert!(
                matched || !altered,
                "{sql}\nwith {args:?}, identity {identity}\n{change}\n{old:?} -> {new:?}\n{before:?} -> \
                 {after:?}\n{:?}\n{:?}",
                template.predicates,
                template.notes
            );
            assert!(without || !matched);
            let spared = usize::from(without && !matched);
            tally.changes += 1;
            tally.altered += usize::from(altered);
            tally.matched += usize::from(matched);
            tally.spared += spared;
            tally.spared_updates += spared * usize::from(!old.is_empty() && !new.is_empty());
            tally.spared_deletes += spared * usize::from(new.is_empty());
            tally.spared_under_default += spared * usize::from(!is_full);
            if matched {
                live.hold(held(&template, &after));
            }
            before = after;
        }
    }
    println!("{tally:?}");
    // It is of use.
    assert!(tally.with_unheld * 5 > queries, "{tally:?}");
    assert!(tally.spared * 50 > tally.changes, "{tally:?}");
    assert!(tally.spared_updates > 0 && tally.spared_deletes > 0, "{tally:?}");
    assert!(tally.spared_under_default > 0, "{tally:?}");
}
