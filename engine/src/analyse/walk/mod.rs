//! The walk over a statement: which columns of which tables it mentions, which relations stand deeper in it, and what
//! decides how many rows it has.
//!
//! It knows an allow-list of nodes; anything else ends it, and the statement is read as touching whole tables. The
//! nodes are in files of their own; here are what the walk returns and what it carries along.

mod columns;
mod expressions;
mod from;
mod functions;
mod queries;

use crate::analyse::outline::Outline;
use crate::analyse::scope::{NotUnderstood, Scope, folded, not_understood};
use crate::facts::{StatementFacts, TableFacts};
use convoy_query_index::FieldSet;
use convoy_types::RelationId;
use sqlparser::ast::Select;

/// Expressions and subqueries nested deeper are not walked.
const DEPTH_MAX: usize = 100;

/// One of the statement's SELECTs, walked.
#[derive(Debug)]
pub(crate) struct WalkedSelect<'a> {
    pub(crate) select: &'a Select,
    pub(crate) scope: Scope<'a>,
    /// The columns mentioned, for each of the scope's sources.
    pub(crate) fields: Vec<FieldSet>,
    /// Those of them that decide which rows the result has, and not only what it shows of them.
    pub(crate) deciding: Vec<FieldSet>,
    /// Whether window functions are called outside of subqueries.
    pub(crate) has_window: bool,
    /// Whether aggregates are called outside of subqueries.
    pub(crate) has_aggregate: bool,
    /// Whether its rows may be more than those of its FROM, or its aggregates belong elsewhere than it looks.
    pub(crate) rows_uncertain: bool,
}

/// A statement, walked.
#[derive(Debug)]
pub(crate) struct Walked<'a> {
    pub(crate) outline: &'a Outline<'a>,
    pub(crate) selects: Vec<WalkedSelect<'a>>,
    /// Tables that stand in subqueries, WITH queries or functions' arguments.
    pub(crate) inner: Vec<RelationId>,
}

/// Walks a statement.
pub(crate) fn walk<'a>(
    outline: &'a Outline<'a>,
    facts: &'a StatementFacts,
) -> Result<Walked<'a>, NotUnderstood> {
    let mut with_names = Vec::new();
    let mut inner = Vec::new();
    if let Some(with) = outline.with {
        let nowhere = Scope::default();
        let mut walker = Walker::new(facts, &nowhere, &mut with_names, &mut inner);
        walker.nesting = 1;
        walker.with(with)?;
    }
    // Those of subqueries are not visible out here.
    let of_outermost = outline.with.iter().flat_map(|with| &with.cte_tables);
    let visible: Vec<_> = of_outermost.filter_map(|cte| folded(&cte.alias.name)).collect();
    let mut selects = Vec::new();
    for &select in &outline.selects {
        let scope = Scope::of(facts, &select.from, select.selection.as_ref(), &visible)?;
        let mut walker = Walker::new(facts, &scope, &mut with_names, &mut inner);
        walker.select_body(select)?;
        if outline.selects.len() == 1 {
            walker.outermost_tail(outline, select)?;
        }
        let Walker { fields, deciding, has_aggregate, has_window, rows_uncertain, .. } = walker;
        let has_aggregate = has_aggregate || select.having.is_some();
        selects.push(WalkedSelect {
            select,
            scope,
            fields,
            deciding,
            has_window,
            has_aggregate,
            rows_uncertain,
        });
    }
    if outline.selects.len() > 1 {
        let nowhere = Scope::default();
        Walker::new(facts, &nowhere, &mut with_names, &mut inner).tail(outline.query)?;
    }
    Ok(Walked { outline, selects, inner })
}

/// The walk through one SELECT of the outermost query.
struct Walker<'a, 'w> {
    facts: &'a StatementFacts,
    scope: &'w Scope<'a>,
    fields: Vec<FieldSet>,
    /// The names of all WITH queries so far; a name among them may or may not be a table's.
    with_names: &'w mut Vec<String>,
    inner: &'w mut Vec<RelationId>,
    /// How many subqueries deep.
    nesting: usize,
    depth: usize,
    /// Inside an aggregate of a subquery: one over columns from further out alone belongs further out.
    in_inner_aggregate: bool,
    /// In a subquery that stands where an aggregate may belong to the outermost SELECT.
    aggregates_matter: bool,
    /// The tables in the FROM of the subquery that is walked, by whose columns unqualified names go first.
    inner_tables: Vec<&'a TableFacts>,
    /// What is mentioned here decides which rows there are.
    decides: bool,
    deciding: Vec<FieldSet>,
    has_window: bool,
    /// In the select list, GROUP BY or ORDER BY, where a function may multiply rows.
    multiplies_here: bool,
    has_aggregate: bool,
    rows_uncertain: bool,
}

impl<'a, 'w> Walker<'a, 'w> {
    fn new(
        facts: &'a StatementFacts,
        scope: &'w Scope<'a>,
        with_names: &'w mut Vec<String>,
        inner: &'w mut Vec<RelationId>,
    ) -> Self {
        Walker {
            facts,
            scope,
            fields: vec![FieldSet::default(); scope.sources.len()],
            with_names,
            inner,
            nesting: 0,
            depth: 0,
            in_inner_aggregate: false,
            aggregates_matter: false,
            inner_tables: Vec::new(),
            decides: true,
            deciding: vec![FieldSet::default(); scope.sources.len()],
            has_window: false,
            multiplies_here: false,
            has_aggregate: false,
            rows_uncertain: false,
        }
    }

    fn nested<T>(
        &mut self,
        walk: impl FnOnce(&mut Self) -> Result<T, NotUnderstood>,
    ) -> Result<T, NotUnderstood> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return not_understood("it nests too deep");
        }
        let result = walk(self);
        self.depth -= 1;
        result
    }
}
