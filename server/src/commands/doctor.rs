//! `convoy doctor`: prints whether a database can do what Convoy needs, with each fix as SQL. What is checked is
//! `convoy_postgres::doctor`'s business.

use super::output::{Tone, print, table};
use crate::config::{DatabaseArgs, switch};
use crate::error::ServerError;
use clap::Args;
use convoy_postgres::doctor::{Check, CheckStatus, clean, examine};
use serde_json::json;

/// The options of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {
    /// Drops what Convoy left in the database: its two publications, and slots of its own that nobody uses
    #[arg(long, value_parser = switch, env = "CONVOY_DOCTOR_CLEAN")]
    pub clean: bool,
    /// Prints JSON
    #[arg(long, value_parser = switch, env = "CONVOY_DOCTOR_JSON")]
    pub json: bool,
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Checks the database, or cleans it.
///
/// # Errors
/// [`ServerError::Unwell`] where a check failed, once all is printed.
pub async fn run(args: DoctorArgs) -> Result<(), ServerError> {
    let (url, session) = (args.database.url()?, args.database.session());
    if args.clean {
        let statements = clean(&url, &session).await?;
        print(&cleaned(&statements, args.json));
        return Ok(());
    }
    let checks = examine(&url, &session).await;
    if args.json {
        let one = |check: &Check| {
            json!({
                "check": check.name,
                "status": word(check.status).0,
                "finding": check.finding,
                "fix": Some(&check.fix).filter(|fix| !fix.is_empty()),
            })
        };
        let checks: Vec<_> = checks.iter().map(one).collect();
        print(&format!("{:#}\n", json!({ "database": url.to_string(), "checks": checks })));
    } else {
        print(&report(&checks));
    }
    match count(&checks, CheckStatus::Fail) {
        0 => Ok(()),
        1 => Err(ServerError::Unwell("one check failed".to_owned())),
        failed => Err(ServerError::Unwell(format!("{failed} checks failed"))),
    }
}

fn word(status: CheckStatus) -> (&'static str, Tone) {
    match status {
        CheckStatus::Ok => ("ok", Tone::Good),
        CheckStatus::Warn => ("warning", Tone::Warning),
        CheckStatus::Fail => ("failed", Tone::Bad),
    }
}

fn count(checks: &[Check], status: CheckStatus) -> usize {
    checks.iter().filter(|check| check.status == status).count()
}

fn cleaned(statements: &[String], as_json: bool) -> String {
    if as_json {
        return format!("{:#}\n", json!({ "statements": statements }));
    }
    let mut text: String = statements.iter().map(|statement| format!("{statement};\n")).collect();
    text.push_str(match statements {
        [] => "nothing of Convoy's is in this database\n",
        _ => "done; a Convoy that still runs makes what it needs again\n",
    });
    text
}

/// The table, the fixes, and what to do next.
fn report(checks: &[Check]) -> String {
    let rows: Vec<Vec<(String, Tone)>> = checks
        .iter()
        .map(|check| {
            let (word, tone) = word(check.status);
            let plain = |text: &str| (text.to_owned(), Tone::Plain);
            vec![(word.to_owned(), tone), plain(check.name), plain(&check.finding)]
        })
        .collect();
    let mut text = table(&rows);
    let fixes: Vec<_> = checks.iter().filter(|check| !check.fix.is_empty()).collect();
    if !fixes.is_empty() {
        text.push('\n');
    }
    for check in &fixes {
        text.push_str(&format!("-- {}\n{}\n", check.name, check.fix.trim_end()));
    }
    if !fixes.is_empty() {
        text.push('\n');
    }
    let warnings = count(checks, CheckStatus::Warn);
    match (count(checks, CheckStatus::Fail), warnings) {
        (0, 0) => text.push_str("all is well: convoy serve will do\n"),
        (0, 1) => text.push_str("convoy serve will do; there is 1 warning, with its fix above\n"),
        (0, _) => text.push_str(&format!(
            "convoy serve will do; there are {warnings} warnings, with their fixes above\n"
        )),
        (failed, _) => text.push_str(&format!(
            "{failed} to mend first, with the fixes above; then convoy doctor again\n"
        )),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, status: CheckStatus, fix: &str) -> Check {
        Check { name, status, finding: "found".into(), fix: fix.into() }
    }

    #[test]
    fn a_report_ends_with_what_to_do() {
        let good = check("version", CheckStatus::Ok, "");
        assert_eq!(
            report(std::slice::from_ref(&good)),
            "ok  version  found\nall is well: convoy serve will do\n"
        );
        let bad = check("wal_level", CheckStatus::Fail, "ALTER …;");
        assert_eq!(
            report(&[good, bad]),
            "ok      version    found\nfailed  wal_level  found\n\n-- wal_level\nALTER …;\n\n\
             1 to mend first, with the fixes above; then convoy doctor again\n"
        );
    }
}
