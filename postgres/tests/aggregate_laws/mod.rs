//! Aggregates against a real server: what is kept of groups and brought along by row changes is what the statement says
//! when Postgres is asked.
//!
//! Two engines keep the same random statements over the same random table: one by its groups, and one that may keep no
//! groups, so that it reads each result again. After each batch of changes, what their clients have put together from
//! snapshots and diffs must be what Postgres says of the statement, to the letter of `to_jsonb`, and the same in both
//! engines: rows, keys, order and digest.
//!
//! The stream is played: the rows before and after each change are the texts that the server itself gives for them, in
//! the transaction that made it.

mod keeper;
mod statement;
mod stream;
mod table;

use crate::database::harness::client;
use convoy_engine::{LiveQueryInfo, Refusal, ResultRow};
use convoy_postgres::testing;
use convoy_postgres::testing::{Dice, seeds};
use convoy_types::Changes;
use keeper::{Keeper, Shown};
use statement::{Aggregate, aggregate};
use stream::{Writer, run};
use table::{TRUNCATE, Table};
use tokio_postgres::Client;

/// Tables that are tried, each with statements and batches of its own.
const ROUNDS: usize = 12;
const STATEMENTS: usize = 14;
const BATCHES: usize = 14;

/// What every connection of Convoy's has set, so that texts look alike.
const SETTINGS: &str = "set timezone = 'UTC'; set intervalstyle = postgres; set datestyle = 'ISO'; \
    set extra_float_digits = 1; set bytea_output = hex; set client_encoding = 'UTF8'";

/// How much was tried.
#[derive(Debug, Default)]
struct Tally {
    statements: usize,
    /// Of them, kept from the row changes to the end.
    kept: usize,
    /// Kept at first, and read again in the end.
    given_up: usize,
    /// Results compared after a batch.
    compared: usize,
    /// Of them, other than before.
    changed: usize,
    /// Of them, errors of Postgres'.
    errors: usize,
    changes: usize,
    diffs: usize,
}

/// Asks Postgres for a result: the JSON of each value, or what is wrong.
async fn ask(
    client: &Client,
    aggregate: &Aggregate,
    columns: usize,
) -> Result<Vec<Vec<String>>, String> {
    let names: Vec<String> = (0..columns).map(|column| format!("c{column}")).collect();
    let shown: Vec<String> = names.iter().map(|name| format!("to_jsonb(q.{name})::text")).collect();
    let sql = format!(
        "select {} from ({}) as q({})",
        shown.join(", "),
        aggregate.asked,
        names.join(", ")
    );
    match run(client, &sql).await {
        Ok(mut answers) => {
            let rows = answers.pop().expect("an answer").0;
            let json = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
            Ok(rows.into_iter().map(|row| row.into_iter().map(json).collect()).collect())
        }
        // A client hears of a value that is none in words that don't show it.
        Err(error) => {
            let error = error.as_db_error().expect("Postgres' own word");
            let (state, message) = (error.code().code(), error.message());
            Err(Refusal { state, message, ..Refusal::default() }.for_clients().into_owned())
        }
    }
}

fn cells(rows: &[ResultRow]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.cells().map(str::to_owned).collect()).collect()
}

/// Says what differs from what was asked, if anything does.
fn difference(shown: &Shown, asked: &Result<Vec<Vec<String>>, String>) -> Option<String> {
    match (shown, asked) {
        (Shown::Rows { rows, .. }, Ok(asked)) if cells(rows) == *asked => None,
        (Shown::Error(shown), Err(asked)) if shown.contains(asked) => None,
        _ => Some(format!("shown {shown:?}\nasked {asked:?}")),
    }
}

/// Returns statements that Postgres takes, with how many columns each has.
async fn statements(client: &Client, table: &Table, dice: &mut Dice) -> Vec<(Aggregate, usize)> {
    let mut statements = Vec::new();
    while statements.len() < STATEMENTS {
        let aggregate = aggregate(table, dice);
        // A literal may be none of its column's type's, and a parameter's type may not be found out.
        let (Ok(taken), Ok(_)) =
            (client.prepare(&aggregate.sql).await, client.prepare(&aggregate.asked).await)
        else {
            continue;
        };
        statements.push((aggregate, taken.columns().len()));
    }
    statements
}

