//! One seed.

use super::asked::{Asked, connect, difference};
use super::dice::Dice;
use super::journal::{JOURNAL, Model, observe};
use super::live::{Epoch, Live};
use super::queries::{Query, TRANSFERS, queries};
use super::samples::sampler;
use super::schema::{ACCOUNTS, TYPES, Table, tables};
use super::subscribers::{Content, Digests, Shown, Subscriber};
use super::trouble::make_trouble;
use super::verify::{query_of, verify};
use super::writers::{seed_rows, write};
use convoy_engine::{Event, Limits, QueryReference, SessionId, Statement};
use convoy_postgres::launcher::Locale;
use convoy_postgres::testing;
use convoy_types::Lsn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_postgres::Client;

const WRITERS: u64 = 4;

/// Transactions of each writer.
const TRANSACTIONS: usize = 120;

/// How long the subscribers may take to have caught up when the writers have ended.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// What a seed uses its dice for.
mod part {
    pub const TABLES: u64 = 1;
    pub const QUERIES: u64 = 2;
    pub const ROWS: u64 = 3;
    pub const SESSIONS: u64 = 4;
    pub const VERIFY: u64 = 5;
    pub const TROUBLE: u64 = 6;
    pub const STREAMING: u64 = 7;
    pub const WRITER: u64 = 100;
}

const ALL: SessionId = SessionId(1);
const TRANSFER: SessionId = SessionId(2);
const SLOW: SessionId = SessionId(3);
const RESTLESS: SessionId = SessionId(4);

