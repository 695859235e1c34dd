//! Our two publications as objects of the database: their names, what they publish, how they are made.
//!
//! Which tables are in them is left to `membership`.

use crate::error::{PostgresError, chain};
use convoy_engine::{ErrorCode, QueryError};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// The publication of tables whose every change is streamed.
pub const FULL: &str = "convoy_full";
/// The publication of tables without a usable identity: inserts and truncates only.
pub const INSERTS_ONLY: &str = "convoy_ins";

const PUBLICATIONS_SQL: &str = "\
SELECT p.pubname::text, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot,
       EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s WHERE s.pnpubid = p.oid),
       coalesce(pg_catalog.to_jsonb(p) ->> 'pubgencols', 's') = 's',
       EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
               WHERE r.prpubid = p.oid AND (r.prqual IS NOT NULL OR r.prattrs IS NOT NULL))
FROM pg_catalog.pg_publication p WHERE p.pubname IN ('convoy_full', 'convoy_ins')";

/// Since 18 an UPDATE of the user's fails where the replica identity has generated columns that the publication leaves
/// out (P1); before 18 there is no such option, and no such failure.
const WITH_GENERATED: &str = "(publish_generated_columns = stored)";
/// The first version with that option.
const GENERATED_FROM: i32 = 180_000;

/// One of our two publications.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ours {
    Full,
    Inserts,
}

impl Ours {
    pub(super) fn name(self) -> &'static str {
        match self {
            Ours::Full => FULL,
            Ours::Inserts => INSERTS_ONLY,
        }
    }
}

/// Makes our publications where they are missing, and refuses others of the same names.
pub(super) async fn create_publications(client: &Client) -> Result<(), QueryError> {
    let rows = client.query_typed(PUBLICATIONS_SQL, &[]).await.map_err(PostgresError::from)?;
    let sql = "SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4";
    let version = client.query_typed_one(sql, &[]).await.map_err(PostgresError::from)?;
    let version: i32 = version.try_get(0).map_err(PostgresError::from)?;
    let mut create_full = format!("CREATE PUBLICATION {FULL}");
    if version >= GENERATED_FROM {
        create_full.push_str(&format!(" WITH {WITH_GENERATED}"));
    }
    let mut missing = vec![
        (FULL, create_full),
        (
            INSERTS_ONLY,
            format!("CREATE PUBLICATION {INSERTS_ONLY} WITH (publish = 'insert, truncate')"),
        ),
    ];
    for row in rows {
        let get = |column: usize| row.try_get::<_, bool>(column).map_err(PostgresError::from);
        let name: &str = row.try_get(0).map_err(PostgresError::from)?;
        let updates = name == FULL;
        let as_ours = !get(1)?
            && get(2)?
            && get(3)? == updates
            && get(4)? == updates
            && get(5)?
            && !get(6)?
            && !get(7)?
            // Row filters and column lists: changes would be left out, or the user's own writes fail (P1).
            && !get(9)?;
        if !as_ours {
            let message = format!(
                "the publication {name} is not as Convoy makes it, and might break writes; \
                 drop it and it will be made again: DROP PUBLICATION {name}"
            );
            return Err(QueryError::new(ErrorCode::Unavailable, message));
        }
        if updates && !get(8)? {
            // From before an upgrade to 18.
            let sql = format!("ALTER PUBLICATION {FULL} SET {WITH_GENERATED}");
            let altered = client.batch_execute(&sql).await;
            altered.map_err(|error| refusal(&error, &[sql]))?;
        }
        missing.retain(|(missing, _)| *missing != name);
    }
    for (_, sql) in missing {
        match client.batch_execute(&sql).await {
            Ok(()) => tracing::info!(sql, "made a publication"),
            // Another Convoy was quicker.
            Err(error)
                if matches!(
                    error.code(),
                    Some(&SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION)
                ) => {}
            Err(error) => return Err(refusal(&error, &[sql])),
        }
    }
    Ok(())
}

/// Returns whether another Convoy did the same a moment before.
pub(super) fn was_overtaken(error: &tokio_postgres::Error) -> bool {
    matches!(
        error.code(),
        Some(
            &SqlState::DUPLICATE_OBJECT | &SqlState::UNIQUE_VIOLATION | &SqlState::UNDEFINED_OBJECT
        )
    )
}

/// Returns what somebody is told who lacks the right, or who is blocked.
pub(super) fn refusal(error: &tokio_postgres::Error, statements: &[String]) -> QueryError {
    let sql = statements.join("; ");
    let message = match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => format!(
            "the table must be in a publication, and Convoy's role may not put it there ({}); \
             make it a member of the role that owns the table, or let a superuser run: {sql}",
            chain(error)
        ),
        Some(&SqlState::LOCK_NOT_AVAILABLE) => format!(
            "the table must be in a publication, and somebody holds a lock on it that is in the way \
             (VACUUM, CREATE INDEX, ALTER TABLE …): {sql}"
        ),
        _ => format!("the table could not be published by {sql}: {}", chain(error)),
    };
    let code = match error.as_db_error() {
        Some(_) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            ErrorCode::InvalidArgs
        }
        _ => ErrorCode::Unavailable,
    };
    QueryError::new(code, message)
}
