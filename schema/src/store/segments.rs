//! Cuts a scan's order at cursors: into stretches, each a conjunction with at most one range behind equalities, which
//! an index reads from its first row on, however far in the order it lies.
//!
//! After `(a, b)`, in ascending order, is `k1 = a and k2 > b`, then `k1 = a and k2 is null`, then `k1 > a`, then `k1 is
//! null`: nulls are last. In descending order nulls are first.

use super::condition::{Compare, Op, Test, is_empty};
use super::cursor::Cursor;
use super::scan::{Direction, Scan};

/// Returns the stretches between two places, in the order of the scan: after the first, up to and with the second.
pub(crate) fn segments(
    scan: &Scan<'_>,
    after: Option<&Cursor>,
    until: Option<&Cursor>,
) -> Vec<Vec<Test>> {
    let afters = after.map_or_else(whole, |cursor| after_cursor(scan, cursor));
    let untils = until.map_or_else(whole, |cursor| until_cursor(scan, cursor));
    let mut segments = Vec::new();
    for after in &afters {
        for until in &untils {
            let mut tests = scan.base.clone();
            for test in after.iter().chain(until) {
                if !tests.contains(test) {
                    tests.push(test.clone());
                }
            }
            if !is_empty(&tests, &scan.columns, &scan.tail) {
                segments.push(tests);
            }
        }
    }
    segments
}

fn whole() -> Vec<Vec<Test>> {
    vec![Vec::new()]
}

/// Returns the tests that fix the first columns of the order as a cursor has them.
fn prefix(scan: &Scan<'_>, cursor: &Cursor, length: usize) -> Vec<Test> {
    let columns = scan.varying.iter().zip(&cursor.columns).take(length);
    columns.map(|(&at, value)| Test::equals(at, value.as_deref())).collect()
}

fn after_cursor(scan: &Scan<'_>, cursor: &Cursor) -> Vec<Vec<Test>> {
    let length = scan.varying.len();
    let mut parts = vec![prefix(scan, cursor, length)];
    parts[0].push(Test::Tail { op: scan.direction.after(), values: cursor.tail.clone() });
    for position in (0..length).rev() {
        let at = scan.varying[position];
        let value = cursor.columns[position].as_deref();
        for op in beyond(scan.direction, scan.direction.after(), value, scan.columns[at].nullable) {
            let mut tests = prefix(scan, cursor, position);
            tests.push(Test::column(at, op));
            parts.push(tests);
        }
    }
    parts
}

fn until_cursor(scan: &Scan<'_>, cursor: &Cursor) -> Vec<Vec<Test>> {
    let length = scan.varying.len();
    let mut parts = Vec::new();
    for position in 0..length {
        let at = scan.varying[position];
        let value = cursor.columns[position].as_deref();
        for op in beyond(scan.direction, scan.direction.before(), value, scan.columns[at].nullable)
        {
            let mut tests = prefix(scan, cursor, position);
            tests.push(Test::column(at, op));
            parts.push(tests);
        }
    }
    let mut tests = prefix(scan, cursor, length);
    let op = scan.direction.before().inclusive();
    tests.push(Test::Tail { op, values: cursor.tail.clone() });
    parts.push(tests);
    parts
}

/// Returns what is strictly on one side of a value in the order, in the order of the scan.
fn beyond(direction: Direction, side: Compare, value: Option<&str>, nullable: bool) -> Vec<Op> {
    // Nulls are the greatest.
    let greater = side.is_lower_bound();
    let mut ops = match value {
        None if greater => Vec::new(),
        None => vec![Op::IsNotNull],
        Some(value) => vec![Op::Compare(side, value.to_owned())],
    };
    if greater && nullable && value.is_some() {
        ops.push(Op::IsNull);
    }
    if direction == Direction::Descending {
        ops.reverse();
    }
    ops
}
