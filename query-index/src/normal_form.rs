//! Turns a condition into alternatives that access paths can be chosen for.
//!
//! Negations go down to the comparisons, then `AND` is distributed over `OR`: the result is a disjunction of
//! [`Conjunction`]s. It says no less than the condition: whatever is not taken in (for it serves no access path, or the
//! limit is reached) makes its conjunction *inexact*, and candidates found by it are tested with the whole condition.
//! Both steps keep whether a condition can be true, also for unknown values. A negated comparison with a slot is looked up
//! and tested: the slot may be [`Open`](crate::SlotValue::Open), which means any value without the negation and none with
//! it.

use crate::fields::FieldId;
use crate::predicate::{CompareOp, Condition, Operand};

/// The most conjunctions that a condition may become; one that would become more keeps an `OR` as a residual, and if nothing
/// else is left to look up, every change of the table is tested for every query.
pub(crate) const CONJUNCTIONS_MAX: usize = 16;

/// A comparison that an access path may serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Literal {
    /// `field = operand`
    Equal(FieldId, Operand),
    /// `field IN (…)`
    In(FieldId, Vec<Operand>),
    /// The elements of the field have one of these.
    Element(FieldId, Vec<Operand>),
    /// `field < operand` and its like.
    Bound(FieldId, CompareOp, Operand),
    /// The text begins with the operand.
    Prefix(FieldId, Operand),
    /// `field IS NULL`, or `IS NOT NULL`.
    Null(FieldId, NullTest),
}

/// What a field is tested for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum NullTest {
    IsNull,
    IsNotNull,
}

/// A conjunction that only says which values a field may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listed {
    Values(FieldId),
    Elements(FieldId),
}

/// What becomes of an `OR` below an equality that a slot makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// It is a residual: what the statement suggests, for the equality tells live queries apart.
    Narrow,
    /// It is looked up: for live queries that share the value.
    Wide,
}

/// Literals that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conjunction {
    pub(crate) literals: Vec<Literal>,
    /// Whether the condition asks for something more than the literals.
    pub(crate) has_residual: bool,
    /// Whether an `OR` is among that because it has too many alternatives.
    pub(crate) is_cut: bool,
}

impl Conjunction {
    fn residual() -> Self {
        Conjunction { has_residual: true, ..Self::default() }
    }

    /// Returns whether an equality tells the template's live queries apart: nothing else is needed then.
    fn is_selective(&self) -> bool {
        self.literals.iter().any(|literal| match literal {
            Literal::Equal(_, operand) => operand.is_slot(),
            Literal::In(_, operands) => operands.iter().any(Operand::is_slot),
            Literal::Element(..) | Literal::Bound(..) | Literal::Prefix(..) | Literal::Null(..) => {
                false
            }
        })
    }

    /// Returns what the conjunction lists, if it does nothing else.
    fn listed(&self) -> Option<Listed> {
        match &self.literals[..] {
            [Literal::Equal(field, _) | Literal::In(field, _)] if !self.has_residual => {
                Some(Listed::Values(*field))
            }
            [Literal::Element(field, _)] if !self.has_residual => Some(Listed::Elements(*field)),
            _ => None,
        }
    }

    /// Makes `a = 1` (this) or `a = 2` (the other) one `a IN (1, 2)`.
    fn join_lists(&mut self, listed: Listed, other: Conjunction) {
        let mut operands = Vec::new();
        for literal in self.literals.drain(..).chain(other.literals) {
            match literal {
                Literal::Equal(_, operand) => operands.push(operand),
                Literal::In(_, list) | Literal::Element(_, list) => operands.extend(list),
                Literal::Bound(..) | Literal::Prefix(..) | Literal::Null(..) => {
                    unreachable!("only lists are joined")
                }
            }
        }
        self.literals.push(match listed {
            Listed::Values(field) => Literal::In(field, operands),
            Listed::Elements(field) => Literal::Element(field, operands),
        });
    }

    fn and(&self, other: &Conjunction) -> Conjunction {
        Conjunction {
            literals: self.literals.iter().chain(&other.literals).cloned().collect(),
            has_residual: self.has_residual || other.has_residual,
            is_cut: self.is_cut || other.is_cut,
        }
    }
}

/// Returns conjunctions of which one can be true wherever the condition can be; none where it never can.
pub(crate) fn conjunctions(condition: &Condition, width: Width) -> Vec<Conjunction> {
    expand(&push_negation(condition, false), width)
}

