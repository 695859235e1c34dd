//! `convoy doctor`: looks whether a database can do what Convoy needs, and prints each fix as SQL.

use super::output::{Tone, print, table};
use crate::config::DatabaseArgs;
use crate::error::ServerError;
use clap::Args;
use convoy_postgres::{Connection, FULL, INSERTS_ONLY, connect};
use serde_json::json;
use tokio_postgres::Row;

/// The options of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Drops what Convoy left in the database: its two publications
    #[arg(long, env = "CONVOY_DOCTOR_CLEAN")]
    pub clean: bool,
    /// Prints JSON
    #[arg(long, env = "CONVOY_DOCTOR_JSON")]
    pub json: bool,
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It works, and could be better.
    Warning,
    /// It does not work like this.
    Bad,
}

impl Verdict {
    fn word(self) -> (&'static str, Tone) {
        match self {
            Verdict::Good => ("ok", Tone::Good),
            Verdict::Warning => ("warning", Tone::Warning),
            Verdict::Bad => ("bad", Tone::Bad),
        }
    }
}

/// What was found out.
#[derive(Clone, Debug)]
struct Finding {
    check: String,
    verdict: Verdict,
    found: String,
    /// SQL, or what else mends it.
    fix: Option<String>,
}

impl Finding {
    fn good(check: &str, found: impl Into<String>) -> Self {
        Finding { check: check.to_owned(), verdict: Verdict::Good, found: found.into(), fix: None }
    }

    fn of(check: &str, verdict: Verdict, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Finding { check: check.to_owned(), verdict, found: found.into(), fix: Some(fix.into()) }
    }
}

/// Checks the database, or cleans it.
///
/// # Errors
/// [`ServerError::Unwell`] where something is bad, once all is printed.
pub async fn run(args: DoctorArgs) -> Result<(), ServerError> {
    let url = args.database.url()?;
    let connection = connect(&url, &args.database.session()).await?;
    if args.clean {
        return clean(&connection).await;
    }
    let mut findings = server(&connection).await?;
    findings.extend(role(&connection).await?);
    findings.extend(slots(&connection).await?);
    findings.extend(tables(&connection).await?);
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad).count();
    if args.json {
        let one = |finding: &Finding| {
            json!({
                "check": finding.check,
                "verdict": finding.verdict.word().0,
                "found": finding.found,
                "fix": finding.fix,
            })
        };
        print(&format!("{:#}\n", json!({ "checks": findings.iter().map(one).collect::<Vec<_>>() })));
    } else {
        print(&report(&findings));
    }
    match bad {
        0 => Ok(()),
        1 => Err(ServerError::Unwell("1 thing keeps Convoy from working here".to_owned())),
        bad => Err(ServerError::Unwell(format!("{bad} things keep Convoy from working here"))),
    }
}

fn report(findings: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in findings {
        let (word, tone) = finding.verdict.word();
        rows.push(vec![
            (word.to_owned(), tone),
            (finding.check.clone(), Tone::Plain),
            (finding.found.clone(), Tone::Plain),
        ]);
    }
    let mut text = table(&rows);
    let fixes: Vec<_> = findings.iter().filter_map(|finding| Some((finding, finding.fix.as_ref()?))).collect();
    if !fixes.is_empty() {
        text.push('\n');
        for (finding, fix) in &fixes {
            text.push_str(&format!("-- {}\n{fix}\n", finding.check));
        }
    }
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    match (count(Verdict::Bad), count(Verdict::Warning)) {
        (0, 0) => text.push_str("all is well: convoy serve will do\n"),
        (0, warnings) => text.push_str(&format!("it works; {warnings} to look at, with the fixes above\n")),
        (bad, _) => text.push_str(&format!("{bad} to mend first, with the fixes above\n")),
    }
    text
}

async fn rows(connection: &Connection, sql: &str) -> Result<Vec<Row>, ServerError> {
    Ok(connection.client().query_typed(sql, &[]).await?)
}

async fn row(connection: &Connection, sql: &str) -> Result<Row, ServerError> {
    Ok(connection.client().query_typed_one(sql, &[]).await?)
}

