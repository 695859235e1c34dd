//! Is a database fit for Convoy? Each check says what was found and, where something should change, the SQL that
//! changes it. `serve` refuses to start on a failed one ([`preflight`]); `doctor` prints them all ([`examine`]).

mod tables;

use crate::connect::{Connection, connect};
use crate::error::PostgresError;
use crate::launcher::{MINIMUM_MAJOR, NEWEST_MAJOR};
use crate::publication::{FULL, INSERTS_ONLY};
use crate::session::SessionOptions;
use convoy_engine::quote_identifier;
use convoy_types::DatabaseUrl;
use std::time::Duration;
use thiserror::Error;
use tokio_postgres::Client;

/// How long all checks together may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Replication slots of ours begin so.
const SLOT_PREFIX: &str = "convoy_";

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckStatus {
    /// As it should be.
    Ok,
    /// Convoy works, but not as well or as safely as it could.
    Warn,
    /// Convoy does not work.
    Fail,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was checked: a setting's name where it is one.
    pub name: &'static str,
    /// How it went.
    pub status: CheckStatus,
    /// What was found.
    pub finding: String,
    /// The SQL that changes it, with what else is to be done in a comment; empty where nothing is to be done.
    pub fix: String,
}

/// Why a server can't start on a database.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PreflightError {
    /// There is no way in.
    #[error("the database can't be reached: {}", source.chain())]
    Unreachable {
        /// Why.
        source: PostgresError,
    },
    /// It did not answer in time.
    #[error("the database did not answer within {limit:?}")]
    Timeout {
        /// The limit.
        limit: Duration,
    },
    /// Something about it must change first.
    #[error("{}; to mend it: {}", check.finding, check.fix)]
    Unfit {
        /// The failed check.
        check: Check,
    },
}

impl Check {
    fn new(name: &'static str, status: CheckStatus, finding: impl Into<String>) -> Check {
        Check { name, status, finding: finding.into(), fix: String::new() }
    }

    fn fix(self, sql: impl Into<String>) -> Check {
        Check { fix: sql.into(), ..self }
    }
}

/// Makes all checks on a database; the first says whether it can be reached at all.
pub async fn examine(url: &DatabaseUrl, session: &SessionOptions) -> Vec<Check> {
    let examined = async {
        let connection = connect(url, session).await?;
        let mut checks = server_checks(connection.client()).await?;
        checks.push(tables::rights(connection.client()).await?);
        checks.push(tables::identities(connection.client()).await?);
        checks.extend(slots(connection.client()).await?);
        Ok::<_, PostgresError>(checks)
    };
    let unreachable = |finding: String| vec![Check::new("connection", CheckStatus::Fail, finding)];
    match tokio::time::timeout(LIMIT, examined).await {
        Ok(Ok(checks)) => checks,
        Ok(Err(error)) => unreachable(error.chain()),
        Err(_) => unreachable(format!("the database did not answer within {LIMIT:?}")),
    }
}

/// Makes the checks that a server can't do without.
///
/// # Errors
/// The first that fails, with the SQL that mends it; after ten seconds at the latest.
pub async fn preflight(url: &DatabaseUrl, session: &SessionOptions) -> Result<(), PreflightError> {
    let checked = async {
        let connection = connect(url, session).await?;
        server_checks(connection.client()).await
    };
    let checks = tokio::time::timeout(LIMIT, checked)
        .await
        .map_err(|_| PreflightError::Timeout { limit: LIMIT })?
        .map_err(|source| PreflightError::Unreachable { source })?;
    for check in checks {
        match check.status {
            CheckStatus::Ok => {}
            CheckStatus::Warn => {
                tracing::warn!(check = check.name, fix = check.fix, "{}", check.finding);
            }
            CheckStatus::Fail => return Err(PreflightError::Unfit { check }),
        }
    }
    Ok(())
}

/// Removes what Convoy leaves in a database: its two publications, and slots of its own that nobody uses. Returns the
/// SQL that did it.
///
/// # Errors
/// When the role may not.
pub async fn clean(
    url: &DatabaseUrl,
    session: &SessionOptions,
) -> Result<Vec<String>, PostgresError> {
    let connection: Connection = connect(url, session).await?;
    let client = connection.client();
    let mut statements = Vec::new();
    let sql = format!(
        "SELECT pubname::text FROM pg_catalog.pg_publication WHERE pubname IN ('{FULL}', '{INSERTS_ONLY}')"
    );
    for row in client.query_typed(&sql, &[]).await? {
        let name: &str = row.try_get(0)?;
        statements.push(format!("DROP PUBLICATION {}", quote_identifier(name)));
    }
    for slot in our_slots(client).await? {
        if !slot.active {
            statements.push(drop_slot(&slot.name));
        }
    }
    for statement in &statements {
        client.batch_execute(statement).await?;
    }
    Ok(statements)
}

