//! What the index refuses.

use crate::predicate::{QueryId, SlotId, TemplateId};

/// Why a template or a live query was not taken into the index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The template is in the index already.
    #[error("template {} is in the index already", .0.0)]
    DuplicateTemplate(TemplateId),
    /// The template is not in the index.
    #[error("template {} is not in the index", .0.0)]
    UnknownTemplate(TemplateId),
    /// The query is in the index already.
    #[error("query {} is in the index already", .0.0)]
    DuplicateQuery(QueryId),
    /// The query is not in the index.
    #[error("query {} is not in the index", .0.0)]
    UnknownQuery(QueryId),
    /// The id is above [`QueryId::MAX`].
    #[error("query id {} is above {}", .0.0, QueryId::MAX.0)]
    QueryIdRange(QueryId),
    /// The template names a slot that the query does not fill.
    #[error("slot {} is not among the {given} given", .slot.0)]
    MissingSlot {
        /// The slot that the template names.
        slot: SlotId,
        /// How many the query fills.
        given: usize,
    },
    /// The query fills a slot with an array where the template compares one value.
    #[error("slot {} holds an array where one value is compared", .0.0)]
    ArrayInSlot(SlotId),
}
