//! What a fault may cost that comes while it is quiet: nothing but what really changed meanwhile, sent once and as a diff;
//! and the server says what happened.

use super::{ALL, COUNT, Mirrors, metric, replication};
use crate::client::get;
use crate::logs::Mark;
use crate::mirror::{Mirror, Shown};
use crate::support::{Fixture, until};
use std::ops::RangeInclusive;
use tokio_postgres::Client;

/// One change that both subscribers see.
pub const CHANGE: &str =
    "update orders set status = status || '+', total = coalesce(total, 0) + 1 where id = 2";

/// What a fault is to come to.
#[derive(Clone, Debug)]
pub struct Cost {
    /// How often each of the two subscribers is sent another result.
    pub changes: [u32; 2],
    /// How often the stream is lost.
    pub losses: RangeInclusive<u64>,
    /// Words of the reason that is said of the last loss; versions of Postgres have their own.
    pub reason: &'static [&'static str],
}

impl Cost {
    /// Of one change that is made meanwhile, and one loss for this reason.
    pub const fn of(reason: &'static [&'static str]) -> Cost {
        Cost { changes: [1, 1], losses: 1..=1, reason }
    }

    /// Of one change, while the stream goes on.
    pub const STREAMING: Cost = Cost { changes: [1, 1], losses: 0..=0, reason: &[] };
}

/// How things stood before a fault.
pub struct Before {
    shown: [Shown; 2],
    losses: u64,
    log: Mark,
}

impl Mirrors {
    /// Notes how things stand while nobody writes.
    pub async fn before(&mut self, fixture: &Fixture, client: &Client) -> Before {
        self.agree(client).await;
        let losses = losses(fixture).await;
        Before { shown: self.shown(), losses, log: Mark::now() }
    }

    fn shown(&self) -> [Shown; 2] {
        [self.0.shown(), self.1.shown()]
    }

    /// Checks that results which are read just now, for somebody new, are by their digests what is shown.
    async fn agree_with_fresh_ones(&self, fixture: &Fixture) {
        for (mirror, sql) in [(&self.0, ALL), (&self.1, COUNT)] {
            // Another text, hence another live query, which nothing is known of yet.
            let sql = format!("{sql} /* {} */", rand::random::<u32>());
            let fresh = Mirror::of_sql(fixture.address, &sql).await.shown();
            let shown = mirror.shown();
            assert_eq!(fresh.digest, shown.digest, "{:?}, not {:?}", shown.rows, fresh.rows);
        }
    }
}

async fn losses(fixture: &Fixture) -> u64 {
    replication(fixture).await["reconnects"].as_u64().expect("a number")
}

/// Waits until the server says that it is not ready, with these words.
pub async fn is_down(fixture: &Fixture) {
    until("it is down", async || get(fixture.address, "/readyz").await.status == 503).await;
    let ready = get(fixture.address, "/readyz").await;
    assert!(ready.body.contains("replication is reconnecting: "), "{}", ready.body);
    assert_eq!(replication(fixture).await["state"], "reconnecting");
    assert_eq!(metric(fixture, "convoy_ready").await, 0.0);
}

impl Before {
    /// Waits until the fault is over, and checks what it has cost: these changes, each a diff; and one more for a write that
    /// shows that all is live, and that nothing more was on its way.
    pub async fn cost(self, mirrors: &mut Mirrors, fixture: &Fixture, client: &Client, cost: Cost) {
        until("it streams after the fault", async || {
            let replication = replication(fixture).await;
            let lost = replication["reconnects"].as_u64().expect("a number") - self.losses;
            replication["state"] == "streaming" && lost >= *cost.losses.start()
        })
        .await;
        mirrors.agree(client).await;
        self.check_changes(mirrors, cost.changes);
        mirrors.agree_with_fresh_ones(fixture).await;
        client.batch_execute(CHANGE).await.expect("a write");
        mirrors.agree(client).await;
        self.check_changes(mirrors, cost.changes.map(|changes| changes + 1));
        self.check_what_is_said(fixture, &cost).await;
    }

    fn check_changes(&self, mirrors: &Mirrors, changes: [u32; 2]) {
        let now = mirrors.shown();
        let seen: Vec<u32> =
            now.iter().zip(&self.shown).map(|(now, then)| now.changes - then.changes).collect();
        assert_eq!(seen, changes, "{now:?} after {:?}", self.shown);
        for (now, then) in now.iter().zip(&self.shown) {
            assert_eq!(now.snapshots, then.snapshots, "a diff would have done: {now:?}");
        }
    }

    /// The status, the metrics, `/readyz` and the log.
    async fn check_what_is_said(&self, fixture: &Fixture, cost: &Cost) {
        until("it is ready", async || get(fixture.address, "/readyz").await.status == 200).await;
        let replication = replication(fixture).await;
        assert!(replication["error"].is_null(), "{replication}");
        let losses = losses(fixture).await;
        assert!(cost.losses.contains(&(losses - self.losses)), "{cost:?}: {replication}");
        assert_eq!(metric(fixture, "convoy_ready").await, 1.0);
        assert_eq!(metric(fixture, "convoy_replication_reconnects_total").await, losses as f64);
        if losses > self.losses {
            let reason = replication["last_loss"]["reason"].as_str().expect("a reason");
            assert!(cost.reason.iter().any(|words| reason.contains(words)), "{cost:?}: {reason}");
            self.log.expect(&["WARN", "no replication; trying again", &format!("{reason:?}")]);
        }
    }
}