/// What is asked of the server in one row.
const SERVER_SQL: &str = "\
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
       pg_catalog.current_setting('server_version'),
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('wal_level'),
       pg_catalog.current_setting('max_replication_slots')::pg_catalog.int8,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots),
       pg_catalog.current_setting('max_wal_senders')::pg_catalog.int8,
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication),
       (SELECT rolsuper OR rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user)
         OR EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.rolname = 'rds_replication'
                    AND pg_catalog.pg_has_role(r.oid, 'USAGE')),
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_publication WHERE pubname IN ('convoy_full', 'convoy_ins')),
       current_user::text, pg_catalog.current_database()::text,
       pg_catalog.current_setting('synchronous_commit'),
       pg_catalog.current_setting('wal_writer_delay'),
       pg_catalog.current_setting('max_slot_wal_keep_size')";

async fn server_checks(client: &Client) -> Result<Vec<Check>, PostgresError> {
    let row = client.query_typed_one(SERVER_SQL, &[]).await?;
    let (number, version, standby): (i32, &str, bool) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let wal_level: &str = row.try_get(3)?;
    let (slots_max, slots, senders_max, senders): (i64, i64, i64, i64) =
        (row.try_get(4)?, row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let (may_replicate, may_create, publications): (Option<bool>, bool, i64) =
        (row.try_get(8)?, row.try_get(9)?, row.try_get(10)?);
    let (role, database): (&str, &str) = (row.try_get(11)?, row.try_get(12)?);
    let (synchronous, writer_delay, keep): (&str, &str, &str) =
        (row.try_get(13)?, row.try_get(14)?, row.try_get(15)?);
    let (role, database) = (quote_identifier(role), quote_identifier(database));
    let mut checks = vec![version_check(number, version)];
    checks.push(match standby {
        true => Check::new("primary", CheckStatus::Fail, "the server is a standby")
            .fix("-- connect to the primary: target_session_attrs=read-write with all hosts"),
        false => Check::new("primary", CheckStatus::Ok, "the server is a primary"),
    });
    checks.push(match wal_level {
        "logical" => Check::new("wal_level", CheckStatus::Ok, "wal_level is logical"),
        other => {
            let finding = format!("wal_level is {other}, and must be logical");
            Check::new("wal_level", CheckStatus::Fail, finding)
                .fix("ALTER SYSTEM SET wal_level = 'logical'; -- then restart Postgres")
        }
    });
    checks.push(room("max_replication_slots", slots, slots_max));
    checks.push(room("max_wal_senders", senders, senders_max));
    checks.push(match may_replicate {
        Some(true) => Check::new("replication", CheckStatus::Ok, format!("{role} may replicate")),
        _ => Check::new("replication", CheckStatus::Fail, format!("{role} may not replicate"))
            .fix(format!("ALTER ROLE {role} REPLICATION;")),
    });
    checks.push(match (may_create, publications) {
        (true, _) | (false, 2) => Check::new(
            "publications",
            CheckStatus::Ok,
            "the two publications are there, or may be made",
        ),
        _ => {
            let finding = format!("{role} may not make publications in {database}");
            Check::new("publications", CheckStatus::Fail, finding)
                .fix(format!("GRANT CREATE ON DATABASE {database} TO {role};"))
        }
    });
    checks.push(match synchronous {
        "off" => {
            let finding = format!(
                "synchronous_commit is off: a change is seen when the WAL writer has been by, \
                 up to three times wal_writer_delay ({writer_delay}) later"
            );
            Check::new("synchronous_commit", CheckStatus::Warn, finding)
                .fix("ALTER SYSTEM SET wal_writer_delay = '10ms'; SELECT pg_reload_conf();")
        }
        other => Check::new(
            "synchronous_commit",
            CheckStatus::Ok,
            format!("synchronous_commit is {other}"),
        ),
    });
    checks.push(match keep {
        "-1" => {
            let finding = "max_slot_wal_keep_size is without a limit: a slot that nobody reads \
                           (Convoy's own are temporary) can fill the disk";
            Check::new("max_slot_wal_keep_size", CheckStatus::Warn, finding)
                .fix("ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();")
        }
        limit => {
            let finding = format!("max_slot_wal_keep_size is {limit}");
            Check::new("max_slot_wal_keep_size", CheckStatus::Ok, finding)
        }
    });
    Ok(checks)
}

/// Minor releases before May 2025 can lose a transaction that was running while a table was
/// published (P2).
fn version_check(number: i32, version: &str) -> Check {
    let (major, minor) = (number.unsigned_abs() / 10_000, number.unsigned_abs() % 10_000);
    let fixed_in = match major {
        15 => 13,
        16 => 9,
        17 => 5,
        _ => 0,
    };
    let name = "version";
    match major {
        ..MINIMUM_MAJOR => {
            Check::new(name, CheckStatus::Fail, format!("Postgres {version} is too old"))
                .fix(format!("-- upgrade to Postgres {MINIMUM_MAJOR} or newer"))
        }
        _ if major > NEWEST_MAJOR => {
            let finding = format!("Postgres {version} is newer than any that Convoy was tried on");
            Check::new(name, CheckStatus::Warn, finding)
        }
        _ if minor < fixed_in => {
            let finding = format!(
                "Postgres {version} can lose changes of transactions that run while a table is published"
            );
            Check::new(name, CheckStatus::Warn, finding)
                .fix(format!("-- upgrade to {major}.{fixed_in} or newer"))
        }
        _ => Check::new(name, CheckStatus::Ok, format!("Postgres {version}")),
    }
}

fn room(name: &'static str, used: i64, max: i64) -> Check {
    match used < max {
        true => Check::new(name, CheckStatus::Ok, format!("{used} of {max} {name} are in use")),
        false => {
            let fix = format!(
                "ALTER SYSTEM SET {name} = {}; -- then restart Postgres",
                max.max(used) + 5
            );
            Check::new(name, CheckStatus::Fail, format!("all {max} {name} are in use")).fix(fix)
        }
    }
}

struct Slot {
    name: String,
    active: bool,
    lag_bytes: i64,
    wal_status: String,
}

async fn our_slots(client: &Client) -> Result<Vec<Slot>, PostgresError> {
    let sql = format!(
        "SELECT slot_name::text, active,
                coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0)::pg_catalog.int8,
                coalesce(wal_status, '')
         FROM pg_catalog.pg_replication_slots
         WHERE pg_catalog.starts_with(slot_name::text, '{SLOT_PREFIX}')
           AND database = pg_catalog.current_database() AND NOT pg_catalog.pg_is_in_recovery()
         ORDER BY 1"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    let slot = |row: &tokio_postgres::Row| {
        Ok(Slot {
            name: row.try_get(0)?,
            active: row.try_get(1)?,
            lag_bytes: row.try_get(2)?,
            wal_status: row.try_get(3)?,
        })
    };
    rows.iter().map(slot).collect()
}

