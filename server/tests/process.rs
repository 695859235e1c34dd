//! `convoy serve` as the operating system has it: signals, a sudden end, a slot that is kept through a restart.

use crate::client::send;
use crate::mirror::Mirror;
use crate::support::{ORDERS, UNAUDITED, connect, write_project};
use convoy_postgres::testing;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;
use tokio_postgres::Client;

/// How long a server may take to come and to go on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs as a process of its own.
pub struct Process {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub address: SocketAddr,
}

impl Process {
    pub async fn start(url: &str, project: &Path, flags: &[&str]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_convoy"))
            .args(["serve", "--listen", "127.0.0.1:0", "--allow-sql"])
            .args(UNAUDITED)
            .arg("--project")
            .arg(project)
            .args(flags)
            .env("CONVOY_DATABASE_URL", url)
            .env("CONVOY_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a server");
        let log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let mut process = Process { child, log, address: ([127, 0, 0, 1], 0).into() };
        let line = process.says("listening on http://").await;
        let (_, address) = line.split_once("http://").expect("an address");
        process.address = address.trim().parse().expect("an address");
        process
    }

    /// Waits for a line of the log.
    pub async fn says(&mut self, words: &str) -> String {
        let mut before = Vec::new();
        let found = async {
            while let Some(line) = self.log.next_line().await.expect("text") {
                if line.contains(words) {
                    return Some(line);
                }
                before.push(line);
            }
            None
        };
        let found = timeout(PATIENCE, found).await.ok().flatten();
        found.unwrap_or_else(|| panic!("never said {words:?}: {before:#?}"))
    }

    pub async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it lives").to_string();
        let done = Command::new("kill").args([&format!("-{name}"), &pid]).status().await;
        assert!(done.expect("kill").success());
    }

    /// Waits for its end, and returns its exit status, which a signal leaves none of.
    pub async fn ended(&mut self) -> Option<i32> {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends");
        status.expect("a status").code()
    }
}

/// A database with the orders in it, and a project.
pub async fn database(name: &str) -> (String, Client, TempDir) {
    let url = testing::shared().await.database(name).await;
    let client = connect(&url).await;
    client.batch_execute(ORDERS).await.expect("a table");
    let project = tempfile::tempdir().expect("a folder");
    write_project(project.path());
    (url, client, project)
}

const SLOTS: &str = "select string_agg(slot_name || case when active then ' in use' else ' free' end, ', ') \
                     from pg_replication_slots where database = current_database()";

async fn slots(client: &Client) -> Option<String> {
    client.query_one(SLOTS, &[]).await.expect("slots").get(0)
}

