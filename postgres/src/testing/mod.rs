//! For tests: one private server for a test binary, a fresh database for each test.
//!
//! Unlike the rest of the library this reads the environment, so that a run can be pointed at
//! another version: `CONVOY_TEST_PG_BIN` names the folder of the Postgres programs to use, and
//! `CONVOY_TEST_PG_MAJOR` a major version, which is fetched where there is none.

mod dice;
mod tls;
pub mod values;

pub use dice::{Dice, seeds};
pub use tls::{Encrypted, TlsServer};

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use crate::launcher::{LaunchOptions, Locale, PrivatePostgres, Search};

/// Names the folder of the Postgres programs that tests run against.
pub const PG_BIN_VARIABLE: &str = "CONVOY_TEST_PG_BIN";
/// Says which major version tests run against.
pub const PG_MAJOR_VARIABLE: &str = "CONVOY_TEST_PG_MAJOR";

/// Postgres' limit for a name (`NAMEDATALEN` less one), less room for a number.
const HINT_BYTES_MAX: usize = 50;

static SHARED: OnceCell<TestServer> = OnceCell::const_new();

/// A server that tests share; slots and roles are the cluster's, so their names must differ.
#[derive(Debug)]
pub struct TestServer {
    postgres: PrivatePostgres,
    databases: AtomicU32,
}

/// Returns this process' server, started at the first call.
///
/// It belongs to no runtime, and nothing of it stays when the process ends, however it ends.
///
/// # Panics
/// If it can't be started, with the reason.
pub async fn shared() -> &'static TestServer {
    let started = SHARED.get_or_try_init(|| async {
        let postgres = PrivatePostgres::start(options()).await?;
        Ok::<_, crate::launcher::LaunchError>(TestServer { postgres, databases: AtomicU32::new(0) })
    });
    match started.await {
        Ok(server) => server,
        Err(error) => panic!("no Postgres to test with: {}", chain(&error)),
    }
}

/// Returns the options for a server of a test's own, for tests that stop or crash it.
pub fn options() -> LaunchOptions {
    let settings = [
        ("max_connections", "200"),
        ("max_wal_senders", "50"),
        ("max_replication_slots", "50"),
        ("max_prepared_transactions", "20"),
        ("shared_buffers", "64MB"),
    ];
    LaunchOptions {
        search: search(),
        settings: settings.map(|(name, value)| (name.into(), value.into())).into(),
        ..LaunchOptions::default()
    }
}

/// Returns the search that tests use: the variables, `PATH`, the usual folders, the user's cache.
///
/// # Panics
/// If the major version that is asked for is no number.
pub fn search() -> Search {
    let major = std::env::var(PG_MAJOR_VARIABLE).ok().filter(|major| !major.is_empty());
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    Search {
        pg_bin: std::env::var_os(PG_BIN_VARIABLE).map(PathBuf::from),
        major: major.map(|major| {
            major.parse().unwrap_or_else(|_| panic!("{PG_MAJOR_VARIABLE} is 18, say, not {major}"))
        }),
        path: std::env::var_os("PATH"),
        cache_dir: cache.or_else(home),
        ..Search::default()
    }
}

impl TestServer {
    /// Creates a database whose name starts like `name_hint`, in byte order, and returns its URL.
    ///
    /// # Panics
    /// If Postgres refuses, with the reason.
    pub async fn database(&self, name_hint: &str) -> String {
        self.database_with(name_hint, Locale::C).await
    }

    /// Creates a database with this locale and returns its URL.
    ///
    /// # Panics
    /// If Postgres refuses, with the reason.
    pub async fn database_with(&self, name_hint: &str, locale: Locale) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{number}", plain(name_hint));
        if let Err(error) = self.postgres.create_database(&name, locale).await {
            panic!("no database to test with: {}", chain(&error));
        }
        self.postgres.url(&name)
    }

    /// Returns the server itself. It is shared: a test that stops it needs one of its own.
    pub fn postgres(&self) -> &PrivatePostgres {
        &self.postgres
    }
}

/// Makes a name that needs no quotes.
fn plain(hint: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("t_{}", hint.chars().map(plain).take(HINT_BYTES_MAX).collect::<String>())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_databases_need_no_quotes() {
        assert_eq!(plain("Orders::by-tenant"), "t_orders__by_tenant");
        assert_eq!(plain(&"ä".repeat(90)).len(), HINT_BYTES_MAX + 2);
    }
}
