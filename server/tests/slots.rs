//! Slots as a running server keeps them: never past `--max-lag`, never behind on an idle database, and nothing else of
//! the user's touched.

use crate::client::get;
use crate::mirror::Mirror;
use crate::support::{Fixture, ORDERS, connect, text, until};
use convoy_postgres::SessionOptions;
use convoy_postgres::doctor;
use convoy_postgres::launcher::PrivatePostgres;
use convoy_postgres::testing;
use serde_json::Value;

async fn replication(fixture: &Fixture) -> Value {
    get(fixture.address, "/api/status").await.json()["replication"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_past_max_lag_the_slot_is_dropped_and_everything_is_read_again() {
    // Of its own: what others write to a shared server would count.
    let server = PrivatePostgres::start(testing::options()).await.expect("a server");
    let all = "select id, status from orders order by id";
    for (database, flags) in [
        ("temporary", &["--max-lag", "100000", "--allow-sql"][..]),
        ("named", &["--max-lag", "100000", "--allow-sql", "--slot", "convoy_kept"]),
    ] {
        server.create_database(database, Default::default()).await.expect("a database");
        let url = server.url(database);
        let client = connect(&url).await;
        client.batch_execute(ORDERS).await.expect("a table");
        let fixture = Fixture::on(&url, flags).await;
        let mut mirror = Mirror::open(fixture.address, "/api/query/all").await;
        let before = replication(&fixture).await;
        // One commit that is more than may be behind, before the engine has even looked at it.
        let much =
            "insert into orders select n, 7, repeat('x', 100), n from generate_series(10, 5000) n";
        client.batch_execute(much).await.expect("a write");
        let end =
            text(&client, "select pg_current_wal_insert_lsn()::text").await.expect("a position");
        mirror.shows_what(&client, all).await;
        until("a new stream", async || {
            let now = replication(&fixture).await;
            now["state"] == "streaming" && now["reconnects"].as_u64() >= Some(1)
        })
        .await;
        let after = replication(&fixture).await;
        if database == "named" {
            assert_eq!(after["slot"], "convoy_kept");
        } else {
            assert_ne!(before["slot"], after["slot"]);
        }
        // One slot, and it holds nothing back of what made the old one go.
        let slots = "select string_agg(slot_name, ' ') from pg_replication_slots where database = current_database()";
        assert_eq!(text(&client, slots).await.as_deref(), after["slot"].as_str());
        let held = format!(
            "select (restart_lsn >= '{end}')::text from pg_replication_slots where database = current_database()"
        );
        assert_eq!(text(&client, &held).await.as_deref(), Some("true"), "{database}");
        // It is live again, and small writes are no reason to begin anew.
        client.batch_execute("delete from orders where id > 12").await.expect("a write");
        mirror.shows_what(&client, all).await;
        client
            .batch_execute("update orders set status = 'last' where id = 12")
            .await
            .expect("a write");
        mirror.shows_what(&client, all).await;
        // The first answer, and each of the three commits once, whatever was read again on the way.
        assert_eq!(mirror.shown().changes, 4, "{database}");
        fixture.server.stop().await;
        if database == "named" {
            client
                .batch_execute("select pg_drop_replication_slot('convoy_kept')")
                .await
                .expect("it is free");
        }
    }
    server.stop().await.expect("it is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_an_idle_servers_slot_moves_beside_a_busy_database() {
    let fixture = Fixture::start("idle_slot", &[]).await;
    let busy = connect(&testing::shared().await.database("busy_beside").await).await;
    let slot = replication(&fixture).await["slot"].as_str().expect("a slot").to_owned();
    busy.batch_execute("create table t (id int); insert into t select generate_series(1, 2000)")
        .await
        .expect("writes");
    let end = text(&busy, "select pg_current_wal_insert_lsn()::text").await.expect("a position");
    let moved = format!(
        "select (confirmed_flush_lsn >= '{end}')::text from pg_replication_slots where slot_name = '{slot}'"
    );
    until("the slot has moved", async || text(&busy, &moved).await.as_deref() == Some("true"))
        .await;
    fixture.server.stop().await;
}

/// Everything of a database that somebody may have set up, in a form that shows what differs.
const SET_UP: &str = "\
select string_agg(fact, E'\\n' order by fact) from (
  select 'table ' || c.oid::regclass || (to_jsonb(c) - 'relpages' - 'reltuples' - 'relallvisible' - 'relfrozenxid' - 'relminmxid')::text
    from pg_class c where c.relnamespace not in ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace, 'information_schema'::regnamespace)
  union all select 'column ' || attrelid::regclass || to_jsonb(a)::text from pg_attribute a where attrelid >= 16384 and attnum > 0
  union all select 'index ' || to_jsonb(i)::text from pg_index i where indrelid >= 16384
  union all select 'publication ' || to_jsonb(p)::text from pg_publication p
  union all select 'member ' || to_jsonb(r)::text from pg_publication_rel r
  union all select 'setting ' || to_jsonb(s)::text from pg_db_role_setting s where setdatabase = (select oid from pg_database where datname = current_database())
  union all select 'server ' || name || ' ' || setting from pg_settings where source in ('configuration file', 'global', 'database')
  union all select 'file ' || name || ' ' || setting from pg_file_settings
  union all select 'trigger ' || to_jsonb(t)::text from pg_trigger t
  union all select 'event trigger ' || to_jsonb(e)::text from pg_event_trigger e
  union all select 'function ' || oid::regprocedure from pg_proc where oid >= 16384
  union all select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_(toast_)?temp_'
  union all select 'extension ' || extname from pg_extension
  union all select 'policy ' || to_jsonb(y)::text from pg_policy y
  union all select 'slot ' || slot_name from pg_replication_slots
  union all select 'role ' || rolname || rolsuper || rolreplication from pg_roles
  union all select 'subscription ' || subname from pg_subscription
) facts (fact)";

#[tokio::test(flavor = "multi_thread")]
async fn p1_nothing_of_the_users_is_altered() {
    // Of its own, since roles, slots and settings are the whole server's.
    let server = PrivatePostgres::start(testing::options()).await.expect("a server");
    let url = server.url("postgres");
    let client = connect(&url).await;
    client.batch_execute(ORDERS).await.expect("a table");
    client
        .batch_execute(
            "create table bare (x int); create table whole (x int); alter table whole replica identity full; \
             create table nothing (id int primary key); alter table nothing replica identity nothing; \
             create table parts (id int primary key) partition by range (id); \
             create table parts_1 partition of parts for values from (0) to (10); \
             create view v as select id from orders; create unlogged table fleeting (id int primary key); \
             create publication theirs for table orders, bare with (publish = 'insert'); \
             alter database postgres set work_mem = '5MB'; \
             create table ruled (id int primary key); alter table ruled enable row level security; \
             create policy p on ruled using (id > 0)",
        )
        .await
        .expect("what users have");
    let before = text(&client, SET_UP).await.expect("facts");
    let fixture = Fixture::on(&url, &["--allow-sql"]).await;
    for sql in [
        "select id, status from orders order by id",
        "-- @refresh 1s\nselect count(*) as n from bare",
        "select x from whole order by x",
        "-- @refresh 1s\nselect id from nothing order by id",
        "select id from parts order by id",
        "select id from v order by id",
        "select id from ruled order by id",
    ] {
        let mut mirror = Mirror::of_sql(fixture.address, sql).await;
        mirror.shows_what(&client, sql).await;
    }
    // Their writes go on, and with them everything that was there.
    let writes = "insert into bare values (1); update bare set x = 2; insert into nothing values (1); \
                  update nothing set id = 2; insert into parts values (1); update parts set id = 2";
    client.batch_execute(writes).await.expect("the user's own writes");
    let during = text(&client, SET_UP).await.expect("facts");
    let added: Vec<&str> =
        during.lines().filter(|line| !before.lines().any(|old| old == *line)).collect();
    assert!(
        added.iter().all(|line| ["publication ", "member ", "slot "]
            .iter()
            .any(|kind| line.starts_with(kind))),
        "{added:#?}"
    );
    assert!(
        before.lines().all(|line| during.lines().any(|now| now == line)),
        "something was taken away"
    );
    fixture.server.stop().await;
    let cleaned = doctor::clean(&url.parse().expect("a URL"), &SessionOptions::default()).await;
    assert_eq!(cleaned.expect("cleaned").len(), 2, "two publications, and no slot");
    let after = text(&client, SET_UP).await.expect("facts");
    assert!(before == after, "before:\n{before}\nafter:\n{after}");
    server.stop().await.expect("it is gone");
}
