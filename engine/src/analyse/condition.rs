//! Conditions: from an expression of SQL to a [`Condition`] on one table's row.
//!
//! A comparison is taken only where Postgres compares as our keys do: in the column's own type, or in one whose keys
//! are the same (int2, int4, int8; text, varchar; float4, float8). Anything else is [`Condition::Unknown`], which is
//! always safe. What a literal or parameter is before it meets a column, `comparand` says.

use crate::analyse::comparand::Comparand;
use crate::analyse::constants::Constants;
use crate::analyse::scope::Scope;
use crate::analyse::type_name::last_name;
use crate::facts::{ColumnFacts, ParamType};
use crate::template::SlotSpec;
use convoy_query_index::{CompareOp, Condition, FieldId, Operand, SlotId};
use convoy_types::PgType;
use sqlparser::ast::{BinaryOperator, Expr, UnaryOperator, Value};

/// Expressions nested deeper are not read.
const DEPTH_MAX: usize = 100;

/// Slots beyond this many are not made; a comparison with one more is unknown.
const SLOTS_MAX: usize = 1000;

/// Reads conditions on one source of a scope.
pub(crate) struct ConditionReader<'a, 'b> {
    pub(crate) scope: &'b Scope<'a>,
    /// Which of the scope's sources.
    pub(crate) source: usize,
    pub(crate) params: &'a [ParamType],
    pub(crate) constants: &'b mut Constants,
    pub(crate) slots: &'b mut Vec<SlotSpec>,
}

