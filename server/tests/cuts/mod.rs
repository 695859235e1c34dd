//! Cuts, proved: money moves between accounts while sessions watch the total, its parts, and both joined, some of it kept
//! from the stream and some read again. After each transition all that is not stale must show one and the same state,
//! and all states of all sessions must lie on one line.
//!
//! `CONVOY_SEED` runs another seed, `CONVOY_SEEDS=100` the first hundred of each test, `CONVOY_CUTS_TRANSITIONS` longer ones.

mod bank;
mod holds;
mod law;

use crate::frozen::Frozen;
use crate::oracle::Dice;
use crate::screen::Screen;
use crate::support::{Fixture, connect, text, until};
use bank::{Committed, Manners, WRITERS_MAX};
use convoy_postgres::launcher::PrivatePostgres;
use convoy_postgres::testing;
use law::{PANELS, States, state};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::Client;

/// A panel that takes some time to be read, whatever it says.
const SLOW: (&str, &str) = (
    "slow",
    "select sum(balance) as balance, sum(stamp) as stamp, \
     (select count(*) from generate_series(1, 1500000)) as cost from accounts",
);

const ON: Manners = Manners { commit: ["on"; 4], prepares: false };

/// What a run is to prove.
struct Scenario<'a> {
    url: &'a str,
    seed: u64,
    manners: Manners,
    extra: &'a [(&'a str, &'a str)],
}

fn seeds(usual: u64) -> std::ops::RangeInclusive<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    match (number("CONVOY_SEED"), number("CONVOY_SEEDS")) {
        (Some(seed), _) => seed..=seed,
        (None, many) => 1..=many.unwrap_or(usual),
    }
}

/// How many transitions each session that stays is to see, at least, while writers write.
fn transitions() -> u64 {
    let asked = std::env::var("CONVOY_CUTS_TRANSITIONS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(40)
}

impl Scenario<'_> {
    /// Lets writers write and sessions watch, while something is done to the server; and all ends up as Postgres has it.
    async fn run(self, meanwhile: impl Future<Output = ()>) {
        let Scenario { url, seed, manners, extra } = self;
        eprintln!("CONVOY_SEED={seed}: {manners:?}");
        let client = connect(url).await;
        bank::open(&client, if seed % 2 == 1 { "full" } else { "default" }).await;
        let fixture = Fixture::on(url, &["--allow-sql"]).await;
        let states = States::default();
        let all: Vec<_> = PANELS.iter().chain(extra).copied().collect();
        let mut screens = vec![
            Screen::open(fixture.address, &all, states.check()).await,
            // Only what is kept from the stream, which moves with each commit.
            Screen::open(fixture.address, &PANELS[..5], states.check()).await,
        ];
        for screen in &mut screens {
            screen
                .until("its first answers", |panels| {
                    panels.by_name.values().all(|panel| panel.is_in_cut())
                })
                .await;
        }
        let (committed, done) = (Committed::default(), Arc::new(AtomicBool::new(false)));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS_MAX {
            let (committed, done) = (committed.clone(), done.clone());
            writers.spawn(bank::write(url.to_owned(), seed, writer, manners, committed, done));
        }
        let guests = tokio::spawn(guests(fixture.address, seed, states.clone(), done.clone()));
        meanwhile.await;
        for screen in &mut screens {
            screen.until("many transitions", |panels| panels.transitions >= transitions()).await;
        }
        done.store(true, Ordering::Relaxed);
        writers.join_all().await;
        let visits = guests.await.expect("guests see one state");
        let stamps = committed.load(Ordering::SeqCst);
        assert_eq!(bank::stamps(&client).await, stamps, "the writers know what they committed");
        for mut screen in screens {
            let is_there = |panels: &crate::screen::Panels| {
                panels.by_name.values().all(|panel| panel.is_in_cut())
                    && state(panels) == Ok(Some(stamps))
            };
            let panels = screen.until("the last state", is_there).await;
            eprintln!("  {} transitions", panels.transitions);
            screen.close().await;
        }
        let lines = states.are_one_line();
        eprintln!("  {lines} states on one line, {visits} guests");
        assert!(lines as u64 >= transitions() / 2, "only {lines} states were seen");
        fixture.server.stop().await;
    }
}

/// Sessions that come, take panels and give them up, and go.
async fn guests(address: SocketAddr, seed: u64, states: States, done: Arc<AtomicBool>) -> u32 {
    let mut dice = Dice::new(seed, 77);
    let mut visits = 0;
    while !done.load(Ordering::Relaxed) || visits == 0 {
        let mut screen = Screen::open(address, &dice.some(&PANELS, 40), states.check()).await;
        screen.until("something", |panels| !panels.by_name.is_empty()).await;
        for round in 0..2 {
            let more = dice.some(&PANELS, 40);
            let names: Vec<_> = more.iter().map(|(name, _)| format!("{name}#{round}")).collect();
            let more: Vec<_> =
                names.iter().zip(&more).map(|(name, (_, sql))| (name.as_str(), *sql)).collect();
            screen.subscribe(&more).await;
            screen
                .until("what it took", |panels| {
                    names
                        .iter()
                        .all(|name| panels.by_name.get(name).is_some_and(|panel| panel.is_answered))
                })
                .await;
            let there: Vec<_> = screen.panels().by_name.into_keys().collect();
            let given_up = dice.some(&there, 50);
            screen.unsubscribe(&given_up.iter().map(String::as_str).collect::<Vec<_>>()).await;
        }
        screen.close().await;
        visits += 1;
    }
    visits
}

