//! Servers of a test's own: restarted, set up wrong, out of slots.

use crate::support::{connect, refusal, run, within};
use convoy_postgres::launcher::{LaunchOptions, PrivatePostgres, Shutdown};
use convoy_postgres::testing;
use convoy_replication::{
    Backoff, ReplicationConfig, ReplicationError, ReplicationStream, StreamEvent,
};

const PUBLICATIONS: &str = "CREATE PUBLICATION convoy_full;\nCREATE PUBLICATION convoy_ins";

async fn start(settings: &[(&str, &str)]) -> PrivatePostgres {
    let mut options: LaunchOptions = testing::options();
    options.settings.extend(settings.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    PrivatePostgres::start(options).await.expect("a server")
}

fn config(server: &PrivatePostgres) -> ReplicationConfig {
    ReplicationConfig::new(server.url("postgres").parse().expect("a URL"))
}

async fn error_of(stream: &mut ReplicationStream) -> ReplicationError {
    loop {
        match stream.next().await {
            Ok(StreamEvent::Committed(transaction)) => stream.confirm(transaction.end_lsn),
            Ok(StreamEvent::Progress { .. }) => {}
            Err(error) => return error,
        }
    }
}

#[tokio::test]
async fn a_restart_ends_the_stream_and_the_next_attempt_may_succeed() {
    within(async {
        let server = start(&[("max_replication_slots", "1")]).await;
        run(&connect(&server.url("postgres")).await, PUBLICATIONS).await;
        let mut backoff = Backoff::default();
        for how in [Shutdown::Fast, Shutdown::Immediate, Shutdown::Kill] {
            let mut stream = loop {
                match ReplicationStream::connect(config(&server)).await {
                    Ok(stream) => break stream,
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
                tokio::time::sleep(backoff.next_delay(0)).await;
            };
            let error = refusal(config(&server)).await;
            assert!(matches!(error, ReplicationError::NoFreeSlot { max: 1 }), "{error:?}");
            let (error, down) = tokio::join!(error_of(&mut stream), server.down(how));
            down.expect("it is down");
            assert!(error.is_retryable(), "{error:?}");
            let error = refusal(config(&server)).await;
            assert!(error.is_retryable(), "{error:?}");
            server.up().await.expect("it is up");
        }
        server.stop().await.expect("it is gone");
    })
    .await;
}

#[tokio::test]
async fn a_server_without_logical_wal_is_told_how_to_write_it() {
    within(async {
        let server = start(&[("wal_level", "replica"), ("max_wal_senders", "1")]).await;
        let error = refusal(config(&server)).await;
        let text = error.to_string();
        assert!(
            text.contains("`ALTER SYSTEM SET wal_level = 'logical';` and restart"),
            "{error:?}"
        );
        assert!(text.contains("wal_level is replica") && !error.is_retryable(), "{error:?}");
        server.stop().await.expect("it is gone");

        let server = start(&[("max_wal_senders", "0")]).await;
        let error = refusal(config(&server)).await;
        assert!(matches!(error, ReplicationError::NoWalSender { .. }), "{error:?}");
        server.stop().await.expect("it is gone");
    })
    .await;
}
