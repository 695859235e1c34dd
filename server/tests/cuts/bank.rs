//! A bank: accounts and wallets among which writers move money, each move one transaction. The total is always the same,
//! and the sum of all stamps says exactly which transactions a state includes.

use crate::oracle::Dice;
use crate::support::{connect, text};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use tokio_postgres::Client;

pub const ACCOUNTS: i64 = 24;
const BRANCHES: i64 = 4;
/// What each account and each wallet has at first.
const BEGINNING: i64 = 1000;
pub const TOTAL: i64 = ACCOUNTS * BEGINNING * 2;

/// Writers, at most: each has a decimal place of its own in a stamp, of this many digits.
pub const WRITERS_MAX: u32 = 4;
const PLACE: i64 = 40_000;
/// At most so many moves of one writer.
const MOVES_MAX: i64 = PLACE - 1;

/// How writers go about it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manners {
    /// What each writer's session has set, by its number.
    pub commit: [&'static str; WRITERS_MAX as usize],
    /// Whether the last writer leaves prepared transactions open.
    pub prepares: bool,
}

/// Makes the tables. Only with FULL are sums kept without asking.
pub async fn open(client: &Client, identity: &str) {
    let script = format!(
        "create table accounts (id int4 primary key, branch int4 not null, balance int8 not null, stamp int8 not null);
         create table wallets (account int4 primary key, balance int8 not null, stamp int8 not null);
         alter table accounts replica identity {identity};
         alter table wallets replica identity {identity};
         insert into accounts select n, n % {BRANCHES}, {BEGINNING}, 0 from generate_series(1, {ACCOUNTS}) n;
         insert into wallets select n, {BEGINNING}, 0 from generate_series(1, {ACCOUNTS}) n"
    );
    client.batch_execute(&script).await.expect("a bank");
}

/// How many transactions of each writer a sum of stamps includes.
pub fn counts(stamps: i64) -> [i64; WRITERS_MAX as usize] {
    let mut rest = stamps;
    std::array::from_fn(|_| {
        let count = rest % PLACE;
        rest /= PLACE;
        count
    })
}

/// Whether everything that one state includes is in the other.
pub fn is_part_of(earlier: i64, later: i64) -> bool {
    counts(earlier).iter().zip(counts(later)).all(|(earlier, later)| *earlier <= later)
}

/// What has been committed: a sum of stamps.
pub type Committed = Arc<AtomicI64>;

/// Makes a writer's moves, and adds what it has committed.
pub async fn write(
    url: String,
    seed: u64,
    writer: u32,
    manners: Manners,
    committed: Committed,
    stop: Arc<AtomicBool>,
) {
    let client = connect(&url).await;
    // Who waits for a prepared transaction's row goes elsewhere.
    let settings = format!(
        "set lock_timeout = '100ms'; set synchronous_commit = {}",
        manners.commit[writer as usize]
    );
    client.batch_execute(&settings).await.expect("settings");
    let mut dice = Dice::new(seed, u64::from(writer));
    let (mut done, mut tried) = (0, 0);
    let mut prepared: Vec<String> = Vec::new();
    while done < MOVES_MAX && !stop.load(Ordering::Relaxed) {
        let stamp = PLACE.pow(writer);
        let (body, counts) = one_move(&mut dice, stamp);
        let prepares = manners.prepares && writer == WRITERS_MAX - 1;
        tried += 1;
        let gid = format!("bank_{seed}_{tried}");
        let end = match (counts, prepares) {
            (false, _) => "rollback".to_owned(),
            (true, false) => "commit".to_owned(),
            (true, true) => format!("prepare transaction '{gid}'"),
        };
        match client.batch_execute(&format!("begin; {body}; {end}")).await {
            Ok(()) if counts && prepares => prepared.push(gid),
            Ok(()) if counts => {
                committed.fetch_add(stamp, Ordering::SeqCst);
                done += 1;
            }
            Ok(()) => {}
            Err(error) => {
                assert!(error.as_db_error().is_some(), "{body}: {error}");
                client.batch_execute("rollback").await.expect("a rollback");
            }
        }
        if dice.percent(30) {
            // So that there are states between, and not all is one batch.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // The oldest first, or the newest, while others are open.
        if prepared.len() > dice.below(3) || (!prepared.is_empty() && dice.percent(30)) {
            let gid = prepared.remove(dice.below(prepared.len()));
            let commits = dice.percent(80);
            let how = if commits { "commit" } else { "rollback" };
            client.batch_execute(&format!("{how} prepared '{gid}'")).await.expect("an end of it");
            if commits {
                committed.fetch_add(stamp, Ordering::SeqCst);
                done += 1;
            }
        }
    }
    for gid in prepared {
        client.batch_execute(&format!("rollback prepared '{gid}'")).await.expect("an end of it");
    }
}

/// Returns a move, and whether it is to be committed.
fn one_move(dice: &mut Dice, stamp: i64) -> (String, bool) {
    let (one, other) = (dice.between(1, ACCOUNTS), dice.between(1, ACCOUNTS));
    // In the order of the rows, so that writers do not wait for each other in a circle.
    let (first, second) = (one.min(other), one.max(other));
    let wallet = dice.between(1, ACCOUNTS);
    // Small, so that balances are often the same.
    let (amount, kept) = (dice.between(-3, 3), dice.between(-2, 2));
    // Who waited for a row that somebody put in place of itself finds none: then the whole move is undone.
    let sure = |update: &str| {
        format!("with done as (update {update} returning 1) select 1 / count(*) from done")
    };
    let mut body = vec![
        sure(&format!(
            "accounts set balance = balance - {amount} - {kept}, stamp = stamp + {stamp} where id = {first}"
        )),
        sure(&format!("accounts set balance = balance + {amount} where id = {second}")),
        sure(&format!(
            "wallets set balance = balance + {kept}, stamp = stamp + {stamp} where account = {wallet}"
        )),
    ];
    if dice.percent(15) {
        let branch = dice.below(BRANCHES as usize);
        body.insert(2, format!("update accounts set branch = {branch} where id = {second}"));
    }
    if dice.percent(15) {
        // Closed, and opened again under its number.
        body.insert(
            2,
            format!(
                "with closed as (delete from accounts where id = {second} returning *) \
                 insert into accounts select * from closed"
            ),
        );
    }
    if dice.percent(20) {
        let undone = format!(
            "savepoint s; update accounts set balance = balance + 500, stamp = stamp + {stamp} where id = {second}; \
             rollback to savepoint s"
        );
        body.insert(2, undone);
    }
    if dice.percent(20) {
        let at = body.len() - 1;
        let kept = format!("savepoint k; {}; release savepoint k", body[at]);
        body[at] = kept;
    }
    (body.join("; "), dice.percent(90))
}

/// The sum of stamps that Postgres shows.
pub async fn stamps(client: &Client) -> i64 {
    let shown = text(client, "select sum(stamp)::text from accounts").await;
    shown.and_then(|stamps| stamps.parse().ok()).expect("a sum")
}
