//! Who may read what, under subscription: the server reads as a role with few rights, which are given and taken while it
//! runs, while somebody writes. What it may not see any more is not shown: an error comes soon, then nothing, and a snapshot
//! when the right is back.

use super::case::comparable;
use crate::screen::{Check, Panels, Screen};
use crate::support::{Fixture, connect, until};
use convoy_postgres::testing;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// Within how long what has changed of rights is seen: up to a second is what is said, the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(5);

const TABLE: &str = "\
    create table secrets (id int4 primary key, grp int4 not null, word text); \
    alter table secrets replica identity full; \
    insert into secrets values (1, 1, 'one'), (2, 2, 'two'), (3, 1, 'three'); \
    create table open_to_all (id int4 primary key); insert into open_to_all values (1); \
    do $$ begin create role ddl_reader login replication; exception when duplicate_object or unique_violation then null; end $$; \
    do $$ begin create role ddl_group; exception when duplicate_object or unique_violation then null; end $$; \
    grant select on secrets, open_to_all to ddl_reader; \
    do $$ begin if current_setting('server_version_num')::int < 180000 \
    then create publication convoy_full for table secrets, open_to_all; \
    else execute 'create publication convoy_full for table secrets, open_to_all with (publish_generated_columns = stored)'; \
    end if; end $$; \
    create publication convoy_ins with (publish = 'insert, truncate')";

/// Each kind of plan, and one that is not concerned.
const PANELS: [(&str, &str); 5] = [
    ("rows", "select id, word from secrets order by id"),
    ("groups", "select grp, count(*) as n from secrets group by grp"),
    (
        "again",
        "with all_of_them as (select id, word from secrets) select max(word) as word, count(*) as n from all_of_them",
    ),
    ("ids", "select id from secrets order by id desc limit 2"),
    ("calm", "select id from open_to_all order by id"),
];

/// A right that is taken, what is said of it, and what gives it back. `of` are the panels that lose theirs.
struct Right {
    taken: &'static str,
    given: &'static str,
    of: &'static [&'static str],
}

const RIGHTS: [Right; 4] = [
    Right {
        taken: "revoke select on secrets from ddl_reader",
        given: "grant select on secrets to ddl_reader",
        of: &["rows", "groups", "again", "ids"],
    },
    // A right on two columns is left.
    Right {
        taken: "revoke select on secrets from ddl_reader; grant select (id, grp) on secrets to ddl_reader",
        given: "grant select (word) on secrets to ddl_reader",
        of: &["rows", "again"],
    },
    Right {
        taken: "revoke select (id, grp, word) on secrets from ddl_reader",
        given: "grant select on secrets to ddl_reader",
        of: &["rows", "groups", "again", "ids"],
    },
    Right {
        taken: "revoke usage on schema public from public, ddl_reader",
        given: "grant usage on schema public to public",
        of: &["rows", "groups", "again", "ids"],
    },
];

/// The panels that have lost their right, and have said so.
type Closed = Arc<Mutex<&'static [&'static str]>>;

/// Checks that nothing more is shown of what is closed.
fn nothing_leaks(closed: Closed) -> Check {
    Box::new(move |_, transition| {
        let closed = *closed.lock().expect("nobody panics with it");
        for update in transition["updates"].as_array().into_iter().flatten() {
            let is_closed = closed.iter().any(|name| update["sub"] == **name);
            if is_closed && update["type"] != "error" {
                return Err(format!("the right to it is gone, and it is shown: {update}"));
            }
        }
        Ok(())
    })
}

/// Somebody who may do everything, and writes.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU32>,
    task: JoinHandle<Client>,
}

impl Writer {
    /// Writes from this number on.
    fn start(client: Client, from: u32) -> Writer {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(from)));
        let (stops, writes) = (stop.clone(), written.clone());
        let task = tokio::spawn(async move {
            while !stops.load(Ordering::Relaxed) {
                let n = writes.load(Ordering::Relaxed) + 1;
                let sql = format!(
                    "update secrets set word = 'word {n}' where id = 1; \
                     insert into secrets values ({n} + 1000, {n} % 3, 'word {n}'); \
                     delete from secrets where id = {n} + 995"
                );
                client.batch_execute(&sql).await.expect("a write");
                writes.store(n, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            client
        });
        Writer { stop, written, task }
    }

    /// Waits until it has written some more.
    async fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        until("it writes", async || self.written.load(Ordering::Relaxed) >= before + 5).await;
    }

    /// Ends it, and returns where another may go on.
    async fn end(self) -> (Client, u32) {
        self.stop.store(true, Ordering::Relaxed);
        (self.task.await.expect("a writer"), self.written.load(Ordering::Relaxed))
    }
}

