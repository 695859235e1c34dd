//! A session that is logged in and not yet streaming.
//!
//! Making a slot waits for every transaction that is open at that time, so it is a step of its own: before it, the
//! caller learns the walsender's process id, and can ask `pg_blocking_pids` about it over a connection of its own
//! while [`ReplicationSession::start`] waits.

use crate::assembler::Budget;
use crate::config::ReplicationConfig;
use crate::connection::{Canceller, Connection};
use crate::error::ReplicationError;
use crate::slot;
use crate::stream::ReplicationStream;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{debug, info};

/// Which server this is: another one, or another timeline of the same, has another history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// The cluster's identifier (IDENTIFY_SYSTEM).
    pub system_identifier: u64,
    /// The timeline; it changes with each promotion.
    pub timeline: u32,
    /// The server's version, as in `server_version_num`: 150018 is 15.18.
    pub version_num: u32,
    /// When it was started, in microseconds since 1970: no two servers have one.
    pub started_micros: i64,
}

/// A session that is logged in and has looked whether it can stream.
#[derive(Debug)]
pub struct ReplicationSession {
    config: ReplicationConfig,
    budget: Budget,
    connection: Connection,
    identity: ServerIdentity,
}

impl ReplicationSession {
    /// Logs in to the first host that will do, and looks whether it can stream: version, `wal_level`, publications.
    ///
    /// # Errors
    /// Whatever keeps us from it; with several hosts, [`ReplicationError::NoHost`] if none will do.
    pub async fn open(config: ReplicationConfig) -> Result<Self, ReplicationError> {
        let budget = Budget {
            rows_max: config.transaction_rows_max,
            bytes_max: config.transaction_bytes_max,
        };
        let mut attempts = Vec::new();
        for host in &config.url.hosts {
            let opened = async {
                let mut connection =
                    Connection::open(&config, host, budget.message_bytes_max()).await?;
                let limit = config.url.connect_timeout;
                let late = |_| ReplicationError::Silent { silence: limit };
                let identity = timeout(limit, slot::inspect(&mut connection, &config))
                    .await
                    .map_err(late)??;
                Ok((connection, identity))
            };
            match opened.await {
                Ok((connection, identity)) => {
                    return Ok(ReplicationSession { config, budget, connection, identity });
                }
                Err(error)
                    if config.url.hosts.len() > 1 && ReplicationError::is_of_host(&error) =>
                {
                    debug!(%error, "a host won't do");
                    attempts.push(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(ReplicationError::NoHost { attempts })
    }

    /// Returns which server this is.
    pub fn identity(&self) -> ServerIdentity {
        self.identity
    }

    /// Returns the walsender's process id, for `pg_blocking_pids` and `pg_stat_replication`.
    pub fn backend_pid(&self) -> i32 {
        self.connection.backend_pid()
    }

    /// Makes the slot, or takes it over, and begins to stream.
    ///
    /// Making one waits, without a limit of its own, for every transaction that is open by then. To give up, drop the
    /// future: the server is told to stop.
    ///
    /// # Errors
    /// What the slot can't be had for: `SlotHeld`, `SlotForeign`, `SlotLost`, `NoFreeSlot`; or a lost connection.
    pub async fn start(mut self) -> Result<ReplicationStream, ReplicationError> {
        let guard = CancelOnDrop(Some(self.connection.canceller()));
        let slot = slot::claim(&mut self.connection, &self.config).await;
        guard.disarm();
        let slot = slot?;
        slot::start(&mut self.connection, &self.config, &slot).await?;
        info!(slot = slot.name, start = %slot.start, pid = self.backend_pid(), "streaming");
        Ok(ReplicationStream::new(self.connection, slot, self.identity, self.budget, &self.config))
    }
}

/// Cancels what the walsender waits for when nobody waits for the walsender any more: it would not notice that we are
/// gone until then.
struct CancelOnDrop(Option<Canceller>);

impl CancelOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(canceller) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(canceller.cancel());
        }
    }
}
