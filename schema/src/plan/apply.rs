//! Does what a plan says, all of it or nothing.

use super::Plan;
use crate::error::SchemaError;
use tokio_postgres::Client;

/// The advisory lock that holds others up who apply a plan to the same database: "convoy" in bytes, and a number.
const LOCK: i64 = 0x636f_6e76_6f79_0001;

/// How often a plan is tried while an index meets values that are no more.
const ATTEMPTS_MAX: usize = 10;

/// Does a plan's steps in one transaction, one process at a time. Whoever came second with the same plan changes
/// nothing.
///
/// # Errors
/// [`SchemaError::Step`] where Postgres refuses a step; nothing is changed then.
pub async fn apply(client: &mut Client, plan: &Plan) -> Result<(), SchemaError> {
    if plan.is_empty() {
        return Ok(());
    }
    let mut attempt = 1;
    loop {
        match apply_once(client, plan).await {
            // An index is built on rows too that were just deleted or changed, while some snapshot may still see them;
            // what they hold is not what the plan has counted.
            Err(SchemaError::Step { source, .. })
                if attempt < ATTEMPTS_MAX && is_data_exception(&source) =>
            {
                attempt += 1;
                client.batch_execute("select pg_catalog.pg_sleep(0.1)").await?;
            }
            Err(error) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
}

/// Class 22: a value is none of its type.
fn is_data_exception(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code| code.code().starts_with("22"))
}

async fn apply_once(client: &mut Client, plan: &Plan) -> Result<(), SchemaError> {
    let transaction = client.transaction().await?;
    // An index takes as long as its table is large.
    transaction
        .batch_execute("set local statement_timeout = 0; set local lock_timeout = '10min'")
        .await?;
    transaction.execute("select pg_catalog.pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // Whoever waits for a lock on a table holds up all who come after.
    transaction.batch_execute("set local lock_timeout = '10s'").await?;
    // That something is there already is what a second one is to find, and no news.
    transaction.batch_execute("set local client_min_messages = warning").await?;
    for step in &plan.steps {
        for statement in &step.statements {
            transaction.batch_execute(statement).await.map_err(|source| SchemaError::Step {
                what: format!("{} {}", step.kind.verb(), step.name),
                sql: statement.clone(),
                source,
            })?;
        }
    }
    transaction.commit().await?;
    Ok(())
}
