//! Evaluates conditions on rows, by SQL's logic.

use crate::fields::{FieldId, FieldSet, FieldValue};
use crate::predicate::{CompareOp, Condition, Operand, SlotValue};
use crate::truth::{Possible, Truth};
use convoy_types::Key;
use std::cmp::Ordering;

impl CompareOp {
    /// Returns whether values that compare so are related by the operator.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            CompareOp::Eq => ordering.is_eq(),
            CompareOp::Ne => ordering.is_ne(),
            CompareOp::Lt => ordering.is_lt(),
            CompareOp::Le => ordering.is_le(),
            CompareOp::Gt => ordering.is_gt(),
            CompareOp::Ge => ordering.is_ge(),
        }
    }

    /// Returns the operator that holds between two values where this one does not.
    pub fn negated(self) -> CompareOp {
        match self {
            CompareOp::Eq => CompareOp::Ne,
            CompareOp::Ne => CompareOp::Eq,
            CompareOp::Lt => CompareOp::Ge,
            CompareOp::Le => CompareOp::Gt,
            CompareOp::Gt => CompareOp::Le,
            CompareOp::Ge => CompareOp::Lt,
        }
    }
}

impl Condition {
    /// Returns what the condition says of a row, for a live query with these slots.
    ///
    /// A field behind the end of `fields`, and a slot that is missing or holds an array where one value is meant,
    /// counts as unknown.
    pub fn eval(&self, fields: &[FieldValue], slots: &[SlotValue]) -> Truth {
        self.possible(fields, slots).truth()
    }

    /// Returns whether the condition is the statement's, without a part that we can't evaluate.
    pub fn is_exact(&self) -> bool {
        match self {
            Condition::Unknown => false,
            Condition::And(parts) | Condition::Or(parts) => parts.iter().all(Condition::is_exact),
            Condition::Not(inner) => inner.is_exact(),
            Condition::Compare { .. }
            | Condition::In { .. }
            | Condition::IsNull(_)
            | Condition::IsNotNull(_) => true,
        }
    }

    /// Returns the fields that the condition tests.
    pub fn fields(&self) -> FieldSet {
        let mut fields = FieldSet::default();
        self.collect_fields(&mut fields);
        fields
    }

    fn collect_fields(&self, fields: &mut FieldSet) {
        match self {
            Condition::Compare { field, .. }
            | Condition::In { field, .. }
            | Condition::IsNull(field)
            | Condition::IsNotNull(field) => fields.insert(*field),
            Condition::And(parts) | Condition::Or(parts) => {
                for part in parts {
                    part.collect_fields(fields);
                }
            }
            Condition::Not(inner) => inner.collect_fields(fields),
            Condition::Unknown => {}
        }
    }

    fn possible(&self, fields: &[FieldValue], slots: &[SlotValue]) -> Possible {
        match self {
            Condition::Compare { field, op, operand } => {
                let Some(value) = operand.value(slots) else { return Possible::ANY };
                compare(field_value(fields, *field), *op, value)
            }
            Condition::In { field, operands } => {
                let value = field_value(fields, *field);
                let mut found = Possible::FALSE;
                for operand in operands {
                    for element in operand.elements(slots) {
                        found = found.or(compare(value, CompareOp::Eq, element));
                        if found == Possible::TRUE {
                            return found;
                        }
                    }
                    if operand.is_missing(slots) {
                        found = found.or(Possible::ANY);
                    }
                }
                found
            }
            Condition::IsNull(field) => match field_value(fields, *field) {
                FieldValue::Null => Possible::TRUE,
                FieldValue::Key(_) => Possible::FALSE,
                FieldValue::Unknown => Possible::TRUE_OR_FALSE,
            },
            Condition::IsNotNull(field) => match field_value(fields, *field) {
                FieldValue::Null => Possible::FALSE,
                FieldValue::Key(_) => Possible::TRUE,
                FieldValue::Unknown => Possible::TRUE_OR_FALSE,
            },
            Condition::And(parts) => {
                let mut all = Possible::TRUE;
                for part in parts {
                    all = all.and(part.possible(fields, slots));
                    if all == Possible::FALSE {
                        break;
                    }
                }
                all
            }
            Condition::Or(parts) => {
                let mut any = Possible::FALSE;
                for part in parts {
                    any = any.or(part.possible(fields, slots));
                    if any == Possible::TRUE {
                        break;
                    }
                }
                any
            }
            Condition::Not(inner) => inner.possible(fields, slots).not(),
            Condition::Unknown => Possible::ANY,
        }
    }
}

impl Operand {
    /// Returns the one value that a comparison compares with; `Some(None)` is null, `None` means that there is none.
    pub(crate) fn value<'a>(&'a self, slots: &'a [SlotValue]) -> Option<Option<&'a Key>> {
        match self {
            Operand::Constant(value) => Some(value.as_ref()),
            Operand::Slot(slot) => match slots.get(usize::from(slot.0)) {
                Some(SlotValue::One(value)) => Some(value.as_ref()),
                Some(SlotValue::Many(_)) | None => None,
            },
        }
    }

