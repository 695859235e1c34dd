//! What a real server sends of rows, for every replica identity and kind of statement.

use crate::support::{Database, connect, run, show, text, within};
use convoy_replication::{ReplicationConfig, ReplicationStream};
use convoy_types::ReplicaIdentity;

/// Half-random text that does not compress below TOAST's threshold.
const LONG: &str = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 200) n)";

#[tokio::test]
async fn p9_key_tuples_are_keys_never_rows() {
    within(async {
        let database = Database::new(
            "identity_default",
            "CREATE TABLE t (note text, id int PRIMARY KEY, n int);\n\
             ALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let changes = database.changes_of(
            "INSERT INTO t VALUES (NULL, 1, 5), ('', 2, NULL);\n\
             UPDATE t SET n = 6 WHERE id = 1;\n\
             UPDATE t SET id = 3 WHERE id = 1;\n\
             DELETE FROM t",
        );
        assert_eq!(
            changes.await,
            [
                "t: insert note=null id=1 n=5",
                "t: insert note= id=2 n=null",
                "t: update same key -> note=null id=1 n=6",
                "t: update key note=? id=1 n=? -> note=null id=3 n=6",
                "t: delete key note=? id=2 n=?",
                "t: delete key note=? id=3 n=?",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn p9_full_rows_are_whole_toast_included() {
    within(async {
        let database = Database::new(
            "identity_full",
            "CREATE TABLE t (id int, long text, n int);\n\
             ALTER TABLE t ALTER long SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;\n\
             ALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let sql = format!(
            "INSERT INTO t VALUES (1, {LONG}, NULL);\nUPDATE t SET n = 6;\nUPDATE t SET long = NULL;\nDELETE FROM t"
        );
        assert_eq!(
            database.changes_of(&sql).await,
            [
                "t: insert id=1 long=(6400 bytes) n=null",
                "t: update full id=1 long=(6400 bytes) n=null -> id=1 long=(6400 bytes) n=6",
                "t: update full id=1 long=(6400 bytes) n=6 -> id=1 long=null n=6",
                "t: delete full id=1 long=null n=6",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn p9_unchanged_toast_is_not_null_and_a_key_comes_from_the_key() {
    within(async {
        let database = Database::new(
            "toast",
            "CREATE TABLE t (id int PRIMARY KEY, long text, n int);\n\
             ALTER TABLE t ALTER long SET STORAGE EXTERNAL;\n\
             ALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let sql = format!(
            "INSERT INTO t VALUES (1, {LONG}, 5);\nUPDATE t SET n = 6;\nUPDATE t SET id = 2"
        );
        assert_eq!(
            database.changes_of(&sql).await,
            [
                "t: insert id=1 long=(6400 bytes) n=5",
                "t: update same key -> id=1 long=^ n=6",
                "t: update key id=1 long=? n=? -> id=2 long=^ n=6",
            ]
        );
        // A key of 2,200 bytes is stored outside the row, and still fits an index.
        database
            .run(
                "CREATE TABLE keyed (key text PRIMARY KEY, pad text, n int);\n\
                 ALTER TABLE keyed ALTER key SET STORAGE EXTERNAL;\n\
                 ALTER PUBLICATION convoy_full ADD TABLE keyed",
            )
            .await;
        let key = LONG.replace("200", "70");
        let sql = format!("INSERT INTO keyed VALUES ({key}, 'pad', 1);\nUPDATE keyed SET n = 2");
        assert_eq!(
            database.changes_of(&sql).await,
            [
                "keyed: insert key=(2240 bytes) pad=pad n=1",
                "keyed: update key key=(2240 bytes) pad=? n=? -> key=(2240 bytes) pad=pad n=2",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn p1_an_index_can_be_the_identity_and_none_shows_inserts_alone() {
    within(async {
        let database = Database::new(
            "identity_index",
            "CREATE TABLE i (id int PRIMARY KEY, code text NOT NULL UNIQUE, n int);\n\
             ALTER TABLE i REPLICA IDENTITY USING INDEX i_code_key;\n\
             CREATE TABLE none (id int, n int);\n\
             ALTER PUBLICATION convoy_full ADD TABLE i;\n\
             ALTER PUBLICATION convoy_ins ADD TABLE none",
        )
        .await;
        let mut stream = database.stream().await;
        database
            .run(
                "INSERT INTO i VALUES (1, 'a', 1);\n\
                 UPDATE i SET id = 2;\n\
                 UPDATE i SET code = 'b';\n\
                 DELETE FROM i;\n\
                 INSERT INTO none VALUES (1, 1);\n\
                 UPDATE none SET n = 2;\n\
                 DELETE FROM none;\n\
                 TRUNCATE none",
            )
            .await;
        let transactions = database.read(&mut stream).await;
        assert_eq!(
            transactions.iter().flat_map(show).collect::<Vec<_>>(),
            [
                "i: insert id=1 code=a n=1",
                "i: update same key -> id=2 code=a n=1",
                "i: update key id=? code=a n=? -> id=2 code=b n=1",
                "i: delete key id=? code=b n=?",
                "none: insert id=1 n=1",
                "none: truncate",
            ]
        );
        let convoy_types::Changes::Rows(rows) = &transactions[0].changes else { panic!("no rows") };
        let relation = &rows[0].relation;
        assert_eq!(relation.replica_identity, ReplicaIdentity::Index);
        assert_eq!((relation.namespace.as_str(), relation.columns[1].type_oid), ("public", 25));
        assert!(relation.columns[1].is_identity && !relation.columns[0].is_identity);
        assert_eq!(database.text("SELECT 'i'::regclass::oid").await, Some(relation.id.to_string()));
    })
    .await;
}

#[tokio::test]
async fn p9_stored_generated_columns_are_absent_before_18() {
    within(async {
        let database = Database::new(
            "generated",
            "CREATE TABLE t (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED, n int);\n\
             ALTER TABLE t DROP COLUMN n;\n\
             ALTER TABLE t ADD COLUMN m int DEFAULT 4;\n\
             ALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        assert_eq!(database.changes_of("INSERT INTO t (id) VALUES (1)").await, ["t: insert id=1 m=4"]);
    })
    .await;
}

#[tokio::test]
async fn a_truncate_names_every_table_that_it_emptied() {
    within(async {
        let database = Database::new(
            "truncate",
            "CREATE TABLE parent (id int PRIMARY KEY);\n\
             CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent);\n\
             ALTER PUBLICATION convoy_full ADD TABLE parent, child",
        )
        .await;
        let mut changes =
            database.changes_of("INSERT INTO parent VALUES (1);\nTRUNCATE parent CASCADE").await;
        changes[1..].sort();
        assert_eq!(changes, ["parent: insert id=1", "child: truncate", "parent: truncate"]);
    })
    .await;
}

#[tokio::test]
async fn p8_changes_of_partitions_are_the_leaves_own() {
    within(async {
        let database = Database::new(
            "partitions",
            "CREATE TABLE t (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);\n\
             CREATE TABLE t_east PARTITION OF t FOR VALUES IN ('east');\n\
             CREATE TABLE t_west (region text NOT NULL, id int NOT NULL, PRIMARY KEY (id, region));\n\
             ALTER TABLE t ATTACH PARTITION t_west FOR VALUES IN ('west');\n\
             ALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let changes = database.changes_of(
            "INSERT INTO t VALUES (1, 'east'), (2, 'west');\n\
             UPDATE t SET region = 'west' WHERE id = 1;\n\
             TRUNCATE t_west",
        );
        assert_eq!(
            changes.await,
            [
                "t_east: insert id=1 region=east",
                "t_west: insert region=west id=2",
                "t_east: delete key id=1 region=east",
                "t_west: insert region=west id=1",
                "t_west: truncate",
            ]
        );
    })
    .await;
}

#[tokio::test]
async fn p4_only_what_committed_is_streamed_under_its_top_level_xid() {
    within(async {
        let database = Database::new(
            "savepoints",
            "CREATE TABLE t (id int PRIMARY KEY);\nALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let mut stream = database.stream().await;
        let other = connect(&database.url).await;
        run(&other, "BEGIN;\nINSERT INTO t VALUES (100)").await;
        database.run("BEGIN;\nSAVEPOINT a;\nINSERT INTO t VALUES (1);\nSAVEPOINT b;\nINSERT INTO t VALUES (2)").await;
        database.run("ROLLBACK TO b;\nINSERT INTO t VALUES (3)").await;
        let xid = database.text("SELECT pg_current_xact_id()").await;
        database.run("COMMIT").await;
        run(&other, "ROLLBACK").await;
        let transactions = database.read(&mut stream).await;
        assert_eq!(transactions.iter().flat_map(show).collect::<Vec<_>>(), ["t: insert id=1", "t: insert id=3"]);
        assert_eq!(Some(transactions[0].xid.0.to_string()), xid);
        assert!(transactions[0].commit_lsn < transactions[0].end_lsn);
    })
    .await;
}

#[tokio::test]
async fn p4_prepared_transactions_come_when_they_commit() {
    within(async {
        let database = Database::new(
            "prepared",
            "CREATE TABLE t (id int PRIMARY KEY);\nALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let mut stream = database.stream().await;
        database.run("BEGIN;\nINSERT INTO t VALUES (1)").await;
        let xid = database.text("SELECT pg_current_xact_id()").await;
        database.run("PREPARE TRANSACTION 'replication_one';\nINSERT INTO t VALUES (2)").await;
        let before = database.read(&mut stream).await;
        assert_eq!(before.iter().flat_map(show).collect::<Vec<_>>(), ["t: insert id=2"]);
        database.run("COMMIT PREPARED 'replication_one'").await;
        let after = database.read(&mut stream).await;
        assert_eq!(after.iter().flat_map(show).collect::<Vec<_>>(), ["t: insert id=1"]);
        assert_eq!(Some(after[0].xid.0.to_string()), xid);
    })
    .await;
}

#[tokio::test]
async fn p9_values_follow_our_settings_not_the_roles() {
    within(async {
        let database = Database::new(
            "german",
            "CREATE TABLE t (id int PRIMARY KEY, at timestamptz, day date, span interval, raw bytea, x float8, price money);\n\
             ALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let name = database.text("SELECT current_database()").await.expect("a name");
        for setting in
            ["DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "TimeZone = 'Asia/Kolkata'", "bytea_output = 'escape'", "extra_float_digits = -10"]
        {
            database.run(&format!("ALTER DATABASE {name} SET {setting}")).await;
        }
        let insert = r"INSERT INTO t VALUES (1, '2026-02-01 12:00+00', '2026-02-01', '1 day 02:00', '\x00ff', 0.1::float8 + 0.2, 1.5)";
        assert_eq!(
            database.changes_of(insert).await,
            [r"t: insert id=1 at=2026-02-01 12:00:00+00 day=2026-02-01 span=1 day 02:00:00 raw=\x00ff x=0.30000000000000004 price=$1.50"]
        );
        let config = ReplicationConfig { time_zone: "America/New_York".to_owned(), ..database.config() };
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        database.run("INSERT INTO t VALUES (2, '2026-02-01 12:00+00')").await;
        let shown = show(&database.read(&mut stream).await[0]);
        assert!(shown[0].starts_with("t: insert id=2 at=2026-02-01 07:00:00-05 "), "{shown:?}");
    })
    .await;
}

#[tokio::test]
async fn a_transaction_past_its_budget_is_what_it_touched() {
    within(async {
        let database = Database::new(
            "budget",
            "CREATE TABLE a (id int PRIMARY KEY, long text);\nCREATE TABLE b (id int PRIMARY KEY);\n\
             ALTER TABLE a ALTER long SET STORAGE EXTERNAL;\n\
             ALTER PUBLICATION convoy_full ADD TABLE a, b",
        )
        .await;
        let config = ReplicationConfig {
            transaction_rows_max: 100,
            transaction_bytes_max: 1_000_000,
            ..database.config()
        };
        let mut stream = ReplicationStream::connect(config).await.expect("a stream");
        database
            .run(
                "INSERT INTO a SELECT n FROM generate_series(1, 100) n;\n\
                 BEGIN;\nINSERT INTO b VALUES (1);\nINSERT INTO a SELECT n FROM generate_series(101, 5000) n;\nCOMMIT;\n\
                 INSERT INTO a VALUES (9000, repeat('x', 20000000));\n\
                 INSERT INTO b VALUES (2)",
            )
            .await;
        let transactions = database.read(&mut stream).await;
        assert_eq!(show(&transactions[0]).len(), 100);
        let rest = transactions[1..].iter().flat_map(show).collect::<Vec<_>>();
        assert_eq!(rest, ["touched a b", "touched a", "b: insert id=2"]);
    })
    .await;
}

#[tokio::test]
async fn p5_our_transactional_messages_come_with_their_transaction() {
    within(async {
        let database = Database::new(
            "messages",
            "CREATE TABLE t (id int PRIMARY KEY);\nALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let mut stream = database.stream().await;
        database
            .run(
                "BEGIN;\nINSERT INTO t VALUES (1);\nSELECT pg_logical_emit_message(true, 'convoy.mutation', 'm1');\n\
                 SELECT pg_logical_emit_message(true, 'other', 'x');\nCOMMIT;\n\
                 SELECT pg_logical_emit_message(false, 'convoy', 'at once');\n\
                 SELECT pg_logical_emit_message(true, 'convoy', repeat('x', 1000000))",
            )
            .await;
        let transactions = database.read(&mut stream).await;
        assert_eq!(show(&transactions[0]), ["t: insert id=1"]);
        assert_eq!(transactions[0].messages.len(), 1);
        assert_eq!(transactions[0].messages[0].content, "m1");
        assert_eq!(transactions.len(), 2);
        assert!(transactions[1].messages.is_empty());
    })
    .await;
}

#[tokio::test]
async fn p14_every_write_arrives_once_and_in_commit_order() {
    within(async {
        let database = Database::new(
            "order",
            "CREATE TABLE t (id int PRIMARY KEY, writer int, n int);\nALTER PUBLICATION convoy_full ADD TABLE t",
        )
        .await;
        let mut stream = database.stream().await;
        let writers = (0..4).map(|writer| {
            let url = database.url.clone();
            tokio::spawn(async move {
                let client = connect(&url).await;
                for n in 0..200 {
                    run(&client, &format!("INSERT INTO t VALUES ({}, {writer}, {n})", writer * 1000 + n)).await;
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.expect("a writer");
        }
        let transactions = database.read(&mut stream).await;
        assert!(transactions.is_sorted_by(|a, b| a.end_lsn < b.end_lsn));
        let mut streamed = transactions.iter().flat_map(show).collect::<Vec<_>>();
        let of_writer = |writer: i32| {
            let mark = format!(" writer={writer} ");
            streamed.iter().filter(|change| change.contains(&mark)).cloned().collect::<Vec<_>>()
        };
        for writer in 0..4 {
            let expected =
                (0..200).map(|n| format!("t: insert id={} writer={writer} n={n}", writer * 1000 + n));
            assert_eq!(of_writer(writer), expected.collect::<Vec<_>>());
        }
        streamed.sort();
        streamed.dedup();
        assert_eq!(Some(streamed.len().to_string()), text(&database.client, "SELECT count(*) FROM t").await);
    })
    .await;
}