async fn own_postgres(settings: &[(&str, &str)]) -> PrivatePostgres {
    let mut options = testing::options();
    options.settings.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    PrivatePostgres::start(options).await.expect("a server")
}

async fn nothing() {}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_are_whole_at_full_speed() {
    for seed in seeds(2) {
        let url = testing::shared().await.database("cuts").await;
        Scenario { url: &url, seed, manners: ON, extra: &[] }.run(nothing()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_are_whole_while_a_panel_is_slow() {
    for seed in seeds(1) {
        let url = testing::shared().await.database("cuts_slow").await;
        Scenario { url: &url, seed, manners: ON, extra: &[SLOW] }.run(nothing()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_cuts_are_whole_with_commits_that_nobody_flushes() {
    let server = own_postgres(&[("wal_writer_delay", "10s")]).await;
    for seed in seeds(2) {
        let name = format!("bank_{seed}");
        server.create_database(&name, Default::default()).await.expect("a database");
        let url = server.url(&name);
        // All of them, or some: then the others' commits flush theirs.
        let commit = if seed % 2 == 1 { ["off"; 4] } else { ["off", "off", "on", "local"] };
        let manners = Manners { commit, ..ON };
        Scenario { url: &url, seed, manners, extra: &[] }.run(nothing()).await;
    }
    server.stop().await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_cuts_are_whole_while_prepared_transactions_are_open() {
    for seed in seeds(1) {
        let url = testing::shared().await.database("cuts_prepared").await;
        let manners = Manners { prepares: true, ..ON };
        Scenario { url: &url, seed, manners, extra: &[] }.run(nothing()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_cuts_are_whole_while_a_synchronous_standby_comes_and_goes() {
    let server = own_postgres(&[]).await;
    for seed in seeds(1) {
        let name = format!("bank_{seed}");
        server.create_database(&name, Default::default()).await.expect("a database");
        let url = server.url(&name);
        // Who waits for the standby hangs with it, and the others write past them.
        let manners = Manners { commit: ["on", "remote_write", "local", "off"], ..ON };
        let comes_and_goes = async {
            let client = connect(&url).await;
            for _ in 0..3 {
                set(&client, "alter system set synchronous_standby_names = 'nobody'").await;
                somebody_waits_for_it(&client).await;
                set(&client, "alter system reset synchronous_standby_names").await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        Scenario { url: &url, seed, manners, extra: &[] }.run(comes_and_goes).await;
    }
    server.stop().await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_cuts_are_whole_while_a_synchronous_standby_stands_still_and_goes_on() {
    let server = own_postgres(&[("wal_keep_size", "256MB")]).await;
    let standby = server.standby(testing::options()).await.expect("a standby");
    let client = connect(&server.url("postgres")).await;
    set(&client, "alter system set synchronous_standby_names = 'standby'").await;
    until("it is synchronous", async || {
        let is_it = "select sync_state from pg_stat_replication where application_name = 'standby'";
        text(&client, is_it).await.as_deref() == Some("sync")
    })
    .await;
    for seed in seeds(1) {
        let name = format!("bank_{seed}");
        server.create_database(&name, Default::default()).await.expect("a database");
        let url = server.url(&name);
        let manners = Manners { commit: ["on", "remote_write", "local", "remote_apply"], ..ON };
        let stands_still_and_goes_on = async {
            let client = connect(&url).await;
            for _ in 0..3 {
                let frozen = Frozen::new(&standby);
                somebody_waits_for_it(&client).await;
                drop(frozen);
                // What it has said of itself since: nobody waits for ever.
                let sent = text(&client, "select pg_current_wal_lsn()::text").await;
                let has = format!(
                    "select replay_lsn >= '{}' from pg_stat_replication where application_name = 'standby'",
                    sent.expect("a position")
                );
                until("it has all of it", async || {
                    client.query_one(&has, &[]).await.expect("the standby").get(0)
                })
                .await;
            }
        };
        Scenario { url: &url, seed, manners, extra: &[] }.run(stands_still_and_goes_on).await;
    }
    standby.stop().await.expect("it is gone");
    // Whoever stops the server commits nothing more.
    server.stop().await.expect("it is gone");
}

async fn set(client: &Client, sql: &str) {
    client.batch_execute(sql).await.expect("a setting");
    client.batch_execute("select pg_reload_conf()").await.expect("a reload");
}

/// Waits until a commit hangs behind the standby, and lets it hang for a while.
async fn somebody_waits_for_it(client: &Client) {
    until("somebody waits for the standby", async || {
        let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
        client.query_one(waits, &[]).await.expect("a count").get::<_, i64>(0) > 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
}