/// What a role sees.
async fn wanted(client: &Client, sql: &str) -> Vec<Value> {
    let ask = format!("select coalesce(json_agg(to_json(r)), '[]')::text from ({sql}) r");
    let row = client.query_one(&ask, &[]).await.expect("the rows");
    let rows: Value = serde_json::from_str(row.get(0)).expect("JSON");
    comparable(sql, rows.as_array().expect("rows").clone())
}

/// Waits until these panels show what the role sees.
async fn agree(screen: &mut Screen, reader: &Client, names: &[&str], when: &str) {
    let mut all = Vec::new();
    for (name, sql) in PANELS.iter().filter(|(name, _)| names.contains(name)) {
        all.push((*name, *sql, wanted(reader, sql).await));
    }
    let is_so = |panels: &Panels| {
        all.iter().all(|(name, sql, rows)| {
            panels.by_name.get(*name).is_some_and(|panel| {
                panel.is_in_cut() && comparable(sql, panel.shown.rows.clone()) == *rows
            })
        })
    };
    screen.until(when, is_so).await;
}

/// Two who may do everything, one who may read, and a server that reads as that one.
async fn start(name: &str) -> ([Client; 2], Client, Fixture) {
    let url = testing::shared().await.database(name).await;
    let owner = connect(&url).await;
    owner.batch_execute(TABLE).await.expect("tables");
    let (before, after) = url.split_once("://").expect("a scheme");
    let host = after.split_once('@').map_or(after, |(_, host)| host);
    let reads_as = format!("{before}://ddl_reader@{host}");
    let fixture = Fixture::on(&reads_as, &["--allow-sql", "--max-hold", "4"]).await;
    let reader = connect(&reads_as).await;
    ([owner, connect(&url).await], reader, fixture)
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_who_loses_a_right_is_told_and_sees_no_more() {
    let ([owner, mut writes], reader, fixture) = start("ddl_rights").await;
    let closed = Closed::default();
    let mut screen = Screen::open(fixture.address, &PANELS, nothing_leaks(closed.clone())).await;
    let all = PANELS.map(|(name, _)| name);
    agree(&mut screen, &reader, &all, "the first answers").await;
    let mut written = 0;
    for (round, Right { taken, given, of }) in RIGHTS.iter().enumerate() {
        eprintln!("{taken}");
        let writer = Writer::start(writes, written);
        writer.goes_on().await;
        let is_taken = Instant::now();
        owner.batch_execute(taken).await.expect("a right is taken");
        let has_error =
            |panels: &Panels| of.iter().all(|name| panels.by_name[*name].error.is_some());
        let panels = screen.until("errors", has_error).await;
        let took = is_taken.elapsed();
        assert!(took < SOON, "{taken}: shown for {took:?}");
        for name in *of {
            let message = panels[name].error.as_ref().expect("an error")["message"].to_string();
            let helps = message.contains("permission denied") || message.contains("does not exist");
            assert!(helps, "{taken}, {name}: {message}");
        }
        *closed.lock().expect("nobody panics with it") = of;
        // Longer than the watch's interval, while it is written; the others hear of this, or of something later.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        writer.goes_on().await;
        owner
            .batch_execute(&format!("insert into open_to_all values ({round} + 10)"))
            .await
            .expect("a write");
        if !taken.contains("schema") {
            agree(&mut screen, &reader, &["calm"], "the others").await;
        }
        let panels = screen.panels();
        assert!(of.iter().all(|name| panels[name].error.is_some()), "{taken}");
        *closed.lock().expect("nobody panics with it") = &[];
        owner.batch_execute(given).await.expect("a right is given");
        let is_shown = |panels: &Panels| of.iter().all(|name| panels[name].is_in_cut());
        screen.until("all again", is_shown).await;
        writer.goes_on().await;
        (writes, written) = writer.end().await;
        agree(&mut screen, &reader, &all, "all live").await;
    }
    screen.close().await;
    fixture.server.stop().await;
}

/// Where nothing is read again, nobody but the watch asks whether it may be; until then what is written is shown.
#[tokio::test(flavor = "multi_thread")]
async fn p7_a_right_that_is_gone_is_noticed_without_a_read() {
    let ([owner, mut writes], _, fixture) = start("ddl_watch").await;
    let (closed, kept) = (Closed::default(), ["rows", "groups"]);
    let panels = [PANELS[0], PANELS[1]];
    let mut screen = Screen::open(fixture.address, &panels, nothing_leaks(closed.clone())).await;
    let are_shown = |panels: &Panels| {
        kept.iter().all(|name| panels.by_name.get(*name).is_some_and(|panel| panel.is_in_cut()))
    };
    screen.until("the first answers", are_shown).await;
    let mut written = 0;
    for _ in 0..3 {
        let writer = Writer::start(writes, written);
        writer.goes_on().await;
        let is_taken = Instant::now();
        owner
            .batch_execute("revoke select on secrets from ddl_reader")
            .await
            .expect("a right is taken");
        let before = screen.panels()["rows"].updates_in_all();
        let has_error =
            |panels: &Panels| kept.iter().all(|name| panels.by_name[*name].error.is_some());
        let panels = screen.until("errors", has_error).await;
        let took = is_taken.elapsed();
        assert!(took < SOON, "shown for {took:?}");
        *closed.lock().expect("nobody panics with it") = &["rows", "groups"];
        println!("{} updates in {took:?}", panels["rows"].updates_in_all() - before);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        writer.goes_on().await;
        *closed.lock().expect("nobody panics with it") = &[];
        owner
            .batch_execute("grant select on secrets to ddl_reader")
            .await
            .expect("a right is given");
        screen.until("all again", are_shown).await;
        (writes, written) = writer.end().await;
    }
    screen.close().await;
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_policies_that_come_and_go_decide_what_is_shown() {
    let ([owner, mut writes], reader, fixture) = start("ddl_policies").await;
    let mut screen = Screen::open(fixture.address, &PANELS, Box::new(|_, _| Ok(()))).await;
    let all = PANELS.map(|(name, _)| name);
    agree(&mut screen, &reader, &all, "the first answers").await;
    let mut written = 0;
    for (round, ddl) in [
        "alter table secrets enable row level security",
        "create policy ones on secrets for select using (grp = 1)",
        "alter policy ones on secrets using (grp = 2)",
        "create policy more on secrets for select to ddl_reader using (id = 1)",
        "alter policy more on secrets to public",
        "create policy less on secrets as restrictive using (id < 100)",
        "drop policy ones on secrets",
        "alter table secrets force row level security",
        "alter table secrets no force row level security",
        "create policy theirs on secrets for select to ddl_group using (true)",
        "grant ddl_group to ddl_reader",
        "revoke ddl_group from ddl_reader",
        "alter role ddl_reader bypassrls",
        "alter role ddl_reader nobypassrls",
        "alter table secrets disable row level security",
    ]
    .into_iter()
    .enumerate()
    {
        eprintln!("{ddl}");
        let writer = Writer::start(writes, written);
        writer.goes_on().await;
        owner.batch_execute(ddl).await.expect(ddl);
        let is_done = Instant::now();
        writer.goes_on().await;
        (writes, written) = writer.end().await;
        agree(&mut screen, &reader, &all, ddl).await;
        let took = is_done.elapsed();
        assert!(took < SOON, "{ddl}: seen after {took:?}");
        let write = format!(
            "insert into secrets values ({round} + 10, {round} % 3, 'new'); update secrets set grp = 3 - grp where id < 3"
        );
        owner.batch_execute(&write).await.expect("a write");
        agree(&mut screen, &reader, &all, "a write").await;
    }
    let panels = screen.close().await;
    assert_eq!(panels["calm"].updates_in_all(), 1, "{:?}", panels["calm"].updates);
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_for_somebody_else_waits_for_no_open_transaction() {
    let url = testing::shared().await.database("ddl_open").await;
    let client = connect(&url).await;
    let script = "create table busy (id int4 primary key, n int4); alter table busy replica identity full; \
                  insert into busy values (1, 0), (2, 0); \
                  do $$ begin create role ddl_other; exception when duplicate_object or unique_violation then null; end $$";
    client.batch_execute(script).await.expect("a table");
    let fixture = Fixture::on(&url, &["--allow-sql", "--max-hold", "1"]).await;
    let panels = [
        ("rows", "select id, n from busy order by id"),
        ("again", "with all_of_them as (select n from busy) select sum(n) as n from all_of_them"),
    ];
    let mut screen = Screen::open(fixture.address, &panels, Box::new(|_, _| Ok(()))).await;
    screen.until("answers", |panels| panels.by_name.len() == 2).await;
    // It has written, and stays open: the table was published long before.
    let open = connect(&url).await;
    open.batch_execute("begin; update busy set n = 7 where id = 2").await.expect("a write");
    client.batch_execute("grant select on busy to ddl_other").await.expect("a right");
    // Longer than the watch's interval and a hold.
    let begun = Instant::now();
    let mut n = 0;
    while begun.elapsed() < Duration::from_secs(4) {
        n += 1;
        client
            .batch_execute(&format!("update busy set n = {n} where id = 1"))
            .await
            .expect("a write");
        screen
            .until("the write", |panels| {
                panels["again"].shown.rows == [serde_json::json!({ "n": n })]
                    && panels["rows"].shown.rows[0]["n"] == n
            })
            .await;
    }
    open.batch_execute("commit").await.expect("a commit");
    let panels = screen.close().await;
    for (name, panel) in &panels.by_name {
        assert_eq!(
            panel.updates_of("stale") + panel.updates_of("error"),
            0,
            "{name}: {:?} {:?}",
            panel.updates,
            panel.errors
        );
    }
    fixture.server.stop().await;
}
