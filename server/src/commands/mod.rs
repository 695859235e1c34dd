//! The commands of the `convoy` binary, one a file.

pub mod bench;
pub mod demo;
pub mod doctor;
pub mod explain;
pub mod init;
mod output;
pub mod query;
pub mod serve;
