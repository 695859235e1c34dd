//! What is read of one table: its groups, each as long as a predicate uses it, and the templates that read it.

use crate::fields::FieldSet;
use crate::group::{Group, GroupKey};
use crate::slab::Slab;
use convoy_types::RelationId;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Something for each table. Postgres numbers tables itself, so nobody can choose numbers that collide.
pub(super) type ByRelation<V> = HashMap<RelationId, V, BuildHasherDefault<RelationHasher>>;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RelationHasher(u64);

impl Hasher for RelationHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a table is written as one number")
    }

    fn write_u32(&mut self, oid: u32) {
        // The golden ratio's digits: the map takes the first bits and the last.
        self.0 = u64::from(oid).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct RelationIndex {
    pub(super) groups: Slab<Group>,
    group_numbers: HashMap<GroupKey, u32>,
    /// The templates that read the table.
    // Invariant: not empty; sorted, without duplicates.
    pub(super) templates: Vec<u32>,
    pub(super) fields_of_interest: FieldSet,
}

impl RelationIndex {
    /// Returns the number of the group of this kind, for one more predicate.
    pub(super) fn use_group(&mut self, key: GroupKey) -> u32 {
        let number = match self.group_numbers.get(&key) {
            Some(&number) => number,
            None => {
                let number = self.groups.insert(Group::new(key.clone()));
                self.group_numbers.insert(key, number);
                number
            }
        };
        if let Some(group) = self.groups.get_mut(number) {
            group.users += 1;
        }
        number
    }

    /// Gives a group up, for one predicate.
    pub(super) fn leave_group(&mut self, number: u32) {
        let Some(group) = self.groups.get_mut(number) else { return };
        group.users -= 1;
        if group.users == 0 {
            self.group_numbers.remove(&group.key);
            self.groups.remove(number);
        }
    }
}
