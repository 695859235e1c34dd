//! A server that is gone, and another process that takes its place: what a client has is still good, whether it was kept
//! from the WAL there or is read by a SELECT here.

use super::client::{Client, Held, Wire};
use super::news::{counted, read_until};
use crate::client::{EventStream, post};
use crate::process::{Process, database};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A column of each type whose values are kept from the WAL, and what it is set to, one after the other.
const COLUMNS: [(&str, &str, [&str; 4]); 26] = [
    ("b", "bool", ["true", "false", "null", "'t'"]),
    ("i2", "int2", ["-32768", "32767", "null", "0"]),
    ("i4", "int4", ["-2147483648", "2147483647", "null", "7"]),
    ("i8", "int8", ["-9223372036854775808", "9007199254740993", "null", "1"]),
    (
        "num",
        "numeric",
        ["'1e20'", "'-0.000'", "'NaN'", "'123456789012345678901234567890.000000000100'"],
    ),
    ("scaled", "numeric(12,4)", ["1.5", "-0.00004", "null", "99999999.9999"]),
    ("f4", "float4", ["'-0'", "'1e-07'", "'Infinity'", "'3.4028235e38'"]),
    ("f8", "float8", ["'-0'", "'1e20'", "'NaN'", "0.1 + 0.2"]),
    ("t", "text", [r#"'ä "quoted" \ back'"#, "E'line\\nend\\ttab\\x01'", "''", "null"]),
    ("vc", "varchar(40)", ["'  blanks  '", "'</script>'", "''", "'\u{1F980}'"]),
    ("bp", "char(8)", ["'a'", "'  b'", "''", "null"]),
    (
        "u",
        "uuid",
        [
            "'A0EEBC999C0B4EF8BB6D6BB9BD380A11'",
            "'00000000-0000-0000-0000-000000000000'",
            "null",
            "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12}'",
        ],
    ),
    ("d", "date", ["'2026-02-28'", "'infinity'", "'0044-03-15 BC'", "'12345-01-01'"]),
    ("tm", "time", ["'00:00'", "'24:00'", "'23:59:59.999999'", "null"]),
    ("ts", "timestamp", ["'2026-03-29 02:30:00.1'", "'-infinity'", "'0001-01-01 BC'", "null"]),
    (
        "tz",
        "timestamptz",
        ["'2026-03-29 02:30:00.123456+02'", "'infinity'", "'1900-01-01 00:00+05:53:28'", "null"],
    ),
    ("iv", "interval", ["'1 year -2 days 03:04:05.6'", "'-00:00:00.000001'", "'0'", "'-1 mon'"]),
    ("ba", "bytea", [r"'\xdeadbeef'", r"'\x'", "null", r"'\x00'"]),
    ("j", "jsonb", [r#"'{"b":1,"a":[1e2,"ä",null],"b":2}'"#, "'\"text\"'", "'1.10'", "'null'"]),
    ("m", "mood", ["'sad'", "'happy'", "null", "'so, so'"]),
    ("pos", "positive", ["1", "2147483647", "null", "3"]),
    ("ia", "int4[]", ["'{}'", "'{NULL,1,-2}'", "'[2:3]={7,8}'", "null"]),
    ("ta", "text[]", [r#"'{"a,b","\"",NULL,""}'"#, "'{}'", "'{NULL}'", "'{\"NULL\"}'"]),
    ("na", "numeric[]", ["'{1.0,1.00,1e3}'", "'{}'", "'{NaN}'", "null"]),
    ("tza", "timestamptz[]", ["'{2026-01-01 00:00+01}'", "'{}'", "'{infinity,NULL}'", "null"]),
    ("ja", "jsonb[]", [r#"'{"{\"a\": 1.0}"}'"#, "'{}'", "'{NULL}'", "null"]),
];

fn tables() -> String {
    let columns: String = COLUMNS.iter().map(|(name, ty, _)| format!(", {name} {ty}")).collect();
    format!(
        "create type mood as enum ('sad', 'so, so', 'happy');
         create domain positive as int4 check (value > 0);
         create table kinds (id int4 primary key{columns});
         alter table kinds replica identity full;
         insert into kinds (id) select generate_series(1, 6)"
    )
}

/// All columns together, each of them alone, each as a group where it can be one from the WAL alone, and aggregates.
fn queries() -> Vec<(String, String)> {
    let mut queries = vec![
        ("all".to_owned(), "select * from kinds order by id desc".to_owned()),
        ("top".to_owned(), "select id, num, t from kinds order by i4 desc nulls last, id limit 3".to_owned()),
        (
            "sums".to_owned(),
            "select i2, count(*) as n, sum(i4) as a, sum(i8) as b, sum(scaled) as c, avg(i4) as e, avg(scaled) as f, \
             min(d) as g, max(ts) as h, max(tz) as k from kinds group by i2 order by i2"
                .to_owned(),
        ),
    ];
    for (name, ..) in COLUMNS {
        queries.push((name.to_owned(), format!("select id, {name} from kinds order by id")));
    }
    for name in ["b", "i2", "i4", "i8", "u", "d", "ts", "tz", "t"] {
        let sql =
            format!("select {name}, count(*) as n from kinds group by {name} order by {name}");
        queries.push((format!("by {name}"), sql));
    }
    queries
}

fn subscribe() -> Value {
    queries().iter().map(|(sub, sql)| json!({"sub": sub, "sql": sql})).collect()
}

/// Sets each column of some rows to each of its values, once alone and once together.
async fn change(writer: &tokio_postgres::Client, round: usize) {
    for step in 0..4 {
        let value = |(name, _, values): &(&str, &str, [&str; 4])| {
            format!("{name} = {}", values[(step + round) % 4])
        };
        for (index, column) in COLUMNS.iter().enumerate() {
            let sql = format!("update kinds set {} where id = {}", value(column), 1 + index % 3);
            writer.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
        let all: Vec<_> = COLUMNS.iter().map(value).collect();
        let sql = format!(
            "update kinds set {} where id = {}; delete from kinds where id = {}; insert into kinds (id) values ({})",
            all.join(", "),
            4 + (step + round) % 2,
            6 + 4 * round + step,
            7 + 4 * round + step,
        );
        writer.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

/// Waits until the client has all that was committed so far.
async fn catch_up(
    client: &mut Client,
    wire: &mut Wire,
    address: SocketAddr,
    writer: &tokio_postgres::Client,
) {
    let row = writer.query_one("select pg_current_wal_insert_lsn()::text", &[]).await;
    let lsn: String = row.expect("a position").get(0);
    let session = client.session.clone().expect("a session");
    let body = json!({ "await": lsn }).to_string();
    assert_eq!(post(address, &format!("/api/sync/{session}"), &body).await.status, 202);
    let lsn: convoy_types::Lsn = lsn.parse().expect("an LSN");
    let lsn = lsn.before_bare_page_header();
    read_until(client, wire, "what was written", |client| client.lsn.is_some_and(|at| at >= lsn))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_the_same_after_a_restart_for_every_type() {
    let (url, writer, project) = database("resume_restart").await;
    writer.batch_execute(&tables()).await.expect("a table");
    let mut had: BTreeMap<String, String> = BTreeMap::new();
    let mut old_token = None;
    for round in 0..3 {
        let mut process = Process::start(&url, project.path(), &[]).await;
        let at = process.address;
        let mut client = Client::default();
        // With a token of the server before, and what it said.
        let body = json!({"subscribe": subscribe(), "resume": old_token, "have": had}).to_string();
        let mut wire = Wire::send(at, "POST", "/api/sync", "", &body).await;
        for (sub, digest) in &had {
            client.subs.entry(sub.clone()).or_default().digest = Some(digest.clone());
        }
        let count = queries().len();
        read_until(&mut client, &mut wire, "first answers", |client| {
            client.kinds.values().sum::<usize>() >= count
        })
        .await;
        let expected = if round == 0 { "snapshot" } else { "unchanged" };
        for (sub, held) in &client.subs {
            // What was kept from the WAL there is what is read by a SELECT here.
            assert_eq!(held.last, expected, "round {round}: {sub} is {:?}", held.shown);
        }
        // To have rows to be changed: nothing is had of the client's own here.
        let body = json!({ "subscribe": subscribe() }).to_string();
        let mut client = Client::default();
        let mut wire = Wire::send(at, "POST", "/api/sync", "", &body).await;
        read_until(&mut client, &mut wire, "first answers", |client| client.subs.len() == count)
            .await;
        let before = counted(at, "convoy_incremental_diffs_total").await;
        change(&writer, round).await;
        catch_up(&mut client, &mut wire, at, &writer).await;
        // Some may be read again beside, as where a transaction elsewhere was older than the table's publication.
        let diffs = counted(at, "convoy_incremental_diffs_total").await - before;
        assert!(diffs > 30, "round {round}: only {diffs} diffs were made from the WAL");
        let digest =
            |(sub, held): (&String, &Held)| (sub.clone(), held.digest.clone().expect("a digest"));
        let now: BTreeMap<_, _> = client.subs.iter().map(digest).collect();
        let changed = now.iter().filter(|(sub, digest)| had.get(*sub) != Some(digest)).count();
        assert!(changed > count / 2, "of {count} results {changed} changed");
        (had, old_token) = (now, client.token.clone());
        process.signal(["TERM", "KILL", "TERM"][round]).await;
        process.ended().await;
    }
    // What changes while nobody looks is a snapshot, and the rest is unchanged.
    writer.batch_execute("update kinds set u = gen_random_uuid() where id = 1").await.expect("it");
    let process = Process::start(&url, project.path(), &[]).await;
    let body = json!({"subscribe": subscribe(), "resume": old_token, "have": had}).to_string();
    let mut client = Client::default();
    let mut wire = Wire::send(process.address, "POST", "/api/sync", "", &body).await;
    for (sub, digest) in &had {
        client.subs.entry(sub.clone()).or_default().digest = Some(digest.clone());
    }
    read_until(&mut client, &mut wire, "first answers", |client| {
        client.kinds.values().sum::<usize>() >= had.len()
    })
    .await;
    for (sub, held) in &client.subs {
        let concerned = ["all", "u", "by u"].contains(&sub.as_str());
        assert_eq!(held.last, if concerned { "snapshot" } else { "unchanged" }, "{sub}");
    }
}

/// An event source knows nothing but the id that it saw last, which is another server's.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_source_of_a_dead_server_begins_anew() {
    let (url, writer, project) = database("resume_dead").await;
    let path = "/api/query/orders.byTenant?args=%7B%22tenant%22%3A7%7D";
    let mut process = Process::start(&url, project.path(), &[]).await;
    let mut stream = EventStream::open(process.address, "GET", path, &[], "").await;
    let session = stream.expect("hello").await.data["session"].clone();
    let token = stream.transition().await.id.expect("a token");
    process.signal("TERM").await;
    let goodbye = loop {
        let event = stream.next().await.expect("a goodbye");
        if event.name == "goodbye" {
            break event.data;
        }
    };
    assert_eq!((&goodbye["code"], &goodbye["resume"]), (&json!("UNAVAILABLE"), &json!(false)));
    assert!(goodbye["retry_ms"].as_u64().is_some_and(|retry| (1000..11_000).contains(&retry)));
    assert_eq!(process.ended().await, Some(0));
    writer.batch_execute("update orders set total = 9 where id = 1").await.expect("a write");

    let process = Process::start(&url, project.path(), &[]).await;
    let header = [("last-event-id", token.as_str())];
    let mut stream = EventStream::open(process.address, "GET", path, &header, "").await;
    let hello = stream.expect("hello").await.data;
    assert_eq!(hello["resumed"], json!(false));
    assert_ne!(hello["session"], session);
    let update = stream.transition().await.data["updates"][0].clone();
    assert_eq!(update["type"], "snapshot");
    assert_eq!(update["value"][0]["total"].to_string(), "9");
    writer.batch_execute("delete from orders where id = 1").await.expect("a write");
    assert_eq!(stream.transition().await.data["updates"][0]["ops"][0]["op"], "remove");
}
