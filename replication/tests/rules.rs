//! What a real server streams and what it does not, as the rules of `docs/postgres.md` have it, beside what `rows` and
//! `slots` show of single rows and slots.

use crate::support::{Database, connect, run, show, text, within};
use convoy_postgres::launcher::PrivatePostgres;
use convoy_postgres::testing;
use convoy_replication::{ReplicationConfig, ReplicationSession, ReplicationStream, StreamEvent};
use convoy_types::{Lsn, Transaction};
use std::time::Duration;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY)";

fn shown(transactions: &[Transaction]) -> Vec<String> {
    transactions.iter().flat_map(show).collect()
}

#[tokio::test]
async fn p1_a_publication_made_after_the_slot_needs_a_new_slot() {
    within(async {
        let database = Database::new("late_publication", TABLE).await;
        let config = ReplicationConfig {
            publications: vec!["late".to_owned()],
            ..database.config_with_slot("replication_late")
        };
        database
            .run("SELECT pg_create_logical_replication_slot('replication_late', 'pgoutput')")
            .await;
        // Something to decode from before the publication is there.
        database.run("INSERT INTO t VALUES (1);\nCREATE PUBLICATION late FOR TABLE t").await;
        for again in ["SELECT 1", "DROP PUBLICATION late;\nCREATE PUBLICATION late FOR TABLE t"] {
            database.run(again).await;
            let mut stream = ReplicationStream::connect(config.clone()).await.expect("a stream");
            database.lacks_a_publication(&mut stream).await;
            stream.shutdown().await;
        }
        database.run("SELECT pg_drop_replication_slot('replication_late')").await;
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        database.run("INSERT INTO t VALUES (2)").await;
        assert_eq!(shown(&database.read(&mut stream).await), ["t: insert id=2"]);
        stream.shutdown().await;
        database.run("SELECT pg_drop_replication_slot('replication_late')").await;
    })
    .await;
}

#[tokio::test]
async fn p2_what_was_written_before_add_table_never_comes() {
    within(async {
        let database = Database::new("gap", TABLE).await;
        let mut stream = database.stream().await;
        let writer = connect(&database.url).await;
        run(&writer, "BEGIN;\nINSERT INTO t VALUES (1)").await;
        // It waits for nobody who writes: hence P2.
        database.run("ALTER PUBLICATION convoy_full ADD TABLE t").await;
        // The first read would show no row, and nothing brings it later.
        assert_eq!(database.text("SELECT count(*) FROM t").await.as_deref(), Some("0"));
        run(&writer, "COMMIT").await;
        database.run("INSERT INTO t VALUES (3)").await;
        assert_eq!(shown(&database.read(&mut stream).await), ["t: insert id=3"]);
    })
    .await;
}

#[tokio::test]
async fn p2_what_enters_while_the_slot_is_made_is_streamed() {
    let partition = "ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES FROM (0) TO (10)";
    for (hint, enters, table) in [
        ("entering", "ALTER PUBLICATION convoy_full ADD TABLE t", "t"),
        ("attaching", partition, "p_1"),
    ] {
        within(async {
            let tables = "CREATE TABLE t (id int PRIMARY KEY, v text);\nINSERT INTO t VALUES (1, 'a');\n\
                 CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);\n\
                 CREATE TABLE p_1 (id int PRIMARY KEY, v text);\nINSERT INTO p_1 VALUES (1, 'a');\n\
                 CREATE TABLE u (id int);\nALTER PUBLICATION convoy_full ADD TABLE p";
            let database = Database::new(hint, tables).await;
            let (first, second, third) =
                (connect(&database.url).await, connect(&database.url).await, connect(&database.url).await);
            run(&first, "BEGIN;\nINSERT INTO u VALUES (1)").await;
            let session = ReplicationSession::open(database.config()).await.expect("a session");
            let walsender = session.backend_pid();
            let blocked_by = async |writer: &tokio_postgres::Client| {
                let pid = text(writer, "SELECT pg_backend_pid()").await.expect("a process id");
                let blocked = format!("SELECT {pid} = ANY (pg_blocking_pids({walsender}))");
                database.wait_until(&blocked, Some("t")).await;
            };
            let start = session.start();
            tokio::pin!(start);
            // The server waits for the first, and does not look yet at what commits.
            tokio::select! {
                _ = &mut start => panic!("did not wait"),
                () = blocked_by(&first) => {}
            }
            run(&second, "BEGIN;\nINSERT INTO u VALUES (2)").await;
            database.run(enters).await;
            run(&first, "COMMIT").await;
            // It waits for the second, and takes down what others write by a catalog without what has just entered.
            tokio::select! {
                _ = &mut start => panic!("did not wait"),
                () = blocked_by(&second) => {}
            }
            let write = format!("BEGIN;\nUPDATE {table} SET v = 'b'");
            run(&third, &write).await;
            run(&second, "COMMIT").await;
            // The one that is made again waits for the third.
            let early = tokio::select! {
                stream = &mut start => Some(stream),
                () = blocked_by(&third) => None,
            };
            run(&third, "COMMIT").await;
            let mut stream = match early {
                Some(stream) => stream,
                None => start.await,
            }
            .expect("a stream");
            database.run(&format!("UPDATE {table} SET v = 'c'")).await;
            let streamed = shown(&database.read(&mut stream).await);
            assert!(streamed.iter().any(|change| change.contains("v=c")), "{hint}: {streamed:?}");
            stream.shutdown().await;
        })
        .await;
    }
}

