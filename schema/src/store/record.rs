//! What a read is recorded as: `select … from t where …`, the narrowest statement that covers it. It selects all that
//! the read gives: an update of other columns is none of a statement's business.
//!
//! A change can make a stretch's answer another only where the changed row, as it was or as it is, lies in the
//! stretch, at or before the last row that was read: any other row is neither given nor moves one that is.

use super::condition::{Compare, Form, Op, Test, write_test, write_where};
use super::cursor::Cursor;
use super::scan::{Direction, Scan};
use super::sql::Sql;
use super::{RecordedRead, StoreError};
use crate::declared::Layout;
use crate::layout::{DOC, TableLayout};
use crate::names::quoted;

/// Adds a stretch that was read: to its end, or up to and with the last row.
pub(crate) fn record(
    scan: &Scan<'_>,
    tests: &[Test],
    last: Option<&Cursor>,
    reads: &mut Vec<RecordedRead>,
) {
    let mut tests = tests.to_vec();
    let bound = last.map(|last| bound(scan, &mut tests, last));
    let mut sql = statement(scan.layout);
    write_where(&tests, &scan.columns, &scan.tail, Form::Recorded, &mut sql);
    if let Some(Some(bound)) = bound {
        sql.push(if tests.is_empty() { " where " } else { " and " });
        match bound {
            Bound::Column { at, op, or_null } => {
                let column = &scan.columns[at];
                if or_null {
                    sql.push("(");
                    write_test(column, &Op::IsNull, Form::Recorded, &mut sql);
                    sql.push(" or ");
                }
                write_test(column, &op, Form::Recorded, &mut sql);
                sql.push(if or_null { ")" } else { "" });
            }
            Bound::Tail(op) => write_test(&scan.tail[0], &op, Form::Recorded, &mut sql),
        }
    }
    let read = RecordedRead { sql: sql.text, args: sql.args };
    if !reads.contains(&read) {
        reads.push(read);
    }
}

/// Where a stretch that was not read to its end was left.
enum Bound {
    Column { at: usize, op: Op, or_null: bool },
    Tail(Op),
}

/// Returns the bound, on the first column of the order that is not fixed in the stretch, and takes out of `tests`
/// what it makes needless.
fn bound(scan: &Scan<'_>, tests: &mut Vec<Test>, last: &Cursor) -> Option<Bound> {
    let side = scan.direction.before().inclusive();
    let is_fixed = |at: usize| {
        tests.iter().any(|test| match test {
            Test::Column { at: other, op } if *other == at => match op {
                Op::IsNull => true,
                Op::Compare(compare, _) => *compare == Compare::Eq,
                Op::IsNotNull | Op::IsNullish => false,
            },
            _ => false,
        })
    };
    let free = scan.varying.iter().zip(&last.columns).find(|(at, _)| !is_fixed(**at));
    let Some((&at, value)) = free else {
        let value = last.tail.first()?.clone();
        tests.retain(|test| match test {
            Test::Tail { op, .. } => op.is_upper_bound() != side.is_upper_bound(),
            Test::Column { .. } => true,
        });
        return Some(Bound::Tail(Op::Compare(side, value)));
    };
    match (scan.direction, value) {
        // Nulls are last, so that all before them was read.
        (Direction::Ascending, None) => None,
        (Direction::Descending, None) => Some(Bound::Column { at, op: Op::IsNull, or_null: false }),
        (direction, Some(value)) => {
            let of_column = |test: &Test| match test {
                Test::Column { at: other, op } if *other == at => Some(op.clone()),
                _ => None,
            };
            let is_not_null = tests.iter().filter_map(of_column).any(|op| match op {
                Op::Compare(..) | Op::IsNotNull => true,
                Op::IsNull | Op::IsNullish => false,
            });
            let nullable = scan.columns[at].nullable && !is_not_null;
            tests.retain(|test| match of_column(test) {
                Some(Op::Compare(op, _)) => {
                    op == Compare::Eq || op.is_upper_bound() != side.is_upper_bound()
                }
                Some(Op::IsNotNull) => false,
                _ => true,
            });
            let or_null = nullable && direction == Direction::Descending;
            Some(Bound::Column { at, op: Op::Compare(side, value.clone()), or_null })
        }
    }
}

/// Adds the read of one row by its id.
pub(crate) fn record_get(layout: &TableLayout, id: &str, reads: &mut Vec<RecordedRead>) {
    let mut sql = statement(layout);
    sql.push(&format!(" where {} = ", layout.id.plain)).bind(Some(id.to_owned()));
    reads.push(RecordedRead { sql: sql.text, args: sql.args });
}

/// Adds what an operation would have read that found its table missing, or not as declared: so that it is heard of.
pub(crate) fn record_missing(error: &StoreError, reads: &mut Vec<RecordedRead>) {
    if let StoreError::Layout { table, .. } = error {
        reads.push(RecordedRead {
            sql: format!("select 1 as one from {}", quoted(table)),
            args: Vec::new(),
        });
    }
}

fn statement(layout: &TableLayout) -> Sql {
    let mut columns = vec![layout.id.plain.clone()];
    columns.extend(layout.creation_time.as_ref().map(|column| column.plain.clone()));
    match layout.shape {
        Layout::Document => columns.push(DOC.to_owned()),
        Layout::Relational => {
            for (_, column) in layout.columns() {
                let column = quoted(&column.name);
                if !columns.contains(&column) {
                    columns.push(column);
                }
            }
        }
    }
    Sql::new(format!("select {} from {}", columns.join(", "), quoted(&layout.table.name)))
}
