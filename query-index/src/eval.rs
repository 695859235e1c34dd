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
            | Condition::Prefix { .. }
            | Condition::HasElement { .. }
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
            | Condition::Prefix { field, .. }
            | Condition::HasElement { field, .. }
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
                compare(field_value(fields, *field), operand.value(slots), |left, right| {
                    op.holds(left.cmp(right))
                })
            }
            Condition::In { field, operands } => {
                let value = field_value(fields, *field);
                let mut found = Possible::FALSE;
                for operand in operands {
                    for element in operand.elements(slots) {
                        found = found.or(compare(value, element, |left, right| left == right));
                        if found == Possible::TRUE {
                            return found;
                        }
                    }
                }
                found
            }
            Condition::Prefix { field, operand } => {
                compare(field_value(fields, *field), operand.value(slots), |text, start| {
                    text.as_bytes().starts_with(prefix_bytes(start))
                })
            }
            Condition::HasElement { field, operand } => {
                has_element(field_value(fields, *field), operand.elements(slots))
            }
            Condition::IsNull(field) => match field_value(fields, *field) {
                FieldValue::Null => Possible::TRUE,
                FieldValue::Key(_) | FieldValue::Elements(_) => Possible::FALSE,
                FieldValue::Unknown => Possible::TRUE_OR_FALSE,
            },
            Condition::IsNotNull(field) => match field_value(fields, *field) {
                FieldValue::Null => Possible::FALSE,
                FieldValue::Key(_) | FieldValue::Elements(_) => Possible::TRUE,
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

/// What a field is compared with, for one live query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparand<'a> {
    Key(&'a Key),
    Null,
    /// [`SlotValue::Open`].
    Open,
    /// Not told: a slot that is not there, or an array where one value is meant.
    Missing,
}

impl<'a> Comparand<'a> {
    fn of(value: &'a Option<Key>) -> Self {
        value.as_ref().map_or(Comparand::Null, Comparand::Key)
    }
}

impl Operand {
    /// Returns the one value that a comparison compares with.
    pub(crate) fn value<'a>(&'a self, slots: &'a [SlotValue]) -> Comparand<'a> {
        match self {
            Operand::Constant(value) => Comparand::of(value),
            Operand::Slot(slot) => match slots.get(usize::from(slot.0)) {
                Some(SlotValue::One(value)) => Comparand::of(value),
                Some(SlotValue::Open) => Comparand::Open,
                Some(SlotValue::Many(_)) | None => Comparand::Missing,
            },
        }
    }

    /// Returns the values that the operand adds to a list.
    pub(crate) fn elements<'a>(
        &'a self,
        slots: &'a [SlotValue],
    ) -> impl Iterator<Item = Comparand<'a>> {
        let (one, many) = match self {
            Operand::Slot(slot) => match slots.get(usize::from(slot.0)) {
                Some(SlotValue::Many(values)) => (None, &values[..]),
                Some(SlotValue::One(_) | SlotValue::Open) | None => {
                    (Some(self.value(slots)), &[][..])
                }
            },
            Operand::Constant(_) => (Some(self.value(slots)), &[][..]),
        };
        one.into_iter().chain(many.iter().map(Comparand::of))
    }

    /// Returns whether the operand's value differs between the live queries of a template.
    pub(crate) fn is_slot(&self) -> bool {
        matches!(self, Operand::Slot(_))
    }
}

/// Returns what a row holds in a field; unknown where the row is shorter.
pub(crate) fn field_value(fields: &[FieldValue], field: FieldId) -> &FieldValue {
    fields.get(usize::from(field.0)).unwrap_or(&FieldValue::Unknown)
}

/// Returns the bytes that a key begins with whose text begins with this key's: it without the byte that ends a text.
pub(crate) fn prefix_bytes(text: &Key) -> &[u8] {
    let bytes = text.as_bytes();
    bytes.split_last().map_or(bytes, |(_, start)| start)
}

fn compare(
    left: &FieldValue,
    right: Comparand<'_>,
    holds: impl FnOnce(&Key, &Key) -> bool,
) -> Possible {
    match (left, right) {
        (FieldValue::Null, _) | (_, Comparand::Null) => Possible::NULL,
        (_, Comparand::Missing) => Possible::ANY,
        (FieldValue::Key(_) | FieldValue::Elements(_), Comparand::Open) => Possible::TRUE,
        (FieldValue::Unknown, Comparand::Open) => Possible::TRUE_OR_NULL,
        (FieldValue::Unknown | FieldValue::Elements(_), Comparand::Key(_)) => Possible::ANY,
        (FieldValue::Key(left), Comparand::Key(right)) => Possible::of(holds(left, right)),
    }
}

