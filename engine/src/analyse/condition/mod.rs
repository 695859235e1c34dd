//! Conditions: from an expression of SQL to a [`Condition`] on one table's row.
//!
//! A comparison is taken only where Postgres compares as our keys do: in the column's own type, or in one whose keys
//! are the same (int2, int4, int8; text, varchar; float4, float8). Anything else is [`Condition::Unknown`], which is
//! always safe. What a literal or parameter is before it meets a column, `comparand` says.

mod elements;
mod json;
mod patterns;

use crate::analyse::comparand::Comparand;
use crate::analyse::constants::Constants;
use crate::analyse::equal_columns::ColumnMap;
use crate::analyse::scope::Scope;
use crate::analyse::type_name::last_name;
use crate::derived::DerivedField;
use crate::facts::{ColumnFacts, ParamType, StatementFacts};
use crate::template::{SlotReads, SlotSpec};
use convoy_query_index::{CompareOp, Condition, FieldId, Operand, SlotId};
use convoy_types::{Collation, PgType};
use elements::ArrayOp;
pub(crate) use patterns::Pattern;
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};
use std::ops::Range;

/// Expressions nested deeper are not read.
const DEPTH_MAX: usize = 100;

/// Slots beyond this many are not made; a comparison with one more is unknown.
const SLOTS_MAX: usize = 1000;

/// Reads conditions on one source of a scope.
pub(crate) struct ConditionReader<'a, 'b> {
    pub(crate) scope: &'b Scope<'a>,
    /// Which columns count as the source's: its own, and those that equal them.
    pub(crate) columns: &'b ColumnMap,
    /// The sources that are visible where the condition stands.
    pub(crate) visible: Range<usize>,
    pub(crate) facts: &'a StatementFacts,
    pub(crate) constants: &'b mut Constants,
    pub(crate) slots: &'b mut Vec<SlotSpec>,
    /// The values inside of jsonb columns that conditions are on; none where only columns may be.
    derived: Option<&'b mut Vec<DerivedField>>,
    /// How many NOTs the condition stands under that is being read.
    negations: usize,
}

/// What a condition is on: a field of the row, as what Postgres compares it.
#[derive(Clone, Debug)]
struct Subject {
    field: FieldId,
    ty: PgType,
    type_oid: u32,
    type_name: String,
    collation: Collation,
}

impl Subject {
    fn has_equality(&self) -> bool {
        self.ty.has_equality(self.collation)
    }
}

impl<'a, 'b> ConditionReader<'a, 'b> {
    /// Returns a reader of conditions that stand where all of a scope is visible.
    pub(crate) fn new(
        scope: &'b Scope<'a>,
        columns: &'b ColumnMap,
        facts: &'a StatementFacts,
        constants: &'b mut Constants,
        slots: &'b mut Vec<SlotSpec>,
    ) -> Self {
        let visible = scope.all();
        let (derived, negations) = (None, 0);
        ConditionReader { scope, columns, visible, facts, constants, slots, derived, negations }
    }

    /// Lets conditions be on values inside of jsonb columns too.
    pub(crate) fn with_derived(self, derived: &'b mut Vec<DerivedField>) -> Self {
        ConditionReader { derived: Some(derived), ..self }
    }

    /// Reads an expression; true for exactly the rows that Postgres finds it true for, but for what is unknown.
    pub(crate) fn read(&mut self, expr: &Expr) -> Condition {
        self.read_at(expr, 0)
    }