#[tokio::test]
async fn p5_an_idle_server_gets_no_further_than_a_bare_page_header() {
    within(async {
        let server = PrivatePostgres::start(testing::options()).await.expect("a server");
        let url = server.url("postgres");
        let client = connect(&url).await;
        run(&client, "CREATE PUBLICATION convoy_full;\nCREATE PUBLICATION convoy_ins").await;
        let config = ReplicationConfig {
            status_interval: Duration::from_millis(20),
            ..ReplicationConfig::new(url.parse().expect("a URL"))
        };
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        run(&client, "SELECT pg_switch_wal()").await;
        let insert = text(&client, "SELECT pg_current_wal_insert_lsn()").await;
        let insert: Lsn = insert.expect("a position").parse().expect("a position");
        let settled = insert.before_bare_page_header();
        assert!(settled < insert, "{insert} is behind no bare header");
        while stream.received() < settled {
            stream.next().await.expect("an event");
        }
        assert!(stream.received() < insert, "the server is idle: nothing else can have come");
        stream.shutdown().await;
        server.stop().await.expect("it is gone");
    })
    .await;
}

#[tokio::test]
async fn p6_what_hangs_behind_a_standby_is_streamed_before_it_is_visible() {
    within(async {
        let server = PrivatePostgres::start(testing::options()).await.expect("a server");
        let url = server.url("postgres");
        let client = connect(&url).await;
        let set_up = "CREATE PUBLICATION convoy_full;\nCREATE PUBLICATION convoy_ins;\n\
                      CREATE TABLE t (id int PRIMARY KEY);\nALTER PUBLICATION convoy_full ADD TABLE t";
        run(&client, set_up).await;
        let config = ReplicationConfig::new(url.parse().expect("a URL"));
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        run(&client, "ALTER SYSTEM SET synchronous_standby_names = 'nobody';\nSELECT pg_reload_conf()").await;
        while text(&connect(&url).await, "SHOW synchronous_standby_names").await.as_deref() != Some("nobody") {
            tokio::task::yield_now().await;
        }
        let hanging = connect(&url).await;
        let hanging = tokio::spawn(async move { run(&hanging, "INSERT INTO t VALUES (1)").await });
        let mut next = async || loop {
            if let StreamEvent::Committed(transaction) = stream.next().await.expect("an event") {
                return transaction;
            }
        };
        let first = next().await;
        assert_eq!(show(&first), ["t: insert id=1"]);
        let later = connect(&url).await;
        run(&later, "SET synchronous_commit = local;\nINSERT INTO t VALUES (2)").await;
        let second = next().await;
        assert_eq!(show(&second), ["t: insert id=2"]);
        let seen = "SELECT string_agg(id::text, ',' ORDER BY id) FROM t";
        assert_eq!(text(&later, seen).await.as_deref(), Some("2"), "the later one alone");
        run(&later, "ALTER SYSTEM RESET synchronous_standby_names;\nSELECT pg_reload_conf()").await;
        hanging.await.expect("it is through");
        assert_eq!(text(&later, seen).await.as_deref(), Some("1,2"));
        stream.shutdown().await;
        server.stop().await.expect("it is gone");
    })
    .await;
}

