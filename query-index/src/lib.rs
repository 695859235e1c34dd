//! Which live queries can this row change touch?
//!
//! The index holds *queries*, not rows. A statement's predicates are a template; a live query is a template with values
//! in its slots. For each table there are as many look-up structures as there are *kinds* of condition on it (which
//! fields are compared, and how), and a change costs a look-up or two in each, plus what it finds:
//!
//! | condition | a look-up costs, with n live queries of which k are found |
//! | --- | --- |
//! | `tenant = $1`, `tenant = $1 AND status = 'open'` | O(1 + k) |
//! | `id = ANY($1)`, `status IN ('new', 'open')` | O(1 + k) |
//! | `tags @> ARRAY[$1]`, `tags && $1` | O(e + k) for a row of e elements |
//! | `price BETWEEN $1 AND $2`, `name LIKE 'abc%'` | O((1 + k) log n) |
//! | `symbol = $1 AND price < $2` | O((1 + k) log n), n of those of the symbol |
//! | none, or nothing of the above | O(n) tests, or a set union where there is nothing to test |
//!
//! Tests for null are a gate before any of these. What a look-up does not decide is tested on the queries that it finds.
//! Where only the rows that a result holds can matter ([`Unheld`]), a row's key finds the results that hold it, O(1 + k)
//! whatever the condition is.
//! What a row does not tell counts as met: the index may name a query that turns out untouched, and never misses one.
//!
//! Pure: no I/O, no async, no clock.

mod fields;
mod predicate;

mod describe;
mod eval;
mod truth;

mod access;
mod access_path;
mod normal_form;
mod statistics;

mod group;
mod interval;
mod interval_chunk;
mod interval_forest;
mod membership;
mod postings;
mod queries;
mod slab;

mod error;
mod images;
mod index;
mod naive;

#[cfg(test)]
mod testing;

pub use access_path::AccessPath;
pub use error::IndexError;
pub use fields::{FieldId, FieldSet, FieldValue};
pub use images::{MatchStats, RowImages};
pub use index::QueryIndex;
pub use naive::NaiveIndex;
pub use predicate::{
    CompareOp, Condition, Holdings, OldRows, Operand, Predicate, QueryId, SlotId, SlotValue,
    TemplateId, Unheld,
};
pub use truth::Truth;
