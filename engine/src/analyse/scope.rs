//! Which tables a SELECT's FROM names, which conditions each of them must meet, and what a column's name means there.

use crate::analyse::joins::{ColumnRef, JoinKind, MergedColumn, Nulled, Requirement, conjuncts};
use crate::facts::{ColumnFacts, StatementFacts, TableFacts, TableKind};
use convoy_query_index::FieldId;
use sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, TableAlias,
    TableFactor, TableWithJoins,
};
use std::ops::Range;
use std::sync::Arc;

/// Why something was not understood: the middle of a sentence for `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood(pub(crate) String);

/// Returns that something was not understood.
pub(crate) fn not_understood<T>(why: impl Into<String>) -> Result<T, NotUnderstood> {
    Err(NotUnderstood(why.into()))
}

/// Names longer than this are cut by Postgres (`NAMEDATALEN` - 1), and so may be another's.
const NAME_BYTES_MAX: usize = 63;

/// Returns an identifier as Postgres takes it: folded to lower case unless quoted.
pub(crate) fn folded(ident: &Ident) -> Option<String> {
    let name = match ident.quote_style {
        None => ident.value.to_ascii_lowercase(),
        Some('"') => ident.value.clone(),
        Some(_) => return None,
    };
    (name.len() <= NAME_BYTES_MAX).then_some(name)
}

/// Returns the parts of a plain name.
pub(crate) fn name_parts(name: &ObjectName) -> Option<Vec<String>> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => folded(ident),
            ObjectNamePart::Function(_) => None,
        })
        .collect()
}

/// A table in a FROM.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) table: &'a Arc<TableFacts>,
    /// The name by which its columns are called: the alias, else the table's.
    pub(crate) name: String,
    /// Whether the name is an alias; then the table's own name is not visible.
    pub(crate) aliased: bool,
    /// What must be true of the rows that one of it is joined with, and of it, for it to matter.
    pub(crate) requirements: Vec<Requirement<'a>>,
    /// The sources that are null together with it where an outer join finds no match: what a condition further out
    /// says of those, a row of it may make untrue and still matter.
    pub(crate) nulled: Vec<Nulled>,
}

/// What a name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    /// A column of the source at this position.
    Column(usize, FieldId),
    /// The whole row of the source at this position.
    Row(usize),
    /// A name of a known source that is none of its columns: a function's, or a system column.
    Odd(usize),
    /// Several sources have it (`USING`).
    Several,
    /// Nothing of the known sources.
    Elsewhere,
}

/// A FROM.
#[derive(Debug, Default)]
pub(crate) struct Scope<'a> {
    pub(crate) sources: Vec<Source<'a>>,
    /// Whether there is more in it than tables: subqueries, functions, views, WITH queries.
    pub(crate) more: bool,
    /// What else is written in it, for the walk: joins' conditions, functions' arguments, subqueries.
    pub(crate) factors: Vec<&'a TableFactor>,
    pub(crate) joins: Vec<&'a JoinConstraint>,
    /// The columns that `USING` and `NATURAL` merge, inner ones first.
    pub(crate) merged: Vec<MergedColumn>,
    /// Whether a `NATURAL JOIN` merges columns that are not known.
    pub(crate) merges_unknown: bool,
}

/// A relation's name, looked up.
pub(crate) enum Relation<'a> {
    Table(&'a Arc<TableFacts>),
    /// A view, or the name of a WITH query.
    Derived,
}

/// Looks a relation's name up among those that Postgres says are read.
///
/// `with_names` are the names of WITH queries that may be visible.
pub(crate) fn relation<'a>(
    facts: &'a StatementFacts,
    name: &ObjectName,
    with_names: &[String],
) -> Result<Relation<'a>, NotUnderstood> {
    let parts = name_parts(name).unwrap_or_default();
    let unquoted_only = matches!(name.0.as_slice(), [ObjectNamePart::Identifier(ident)]
        if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("only"));
    if unquoted_only {
        return not_understood("FROM ONLY is not analysed");
    }
    let mut found = match parts.as_slice() {
        [table] if with_names.contains(table) => return Ok(Relation::Derived),
        [table] => facts.tables.iter().filter(|facts| facts.name == *table).collect::<Vec<_>>(),
        [schema, table] => facts
            .tables
            .iter()
            .filter(|facts| facts.name == *table && facts.namespace == *schema)
            .collect(),
        _ => Vec::new(),
    };
    match (found.pop(), found.is_empty()) {
        (Some(table), true) if table.kind == TableKind::View => Ok(Relation::Derived),
        (Some(table), true) => Ok(Relation::Table(table)),
        _ => not_understood(format!(
            "{name} is not, by that name, one of the tables that Postgres says it reads"
        )),
    }
}

impl<'a> Scope<'a> {
    /// Returns the scope of one table alone.
    pub(crate) fn of_table(table: &'a Arc<TableFacts>) -> Self {
        let name = table.name.clone();
        let source =
            Source { table, name, aliased: false, requirements: Vec::new(), nulled: Vec::new() };
        Scope { sources: vec![source], ..Scope::default() }
    }

