//! Values inside of jsonb columns: `doc->>'k'`, `doc #>> '{a,b}'`, their casts, and `doc @> '{"k": …}'`.
//!
//! They become derived fields. A containment is the conjunction of what it asks of each path; what is not understood
//! is left out, which makes it weaker. Steps into arrays are not taken.

use super::{ConditionReader, Subject};
use crate::analyse::comparand::Comparand;
use crate::analyse::joins::ColumnRef;
use crate::analyse::type_name::plain_type;
use crate::derived::{DerivedField, JsonReads, JsonValue};
use convoy_query_index::{CompareOp, Condition, FieldId, Operand};
use convoy_types::{Collation, Key, PgType, json_elements, json_members};
use sqlparser::ast::{BinaryOperator, CastKind, Expr};

/// Paths with more keys are not read.
const PATH_MAX: usize = 20;

/// A statement has no more derived fields than this.
const DERIVED_MAX: usize = 100;

/// What a containment asks for is not read beyond this many paths.
const PARTS_MAX: usize = 50;

/// Whether a value is all that is asked whether it contains something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// A jsonb column and the keys that lead to a value in it.
type Place = (ColumnRef, Vec<String>);

impl ConditionReader<'_, '_> {
    /// Returns the text of a value in a jsonb, perhaps cast, as something to compare.
    pub(super) fn json_subject(&mut self, expr: &Expr) -> Option<Subject> {
        match expr {
            Expr::Nested(inner) => self.json_subject(inner),
            Expr::BinaryOp { left, op: BinaryOperator::LongArrow, right } => {
                let place = self.step(left, right)?;
                self.json_text(place, PgType::Text)
            }
            Expr::BinaryOp { left, op: BinaryOperator::HashLongArrow, right } => {
                let place = self.steps(left, right)?;
                self.json_text(place, PgType::Text)
            }
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
                ..
            } => {
                let ty = plain_type(data_type)?;
                let is_read = matches!(
                    ty,
                    PgType::Text
                        | PgType::Int2
                        | PgType::Int4
                        | PgType::Int8
                        | PgType::Numeric
                        | PgType::Bool
                        | PgType::Uuid
                );
                let place = if is_read { self.text_place(expr)? } else { return None };
                self.json_text(place, ty)
            }
            _ => None,
        }
    }

    /// Returns what `->>` reads in an expression that is that and no more.
    fn text_place(&self, expr: &Expr) -> Option<Place> {
        match expr {
            Expr::Nested(inner) => self.text_place(inner),
            Expr::BinaryOp { left, op: BinaryOperator::LongArrow, right } => self.step(left, right),
            Expr::BinaryOp { left, op: BinaryOperator::HashLongArrow, right } => {
                self.steps(left, right)
            }
            _ => None,
        }
    }

    /// Returns where an expression of type jsonb has its value: `doc`, `doc->'a'`, `doc #> '{a,b}'`.
    fn place(&self, expr: &Expr) -> Option<Place> {
        match expr {
            Expr::Nested(inner) => self.place(inner),
            Expr::BinaryOp { left, op: BinaryOperator::Arrow, right } => self.step(left, right),
            Expr::BinaryOp { left, op: BinaryOperator::HashArrow, right } => {
                self.steps(left, right)
            }
            _ => {
                let column = self.scope.column(expr, &self.visible)?;
                let is_jsonb = self.scope.facts_of(column).ty == PgType::Jsonb;
                is_jsonb.then(|| (column, Vec::new()))
            }
        }
    }

    /// `place -> 'key'`
    fn step(&self, place: &Expr, key: &Expr) -> Option<Place> {
        let (column, mut path) = self.place(place)?;
        match self.value(key)? {
            Comparand::Untyped(key) | Comparand::Typed(PgType::Text, None, key) => path.push(key),
            _ => return None,
        }
        (path.len() <= PATH_MAX).then_some((column, path))
    }

    /// `place #> '{a,b}'`
    fn steps(&self, place: &Expr, keys: &Expr) -> Option<Place> {
        let (column, mut path) = self.place(place)?;
        let Comparand::Untyped(keys) = self.value(keys)? else { return None };
        let keys = keys.strip_prefix('{')?.strip_suffix('}')?;
        for key in keys.split(',') {
            // A number may be an element's. What needs quotes is not read.
            let is_plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let is_name =
                key.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
            if !is_plain || !is_name || key.eq_ignore_ascii_case("null") {
                return None;
            }
            path.push(key.to_owned());
        }
        (path.len() <= PATH_MAX).then_some((column, path))
    }

    fn json_text(&mut self, place: Place, ty: PgType) -> Option<Subject> {
        let collation = match ty {
            PgType::Text => self.facts.default_collation,
            _ => Collation::None,
        };
        let type_name = ty.name().to_owned();
        let field = self.derived(place, JsonReads::Text(ty.clone()))?;
        // The oid is needed for enums alone.
        Some(Subject { field, ty, type_oid: 0, type_name, collation })
    }

    /// Returns a derived field's number; none where they are not wanted, or too many.
    fn derived(&mut self, (column, path): Place, reads: JsonReads) -> Option<FieldId> {
        let relation = self.scope.sources[column.0].table.id;
        let columns = self.scope.sources[column.0].table.columns.len();
        let value = JsonValue { column: self.columns.field(column)?, path, reads };
        let derived = self.derived.as_deref_mut()?;
        let of_table = || derived.iter().filter(|other| other.relation == relation);
        if let Some(known) = of_table().find(|other| other.value == value) {
            return Some(known.field);
        }
        if derived.len() >= DERIVED_MAX {
            return None;
        }
        let field = FieldId(u16::try_from(columns + of_table().count()).ok()?);
        derived.push(DerivedField { relation, field, value });
        Some(field)
    }

    /// `doc @> '{"k": …}'`
    pub(super) fn json_contains(
        &mut self,
        container: &Expr,
        contained: &Expr,
    ) -> Option<Condition> {
        let place = self.place(container)?;
        let json = match self.value(contained)? {
            Comparand::Untyped(json) | Comparand::Typed(PgType::Jsonb, None, json) => {
                self.constants.json_text(&json)?
            }
            _ => return None,
        };
        let mut parts = Vec::new();
        // `doc->'a' @> …` is null where there is no such value, which is as good as false, but under a NOT.
        let is_exact = place.1.is_empty() || !self.is_negated();
        if !self.contained(&place, Whole::Yes, &json, &mut parts)? || !is_exact {
            parts.push(Condition::Unknown);
        }
        match parts.len() {
            1 => parts.pop().filter(|part| *part != Condition::Unknown),
            _ => Some(Condition::And(parts)),
        }
    }

    /// Adds what is asked of a place; returns whether that is all.
    fn contained(
        &mut self,
        place: &Place,
        whole: Whole,
        json: &str,
        parts: &mut Vec<Condition>,
    ) -> Option<bool> {
        if parts.len() >= PARTS_MAX || place.1.len() > PATH_MAX {
            return Some(false);
        }
        if let Some(members) = json_members(json).ok()? {
            // That there is an object at all is not asked.
            let mut is_all = !members.is_empty();
            for (key, value) in members {
                let mut inner = place.clone();
                inner.1.push(key.into_owned());
                is_all &= self.contained(&inner, Whole::No, value, parts)?;
            }
            return Some(is_all);
        }
        if let Some(elements) = json_elements(json).ok()? {
            let mut is_all = !elements.is_empty();
            for element in elements {
                let is_scalar = !element.starts_with(['[', '{']);
                is_all &= is_scalar;
                if is_scalar {
                    let field = self.derived(place.clone(), JsonReads::Elements)?;
                    let key = Key::of_json(Some(element)).ok()?;
                    let operand = Operand::Constant(Some(key));
                    parts.push(Condition::HasElement { field, operand });
                }
            }
            return Some(is_all);
        }
        // What is asked may be an array that has the scalar.
        if whole == Whole::Yes {
            return Some(false);
        }
        let field = self.derived(place.clone(), JsonReads::Scalar)?;
        let key = Key::of_json(Some(json)).ok()?;
        let operand = Operand::Constant(Some(key));
        parts.push(Condition::Compare { field, op: CompareOp::Eq, operand });
        Some(true)
    }
}
