//! Expressions: everything that may stand in one, but for calls of functions.

use super::Walker;
use crate::analyse::scope::{NotUnderstood, folded, not_understood};
use sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CastKind, Expr, Interval, OrderByExpr, Subscript, Value,
};

impl<'a> Walker<'a, '_> {
    pub(super) fn exprs(&mut self, exprs: &'a [Expr]) -> Result<(), NotUnderstood> {
        exprs.iter().try_for_each(|expr| self.expr(expr))
    }

    pub(super) fn order_by(&mut self, items: &'a [OrderByExpr]) -> Result<(), NotUnderstood> {
        items.iter().try_for_each(|item| {
            if item.with_fill.is_some() {
                return not_understood("an ORDER BY is not analysed");
            }
            self.expr(&item.expr)
        })
    }

    pub(super) fn expr(&mut self, expr: &'a Expr) -> Result<(), NotUnderstood> {
        self.nested(|walker| walker.expr_inside(expr))
    }

    pub(super) fn expr_inside(&mut self, expr: &'a Expr) -> Result<(), NotUnderstood> {
        match expr {
            Expr::Identifier(ident) => match folded(ident) {
                Some(name) => self.name(&name),
                None => not_understood("a name is too long or oddly quoted"),
            },
            Expr::CompoundIdentifier(idents) => {
                match idents.iter().map(folded).collect::<Option<Vec<_>>>() {
                    Some(parts) if parts.len() <= 3 => self.qualified(&parts),
                    _ => not_understood("a name is too long or oddly quoted"),
                }
            }
            // These nest to the left, as long as the statement is.
            Expr::BinaryOp { .. } => {
                let mut rest = expr;
                while let Expr::BinaryOp { left, op, right } = rest {
                    if matches!(op, BinaryOperator::Custom(_)) {
                        return not_understood("an operator is not known");
                    }
                    self.expr(right)?;
                    rest = left;
                }
                self.expr(rest)
            }
            Expr::Value(literal) => match literal.value {
                Value::DoubleQuotedString(_) => not_understood("a name is oddly quoted"),
                _ => Ok(()),
            },
            Expr::TypedString(_) => Ok(()),
            Expr::Nested(inner)
            | Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::UnaryOp { expr: inner, .. }
            | Expr::Extract { expr: inner, .. }
            | Expr::Ceil { expr: inner, .. }
            | Expr::Floor { expr: inner, .. }
            | Expr::Collate { expr: inner, .. }
            | Expr::IsNormalized { expr: inner, .. }
            | Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr: inner,
                format: None,
                ..
            }
            | Expr::Interval(Interval { value: inner, .. }) => self.expr(inner),
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::Position { expr: left, r#in: right }
            | Expr::AtTimeZone { timestamp: left, time_zone: right }
            | Expr::AnyOp { left, right, .. }
            | Expr::AllOp { left, right, .. }
            | Expr::InUnnest { expr: left, array_expr: right, .. } => {
                self.expr(left)?;
                self.expr(right)
            }
            Expr::Like { expr, pattern, escape_char, any: false, .. }
            | Expr::ILike { expr, pattern, escape_char, any: false, .. }
            | Expr::SimilarTo { expr, pattern, escape_char, .. } => {
                self.expr(expr)?;
                self.expr(pattern)?;
                escape_char.iter().try_for_each(|escape| self.expr(escape))
            }
            Expr::InList { expr, list, .. } => {
                self.expr(expr)?;
                self.exprs(list)
            }
            Expr::Between { expr, low, high, .. } => {
                self.expr(expr)?;
                self.expr(low)?;
                self.expr(high)
            }
            Expr::Substring { expr, substring_from, substring_for, .. } => {
                self.expr(expr)?;
                substring_from.iter().chain(substring_for).try_for_each(|part| self.expr(part))
            }
            Expr::Trim { expr, trim_what, trim_characters, .. } => {
                self.expr(expr)?;
                trim_what.iter().try_for_each(|what| self.expr(what))?;
                trim_characters.iter().try_for_each(|characters| self.exprs(characters))
            }
            Expr::Overlay { expr, overlay_what, overlay_from, overlay_for } => {
                self.expr(expr)?;
                self.expr(overlay_what)?;
                self.expr(overlay_from)?;
                overlay_for.iter().try_for_each(|part| self.expr(part))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                operand.iter().try_for_each(|operand| self.expr(operand))?;
                for when in conditions {
                    self.expr(&when.condition)?;
                    self.expr(&when.result)?;
                }
                else_result.iter().try_for_each(|result| self.expr(result))
            }
            Expr::Tuple(exprs) | Expr::Array(Array { elem: exprs, .. }) => self.exprs(exprs),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                // Rows of several groupings: no group's expressions tell them apart.
                self.rows_uncertain |= self.nesting == 0;
                sets.iter().try_for_each(|set| self.exprs(set))
            }
            Expr::CompoundFieldAccess { root, access_chain } => {
                self.expr(root)?;
                access_chain.iter().try_for_each(|access| match access {
                    AccessExpr::Subscript(Subscript::Index { index }) => self.expr(index),
                    AccessExpr::Subscript(Subscript::Slice {
                        lower_bound,
                        upper_bound,
                        stride: None,
                    }) => {
                        lower_bound.iter().chain(upper_bound).try_for_each(|bound| self.expr(bound))
                    }
                    _ => not_understood("a field of a composite value is read"),
                })
            }
            Expr::InSubquery { expr, subquery, .. } => {
                self.expr(expr)?;
                self.subquery(subquery)
            }
            Expr::Exists { subquery, .. } | Expr::Subquery(subquery) => self.subquery(subquery),
            Expr::Function(function) => self.function(function),
            _ => not_understood("an expression is not analysed"),
        }
    }
}
