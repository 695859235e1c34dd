//! The shop at work: new orders, orders on their way, shelves that empty and are filled again, so many commits a second.
//!
//! Each clerk has a connection of its own and commits one statement at a time, with everything on that makes a commit
//! durable. What fails is counted and left; a connection that is lost is made again. The shop stays bounded: the oldest
//! orders go once there are [`ORDERS_MAX`].

use super::shop::{self, CUSTOMERS, LINES_MAX, ORDER_SHARE, PRODUCTS};
use crate::error::chain;
use convoy_postgres::{Connection, connect};
use convoy_types::DatabaseUrl;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::Statement;

/// The most commits a second that can be asked for.
pub(crate) const RATE_MAX: u32 = 5_000;
/// Orders that the shop keeps.
const ORDERS_MAX: i64 = 60_000;
/// What one clerk is asked to commit a second; a commit waits for the disk.
const CLERK_RATE: u32 = 100;
/// Clerks in all.
const CLERKS_MAX: u32 = 24;
/// Orders on their way that one clerk remembers; the oldest are forgotten, and stay as they are.
const OPEN_MAX: usize = 500;
/// How far behind its pace a clerk may fall before it gives up catching up.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// How many acts in a row may find nothing to do, and be followed by another at once.
const IDLE_ACTS_MAX: u32 = 10;
/// How long a clerk waits after something went wrong.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the last commits may take when the writer is stopped.
const STOP_MAX: Duration = Duration::from_secs(5);

/// One statement, one commit: the order, its lines, and less on the shelf. Locks products in the order of their ids, so
/// that two clerks never wait for each other.
const PLACE: &str = "
    WITH locked AS MATERIALIZED (
        SELECT p.id, p.price, least(p.stock, wish.quantity) AS quantity
        FROM products p
        JOIN unnest($2::bigint[], $3::int[]) AS wish (id, quantity) ON wish.id = p.id
        WHERE p.stock > 0 ORDER BY p.id FOR NO KEY UPDATE OF p
    ), placed AS (
        INSERT INTO orders (customer_id, region, status, total, placed_at)
        SELECT c.id, c.region, 'new', (SELECT sum(price * quantity) FROM locked), clock_timestamp()
        FROM customers c WHERE c.id = $1 AND EXISTS (SELECT FROM locked)
        RETURNING id
    ), lines AS (
        INSERT INTO order_lines (order_id, line, product_id, quantity, unit_price)
        SELECT placed.id, row_number() OVER (ORDER BY locked.id), locked.id, quantity, price FROM placed, locked
    ), taken AS (
        UPDATE products p SET stock = p.stock - locked.quantity FROM locked WHERE p.id = locked.id
    )
    SELECT id FROM placed";
const ADVANCE: &str = "UPDATE orders SET status = $2 WHERE id = $1 AND status = $3";
const SHIP: &str = "UPDATE orders SET status = 'shipped' WHERE id = ANY ($1) AND status = 'packed'";
/// What was ordered goes back on the shelf.
const CANCEL: &str = "
    WITH cancelled AS (
        UPDATE orders SET status = 'cancelled' WHERE id = $1 AND status IN ('new', 'paid') RETURNING id
    )
    UPDATE products p SET stock = p.stock + line.quantity
    FROM (SELECT product_id, sum(quantity)::int AS quantity
          FROM cancelled JOIN order_lines ON order_id = cancelled.id GROUP BY product_id) AS line
    WHERE p.id = line.product_id";
/// The emptiest shelf first, and so late that the dashboard has something to show.
const RESTOCK: &str = "
    UPDATE products SET stock = stock + $1
    WHERE id = (SELECT id FROM products WHERE stock < 10 ORDER BY stock, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED)
      AND (SELECT count(*) FROM products WHERE stock < 10) > 12";
const ARCHIVE: &str = "
    WITH old AS (SELECT id FROM orders WHERE id < $1 ORDER BY id LIMIT 1000),
         lines AS (DELETE FROM order_lines USING old WHERE order_id = old.id)
    DELETE FROM orders USING old WHERE orders.id = old.id";
