//! The server that is measured: this executable's `serve`, as a child.

use crate::http;
use crate::process;
use anyhow::{Context, bail};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// How long it may take until the server is ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Lines of what it says that are kept, to show them when it fails.
const LINES_KEPT: usize = 20;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Serve {
    child: Child,
    address: SocketAddr,
    said: Arc<Mutex<VecDeque<String>>>,
    /// Empty: a project that stands where the benchmark was started is none of it.
    _project: TempDir,
}

impl Serve {
    /// Starts a server on a free port and waits until it is ready.
    pub(crate) async fn start(database_url: &str) -> anyhow::Result<Self> {
        Self::start_with(database_url, &[]).await
    }

    /// Starts a server with more options.
    pub(crate) async fn start_with(database_url: &str, options: &[&str]) -> anyhow::Result<Self> {
        let address = free_address()?;
        let project = tempfile::tempdir().context("a folder for a project")?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--allow-sql", "--listen", &address.to_string(), "--project"])
            .arg(project.path())
            .args(options)
            // Not as an argument: everybody may read those.
            .env("DATABASE_URL", database_url)
            .env("CONVOY_DATABASE_URL", database_url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("could not start convoy serve")?;
        let said = Arc::default();
        child.stdout.take().map(|out| tokio::spawn(listen(out, Arc::clone(&said))));
        child.stderr.take().map(|out| tokio::spawn(listen(out, Arc::clone(&said))));
        let mut serve = Serve { child, address, said, _project: project };
        let ready = tokio::time::timeout(READY_LIMIT, serve.await_ready()).await;
        ready
            .with_context(|| {
                format!("convoy serve was not ready after {} s", READY_LIMIT.as_secs())
            })
            .flatten()?;
        Ok(serve)
    }

    async fn await_ready(&mut self) -> anyhow::Result<()> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                // What it said last may still be on its way through the pipe.
                tokio::time::sleep(Duration::from_millis(50)).await;
                bail!("convoy serve ended with {status}:\n{}", self.last_words());
            }
            // Before it listens, the connection is refused.
            if http::get(self.address, "/readyz").await.is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        self.child.id().with_context(|| format!("convoy serve has ended:\n{}", self.last_words()))
    }

    /// Returns what it said last.
    pub(crate) fn last_words(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        process::end(&mut self.child).await
    }
}

/// Returns an address where nobody listened a moment ago.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("could not find a free port")?;
    Ok(listener.local_addr()?)
}

/// Reads all that a child says, so that it never waits, and keeps the end.
async fn listen(out: impl AsyncRead + Unpin, said: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == LINES_KEPT {
            said.pop_front();
        }
        said.push_back(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_alone() {
        let said = Arc::new(Mutex::default());
        let text: String = (0..30).map(|line| format!("line {line}\n")).collect();
        listen(text.as_bytes(), Arc::clone(&said)).await;
        let said = said.lock().expect("nobody panicked");
        assert_eq!((said.len(), said.back().map(String::as_str)), (LINES_KEPT, Some("line 29")));
    }
}
