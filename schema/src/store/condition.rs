//! Conditions on a scan's columns, one conjunction of which is a *segment*: a stretch of the order that one statement
//! reads, by an index where there is one.

use super::sql::Sql;
use super::value::compare;
use crate::layout::{KeyColumn, Kind};
use std::cmp::Ordering;

/// A test of one column, or of the end of the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// A test of the column at this place.
    Column { at: usize, op: Op },
    /// Creation time and id together are before or after these.
    Tail { op: Compare, values: Vec<String> },
}

/// What is asked of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Compare(Compare, String),
    IsNull,
    IsNotNull,
    /// Missing, or JSON's null.
    IsNullish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Gt,
    Ge,
    Lt,
    Le,
}

impl Compare {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Compare::Eq => "=",
            Compare::Gt => ">",
            Compare::Ge => ">=",
            Compare::Lt => "<",
            Compare::Le => "<=",
        }
    }

    pub(crate) fn is_lower_bound(self) -> bool {
        matches!(self, Compare::Gt | Compare::Ge)
    }

    pub(crate) fn is_upper_bound(self) -> bool {
        matches!(self, Compare::Lt | Compare::Le)
    }

    /// Returns the same with equality.
    pub(crate) fn inclusive(self) -> Compare {
        match self {
            Compare::Gt | Compare::Ge => Compare::Ge,
            Compare::Lt | Compare::Le => Compare::Le,
            Compare::Eq => Compare::Eq,
        }
    }
}

impl Test {
    pub(crate) fn column(at: usize, op: Op) -> Test {
        Test::Column { at, op }
    }

    pub(crate) fn compare(at: usize, compare: Compare, value: &str) -> Test {
        Test::Column { at, op: Op::Compare(compare, value.to_owned()) }
    }

    /// `column = value`, or `column is null`.
    pub(crate) fn equals(at: usize, value: Option<&str>) -> Test {
        match value {
            Some(value) => Test::compare(at, Compare::Eq, value),
            None => Test::column(at, Op::IsNull),
        }
    }
}

/// Whose expression is written: an index', or the form that the engine's analysis knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Executed,
    Recorded,
}

/// Appends ` where …` for a conjunction.
pub(crate) fn write_where(
    tests: &[Test],
    columns: &[KeyColumn],
    tail: &[KeyColumn],
    form: Form,
    sql: &mut Sql,
) {
    for (position, test) in tests.iter().enumerate() {
        sql.push(if position == 0 { " where " } else { " and " });
        match test {
            Test::Column { at, op } => write_test(&columns[*at], op, form, sql),
            Test::Tail { op, values } if form == Form::Executed => {
                let names: Vec<&str> = tail.iter().map(|column| column.ordered.as_str()).collect();
                sql.push(&format!("({}) {} (", names.join(", "), op.as_str()));
                for (position, value) in values.iter().enumerate() {
                    sql.push(if position == 0 { "" } else { ", " }).bind(Some(value.clone()));
                }
                sql.push(")");
            }
            // Rows are not compared by the analysis: the first column alone says less, which is safe.
            Test::Tail { op, values } => {
                if let (Some(column), Some(value)) = (tail.first(), values.first()) {
                    write_test(column, &Op::Compare(op.inclusive(), value.clone()), form, sql);
                }
            }
        }
    }
}

/// Appends one test of a column.
pub(crate) fn write_test(column: &KeyColumn, op: &Op, form: Form, sql: &mut Sql) {
    let plain = match form {
        Form::Executed => &column.ordered,
        // Collations matter for an order alone: equal is equal, in those that are deterministic.
        Form::Recorded => match op {
            Op::Compare(compare, _) if *compare != Compare::Eq => &column.ordered,
            _ => &column.plain,
        },
    };
    match op {
        Op::Compare(compare, value) => {
            sql.push(&format!("{plain} {} ", compare.as_str())).bind(Some(value.clone()));
        }
        Op::IsNull => {
            sql.push(&format!("{plain} is null"));
        }
        Op::IsNotNull => {
            sql.push(&format!("{plain} is not null"));
        }
        Op::IsNullish => {
            sql.push(&format!("({plain} is null or {plain} = 'null')"));
        }
    }
}

/// Returns whether no row can pass all tests, as far as that can be told here; it spares a question.
pub(crate) fn is_empty(tests: &[Test], columns: &[KeyColumn], tail: &[KeyColumn]) -> bool {
    tests.iter().enumerate().any(|(position, a)| {
        tests[position + 1..].iter().any(|b| match (a, b) {
            (Test::Column { at, op: a }, Test::Column { at: other, op: b }) if at == other => {
                contradict(a, b, &columns[*at])
            }
            (Test::Tail { op: a, values: v }, Test::Tail { op: b, values: w }) => {
                let orders = tail
                    .iter()
                    .zip(v.iter().zip(w))
                    .map(|(column, (v, w))| compare(column.kind, column.byte_order, v, w));
                // The first that differs decides.
                let order = orders.into_iter().find(|order| *order != Some(Ordering::Equal));
                exclude(*a, *b, order.unwrap_or(Some(Ordering::Equal)))
            }
            _ => false,
        })
    })
}

fn contradict(a: &Op, b: &Op, column: &KeyColumn) -> bool {
    match (a, b) {
        (Op::IsNull, Op::Compare(..) | Op::IsNotNull)
        | (Op::Compare(..) | Op::IsNotNull, Op::IsNull) => true,
        (Op::Compare(a, v), Op::Compare(b, w)) => {
            // Postgres' order of JSON is not known here, and a NaN is no less than any other number to it.
            let order = match column.kind {
                Kind::Jsonb | Kind::Other if v != w => None,
                kind => compare(kind, column.byte_order, v, w),
            };
            exclude(*a, *b, order)
        }
        _ => false,
    }
}

/// Returns whether nothing is both `a v` and `b w`, where `order` is that of v to w.
fn exclude(a: Compare, b: Compare, order: Option<Ordering>) -> bool {
    let Some(order) = order else { return false };
    let strict = |op| matches!(op, Compare::Gt | Compare::Lt);
    match order {
        Ordering::Equal => {
            let opposite = (a.is_lower_bound() && !b.is_lower_bound())
                || (a.is_upper_bound() && !b.is_upper_bound())
                || (a == Compare::Eq && b != Compare::Eq);
            opposite && (strict(a) || strict(b))
        }
        Ordering::Less => !a.is_lower_bound() && !b.is_upper_bound(),
        Ordering::Greater => !a.is_upper_bound() && !b.is_lower_bound(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_are_seen() {
        use Compare::{Eq, Ge, Gt, Le, Lt};
        let values = [1, 2, 3];
        let holds = |op, x: i32, v: i32| match op {
            Eq => x == v,
            Gt => x > v,
            Ge => x >= v,
            Lt => x < v,
            Le => x <= v,
        };
        for a in [Eq, Gt, Ge, Lt, Le] {
            for b in [Eq, Gt, Ge, Lt, Le] {
                for (v, w) in values.into_iter().flat_map(|v| values.map(|w| (v, w))) {
                    // Halves between the values too: the order is dense.
                    let any = (-2..10).any(|x| holds(a, x, 2 * v) && holds(b, x, 2 * w));
                    assert_eq!(exclude(a, b, Some(v.cmp(&w))), !any, "{a:?} {v}, {b:?} {w}");
                }
            }
        }
    }
}
