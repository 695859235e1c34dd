//! What each case does.

use super::Case;
use super::scene::{Done, Scene};
use super::throttle::{Pace, Throttle};
use super::watch::Watcher;
use crate::clock::Stamp;
use crate::target::session;
use anyhow::Context;
use convoy_postgres::{Connection, connect};
use convoy_types::DatabaseUrl;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

/// A wide row's text, in bytes.
const WIDE_BYTES: u64 = 8 << 20;
/// Subscribers that open their streams at a time.
const OPENING: usize = 50;

/// Plays a case; everyone has subscribed and it was quiet before.
pub(super) async fn play(scene: &mut Scene<'_>, case: Case) -> anyhow::Result<Done> {
    match case {
        Case::HugeTransaction => huge_transaction(scene).await,
        Case::WideTransaction => wide_transaction(scene).await,
        Case::SmallCommits => small_commits(scene).await,
        Case::StoppedReader => slow_readers(scene, 1, Pace::Stopped).await,
        Case::SlowReaders => slow_readers(scene, scene.args.readers, Pace::ByteASecond).await,
        Case::LargeResult => large_result(scene).await,
        Case::HotRow => hot_row(scene).await,
    }
}

async fn huge_transaction(scene: &Scene<'_>) -> anyhow::Result<Done> {
    let rows = scene.args.rows;
    scene.say(&format!("one transaction of {rows} rows"));
    let from = Stamp::now();
    let sql = format!(
        "INSERT INTO convoy_bench.items SELECT n, n % 20, n % 7, 'note ' || n FROM generate_series(10001, 10000 + {rows}) n"
    );
    scene.target.client().batch_execute(&sql).await?;
    let to = Stamp::now();
    let seconds = to.since(from) as f64 / 1e9;
    Ok(Done { what: format!("one transaction of {rows} rows, {seconds:.1} s to commit"), from, to })
}

async fn wide_transaction(scene: &Scene<'_>) -> anyhow::Result<Done> {
    let rows = scene.args.wal_bytes.div_ceil(WIDE_BYTES).max(1);
    let bytes = scene.args.wal_bytes / rows;
    scene.say(&format!("one transaction of {rows} rows of {bytes} bytes"));
    let position = "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8";
    let client = scene.target.client();
    let before: i64 = client.query_one(position, &[]).await?.get(0);
    let from = Stamp::now();
    let sql = format!(
        "INSERT INTO convoy_bench.wide SELECT n, n, repeat('x', {bytes}) FROM generate_series(1, {rows}) n"
    );
    client.batch_execute(&sql).await?;
    let to = Stamp::now();
    let after: i64 = client.query_one(position, &[]).await?.get(0);
    let seconds = to.since(from) as f64 / 1e9;
    let mib = (after - before) >> 20;
    let what =
        format!("one transaction of {rows} rows, {mib} MiB of WAL, {seconds:.1} s to commit");
    Ok(Done { what, from, to })
}

/// Commits as fast as asked and as it can over several connections, on threads of their own. Returns how many.
async fn commits(
    scene: &Scene<'_>,
    connections: u32,
    rate: u32,
    statement: fn(u64) -> String,
) -> anyhow::Result<u64> {
    let lasts = Duration::from_secs_f64(scene.args.seconds);
    let begun = Instant::now();
    let number = Arc::new(AtomicU64::new(0));
    let mut threads = JoinSet::new();
    for _ in 0..connections {
        let url: DatabaseUrl = scene.target.url_text().parse()?;
        let number = number.clone();
        threads.spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let connection = writer(&url).await?;
                while begun.elapsed() < lasts {
                    let turn = number.fetch_add(1, Ordering::Relaxed);
                    // An open loop: each commit is due at its time, whatever those before it took.
                    let due = Duration::from_secs_f64(turn as f64 / f64::from(rate));
                    if due >= lasts {
                        break;
                    }
                    if let Some(early) = due.checked_sub(begun.elapsed()) {
                        std::thread::sleep(early);
                    }
                    connection.client().batch_execute(&statement(turn)).await?;
                }
                anyhow::Ok(())
            })
        });
    }
    while let Some(thread) = threads.join_next().await {
        thread??;
    }
    let all = (lasts.as_secs_f64() * f64::from(rate)) as u64;
    Ok(number.load(Ordering::Relaxed).saturating_sub(u64::from(connections)).min(all))
}

async fn writer(url: &DatabaseUrl) -> anyhow::Result<Connection> {
    connect(url, &session()).await.context("a writer could not connect")
}

async fn small_commits(scene: &Scene<'_>) -> anyhow::Result<Done> {
    let (rate, connections) = (scene.args.rate, scene.args.connections);
    scene.say(&format!("{rate} commits a second over {connections} connections"));
    let from = Stamp::now();
    let count = commits(scene, connections, rate, |turn| {
        let id = turn.wrapping_mul(7919) % 2000 + 1;
        format!("UPDATE convoy_bench.items SET n = n + 1 WHERE id = {id}")
    })
    .await?;
    let to = Stamp::now();
    let achieved = count as f64 / (to.since(from) as f64 / 1e9);
    Ok(Done { what: format!("{count} commits, {achieved:.0} a second of {rate}"), from, to })
}