/// A condition without `NOT`.
enum Normal {
    Literal(Literal),
    Residual,
    And(Vec<Normal>),
    Or(Vec<Normal>),
}

fn push_negation(condition: &Condition, negated: bool) -> Normal {
    let parts =
        |parts: &[Condition]| parts.iter().map(|part| push_negation(part, negated)).collect();
    match condition {
        Condition::Compare { field, op, operand } => {
            let op = if negated { op.negated() } else { *op };
            let literal = match op {
                CompareOp::Eq => Literal::Equal(*field, operand.clone()),
                CompareOp::Ne => return Normal::Residual,
                _ => Literal::Bound(*field, op, operand.clone()),
            };
            let literal = Normal::Literal(literal);
            if negated && operand.is_slot() {
                Normal::And(vec![literal, Normal::Residual])
            } else {
                literal
            }
        }
        Condition::In { field, operands } if !negated => {
            Normal::Literal(Literal::In(*field, operands.clone()))
        }
        Condition::And(list) if negated => Normal::Or(parts(list)),
        Condition::And(list) => Normal::And(parts(list)),
        Condition::Or(list) if negated => Normal::And(parts(list)),
        Condition::Or(list) => Normal::Or(parts(list)),
        Condition::Not(inner) => push_negation(inner, !negated),
        Condition::Prefix { field, operand } if !negated => {
            Normal::Literal(Literal::Prefix(*field, operand.clone()))
        }
        Condition::HasElement { field, operand } if !negated => {
            Normal::Literal(Literal::Element(*field, vec![operand.clone()]))
        }
        Condition::IsNull(field) | Condition::IsNotNull(field) => {
            let is_null = matches!(condition, Condition::IsNull(_)) != negated;
            let test = if is_null { NullTest::IsNull } else { NullTest::IsNotNull };
            Normal::Literal(Literal::Null(*field, test))
        }
        Condition::In { .. }
        | Condition::Prefix { .. }
        | Condition::HasElement { .. }
        | Condition::Unknown => Normal::Residual,
    }
}

fn expand(normal: &Normal, width: Width) -> Vec<Conjunction> {
    match normal {
        Normal::Literal(literal) => {
            vec![Conjunction { literals: vec![literal.clone()], ..Conjunction::default() }]
        }
        Normal::Residual => vec![Conjunction::residual()],
        Normal::And(parts) => expand_and(parts, width),
        Normal::Or(parts) => expand_or(parts, width),
    }
}

fn expand_and(parts: &[Normal], width: Width) -> Vec<Conjunction> {
    let mut alternatives: Vec<Vec<Conjunction>> =
        parts.iter().map(|part| expand(part, width)).collect();
    // What has one alternative costs nothing and comes first; it may make the others superfluous.
    alternatives.sort_by_key(Vec::len);
    let mut product = vec![Conjunction::default()];
    for conjunctions in alternatives {
        let is_superfluous = width == Width::Narrow
            && conjunctions.len() > 1
            && product.iter().all(Conjunction::is_selective);
        let is_too_wide = product.len() * conjunctions.len() > CONJUNCTIONS_MAX;
        if is_superfluous || is_too_wide {
            for conjunction in &mut product {
                conjunction.has_residual = true;
                conjunction.is_cut |= is_too_wide;
            }
        } else {
            product = product
                .iter()
                .flat_map(|left| conjunctions.iter().map(move |right| left.and(right)))
                .collect();
        }
    }
    product
}