    fn read_at(&mut self, expr: &Expr, depth: usize) -> Condition {
        if depth > DEPTH_MAX {
            return Condition::Unknown;
        }
        let depth = depth + 1;
        match expr {
            Expr::Nested(inner) => self.read_at(inner, depth),
            Expr::BinaryOp { op: op @ (BinaryOperator::And | BinaryOperator::Or), .. } => {
                let parts = chain(expr, op)
                    .into_iter()
                    .map(|part| self.read_at(part, depth))
                    .collect::<Vec<_>>();
                match op {
                    BinaryOperator::And if parts.iter().all(|part| *part == Condition::Unknown) => {
                        Condition::Unknown
                    }
                    BinaryOperator::And => Condition::And(parts),
                    _ if parts.contains(&Condition::Unknown) => Condition::Unknown,
                    _ => Condition::Or(parts),
                }
            }
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => {
                self.negations += 1;
                let inner = self.read_at(expr, depth);
                self.negations -= 1;
                negate(inner)
            }
            Expr::BinaryOp { left, op, right } => match op {
                BinaryOperator::PGStartsWith => self.starts_with(left, right),
                BinaryOperator::AtArrow => self.contains(left, right),
                BinaryOperator::ArrowAt => self.contains(right, left),
                BinaryOperator::PGOverlap => self
                    .arrays(left, ArrayOp::Overlaps, right)
                    .or_else(|| self.arrays(right, ArrayOp::Overlaps, left)),
                op => compare_op(op).map(|op| self.compare_either_way(left, op, right)),
            }
            .unwrap_or(Condition::Unknown),
            Expr::Like { negated, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern, *negated)
            }
            Expr::Function(function) => self.function(function).unwrap_or(Condition::Unknown),
            Expr::Between { expr, negated, low, high } => {
                match (self.subject(expr), self.value(low), self.value(high)) {
                    (Some(subject), Some(low), Some(high)) => {
                        let low = self.compare(&subject, CompareOp::Ge, &low);
                        let high = self.compare(&subject, CompareOp::Le, &high);
                        if low == Condition::Unknown || high == Condition::Unknown {
                            return Condition::Unknown;
                        }
                        let between = Condition::And(vec![low, high]);
                        if *negated { negate(between) } else { between }
                    }
                    _ => Condition::Unknown,
                }
            }
            Expr::InList { expr, list, negated } => {
                let found = self.in_list(expr, list);
                if *negated { negate(found) } else { found }
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => {
                match self.any_element(left, right) {
                    Some(found) => found,
                    None => self.any(left, right),
                }
            }
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => {
                negate(self.any(left, right))
            }
            Expr::IsNull(inner) => self.null_test(inner, Condition::IsNull),
            Expr::IsNotNull(inner) => self.null_test(inner, Condition::IsNotNull),
            Expr::IsUnknown(inner) if self.is_bool(inner) => {
                self.null_test(inner, Condition::IsNull)
            }
            Expr::IsNotUnknown(inner) if self.is_bool(inner) => {
                self.null_test(inner, Condition::IsNotNull)
            }
            Expr::IsTrue(inner) => self.is_bool_value(inner, "t"),
            Expr::IsNotTrue(inner) => negate(self.is_bool_value(inner, "t")),
            Expr::IsFalse(inner) => self.is_bool_value(inner, "f"),
            Expr::IsNotFalse(inner) => negate(self.is_bool_value(inner, "f")),
            Expr::IsNotDistinctFrom(left, right) => self.not_distinct(left, right),
            Expr::IsDistinctFrom(left, right) => negate(self.not_distinct(left, right)),
            Expr::Value(literal) => match literal.value {
                Value::Boolean(true) => Condition::always(),
                Value::Boolean(false) => Condition::Or(Vec::new()),
                _ => Condition::Unknown,
            },
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Cast { .. } => {
                match self.subject(expr) {
                    Some(subject) => self.bool_value(&subject, "t"),
                    None => Condition::Unknown,
                }
            }
            _ => Condition::Unknown,
        }
    }