/// Opens many streams, some at a time, and waits for their first answers.
async fn open_many(
    scene: &mut Scene<'_>,
    count: u32,
    sql: &str,
    throttle: &Throttle,
) -> anyhow::Result<()> {
    let count = count as usize;
    for opened in (0..count).step_by(OPENING) {
        scene.say(&format!("{opened} of {count} readers are there"));
        let begun = scene.watchers.len();
        for _ in opened..count.min(opened + OPENING) {
            let watcher = Watcher::start(scene.address(), sql, throttle.clone(), &scene.common);
            scene.watchers.push(watcher);
        }
        for watcher in &scene.watchers[begun..] {
            watcher.answered().await?;
        }
    }
    Ok(())
}

async fn slow_readers(scene: &mut Scene<'_>, count: u32, pace: Pace) -> anyhow::Result<Done> {
    let rows = scene.args.reader_rows;
    let fill = format!(
        "INSERT INTO convoy_bench.items SELECT n, n % 20, 0, 'note ' || n FROM generate_series(2001, {rows}) n"
    );
    scene.target.client().batch_execute(&fill).await?;
    let sql = format!("select id, n, note from convoy_bench.items where id <= {rows} order by id");
    let throttle = Throttle::for_slow_readers();
    open_many(scene, count, &sql, &throttle).await?;
    throttle.set(pace);
    let from = Stamp::now();
    scene.say(&format!("{count} readers at the pace {pace:?}, while what they watch changes"));
    let mut ticks = interval(Duration::from_millis(100));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begun, mut changes) = (Instant::now(), 0);
    while begun.elapsed().as_secs_f64() < scene.args.seconds {
        ticks.tick().await;
        changes += 1;
        // 50 KB each for 200 rows: what a reader's queue and sockets hold is full after a few seconds.
        let sql = format!(
            "UPDATE convoy_bench.items SET n = n + 1, note = repeat(md5(id::text || {changes}), 16) WHERE id % 2 = {changes} % 2 AND id <= {rows}"
        );
        scene.target.client().batch_execute(&sql).await?;
    }
    throttle.set(Pace::Free);
    let to = Stamp::now();
    let what = match pace {
        Pace::Stopped => {
            format!("{count} reader that read nothing, {changes} changes of {} rows", rows / 2)
        }
        _ => format!(
            "{count} readers that read a byte a second, {changes} changes of {} rows",
            rows / 2
        ),
    };
    Ok(Done { what, from, to })
}

async fn large_result(scene: &mut Scene<'_>) -> anyhow::Result<Done> {
    let rows = scene.args.result_rows;
    let client = scene.target.client();
    let sql = format!(
        "INSERT INTO convoy_bench.items SELECT n, 100, 0, 'note ' || n FROM generate_series(10001, 10000 + {rows}) n"
    );
    client.batch_execute(&sql).await?;
    let sql = "select id, n, note from convoy_bench.items where grp = 100 order by id";
    open_many(scene, 5, sql, &Throttle::default()).await?;
    scene.say(&format!("a result of {rows} rows: changes of one row"));
    let from = Stamp::now();
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (begun, mut changes) = (Instant::now(), 0_u64);
    let client = scene.target.client();
    while begun.elapsed().as_secs_f64() < scene.args.seconds / 2.0 {
        ticks.tick().await;
        changes += 1;
        let id = 10_001 + changes.wrapping_mul(7919) % u64::from(rows);
        // Never more rows than at first: so many may be the most that a result has.
        let sql = match changes % 10 {
            5 => format!("DELETE FROM convoy_bench.items WHERE id = {id}"),
            0 => format!("INSERT INTO convoy_bench.items VALUES (-{changes}, 100, 0, 'first')"),
            _ => format!("UPDATE convoy_bench.items SET n = n + 1 WHERE id = {id}"),
        };
        client.batch_execute(&sql).await?;
    }
    scene.say("a change of all");
    client.batch_execute("UPDATE convoy_bench.items SET n = n + 1 WHERE grp = 100").await?;
    let to = Stamp::now();
    let what = format!(
        "a result of {rows} rows, 5 subscribers: {changes} changes of one row, then one of all"
    );
    Ok(Done { what, from, to })
}

async fn hot_row(scene: &mut Scene<'_>) -> anyhow::Result<Done> {
    let (readers, rate) = (scene.args.readers, scene.args.updates);
    let sql = "select id, n, note from convoy_bench.items where id = 1";
    open_many(scene, readers, sql, &Throttle::default()).await?;
    scene.say(&format!("{rate} updates a second of one row"));
    let from = Stamp::now();
    // One connection: of several, all but one would wait for the row's lock.
    let count = commits(scene, 1, rate, |turn| {
        format!("UPDATE convoy_bench.items SET n = {turn} WHERE id = 1")
    })
    .await?;
    let to = Stamp::now();
    let achieved = count as f64 / (to.since(from) as f64 / 1e9);
    let what = format!(
        "{count} updates of one row, {achieved:.0} a second of {rate}, {readers} subscribers to it"
    );
    Ok(Done { what, from, to })
}
