//! Queries: WITH, SELECT, set operations, ORDER BY and LIMIT, at the outside and in subqueries.

use super::Walker;
use crate::analyse::outline::{Outline, check_query, check_select, is_plain_wildcard, ordinal};
use crate::analyse::scope::{NotUnderstood, folded, not_understood};
use sqlparser::ast::{
    Distinct, Expr, GroupByExpr, LimitClause, NamedWindowExpr, OrderBy, OrderByKind, Query, Select,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, With,
};

impl<'a> Walker<'a, '_> {
    pub(super) fn with(&mut self, with: &'a With) -> Result<(), NotUnderstood> {
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return not_understood("a WITH clause is not analysed");
            }
            let Some(name) = folded(&cte.alias.name) else {
                return not_understood("a name is too long");
            };
            self.with_names.push(name);
        }
        with.cte_tables.iter().try_for_each(|cte| self.subquery(&cte.query))
    }

    pub(super) fn subquery(&mut self, query: &'a Query) -> Result<(), NotUnderstood> {
        let (multiplies_here, in_aggregate) = (self.multiplies_here, self.in_inner_aggregate);
        if self.nesting == 0 {
            self.aggregates_matter = multiplies_here;
        }
        self.nesting += 1;
        self.multiplies_here = false;
        self.in_inner_aggregate = false;
        let result = self.nested(|walker| {
            check_query(query)?;
            if let Some(with) = &query.with {
                walker.with(with)?;
            }
            walker.body(&query.body)?;
            walker.tail(query)
        });
        self.nesting -= 1;
        self.multiplies_here = multiplies_here;
        self.in_inner_aggregate = in_aggregate;
        result
    }

    pub(super) fn body(&mut self, body: &'a SetExpr) -> Result<(), NotUnderstood> {
        self.nested(|walker| match body {
            SetExpr::Select(select) => {
                check_select(select)?;
                let tables_around = std::mem::take(&mut walker.inner_tables);
                select.from.iter().try_for_each(|item| walker.inner_from(item))?;
                if let Some(selection) = &select.selection {
                    walker.expr(selection)?;
                }
                walker.select_list(select)?;
                walker.inner_tables = tables_around;
                Ok(())
            }
            SetExpr::Query(query) => walker.subquery(query),
            SetExpr::SetOperation { left, right, .. } => {
                walker.body(left)?;
                walker.body(right)
            }
            SetExpr::Values(values) => values
                .rows
                .iter()
                .flat_map(|row| row.content.iter())
                .try_for_each(|value| walker.expr(value)),
            _ => not_understood("a subquery is not made of SELECTs"),
        })
    }

    /// Walks an item of a select list.
    fn shown(&mut self, item: &'a SelectItem) -> Result<(), NotUnderstood> {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                self.expr(expr)?;
            }
            SelectItem::Wildcard(options) if is_plain_wildcard(options) => {
                if self.nesting == 0 {
                    self.add_everything();
                }
            }
            SelectItem::QualifiedWildcard(kind, options) if is_plain_wildcard(options) => {
                match kind {
                    SelectItemQualifiedWildcardKind::ObjectName(name) => self.row(name)?,
                    SelectItemQualifiedWildcardKind::Expr(expr) => self.expr(expr)?,
                }
            }
            _ => return not_understood("a select list is not analysed"),
        }
        Ok(())
    }

    /// Walks what comes behind the outermost SELECT: where rows are counted off, their order decides which there are.
    pub(super) fn outermost_tail(
        &mut self,
        outline: &'a Outline<'a>,
        select: &'a Select,
    ) -> Result<(), NotUnderstood> {
        self.decides = outline.counts_rows();
        self.tail(outline.query)?;
        let items = if self.decides { outline.order_items()? } else { &[] };
        for item in items {
            if let Some(position) = self.ordered_output(&item.expr) {
                self.output(select, position)?;
            }
        }
        Ok(())
    }

    /// Returns the column of the result that an item of ORDER BY is, by its position, if it is one: a bare name is first
    /// of all one of those (PostgreSQL manual, SELECT, "ORDER BY").
    fn ordered_output(&self, expr: &Expr) -> Option<usize> {
        match expr {
            Expr::Nested(inner) => self.ordered_output(inner),
            Expr::Identifier(ident) => {
                let name = folded(ident)?;
                self.facts.columns.iter().position(|column| column.name == name)
            }
            expr => ordinal(expr),
        }
    }

    /// Walks what a column of the result shows, which decides something; everything does, where a `*` before it hides which
    /// item that is.
    fn output(&mut self, select: &'a Select, position: usize) -> Result<(), NotUnderstood> {
        let is_wild = |item: &SelectItem| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        };
        let mut before = select.projection.iter().take(position + 1);
        match select.projection.get(position) {
            Some(item) if !before.any(is_wild) => self.shown(item),
            _ => {
                for (deciding, fields) in self.deciding.iter_mut().zip(&self.fields) {
                    deciding.union_with(fields);
                }
                Ok(())
            }
        }
    }

    /// Walks ORDER BY, LIMIT, OFFSET, FETCH.
    pub(super) fn tail(&mut self, query: &'a Query) -> Result<(), NotUnderstood> {
        match &query.order_by {
            None => {}
            Some(OrderBy { kind: OrderByKind::Expressions(items), interpolate: None }) => {
                self.multiplies_here = self.nesting == 0;
                self.order_by(items)?;
                self.multiplies_here = false;
            }
            Some(_) => return not_understood("an ORDER BY is no list"),
        }
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                limit.iter().try_for_each(|limit| self.expr(limit))?;
                offset.iter().try_for_each(|offset| self.expr(&offset.value))?;
            }
            Some(_) => return not_understood("a LIMIT is not analysed"),
        }
        query
            .fetch
            .iter()
            .filter_map(|fetch| fetch.quantity.as_ref())
            .try_for_each(|quantity| self.expr(quantity))
    }

    /// Walks an outermost SELECT, whose FROM the scope has read.
    pub(super) fn select_body(&mut self, select: &'a Select) -> Result<(), NotUnderstood> {
        let scope = self.scope;
        for factor in &scope.factors {
            self.factor(factor)?;
        }
        for constraint in &scope.joins {
            self.join_constraint(constraint)?;
        }
        if let Some(selection) = &select.selection {
            self.expr(selection)?;
        }
        self.multiplies_here = true;
        let result = self.select_list(select);
        self.multiplies_here = false;
        result
    }

    /// Walks what a SELECT has besides FROM and WHERE.
    pub(super) fn select_list(&mut self, select: &'a Select) -> Result<(), NotUnderstood> {
        match &select.distinct {
            None | Some(Distinct::All | Distinct::Distinct) => {}
            Some(Distinct::On(exprs)) => self.exprs(exprs)?,
        }
        let decides = self.decides;
        self.decides &= self.nesting > 0;
        let shown = select.projection.iter().try_for_each(|item| self.shown(item));
        self.decides = decides;
        shown?;
        match &select.group_by {
            GroupByExpr::Expressions(groups, modifiers) if modifiers.is_empty() => {
                self.exprs(groups)?;
            }
            _ => return not_understood("a GROUP BY is not analysed"),
        }
        if let Some(having) = &select.having {
            self.expr(having)?;
        }
        for window in &select.named_window {
            match &window.1 {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => self.window(spec)?,
            }
        }
        Ok(())
    }
}
