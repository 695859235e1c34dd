//! The index as its users see it.
//!
//! `CONVOY_SEED` replays the case that a failure names; `CONVOY_CASES` multiplies how many cases are tried.

mod complexity;
mod generate;
mod laws;
mod oracle;
mod support;