/// The commit record lies before the slot, and the transaction is visible only later.
#[tokio::test]
async fn p10_what_hangs_behind_a_standby_while_the_slot_is_made_is_never_streamed() {
    within(async {
        let server = PrivatePostgres::start(testing::options()).await.expect("a server");
        let url = server.url("postgres");
        let client = connect(&url).await;
        let set_up = "CREATE PUBLICATION convoy_full;\nCREATE PUBLICATION convoy_ins;\n\
                      CREATE TABLE t (id int PRIMARY KEY);\nCREATE TABLE u (id int);\n\
                      ALTER PUBLICATION convoy_full ADD TABLE t;\n\
                      ALTER SYSTEM SET synchronous_standby_names = 'nobody';\nSELECT pg_reload_conf()";
        run(&client, set_up).await;
        while text(&connect(&url).await, "SHOW synchronous_standby_names").await.as_deref() != Some("nobody") {
            tokio::task::yield_now().await;
        }
        let until = async |condition: &str| {
            let asked = format!("SELECT count(*) FROM {condition}");
            while text(&client, &asked).await.as_deref() != Some("1") {
                tokio::task::yield_now().await;
            }
        };
        let (first, second) = (connect(&url).await, connect(&url).await);
        let begin = "SET synchronous_commit = local;\nBEGIN;\nINSERT INTO u VALUES (1)";
        run(&first, begin).await;
        let config = ReplicationConfig::new(url.parse().expect("a URL"));
        let starting = tokio::spawn(ReplicationStream::connect(config));
        // The slot waits for the first, then for the second, which began meanwhile.
        let blocked_by = async |writer: &tokio_postgres::Client| {
            let pid = text(writer, "SELECT pg_backend_pid()").await.expect("a process id");
            until(&format!("pg_stat_activity WHERE {pid} = ANY (pg_blocking_pids(pid))")).await;
        };
        blocked_by(&first).await;
        run(&second, begin).await;
        run(&first, "COMMIT").await;
        blocked_by(&second).await;
        let hanging = connect(&url).await;
        let hanging = tokio::spawn(async move { run(&hanging, "INSERT INTO t VALUES (1)").await });
        until("pg_stat_activity WHERE wait_event = 'SyncRep'").await;
        run(&second, "COMMIT").await;
        let mut stream = starting.await.expect("no panic").expect("a stream");

        let seen = "SELECT string_agg(id::text, ',' ORDER BY id) FROM t";
        assert_eq!(text(&client, seen).await, None, "it is not visible");
        let open = "SELECT pg_visible_in_snapshot(transactionid::text::xid8, pg_current_snapshot()) \
                    FROM pg_locks WHERE locktype = 'transactionid'";
        assert_eq!(text(&client, open).await.as_deref(), Some("f"), "it is open");
        run(&client, "ALTER SYSTEM RESET synchronous_standby_names;\nSELECT pg_reload_conf()").await;
        hanging.await.expect("it is through");
        assert_eq!(text(&client, seen).await.as_deref(), Some("1"));
        run(&client, "INSERT INTO t VALUES (2)").await;
        let streamed = loop {
            if let StreamEvent::Committed(transaction) = stream.next().await.expect("an event") {
                break transaction;
            }
        };
        assert_eq!(show(&streamed), ["t: insert id=2"], "the first that the stream brings");
        stream.shutdown().await;
        server.stop().await.expect("it is gone");
    })
    .await;
}

#[tokio::test]
async fn p7_ddl_sends_nothing() {
    within(async {
        let database = Database::new(
            "ddl",
            "CREATE TABLE t (id int PRIMARY KEY, x int);\nALTER PUBLICATION convoy_full ADD TABLE t;\n\
             CREATE TABLE whole (id int PRIMARY KEY) PARTITION BY RANGE (id);\n\
             CREATE TABLE leaf (id int PRIMARY KEY);\n\
             ALTER PUBLICATION convoy_full ADD TABLE whole, leaf",
        )
        .await;
        let mut stream = database.stream().await;
        database
            .run(
                "ALTER TABLE t ADD COLUMN y text DEFAULT 'new';\nALTER TABLE t ALTER x TYPE bigint;\n\
                 GRANT SELECT ON t TO PUBLIC;\nREVOKE SELECT ON t FROM PUBLIC;\n\
                 ALTER TABLE t ENABLE ROW LEVEL SECURITY;\nCREATE POLICY p ON t USING (false);\n\
                 ALTER TABLE whole ATTACH PARTITION leaf FOR VALUES FROM (0) TO (10);\n\
                 ALTER TABLE whole DETACH PARTITION leaf;\nDROP TABLE leaf",
            )
            .await;
        let transactions = database.read(&mut stream).await;
        assert!(transactions.is_empty(), "{transactions:?}");
        // The description comes with the next row.
        database.run("INSERT INTO t VALUES (1, 2)").await;
        assert_eq!(shown(&database.read(&mut stream).await), ["t: insert id=1 x=2 y=new"]);
    })
    .await;
}

