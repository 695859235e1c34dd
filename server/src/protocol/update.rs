//! Updates: the parts of a snapshot and of a diff that all their subscribers share.
//!
//! The frame around them is left to `transition`.

use super::push_json_str;
use super::rows::{Columns, Numbers, whole_value};
use bytes::Bytes;
use convoy_engine::{Diff, DiffOp, OutputColumn, ResultSnapshot};
use std::fmt::Write;

/// Returns a whole result, its `type` first.
pub(super) fn encode_snapshot(snapshot: &ResultSnapshot, numbers: Numbers) -> Bytes {
    if let Some(value) = whole_value(snapshot) {
        let digest = snapshot.digest;
        return format!("\"type\":\"snapshot\",\"digest\":\"{digest}\",\"value\":{value}}}").into();
    }
    let columns = Columns::new(&snapshot.columns, numbers);
    let mut out = format!("\"type\":\"snapshot\",\"digest\":\"{}\",\"columns\":[", snapshot.digest);
    for (position, column) in snapshot.columns.iter().enumerate() {
        out.push_str(if position > 0 { ",{\"name\":" } else { "{\"name\":" });
        push_json_str(&mut out, &column.name);
        out.push_str(",\"type\":");
        push_json_str(&mut out, &column.type_name);
        out.push('}');
    }
    out.push_str("],\"keys\":[");
    for (position, row) in snapshot.rows.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        push_json_str(&mut out, row.key());
    }
    out.push_str("],\"value\":");
    columns.push_rows(&mut out, &snapshot.rows);
    out.push('}');
    out.into()
}

/// Returns the steps without the brackets around them, so that several diffs can be joined.
pub(super) fn encode_ops(diff: &Diff, numbers: Numbers) -> Bytes {
    let columns = Columns::new(&diff.columns, numbers);
    let mut out = String::new();
    if OutputColumn::are_of_value(&diff.columns) {
        push_patch(&mut out, &diff.ops);
        return out.into();
    }
    for (position, op) in diff.ops.iter().enumerate() {
        if position > 0 {
            out.push(',');
        }
        push_op(&mut out, op, &columns);
    }
    out.into()
}

/// Appends the steps of a JSON patch (RFC 6902) between values that are no sets of rows.
fn push_patch(out: &mut String, ops: &[DiffOp]) {
    let steps = ops.iter().filter_map(|op| match op {
        DiffOp::Patch { steps, .. } => Some(steps),
        _ => None,
    });
    for (position, steps) in steps.enumerate() {
        if position > 0 {
            out.push(',');
        }
        out.push_str(steps);
    }
}

fn push_op(out: &mut String, op: &DiffOp, columns: &Columns<'_>) {
    match op {
        DiffOp::Remove { key } => {
            out.push_str("{\"op\":\"remove\",\"key\":");
            push_json_str(out, key);
        }
        DiffOp::Insert { row, at } => {
            out.push_str("{\"op\":\"insert\",\"key\":");
            push_json_str(out, row.key());
            let _ = write!(out, ",\"at\":{at},\"row\":");
            columns.push_row(out, row);
        }
        DiffOp::Update { key, set } => {
            out.push_str("{\"op\":\"update\",\"key\":");
            push_json_str(out, key);
            out.push_str(",\"set\":{");
            for (position, (column, cell)) in set.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                columns.push_field(out, *column, cell);
            }
            out.push('}');
        }
        // Of a value, which has no rows.
        DiffOp::Patch { .. } => return,
        DiffOp::Move { key, at } => {
            out.push_str("{\"op\":\"move\",\"key\":");
            push_json_str(out, key);
            let _ = write!(out, ",\"at\":{at}");
        }
    }
    out.push('}');
}