    /// Reads a FROM and its WHERE.
    pub(crate) fn of(
        facts: &'a StatementFacts,
        from: &'a [TableWithJoins],
        selection: Option<&'a Expr>,
        with_names: &[String],
    ) -> Result<Self, NotUnderstood> {
        let mut scope = Scope::default();
        for item in from {
            scope.add_item(facts, item, with_names)?;
        }
        let twice = |(position, source): (usize, &Source<'_>)| {
            scope.sources[..position].iter().any(|other| other.name == source.name)
        };
        if scope.sources.iter().enumerate().any(twice) {
            return not_understood("two tables go by one name");
        }
        if let Some(selection) = selection {
            let all = scope.all();
            let requirements = conjuncts(selection)
                .into_iter()
                .map(|expr| Requirement::holds(&scope, expr, all.clone()))
                .collect::<Vec<_>>();
            scope.require(all.clone(), &requirements);
            scope.look_at(all, &requirements);
        }
        Ok(scope)
    }

    fn add_item(
        &mut self,
        facts: &'a StatementFacts,
        item: &'a TableWithJoins,
        with_names: &[String],
    ) -> Result<(), NotUnderstood> {
        let start = self.sources.len();
        self.add_factor(facts, &item.relation, with_names)?;
        for Join { relation, global, join_operator } in &item.joins {
            let right = self.sources.len();
            self.add_factor(facts, relation, with_names)?;
            let end = self.sources.len();
            if *global {
                return not_understood("GLOBAL JOIN is not analysed");
            }
            let (kind, constraint) = match join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::CrossJoin(constraint) => (JoinKind::Inner, constraint),
                JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
                    (JoinKind::Left, constraint)
                }
                JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
                    (JoinKind::Right, constraint)
                }
                JoinOperator::FullOuter(constraint) => (JoinKind::Full, constraint),
                _ => return not_understood("a kind of join that Postgres does not have"),
            };
            self.join(kind, start..right, right..end, constraint);
            self.joins.push(constraint);
        }
        Ok(())
    }

    fn add_factor(
        &mut self,
        facts: &'a StatementFacts,
        factor: &'a TableFactor,
        with_names: &[String],
    ) -> Result<(), NotUnderstood> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                with_hints,
                version: None,
                with_ordinality: false,
                partitions,
                json_path: None,
                sample: None,
                index_hints,
            } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => {
                match relation(facts, name, with_names)? {
                    Relation::Derived => self.more = true,
                    Relation::Table(table) => {
                        let aliased = alias.is_some();
                        let name = match alias {
                            None => table.name.clone(),
                            Some(TableAlias { name, columns, at: None, .. })
                                if columns.is_empty() =>
                            {
                                let Some(name) = folded(name) else {
                                    return not_understood("an alias is too long or oddly quoted");
                                };
                                name
                            }
                            Some(_) => return not_understood("an alias renames columns"),
                        };
                        self.sources.push(Source {
                            table,
                            name,
                            aliased,
                            requirements: Vec::new(),
                            nulled: Vec::new(),
                        });
                    }
                }
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.add_item(facts, table_with_joins, with_names)?;
            }
            TableFactor::Table { args: Some(_), sample: None, .. }
            | TableFactor::Derived { sample: None, .. }
            | TableFactor::Function { .. }
            | TableFactor::UNNEST { .. } => {
                self.more = true;
                self.factors.push(factor);
            }
            _ => return not_understood("something in FROM is not analysed"),
        }
        Ok(())
    }

    /// Returns what an unqualified name means.
    pub(crate) fn resolve_name(&self, name: &str) -> Resolved {
        let mut found = Resolved::Elsewhere;
        for (position, source) in self.sources.iter().enumerate() {
            if let Some(field) = source.table.field(name) {
                if found != Resolved::Elsewhere {
                    return Resolved::Several;
                }
                found = Resolved::Column(position, field);
            }
        }
        if found != Resolved::Elsewhere {
            return found;
        }
        self.source(name).map_or(Resolved::Elsewhere, Resolved::Row)
    }

    /// Returns what a qualified name means: `table.column`, `schema.table.column`.
    pub(crate) fn resolve_qualified(&self, parts: &[String]) -> Resolved {
        let (table, column) = match parts {
            [table, column] => (self.source(table), column),
            [schema, table, column] => {
                let named = self.source(table).filter(|&position| {
                    let source = &self.sources[position];
                    !source.aliased && source.table.namespace == *schema
                });
                (named, column)
            }
            _ => return Resolved::Elsewhere,
        };
        let Some(position) = table else { return Resolved::Elsewhere };
        match self.sources[position].table.field(column) {
            Some(field) => Resolved::Column(position, field),
            None => Resolved::Odd(position),
        }
    }

    /// Returns the position of the source that goes by this name.
    pub(crate) fn source(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|source| source.name == name)
    }

    /// Returns the column that an expression is, if it is one and it is certain which, where the sources of this range
    /// are visible.
    pub(crate) fn column(&self, expr: &Expr, visible: &Range<usize>) -> Option<ColumnRef> {
        match expr {
            Expr::Nested(inner) => self.column(inner, visible),
            Expr::Identifier(ident) => self.visible_column(&folded(ident)?, visible),
            Expr::CompoundIdentifier(idents) => {
                let parts = idents.iter().map(folded).collect::<Option<Vec<_>>>()?;
                match self.resolve_qualified(&parts) {
                    Resolved::Column(position, field) => Some((position, field)),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Returns what is known of a column.
    pub(crate) fn facts_of(&self, (source, field): ColumnRef) -> &'a ColumnFacts {
        self.sources[source].table.column(field)
    }

    /// Returns the range of all sources.
    pub(crate) fn all(&self) -> Range<usize> {
        0..self.sources.len()
    }
}
