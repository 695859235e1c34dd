//! Integration tests of `convoy-schema`, in one binary: they share one private server.

mod failures;
mod graduations;
mod laws;
mod model;
mod odd_names;
mod operations;
mod pages;
mod plans;
mod raw;
mod support;
mod unmanaged;
