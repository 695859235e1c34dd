//! Slots on a real server: made, waited for, left, taken over, moved, refused.

use crate::support::{Database, as_user, connect, refusal, run, show, text, within};
use convoy_replication::{
    ReplicationConfig, ReplicationError, ReplicationSession, ReplicationStream, SlotMismatch,
    StreamEvent,
};
use convoy_types::Lsn;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

const TABLE: &str =
    "CREATE TABLE t (id int PRIMARY KEY);\nALTER PUBLICATION convoy_full ADD TABLE t";

/// Names the database for the process that the test below starts and kills.
const CHILD_URL: &str = "CONVOY_REPLICATION_TEST_CHILD_URL";

fn slot_count(name: &str) -> String {
    format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{name}'")
}

#[tokio::test]
async fn p10_a_killed_process_leaves_no_slot() {
    within(async {
        let database = Database::new("killed", TABLE).await;
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "slots::a_process_that_streams_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(CHILD_URL, &database.url)
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let slot = lines
            .map_while(Result::ok)
            .find_map(|line| line.split_once("slot ").map(|(_, name)| name.trim().to_owned()))
            .expect("a slot's name");
        assert_eq!(database.text(&slot_count(&slot)).await.as_deref(), Some("1"));
        child.kill().expect("it lives");
        child.wait().expect("it is gone");
        database.wait_until(&slot_count(&slot), Some("0")).await;
    })
    .await;
}

#[tokio::test]
#[ignore = "started and killed by another test"]
async fn a_process_that_streams_until_it_is_killed() {
    let Ok(url) = std::env::var(CHILD_URL) else { return };
    let config = ReplicationConfig::new(url.parse().expect("a URL"));
    let mut stream = ReplicationStream::connect(config).await.expect("a stream");
    println!("slot {}", stream.slot_name());
    while stream.next().await.is_ok() {}
}

#[tokio::test]
async fn p10_a_shutdown_leaves_no_slot() {
    within(async {
        let database = Database::new("shutdown", TABLE).await;
        let mut stream = database.stream().await;
        let slot = stream.slot_name().to_owned();
        assert_eq!(database.text(&slot_count(&slot)).await.as_deref(), Some("1"));
        let kind = format!(
            "SELECT temporary::text || plugin FROM pg_replication_slots WHERE slot_name = '{slot}'"
        );
        assert_eq!(database.text(&kind).await.as_deref(), Some("truepgoutput"));
        database.run("INSERT INTO t SELECT generate_series(1, 50000)").await;
        assert!(matches!(
            stream.next().await,
            Ok(StreamEvent::Committed(_) | StreamEvent::Progress { .. })
        ));
        stream.shutdown().await;
        assert_eq!(database.text(&slot_count(&slot)).await.as_deref(), Some("0"));
    })
    .await;
}

#[tokio::test]
async fn p10_who_blocks_the_slot_can_be_named() {
    within(async {
        let database = Database::new("blocked", TABLE).await;
        let other = connect(&database.url).await;
        run(&other, "BEGIN;\nINSERT INTO t VALUES (1)").await;
        let blocker = text(&other, "SELECT pg_backend_pid()").await.expect("a pid");
        let session = ReplicationSession::open(database.config()).await.expect("a session");
        let walsender = session.backend_pid();
        let start = session.start();
        tokio::pin!(start);
        // Others' transactions may be in the way before it, as they share the server.
        let blocked = format!("SELECT {blocker} = ANY (pg_blocking_pids({walsender}))");
        tokio::select! {
            _ = &mut start => panic!("did not wait"),
            () = database.wait_until(&blocked, Some("t")) => {}
        }
        run(&other, "COMMIT").await;
        let mut stream = start.await.expect("a stream");
        database.run("INSERT INTO t VALUES (2)").await;
        let transactions = database.read(&mut stream).await;
        assert_eq!(transactions.iter().flat_map(show).collect::<Vec<_>>(), ["t: insert id=2"]);
    })
    .await;
}