impl ConditionReader<'_, '_> {
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
            Expr::UnaryOp { op: UnaryOperator::Not, expr } => negate(self.read_at(expr, depth)),
            Expr::BinaryOp { left, op, right } => match compare_op(op) {
                Some(op) => self.compare_either_way(left, op, right),
                None => Condition::Unknown,
            },
            Expr::Between { expr, negated, low, high } => {
                match (self.field(expr), self.value(low), self.value(high)) {
                    (Some(field), Some(low), Some(high)) => {
                        let low = self.compare(field, CompareOp::Ge, &low);
                        let high = self.compare(field, CompareOp::Le, &high);
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
                self.any(left, right)
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
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => match self.field(expr) {
                Some(field) => self.bool_value(field, "t"),
                None => Condition::Unknown,
            },
            _ => Condition::Unknown,
        }
    }

    fn field(&self, expr: &Expr) -> Option<FieldId> {
        self.scope.column(expr).and_then(|(source, field)| (source == self.source).then_some(field))
    }

    fn value(&self, expr: &Expr) -> Option<Comparand> {
        Comparand::of(expr, self.params)
    }

    fn column(&self, field: FieldId) -> &ColumnFacts {
        self.scope.sources[self.source].table.column(field)
    }

    fn is_bool(&self, expr: &Expr) -> bool {
        self.field(expr).is_some_and(|field| self.column(field).ty == PgType::Bool)
    }

    fn bool_value(&mut self, field: FieldId, text: &str) -> Condition {
        if self.column(field).ty != PgType::Bool {
            return Condition::Unknown;
        }
        match self.constants.key(&PgType::Bool, "bool", text) {
            Some(key) => Condition::Compare {
                field,
                op: CompareOp::Eq,
                operand: Operand::Constant(Some(key)),
            },
            None => Condition::Unknown,
        }
    }

    /// `column IS TRUE`: as `column`, and false for null.
    fn is_bool_value(&mut self, expr: &Expr, text: &str) -> Condition {
        let Some(field) = self.field(expr) else { return Condition::Unknown };
        match self.bool_value(field, text) {
            Condition::Unknown => Condition::Unknown,
            compare => Condition::And(vec![Condition::IsNotNull(field), compare]),
        }
    }

    fn null_test(&self, expr: &Expr, test: impl Fn(FieldId) -> Condition) -> Condition {
        match self.field(expr) {
            // A composite value IS NULL where all its fields are.
            Some(field) if self.column(field).ty != PgType::Other => test(field),
            _ => Condition::Unknown,
        }
    }

    fn not_distinct(&mut self, left: &Expr, right: &Expr) -> Condition {
        let (field, other) = match (self.field(left), self.field(right)) {
            (Some(field), None) => (field, self.value(right)),
            (None, Some(field)) => (field, self.value(left)),
            _ => return Condition::Unknown,
        };
        match other {
            Some(Comparand::Null) if self.column(field).ty != PgType::Other => {
                Condition::IsNull(field)
            }
            // Whether an argument is null is not known here.
            None | Some(Comparand::Param(_) | Comparand::Null) => Condition::Unknown,
            Some(other) => match self.compare(field, CompareOp::Eq, &other) {
                Condition::Unknown => Condition::Unknown,
                equal => Condition::And(vec![Condition::IsNotNull(field), equal]),
            },
        }
    }

    fn compare_either_way(&mut self, left: &Expr, op: CompareOp, right: &Expr) -> Condition {
        let (field, op, other) = match (self.field(left), self.field(right)) {
            (Some(field), None) => (field, op, self.value(right)),
            (None, Some(field)) => (field, mirrored(op), self.value(left)),
            _ => return Condition::Unknown,
        };
        match other {
            Some(other) => self.compare(field, op, &other),
            None => Condition::Unknown,
        }
    }

    fn compare(&mut self, field: FieldId, op: CompareOp, other: &Comparand) -> Condition {
        let column = self.column(field);
        let comparable = match op {
            CompareOp::Eq | CompareOp::Ne => column.ty.has_equality(column.collation),
            CompareOp::Lt | CompareOp::Le | CompareOp::Gt | CompareOp::Ge => {
                column.ty.has_order(column.collation)
            }
        };
        match self.operand(field, other) {
            Some(operand) if comparable => Condition::Compare { field, op, operand },
            _ => Condition::Unknown,
        }
    }

    fn in_list(&mut self, expr: &Expr, list: &[Expr]) -> Condition {
        let Some(field) = self.field(expr) else { return Condition::Unknown };
        let column = self.column(field);
        let Some(values) = list.iter().map(|value| self.value(value)).collect::<Option<Vec<_>>>()
        else {
            return Condition::Unknown;
        };
        // Postgres reads a whole list in one common type, so that a string beside others may not take the column's.
        let untyped = values.iter().any(|value| matches!(value, Comparand::Untyped(_)));
        let foreign = values.iter().any(|value| match value {
            Comparand::Untyped(_) | Comparand::Null => false,
            Comparand::Integer(_) => matches!(column.ty, PgType::Float4 | PgType::Float8),
            Comparand::Decimal(_) => column.ty != PgType::Numeric,
            Comparand::Typed(ty, ..) => !same_input(&column.ty, ty),
            Comparand::Param(param) => {
                self.params.get(*param).is_none_or(|param| !same_input(&column.ty, &param.ty))
            }
        });
        // Beside a float4, numbers become float4s, which a lone comparison does not make of them.
        let odd = foreign && (untyped || column.ty == PgType::Float4);
        if odd || !column.ty.has_equality(column.collation) {
            return Condition::Unknown;
        }
        match values.iter().map(|value| self.operand(field, value)).collect() {
            Some(operands) => Condition::In { field, operands },
            None => Condition::Unknown,
        }
    }

    /// `column = ANY($1)`
    fn any(&mut self, left: &Expr, right: &Expr) -> Condition {
        let (Some(field), Some(Comparand::Param(position))) = (self.field(left), self.value(right))
        else {
            return Condition::Unknown;
        };
        let column = self.column(field);
        let Some(param) = self.params.get(position) else { return Condition::Unknown };
        let PgType::Array(element) = &param.ty else { return Condition::Unknown };
        // Postgres compares an enum with its own kind alone, so that the array's is the column's.
        let same = (&column.ty, &**element) == (&PgType::Enum, &PgType::Enum)
            || same_keys(&column.ty, element);
        if !same || !column.ty.has_equality(column.collation) {
            return Condition::Unknown;
        }
        let spec = SlotSpec { param: position, ty: (**element).clone(), elements: true };
        match self.slot(spec) {
            Some(slot) => Condition::In { field, operands: vec![slot] },
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
    fn operand(&mut self, field: FieldId, other: &Comparand) -> Option<Operand> {
        let column = self.column(field);
        let (ty, type_name) = (column.ty.clone(), column.type_name.clone());
        let (ty, text) = match other {
            Comparand::Null => return Some(Operand::Constant(None)),
            Comparand::Param(position) => {
                let param = self.params.get(*position)?;
                let same = match ty {
                    PgType::Enum => param.type_oid == column.type_oid,
                    _ => same_keys(&ty, &param.ty),
                };
                let spec = SlotSpec { param: *position, ty: param.ty.clone(), elements: false };
                return if same { self.slot(spec) } else { None };
            }
            Comparand::Untyped(text) => (ty, text),
            Comparand::Typed(stated, name, text) => {
                let same = match (&ty, stated, name) {
                    // Postgres has taken the comparison, so the enum of that name is the column's.
                    (PgType::Enum, PgType::Other, Some(name)) => last_name(&type_name) == *name,
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
        self.constants.key(&ty, &type_name, text).map(|key| Operand::Constant(Some(key)))
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
fn same_keys(column: &PgType, other: &PgType) -> bool {
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
