//! What the kernel says of a process, and how one is asked to end.

use crate::machine::kib_field;
use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};
use tokio::process::Child;

/// How long a child may take to end in good order.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Memory is settled when it has not changed by more than 1 % for this long.
const SETTLED_FOR: Duration = Duration::from_secs(2);
/// How long it may take to settle.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);

/// A process' memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) resident_bytes: u64,
    /// The most that it ever was.
    pub(crate) peak_bytes: u64,
}

/// Reads a process' memory (proc(5), `/proc/pid/status`).
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let field = |name| kib_field(&text, name).with_context(|| format!("{path} has no {name}"));
    Ok(Memory { resident_bytes: field("VmRSS")?, peak_bytes: field("VmHWM")? })
}

/// Waits until a process' memory has stopped changing, as the allocator gives back what is free only by and by.
pub(crate) fn settled_memory(pid: u32) -> anyhow::Result<Memory> {
    let begun = Instant::now();
    let (mut since, mut last) = (begun, memory(pid)?);
    while since.elapsed() < SETTLED_FOR && begun.elapsed() < SETTLE_LIMIT {
        // The kernel has no event for it.
        std::thread::sleep(Duration::from_millis(100));
        let now = memory(pid)?;
        if now.resident_bytes.abs_diff(last.resident_bytes) > last.resident_bytes / 100 {
            (since, last) = (Instant::now(), now);
        }
    }
    memory(pid)
}

/// Reads how much CPU time a process has used, in seconds (proc(5), `/proc/pid/stat`).
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("could not read {path}"))?;
    let ticks = cpu_ticks(&text).with_context(|| format!("{path} is not as proc(5) says"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Fields 14 and 15, after the name, which may hold blanks and parentheses itself.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    next()?.checked_add(next()?)
}

/// Asks a child to end, and makes it after a while.
pub(crate) async fn end(child: &mut Child) -> anyhow::Result<()> {
    if let Some(pid) = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
        // It may have ended by itself.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(END_LIMIT, child.wait()).await.is_err() {
        child.kill().await.context("could not kill a child process")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_cpu_time_whatever_the_name() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 9 9 9";
        assert_eq!(cpu_ticks(stat), Some(12));
        assert_eq!(cpu_ticks("42 (a"), None);
    }

    #[test]
    fn reads_this_process() {
        let memory = memory(std::process::id()).expect("our own");
        assert!(memory.resident_bytes > 0 && memory.peak_bytes >= memory.resident_bytes);
        assert!(cpu_seconds(std::process::id()).expect("our own") >= 0.0);
    }
}
