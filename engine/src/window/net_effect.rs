//! The net effect of a batch on the rows of one table: what became of each, whatever came between.
//!
//! The stream's order is not the order in which snapshots show transactions (`docs/postgres.md`, P6), so a window may
//! depend on what a row is in the end alone.

use super::Refill;
use crate::tables::{Fields, TableChange, primary_key};
use crate::template::WindowPlan;
use convoy_types::{Datum, Key};
use std::collections::BTreeMap;

/// What became of one row over a batch.
pub(super) struct Net {
    /// The row as it now is; none where it went.
    pub(super) now: Option<Fields>,
    /// The key under which the window may hold it from before: where its unchanged TOASTed values are.
    pub(super) origin: Option<Key>,
}

/// Returns what became of each row that the changes name, by its key.
pub(super) fn net_effect<'a>(
    plan: &WindowPlan,
    changes: impl Iterator<Item = &'a TableChange>,
) -> Result<BTreeMap<Key, Net>, Refill> {
    let mut net: BTreeMap<Key, Net> = BTreeMap::new();
    for change in changes {
        let Some(new) = &change.new else {
            let key = change.old_key().ok_or(Refill)?;
            net.insert(key, Net { now: None, origin: None });
            continue;
        };
        let key = primary_key(&plan.table, new).ok_or(Refill)?;
        if !change.is_update {
            net.insert(key, Net { now: Some(new.clone()), origin: None });
            continue;
        }
        let old_key = change.old_key().ok_or(Refill)?;
        // First by the row that the stream tells: what the batch told of it before may be overtaken by changes that were
        // none of the window's business.
        let new = match &change.old {
            Some(old) => filled(new, old),
            None => new.clone(),
        };
        let before = net.remove(&old_key);
        let (fields, origin) = match before {
            Some(Net { now: Some(before), origin }) => (filled(&new, &before), origin),
            // It went and came back, by an insert that was none of the window's business: that one had the values.
            Some(Net { now: None, .. }) => (new, None),
            None => (new, Some(old_key.clone())),
        };
        if old_key != key {
            net.insert(old_key, Net { now: None, origin: None });
        }
        net.insert(key, Net { now: Some(fields), origin });
    }
    Ok(net)
}

/// Returns a row with the values that it left unchanged taken from the row before, where that has them.
fn filled(new: &Fields, before: &Fields) -> Fields {
    let fill = |(new, before): (&Datum, &Datum)| match (new, before) {
        (Datum::UnchangedToast, Datum::Missing) => Datum::UnchangedToast,
        (Datum::UnchangedToast, _) => before.clone(),
        _ => new.clone(),
    };
    new.iter().zip(before).map(fill).collect()
}