fn expand_or(parts: &[Normal], width: Width) -> Vec<Conjunction> {
    let mut expanded: Vec<Conjunction> = Vec::new();
    for conjunction in parts.iter().flat_map(|part| expand(part, width)) {
        let listed = conjunction.listed();
        let known = expanded.iter_mut().find(|known| listed.is_some() && known.listed() == listed);
        match (known, listed) {
            (Some(known), Some(listed)) => known.join_lists(listed, conjunction),
            _ => expanded.push(conjunction),
        }
    }
    if expanded.len() > CONJUNCTIONS_MAX {
        vec![Conjunction { is_cut: true, ..Conjunction::residual() }]
    } else {
        expanded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{compare, constant, slot};

    fn check(condition: Condition, expected: &[(&[Literal], bool)]) {
        let expected: Vec<Conjunction> = expected
            .iter()
            .map(|(literals, has_residual)| Conjunction {
                literals: literals.to_vec(),
                has_residual: *has_residual,
                is_cut: false,
            })
            .collect();
        assert_eq!(conjunctions(&condition, Width::Narrow), expected);
    }

    fn equal(field: u16, operand: Operand) -> Condition {
        compare(field, CompareOp::Eq, operand)
    }

    #[test]
    fn negations_reach_the_comparisons() {
        let condition = Condition::Not(Box::new(Condition::Or(vec![
            compare(0, CompareOp::Lt, slot(0)),
            compare(1, CompareOp::Ne, constant(1)),
            equal(2, slot(1)),
        ])));
        check(
            condition,
            &[(
                &[
                    Literal::Bound(FieldId(0), CompareOp::Ge, slot(0)),
                    Literal::Equal(FieldId(1), constant(1)),
                ],
                true,
            )],
        );
    }

    #[test]
    fn and_is_distributed_over_or() {
        let condition = Condition::And(vec![
            Condition::Or(vec![equal(0, slot(0)), equal(1, slot(1))]),
            equal(2, constant(3)),
        ]);
        let open = Literal::Equal(FieldId(2), constant(3));
        check(
            condition,
            &[
                (&[open.clone(), Literal::Equal(FieldId(0), slot(0))], false),
                (&[open, Literal::Equal(FieldId(1), slot(1))], false),
            ],
        );
    }

    #[test]
    fn equalities_of_one_field_become_a_list() {
        let condition = Condition::Or(vec![
            equal(0, constant(1)),
            Condition::Or(vec![equal(0, slot(0)), equal(1, constant(2))]),
        ]);
        check(
            condition,
            &[
                (&[Literal::In(FieldId(0), vec![constant(1), slot(0)])], false),
                (&[Literal::Equal(FieldId(1), constant(2))], false),
            ],
        );
    }

    #[test]
    fn tests_for_null_are_literals_either_way() {
        let not = |condition| Condition::Not(Box::new(condition));
        let null = |test| Literal::Null(FieldId(0), test);
        check(Condition::IsNull(FieldId(0)), &[(&[null(NullTest::IsNull)], false)]);
        check(not(Condition::IsNotNull(FieldId(0))), &[(&[null(NullTest::IsNull)], false)]);
        check(not(Condition::IsNull(FieldId(0))), &[(&[null(NullTest::IsNotNull)], false)]);
    }

    #[test]
    fn elements_of_one_field_become_a_list() {
        let has = |operand| Condition::HasElement { field: FieldId(0), operand };
        check(
            Condition::Or(vec![has(constant(1)), equal(0, constant(1)), has(slot(0))]),
            &[
                (&[Literal::Element(FieldId(0), vec![constant(1), slot(0)])], false),
                (&[Literal::Equal(FieldId(0), constant(1))], false),
            ],
        );
        check(Condition::Not(Box::new(has(slot(0)))), &[(&[], true)]);
    }

    #[test]
    fn a_selective_equality_leaves_alternatives_as_residual() {
        let condition = Condition::And(vec![
            Condition::Or(vec![equal(1, constant(1)), equal(2, constant(2))]),
            equal(0, slot(0)),
        ]);
        let wide = conjunctions(&condition, Width::Wide);
        check(condition, &[(&[Literal::Equal(FieldId(0), slot(0))], true)]);
        assert_eq!(wide.len(), 2);
        assert!(wide.iter().all(|conjunction| conjunction.literals.len() == 2));
        assert!(wide.iter().all(|conjunction| !conjunction.has_residual));
    }

    #[test]
    fn past_the_limit_an_or_is_residual() {
        let either = |left, right| {
            Condition::Or(vec![
                compare(left, CompareOp::Lt, slot(0)),
                compare(right, CompareOp::Gt, slot(0)),
            ])
        };
        let condition =
            Condition::And((0..10).map(|field| either(2 * field, 2 * field + 1)).collect());
        let found = conjunctions(&condition, Width::Narrow);
        assert_eq!(found.len(), CONJUNCTIONS_MAX);
        assert!(found.iter().all(|conjunction| conjunction.has_residual && conjunction.is_cut));
        let wide = Condition::Or((0..40).map(|field| equal(field, slot(0))).collect());
        assert_eq!(
            conjunctions(&wide, Width::Narrow),
            [Conjunction { is_cut: true, ..Conjunction::residual() }]
        );
    }

    #[test]
    fn what_is_never_true_has_no_alternative() {
        check(Condition::Or(vec![]), &[]);
        check(Condition::And(vec![equal(0, slot(0)), Condition::Or(vec![])]), &[]);
        check(Condition::Not(Box::new(Condition::always())), &[]);
        check(Condition::always(), &[(&[], false)]);
    }
}
