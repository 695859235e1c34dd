//! Conditions in words, for `explain`; and what is spared of rows that are not held.

use crate::fields::{FieldId, FieldSet};
use crate::predicate::{CompareOp, Condition, Operand, SlotId, Unheld};
use std::fmt;

impl fmt::Display for CompareOp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CompareOp::Eq => "=",
            CompareOp::Ne => "<>",
            CompareOp::Lt => "<",
            CompareOp::Le => "<=",
            CompareOp::Gt => ">",
            CompareOp::Ge => ">=",
        })
    }
}

impl Condition {
    /// Returns the condition as SQL would write it.
    ///
    /// A constant is shown as `…`: its key is made to be compared, not to be read. What can't be evaluated is shown
    /// as `?`.
    pub fn describe(
        &self,
        field_name: &dyn Fn(FieldId) -> String,
        slot_name: &dyn Fn(SlotId) -> String,
    ) -> String {
        Description { field_name, slot_name }.condition(self, Place::Top)
    }
}

impl Unheld {
    /// Returns in words which changes count only for rows that the result holds. `fields` are those that matter at all.
    pub fn describe(&self, fields: &FieldSet, field_name: &dyn Fn(FieldId) -> String) -> String {
        let may_be_spared = fields.iter().any(|field| !self.decided_by.contains(field));
        let updates = may_be_spared.then(|| {
            let columns: Vec<String> = self.decided_by.iter().map(field_name).collect();
            format!("updates that leave {} alone", columns.join(", "))
        });
        let deletes = (!self.deletes_matter).then(|| "deletes".to_owned());
        let what: Vec<String> = updates.into_iter().chain(deletes).collect();
        format!("{} count only for rows that the result holds", what.join(" and "))
    }
}

/// Where a condition stands: what decides whether it needs brackets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    InAnd,
    InOr,
}

struct Description<'a> {
    field_name: &'a dyn Fn(FieldId) -> String,
    slot_name: &'a dyn Fn(SlotId) -> String,
}

impl Description<'_> {
    fn condition(&self, condition: &Condition, place: Place) -> String {
        match condition {
            Condition::Compare { field, op, operand } => {
                format!("{} {op} {}", (self.field_name)(*field), self.operand(operand))
            }
            Condition::In { field, operands } => {
                let list: Vec<String> =
                    operands.iter().map(|operand| self.operand(operand)).collect();
                format!("{} IN ({})", (self.field_name)(*field), list.join(", "))
            }
            Condition::Prefix { field, operand } => {
                format!("{} ^@ {}", (self.field_name)(*field), self.operand(operand))
            }
            Condition::HasElement { field, operand } => {
                format!("{} has {}", (self.field_name)(*field), self.operand(operand))
            }
            Condition::IsNull(field) => format!("{} IS NULL", (self.field_name)(*field)),
            Condition::IsNotNull(field) => format!("{} IS NOT NULL", (self.field_name)(*field)),
            Condition::And(parts) => match &parts[..] {
                [] => "true".to_owned(),
                [part] => self.condition(part, place),
                parts => self.list(parts, " AND ", Place::InAnd),
            },
            Condition::Or(parts) => match &parts[..] {
                [] => "false".to_owned(),
                [part] => self.condition(part, place),
                parts => {
                    let text = self.list(parts, " OR ", Place::InOr);
                    if place == Place::InAnd { format!("({text})") } else { text }
                }
            },
            Condition::Not(inner) => format!("NOT ({})", self.condition(inner, Place::Top)),
            Condition::Unknown => "?".to_owned(),
        }
    }

    fn list(&self, parts: &[Condition], separator: &str, place: Place) -> String {
        let parts: Vec<String> = parts.iter().map(|part| self.condition(part, place)).collect();
        parts.join(separator)
    }

    fn operand(&self, operand: &Operand) -> String {
        match operand {
            Operand::Constant(None) => "null".to_owned(),
            Operand::Constant(Some(_)) => "…".to_owned(),
            Operand::Slot(slot) => (self.slot_name)(*slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, constant, slot};

    fn check(condition: Condition, expected: &str) {
        let text = condition
            .describe(&|field| format!("orders.c{}", field.0), &|slot| format!("${}", slot.0 + 1));
        assert_eq!(text, expected);
    }

    #[test]
    fn conditions_read_like_sql() {
        check(compare(0, CompareOp::Eq, slot(0)), "orders.c0 = $1");
        check(Condition::always(), "true");
        check(Condition::Or(vec![]), "false");
        check(
            Condition::And(vec![
                compare(0, CompareOp::Ge, constant(1)),
                Condition::Or(vec![
                    Condition::IsNull(FieldId(1)),
                    Condition::In {
                        field: FieldId(1),
                        operands: vec![slot(0), Operand::Constant(None)],
                    },
                ]),
                Condition::Not(Box::new(Condition::IsNotNull(FieldId(2)))),
                Condition::Unknown,
            ]),
            "orders.c0 >= … AND (orders.c1 IS NULL OR orders.c1 IN ($1, null)) AND NOT (orders.c2 IS NOT NULL) AND ?",
        );
        check(
            Condition::And(vec![
                Condition::Prefix { field: FieldId(0), operand: constant(1) },
                Condition::HasElement { field: FieldId(1), operand: slot(1) },
            ]),
            "orders.c0 ^@ … AND orders.c1 has $2",
        );
    }

    #[test]
    fn what_is_spared_is_said() {
        let check = |decided_by: &[u16], deletes_matter, expected: &str| {
            let decided_by = decided_by.iter().copied().map(FieldId).collect();
            let unheld = Unheld { decided_by, deletes_matter };
            let text = unheld.describe(&FieldSet::all(3), &|field| format!("c{}", field.0));
            assert_eq!(text, format!("{expected} count only for rows that the result holds"));
        };
        check(&[0, 2], false, "updates that leave c0, c2 alone and deletes");
        check(&[0], true, "updates that leave c0 alone");
        check(&[0, 1, 2, 4], false, "deletes");
    }
}