    /// Returns what a condition is on, if that is a field of the source or a column that equals one.
    fn subject(&mut self, expr: &Expr) -> Option<Subject> {
        if let Some(inner) = collated_by_bytes(expr) {
            let subject = self.subject(inner)?;
            let is_text = matches!(subject.ty, PgType::Text | PgType::Varchar);
            return is_text.then_some(Subject { collation: Collation::ByteOrder, ..subject });
        }
        let Some(column) = self.scope.column(expr, &self.visible) else {
            return self.json_subject(expr);
        };
        let field = self.columns.field(column)?;
        let ColumnFacts { ty, type_oid, type_name, collation, .. } = self.scope.facts_of(column);
        Some(Subject {
            field,
            ty: ty.clone(),
            type_oid: *type_oid,
            type_name: type_name.clone(),
            collation: *collation,
        })
    }

    /// `whole @> part`, of arrays or jsonb.
    fn contains(&mut self, whole: &Expr, part: &Expr) -> Option<Condition> {
        self.arrays(whole, ArrayOp::Contains, part).or_else(|| self.json_contains(whole, part))
    }

    fn value(&self, expr: &Expr) -> Option<Comparand> {
        Comparand::of(expr, self.params())
    }

    fn params(&self) -> &'a [ParamType] {
        &self.facts.params
    }

    /// Returns whether false and null are not one where the condition stands that is being read.
    fn is_negated(&self) -> bool {
        self.negations > 0
    }

    fn is_bool(&mut self, expr: &Expr) -> bool {
        self.subject(expr).is_some_and(|subject| subject.ty == PgType::Bool)
    }

    fn bool_value(&mut self, subject: &Subject, text: &str) -> Condition {
        if subject.ty != PgType::Bool {
            return Condition::Unknown;
        }
        match self.constants.key(&PgType::Bool, "bool", text) {
            Some(key) => Condition::Compare {
                field: subject.field,
                op: CompareOp::Eq,
                operand: Operand::Constant(Some(key)),
            },
            None => Condition::Unknown,
        }
    }

    /// `column IS TRUE`: as `column`, and false for null.
    fn is_bool_value(&mut self, expr: &Expr, text: &str) -> Condition {
        let Some(subject) = self.subject(expr) else { return Condition::Unknown };
        match self.bool_value(&subject, text) {
            Condition::Unknown => Condition::Unknown,
            compare => Condition::And(vec![Condition::IsNotNull(subject.field), compare]),
        }
    }

    fn null_test(&mut self, expr: &Expr, test: impl Fn(FieldId) -> Condition) -> Condition {
        match self.subject(expr) {
            // A composite value IS NULL where all its fields are.
            Some(subject) if subject.ty != PgType::Other => test(subject.field),
            _ => Condition::Unknown,
        }
    }

    fn not_distinct(&mut self, left: &Expr, right: &Expr) -> Condition {
        let (subject, other) = match (self.subject(left), self.subject(right)) {
            (Some(subject), None) => (subject, self.value(right)),
            (None, Some(subject)) => (subject, self.value(left)),
            _ => return Condition::Unknown,
        };
        match other {
            Some(Comparand::Null) if subject.ty != PgType::Other => {
                Condition::IsNull(subject.field)
            }
            // Whether an argument is null is not known here.
            None | Some(Comparand::Param(_) | Comparand::Null) => Condition::Unknown,
            Some(other) => match self.compare(&subject, CompareOp::Eq, &other) {
                Condition::Unknown => Condition::Unknown,
                equal => Condition::And(vec![Condition::IsNotNull(subject.field), equal]),
            },
        }
    }

    fn compare_either_way(&mut self, left: &Expr, op: CompareOp, right: &Expr) -> Condition {
        let (subject, op, other) = match (self.subject(left), self.subject(right)) {
            (Some(subject), None) => (subject, op, self.value(right)),
            (None, Some(subject)) => (subject, mirrored(op), self.value(left)),
            _ => return Condition::Unknown,
        };
        match other {
            Some(other) => self.compare(&subject, op, &other),
            None => Condition::Unknown,
        }
    }

    fn compare(&mut self, subject: &Subject, op: CompareOp, other: &Comparand) -> Condition {
        let comparable = match op {
            CompareOp::Eq | CompareOp::Ne => subject.has_equality(),
            CompareOp::Lt | CompareOp::Le | CompareOp::Gt | CompareOp::Ge => {
                subject.ty.has_order(subject.collation)
            }
        };
        match self.operand(subject, other) {
            Some(operand) if comparable => Condition::Compare { field: subject.field, op, operand },
            _ => Condition::Unknown,
        }
    }

    fn in_list(&mut self, expr: &Expr, list: &[Expr]) -> Condition {
        let Some(subject) = self.subject(expr) else { return Condition::Unknown };
        let Some(values) = list.iter().map(|value| self.value(value)).collect::<Option<Vec<_>>>()
        else {
            return Condition::Unknown;
        };
        // Postgres reads a whole list in one common type, so that a string beside others may not take the column's.
        let untyped = values.iter().any(|value| matches!(value, Comparand::Untyped(_)));
        let foreign = values.iter().any(|value| match value {
            Comparand::Untyped(_) | Comparand::Null => false,
            Comparand::Integer(_) => matches!(subject.ty, PgType::Float4 | PgType::Float8),
            Comparand::Decimal(_) => subject.ty != PgType::Numeric,
            Comparand::Typed(ty, ..) => !same_input(&subject.ty, ty),
            Comparand::Param(param) => {
                self.params().get(*param).is_none_or(|param| !same_input(&subject.ty, &param.ty))
            }
        });
        // Beside a float4, numbers become float4s, which a lone comparison does not make of them.
        let odd = foreign && (untyped || subject.ty == PgType::Float4);
        if odd || !subject.has_equality() {
            return Condition::Unknown;
        }
        match values.iter().map(|value| self.operand(&subject, value)).collect() {
            Some(operands) => Condition::In { field: subject.field, operands },
            None => Condition::Unknown,
        }
    }

    /// `column = ANY($1)`
    fn any(&mut self, left: &Expr, right: &Expr) -> Condition {
        let (Some(subject), Some(Comparand::Param(position))) =
            (self.subject(left), self.value(right))
        else {
            return Condition::Unknown;
        };
        let Some(param) = self.params().get(position) else { return Condition::Unknown };
        let PgType::Array(element) = &param.ty else { return Condition::Unknown };
        // Postgres compares an enum with its own kind alone, so that the array's is the column's.
        let same = (&subject.ty, &**element) == (&PgType::Enum, &PgType::Enum)
            || same_keys(&subject.ty, element);
        if !same || !subject.has_equality() {
            return Condition::Unknown;
        }
        let spec =
            SlotSpec { param: position, ty: (**element).clone(), reads: SlotReads::Elements };
        match self.slot(spec) {
            Some(slot) => Condition::In { field: subject.field, operands: vec![slot] },
            None => Condition::Unknown,
        }
    }

    fn slot(&mut self, spec: SlotSpec) -> Option<Operand> {
        let position = match self.slots.iter().position(|other| *other == spec) {
            Some(position) => position,
            None if self.slots.len() < SLOTS_MAX => {
                self.slots.push(spec);
                self.slots.len() - 1
            }
            None => return None,
        };
        Some(Operand::Slot(SlotId(u16::try_from(position).ok()?)))
    }

    /// Returns what a column is compared with, or none where Postgres may compare in another way than keys do.
    fn operand(&mut self, subject: &Subject, other: &Comparand) -> Option<Operand> {
        let ty = subject.ty.clone();
        let (ty, text) = match other {
            Comparand::Null => return Some(Operand::Constant(None)),
            Comparand::Param(position) => {
                let param = self.params().get(*position)?;
                let same = match ty {
                    PgType::Enum => param.type_oid == subject.type_oid,
                    _ => same_keys(&ty, &param.ty),
                };
                let spec =
                    SlotSpec { param: *position, ty: param.ty.clone(), reads: SlotReads::Value };
                return if same { self.slot(spec) } else { None };
            }
            Comparand::Untyped(text) => (ty, text),
            Comparand::Typed(stated, name, text) => {
                let same = match (&ty, stated, name) {
                    // Postgres has taken the comparison, so the enum of that name is the column's.
                    (PgType::Enum, PgType::Other, Some(name)) => {
                        last_name(&subject.type_name) == *name
                    }
                    (_, stated, None) => same_keys(&ty, stated),
                    _ => false,
                };
                if !same {
                    return None;
                }
                (if ty == PgType::Enum { ty } else { stated.clone() }, text)
            }
            Comparand::Integer(text) | Comparand::Decimal(text) => {
                let whole = matches!(other, Comparand::Integer(_));
                let ty = match ty {
                    PgType::Int2 | PgType::Int4 | PgType::Int8 if whole => PgType::Int8,
                    PgType::Numeric => PgType::Numeric,
                    // Postgres compares a float4 with a number as float8.
                    PgType::Float4 | PgType::Float8 => PgType::Float8,
                    _ => return None,
                };
                (ty, text)
            }
        };
        self.constants.key(&ty, &subject.type_name, text).map(|key| Operand::Constant(Some(key)))
    }
}

