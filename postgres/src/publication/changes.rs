//! What has to change for the publications to be as they should, from what is to be a member and what is one.

use super::definition::Ours;
use super::membership::{Member, Membership};
use convoy_types::RelationId;
use std::collections::BTreeMap;

/// The changes, and what follows from them for whom we wait for.
pub(super) struct Changes {
    /// The SQL, in the order in which it has to run.
    pub(super) statements: Vec<String>,
    pub(super) added: Vec<RelationId>,
    /// Those that are members already.
    pub(super) there: Vec<(RelationId, Member)>,
}

impl Changes {
    /// Returns the changes that lead from these members to these memberships.
    pub(super) fn between(
        memberships: &BTreeMap<RelationId, Membership>,
        members: &BTreeMap<(RelationId, Ours), Member>,
    ) -> Changes {
        let mut changes = Changes { statements: Vec::new(), added: Vec::new(), there: Vec::new() };
        for (&id, membership) in memberships {
            for publication in [Ours::Full, Ours::Inserts] {
                let is_member = members.get(&(id, publication)).copied();
                let should = membership.of == Some(publication);
                let alter = format!("ALTER PUBLICATION {}", publication.name());
                match (is_member, should) {
                    (None, true) => {
                        let add = format!("{alter} ADD TABLE ONLY {}", membership.name);
                        changes.statements.push(add);
                        changes.added.push(id);
                    }
                    (Some(_), false) => {
                        let drop = format!("{alter} DROP TABLE ONLY {}", membership.name);
                        changes.statements.insert(0, drop);
                    }
                    (Some(member), true) => changes.there.push((id, member)),
                    (None, false) => {}
                }
            }
        }
        changes
    }
}
