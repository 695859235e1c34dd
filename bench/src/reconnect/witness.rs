//! What others feel of it: one who writes a row and waits for it, again and again.

use super::SERVED_LIMIT;
use super::connection::{Connection, Event};
use crate::samples::Samples;
use crate::serve::Serve;
use crate::target::session;
use anyhow::{Context, bail};
use convoy_postgres::connect;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Somebody else, on a thread of his own: writes a row and waits for it, again and again.
pub(super) struct Witness {
    stop: Arc<AtomicBool>,
    watches: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<i64>>>,
}

impl Witness {
    pub(super) fn start(serve: &Serve, database_url: &str) -> anyhow::Result<Self> {
        let (stop, watches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (address, url) = (serve.address(), database_url.to_owned());
        let (stopped, watching) = (stop.clone(), watches.clone());
        let thread = std::thread::Builder::new().name("witness".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(witness(address, &url, &stopped, &watching))
        })?;
        Ok(Witness { stop, watches, thread })
    }

    pub(super) async fn until_it_watches(&self) -> anyhow::Result<()> {
        while !self.watches.load(Ordering::Acquire) {
            if self.thread.is_finished() {
                bail!("the witness is gone before it began");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    pub(super) async fn end(self) -> anyhow::Result<Samples> {
        self.stop.store(true, Ordering::Release);
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let nanos = ended.map_err(|_| anyhow::anyhow!("the witness panicked"))??;
        Ok(nanos.into_iter().collect())
    }
}

async fn witness(
    address: SocketAddr,
    url: &str,
    stop: &AtomicBool,
    watches: &AtomicBool,
) -> anyhow::Result<Vec<i64>> {
    let database = connect(&url.parse()?, &session()).await?;
    let body =
        json!({"subscribe": [{"sub": "w", "sql": "select id, n from convoy_bench.witness"}]});
    let mut stream = Connection::open(address, &body.to_string()).await?;
    let mut next = async || loop {
        let block = stream.next().await?.context("the witness' stream ended")?;
        let Some(event) = Event::read(&block)? else { continue };
        match event.data["updates"].get(0) {
            Some(_) => return anyhow::Ok(()),
            None if event.name == "goodbye" => bail!("the witness was told {}", event.data),
            None => {}
        }
    };
    next().await?;
    watches.store(true, Ordering::Release);
    let mut nanos = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let sql = "UPDATE convoy_bench.witness SET n = n + 1";
        let begun = Instant::now();
        database.client().batch_execute(sql).await?;
        timeout(SERVED_LIMIT, next()).await.context("the witness waits in vain")??;
        nanos.push(i64::try_from(begun.elapsed().as_nanos())?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(nanos)
}
