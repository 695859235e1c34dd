//! What the index is asked: one row change, as the row was and as it is.

use crate::fields::{FieldSet, FieldValue};
use convoy_types::{Key, RelationId};

/// A row change. Which kind it is follows from what is there:
///
/// | | `old` | `old_key` | `new` |
/// | --- | --- | --- | --- |
/// | insert | none | none | the row |
/// | update | the row; none or partly unknown if not sent | the key, if the table has one | the row |
/// | delete | the row; none or partly unknown if not sent | the key, if the table has one | none |
///
/// An update of a table without a key therefore has an `old`, if all unknown; else it would be taken for an insert.
#[derive(Clone, Copy, Debug)]
pub struct RowImages<'a> {
    /// The table; the root, for a partitioned one.
    pub relation: RelationId,
    /// The row as it was, by [`crate::FieldId`]; fields behind the end are unknown.
    pub old: Option<&'a [FieldValue]>,
    /// The row as it is; fields behind the end are unknown.
    pub new: Option<&'a [FieldValue]>,
    /// The row's key as it was. An update that leaves the key alone has one too.
    pub old_key: Option<&'a Key>,
    /// The row's key as it is.
    pub new_key: Option<&'a Key>,
    /// Which fields an update changed; `None` where it may be any.
    pub changed: Option<&'a FieldSet>,
}

impl<'a> RowImages<'a> {
    /// Returns the row as it was, with nothing known where it was not sent; `None` for an insert.
    pub(crate) fn old_row(&self) -> Option<&'a [FieldValue]> {
        let is_insert = self.old.is_none()
            && self.old_key.is_none()
            && self.changed.is_none()
            && self.new.is_some();
        (!is_insert).then(|| self.old.unwrap_or(&[]))
    }

    /// Returns whether the change changes one of these fields, as far as is known.
    pub(crate) fn changes(&self, fields: &FieldSet) -> bool {
        let is_update = self.new.is_some() && self.old_row().is_some();
        !is_update || self.changed.is_none_or(|changed| changed.intersects(fields))
    }
}

/// What an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchStats {
    /// Look-ups: maps asked, and nodes of interval trees looked at.
    pub probes: usize,
    /// Live queries whose condition was evaluated.
    pub tested: usize,
    /// Those of them that the change does not touch.
    pub rejected: usize,
}

impl std::ops::AddAssign for MatchStats {
    fn add_assign(&mut self, other: MatchStats) {
        self.probes += other.probes;
        self.tested += other.tested;
        self.rejected += other.rejected;
    }
}