    /// Returns the values that the operand adds to an `IN` list.
    pub(crate) fn elements<'a>(
        &'a self,
        slots: &'a [SlotValue],
    ) -> impl Iterator<Item = Option<&'a Key>> {
        let elements = match self {
            Operand::Constant(value) => std::slice::from_ref(value),
            Operand::Slot(slot) => match slots.get(usize::from(slot.0)) {
                Some(SlotValue::One(value)) => std::slice::from_ref(value),
                Some(SlotValue::Many(values)) => values,
                None => &[],
            },
        };
        elements.iter().map(Option::as_ref)
    }

    /// Returns whether the operand's value differs between the live queries of a template.
    pub(crate) fn is_slot(&self) -> bool {
        matches!(self, Operand::Slot(_))
    }

    fn is_missing(&self, slots: &[SlotValue]) -> bool {
        matches!(self, Operand::Slot(slot) if usize::from(slot.0) >= slots.len())
    }
}

/// Returns what a row holds in a field; unknown where the row is shorter.
pub(crate) fn field_value(fields: &[FieldValue], field: FieldId) -> &FieldValue {
    fields.get(usize::from(field.0)).unwrap_or(&FieldValue::Unknown)
}

fn compare(left: &FieldValue, op: CompareOp, right: Option<&Key>) -> Possible {
    match (left, right) {
        (FieldValue::Null, _) | (_, None) => Possible::NULL,
        (FieldValue::Unknown, Some(_)) => Possible::ANY,
        (FieldValue::Key(left), Some(right)) => Possible::of(op.holds(left.cmp(right))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predicate::SlotId;
    use crate::testing::{compare as cmp, constant, key, slot};

    fn check(condition: &Condition, field: FieldValue, slots: &[SlotValue], expected: Truth) {
        assert_eq!(condition.eval(&[field], slots), expected, "{condition:?}");
    }

    #[test]
    fn comparisons_compare_keys() {
        let five = || FieldValue::Key(key(5));
        for (op, below, same, above) in [
            (CompareOp::Eq, false, true, false),
            (CompareOp::Ne, true, false, true),
            (CompareOp::Lt, false, false, true),
            (CompareOp::Le, false, true, true),
            (CompareOp::Gt, true, false, false),
            (CompareOp::Ge, true, true, false),
        ] {
            for (value, expected) in [(4, below), (5, same), (6, above)] {
                let truth = if expected { Truth::True } else { Truth::False };
                let negated = if expected { Truth::False } else { Truth::True };
                check(&cmp(0, op, constant(value)), five(), &[], truth);
                check(&cmp(0, op.negated(), constant(value)), five(), &[], negated);
            }
        }
    }

    #[test]
    fn comparisons_with_null_are_null() {
        let with_slot = cmp(0, CompareOp::Eq, slot(0));
        check(&with_slot, FieldValue::Null, &[SlotValue::One(Some(key(1)))], Truth::Null);
        check(&with_slot, FieldValue::Key(key(1)), &[SlotValue::One(None)], Truth::Null);
        check(&with_slot, FieldValue::Unknown, &[SlotValue::One(None)], Truth::Null);
        check(&with_slot, FieldValue::Unknown, &[SlotValue::One(Some(key(1)))], Truth::Unknown);
        check(&Condition::IsNull(FieldId(0)), FieldValue::Null, &[], Truth::True);
        check(&Condition::IsNotNull(FieldId(0)), FieldValue::Null, &[], Truth::False);
        check(&Condition::IsNull(FieldId(0)), FieldValue::Unknown, &[], Truth::Unknown);
    }

    #[test]
    fn in_lists_follow_sql() {
        let list = Condition::In { field: FieldId(0), operands: vec![constant(1), slot(0)] };
        let not_in = Condition::Not(Box::new(list.clone()));
        let with_null = [SlotValue::Many(Box::new([Some(key(2)), None]))];
        let without = [SlotValue::Many(Box::new([Some(key(2))]))];
        check(&list, FieldValue::Key(key(2)), &with_null, Truth::True);
        check(&list, FieldValue::Key(key(3)), &with_null, Truth::Null);
        check(&not_in, FieldValue::Key(key(3)), &with_null, Truth::Null);
        check(&not_in, FieldValue::Key(key(3)), &without, Truth::True);
        check(&not_in, FieldValue::Unknown, &without, Truth::Unknown);
        check(&not_in, FieldValue::Unknown, &with_null, Truth::Null);
        // `null = ANY ('{}')` is false.
        let any = Condition::In { field: FieldId(0), operands: vec![slot(0)] };
        check(&any, FieldValue::Null, &[SlotValue::Many(Box::new([]))], Truth::False);
    }

    #[test]
    fn what_is_missing_is_unknown() {
        let one = cmp(0, CompareOp::Eq, slot(0));
        check(&one, FieldValue::Key(key(1)), &[], Truth::Unknown);
        check(&one, FieldValue::Key(key(1)), &[SlotValue::Many(Box::new([]))], Truth::Unknown);
        let any = Condition::In { field: FieldId(0), operands: vec![Operand::Slot(SlotId(3))] };
        check(&any, FieldValue::Key(key(1)), &[], Truth::Unknown);
        assert_eq!(cmp(7, CompareOp::Eq, constant(1)).eval(&[], &[]), Truth::Unknown);
        assert!(!Condition::Not(Box::new(Condition::Unknown)).is_exact());
        assert!(Condition::always().is_exact());
    }

    #[test]
    fn fields_are_those_tested() {
        let condition = Condition::Or(vec![
            cmp(3, CompareOp::Eq, slot(0)),
            Condition::Not(Box::new(Condition::IsNull(FieldId(70)))),
            Condition::Unknown,
        ]);
        assert_eq!(condition.fields().iter().collect::<Vec<_>>(), [FieldId(3), FieldId(70)]);
    }
}
