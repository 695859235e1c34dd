//! query-index
