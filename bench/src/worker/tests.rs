//! Workers against a real server, in this process: told and heard through pipes as the real ones are.

use super::*;
use convoy_postgres::testing;
use convoy_postgres::{SessionOptions, connect};
use tokio::io::{DuplexStream, duplex, split};
use tokio::task::JoinHandle;

fn job(database_url: &str, commits: Commits) -> WriteJob {
    WriteJob {
        database_url: database_url.to_owned(),
        statement: "UPDATE orders SET seq = {seq} WHERE id = {id}".to_owned(),
        commits,
        interval_ns: 1_000_000,
        connections: 3,
        tenants: 10,
        rows_per_tenant: 10,
    }
}

#[test]
fn every_row_is_written_before_one_is_written_again() {
    let job = job("", Commits { first: 1, count: 100 });
    let ids: std::collections::HashSet<i64> = (1..=100).map(|seq| job.row_id(seq)).collect();
    assert_eq!((ids.len(), ids.iter().min(), ids.iter().max()), (100, Some(&0), Some(&99)));
}

#[test]
fn only_the_first_arrival_of_a_phases_own_commits_counts() {
    let commits = Commits { first: 10, count: 2 };
    let mut received = Received::nothing_of(commits);
    assert!(received.note(commits, 11, Stamp(5)));
    assert!(!received.note(commits, 11, Stamp(6)));
    for foreign in [9, 12, i64::MIN, i64::MAX] {
        assert!(!received.note(commits, foreign, Stamp(7)), "{foreign}");
    }
    assert_eq!(received.at, [None, Some(Stamp(5))]);
}

/// A worker in this process, and our end of its pipe.
struct Local {
    pipe: Lines<BufReader<DuplexStream>>,
    work: JoinHandle<anyhow::Result<()>>,
}

impl Local {
    fn start(job: Job) -> Self {
        let (ours, theirs) = duplex(1 << 20);
        let work = tokio::spawn(async move {
            let (input, mut output) = split(theirs);
            let mut orders = BufReader::new(input).lines();
            dispatch(job, &mut orders, &mut output).await
        });
        Local { pipe: BufReader::new(ours).lines(), work }
    }

    async fn order(&mut self, word: &str) {
        self.pipe
            .get_mut()
            .get_mut()
            .write_all(format!("{word}\n").as_bytes())
            .await
            .expect("it listens");
    }

    async fn answer(&mut self) -> String {
        match self.pipe.next_line().await.expect("a pipe") {
            Some(line) => line,
            None => panic!("it has ended: {:?}", (&mut self.work).await),
        }
    }
}

#[tokio::test]
async fn the_bare_client_receives_what_the_writer_commits() {
    let server = testing::shared().await;
    let database_url = server.database("bench_workers").await;
    let connection = connect(&database_url.parse().expect("a URL"), &SessionOptions::default())
        .await
        .expect("connects");
    let sql = "CREATE TABLE orders (id int8 PRIMARY KEY, seq int8);
               INSERT INTO orders SELECT n, 0 FROM generate_series(0, 99) n;
               CREATE PUBLICATION bench FOR TABLE orders";
    connection.client().batch_execute(sql).await.expect("set up");

    let commits = Commits { first: 7, count: 50 };
    let receive =
        Job::Receive { database_url: database_url.clone(), publication: "bench".into(), commits };
    let mut bare = Local::start(receive);
    assert_eq!(bare.answer().await, "ready");
    // Before the phase's first number: received, and not counted.
    connection
        .client()
        .batch_execute("UPDATE orders SET seq = 6 WHERE id = 0")
        .await
        .expect("an update");
    let mut writer = Local::start(Job::Write(job(&database_url, commits)));
    assert_eq!(writer.answer().await, "ready");
    writer.order("go").await;

    let written: Written = serde_json::from_str(&writer.answer().await).expect("a result");
    let received: Received = serde_json::from_str(&bare.answer().await).expect("a result");
    assert_eq!((written.commits.len(), received.at.len()), (50, 50));
    for (commit, at) in written.commits.iter().zip(&received.at) {
        let at = at.expect("received");
        assert!(
            commit.due <= commit.begun
                && commit.begun < commit.sent
                && commit.sent < commit.returned
        );
        assert!(commit.sent < at, "received before it was sent: {commit:?} {at:?}");
    }
    let intervals: Vec<i64> =
        written.commits.windows(2).map(|pair| pair[1].due.since(pair[0].due)).collect();
    assert!(
        intervals.iter().all(|nanos| *nanos == 1_000_000),
        "an open loop keeps its schedule: {intervals:?}"
    );
}

#[tokio::test]
async fn the_writer_ends_with_the_benchmark() {
    let server = testing::shared().await;
    let database_url = server.database("bench_end").await;
    let mut writer = Local::start(Job::Write(job(&database_url, Commits { first: 1, count: 1 })));
    assert_eq!(writer.answer().await, "ready");
    // Nobody will say go any more.
    drop(writer.pipe);
    let error = writer.work.await.expect("no panic").expect_err("nobody said go").to_string();
    assert_eq!(error, "the benchmark has ended");
}
