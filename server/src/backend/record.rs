//! Which mutations were done: a table of ours, written in the mutation's own transaction, so that a repeat of one is
//! told the first answer and does nothing.

use crate::mutations::MutationRequest;
use convoy_engine::{ErrorCode, QueryError};
use convoy_types::Lsn;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// How long an answer is remembered.
const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

/// Creates what is missing. Two servers may begin at once, and an older one may have made the table.
pub(crate) const CREATE_SQL: &str = "\
SELECT pg_catalog.pg_advisory_xact_lock(7232410573);
CREATE SCHEMA IF NOT EXISTS convoy;
CREATE TABLE IF NOT EXISTS convoy.mutations (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  args bytea NOT NULL,
  identity text,
  answer text NOT NULL,
  lsn pg_lsn,
  at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = 'convoy.mutations'::pg_catalog.regclass AND attname = 'lsn')
  THEN ALTER TABLE convoy.mutations ADD COLUMN lsn pg_lsn; END IF;
END $$;
CREATE INDEX IF NOT EXISTS mutations_at ON convoy.mutations (at);
COMMENT ON SCHEMA convoy IS 'what Convoy remembers: drop it with CASCADE when Convoy is gone'";

const FIND_SQL: &str = "\
SELECT name = $2 AND args = pg_catalog.sha256(pg_catalog.convert_to($3, 'UTF8')) AND identity IS NOT DISTINCT FROM $4, answer,
       lsn::pg_catalog.text
FROM convoy.mutations WHERE id = $1::pg_catalog.text::pg_catalog.uuid";

const KEEP_SQL: &str = "\
INSERT INTO convoy.mutations (id, name, args, identity, answer)
VALUES ($1::pg_catalog.text::pg_catalog.uuid, $2, pg_catalog.sha256(pg_catalog.convert_to($3, 'UTF8')), $4, $5)";

const PLACE_SQL: &str = "\
UPDATE convoy.mutations AS m SET lsn = p.lsn::pg_catalog.pg_lsn
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS p (id, lsn)
WHERE m.id = p.id::pg_catalog.uuid AND m.lsn IS NULL";

const FORGET_SQL: &str = "\
DELETE FROM convoy.mutations WHERE at < pg_catalog.now() - pg_catalog.make_interval(secs => $1)";

/// A mutation that is done once.
#[derive(Clone, Copy)]
pub(super) struct Once<'a> {
    pub id: &'a Arc<str>,
    pub request: &'a MutationRequest,
}

/// What a mutation was answered.
pub(super) struct Done {
    pub value: String,
    /// The position; none where it was not written (`positions.rs`).
    pub lsn: Option<Lsn>,
}

impl<'a> Once<'a> {
    /// Returns the mutation that a request asks for, where it names one.
    pub fn of(request: &'a MutationRequest) -> Option<Once<'a>> {
        Some(Once { id: request.id.as_ref()?, request })
    }

    /// Returns its first answer, where it was done. Not to be asked in a serializable transaction: what it looks through
    /// would be among what that has read, and each mutation that is kept would be in conflict with it.
    ///
    /// # Errors
    /// Where another mutation, other arguments, or another's, has its id.
    pub async fn find(
        self,
        client: &Client,
    ) -> Result<Result<Option<Done>, QueryError>, tokio_postgres::Error> {
        let identity = self.request.identity.as_deref();
        let params: [(&(dyn ToSql + Sync), Type); 4] = [
            (&&**self.id, Type::TEXT),
            (&self.request.name, Type::TEXT),
            (&self.request.args, Type::TEXT),
            (&identity, Type::TEXT),
        ];
        let found = client.query_typed(FIND_SQL, &params).await?;
        let Some(row) = found.first() else { return Ok(Ok(None)) };
        if !row.try_get::<_, bool>(0)? {
            let message = "x-convoy-mutation names a mutation that was another one, or had other arguments: give each its own UUID";
            return Ok(Err(QueryError::new(ErrorCode::Conflict, message)));
        }
        let lsn: Option<&str> = row.try_get(2)?;
        let lsn = lsn.and_then(|lsn| lsn.parse().ok());
        Ok(Ok(Some(Done { value: row.try_get(1)?, lsn })))
    }

    /// Remembers its answer.
    pub async fn keep(self, client: &Client, answer: &str) -> Result<(), tokio_postgres::Error> {
        let identity = self.request.identity.as_deref();
        let params: [(&(dyn ToSql + Sync), Type); 5] = [
            (&&**self.id, Type::TEXT),
            (&self.request.name, Type::TEXT),
            (&self.request.args, Type::TEXT),
            (&identity, Type::TEXT),
            (&answer, Type::TEXT),
        ];
        client.query_typed(KEEP_SQL, &params).await.map(drop)
    }
}

/// Writes beside answers which position each was given with.
pub(super) async fn place(
    client: &Client,
    positions: &[(Arc<str>, Lsn)],
) -> Result<(), tokio_postgres::Error> {
    let ids: Vec<&str> = positions.iter().map(|(id, _)| &**id).collect();
    let lsns: Vec<String> = positions.iter().map(|(_, lsn)| lsn.to_string()).collect();
    let params: [(&(dyn ToSql + Sync), Type); 2] =
        [(&ids, Type::TEXT_ARRAY), (&lsns, Type::TEXT_ARRAY)];
    client.query_typed(PLACE_SQL, &params).await.map(drop)
}

/// Forgets answers that are no longer of interest.
pub(super) async fn forget_old(client: &Client) -> Result<(), tokio_postgres::Error> {
    let secs = REMEMBERED.as_secs_f64();
    client.query_typed(FORGET_SQL, &[(&secs, Type::FLOAT8)]).await.map(drop)
}