#[tokio::test]
async fn p10_a_named_slot_is_there_only_once_it_has_been_looked_at() {
    within(async {
        let database = Database::new("kept", TABLE).await;
        let other = connect(&database.url).await;
        run(&other, "BEGIN;\nINSERT INTO t VALUES (1)").await;
        let config = database.config_with_slot("kept_for_good");
        let session = ReplicationSession::open(config.clone()).await.expect("a session");
        let walsender = session.backend_pid();
        let start = session.start();
        tokio::pin!(start);
        // While it is made it is another, which goes with its session.
        let made = format!(
            "SELECT temporary::text || ' ' || (slot_name LIKE 'convoy\\_%') FROM pg_replication_slots \
             WHERE active_pid = {walsender}"
        );
        tokio::select! {
            _ = &mut start => panic!("did not wait"),
            () = database.wait_until(&made, Some("true true")) => {}
        }
        let named = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'kept_for_good'";
        assert_eq!(database.text(named).await.as_deref(), Some("0"));
        run(&other, "COMMIT").await;
        let mut stream = start.await.expect("a stream");
        let slots = format!(
            "SELECT string_agg(slot_name || ' ' || temporary::text, ', ') FROM pg_replication_slots \
             WHERE active_pid = {walsender}"
        );
        let slots = database.text(&slots).await;
        assert_eq!(slots.as_deref(), Some("kept_for_good false"));
        database.run("INSERT INTO t VALUES (2)").await;
        let transactions = database.read(&mut stream).await;
        assert_eq!(transactions.iter().flat_map(show).collect::<Vec<_>>(), ["t: insert id=2"]);
        stream.shutdown().await;
        // It stays, and is taken over.
        database.run("INSERT INTO t VALUES (3)").await;
        let session = ReplicationSession::open(config).await.expect("a session");
        let mut stream = session.start().await.expect("a stream");
        let transactions = database.read(&mut stream).await;
        assert_eq!(transactions.iter().flat_map(show).collect::<Vec<_>>(), ["t: insert id=3"]);
        stream.shutdown().await;
        database.run("SELECT pg_drop_replication_slot('kept_for_good')").await;
    })
    .await;
}

#[tokio::test]
async fn p10_who_gives_up_waiting_leaves_no_walsender() {
    within(async {
        let database = Database::new("given_up", TABLE).await;
        let other = connect(&database.url).await;
        run(&other, "BEGIN;\nINSERT INTO t VALUES (1)").await;
        let session = ReplicationSession::open(database.config()).await.expect("a session");
        let walsender = session.backend_pid();
        let waits = format!("SELECT cardinality(pg_blocking_pids({walsender})) > 0");
        tokio::select! {
            _ = session.start() => panic!("did not wait"),
            () = database.wait_until(&waits, Some("t")) => {}
        }
        let lives = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {walsender}");
        database.wait_until(&lives, Some("0")).await;
        run(&other, "ROLLBACK").await;
    })
    .await;
}

#[tokio::test]
async fn p10_an_idle_databases_slot_moves_beside_a_busy_one() {
    within(async {
        let idle = Database::new("idle", TABLE).await;
        let busy = Database::new("busy", TABLE).await;
        let config = ReplicationConfig { status_interval: Duration::from_millis(50), ..idle.config() };
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        busy.run("INSERT INTO t SELECT generate_series(1, 1000)").await;
        let end = busy.text("SELECT pg_current_wal_flush_lsn()").await.expect("a position");
        let end: Lsn = end.parse().expect("a position");
        while stream.received() < end {
            let event = stream.next().await.expect("an event");
            assert!(matches!(event, StreamEvent::Progress { wal_end } if wal_end == stream.received()));
        }
        let moved = format!(
            "SELECT confirmed_flush_lsn >= '{end}' FROM pg_replication_slots WHERE slot_name = '{}'",
            stream.slot_name()
        );
        tokio::select! {
            result = async { loop { if let Err(error) = stream.next().await { break error } } } => panic!("{result}"),
            () = idle.wait_until(&moved, Some("t")) => {}
        }
    })
    .await;
}

