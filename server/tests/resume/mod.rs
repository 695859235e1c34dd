//! Streams that break, and clients that come back: to the server that they know, or to another on the same database.

mod client;
mod cuts;
mod herd;
mod news;
mod old_ids;
mod polls;
mod restart;