async fn server(connection: &Connection) -> Result<Vec<Finding>, ServerError> {
    const SQL: &str = "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
         current_setting('wal_level'), pg_is_in_recovery(), current_setting('synchronous_commit'), \
         current_setting('max_slot_wal_keep_size'), current_setting('synchronous_standby_names'), \
         current_setting('max_replication_slots')::int4, (SELECT count(*)::int4 FROM pg_replication_slots), \
         current_setting('max_wal_senders')::int4, (SELECT count(*)::int4 FROM pg_stat_replication), \
         (SELECT setting::int4 FROM pg_settings WHERE name = 'wal_writer_delay')";
    let row = row(connection, SQL).await?;
    let mut findings = Vec::new();
    let (version, name): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    findings.push(match version {
        ..150_000 => Finding::of("version", Verdict::Bad, format!("Postgres {name}"), "-- Convoy needs Postgres 15 or later"),
        // Before May 2025, a table that joins a publication could lose changes of transactions under way (P2).
        _ if is_before_may_2025(version) => Finding::of(
            "version",
            Verdict::Warning,
            format!("Postgres {name}, from before May 2025"),
            "-- install the newest minor release: earlier ones can lose changes when a table is published",
        ),
        _ => Finding::good("version", format!("Postgres {name}")),
    });
    let level: String = row.try_get(2)?;
    findings.push(match level.as_str() {
        "logical" => Finding::good("wal_level", level),
        _ => Finding::of("wal_level", Verdict::Bad, level, "ALTER SYSTEM SET wal_level = 'logical'; -- and restart the server"),
    });
    findings.push(match row.try_get(3)? {
        false => Finding::good("primary", "yes"),
        true => Finding::of("primary", Verdict::Bad, "a standby", "-- give the primary's address"),
    });
    let commit: String = row.try_get(4)?;
    let delay_ms: i32 = row.try_get(11)?;
    findings.push(match commit.as_str() {
        "off" => Finding::of(
            "synchronous_commit",
            Verdict::Warning,
            format!("off: a change is seen up to {delay_ms} ms late, as only flushed WAL is sent"),
            "ALTER SYSTEM SET wal_writer_delay = '10ms'; SELECT pg_reload_conf(); -- or synchronous_commit = on",
        ),
        _ => Finding::good("synchronous_commit", commit),
    });
    let standbys: String = row.try_get(6)?;
    if !standbys.is_empty() {
        findings.push(Finding::good("synchronous standbys", format!("{standbys}: a change is seen once they have it")));
    }
    for (check, setting, max, used) in [
        ("replication slots", "max_replication_slots", row.try_get::<_, i32>(7)?, row.try_get::<_, i32>(8)?),
        ("walsenders", "max_wal_senders", row.try_get(9)?, row.try_get(10)?),
    ] {
        let found = format!("{used} of {max} in use");
        findings.push(if used < max {
            Finding::good(check, found)
        } else {
            let fix = format!("ALTER SYSTEM SET {setting} = {}; -- and restart the server", max + 10);
            Finding::of(check, Verdict::Bad, found, fix)
        });
    }
    let keep: String = row.try_get(5)?;
    findings.push(match keep.as_str() {
        "-1" => Finding::of(
            "max_slot_wal_keep_size",
            Verdict::Warning,
            "no limit: a slot that nobody reads fills the disk",
            "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'; SELECT pg_reload_conf();",
        ),
        _ => Finding::good("max_slot_wal_keep_size", keep),
    });
    Ok(findings)
}

/// Returns whether a version is from before the minor releases of May 2025.
fn is_before_may_2025(version: i32) -> bool {
    let minor = version % 10_000;
    match version / 10_000 {
        15 => minor < 13,
        16 => minor < 9,
        17 => minor < 5,
        _ => false,
    }
}

async fn role(connection: &Connection) -> Result<Vec<Finding>, ServerError> {
    const SQL: &str = "SELECT rolname::text, quote_ident(rolname), rolreplication OR rolsuper, rolsuper, \
         has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database()) \
         FROM pg_roles WHERE rolname = current_user";
    let row = row(connection, SQL).await?;
    let (name, quoted): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let mut findings = Vec::new();
    findings.push(match row.try_get(2)? {
        true => Finding::good("replication right", format!("{name} has it")),
        false => Finding::of(
            "replication right",
            Verdict::Bad,
            format!("{name} lacks it"),
            format!("ALTER ROLE {quoted} REPLICATION;"),
        ),
    });
    let is_superuser: bool = row.try_get(3)?;
    if is_superuser {
        findings.push(Finding::of(
            "superuser",
            Verdict::Warning,
            format!("{name} is one: its SELECTs may read more than tables"),
            "CREATE ROLE convoy LOGIN REPLICATION PASSWORD '…'; -- with SELECT on what queries read",
        ));
    }
    let publications =
        rows(connection, &format!("SELECT pubname::text FROM pg_publication WHERE pubname IN ('{FULL}', '{INSERTS_ONLY}')"))
            .await?;
    let may_create: bool = row.try_get(4)?;
    let database: String = row.try_get(5)?;
    findings.push(match (publications.len(), may_create) {
        (2, _) => Finding::good("publications", format!("{FULL} and {INSERTS_ONLY} are there")),
        (_, true) => Finding::good("publications", "made when they are needed"),
        (_, false) => Finding::of(
            "publications",
            Verdict::Bad,
            format!("missing, and {name} may not make them"),
            format!("GRANT CREATE ON DATABASE {database} TO {quoted};"),
        ),
    });
    Ok(findings)
}

