//! An ear at the line, for tests that compare: which transactions stand at which point of it, and where the snapshots of
//! reads close.

use crate::database::Snapshot;
use crate::line::Position;
use convoy_types::{FullXid, Transaction};

/// Hears what the line does. Called on the engine's thread: while it listens, nothing else happens.
pub trait Observer: Send {
    /// A transaction was applied, and is the one at this position.
    fn applied(&mut self, position: Position, xid: FullXid, transaction: &Transaction);

    /// A read's snapshot shows exactly the transactions up to this position. What is to be read at it is not read yet.
    fn closed(&mut self, position: Position, snapshot: &Snapshot);
}
