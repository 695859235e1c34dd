//! Mutations: one serializable transaction each, tried again where it lost against another's.

use super::host::CallHost;
use super::record::{self, Done, Once};
use super::tables::OpenTables;
use super::{Functions, failure, now_ms};
use crate::error::chain;
use crate::mutations::{MutationAnswer, MutationRequest, Mutations};
use crate::pipeline::EventQueue;
use crate::protocol::ApiError;
use convoy_engine::{ErrorCode, Event, MUTATION_PREFIX, QueryError};
use convoy_functions::{Call, CallKind, Caller, FunctionKind, Visibility};
use convoy_postgres::PostgresError;
use convoy_schema::StoreError;
use convoy_types::Lsn;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

/// How often a mutation is tried that loses against others.
const ATTEMPTS_MAX: u32 = 10;
/// How long it waits before it is tried again: up to so long, twice as long each time.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// How often answers are looked through that nobody asks for any more.
const FORGET_INTERVAL: Duration = Duration::from_secs(10 * 60);

/// How soon positions that could not be written are written again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// After the commit: a position that includes it. Without synchronous commit the WAL is not flushed yet (P5).
const POSITION_SQL: &str = "\
SELECT CASE WHEN pg_catalog.current_setting('synchronous_commit') = 'off'
            THEN pg_catalog.pg_current_wal_insert_lsn() ELSE pg_catalog.pg_current_wal_flush_lsn() END::pg_catalog.text";

const MESSAGE_SQL: &str = "SELECT pg_catalog.pg_logical_emit_message(true, $1, $2)";

/// Why an attempt came to nothing.
enum Lost {
    /// Against another transaction: it may be tried again.
    Race(QueryError),
    /// By these tables, which are others now.
    Outdated(QueryError, Arc<OpenTables>),
    /// For good.
    Failed(QueryError),
}

impl Mutations for Functions {
    fn attach(&self, queue: Arc<EventQueue>) {
        // A second server would be told of the first one's sessions.
        let _ = self.queue.set(queue);
    }

    fn keep_up(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let mut tick = tokio::time::interval(FORGET_INTERVAL);
            loop {
                tokio::select! {
                    _ = tick.tick() => {
                        if let Err(error) = self.forget_old_mutations().await {
                            tracing::warn!(error = %chain(&error), "old mutations are still remembered");
                        }
                    }
                    () = self.positions.gathered() => {
                        if let Err(error) = self.write_positions().await {
                            let error = chain(&error);
                            tracing::warn!(error, "where mutations are is not written yet");
                            tokio::time::sleep(WRITE_AGAIN).await;
                        }
                    }
                }
            }
        })
    }

    fn finish(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Err(error) = self.write_positions().await {
                tracing::warn!(error = %chain(&error), "repeats of the last mutations will be told another position");
            }
        })
    }

    fn is_mutation(&self, name: &str) -> bool {
        let project = self.project();
        let function = project.functions().get(name);
        function.is_some_and(|function| {
            function.kind == FunctionKind::Mutation && function.visibility == Visibility::Public
        })
    }

    fn check_arguments<'a>(
        &'a self,
        query: &'a str,
        args: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        Box::pin(async move { Ok(self.check_arguments_of(query, args).await?) })
    }

    fn mutate(&self, request: MutationRequest) -> BoxFuture<'_, Result<MutationAnswer, ApiError>> {
        Box::pin(async move { Ok(self.mutate_until_done(&request).await?) })
    }
}

impl Functions {
    async fn mutate_until_done(
        &self,
        request: &MutationRequest,
    ) -> Result<MutationAnswer, QueryError> {
        let outcome = match self.mutate_or_fail(request).await {
            Ok(answer) => Ok(answer),
            Err(error) => match self.done_before(request).await {
                // Asked for twice at once, or its connection was lost as it was committed.
                Ok(Some(answer)) => Ok(answer),
                // What the attempt said of it says more.
                Ok(None) | Err(_) => Err(error),
            },
        };
        if let Ok(answer) = &outcome {
            self.tell(request, |_, mutation| Event::MutationDone(mutation, answer.lsn));
        }
        outcome
    }