/// Returns the parts of `a AND b AND c`, however many: they nest to the left, so this must not recurse.
pub(crate) fn chain<'e>(expr: &'e Expr, op: &BinaryOperator) -> Vec<&'e Expr> {
    let (mut parts, mut rest) = (Vec::new(), expr);
    while let Expr::BinaryOp { left, op: other, right } = rest {
        if other != op {
            break;
        }
        parts.push(&**right);
        rest = left;
    }
    parts.push(rest);
    parts.reverse();
    parts
}

fn negate(condition: Condition) -> Condition {
    match condition {
        Condition::Unknown => Condition::Unknown,
        condition => Condition::Not(Box::new(condition)),
    }
}

fn compare_op(op: &BinaryOperator) -> Option<CompareOp> {
    Some(match op {
        BinaryOperator::Eq => CompareOp::Eq,
        BinaryOperator::NotEq => CompareOp::Ne,
        BinaryOperator::Lt => CompareOp::Lt,
        BinaryOperator::LtEq => CompareOp::Le,
        BinaryOperator::Gt => CompareOp::Gt,
        BinaryOperator::GtEq => CompareOp::Ge,
        _ => return None,
    })
}

/// Returns what stands under a `COLLATE "C"`, which Postgres always finds in pg_catalog.
fn collated_by_bytes(expr: &Expr) -> Option<&Expr> {
    match expr {
        Expr::Nested(inner) => collated_by_bytes(inner),
        Expr::Collate { expr, collation } => {
            let parts: Vec<String> = collation.0.iter().map(ToString::to_string).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            matches!(parts[..], ["\"C\""] | ["pg_catalog", "\"C\""]).then_some(expr)
        }
        _ => None,
    }
}

fn mirrored(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq | CompareOp::Ne => op,
        CompareOp::Lt => CompareOp::Gt,
        CompareOp::Le => CompareOp::Ge,
        CompareOp::Gt => CompareOp::Lt,
        CompareOp::Ge => CompareOp::Le,
    }
}

/// Returns whether values of the two types are compared by Postgres as their keys are.
pub(crate) fn same_keys(column: &PgType, other: &PgType) -> bool {
    use PgType::{Array, Enum, Float4, Float8, Int2, Int4, Int8, Jsonb, Other, Text, Varchar};
    match (column, other) {
        (Int2 | Int4 | Int8, Int2 | Int4 | Int8)
        | (Text | Varchar, Text | Varchar)
        | (Float4 | Float8, Float4 | Float8) => true,
        (Enum | Array(_) | Jsonb | Other, _) => false,
        (column, other) => column == other,
    }
}

/// Returns whether a string reads as the same value of both types.
fn same_input(column: &PgType, other: &PgType) -> bool {
    column == other
        || (same_keys(column, other) && !matches!(column, PgType::Float4 | PgType::Float8))
}
