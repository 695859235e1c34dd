//! What one slow panel does to its dashboard: it holds it a little, is named `stale`, and rejoins; the rest moves on and
//! stays whole. Said otherwise for a query, it holds it as long as that says. A first answer holds nobody.

use super::bank::{self, Committed, Manners};
use super::law::{PANELS, States, state};
use crate::screen::{Check, Panels, Screen};
use crate::support::{Fixture, connect};
use convoy_postgres::testing;
use convoy_types::Lsn;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

const COMMITS: Manners = Manners { commit: ["on"; 4], prepares: false };

/// A bank with one writer, and a panel that takes long.
struct Busy {
    fixture: Fixture,
    slow: String,
    committed: Committed,
    done: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl Busy {
    async fn start(name: &str, flags: &[&str], takes: Duration) -> Busy {
        let url = testing::shared().await.database(name).await;
        let client = connect(&url).await;
        bank::open(&client, "full").await;
        let slow = slow(&client, takes).await;
        let fixture = Fixture::on(&url, flags).await;
        let (committed, done) = (Committed::default(), Arc::new(AtomicBool::new(false)));
        Busy { fixture, slow, committed, done, writer: None }
    }

    /// Opens a session with the panels and this slow one, and lets the writer write once all are answered.
    async fn watched(&mut self, slow: Option<&str>, check: Check) -> Screen {
        let panels: Vec<_> =
            PANELS.iter().copied().chain(slow.map(|slow| ("slow", slow))).collect();
        let mut screen = Screen::open(self.fixture.address, &panels, check).await;
        let is_answered =
            |panels: &Panels| panels.by_name.values().filter(|panel| panel.is_in_cut()).count();
        screen.until("all answers", |shown| is_answered(shown) == panels.len()).await;
        let (url, committed) = (self.fixture.url.clone(), self.committed.clone());
        let writer = bank::write(url, 1, 0, COMMITS, committed, self.done.clone());
        self.writer = Some(tokio::spawn(writer));
        screen
    }

    /// Ends the writer, and sees all panels rejoin at the last state.
    async fn end(self, mut screen: Screen) -> Panels {
        self.done.store(true, Ordering::Relaxed);
        self.writer.expect("it writes").await.expect("a writer");
        let stamps = self.committed.load(Ordering::SeqCst);
        let is_there = |panels: &Panels| {
            panels.by_name.values().all(|panel| panel.is_in_cut())
                && state(panels) == Ok(Some(stamps))
        };
        let panels = screen.until("the last state", is_there).await;
        screen.close().await;
        self.fixture.server.stop().await;
        panels
    }
}

/// Returns a query that takes about so long on this machine, now.
async fn slow(client: &Client, takes: Duration) -> String {
    let sql = |rows: u128| {
        format!(
            "select sum(balance) as balance, sum(stamp) as stamp, \
             (select count(*) from generate_series(1, {rows})) as cost from accounts"
        )
    };
    let rows = 500_000;
    let started = Instant::now();
    client.query(&sql(rows), &[]).await.expect("a count");
    sql(rows * takes.as_micros() / started.elapsed().as_micros().max(1))
}

/// How the rest moves beside the slow panel.
#[derive(Clone, Copy, Debug, Default)]
struct Moves {
    /// How often, while that was stale.
    past_it: u32,
    /// The longest time that nothing moved, from when all were answered.
    longest_rest: Duration,
    /// How long all were held up until it was first named stale.
    held: Option<Duration>,
}

/// Checks what is said of the slow panel: `stale` once for each time that it falls behind, as of the last transition in
/// which it was up to date, or of where a result stands that comes with it; and notes how the total moves meanwhile.
fn falls_behind_in_order(mut law: Check, moves: tokio::sync::watch::Sender<Moves>) -> Check {
    let mut in_cut_at: Option<Lsn> = None;
    let mut is_stale = false;
    let (mut is_answered, mut moved_at) = (false, Instant::now());
    Box::new(move |panels, transition| {
        law(panels, transition)?;
        let updates: Vec<&Value> = transition["updates"].as_array().into_iter().flatten().collect();
        let mut has_result = false;
        for update in updates.iter().filter(|update| update["sub"] == "slow") {
            if update["type"] != "stale" {
                (is_stale, has_result) = (false, true);
                continue;
            }
            if is_stale {
                return Err(format!("it was stale already: {update}"));
            }
            is_stale = true;
            let as_of: Lsn =
                update["lsn"].as_str().and_then(|lsn| lsn.parse().ok()).ok_or("no position")?;
            let is_right = if has_result {
                Some(as_of) > in_cut_at && as_of < panels.lsn
            } else {
                Some(as_of) == in_cut_at
            };
            if !is_right {
                return Err(format!(
                    "it was up to date at {in_cut_at:?}, the cut is {}: {update}",
                    panels.lsn
                ));
            }
            // Where it falls behind next, it does so from there.
            in_cut_at = Some(as_of);
        }
        if !is_stale {
            in_cut_at = Some(panels.lsn);
        }
        if !std::mem::replace(&mut is_answered, panels.by_name.contains_key("slow")) {
            // Whoever writes begins only now.
            moved_at = Instant::now();
        } else if updates.iter().any(|update| update["sub"] == "total") {
            let rest = moved_at.elapsed();
            moved_at = Instant::now();
            moves.send_modify(|moves| {
                moves.past_it += u32::from(is_stale);
                moves.longest_rest = moves.longest_rest.max(rest);
                moves.held = moves.held.or(is_stale.then_some(rest));
            });
        }
        Ok(())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_panel_neither_freezes_its_dashboard_nor_tears_the_rest() {
    const HOLD: Duration = Duration::from_millis(1500);
    // Less than another hold, and than it takes to wait for the panel itself.
    const SLACK: Duration = Duration::from_millis(1300);
    let flags = ["--allow-sql", "--max-hold", "1.5"];
    let mut busy = Busy::start("holds_stale", &flags, HOLD * 3).await;
    let (sender, mut moves) = tokio::sync::watch::channel(Moves::default());
    let states = States::default();
    let check = falls_behind_in_order(states.check(), sender);
    let slow = busy.slow.clone();
    let mut screen = busy.watched(Some(&slow), check).await;
    screen
        .until("it falls behind twice", |panels| {
            panels.by_name.get("slow").is_some_and(|panel| panel.updates_of("stale") >= 2)
        })
        .await;
    moves.wait_for(|moves| moves.past_it >= 3).await.expect("the rest moves on past it");
    let moves = *moves.borrow();
    println!("{moves:?}");
    assert!(moves.longest_rest < HOLD + SLACK, "{moves:?}");
    // By this side's clock; the other's began when it had read what was quick.
    assert!(moves.held.is_some_and(|held| held > HOLD / 2), "{moves:?}");
    let panels = busy.end(screen).await;
    let slow = &panels["slow"];
    assert_eq!(slow.updates_of("error"), 0);
    // There was something new each time that it is said again, and at the end.
    assert!(slow.updates_in_all() >= slow.updates_of("stale") * 2, "{:?}", slow.updates);
    states.are_one_line();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_says_so_holds_its_dashboard_longer() {
    let flags = ["--allow-sql", "--max-hold", "0.6"];
    let mut busy = Busy::start("holds_longer", &flags, Duration::from_millis(1200)).await;
    let slow = format!("-- @maxhold 40s\n{}", busy.slow);
    let states = States::default();
    let mut screen = busy.watched(Some(&slow), states.check()).await;
    screen
        .until("it has changed", |panels| {
            panels.by_name.get("slow").is_some_and(|panel| panel.updates_in_all() >= 4)
        })
        .await;
    let panels = busy.end(screen).await;
    assert_eq!(panels["slow"].updates_of("stale"), 0, "{:?}", panels["slow"].updates);
    states.are_one_line();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_answer_holds_nobody() {
    // As long as nothing is better than what is not quite up to date.
    // Both well above what five steps of the others take on a busy machine.
    let flags = ["--allow-sql", "--max-hold", "20"];
    let mut busy = Busy::start("holds_first", &flags, Duration::from_secs(6)).await;
    let states = States::default();
    let mut screen = busy.watched(None, states.check()).await;
    let before = screen.panels()["total"].updates_in_all();
    screen.subscribe(&[("slow", &busy.slow)]).await;
    let moved = screen
        .until("the rest moves before it is answered", |panels| {
            panels.by_name.contains_key("slow") || panels["total"].updates_in_all() >= before + 5
        })
        .await;
    assert!(
        !moved.by_name.contains_key("slow"),
        "it was answered at once: {:?}",
        moved["slow"].updates
    );
    screen.until("it is answered", |panels| panels.by_name.contains_key("slow")).await;
    let panels = busy.end(screen).await;
    for (name, panel) in panels.by_name.iter().filter(|(name, _)| *name != "slow") {
        assert_eq!(panel.updates_of("stale"), 0, "{name}: {:?}", panel.updates);
    }
    states.are_one_line();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_stale_for_anothers_slowness() {
    // Well above what the others take on a busy machine: each may be stale for its own slowness.
    let flags = ["--allow-sql", "--max-hold", "6"];
    let mut busy = Busy::start("holds_others", &flags, Duration::from_millis(1)).await;
    busy.fixture
        .write("create table gate (id int4 primary key); insert into gate values (1)")
        .await;
    // It can't be read while somebody has the gate, and says that it is worth waiting for.
    let gated = "-- @maxhold 60s\n\
                 select sum(balance) as balance, sum(stamp) as stamp from accounts, gate";
    let states = States::default();
    let mut screen = busy.watched(Some(gated), states.check()).await;
    busy.fixture.write("begin; lock table gate in access exclusive mode").await;
    // Two holds, in which the others are read again and again.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = screen.panels().transitions;
    busy.fixture.write("commit").await;
    screen.until("all move on", |panels| panels.transitions >= before + 3).await;
    let panels = busy.end(screen).await;
    for (name, panel) in &panels.by_name {
        assert_eq!(panel.updates_of("stale"), 0, "{name}: {:?}", panel.updates);
    }
    states.are_one_line();
}