/// Tries one table.
async fn round(seed: u64, tally: &mut Tally) {
    let mut dice = Dice::of(seed);
    let url = testing::shared().await.database("aggregate_laws").await;
    let admin = client(&url).await;
    let table = Table::new(&mut dice);
    admin.batch_execute(SETTINGS).await.expect("settings");
    admin
        .batch_execute(&table.create())
        .await
        .unwrap_or_else(|error| panic!("{error:?}\n{}", table.create()));
    let writer = Writer::new(&admin, &table).await;
    writer.commit(&table.changes(&mut dice)).await;

    // Sometimes so little that groups outgrow it on the way.
    let groups_bytes_max = [16 << 20, 16 << 20, 16 << 20, 4 << 10][dice.below(4)];
    let mut keeping = Keeper::new(&url, groups_bytes_max).await;
    let mut reading = Keeper::new(&url, 0).await;
    let statements = statements(&admin, &table, &mut dice).await;
    for (aggregate, _) in &statements {
        keeping.subscribe(&aggregate.sql, &aggregate.args);
        reading.subscribe(&aggregate.sql, &aggregate.args);
    }
    let mut before: Vec<Option<Shown>> = vec![None; statements.len()];
    let mut kept_at_first = Vec::new();
    for batch in 0..=BATCHES {
        if batch > 0 {
            for _ in 0..1 + dice.below(3) {
                let changes = table.changes(&mut dice);
                if changes.iter().any(|change| change.sql == TRUNCATE) {
                    // It waits for reads that are open, and they wait for this test.
                    keeping.settle(&admin).await;
                    reading.settle(&admin).await;
                }
                let transaction = writer.commit(&changes).await;
                if let Changes::Rows(rows) = &transaction.changes {
                    tally.changes += rows.len();
                }
                keeping.commit(transaction.clone());
                reading.commit(transaction);
                if dice.percent(30) {
                    keeping.flush();
                    reading.flush();
                }
            }
        }
        keeping.settle(&admin).await;
        reading.settle(&admin).await;
        if batch == 0 {
            kept_at_first = keeping.live_queries();
        }
        for (number, (aggregate, columns)) in statements.iter().enumerate() {
            let asked = ask(&admin, aggregate, *columns).await;
            let (kept, read) = (&keeping.shown[&number], &reading.shown[&number]);
            let context = || {
                let is_it = |info: &&LiveQueryInfo| info.sql == aggregate.sql;
                let infos = keeping.live_queries();
                let info = infos.iter().find(is_it);
                format!(
                    "CONVOY_SEED={seed}, batch {batch}\n{}\nwith {:?}\n{}\n{info:?}",
                    aggregate.sql, aggregate.args, aggregate.asked
                )
            };
            if let Some(difference) = difference(read, &asked) {
                panic!("read again: {}\n{difference}", context());
            }
            if let Some(difference) = difference(kept, &asked) {
                panic!("kept: {}\n{difference}", context());
            }
            assert_eq!(kept, read, "kept and read: {}", context());
            tally.compared += 1;
            tally.changed +=
                usize::from(before[number].as_ref().is_some_and(|before| before != kept));
            tally.errors += usize::from(asked.is_err());
            before[number] = Some(kept.clone());
        }
    }
    let is_kept = |infos: &[LiveQueryInfo]| infos.iter().filter(|info| info.incremental).count();
    let kept = is_kept(&keeping.live_queries());
    tally.statements += statements.len();
    tally.kept += kept;
    // After a TRUNCATE the statement is analysed again, and what was given up is tried again.
    tally.given_up += is_kept(&kept_at_first).saturating_sub(kept);
    tally.diffs += keeping.diffs;
}

#[tokio::test]
async fn aggregates_kept_are_what_postgres_says() {
    let mut tally = Tally::default();
    let seeds = seeds(ROUNDS);
    let is_whole = seeds.len() > 1;
    for seed in seeds {
        round(seed, &mut tally).await;
    }
    println!("{tally:?}");
    // Many statements are of the kind that this is about, and many batches change what they show.
    assert!(!is_whole || tally.kept * 3 > tally.statements, "{tally:?}");
    assert!(!is_whole || tally.changed * 4 > tally.compared, "{tally:?}");
}
