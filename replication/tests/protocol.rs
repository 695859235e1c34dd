//! The stream against a server that does as the test says: positions, cancellation, silence, nonsense.

use crate::fake::{Status, begin, commit, data, keepalive, message, stream};
use crate::support::within;
use convoy_replication::{ReplicationError, StreamEvent};
use convoy_types::Lsn;
use proptest::prelude::*;
use std::time::Duration;

/// Shows an event by its position.
fn position(event: &StreamEvent) -> (&'static str, u64) {
    match event {
        StreamEvent::Committed(transaction) => ("commit", transaction.end_lsn.0),
        StreamEvent::Progress { wal_end } => ("progress", wal_end.0),
    }
}

#[tokio::test]
async fn p5_progress_never_comes_from_data_headers() {
    within(async {
        let (mut stream, mut server) = stream(|_| {}).await;
        assert_eq!(stream.received(), Lsn(1000));
        // A change lies anywhere before its commit; a header past it would promise what has not come.
        server
            .send(
                &[data(9000, &begin(2000)), data(9000, &commit(2000)), keepalive(3000, false)]
                    .concat(),
            )
            .await;
        assert_eq!(position(&stream.next().await.expect("an event")), ("commit", 2008));
        assert_eq!(stream.received(), Lsn(2008));
        assert_eq!(position(&stream.next().await.expect("an event")), ("progress", 3000));
        // One that tells nothing new is no event.
        server.send(&[keepalive(3000, false), keepalive(2500, false)].concat()).await;
        server.send(&[data(1, &begin(3100)), data(1, &commit(3100))].concat()).await;
        assert_eq!(position(&stream.next().await.expect("an event")), ("commit", 3108));
    })
    .await;
}

#[tokio::test]
async fn keepalives_that_wait_together_are_one_event() {
    within(async {
        let (mut stream, mut server) = stream(|_| {}).await;
        let keepalives = (2000..3000).flat_map(|wal_end| keepalive(wal_end, false));
        let commit = [data(0, &begin(4000)), data(0, &commit(4000))].concat();
        server.send(&keepalives.chain(commit).collect::<Vec<_>>()).await;
        let mut events = Vec::new();
        while events.last() != Some(&("commit", 4008)) {
            events.push(position(&stream.next().await.expect("an event")));
        }
        assert!(events.len() < 10, "{events:?}");
        assert!(stream.next_buffered().expect("no error").is_none());
    })
    .await;
}

#[tokio::test]
async fn a_question_is_answered_and_only_what_is_confirmed_is_given_up() {
    within(async {
        let (mut stream, mut server) =
            stream(|config| config.status_interval = Duration::from_secs(3600)).await;
        let ask = |wal_end| {
            [
                keepalive(wal_end, true),
                data(0, &begin(wal_end + 10)),
                data(0, &commit(wal_end + 10)),
            ]
            .concat()
        };
        let mut answers = Vec::new();
        for wal_end in [2000, 3000, 4000] {
            server.send(&ask(wal_end)).await;
            let event = stream.next().await.expect("an event");
            let StreamEvent::Committed(transaction) = event else { panic!("{event:?}") };
            if wal_end == 3000 {
                stream.confirm(transaction.end_lsn);
            }
            // The answer goes out while the next event is waited for.
            let status = loop {
                tokio::select! {
                    biased;
                    event = stream.next() => panic!("{event:?}"),
                    status = server.status() => if status.received > 1000 { break status },
                }
            };
            answers.push(status);
        }
        let status = |received, flushed| Status { received, flushed, wants_reply: false };
        assert_eq!(answers, [status(2018, 1000), status(3018, 3018), status(4018, 3018)]);
        // Nothing is given up that has not come.
        stream.confirm(Lsn(u64::MAX));
        server.send(&keepalive(4018, true)).await;
        tokio::select! {
            event = stream.next() => panic!("{event:?}"),
            last = server.status() => assert_eq!(last, status(4018, 4018)),
        }
    })
    .await;
}

#[tokio::test]
async fn a_dropped_wait_loses_nothing() {
    within(async {
        let (mut stream, mut server) = stream(|_| {}).await;
        let sent = (0..50)
            .flat_map(|n| {
                [data(0, &begin(2000 + n * 20)), data(0, &commit(2000 + n * 20))].concat()
            })
            .collect::<Vec<_>>();
        let trickle = server.trickle(&sent);
        tokio::pin!(trickle);
        let (mut ends, mut sent_all) = (Vec::new(), false);
        while ends.len() < 50 {
            tokio::select! {
                biased;
                () = &mut trickle, if !sent_all => sent_all = true,
                event = stream.next() => ends.push(position(&event.expect("an event")).1),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(ends, (0..50).map(|n| 2008 + n * 20).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stays_silent_is_asked_and_then_given_up() {
    within(async {
        let (mut stream, mut server) = stream(|config| {
            config.wal_sender_timeout = Duration::from_millis(400);
            config.status_interval = Duration::from_millis(20);
        })
        .await;
        let (error, ()) = tokio::join!(stream.next(), async {
            while !server.status().await.wants_reply {}
            // An answer in time, and silence from then on.
            server.send(&keepalive(1000, false)).await;
            while !server.status().await.wants_reply {}
        });
        assert!(matches!(error, Err(ReplicationError::Silent { .. })), "{error:?}");
        assert!(error.is_err_and(|error| error.is_retryable()));
    })
    .await;
}

#[tokio::test]
async fn the_servers_last_words_are_the_reason() {
    within(async {
        let (mut stream, mut server) = stream(|_| {}).await;
        server.send(&message(b'E', b"SFATAL\0C57P01\0Mterminating\0\0")).await;
        server.hang_up().await;
        let error = stream.next().await.map(|event| position(&event)).expect_err("an error");
        assert!(
            matches!(&error, ReplicationError::Server(source) if source.code() == "57P01"),
            "{error:?}"
        );
        assert!(error.is_retryable());
        let error = stream.next().await.map(|event| position(&event)).expect_err("an error");
        assert!(matches!(
            error,
            ReplicationError::ConnectionClosed | ReplicationError::ConnectionLost { .. }
        ));
    })
    .await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn nonsense_is_an_error(bytes in prop::collection::vec(any::<u8>(), 1..200), framed in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(within(async {
            let (mut stream, mut server) = stream(|_| {}).await;
            let sent = if framed { message(b'd', &bytes) } else { bytes };
            server.send(&sent).await;
            server.hang_up().await;
            while stream.next().await.is_ok() {}
        }));
    }
}
