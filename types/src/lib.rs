//! Convoy's vocabulary: what every other crate means by a position, a table, a row, a value and a key.
//!
//! The life of a row in these types: the WAL describes a table ([`Relation`]), then sends changes of its rows
//! ([`RowChange`]) as text, one [`Datum`] a column, gathered into a committed [`Transaction`]. A column's text is
//! read when somebody asks: as an order-preserving [`Key`] to compare it, as JSON to show it.
//!
//! Pure: no I/O, no async, no clock. `serde_json` appears in the tests of `json.rs` alone.

mod change;
mod connection_string;
mod database_url;
mod date_time;
mod error;
mod hex;
mod json;
mod json_path;
mod key;
mod key_range;
mod lsn;
mod nearest;
mod number;
mod pg_type;
mod relation;
mod row;
mod timestamp;
mod transaction;
mod xid;

pub use change::{ChangeKind, OldRow, RowChange};
pub use database_url::{
    ChannelBinding, DatabaseUrl, Host, ParseUrlError, SslMode, TargetSessionAttrs,
};
pub use error::{ParseLsnError, ParseSnapshotError, ParseValueError};
pub use json::{quote_numbers, write_json};
pub use json_path::{json_at, json_elements, json_members, json_text};
pub use key::{Key, KeyBuilder};
pub use key_range::KeyRange;
pub use lsn::Lsn;
pub use nearest::nearest;
pub use pg_type::{Collation, PgType};
pub use relation::{Column, Relation, RelationId, ReplicaIdentity};
pub use row::{Datum, Row};
pub use timestamp::PgTimestamp;
pub use transaction::{Changes, LogicalMessage, Transaction};
pub use xid::{FullXid, SnapshotMark, Xid};