async fn slots(connection: &Connection) -> Result<Vec<Finding>, ServerError> {
    const SQL: &str = "SELECT slot_name::text, active, temporary, coalesce(wal_status, 'lost'), \
         coalesce(pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_insert_lsn(), restart_lsn)), '?') \
         FROM pg_replication_slots \
         WHERE plugin = 'pgoutput' AND database = current_database() AND slot_name LIKE 'convoy%' ORDER BY 1";
    let is_primary: bool = row(connection, "SELECT NOT pg_is_in_recovery()").await?.try_get(0)?;
    if !is_primary {
        return Ok(Vec::new());
    }
    let one = |row: &Row| -> Result<Finding, ServerError> {
        let (name, active): (String, bool) = (row.try_get(0)?, row.try_get(1)?);
        let (status, retained): (String, String) = (row.try_get(3)?, row.try_get(4)?);
        let check = format!("slot {name}");
        let drop = format!("SELECT pg_drop_replication_slot('{name}'); -- unless a Convoy is to come back to it");
        Ok(match (active, status.as_str()) {
            (_, "lost") => Finding::of(&check, Verdict::Bad, "lost WAL that it needs", drop),
            (true, _) => Finding::good(&check, format!("in use, keeps {retained} of WAL")),
            (false, _) => Finding::of(&check, Verdict::Warning, format!("nobody reads it, keeps {retained} of WAL"), drop),
        })
    };
    rows(connection, SQL).await?.iter().map(one).collect()
}

async fn tables(connection: &Connection) -> Result<Vec<Finding>, ServerError> {
    // A usable identity is FULL, an index, or a primary key that is valid and not deferrable (P1).
    const SQL: &str = "SELECT c.oid::regclass::text, c.relreplident::text, \
         EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid AND i.indimmediate), \
         pg_has_role(c.relowner, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), \
         EXISTS (SELECT FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid \
                 WHERE pr.prrelid = c.oid AND p.pubname LIKE 'convoy\\_%'), \
         quote_ident(current_user), quote_ident(pg_get_userbyid(c.relowner)) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence = 'p' \
           AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%' \
         ORDER BY 1";
    let mut findings = Vec::new();
    let mut good = 0;
    for row in rows(connection, SQL).await? {
        let (name, identity): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let has_key: bool = row.try_get(2)?;
        let (owns, may_read, is_published): (bool, bool, bool) = (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        if !may_read {
            // What Convoy can't read no query reads.
            continue;
        }
        let check = format!("table {name}");
        let is_usable = matches!(identity.as_str(), "f" | "i") || (identity == "d" && has_key);
        if !is_usable {
            findings.push(Finding::of(
                &check,
                Verdict::Warning,
                "no usable replica identity: updates and deletes can't be followed",
                format!("ALTER TABLE {name} REPLICA IDENTITY FULL; -- or give it a primary key"),
            ));
        }
        if !owns && !is_published {
            let (role, owner): (String, String) = (row.try_get(6)?, row.try_get(7)?);
            let publication = if is_usable { FULL } else { INSERTS_ONLY };
            findings.push(Finding::of(
                &check,
                Verdict::Warning,
                "not ours, so it can't be published when a query reads it",
                format!("GRANT {owner} TO {role}; -- or, as its owner: ALTER PUBLICATION {publication} ADD TABLE ONLY {name};"),
            ));
        } else if is_usable {
            good += 1;
        }
    }
    if good > 0 {
        findings.insert(0, Finding::good("tables", format!("{good} can be kept live")));
    }
    Ok(findings)
}

async fn clean(connection: &Connection) -> Result<(), ServerError> {
    let sql = format!("SELECT pubname::text FROM pg_publication WHERE pubname IN ('{FULL}', '{INSERTS_ONLY}') ORDER BY 1");
    let mut dropped = Vec::new();
    for row in rows(connection, &sql).await? {
        let name: String = row.try_get(0)?;
        connection.client().batch_execute(&format!("DROP PUBLICATION {name}")).await?;
        dropped.push(name);
    }
    print(&match dropped.len() {
        0 => "nothing of Convoy's is in this database\n".to_owned(),
        _ => format!("dropped the publications {}; a Convoy that still runs makes them again\n", dropped.join(" and ")),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_releases_are_told_apart() {
        for (version, is_before) in [(150_012, true), (150_013, false), (160_008, true), (170_005, false), (180_000, false)] {
            assert_eq!(is_before_may_2025(version), is_before, "{version}");
        }
    }

    #[test]
    fn a_report_ends_with_what_to_do() {
        let findings = [Finding::good("version", "Postgres 15"), Finding::of("wal_level", Verdict::Bad, "replica", "ALTER …;")];
        let report = report(&findings);
        assert!(report.contains("bad") && report.contains("-- wal_level\nALTER …;\n"), "{report}");
        assert!(report.ends_with("1 to mend first, with the fixes above\n"));
    }
}
