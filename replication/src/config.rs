//! What a replication connection needs to know.

use convoy_types::DatabaseUrl;
use std::time::Duration;

/// Which replication slot to read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotChoice {
    /// One with a random name that lives as long as the connection: no WAL piles up behind a process that died.
    Temporary,
    /// One that outlives us, made if it is missing: a restart goes on where it was left and waits for nobody.
    Named(String),
}

/// How to connect and what to read. [`ReplicationConfig::new`] gives the defaults.
#[derive(Clone, Debug)]
pub struct ReplicationConfig {
    /// The database, and the role to log in as; it needs the REPLICATION attribute. Whatever its
    /// `target_session_attrs` says, only a primary will do.
    pub url: DatabaseUrl,
    /// The slot. Temporary by default.
    pub slot: SlotChoice,
    /// The publications to read; they exist before the slot does (P1). `convoy_full` and `convoy_ins` by default.
    pub publications: Vec<String>,
    /// The time zone of `timestamptz` texts, as Postgres names it. `UTC` by default.
    pub time_zone: String,
    /// The most rows of one transaction that are kept; past it, only the tables that it touched are. 100,000 by
    /// default: from there on, reading a result again costs less than maintaining it row by row.
    pub transaction_rows_max: usize,
    /// The most memory in bytes that one transaction's rows may take; past it as above. 64 MiB by default, which a
    /// small machine can spare.
    pub transaction_bytes_max: usize,
    /// After how long a silent connection is dead, for the server (`wal_sender_timeout`, set for this connection
    /// alone) and for us. 15 s by default: a dead process' temporary slot is gone after that, even where the server
    /// as a whole would never notice (P10). Whole milliseconds, at least 1 s.
    pub wal_sender_timeout: Duration,
    /// How often the server is told how far we are. 1 s by default: the server can let WAL go no sooner, and each
    /// report costs it a wake-up.
    pub status_interval: Duration,
}

impl ReplicationConfig {
    /// Returns the defaults for a database.
    pub fn new(url: DatabaseUrl) -> Self {
        ReplicationConfig {
            url,
            slot: SlotChoice::Temporary,
            publications: vec!["convoy_full".to_owned(), "convoy_ins".to_owned()],
            time_zone: "UTC".to_owned(),
            transaction_rows_max: 100_000,
            transaction_bytes_max: 64 * 1024 * 1024,
            wal_sender_timeout: Duration::from_secs(15),
            status_interval: Duration::from_secs(1),
        }
    }
}
