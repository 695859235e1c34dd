//! The tables' descriptions in force at this point of the stream.
//!
//! The server sends a table's description before its first change in the session and again after each alteration,
//! so an entry is only ever replaced, and holds for the changes that follow it. Changes keep the description that
//! they were decoded with.

use crate::pgoutput::DecodeError;
use convoy_types::{Relation, RelationId};
use std::collections::HashMap;
use std::sync::Arc;

/// The most tables that we keep descriptions of. Only tables that queries read are published, so this is far off;
/// it bounds the memory that a server gone mad can take.
const RELATIONS_MAX: usize = 200_000;

/// The descriptions by table.
#[derive(Debug, Default)]
pub(crate) struct RelationCache {
    relations: HashMap<RelationId, Arc<Relation>>,
}

impl RelationCache {
    /// Keeps a description in place of the table's former one.
    pub(crate) fn put(&mut self, relation: Arc<Relation>) -> Result<(), DecodeError> {
        if !self.relations.contains_key(&relation.id) {
            self.check_room(0)?;
        }
        self.relations.insert(relation.id, relation);
        Ok(())
    }

    /// Checks that there is room for another description, beside some that are kept elsewhere.
    pub(crate) fn check_room(&self, elsewhere: usize) -> Result<(), DecodeError> {
        match self.relations.len() + elsewhere < RELATIONS_MAX {
            true => Ok(()),
            false => Err(DecodeError::TooManyRelations { limit: RELATIONS_MAX }),
        }
    }

    /// Returns the description of a table.
    pub(crate) fn get(&self, relation: RelationId) -> Result<&Arc<Relation>, DecodeError> {
        self.relations.get(&relation).ok_or(DecodeError::UnknownRelation { relation })
    }
}
