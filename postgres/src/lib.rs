//! Everything in Convoy that asks the database.

pub mod launcher;
pub mod testing;
