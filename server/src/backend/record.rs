//! Which mutations were done: a table of ours, written in the mutation's own transaction, so that a repeat of one is
//! told the first answer and does nothing.

use convoy_engine::{ErrorCode, QueryError};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Creates what is missing. Two servers may begin at once.
pub(crate) const CREATE_SQL: &str = "\
SELECT pg_catalog.pg_advisory_xact_lock(7232410573);
CREATE SCHEMA IF NOT EXISTS convoy;
CREATE TABLE IF NOT EXISTS convoy.mutations (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  identity text,
  answer text NOT NULL,
  at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX IF NOT EXISTS mutations_at ON convoy.mutations (at);
COMMENT ON SCHEMA convoy IS 'what Convoy remembers: drop it with CASCADE when Convoy is gone'";

const FIND_SQL: &str = "\
SELECT name, identity, answer FROM convoy.mutations WHERE id = $1::pg_catalog.text::pg_catalog.uuid";

const KEEP_SQL: &str = "\
INSERT INTO convoy.mutations (id, name, identity, answer)
VALUES ($1::pg_catalog.text::pg_catalog.uuid, $2, $3, $4)";

const FORGET_SQL: &str = "\
DELETE FROM convoy.mutations WHERE at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)";

/// Returns the first answer of a mutation, where it was done.
///
/// # Errors
/// Where another mutation, or another's, has its id.
pub(super) async fn find(
    client: &Client,
    id: &str,
    name: &str,
    identity: Option<&str>,
) -> Result<Result<Option<String>, QueryError>, tokio_postgres::Error> {
    let found = client.query_typed(FIND_SQL, &[(&id, Type::TEXT)]).await?;
    let Some(row) = found.first() else { return Ok(Ok(None)) };
    let (of, whose): (String, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    if of != name || whose.as_deref() != identity {
        let message =
            "x-convoy-mutation names a mutation that was another one: give each its own UUID";
        return Ok(Err(QueryError::new(ErrorCode::Conflict, message)));
    }
    Ok(Ok(Some(row.try_get(2)?)))
}

/// Remembers a mutation's answer.
pub(super) async fn keep(
    client: &Client,
    id: &str,
    name: &str,
    identity: Option<&str>,
    answer: &str,
) -> Result<(), tokio_postgres::Error> {
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
        [(&id, Type::TEXT), (&name, Type::TEXT), (&identity, Type::TEXT), (&answer, Type::TEXT)];
    client.query_typed(KEEP_SQL, &params).await.map(drop)
}

/// Forgets answers that are no longer of interest.
pub(super) async fn forget_old(client: &Client) -> Result<(), tokio_postgres::Error> {
    let secs = REMEMBERED.as_secs_f64();
    client.query_typed(FORGET_SQL, &[(&secs, Type::FLOAT8)]).await.map(drop)
}
