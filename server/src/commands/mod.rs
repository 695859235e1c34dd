//! The commands of the `convoy` binary, one a file.

pub mod bench;
pub mod demo;
pub mod dev;
pub mod doctor;
pub mod explain;
mod function;
pub mod graduate;
pub mod init;
pub mod migrate;
mod output;
pub mod query;
pub mod serve;
