//! Statements that the world knows how to answer.

use super::Item;
use convoy_engine::{
    Argument, ErrorCode, FunctionAnswer, QueryError, QueryReference, RecordedRead, Statement,
    StatementKind, Wish,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A statement that the world knows how to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Panel {
    Group,
    Top,
    Sum,
    Groups,
    /// A join that holds rows of its inner table; they may be missing.
    Joined,
    /// The same where they must be there, and only the first rows are shown.
    TopJoined,
    /// A function: of each row of a group, and of the row that its value names, where there is one.
    Linked,
    /// What it reads first.
    LinkedGroup,
    /// What it reads of each row.
    LinkedRow,
}

impl Panel {
    /// Those that are statements.
    pub const STATEMENTS: [Panel; 6] =
        [Panel::Group, Panel::Top, Panel::Sum, Panel::Groups, Panel::Joined, Panel::TopJoined];

    /// What clients wish to see, and names mean.
    pub const WISHES: [Panel; 7] = [
        Panel::Group,
        Panel::Top,
        Panel::Sum,
        Panel::Groups,
        Panel::Joined,
        Panel::TopJoined,
        Panel::Linked,
    ];

    /// What is described: statements, and those by which functions read.
    pub const DESCRIBED: [Panel; 8] = [
        Panel::Group,
        Panel::Top,
        Panel::Sum,
        Panel::Groups,
        Panel::Joined,
        Panel::TopJoined,
        Panel::LinkedGroup,
        Panel::LinkedRow,
    ];

    pub fn sql(self) -> &'static str {
        match self {
            Panel::Linked => "",
            Panel::LinkedGroup => "select id, grp, val from items where grp = $1",
            Panel::LinkedRow => "select id, grp, val from items where id = $1",
            Panel::Group => "select id, val from items where grp = $1 order by id",
            Panel::Top => "select id, val from items where grp = $1 order by val desc limit 3",
            Panel::Sum => "select count(*) as n, sum(val) as total from items where grp = $1",
            Panel::Groups => "select grp, count(*) as n from items group by grp order by grp",
            Panel::Joined => {
                "select a.id, b.val from items a left join items b on b.id = a.val where a.grp = $1 order by a.id"
            }
            Panel::TopJoined => {
                "select a.id, b.grp from items a join items b on b.id = a.val where a.grp = $1 \
                 order by b.val desc, a.id limit 3"
            }
        }
    }

    /// Returns a subscription to it: the statement, with what stands above it, and the arguments.
    pub fn reference(self, header: &str, grp: i32) -> QueryReference {
        if self == Panel::Linked {
            let statement = self.named("linked");
            return QueryReference::named(statement, Arc::new(OfGroup(grp))).expect("it fits");
        }
        let text = format!("{header}{}", self.sql());
        let statement = Arc::new(Statement::ad_hoc(&text).expect("a statement"));
        let grp = || Argument::Number(grp.to_string());
        let args = self.has_parameter().then(grp).into_iter().map(Some).collect();
        QueryReference::fixed(statement, args)
    }

    /// The statement as a project's file, or its function.
    pub fn named(self, name: &str) -> Arc<Statement> {
        if self == Panel::Linked {
            return Arc::new(Statement::function(name, "1"));
        }
        let header = if self.has_parameter() { "-- @param grp int4\n" } else { "" };
        let text = format!("{header}{}", self.sql());
        Arc::new(Statement::named(name, &text).expect("a statement"))
    }

    pub fn has_parameter(self) -> bool {
        self != Panel::Groups
    }

    pub fn columns(self) -> &'static [(&'static str, u32)] {
        match self {
            Panel::Group | Panel::Top | Panel::Joined => &[("id", 20), ("val", 23)],
            Panel::TopJoined => &[("id", 20), ("grp", 23)],
            Panel::Sum => &[("n", 20), ("total", 20)],
            Panel::Groups => &[("grp", 23), ("n", 20)],
            Panel::LinkedGroup | Panel::LinkedRow => &[("id", 20), ("grp", 23), ("val", 23)],
            Panel::Linked => &[],
        }
    }

    /// Returns the result over these rows: what Postgres would show, a text or null for each column.
    pub fn answer(self, items: &BTreeMap<i64, Item>, grp: i32) -> Vec<TextRow> {
        let mut of_group: Vec<Item> =
            items.values().copied().filter(|item| item.grp == grp).collect();
        let shown = |item: &Item| vec![Some(item.id.to_string()), Some(item.val.to_string())];
        match self {
            Panel::Group => of_group.iter().map(shown).collect(),
            Panel::Top => {
                of_group.sort_by_key(|item| (std::cmp::Reverse(item.val), item.id));
                of_group.iter().take(3).map(shown).collect()
            }
            Panel::Sum => {
                let total: i64 = of_group.iter().map(|item| i64::from(item.val)).sum();
                let total = (!of_group.is_empty()).then(|| total.to_string());
                vec![vec![Some(of_group.len().to_string()), total]]
            }
            Panel::Groups => {
                let mut counts: BTreeMap<i32, usize> = BTreeMap::new();
                for item in items.values() {
                    *counts.entry(item.grp).or_default() += 1;
                }
                let row = |(grp, count): (&i32, &usize)| {
                    vec![Some(grp.to_string()), Some(count.to_string())]
                };
                counts.iter().map(row).collect()
            }
            Panel::Joined | Panel::TopJoined => {
                self.joined(items, grp).map(|(a, b)| self.shown(a, b)).collect()
            }
            Panel::Linked => {
                let rows: Vec<_> = self.joined(items, grp).collect();
                // The column is there where any row has the field; a row that has not is empty there.
                let has_field = rows.iter().any(|(_, b)| b.is_some());
                let row = |(a, b): &(Item, Option<Item>)| {
                    let mut cells = vec![Some(format!("\"{}\"", a.id)), Some(a.val.to_string())];
                    let field = b.map_or_else(String::new, |b| b.val.to_string());
                    cells.extend(has_field.then_some(Some(field)));
                    cells
                };
                rows.iter().map(row).collect()
            }
            Panel::LinkedGroup | Panel::LinkedRow => unreachable!("nobody runs it"),
        }
    }

    /// Runs the function: its value, and what it read.
    pub fn run(items: &BTreeMap<i64, Item>, grp: i32) -> FunctionAnswer {
        let read = |panel: Panel, arg: i32| RecordedRead {
            statement: Arc::new(Statement::recorded(panel.sql()).expect("a statement")),
            args: Arc::new([Some(arg.to_string().into())]),
        };
        let mut reads = vec![read(Panel::LinkedGroup, grp)];
        let objects: Vec<String> = Panel::Linked
            .joined(items, grp)
            .map(|(a, b)| {
                reads.push(read(Panel::LinkedRow, a.val));
                let field = b.map_or_else(String::new, |b| format!(",\"b\":{}", b.val));
                format!("{{\"_id\":\"{}\",\"val\":{}{field}}}", a.id, a.val)
            })
            .collect();
        FunctionAnswer { value: Ok(format!("[{}]", objects.join(","))), reads }
    }

    /// Returns the rows of a join that it shows, in order.
    fn joined(
        self,
        items: &BTreeMap<i64, Item>,
        grp: i32,
    ) -> impl Iterator<Item = (Item, Option<Item>)> {
        let of_group = items.values().filter(|item| item.grp == grp);
        let pair = |a: &Item| (*a, items.get(&i64::from(a.val)).copied());
        let mut pairs: Vec<_> = of_group.map(pair).collect();
        if self == Panel::TopJoined {
            pairs.retain(|(_, b)| b.is_some());
            pairs.sort_by_key(|(a, b)| (std::cmp::Reverse(b.map(|b| b.val)), a.id));
            pairs.truncate(3);
        }
        pairs.into_iter()
    }

    fn shown(self, a: Item, b: Option<Item>) -> Vec<Option<String>> {
        let of_b = b.map(|b| if self == Panel::Joined { b.val } else { b.grp });
        vec![Some(a.id.to_string()), of_b.map(|value| value.to_string())]
    }

    /// Returns what an aggregate's plan reads where the stream tells old rows: the state of each group.
    pub fn read_groups(self, items: &BTreeMap<i64, Item>, grp: i32) -> Vec<TextRow> {
        let state = |row: &TextRow| -> TextRow {
            match self {
                Panel::Sum => vec![row[0].clone(), row[0].clone(), row[1].clone(), row[0].clone()],
                _ => vec![row[0].clone(), row[1].clone(), row[1].clone()],
            }
        };
        self.answer(items, grp).iter().map(state).collect()
    }

    /// Returns what the plan's own statement reads: with spare rows, or with the group's key appended.
    pub fn read(self, items: &BTreeMap<i64, Item>, grp: i32) -> Vec<TextRow> {
        match self {
            Panel::Top => {
                let mut of_group: Vec<Item> =
                    items.values().copied().filter(|item| item.grp == grp).collect();
                of_group.sort_by_key(|item| (std::cmp::Reverse(item.val), item.id));
                let rows_max = 3 + usize::try_from(convoy_engine::spare_rows(3)).expect("a few");
                let row = |item: &Item| vec![Some(item.id.to_string()), Some(item.val.to_string())];
                of_group.iter().take(rows_max).map(row).collect()
            }
            Panel::Groups => {
                let appended = |mut row: TextRow| {
                    row.push(row[0].clone());
                    row
                };
                self.answer(items, grp).into_iter().map(appended).collect()
            }
            Panel::Joined | Panel::TopJoined => {
                let keyed = |(a, b): (Item, Option<Item>)| {
                    let mut row = self.shown(a, b);
                    row.extend([Some(a.id.to_string()), b.map(|b| b.id.to_string())]);
                    row
                };
                self.joined(items, grp).map(keyed).collect()
            }
            Panel::Group | Panel::Sum => self.answer(items, grp),
            Panel::Linked | Panel::LinkedGroup | Panel::LinkedRow => {
                unreachable!("it is no query")
            }
        }
    }
}

/// Asks for a group by a name, whatever that means.
#[derive(Debug)]
pub struct OfGroup(pub i32);

impl Wish for OfGroup {
    fn arguments(&self, statement: &Statement) -> Result<Vec<Option<Argument>>, QueryError> {
        let grp = self.0.to_string();
        match (statement.kind, statement.params.len()) {
            (StatementKind::Function, _) => Ok(vec![Some(Argument::String(grp)), None]),
            (_, 1) => Ok(vec![Some(Argument::Number(grp))]),
            _ => Err(QueryError::new(ErrorCode::InvalidArgs, "it takes no group")),
        }
    }
}

/// A row of an answer: a text or null for each column.
pub type TextRow = Vec<Option<String>>;
