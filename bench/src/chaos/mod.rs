//! `convoy bench chaos`: floods. Each case does something that should ruin the day of everybody else, and looks at
//! whether it does: a prober's small commits are timed from COMMIT to a subscriber, before and during; the server's
//! memory is sampled; and at the end each subscriber's rows are compared with what Postgres says.
//!
//! A case has a server and tables of its own. What is lost, or shown wrong, or above the bound of memory, makes the
//! command fail; slowness does not: it is in the table.

mod cases;
mod mirror;
mod prober;
mod report;
mod scene;
mod throttle;
mod watch;

use crate::args::ChaosArgs;
use crate::machine::Machine;
use crate::progress::Progress;
use crate::target::Target;
use anyhow::bail;
use clap::ValueEnum;
use convoy_postgres::launcher::Search;
use report::{CaseReport, Report};
use scene::Scene;

/// A flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// One transaction of --rows rows
    HugeTransaction,
    /// One transaction of --wal-bytes of WAL, in a few wide rows
    WideTransaction,
    /// --rate commits a second, as far as the machine gives them, for --seconds
    SmallCommits,
    /// A reader that stops reading while what it watches changes
    StoppedReader,
    /// --readers readers that read a byte a second while what they watch changes
    SlowReaders,
    /// A result of --result-rows rows: changes of one row, and a change of all
    LargeResult,
    /// One row with --updates updates a second, watched by --readers subscribers
    HotRow,
}

impl Case {
    /// Returns the name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Case::HugeTransaction => "huge-transaction",
            Case::WideTransaction => "wide-transaction",
            Case::SmallCommits => "small-commits",
            Case::StoppedReader => "stopped-reader",
            Case::SlowReaders => "slow-readers",
            Case::LargeResult => "large-result",
            Case::HotRow => "hot-row",
        }
    }
}

/// Runs the cases and prints the report.
///
/// # Errors
/// What kept a case from being run, and what was lost in one.
pub(crate) async fn run(args: &ChaosArgs, search: Search) -> anyhow::Result<()> {
    let machine = Machine::look();
    let progress = Progress::new();
    let target = Target::open(&args.target, search, &progress).await?;
    let cases = match args.cases.as_slice() {
        [] => Case::value_variants().to_vec(),
        named => named.to_vec(),
    };
    let mut reports: Vec<CaseReport> = Vec::new();
    for case in cases {
        progress.say(&format!("{}: beginning", case.name()));
        target.await_quiet().await?;
        let scene = Scene::open(&target, args, case, &progress).await?;
        reports.push(scene.play().await);
    }
    let report = Report { machine, database: target.facts.clone(), cases: reports };
    let leftovers = target.leftovers();
    target.finish().await?;
    drop(progress);
    match args.target.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", report.text(leftovers.as_deref())),
    }
    let failed: Vec<_> =
        report.cases.iter().filter(|case| !case.faults.is_empty()).map(|case| case.case).collect();
    if !failed.is_empty() {
        bail!("not as it should be: {}", failed.join(", "));
    }
    Ok(())
}