#[tokio::test]
async fn p5_a_commit_outside_the_publications_is_progress() {
    within(async {
        let database =
            Database::new("unpublished", &format!("{TABLE};\nCREATE TABLE u (id int)")).await;
        let mut stream = database.stream().await;
        database.run("INSERT INTO u VALUES (1)").await;
        let end = database.text("SELECT pg_current_wal_flush_lsn()").await.expect("a position");
        let end = end.parse::<Lsn>().expect("a position").before_bare_page_header();
        while stream.received() < end {
            let event = stream.next().await.expect("an event");
            assert!(matches!(event, StreamEvent::Progress { .. }), "{event:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn p10_what_is_not_confirmed_comes_again_from_a_named_slot() {
    within(async {
        let database = Database::new("named", TABLE).await;
        let config = ReplicationConfig {
            status_interval: Duration::from_millis(20),
            ..database.config_with_slot("replication_named")
        };
        let mut stream = ReplicationStream::connect(config.clone()).await.expect("a stream");
        database.run("INSERT INTO t VALUES (1);\nINSERT INTO t VALUES (2)").await;
        let mut ends = Vec::new();
        while ends.len() < 2 {
            if let StreamEvent::Committed(transaction) = stream.next().await.expect("an event") {
                ends.push(transaction.end_lsn);
            }
        }
        stream.confirm(ends[0]);
        // Keepalives go past the unconfirmed transaction, and must not take the slot with them.
        database.run("CREATE TABLE u (id int)").await;
        let end = database.text("SELECT pg_current_wal_flush_lsn()").await.expect("a position");
        let end = end.parse::<Lsn>().expect("a position").before_bare_page_header();
        while stream.received() < end {
            stream.next().await.expect("an event");
        }
        stream.shutdown().await;
        let confirmed = "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'replication_named'";
        assert_eq!(database.text(confirmed).await, Some(ends[0].to_string()));

        database.run("INSERT INTO t VALUES (3)").await;
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        assert_eq!(stream.start_lsn(), ends[0]);
        let again = database.read(&mut stream).await;
        assert_eq!(again.iter().flat_map(show).collect::<Vec<_>>(), ["t: insert id=2", "t: insert id=3"]);
        stream.confirm(Lsn(u64::MAX));
        stream.shutdown().await;
        database.run("SELECT pg_drop_replication_slot('replication_named')").await;
    })
    .await;
}

#[tokio::test]
async fn p10_a_slot_that_cannot_be_had_says_why() {
    within(async {
        let database = Database::new("refused", TABLE).await;
        let elsewhere = Database::new("elsewhere", "").await;
        let config = |name: &str| database.config_with_slot(name);

        let holder = ReplicationStream::connect(config("replication_held")).await.expect("a stream");
        let error = refusal(config("replication_held")).await;
        assert!(
            matches!(&error, ReplicationError::SlotHeld { pid: Some(pid), .. } if *pid == holder.backend_pid()),
            "{error:?}"
        );
        let named = format!("the walsender with pid {} (\"convoy\")", holder.backend_pid());
        assert!(error.is_retryable() && error.to_string().contains(&named), "{error}");
        holder.shutdown().await;

        let error = refusal(elsewhere.config_with_slot("replication_held")).await;
        assert!(matches!(error, ReplicationError::SlotForeign { reason: SlotMismatch::Database { .. }, .. }), "{error:?}");
        database.run("SELECT pg_drop_replication_slot('replication_held')").await;

        database.run("SELECT pg_create_physical_replication_slot('replication_physical')").await;
        let error = refusal(config("replication_physical")).await;
        assert!(matches!(error, ReplicationError::SlotForeign { reason: SlotMismatch::Physical, .. }), "{error:?}");
        database.run("SELECT pg_drop_replication_slot('replication_physical')").await;

        for name in ["", "Upper", "with-dash", &"x".repeat(64)] {
            let error = refusal(config(name)).await;
            assert!(matches!(error, ReplicationError::SlotName { .. }), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn p1_publications_exist_before_the_slot() {
    within(async {
        let database = Database::new("publications", TABLE).await;
        let publications = ["convoy_full", "it's \"odd\", that"].map(str::to_owned).to_vec();
        let config = ReplicationConfig { publications, ..database.config() };
        let error = refusal(config.clone()).await;
        assert!(
            matches!(&error, ReplicationError::PublicationsMissing { names } if *names == config.publications[1..]),
            "{error:?}"
        );
        assert!(!error.is_retryable());
        database.run("CREATE PUBLICATION \"it's \"\"odd\"\", that\"").await;
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        database.run("INSERT INTO t VALUES (1)").await;
        assert_eq!(database.read(&mut stream).await.len(), 1);

        database.run("DROP PUBLICATION convoy_full;\nINSERT INTO t VALUES (2)").await;
        database.lacks_a_publication(&mut stream).await;
    })
    .await;
}

#[tokio::test]
async fn a_role_that_may_not_replicate_is_told_what_would_let_it() {
    within(async {
        let database = Database::new("role", TABLE).await;
        database.run("CREATE ROLE replication_plain LOGIN").await;
        let url = as_user(&database.url, "replication_plain", None);
        let error = refusal(ReplicationConfig::new(url.clone())).await;
        assert!(
            error.to_string().contains("`ALTER ROLE replication_plain REPLICATION;`"),
            "{error:?}"
        );
        database.run("ALTER ROLE replication_plain REPLICATION").await;
        ReplicationStream::connect(ReplicationConfig::new(url))
            .await
            .expect("a stream")
            .shutdown()
            .await;
        database.run("DROP ROLE replication_plain").await;
        let url = as_user(&database.url, "replication_nobody", None);
        let error = refusal(ReplicationConfig::new(url)).await;
        assert!(matches!(error, ReplicationError::LogInRefused { .. }), "{error:?}");
        let url = database
            .url
            .parse::<convoy_types::DatabaseUrl>()
            .expect("a URL")
            .with_database("replication_none");
        let error = refusal(ReplicationConfig::new(url)).await;
        assert!(
            matches!(&error, ReplicationError::Server(source) if source.code() == "3D000"),
            "{error:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn the_servers_identity_and_our_settings_are_the_servers() {
    within(async {
        let database = Database::new("identity", TABLE).await;
        let stream = database.stream().await;
        let identity = stream.identity();
        let system = database.text("SELECT system_identifier FROM pg_control_system()").await;
        assert_eq!(Some(identity.system_identifier.to_string()), system);
        let version = database.text("SHOW server_version_num").await;
        assert_eq!(Some(identity.version_num.to_string()), version);
        assert_eq!(identity.timeline, 1);
        let activity = format!(
            "SELECT backend_type || ' ' || application_name FROM pg_stat_activity WHERE pid = {}",
            stream.backend_pid()
        );
        assert_eq!(database.text(&activity).await.as_deref(), Some("walsender convoy"));
    })
    .await;
}
