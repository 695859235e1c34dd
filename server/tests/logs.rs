//! What the servers of this process warn of, for tests that look whether what happened is said.

use std::io::Write;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Whether lines are caught: not where somebody has begun to log before.
static IS_CAUGHT: LazyLock<bool> = LazyLock::new(|| {
    let lines = tracing_subscriber::fmt::layer().with_writer(|| Line(Vec::new())).with_ansi(false);
    tracing_subscriber::registry().with(lines).with(LevelFilter::WARN).try_init().is_ok()
});

/// A line that is being written.
struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        lines().push(String::from_utf8_lossy(&self.0).into_owned());
    }
}

fn lines() -> MutexGuard<'static, Vec<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Mark(Option<usize>);

impl Mark {
    /// Returns where the log is now.
    pub fn now() -> Mark {
        Mark(IS_CAUGHT.then(|| lines().len()))
    }

    /// Checks that a line since then has all these words. Other servers of this process write to the log, too.
    pub fn expect(self, words: &[&str]) {
        let Some(from) = self.0 else { return };
        let lines = lines();
        let has_all = |line: &String| words.iter().all(|words| line.contains(words));
        assert!(lines[from..].iter().any(has_all), "never said {words:?}: {:#?}", &lines[from..]);
    }
}
