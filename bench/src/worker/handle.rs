//! A worker, seen from the benchmark that started it.

use super::Job;
use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// How long a worker may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// A running worker. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Worker {
    name: &'static str,
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
}

impl Worker {
    /// Starts a worker and waits until it is ready.
    pub(crate) async fn start(name: &'static str, job: &Job) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "worker"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start the {name}"))?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(orders), Some(answers), Some(errors)) = pipes else {
            bail!("the {name} has no pipes")
        };
        let mut worker =
            Worker { name, child, orders, answers: BufReader::new(answers).lines(), errors };
        worker.order(&serde_json::to_string(job)?).await?;
        let ready = worker.answer(READY_LIMIT).await?;
        if ready != "ready" {
            bail!("the {name} says {ready:?}");
        }
        Ok(worker)
    }

    /// Tells it something.
    pub(crate) async fn order(&mut self, line: &str) -> anyhow::Result<()> {
        let told = self.orders.write_all(format!("{line}\n").as_bytes()).await;
        if told.is_err() {
            // It has ended: what it said is of more use than the broken pipe.
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// Tells a receiver that no more commits come. It may have seen all and ended already.
    pub(crate) async fn stop(&mut self) {
        let _ = self.orders.write_all(b"stop\n").await;
    }

    /// Waits for its result.
    pub(crate) async fn result<Answer: DeserializeOwned>(
        mut self,
        limit: Duration,
    ) -> anyhow::Result<Answer> {
        let line = self.answer(limit).await?;
        let result = serde_json::from_str(&line)
            .with_context(|| format!("the {} answered nonsense", self.name))?;
        self.child.wait().await?;
        Ok(result)
    }

    async fn answer(&mut self, limit: Duration) -> anyhow::Result<String> {
        let line = tokio::time::timeout(limit, self.answers.next_line()).await;
        match line.with_context(|| {
            format!("the {} said nothing for {} s", self.name, limit.as_secs())
        })?? {
            Some(line) => Ok(line),
            None => Err(self.failure().await),
        }
    }

    async fn failure(&mut self) -> anyhow::Error {
        let mut said = String::new();
        // Whatever could be read of it helps.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.errors.read_to_string(&mut said))
            .await;
        anyhow::anyhow!("the {} has ended: {}", self.name, said.trim())
    }
}
