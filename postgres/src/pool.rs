//! A bounded set of connections: how many there are, who waits for one, and what a connection goes through before
//! somebody else gets it.

use crate::connect::{Connection, ServerStart, connect_to};
use crate::error::PostgresError;
use crate::session::{RESET, SessionOptions};
use convoy_types::DatabaseUrl;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;

/// A connection older than this is replaced, so that changed settings of the role come into force.
const AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// How long the clean-up of a connection may take before it is thrown away.
const RESET_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the network may take on top of what the server gives a statement.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A bounded set of connections as one role; cheap to clone.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    url: DatabaseUrl,
    session: SessionOptions,
    connections_max: usize,
    wait_max: Duration,
    permits: Arc<Semaphore>,
    state: Mutex<State>,
    /// Counts the changes of the catalogue that were heard of.
    generation: AtomicU64,
    /// Which of the URL's hosts last let us in.
    last_host: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    // Invariant: never longer than `connections_max`, as each was leased with a permit; all of them of `epoch`.
    idle: Vec<Connection>,
    /// The only server that connections may lead to, where there is one.
    server: Option<ServerStart>,
    /// Counts what `server` has been: connections from before are not used again.
    epoch: u64,
}

/// A connection that is ours until it is dropped.
#[derive(Debug)]
pub struct Lease {
    /// None only while it is being dropped.
    connection: Option<Connection>,
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Inner>,
    state: LeaseState,
    epoch: u64,
    /// Closes the connection when the lease lasts too long.
    watchdog: Option<AbortHandle>,
}

/// What must happen to a connection when its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeaseState {
    /// Nothing: no transaction, no setting, no lock.
    Clean,
    /// It goes through [`RESET`].
    Used,
    /// It is closed.
    Broken,
}

impl Pool {
    /// Returns a pool that connects when it is first asked.
    pub fn new(
        url: DatabaseUrl,
        session: SessionOptions,
        connections_max: usize,
        wait_max: Duration,
    ) -> Pool {
        Pool(Arc::new(Inner {
            url,
            session,
            connections_max,
            wait_max,
            permits: Arc::new(Semaphore::new(connections_max)),
            state: Mutex::default(),
            last_host: AtomicUsize::new(0),
            generation: AtomicU64::new(0),
        }))
    }

    /// Returns a connection, an idle one if there is one.
    ///
    /// # Errors
    /// [`PostgresError::PoolBusy`] when all are in use for too long, and whatever stands in the way of a new one.
    pub async fn get(&self) -> Result<Lease, PostgresError> {
        let busy = || PostgresError::PoolBusy {
            connections_max: self.0.connections_max,
            limit: self.0.wait_max,
        };
        let waiting = self.0.permits.clone().acquire_owned();
        let permit = tokio::time::timeout(self.0.wait_max, waiting)
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        self.lease(permit).await
    }

    /// Returns a connection for a few short statements, which together take no longer than one may, and `more`. Past
    /// that it is closed under them, and they fail: a connection may be dead without anybody's noticing.
    ///
    /// # Errors
    /// Those of [`get`](Pool::get).
    pub async fn get_briefly(&self, more: Duration) -> Result<Lease, PostgresError> {
        let mut lease = self.get().await?;
        let limit = self.answer_max() + more;
        let (driver, pool) = (lease.driver(), self.clone());
        let watchdog = tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            tracing::warn!(?limit, "a connection to Postgres gave no answer: it is closed");
            driver.abort();
            pool.close_idle();
        });
        lease.watchdog = Some(watchdog.abort_handle());
        Ok(lease)
    }

    /// Returns how long an answer may take before its connection counts as dead, and others as suspect.
    pub(crate) fn answer_max(&self) -> Duration {
        self.0.session.statement_timeout + SILENCE_MAX
    }

    /// Lets connections lead to this server alone from now on, or to any again. Those that there are are not used any
    /// more, which were to who knows what server, and perhaps to one that is gone without a word.
    pub fn bind_to(&self, server: Option<ServerStart>) {
        let mut state = self.0.state();
        state.server = server;
        state.epoch += 1;
        state.idle.clear();
    }

    /// Returns a connection if one may be had without waiting for somebody else to give his back.
    pub async fn try_get(&self) -> Option<Result<Lease, PostgresError>> {
        let permit = self.0.permits.clone().try_acquire_owned().ok()?;
        Some(self.lease(permit).await)
    }

    async fn lease(&self, permit: OwnedSemaphorePermit) -> Result<Lease, PostgresError> {
        let generation = self.0.generation.load(Ordering::Acquire);
        let (idle, server, epoch) = self.0.take_idle();
        let mut connection = match idle {
            Some(connection) => connection,
            None => connect_to(&self.0.url, &self.0.session, server, &self.0.last_host).await?,
        };
        connection.renew(generation);
        Ok(Lease {
            connection: Some(connection),
            permit: Some(permit),
            pool: self.0.clone(),
            state: LeaseState::Clean,
            epoch,
            watchdog: None,
        })
    }

    /// Returns the role that the connections log in as.
    pub fn user(&self) -> &str {
        &self.0.url.user
    }

    /// Says that the catalogue has changed: what is prepared is prepared again.
    pub(crate) fn prepare_anew(&self) {
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Closes the idle connections; those in use close when they come back.
    pub fn close_idle(&self) {
        self.0.state().idle.clear();
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an idle connection, if there is one, and what a new one would have to be.
    fn take_idle(&self) -> (Option<Connection>, Option<ServerStart>, u64) {
        let mut state = self.state();
        let is_good =
            |connection: &Connection| !connection.is_closed() && connection.age() < AGE_MAX;
        let mut idle = state.idle.pop();
        while idle.as_ref().is_some_and(|connection| !is_good(connection)) {
            idle = state.idle.pop();
        }
        (idle, state.server, state.epoch)
    }

    /// Takes a connection back that is as a new one.
    fn put_idle(&self, connection: Connection, epoch: u64) {
        let mut state = self.state();
        if state.epoch == epoch {
            state.idle.push(connection);
        }
    }
}

impl Lease {
    /// Says that a transaction begins, or anything else that the next user must not meet.
    pub fn mark_used(&mut self) {
        if self.state == LeaseState::Clean {
            self.state = LeaseState::Used;
        }
    }

    /// Says that the connection must not be used again.
    pub fn mark_broken(&mut self) {
        self.state = LeaseState::Broken;
    }

    /// Returns whether the connection must not be used again.
    pub fn is_broken(&self) -> bool {
        self.state == LeaseState::Broken
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("only drop takes it out")
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("only drop takes it out")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.abort();
        }
        let Some(connection) = self.connection.take() else { return };
        let epoch = self.epoch;
        let (permit, pool) = (self.permit.take(), self.pool.clone());
        if connection.is_closed() || self.state == LeaseState::Broken {
            return;
        }
        if self.state == LeaseState::Clean {
            pool.put_idle(connection, epoch);
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let reset = connection.client().batch_execute(RESET);
            match tokio::time::timeout(RESET_TIMEOUT, reset).await {
                Ok(Ok(())) => pool.put_idle(connection, epoch),
                Ok(Err(error)) => tracing::debug!(%error, "a connection could not be reset"),
                Err(_) => tracing::debug!("a connection could not be reset in time"),
            }
            drop(permit);
        });
    }
}
