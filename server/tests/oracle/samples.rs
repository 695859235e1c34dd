//! What Postgres shows at the very snapshots at which Convoy reads: each sampled one is imported while it can be, and all
//! queries are asked at it.

use super::asked::{Answer, Asked, connect};
use super::live::{Moment, OnClosed};
use super::queries::Query;
use std::collections::BTreeMap;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_postgres::Client;

/// Answers by moment and query.
pub type Samples = Arc<Mutex<BTreeMap<Moment, BTreeMap<usize, Answer>>>>;

/// How long the engine's thread may stand still for a snapshot to be imported.
const IMPORT_MAX: Duration = Duration::from_millis(300);

struct Request {
    moment: Moment,
    snapshot: String,
    imported: SyncSender<()>,
}

/// Tables that a TRUNCATE has emptied since the snapshot: at it, they look empty and were not (docs/postgres.md, P3).
const REWRITTEN: &str = "SELECT EXISTS (SELECT FROM pg_class WHERE relkind = 'r' \
    AND relnamespace = 'public'::regnamespace AND pg_relation_filenode(oid) IS DISTINCT FROM relfilenode)";

/// Starts the sampler; returns what is to be called when a snapshot closes, and where the answers will be.
pub async fn sampler(url: &str, queries: &[Query], locks: String) -> (OnClosed, Samples) {
    let client = connect(url).await;
    let mut asked = Vec::new();
    for (number, query) in queries.iter().enumerate().filter(|(_, query)| !query.on_interval) {
        asked.push((number, Asked::prepare(&client, query).await));
    }
    let samples = Samples::default();
    let (requests, mut inbox) = mpsc::channel::<Request>(1);
    let answers = samples.clone();
    tokio::spawn(async move {
        while let Some(request) = inbox.recv().await {
            let moment = request.moment;
            // Where somebody waits to TRUNCATE there is none: another time.
            if let Ok(Some(taken)) = sample(&client, &asked, &locks, request).await {
                answers.lock().unwrap_or_else(PoisonError::into_inner).insert(moment, taken);
            }
            let _ = client.batch_execute("ROLLBACK").await;
        }
    });
    let on_closed = Box::new(move |moment, snapshot: &str| {
        let (imported, is_imported) = sync_channel(1);
        // One at a time: while it is busy, snapshots close unseen.
        if requests.try_send(Request { moment, snapshot: snapshot.to_owned(), imported }).is_ok() {
            let _ = is_imported.recv_timeout(IMPORT_MAX);
        }
    });
    (on_closed, samples)
}

async fn sample(
    client: &Client,
    asked: &[(usize, Asked)],
    locks: &str,
    request: Request,
) -> Result<Option<BTreeMap<usize, Answer>>, tokio_postgres::Error> {
    client
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '20ms'; \
             LOCK TABLE {locks} IN ACCESS SHARE MODE; SET TRANSACTION SNAPSHOT '{}'",
            request.snapshot
        ))
        .await?;
    let rewritten: bool = client.query_one(REWRITTEN, &[]).await?.get(0);
    let _ = request.imported.send(());
    if rewritten {
        return Ok(None);
    }
    let mut answers = BTreeMap::new();
    for (number, asked) in asked {
        answers.insert(*number, asked.ask(client).await?);
    }
    Ok(Some(answers))
}
