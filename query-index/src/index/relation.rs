//! What is read of one table: its groups, each as long as a predicate uses it, and the templates that read it.

use crate::fields::FieldSet;
use crate::group::{Group, GroupKey};
use crate::slab::Slab;
use std::collections::HashMap;

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