/// Runs a seed, and returns what was wrong.
pub async fn run(seed: u64) -> Vec<String> {
    let started = Instant::now();
    let locale = if seed.is_multiple_of(2) { Locale::IcuEn } else { Locale::C };
    let url = testing::shared().await.database_with(&format!("oracle_{seed}"), locale).await;
    let tables = tables(&mut Dice::new(seed, part::TABLES));
    let queries = queries(&tables, &mut Dice::new(seed, part::QUERIES));
    let client = connect(&url).await;
    set_up(&client, &tables, &mut Dice::new(seed, part::ROWS)).await;
    stream_early(&client, &mut Dice::new(seed, part::STREAMING)).await;

    let mut dice = Dice::new(seed, part::SESSIONS);
    let locks: Vec<String> = tables.iter().map(Table::sql).chain(["accounts".to_owned()]).collect();
    let (on_closed, samples) = sampler(&url, &queries, locks.join(", ")).await;
    let limits = Limits {
        // Some seeds let results fall behind, others never.
        max_hold: Duration::from_millis(*dice.pick(&[5, 2_000, 30_000])),
        heartbeat: Duration::from_millis(200),
        // As many as there can be, for what one finds is an error.
        audit_interval: Duration::from_millis(20),
        first_answer_max: Duration::from_secs(60),
        history_bytes_min: *dice.pick(&[1 << 8, 16 << 10]),
        write_log_bytes_max: *dice.pick(&[2 << 10, 64 << 20]),
        ..Limits::default()
    };
    let epoch = Epoch::default();
    let live = Live::start(&url, limits, &epoch, on_closed).await;

    let (go, going) = watch::channel(false);
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..WRITERS {
        let (client, tables) = (connect(&url).await, tables.clone());
        writers.spawn(write(
            client,
            tables,
            Dice::new(seed, part::WRITER + number),
            TRANSACTIONS,
            going.clone(),
        ));
    }

    let sessions = Sessions::open(&live, &queries, &epoch);
    sessions.subscribe_early(&mut dice);
    let bustle = tokio::spawn(bustle(
        live.sender(),
        sessions.restless.clone(),
        queries.clone(),
        dice.clone(),
    ));
    let mut problems = Vec::new();
    if let Err(problem) = sessions.all.until_answered(SETTLE_MAX).await {
        problems.push(problem);
    }
    let answered = started.elapsed();
    let _ = go.send(true);
    if seed % 3 == 2 {
        tokio::spawn(lose_replication(connect(&url).await));
    }
    let mut trouble = tokio::task::JoinSet::new();
    // In both kinds of locale.
    if matches!(seed % 8, 3 | 6) {
        let dice = Dice::new(seed, part::TROUBLE);
        trouble.spawn(make_trouble(connect(&url).await, tables.clone(), dice));
    }
    // Tables enter the publication while writers are at work.
    let late = (0..queries.len()).filter(|number| queries[*number].late);
    for number in late {
        sessions.subscribe(ALL, &sessions.all, number, &format!("q{number}"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut outcome = super::writers::Outcome::default();
    while let Some(ended) = writers.join_next().await {
        let of_one = ended.expect("a writer panicked");
        outcome.committed += of_one.committed;
        outcome.rolled_back += of_one.rolled_back;
        outcome.failed += of_one.failed;
    }
    bustle.abort();
    let _ = bustle.await;
    trouble.shutdown().await;
    let written = started.elapsed();

    problems.extend(sessions.settle(&client).await);
    let (status, infos) = live.status().await;
    if status.counters.audit_mismatches > 0 {
        problems.push("the audit found what Postgres does not say".to_owned());
    }
    if !problems.is_empty() {
        problems.push(format!("the engine: {status:?}"));
        problems.push(activity(&client).await);
    }
    let line = live.log();
    let subscribers = sessions.subscribers();
    problems.extend(subscribers.iter().flat_map(Subscriber::problems));
    if problems.is_empty() {
        problems = sessions.compare_end(&client).await;
    }
    let settled = started.elapsed();
    let (statements, batched) = (live.read.statements(), live.read.batched());
    if batched == 0 {
        problems.push("no results were read together".to_owned());
    }
    live.stop().await;

    let mut model = Model::new(connect(&url).await).await;
    let (compared, wrong) = verify(
        &mut model,
        &queries,
        &line,
        &subscribers,
        &samples,
        &mut Dice::new(seed, part::VERIFY),
    )
    .await;
    problems.extend(wrong);
    problems.extend(
        model.differing(&tables).await.iter().map(|table| format!("the model is wrong: {table}")),
    );
    let incremental = infos.iter().filter(|info| info.incremental).count();
    let (diffs, snapshots, stale) = subscribers
        .iter()
        .map(Subscriber::counts)
        .fold((0, 0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1, sum.2 + counts.2));
    println!(
        "seed {seed} ({locale:?}): {} queries, {incremental} of {} incremental, {outcome:?}, {} transitions with {diffs} \
         diffs, {snapshots} snapshots, {stale} stale; {compared:?}; {} reads by {statements} statements, \
         {batched} together, {} unchanged, {} taken again, {} audits; \
         woken by key for nothing {} of {} ({} changed what is kept), by table {} of {} ({}); \
         {} streams; {:.1} s to answer, {:.1} s of writing, {:.1} s to settle, {:.1} s to compare",
        queries.len(),
        infos.len(),
        status.counters.transitions,
        status.counters.reads,
        status.counters.reads_unchanged,
        status.counters.snapshots_retaken,
        status.counters.audits,
        status.counters.precise_wake_ups.for_nothing,
        status.counters.precise_wake_ups.all,
        status.counters.precise_wake_ups.kept_only,
        status.counters.whole_table_wake_ups.for_nothing,
        status.counters.whole_table_wake_ups.all,
        status.counters.whole_table_wake_ups.kept_only,
        epoch.load(Ordering::Relaxed),
        answered.as_secs_f32(),
        (written - answered).as_secs_f32(),
        (settled - written).as_secs_f32(),
        (started.elapsed() - settled).as_secs_f32(),
    );
    problems.truncate(12);
    if std::env::var_os("CONVOY_ORACLE_PLANS").is_some() {
        let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
        infos
            .iter()
            .flat_map(|info| info.notes.first())
            .for_each(|note| *reasons.entry(note.as_str()).or_default() += 1);
        reasons.iter().for_each(|(reason, count)| println!("{count:4} {reason}"));
    }
    let concerned =
        infos.iter().filter(|info| problems.iter().any(|problem| problem.contains(&info.sql)));
    let plans = concerned.map(|info| {
        format!("plan of {:?}: incremental {}; {:?}", info.sql, info.incremental, info.notes)
    });
    let plans: Vec<String> = plans.collect();
    problems.into_iter().chain(plans).collect()
}

/// Returns what the database's sessions are doing, for those who ask why nothing happens.
async fn activity(client: &Client) -> String {
    const SQL: &str = "SELECT string_agg(concat_ws(' ', pid, application_name, state, wait_event, age(clock_timestamp(), state_change),          left(query, 150)), chr(10)) FROM pg_stat_activity WHERE datname = current_database()";
    client
        .query_one(SQL, &[])
        .await
        .expect("an answer")
        .get::<_, Option<String>>(0)
        .unwrap_or_default()
}

/// Ends the stream in the middle.
async fn lose_replication(client: Client) {
    const SQL: &str = "SELECT pg_sleep(1.5); SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND backend_type = 'walsender'";
    let _ = client.batch_execute(SQL).await;
}

async fn set_up(client: &Client, tables: &[Table], dice: &mut Dice) {
    let mut sql = format!("{JOURNAL}\n{TYPES}\n{ACCOUNTS};");
    tables.iter().for_each(|table| sql.push_str(&table.create()));
    tables.iter().for_each(|table| sql.push_str(&observe(&table.name, &table.leaves())));
    sql.push_str(&observe("accounts", &["accounts".to_owned()]));
    sql.push_str(&seed_rows(tables, dice));
    if dice.percent(50) {
        sql.push_str("ALTER TABLE accounts REPLICA IDENTITY FULL;");
    }
    client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("setting up: {error:?}\n{sql}"));
}

struct Sessions<'a> {
    live: &'a Live,
    queries: &'a [Query],
    all: Subscriber,
    transfer: Subscriber,
    slow: Subscriber,
    restless: Subscriber,
}

impl<'a> Sessions<'a> {
    fn open(live: &'a Live, queries: &'a [Query], epoch: &Epoch) -> Self {
        let digests = Arc::new(Digests::default());
        let subscriber = |name| Subscriber::new(name, digests.clone(), epoch.clone());
        let sessions = Sessions {
            live,
            queries,
            all: subscriber("all"),
            transfer: subscriber("transfer").with_invariant(agree),
            slow: subscriber("slow"),
            restless: subscriber("restless"),
        };
        let open = |id, outbox| live.send(Event::SessionOpened(id, outbox));
        open(ALL, sessions.all.outbox(false, None));
        open(TRANSFER, sessions.transfer.outbox(false, None));
        open(RESTLESS, sessions.restless.outbox(false, None));
        let (drained, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        open(SLOW, sessions.slow.outbox(true, Some(drained)));
        let send = live.sender();
        tokio::spawn(async move {
            while inbox.recv().await.is_some() {
                tokio::time::sleep(Duration::from_millis(35)).await;
                send(Event::OutboxDrained(SLOW));
            }
        });
        sessions
    }

    fn subscribers(&self) -> [Subscriber; 4] {
        [self.all.clone(), self.transfer.clone(), self.slow.clone(), self.restless.clone()]
    }

    fn subscribe(&self, session: SessionId, subscriber: &Subscriber, number: usize, sub: &str) {
        subscribe(&self.live.sender(), session, subscriber, &self.queries[number], sub);
    }

    fn subscribe_early(&self, dice: &mut Dice) {
        for (number, query) in self.queries.iter().enumerate().filter(|(_, query)| !query.late) {
            let sub = format!("q{number}");
            self.subscribe(ALL, &self.all, number, &sub);
            if query.kind == "transfers" {
                self.subscribe(TRANSFER, &self.transfer, number, &sub);
            }
            if dice.percent(40) {
                self.subscribe(SLOW, &self.slow, number, &sub);
            }
        }
    }

    /// Waits until every session has seen all that was written.
    async fn settle(&self, client: &Client) -> Vec<String> {
        client
            .batch_execute(
                "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'oracle', '')",
            )
            .await
            .expect("a flush");
        let row = client
            .query_one("SELECT pg_current_wal_flush_lsn()::text", &[])
            .await
            .expect("a position");
        let lsn: Lsn = row.get::<_, &str>(0).parse().expect("a position");
        let mut problems = Vec::new();
        let deadline = Instant::now() + SETTLE_MAX;
        for (id, subscriber) in [ALL, TRANSFER, SLOW, RESTLESS].into_iter().zip(self.subscribers())
        {
            self.live.send(Event::Await(id, lsn));
            let left = deadline.saturating_duration_since(Instant::now());
            if let Err(problem) = subscriber.until_settled(lsn, left).await {
                problems.push(problem);
                for (sub, shown) in subscriber
                    .now()
                    .1
                    .iter()
                    .filter(|(_, shown)| matches!(shown, Shown::Nothing))
                    .take(3)
                {
                    problems.push(format!("{sub} {shown:?}: {}", self.queries[query_of(sub)].sql));
                }
            }
        }
        problems
    }

    /// Compares what every session shows with the tables as they are.
    async fn compare_end(&self, client: &Client) -> Vec<String> {
        let mut problems = Vec::new();
        for subscriber in self.subscribers() {
            let subs: Vec<Arc<str>> = subscriber.now().1.keys().cloned().collect();
            for sub in subs {
                let query = &self.queries[query_of(&sub)];
                let answer =
                    Asked::prepare(client, query).await.ask(client).await.expect("an answer");
                let deadline = Instant::now() + Duration::from_secs(10);
                let difference = loop {
                    let shown = subscriber.now().1[&sub].clone();
                    // What the catalogue watch sees is seen late: a TRUNCATE near the end gave a table another file, and its
                    // queries are analysed and read once more.
                    let may_wait = query.on_interval || matches!(shown, Shown::Stale(_));
                    let difference = match &shown {
                        Shown::Value(content) => difference(query, content, &answer),
                        Shown::Failed(message) => Some(message.clone()),
                        Shown::Nothing | Shown::Stale(_) => Some("it has no answer".to_owned()),
                    };
                    if difference.is_none() || !may_wait || Instant::now() >= deadline {
                        break difference;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                };
                if let Some(difference) = difference {
                    let (name, kind, sql) = (subscriber.name, query.kind, &query.sql);
                    problems.push(format!(
                        "{name}.{sub} ({kind}) at the end: {difference}\n    {sql}\n    {:?}",
                        query.args
                    ));
                }
            }
        }
        problems
    }
}

fn subscribe(
    send: &impl Fn(Event),
    session: SessionId,
    subscriber: &Subscriber,
    query: &Query,
    sub: &str,
) {
    let statement =
        Statement::ad_hoc(&query.sql).unwrap_or_else(|error| panic!("{error}: {}", query.sql));
    let sub: Arc<str> = sub.into();
    subscriber.subscribes(&sub);
    send(Event::Subscribe {
        session,
        sub,
        query: QueryReference::fixed(
            Arc::new(statement),
            query.args.iter().cloned().map(Some).collect(),
        ),
        have: None,
    });
}

/// In some seeds transactions are streamed while they are open (P14): those of some hundred rows, or, where the server can
/// be made to, all.
async fn stream_early(client: &Client, dice: &mut Dice) {
    if !dice.percent(40) {
        return;
    }
    let all = dice.percent(50);
    let version = "select current_setting('server_version_num')::int4, current_database()::text";
    let row = client.query_one(version, &[]).await.expect("a version");
    let (version, name): (i32, String) = (row.get(0), row.get(1));
    let setting = match all && version >= 160_000 {
        true => "debug_logical_replication_streaming = immediate",
        false => "logical_decoding_work_mem = '64kB'",
    };
    let sql = format!("alter database \"{name}\" set {setting}");
    client.batch_execute(&sql).await.expect("a setting");
}

/// A client that comes and goes.
async fn bustle(send: impl Fn(Event), subscriber: Subscriber, queries: Vec<Query>, mut dice: Dice) {
    let mut subs: Vec<Arc<str>> = Vec::new();
    for round in 0.. {
        match dice.below(8) {
            0 => {
                subscriber.resumes();
                send(Event::SessionResumed(RESTLESS, subscriber.outbox(false, None)));
            }
            1..=2 if subs.len() > 5 => {
                let sub = subs.swap_remove(dice.below(subs.len()));
                subscriber.unsubscribes(&sub);
                send(Event::Unsubscribe { session: RESTLESS, sub });
            }
            _ if subs.len() < 25 => {
                let number = dice.below(queries.len());
                let sub: Arc<str> = format!("q{number}.{round}").into();
                if !queries[number].late {
                    subscribe(&send, RESTLESS, &subscriber, &queries[number], &sub);
                    subs.push(sub);
                }
            }
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(u64::try_from(dice.between(1, 60)).unwrap_or(1)))
            .await;
    }
}

/// Says whether the panels of the transfers agree: they show one moment.
fn agree(shown: &BTreeMap<Arc<str>, Shown>) -> Result<(), String> {
    let mut panels: Vec<(usize, &Content)> = Vec::new();
    for (sub, shown) in shown {
        match shown {
            Shown::Value(content) => panels.push((query_of(sub), content)),
            _ => return Ok(()),
        }
    }
    panels.sort_by_key(|(number, _)| *number);
    if panels.len() < TRANSFERS.len() {
        return Ok(());
    }
    let numbers = |panel: usize, column: usize| -> Vec<i64> {
        let rows = panels[panel].1.rows.iter();
        rows.map(|row| row.1[column].parse().unwrap_or_default()).collect()
    };
    let balances = numbers(0, 2);
    let sum: i64 = balances.iter().sum();
    let mut richest = balances.clone();
    richest.sort_unstable_by(|left, right| right.cmp(left));
    richest.truncate(5);
    let checks = [
        ("total", numbers(1, 0), vec![sum]),
        ("count", numbers(2, 0), vec![i64::try_from(balances.len()).unwrap_or_default()]),
        ("regions", vec![numbers(3, 1).iter().sum()], vec![sum]),
        ("richest", numbers(4, 1), richest),
        ("max", numbers(5, 0), balances.iter().max().copied().into_iter().collect()),
        (
            "money",
            vec![sum],
            vec![100 * i64::try_from(super::writers::ACCOUNTS).unwrap_or_default()],
        ),
    ];
    for (name, shown, expected) in checks {
        if shown != expected {
            return Err(format!("{name} shows {shown:?}, the list makes {expected:?}"));
        }
    }
    Ok(())
}