#[tokio::test]
async fn p8_through_the_root_a_leafs_truncate_is_lost() {
    within(async {
        let database = Database::new(
            "via_root",
            "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);\n\
             CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10);\n\
             CREATE PUBLICATION via_root FOR TABLE t WITH (publish_via_partition_root = true);\n\
             CREATE PUBLICATION leaves FOR TABLE t",
        )
        .await;
        for (publication, expected) in [
            ("via_root", &["t: insert id=1"][..]),
            ("leaves", &["t_1: insert id=1", "t_1: truncate"]),
        ] {
            let config = ReplicationConfig {
                publications: vec![publication.to_owned()],
                ..database.config()
            };
            let mut stream = ReplicationStream::connect(config).await.expect("a stream");
            database.run("INSERT INTO t VALUES (1);\nTRUNCATE t_1").await;
            assert_eq!(shown(&database.read(&mut stream).await), expected, "{publication}");
            stream.shutdown().await;
        }
    })
    .await;
}

#[tokio::test]
async fn p8_old_style_children_made_later_are_no_members() {
    within(async {
        let database = Database::new(
            "children",
            "CREATE TABLE t (id int PRIMARY KEY);\nCREATE TABLE before () INHERITS (t);\n\
             ALTER PUBLICATION convoy_ins ADD TABLE t;\nCREATE TABLE after () INHERITS (t)",
        )
        .await;
        let changes = database
            .changes_of("INSERT INTO before VALUES (1);\nINSERT INTO after VALUES (2)")
            .await;
        assert_eq!(changes, ["before: insert id=1"]);
    })
    .await;
}

#[tokio::test]
async fn p10_who_falls_silent_is_noticed_by_our_own_timeout() {
    within(async {
        let database = Database::new("silent", TABLE).await;
        let name = database.text("SELECT current_database()").await.expect("a name");
        database.run(&format!("ALTER DATABASE {name} SET wal_sender_timeout = 0")).await;
        let config =
            ReplicationConfig { wal_sender_timeout: Duration::from_secs(1), ..database.config() };
        let stream = ReplicationStream::connect(config).await.expect("a stream");
        // Nobody reads it, so nobody answers: to the server it is as if the machine were gone.
        let sql = format!(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
            stream.slot_name()
        );
        assert_eq!(database.text(&sql).await.as_deref(), Some("1"));
        database.wait_until(&sql, Some("0")).await;
        drop(stream);
    })
    .await;
}

#[tokio::test]
async fn p10_an_open_writer_holds_wal_back_although_all_is_confirmed() {
    within(async {
        let database = Database::new("held_back", &format!("{TABLE};\nCREATE TABLE u (id int)")).await;
        let mut stream = database.stream().await;
        let writer = connect(&database.url).await;
        run(&writer, "BEGIN;\nINSERT INTO u VALUES (1)").await;
        let since = database.text("SELECT pg_current_wal_insert_lsn()").await.expect("a position");
        let view = |condition: &str| {
            format!(
                "SELECT {condition} FROM pg_replication_slots WHERE slot_name = '{}'",
                stream.slot_name()
            )
        };
        let (fresh, held) = (
            view(&format!("confirmed_flush_lsn > '{since}'")),
            view(&format!("restart_lsn <= '{since}'")),
        );
        for _ in 0..3 {
            database.run("INSERT INTO u VALUES (2);\nCHECKPOINT").await;
            database.read(&mut stream).await;
        }
        tokio::select! {
            result = async { loop { if let Err(error) = stream.next().await { break error } } } => panic!("{result}"),
            () = database.wait_until(&fresh, Some("t")) => {}
        }
        assert_eq!(database.text(&held).await.as_deref(), Some("t"));
        run(&writer, "COMMIT").await;
    })
    .await;
}

