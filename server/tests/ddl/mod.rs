//! DDL under subscription (`docs/postgres.md`, P7): whatever is done to a table while it is written to, who is not
//! concerned is told nothing at all, and who is ends with what Postgres says, live; or is told an error, and is live again
//! when the table is.
//!
//! A case is a table of its own with its own session and writer; all run side by side, in one server.
//! `CONVOY_DDL=truncated` runs one case.

mod case;
mod cases;
mod rights;

use crate::support::Fixture;
use case::{Case, check};
use futures_util::{FutureExt, StreamExt};
use std::panic::AssertUnwindSafe;

/// Cases that run at a time.
const AT_A_TIME: usize = 6;

/// Runs these cases; the problems of all are told.
async fn run(name: &str, cases: &[Case]) {
    let fixture = Fixture::start(name, &["--allow-sql", "--max-hold", "4"]).await;
    let wanted = std::env::var("CONVOY_DDL").ok();
    let wanted = |case: &&Case| wanted.as_ref().is_none_or(|wanted| case.name == wanted);
    let runs = cases.iter().filter(wanted).map(|case| {
        let (address, url) = (fixture.address, fixture.url.clone());
        async move {
            let outcome = AssertUnwindSafe(check(address, url, case.clone())).catch_unwind().await;
            let problem = outcome.unwrap_or_else(|_| Err("it panicked".to_owned())).err();
            problem.map(|problem| format!("{}: {problem}", case.name))
        }
    });
    let outcomes: Vec<Option<String>> =
        futures_util::stream::iter(runs).buffer_unordered(AT_A_TIME).collect().await;
    let problems: Vec<String> = outcomes.into_iter().flatten().collect();
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), cases.len(), problems.join("\n"));
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_who_is_concerned_by_ddl_ends_right_and_who_is_not_is_told_nothing() {
    run("ddl", cases::CASES).await;
}