fn has_element<'a>(value: &FieldValue, operands: impl Iterator<Item = Comparand<'a>>) -> Possible {
    let mut found = match value {
        FieldValue::Null => return Possible::NULL,
        FieldValue::Unknown => Possible::FALSE_OR_NULL,
        FieldValue::Key(_) | FieldValue::Elements(_) => Possible::FALSE,
    };
    for operand in operands {
        found = found.or(match (value, operand) {
            // No element equals null.
            (_, Comparand::Null) => Possible::FALSE,
            (FieldValue::Elements(elements), Comparand::Key(key)) => {
                Possible::of(elements.contains(key))
            }
            (FieldValue::Unknown, Comparand::Open) => Possible::TRUE_OR_NULL,
            (_, Comparand::Open) => Possible::TRUE,
            (_, Comparand::Missing | Comparand::Key(_)) => Possible::ANY,
        });
        if found == Possible::TRUE {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predicate::SlotId;
    use crate::testing::{compare as cmp, constant, key, slot};
    use convoy_types::PgType;

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
    fn texts_begin_with_a_prefix() {
        let text = |text: &str| Key::of(&PgType::Text, text.as_bytes()).expect("it is a text");
        let begins = Condition::Prefix { field: FieldId(0), operand: slot(0) };
        let with = |value: FieldValue, start: Option<&str>, expected| {
            check(&begins, value, &[SlotValue::One(start.map(text))], expected);
        };
        for (value, start, expected) in [
            ("abc", "ab", Truth::True),
            ("abc", "abc", Truth::True),
            ("ab", "abc", Truth::False),
            ("abc", "b", Truth::False),
            ("abc", "", Truth::True),
            ("", "", Truth::True),
            ("\u{10ffff}x", "\u{10ffff}", Truth::True),
        ] {
            with(FieldValue::Key(text(value)), Some(start), expected);
        }
        with(FieldValue::Key(text("abc")), None, Truth::Null);
        with(FieldValue::Null, Some("a"), Truth::Null);
        with(FieldValue::Unknown, Some("a"), Truth::Unknown);
    }

    #[test]
    fn arrays_have_elements() {
        let has = Condition::HasElement { field: FieldId(0), operand: slot(0) };
        let array = || FieldValue::Elements(Box::new([key(1), key(2)]));
        let many = |values: &[Option<i32>]| {
            [SlotValue::Many(values.iter().map(|value| value.map(key)).collect())]
        };
        check(&has, array(), &[SlotValue::One(Some(key(2)))], Truth::True);
        check(&has, array(), &[SlotValue::One(Some(key(3)))], Truth::False);
        check(&has, array(), &[SlotValue::One(None)], Truth::False);
        check(&has, array(), &many(&[Some(5), None, Some(1)]), Truth::True);
        check(&has, array(), &many(&[]), Truth::False);
        check(&has, FieldValue::Elements(Box::new([])), &many(&[Some(1)]), Truth::False);
        check(&has, FieldValue::Null, &many(&[Some(1)]), Truth::Null);
        check(&has, FieldValue::Unknown, &many(&[Some(1)]), Truth::Unknown);
        check(&has, FieldValue::Unknown, &many(&[None]), Truth::Null);
        // A row that tells a value where elements are asked for, and the other way.
        check(&has, FieldValue::Key(key(1)), &many(&[Some(1)]), Truth::Unknown);
        check(&cmp(0, CompareOp::Eq, constant(1)), array(), &[], Truth::Unknown);
        check(&Condition::IsNull(FieldId(0)), array(), &[], Truth::False);
        check(&Condition::IsNotNull(FieldId(0)), array(), &[], Truth::True);
    }

    #[test]
    fn what_has_no_bound_is_met_by_any_value() {
        let open = &[SlotValue::Open];
        for condition in [
            cmp(0, CompareOp::Lt, slot(0)),
            cmp(0, CompareOp::Ge, slot(0)),
            cmp(0, CompareOp::Eq, slot(0)),
            Condition::In { field: FieldId(0), operands: vec![slot(0)] },
            Condition::Prefix { field: FieldId(0), operand: slot(0) },
            Condition::HasElement { field: FieldId(0), operand: slot(0) },
        ] {
            check(&condition, FieldValue::Key(key(5)), open, Truth::True);
            check(&condition, FieldValue::Null, open, Truth::Null);
            check(&condition, FieldValue::Unknown, open, Truth::Unknown);
            let not = Condition::Not(Box::new(condition));
            check(&not, FieldValue::Key(key(5)), open, Truth::False);
            check(&not, FieldValue::Unknown, open, Truth::Null);
        }
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
