//! FROM in subqueries, and what else than tables stands in the outermost one.
//!
//! The tables of the outermost FROM are the [`Scope`](crate::analyse::scope::Scope)'s; those found here count as a
//! whole.

use super::Walker;
use crate::analyse::scope::{NotUnderstood, Relation, name_parts, not_understood, relation};
use sqlparser::ast::JoinOperator::{
    CrossJoin, FullOuter, Inner, Join, Left, LeftOuter, Right, RightOuter,
};
use sqlparser::ast::{JoinConstraint, TableFactor, TableWithJoins};

impl<'a> Walker<'a, '_> {
    pub(super) fn join_constraint(
        &mut self,
        constraint: &'a JoinConstraint,
    ) -> Result<(), NotUnderstood> {
        match constraint {
            JoinConstraint::On(condition) => self.expr(condition)?,
            JoinConstraint::Using(columns) => {
                for column in columns {
                    let Some(parts) = name_parts(column) else {
                        return not_understood("a name is oddly quoted");
                    };
                    parts.iter().for_each(|name| self.add_wherever(name));
                }
            }
            JoinConstraint::Natural => self.add_everything(),
            JoinConstraint::None => {}
        }
        Ok(())
    }

    /// Walks a FROM of a subquery: its tables count as a whole.
    pub(super) fn inner_from(&mut self, item: &'a TableWithJoins) -> Result<(), NotUnderstood> {
        self.nested(|walker| {
            walker.factor(&item.relation)?;
            for join in &item.joins {
                walker.factor(&join.relation)?;
                match &join.join_operator {
                    Join(constraint)
                    | Inner(constraint)
                    | Left(constraint)
                    | LeftOuter(constraint)
                    | Right(constraint)
                    | RightOuter(constraint)
                    | FullOuter(constraint)
                    | CrossJoin(constraint) => {
                        walker.join_constraint(constraint)?;
                    }
                    _ => return not_understood("a kind of join that Postgres does not have"),
                }
            }
            Ok(())
        })
    }

    pub(super) fn factor(&mut self, factor: &'a TableFactor) -> Result<(), NotUnderstood> {
        match factor {
            TableFactor::Table {
                args: None,
                sample: None,
                version: None,
                json_path: None,
                name,
                alias,
                ..
            } => {
                if let [name] = name_parts(name).unwrap_or_default().as_slice()
                    && self.with_names.contains(name)
                {
                    // It may be the table all the same, where the WITH query is not visible.
                    self.inner.extend(
                        self.facts
                            .tables
                            .iter()
                            .filter(|table| table.name == *name)
                            .map(|table| table.id),
                    );
                    return Ok(());
                }
                match relation(self.facts, name, &[])? {
                    Relation::Table(table) => {
                        self.inner.push(table.id);
                        if alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) {
                            self.inner_tables.push(table);
                        }
                    }
                    Relation::Derived => {}
                }
                Ok(())
            }
            TableFactor::Table {
                args: Some(args),
                sample: None,
                version: None,
                json_path: None,
                ..
            } => args.args.iter().try_for_each(|arg| self.argument(arg)),
            TableFactor::Function { args, .. } => {
                args.iter().try_for_each(|arg| self.argument(arg))
            }
            TableFactor::UNNEST { array_exprs, .. } => self.exprs(array_exprs),
            TableFactor::Derived { subquery, sample: None, .. } => self.subquery(subquery),
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let known = self.inner_tables.len();
                self.inner_from(table_with_joins)?;
                if alias.is_some() {
                    self.inner_tables.truncate(known);
                }
                Ok(())
            }
            _ => not_understood("something in FROM is not analysed"),
        }
    }
}
