//! The oracle: random tables, random live queries, writers that meet, and after every transition the question whether
//! what is shown is what Postgres says.
//!
//! A seed decides the tables, their rows, the queries and what each writer does. While it runs, triggers write down what
//! each transaction did (`journal`), and the engine says which transactions stand at which position of its line and
//! where the snapshots of its reads closed (`live`). Subscribers put results together by code of their own and check what
//! one transition alone can show (`subscribers`). Then a model is led through the same positions, and each result that a
//! session showed is compared with the same query asked of it (`verify`); results at sampled snapshots are compared with
//! Postgres itself (`samples`), and at the end all with the tables as they then are.
//!
//! `CONVOY_SEED=7` runs one seed, `CONVOY_SEEDS=100` the first hundred and `CONVOY_SEEDS=21-40` those;
//! `CONVOY_LEDGER=1` adds a line to `docs/evidence.csv`. Timing is not seeded: a seed that fails may have to be run again.

mod aggregates;
mod asked;
mod dice;
mod journal;
mod ledger;
mod live;
mod queries;
mod run;
mod samples;
mod schema;
mod subscribers;
mod trouble;
mod values;
mod verify;
mod writers;

pub use dice::Dice;
use futures_util::StreamExt;
use std::ops::RangeInclusive;
use std::time::Instant;

/// The seeds of an ordinary run.
const SEEDS: RangeInclusive<u64> = 1..=20;

/// Seeds that run side by side: while one waits for its disk or its snapshots, the other works.
const AT_A_TIME: usize = 2;

fn seeds() -> (RangeInclusive<u64>, String) {
    let number = |text: &str| -> u64 {
        text.parse().expect("CONVOY_SEED and CONVOY_SEEDS are numbers, or 21-40")
    };
    if let Ok(seed) = std::env::var("CONVOY_SEED") {
        let seed_number = number(&seed);
        return (seed_number..=seed_number, seed);
    }
    match std::env::var("CONVOY_SEEDS") {
        Ok(seeds) => match seeds.split_once('-') {
            Some((first, last)) => (number(first)..=number(last), seeds.clone()),
            None => (1..=number(&seeds), format!("1-{seeds}")),
        },
        Err(_) => (SEEDS, format!("{}-{}", SEEDS.start(), SEEDS.end())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cut_is_what_postgres_says() {
    // What the parts say of themselves, for a seed that fails.
    if let Ok(filter) = std::env::var("CONVOY_ORACLE_LOG") {
        convoy_server::telemetry::start(&filter).expect("CONVOY_ORACLE_LOG");
    }
    let (seeds, name) = seeds();
    let started = Instant::now();
    let runs = futures_util::stream::iter(seeds).map(|seed| async move {
        let problems = match tokio::spawn(run::run(seed)).await {
            Ok(problems) => problems,
            Err(error) => vec![format!("it panicked: {error}")],
        };
        (seed, problems)
    });
    let mut failed = Vec::new();
    let mut runs = runs.buffer_unordered(AT_A_TIME);
    while let Some((seed, problems)) = runs.next().await {
        if !problems.is_empty() {
            eprintln!("CONVOY_SEED={seed} cargo test -p convoy-server oracle");
            problems.iter().for_each(|problem| eprintln!("  {problem}"));
            failed.push(seed);
        }
    }
    let result = if failed.is_empty() {
        "passed".to_owned()
    } else {
        format!("failed: {failed:?}").replace(',', "")
    };
    if std::env::var_os("CONVOY_LEDGER").is_some() {
        ledger::record(&name, started.elapsed().as_secs(), &result);
    }
    assert!(
        failed.is_empty(),
        "seeds {failed:?} of {name} showed what Postgres does not say; see above"
    );
}