#[tokio::test]
async fn p10_kill_9_leaves_no_slot() {
    let (url, client, project) = database("kill_9").await;
    let mut process = Process::start(&url, project.path(), &[]).await;
    let mut mirror = Mirror::open(process.address, "/api/query/all").await;
    client.batch_execute("insert into orders values (4, 7, 'new', 1)").await.expect("a write");
    mirror.shows_what(&client, "select id, status from orders order by id").await;
    assert!(slots(&client).await.is_some_and(|slots| slots.ends_with(" in use")));
    process.signal("KILL").await;
    assert_eq!(process.ended().await, None);
    let gone = async {
        while slots(&client).await.is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the slot goes with its process");
}

#[tokio::test]
async fn p10_a_named_slot_is_kept_and_a_restart_waits_for_nobody() {
    let (url, client, project) = database("named").await;
    let flags = ["--slot", "convoy_restarted"];
    let all = "select id, status from orders order by id";
    let mut process = Process::start(&url, project.path(), &flags).await;
    let mut mirror = Mirror::open(process.address, "/api/query/all").await;
    client.batch_execute("insert into orders values (4, 7, 'new', 1)").await.expect("a write");
    mirror.shows_what(&client, all).await;
    process.signal("TERM").await;
    mirror.until("a goodbye", |shown| shown.goodbye.is_some()).await;
    assert_eq!(process.ended().await, Some(0));
    assert_eq!(slots(&client).await.as_deref(), Some("convoy_restarted free"));
    // Who wrote soon after the table was published is waited for, out of caution: that is long ago.
    let long_ago =
        "do $$ begin for n in 1..1100 loop perform pg_current_xact_id(); commit; end loop; end $$";
    client.batch_execute(long_ago).await.expect("transactions");
    // Meanwhile; and one that a new slot would have to wait for.
    client
        .batch_execute(
            "delete from orders where id = 2; insert into orders values (5, 7, 'meanwhile', 1)",
        )
        .await
        .expect("writes");
    let open = connect(&url).await;
    open.batch_execute("begin; insert into orders values (6, 7, 'open', 1)")
        .await
        .expect("a write");
    let mut process = Process::start(&url, project.path(), &flags).await;
    let mut mirror = Mirror::of_sql(process.address, "select count(*) as n from orders").await;
    mirror.shows(&serde_json::json!([{"n": 4}])).await;
    let mut rows = Mirror::open(process.address, "/api/query/all").await;
    client.batch_execute("update orders set status = 'live' where id = 1").await.expect("a write");
    rows.shows_what(&client, all).await;
    open.batch_execute("commit").await.expect("a commit");
    rows.shows_what(&client, all).await;
    mirror.shows(&serde_json::json!([{"n": 5}])).await;
    assert_eq!(slots(&client).await.as_deref(), Some("convoy_restarted in use"));
    // A sudden end leaves it too, with what was never confirmed, and nothing of that is shown twice.
    client
        .batch_execute("insert into orders values (7, 7, 'unconfirmed', 1)")
        .await
        .expect("a write");
    process.signal("KILL").await;
    process.ended().await;
    let mut process = Process::start(&url, project.path(), &flags).await;
    let mut rows = Mirror::open(process.address, "/api/query/all").await;
    client.batch_execute("insert into orders values (8, 7, 'after', 1)").await.expect("a write");
    rows.shows_what(&client, all).await;
    process.signal("INT").await;
    assert_eq!(process.ended().await, Some(0));
    assert_eq!(slots(&client).await.as_deref(), Some("convoy_restarted free"));
    client
        .batch_execute("select pg_drop_replication_slot('convoy_restarted')")
        .await
        .expect("it is free");
}

#[tokio::test]
async fn a_second_signal_cuts_the_end_short() {
    let (url, client, project) = database("twice").await;
    let mut process = Process::start(&url, project.path(), &[]).await;
    // A request that keeps the end waiting: its table is locked.
    client
        .batch_execute("begin; lock table orders in access exclusive mode")
        .await
        .expect("a lock");
    let (address, other) = (process.address, connect(&url).await);
    let request = tokio::spawn(async move {
        let body = r#"{"tenant":7}"#;
        let headers = [("content-type", "application/json")];
        // It may be answered or cut off; nobody looks.
        let _ = send(address, "POST", "/api/query/orders.byTenant", &headers, body).await;
    });
    let waits = "select count(*) from pg_locks where not granted and database = \
                 (select oid from pg_database where datname = current_database())";
    let waiting = async {
        while other.query_one(waits, &[]).await.expect("locks").get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the request waits");
    process.signal("TERM").await;
    process.says("once more to stop at once").await;
    // Within 300 ms it would be the same wish, as when a shell and timeout(1) both pass one on.
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert!(process.child.try_wait().expect("a child").is_none(), "it still waits for the request");
    process.signal("TERM").await;
    assert_eq!(process.ended().await, Some(1));
    request.abort();
    let gone = async {
        while slots(&other).await.is_some() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, gone).await.expect("the slot goes with its process");
}

#[tokio::test]
async fn p10_a_named_slot_that_another_server_holds_is_refused_by_name() {
    let (url, client, project) = database("held").await;
    let flags = ["--slot", "convoy_held"];
    let mut holder = Process::start(&url, project.path(), &flags).await;
    let pid = "select active_pid::text from pg_replication_slots where slot_name = 'convoy_held'";
    let pid: String = client.query_one(pid, &[]).await.expect("a slot").get(0);
    let refused = Command::new(env!("CARGO_BIN_EXE_convoy"))
        .args(["serve", "--listen", "127.0.0.1:0", "--project"])
        .arg(project.path())
        .args(flags)
        .env("CONVOY_DATABASE_URL", &url)
        .output();
    let refused = timeout(PATIENCE, refused).await.expect("in time").expect("a second server");
    let said = String::from_utf8_lossy(&refused.stderr);
    let named =
        format!("slot \"convoy_held\" is held by the walsender with pid {pid} (\"convoy\")");
    assert!(!refused.status.success() && said.contains(&named), "{said}");
    // A sudden end leaves the slot to whoever comes next.
    holder.signal("KILL").await;
    holder.ended().await;
    let mut next = Process::start(&url, project.path(), &flags).await;
    assert_eq!(slots(&client).await.as_deref(), Some("convoy_held in use"));
    next.signal("TERM").await;
    assert_eq!(next.ended().await, Some(0));
    let free = "select pg_drop_replication_slot('convoy_held')";
    client.batch_execute(free).await.expect("it is free");
}