async fn slots(client: &Client) -> Result<Vec<Check>, PostgresError> {
    let check = |slot: Slot| {
        let finding = format!(
            "the slot {} is {}, holds back {} bytes of WAL ({})",
            slot.name,
            if slot.active { "in use" } else { "not in use" },
            slot.lag_bytes,
            slot.wal_status,
        );
        match slot.active {
            true => Check::new("slot", CheckStatus::Ok, finding),
            false => Check::new("slot", CheckStatus::Warn, finding).fix(format!(
                "{}; -- unless a Convoy with --slot comes back for it",
                drop_slot(&slot.name)
            )),
        }
    };
    Ok(our_slots(client).await?.into_iter().map(check).collect())
}

fn drop_slot(name: &str) -> String {
    format!("SELECT pg_catalog.pg_drop_replication_slot('{}')", name.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p2_old_minor_releases_are_warned_of() {
        let status = |number| version_check(number, "x").status;
        assert_eq!(status(140_020), CheckStatus::Fail);
        assert_eq!(status(150_012), CheckStatus::Warn);
        assert_eq!(status(150_013), CheckStatus::Ok);
        assert_eq!(status(170_004), CheckStatus::Warn);
        assert_eq!(status(180_000), CheckStatus::Ok);
        assert_eq!(status(190_000), CheckStatus::Warn);
    }

    #[test]
    fn a_full_house_is_refused_with_more_room() {
        assert_eq!(room("max_wal_senders", 3, 10).status, CheckStatus::Ok);
        let full = room("max_wal_senders", 10, 10);
        assert_eq!(full.status, CheckStatus::Fail);
        assert!(full.fix.contains("max_wal_senders = 15"), "{}", full.fix);
    }
}