    async fn mutate_or_fail(
        &self,
        request: &MutationRequest,
    ) -> Result<MutationAnswer, QueryError> {
        let mut backoff = BACKOFF.0;
        let mut attempt = 1;
        loop {
            let error = match self.attempt(request).await {
                Ok(answer) => return Ok(answer),
                Err(Lost::Failed(error)) => return Err(error),
                Err(Lost::Race(error)) => error,
                Err(Lost::Outdated(error, tables)) => match self.renew(&tables).await {
                    true => error,
                    false => return Err(error),
                },
            };
            if attempt == ATTEMPTS_MAX {
                if error.code != ErrorCode::Conflict {
                    return Err(error);
                }
                let message = format!(
                    "others changed the same data {ATTEMPTS_MAX} times while the mutation ran: {}",
                    error.message
                );
                return Err(QueryError::new(ErrorCode::Conflict, message));
            }
            attempt += 1;
            let wait = rand::random_range(Duration::ZERO..=backoff);
            tokio::time::sleep(wait).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Returns a mutation's answer where it was done.
    async fn done_before(&self, request: &MutationRequest) -> Result<Option<MutationAnswer>, Lost> {
        let Some(once) = Once::of(request) else { return Ok(None) };
        let lease = self.pool.get().await.map_err(unavailable)?;
        let found = once.find(lease.client()).await.map_err(|error| lost(&error))?;
        match found.map_err(Lost::Failed)? {
            Some(done) => Ok(Some(self.answer_again(once, done, lease.client()).await?)),
            None => Ok(None),
        }
    }

    /// Returns what a mutation that was done was answered.
    async fn answer_again(
        &self,
        once: Once<'_>,
        Done { value, lsn }: Done,
        client: &Client,
    ) -> Result<MutationAnswer, Lost> {
        let lsn = match self.positions.known(once.id).or(lsn) {
            Some(lsn) => lsn,
            None => self.positions.note(once.id, position(client).await?),
        };
        Ok(MutationAnswer { value, lsn })
    }

    async fn attempt(&self, request: &MutationRequest) -> Result<MutationAnswer, Lost> {
        let mut lease = self.pool.get().await.map_err(unavailable)?;
        lease.mark_used();
        let client = lease.client().clone();
        let begin = "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE";
        let found = match Once::of(request) {
            None => client.batch_execute(begin).await.map(|()| Ok(None)),
            // One behind the other on the wire.
            Some(once) => {
                match tokio::join!(biased; once.find(&client), client.batch_execute(begin)) {
                    (Ok(found), Ok(())) => Ok(found.map(|done| done.map(|done| (once, done)))),
                    (Err(error), _) | (_, Err(error)) => Err(error),
                }
            }
        };
        let outcome = match found {
            Ok(Ok(Some((once, done)))) => {
                client.batch_execute("ROLLBACK").await.map_err(|error| lost(&error))?;
                return self.answer_again(once, done, &client).await;
            }
            Ok(Ok(None)) => self.run(request, &client).await,
            Ok(Err(error)) => Err(Lost::Failed(error)),
            Err(error) => Err(lost(&error)),
        };
        let committed = match outcome {
            Ok(value) => self.commit(request, &client, value).await,
            Err(error) => Err(error),
        };
        match committed {
            Ok(value) => {
                let lsn = position(&client).await?;
                let lsn = request.id.as_ref().map_or(lsn, |id| self.positions.note(id, lsn));
                Ok(MutationAnswer { value, lsn })
            }
            Err(error) => {
                // What is left of it goes with the lease.
                if client.batch_execute("ROLLBACK").await.is_err() {
                    lease.mark_broken();
                }
                Err(error)
            }
        }
    }

    /// Runs the function in the transaction.
    async fn run(&self, request: &MutationRequest, client: &Arc<Client>) -> Result<String, Lost> {
        let now_ms = now_ms();
        let host = CallHost::new(&request.name, client.clone(), self.tables(), now_ms);
        let call = Call {
            name: request.name.clone(),
            args: request.args.clone(),
            kind: CallKind::Mutation,
            caller: Caller::Client,
            now_ms,
            // Another one each time: what a mutation makes up should be new.
            seed: rand::random(),
            auth: self.auth_of(request.identity.as_deref()),
        };
        let outcome = self.runtime.call(call, host.clone()).await;
        if let Some(failure) = host.take_failure() {
            // Even where the function caught it: nothing it did can be committed any more.
            let error = failure::of_call(&request.name, failure.error.into());
            return Err(match host.outdated() {
                _ if failure.is_retryable => Lost::Race(error),
                Some(tables) => Lost::Outdated(error, tables.clone()),
                None => Lost::Failed(error),
            });
        }
        outcome.map_err(|error| {
            let error = failure::of_call(&request.name, error);
            match host.outdated() {
                Some(tables) => Lost::Outdated(error, tables.clone()),
                None => Lost::Failed(error),
            }
        })
    }

    /// Names the mutation in its transaction, and commits.
    async fn commit(
        &self,
        request: &MutationRequest,
        client: &Client,
        value: String,
    ) -> Result<String, Lost> {
        if let Some(once) = Once::of(request) {
            let kept = once.keep(client, &value).await;
            kept.map_err(|error| match error.code() {
                // The same mutation, at the same time: its answer is there next time.
                Some(&SqlState::UNIQUE_VIOLATION) => {
                    let message = "the same mutation is under way twice";
                    Lost::Race(QueryError::new(ErrorCode::Conflict, message))
                }
                _ => lost(&error),
            })?;
            let content = once.id.as_bytes();
            let message = [
                (&MUTATION_PREFIX as &(dyn tokio_postgres::types::ToSql + Sync), Type::TEXT),
                (&content, Type::BYTEA),
            ];
            client.query_typed(MESSAGE_SQL, &message).await.map_err(|error| lost(&error))?;
        } else {
            // A transaction that an error has spoilt would end with COMMIT as if nothing were wrong.
            client.batch_execute("SELECT").await.map_err(|error| lost(&error))?;
        }
        self.tell(request, |session, mutation| Event::MutationBegun { session, mutation });
        match client.batch_execute("COMMIT").await {
            Ok(()) => Ok(value),
            Err(error) => {
                // Of a connection that was lost nobody knows whether it is committed: then the stream will tell.
                if error.as_db_error().is_some() {
                    self.tell(request, |_, mutation| Event::MutationFailed(mutation));
                }
                Err(refused(&request.name, error.into()))
            }
        }
    }

    /// Tells the engine of a mutation that a session is to hear of.
    fn tell(
        &self,
        request: &MutationRequest,
        event: impl FnOnce(convoy_engine::SessionId, Arc<str>) -> Event,
    ) {
        if let (Some(session), Some(id), Some(queue)) =
            (request.session, &request.id, self.queue.get())
        {
            queue.push_control(event(session, id.clone()));
        }
    }

    /// Writes down where mutations are.
    async fn write_positions(&self) -> Result<(), PostgresError> {
        let positions = self.positions.unwritten();
        if positions.is_empty() {
            return Ok(());
        }
        let lease = self.pool.get().await?;
        record::place(lease.client(), &positions).await?;
        self.positions.written(positions.len());
        Ok(())
    }

    /// Forgets answers of mutations that nobody repeats any more.
    async fn forget_old_mutations(&self) -> Result<(), PostgresError> {
        let lease = self.pool.get().await?;
        Ok(record::forget_old(lease.client()).await?)
    }
}

async fn position(client: &Client) -> Result<Lsn, Lost> {
    let row = client.query_typed_one(POSITION_SQL, &[]).await.map_err(|error| lost(&error))?;
    let text: &str = row.try_get(0).map_err(|error| lost(&error))?;
    let lsn: Option<Lsn> = text.parse().ok();
    let lsn = lsn.ok_or_else(|| {
        Lost::Failed(QueryError::new(ErrorCode::Internal, "Postgres named no WAL position"))
    })?;
    Ok(lsn.before_bare_page_header())
}

fn unavailable(error: PostgresError) -> Lost {
    Lost::Failed(error.into())
}

/// Returns what a deferred constraint said, as if it had been said at once.
fn refused(name: &str, error: StoreError) -> Lost {
    let told = failure::of_call(name, failure::of_operation(&error).into());
    if error.is_retryable() { Lost::Race(told) } else { Lost::Failed(told) }
}

fn lost(error: &tokio_postgres::Error) -> Lost {
    let told = convoy_postgres::statement_error(error);
    match error.code() {
        Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED) => {
            Lost::Race(told)
        }
        _ => Lost::Failed(told),
    }
}