const OPEN: &str = "
    SELECT id, status FROM orders
    WHERE status IN ('new', 'paid', 'packed') AND id % $1 = $2
    ORDER BY id DESC LIMIT 300";

/// What the writer has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Commits that changed something.
    pub commits: u64,
    /// Statements that failed, and connections.
    pub failures: u64,
    /// Why the last of those did.
    pub last_failure: Option<String>,
}

#[derive(Debug, Default)]
struct Counts {
    commits: AtomicU64,
    failures: AtomicU64,
    last_failure: Mutex<Option<String>>,
}

impl Counts {
    fn failed(&self, reason: String) {
        tracing::debug!(%reason, "the demo's writer");
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    fn tally(&self) -> Tally {
        Tally {
            commits: self.commits.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_failure: self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The clerks at work.
#[derive(Debug)]
pub(crate) struct Writer {
    stop: watch::Sender<bool>,
    clerks: JoinSet<()>,
    counts: Arc<Counts>,
}

impl Writer {
    /// Sets them to work, so many commits a second in all.
    pub(crate) fn start(url: &DatabaseUrl, rate: u32) -> Self {
        let (stop, stopping) = watch::channel(false);
        let counts = Arc::<Counts>::default();
        let mut clerks = JoinSet::new();
        let number_of_clerks = rate.div_ceil(CLERK_RATE).min(CLERKS_MAX);
        for number in 0..number_of_clerks {
            let pace =
                Duration::from_secs(1).mul_f64(f64::from(number_of_clerks) / f64::from(rate));
            let clerk = Clerk {
                url: url.clone(),
                counts: counts.clone(),
                dice: StdRng::from_os_rng(),
                open: VecDeque::new(),
                colleagues: i64::from(number_of_clerks),
                number: i64::from(number),
            };
            clerks.spawn(clerk.work(pace, stopping.clone()));
        }
        Writer { stop, clerks, counts }
    }

    /// Returns what was done so far.
    pub(crate) fn tally(&self) -> Tally {
        self.counts.tally()
    }

    /// Lets each end what it is doing, and returns what was done.
    pub(crate) async fn stop(mut self) -> Tally {
        let _ = self.stop.send(true);
        let all = async { while self.clerks.join_next().await.is_some() {} };
        if timeout(STOP_MAX, all).await.is_err() {
            self.clerks.shutdown().await;
        }
        self.counts.tally()
    }
}

/// An order's way through the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    New,
    Paid,
    Packed,
}

impl Status {
    fn read(text: &str) -> Option<Status> {
        [Status::New, Status::Paid, Status::Packed]
            .into_iter()
            .find(|status| status.as_str() == text)
    }

    fn as_str(self) -> &'static str {
        match self {
            Status::New => "new",
            Status::Paid => "paid",
            Status::Packed => "packed",
        }
    }
}

/// What a clerk does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Place,
    Advance,
    Ship,
    Cancel,
    Restock,
}

/// Says what `throw`, from 0 up to 1, comes to, while so large a share is new orders.
///
/// The rest keeps its proportions: about two steps for each order, and a courier for five at a time.
fn act(throw: f64, order_share: f64) -> Act {
    if throw < order_share {
        return Act::Place;
    }
    match (throw - order_share) / (1.0 - order_share) {
        rest if rest < 0.80 => Act::Advance,
        rest if rest < 0.87 => Act::Ship,
        rest if rest < 0.90 => Act::Cancel,
        _ => Act::Restock,
    }
}

/// Returns the share of new orders at this time: as the past of the shop had it.
fn order_share(since_epoch: Duration) -> f64 {
    ORDER_SHARE * shop::tide(since_epoch.as_secs_f64())
}

struct Clerk {
    url: DatabaseUrl,
    counts: Arc<Counts>,
    dice: StdRng,
    /// Orders on their way, the oldest first; no other clerk touches them.
    open: VecDeque<(i64, Status)>,
    colleagues: i64,
    number: i64,
}

/// A connection, with what is said on it again and again.
struct Desk {
    connection: Connection,
    place: Statement,
    advance: Statement,
    ship: Statement,
    cancel: Statement,
    restock: Statement,
    archive: Statement,
}

impl Clerk {
    async fn work(mut self, pace: Duration, mut stopping: watch::Receiver<bool>) {
        let mut desk = None;
        // Evenly spread over the pace, rather than all at once.
        let mut due = Instant::now() + pace.mul_f64(self.number as f64 / self.colleagues as f64);
        let mut idle_acts = 0;
        loop {
            tokio::select! {
                () = sleep_until(due) => {}
                // Also when the writer is dropped.
                _ = stopping.wait_for(|stop| *stop) => return,
            }
            due += pace;
            if due.elapsed() > BEHIND_MAX {
                due = Instant::now();
            }
            match self.step(&mut desk).await {
                Ok(true) => {
                    self.counts.commits.fetch_add(1, Ordering::Relaxed);
                    idle_acts = 0;
                }
                // Nothing to do for that act: the next one comes at once, unless there seems to be nothing to do at all.
                Ok(false) if idle_acts < IDLE_ACTS_MAX => {
                    idle_acts += 1;
                    due -= pace;
                }
                Ok(false) => {}
                Err(reason) => {
                    self.counts.failed(reason);
                    if desk.as_ref().is_some_and(|desk: &Desk| desk.connection.client().is_closed())
                    {
                        desk = None;
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Commits something; returns whether there was anything to change.
    async fn step(&mut self, desk: &mut Option<Desk>) -> Result<bool, String> {
        let desk = match desk {
            Some(desk) => desk,
            None => desk.insert(self.sit_down().await?),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let act = act(self.dice.random(), order_share(now));
        let changed = match act {
            Act::Place => self.place(desk).await,
            Act::Advance => self.advance(desk).await,
            Act::Ship => self.ship(desk).await,
            Act::Cancel => self.cancel(desk).await,
            Act::Restock => {
                let quantity: i32 = self.dice.random_range(25..=60);
                desk.connection.client().execute(&desk.restock, &[&quantity]).await
            }
        };
        changed.map(|rows| rows > 0).map_err(|error| chain(&error))
    }

    async fn sit_down(&mut self) -> Result<Desk, String> {
        let connection = connect(&self.url, &shop::session("convoy demo writer"))
            .await
            .map_err(|error| chain(&error))?;
        let client = connection.client();
        let prepared = async {
            let rows = client.query(OPEN, &[&self.colleagues, &self.number]).await?;
            let open =
                rows.iter().rev().map(|row| Ok((row.try_get(0)?, row.try_get::<_, String>(1)?)));
            let open: Vec<_> = open.collect::<Result<_, tokio_postgres::Error>>()?;
            let statements = [
                client.prepare(PLACE).await?,
                client.prepare(ADVANCE).await?,
                client.prepare(SHIP).await?,
                client.prepare(CANCEL).await?,
                client.prepare(RESTOCK).await?,
                client.prepare(ARCHIVE).await?,
            ];
            Ok((open, statements))
        };
        let (open, statements) =
            prepared.await.map_err(|error: tokio_postgres::Error| chain(&error))?;
        self.open = open
            .into_iter()
            .filter_map(|(id, status)| Some((id, Status::read(&status)?)))
            .collect();
        let [place, advance, ship, cancel, restock, archive] = statements;
        Ok(Desk { connection, place, advance, ship, cancel, restock, archive })
    }

    async fn place(&mut self, desk: &Desk) -> Result<u64, tokio_postgres::Error> {
        let customer = self.dice.random_range(1..=CUSTOMERS);
        let mut wishes = Vec::new();
        for _ in 0..self.dice.random_range(1..=LINES_MAX) {
            // Some things sell better than others, as in the shop's past.
            let taste: f64 = self.dice.random();
            let product = 1 + (taste * taste * PRODUCTS as f64) as i64;
            if !wishes.contains(&product) {
                wishes.push(product);
            }
        }
        let quantities: Vec<i32> = wishes
            .iter()
            .map(|_| {
                let want: f64 = self.dice.random();
                1 + (want * want * 3.0) as i32
            })
            .collect();
        let client = desk.connection.client();
        let row = client.query_opt(&desk.place, &[&customer, &wishes, &quantities]).await?;
        let Some(row) = row else { return Ok(0) };
        let id: i64 = row.try_get(0)?;
        self.open.push_back((id, Status::New));
        if self.open.len() > OPEN_MAX {
            self.open.pop_front();
        }
        if self.number == 0 && id % 16 == 0 {
            client.execute(&desk.archive, &[&(id - ORDERS_MAX)]).await?;
        }
        Ok(1)
    }

    /// Moves an order on: mostly one of the newest, so that the dashboard shows it.
    async fn advance(&mut self, desk: &Desk) -> Result<u64, tokio_postgres::Error> {
        let from = match self.dice.random_bool(0.7) {
            true => self.open.len().saturating_sub(16),
            false => 0,
        };
        let fits = |(at, status): (usize, Status)| match status {
            Status::New => Some((at, status, Status::Paid)),
            Status::Paid => Some((at, status, Status::Packed)),
            Status::Packed => None,
        };
        let candidates: Vec<_> =
            (from..self.open.len()).filter_map(|at| fits((at, self.open[at].1))).collect();
        if candidates.is_empty() {
            return Ok(0);
        }
        let (at, before, after) = candidates[self.dice.random_range(0..candidates.len())];
        let id = self.open[at].0;
        self.open[at].1 = after;
        let client = desk.connection.client();
        let changed =
            client.execute(&desk.advance, &[&id, &after.as_str(), &before.as_str()]).await?;
        if changed == 0 {
            // Somebody else did something to it: it is no longer ours.
            self.open.retain(|(open, _)| *open != id);
        }
        Ok(changed)
    }

    /// The courier takes a few packed orders at a time.
    async fn ship(&mut self, desk: &Desk) -> Result<u64, tokio_postgres::Error> {
        let most = self.dice.random_range(3..=8);
        let packed = self.open.iter().filter(|(_, status)| *status == Status::Packed);
        let ids: Vec<i64> = packed.map(|(id, _)| *id).take(most).collect();
        if ids.is_empty() {
            return Ok(0);
        }
        self.open.retain(|(id, _)| !ids.contains(id));
        desk.connection.client().execute(&desk.ship, &[&ids]).await
    }

    async fn cancel(&mut self, desk: &Desk) -> Result<u64, tokio_postgres::Error> {
        let Some(at) = (0..self.open.len()).rev().find(|at| self.open[*at].1 != Status::Packed)
        else {
            return Ok(0);
        };
        let Some((id, _)) = self.open.remove(at) else { return Ok(0) };
        desk.connection.client().execute(&desk.cancel, &[&id]).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acts_keep_the_shop_in_balance() {
        let throws = 100_000;
        let count = |wanted| {
            let share = |n: i32| act(f64::from(n) / f64::from(throws), ORDER_SHARE);
            f64::from((0..throws).filter(|n| share(*n) == wanted).count() as u32)
                / f64::from(throws)
        };
        let (placed, advanced, shipped) =
            (count(Act::Place), count(Act::Advance), count(Act::Ship));
        // Each order takes two steps but for the cancelled, and a courier comes for five and a half of them.
        assert!((advanced / 2.0 - placed).abs() < 0.03, "{placed} {advanced}");
        assert!(shipped * 5.5 > placed * 0.85, "{placed} {shipped}");
        assert!(count(Act::Restock) > 0.05);
    }

    #[test]
    fn business_comes_in_waves_about_its_average() {
        let shares: Vec<f64> =
            (0..100_000).map(|at| order_share(Duration::from_secs(at))).collect();
        let mean = shares.iter().sum::<f64>() / shares.len() as f64;
        assert!((mean - ORDER_SHARE).abs() < 0.005, "{mean}");
        assert!(shares.iter().all(|share| (0.1..0.5).contains(share)));
    }
}