#[tokio::test]
async fn p10_temporary_slots_have_random_names_of_ours() {
    within(async {
        let database = Database::new("names", TABLE).await;
        let (one, other) = (database.stream().await, database.stream().await);
        assert_ne!(one.slot_name(), other.slot_name());
        for stream in [one, other] {
            assert!(stream.slot_name().starts_with("convoy_"), "doctor finds ours by their names");
            stream.shutdown().await;
        }
    })
    .await;
}

#[tokio::test]
async fn p14_a_large_transaction_holds_up_nobody_and_comes_once_committed() {
    within(async {
        let tables = "CREATE TABLE u (id int PRIMARY KEY);\nCREATE TABLE v (id int PRIMARY KEY)";
        let sql = format!("{TABLE};\n{tables};\nALTER PUBLICATION convoy_full ADD TABLE t, u, v");
        let database = Database::new("large", &sql).await;
        let name = database.text("SELECT current_database()").await.expect("a name");
        database
            .run(&format!("ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB'"))
            .await;
        let mut stream = database.stream().await;
        let (writer, other) = (connect(&database.url).await, connect(&database.url).await);
        let many = |table: &str, from: u32| {
            format!("INSERT INTO {table} SELECT generate_series({from}, {from} + 4999)")
        };
        // Two at a time, a savepoint that is rolled back in one, and others meanwhile.
        run(&writer, &format!("BEGIN;\n{}", many("t", 1))).await;
        run(&other, &format!("BEGIN;\n{}", many("v", 1))).await;
        database.run("INSERT INTO t VALUES (90000)").await;
        assert_eq!(shown(&database.read(&mut stream).await), ["t: insert id=90000"]);
        let savepoint = format!("SAVEPOINT s;\n{};\nROLLBACK TO s", many("u", 1));
        let said = "SELECT pg_logical_emit_message(true, 'convoy.said', 'it')";
        run(&writer, &format!("{savepoint};\n{said};\n{}", many("t", 10_000))).await;
        database.run("INSERT INTO u VALUES (90000)").await;
        assert_eq!(shown(&database.read(&mut stream).await), ["u: insert id=90000"]);
        let streamed = format!(
            "SELECT stream_txns >= 2 FROM pg_stat_replication_slots WHERE slot_name = '{}'",
            stream.slot_name()
        );
        database.wait_until(&streamed, Some("t")).await;
        // Where each commits it stands, whenever it began; what is rolled back never comes.
        database.run("INSERT INTO v VALUES (90001)").await;
        run(&writer, "COMMIT").await;
        database.run("DELETE FROM u").await;
        run(&other, "ROLLBACK").await;
        let transactions = database.read(&mut stream).await;
        let (first, last) = ("v: insert id=90001", "u: delete key id=90000");
        // The savepoint's table may be among them: it costs a refresh.
        let middle = shown(&transactions[1..2]);
        assert!(["touched t", "touched t u"].contains(&middle[0].as_str()), "{middle:?}");
        assert_eq!(shown(&transactions[..1]), [first]);
        assert_eq!(shown(&transactions[2..]), [last]);
        let messages = &transactions[1].messages;
        assert_eq!(
            messages.iter().map(|message| &message.content[..]).collect::<Vec<_>>(),
            [b"it"]
        );
    })
    .await;
}

#[tokio::test]
async fn p14_what_a_large_transaction_altered_is_known_once_it_committed() {
    within(async {
        let sql = format!("{TABLE};\nALTER PUBLICATION convoy_full ADD TABLE t");
        let database = Database::new("large_ddl", &sql).await;
        let name = database.text("SELECT current_database()").await.expect("a name");
        database
            .run(&format!("ALTER DATABASE {name} SET logical_decoding_work_mem = '64kB'"))
            .await;
        let mut stream = database.stream().await;
        let many = |from: u32| format!("INSERT INTO t SELECT generate_series({from}, {from} + 4999)");
        // A column that stays, one that a savepoint takes back, and rows before and after each.
        let sql = format!(
            "BEGIN;\n{};\nALTER TABLE t ADD a int DEFAULT 7;\n{};\nSAVEPOINT s;\nALTER TABLE t ADD b int DEFAULT 8;\n{};\n\
             ROLLBACK TO s;\nCOMMIT",
            many(1),
            many(10_000),
            many(20_000)
        );
        database.run(&sql).await;
        database.run("INSERT INTO t VALUES (90000)").await;
        let shown = shown(&database.read(&mut stream).await);
        assert_eq!(shown, ["touched t", "t: insert id=90000 a=7"]);
    })
    .await;
}
