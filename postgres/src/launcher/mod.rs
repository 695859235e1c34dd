//! A private Postgres: found or fetched, started in a temporary folder, gone when we are; but for its
//! data, where these are to be kept ([`LaunchOptions::keep`]).
//!
//! Responsible for finding the programs ([`Search`]), the data folder, the process and the end of
//! both, however we end. Leaves to the caller what the databases are for, and reading the
//! environment: `PATH`, the cache folder and the temporary folder are options.
//!
//! ```no_run
//! # async fn example() -> Result<(), convoy_postgres::launcher::LaunchError> {
//! use convoy_postgres::launcher::{LaunchOptions, Locale, PrivatePostgres, Search};
//!
//! let search = Search { path: std::env::var_os("PATH"), ..Search::default() };
//! let server = PrivatePostgres::start(LaunchOptions { search, ..LaunchOptions::default() }).await?;
//! server.create_database("shop", Locale::C).await?;
//! println!("{}", server.url("shop"));
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

mod cluster;
mod discover;
mod error;
mod folder;
mod home;
mod kept;
mod npm;
mod process;
mod progress;
mod server;
mod standby;

pub use discover::{Installation, MINIMUM_MAJOR, Search, Source, Version, usual_folders};
pub use error::LaunchError;
pub use npm::NEWEST_MAJOR;
pub use progress::{Progress, Reporter};

use server::{Current, Facts, Keeper, Port, Seed};

/// How long a statement of the launcher's own (CREATE DATABASE) may take.
const STATEMENT_LIMIT: Duration = Duration::from_secs(60);
/// How often a start is tried again when somebody took its port, or when a killed predecessor's
/// processes still held its shared memory.
const ATTEMPTS_MAX: u32 = 20;

/// How long a server with kept data may at least take to start: it may have a crash to recover from.
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);

/// Whether the server waits for its disk; off loses data when the machine dies, not the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fsync {
    /// As in production: commits cost what they cost.
    On,
    /// For tests and demonstrations.
    #[default]
    Off,
}

/// Where the server listens besides its Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Listen {
    /// Nowhere.
    #[default]
    SocketOnly,
    /// On 127.0.0.1, at a free port, with a random password ([`PrivatePostgres::tcp_url`]).
    Loopback,
}

/// How a server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// SIGINT: sessions are ended, a checkpoint is written.
    Fast,
    /// SIGQUIT: everything ends at once, the next start recovers.
    Immediate,
    /// SIGKILL: as the kernel would when memory runs out, the next start recovers.
    Kill,
}

/// The locale of a database; always UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Locale {
    /// `C.UTF-8` of libc: byte order.
    #[default]
    C,
    /// ICU's `en`: `a B c` rather than `B a c`.
    IcuEn,
}

/// What a private server is to be like.
#[derive(Debug, Clone)]
pub struct LaunchOptions {
    /// Where to look for the programs.
    pub search: Search,
    /// Where the server's folder is made; short, as a socket's path has at most 107 bytes.
    pub temp_dir: PathBuf,
    /// The folder whose data stay, and are there again at the next start; it is made where it is not there. `None` for
    /// data that go with the server. One server at a time has it. The path may be of any length: the socket is not in it.
    pub keep: Option<PathBuf>,
    /// Lines of `postgresql.conf`, on top of `wal_level = logical`.
    pub settings: Vec<(String, String)>,
    /// Whether the server waits for its disk; with kept data it always does.
    pub fsync: Fsync,
    /// Whether it listens on TCP too.
    pub listen: Listen,
    /// What is told meanwhile.
    pub progress: Reporter,
    /// How long a start may take until the first connection, after `initdb`; with kept data, which may have a crash to
    /// recover from, at least two minutes.
    pub start_limit: Duration,
}

impl Default for LaunchOptions {
    fn default() -> LaunchOptions {
        LaunchOptions {
            search: Search::default(),
            temp_dir: PathBuf::from("/tmp"),
            keep: None,
            settings: Vec::new(),
            fsync: Fsync::default(),
            listen: Listen::default(),
            progress: Reporter::default(),
            start_limit: Duration::from_secs(30),
        }
    }
}

/// A running private server; its superuser is `postgres`, who needs no password on the socket.
///
/// Dropping it stops the server and removes its temporary folder, which blocks for some 100 ms and at
/// most for as long as the shutdown's limits; [`stop`](PrivatePostgres::stop) does it without blocking.
/// When the process dies without either, the server and the folder go too.
#[derive(Debug)]
pub struct PrivatePostgres {
    facts: Facts,
    current: Arc<Current>,
    start_limit: Duration,
    keeper: Keeper,
}

impl PrivatePostgres {
    /// Starts a server and waits until it takes connections.
    ///
    /// Works as root too: the server then runs as `postgres`, or `nobody`.
    ///
    /// # Errors
    /// [`LaunchError::NotFound`] and [`LaunchError::UnusableFolder`] if there are no programs,
    /// else what failed of `initdb` and the start, with the end of the log. Of kept data also
    /// [`LaunchError::InUse`], [`LaunchError::OtherVersion`], and what is wrong with their folder.
    pub async fn start(options: LaunchOptions) -> Result<PrivatePostgres, LaunchError> {
        let (mut start_limit, listen) = (options.start_limit, options.listen);
        let is_kept = options.keep.is_some();
        if is_kept {
            start_limit = start_limit.max(RECOVERY_LIMIT);
        }
        let (keeper, facts, current) = Keeper::start(options, Seed::Empty).await?;
        let server = PrivatePostgres { facts, current, start_limit, keeper };
        let again = match listen {
            // Sessions of a server that was killed may still end.
            Listen::SocketOnly if is_kept => Again::On(Port::Same),
            Listen::SocketOnly => Again::Never,
            Listen::Loopback => Again::On(Port::Another),
        };
        server.await_ready(again).await?;
        Ok(server)
    }

    /// Stops the server (fast shutdown) and removes its temporary folder; kept data stay.
    ///
    /// # Errors
    /// [`LaunchError::WouldNotStop`] if not even SIGKILL ended it.
    pub async fn stop(self) -> Result<(), LaunchError> {
        self.keeper.down(Shutdown::Fast).await?;
        // What is left, removing the folder, still blocks for milliseconds.
        let dropped = tokio::task::spawn_blocking(move || drop(self)).await;
        dropped.map_err(|_| LaunchError::Gone)
    }

    /// Stops the server and starts it on the same data, socket and port.
    ///
    /// # Errors
    /// Those of [`down`](PrivatePostgres::down) and [`up`](PrivatePostgres::up).
    pub async fn restart(&self) -> Result<(), LaunchError> {
        self.down(Shutdown::Fast).await?;
        self.up().await
    }

    /// Crashes the server and starts it again, for tests of recovery.
    ///
    /// # Errors
    /// Those of [`down`](PrivatePostgres::down) and [`up`](PrivatePostgres::up).
    pub async fn kill_immediately(&self, how: Shutdown) -> Result<(), LaunchError> {
        self.down(how).await?;
        self.up().await
    }

    /// Stops the server and keeps its data, for tests of an absent database.
    ///
    /// # Errors
    /// [`LaunchError::WouldNotStop`] if not even SIGKILL ended it.
    pub async fn down(&self, how: Shutdown) -> Result<(), LaunchError> {
        self.keeper.down(how).await
    }

    /// Starts a server that is down, and waits until it takes connections.
    ///
    /// # Errors
    /// [`LaunchError::Exited`] or [`LaunchError::Timeout`], with the end of the log.
    pub async fn up(&self) -> Result<(), LaunchError> {
        self.keeper.up(Port::Same).await?;
        self.await_ready(Again::On(Port::Same)).await
    }

    /// Creates an empty UTF-8 database.
    ///
    /// # Errors
    /// [`LaunchError::Database`] if Postgres refuses, for example because the name is taken.
    pub async fn create_database(&self, name: &str, locale: Locale) -> Result<(), LaunchError> {
        self.make_database(name, locale, IfThere::Fail).await.map(|_| ())
    }

    /// Creates an empty UTF-8 database where there is none of this name; returns whether there was none. With kept data
    /// [`is_new`](PrivatePostgres::is_new) does not say that: the first start may have ended right after `initdb`.
    ///
    /// # Errors
    /// [`LaunchError::Database`] if Postgres refuses.
    pub async fn ensure_database(&self, name: &str, locale: Locale) -> Result<bool, LaunchError> {
        self.make_database(name, locale, IfThere::Keep).await
    }

    async fn make_database(
        &self,
        name: &str,
        locale: Locale,
        if_there: IfThere,
    ) -> Result<bool, LaunchError> {
        let provider = match locale {
            Locale::C => "LOCALE_PROVIDER libc",
            Locale::IcuEn => "LOCALE_PROVIDER icu ICU_LOCALE 'en'",
        };
        let doing = format!("create the database {name:?}");
        let failed = |source| LaunchError::Database { doing: doing.clone(), source };
        let work = async {
            let (client, connection) =
                self.config("postgres").connect(tokio_postgres::NoTls).await.map_err(failed)?;
            // The connection ends when the client is dropped, so neither outlives this call.
            let statement = async move {
                // The cluster's locale: `C.UTF-8`, or `C` where the system had no such locale.
                let facts = "SELECT datcollate, EXISTS (SELECT FROM pg_database WHERE datname = $1) \
                             FROM pg_database WHERE datname = 'template0'";
                let facts = client.query_one(facts, &[&name]).await?;
                if if_there == IfThere::Keep && facts.try_get(1)? {
                    return Ok(false);
                }
                let sql = format!(
                    "CREATE DATABASE \"{}\" TEMPLATE template0 ENCODING 'UTF8' LOCALE '{}' {provider}",
                    name.replace('"', "\"\""),
                    facts.try_get::<_, String>(0)?.replace('\'', "''")
                );
                client.batch_execute(&sql).await.map(|()| true)
            };
            tokio::join!(statement, connection).0.map_err(failed)
        };
        tokio::time::timeout(STATEMENT_LIMIT, work)
            .await
            .unwrap_or_else(|_| Err(self.timeout("create database", STATEMENT_LIMIT)))
    }

    /// Returns the URL of a database over the Unix socket, as libpq and tokio-postgres take it.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@/{}?host={}&port={}",
            percent_encoded(database),
            percent_encoded(&self.facts.socket.to_string_lossy()),
            self.port()
        )
    }

    /// Returns the URL of a database over TCP, with the password; `None` without [`Listen::Loopback`].
    pub fn tcp_url(&self, database: &str) -> Option<String> {
        let password = self.facts.password.as_deref()?;
        let (database, port) = (percent_encoded(database), self.port());
        Some(format!("postgres://postgres:{password}@127.0.0.1:{port}/{database}"))
    }

    /// Returns the command that opens `psql` on a database as the superuser, if there is a `psql`.
    pub fn psql_line(&self, database: &str) -> Option<String> {
        self.psql_line_as("postgres", database)
    }

    /// Returns the command that opens `psql` on a database as this role, if there is a `psql`.
    pub fn psql_line_as(&self, role: &str, database: &str) -> Option<String> {
        let psql = self.facts.psql.as_deref()?;
        // Debian's wrapper and PATH find it by name; a path is for one that is not on PATH.
        let in_bin = psql.parent() == Some(self.bin_dir());
        let psql = if in_bin { psql.to_string_lossy() } else { "psql".into() };
        let socket = self.facts.socket.to_string_lossy();
        Some(format!(
            "{} -h {} -p {} -U {} {}",
            shell_word(&psql),
            shell_word(&socket),
            self.port(),
            shell_word(role),
            shell_word(database)
        ))
    }

    /// Returns the folder with the server's Unix socket.
    pub fn socket_dir(&self) -> &Path {
        &self.facts.socket
    }

    /// Returns the server's temporary folder, which goes with it.
    pub fn folder(&self) -> &Path {
        &self.facts.folder
    }

    /// Returns the folder of the server's data: in [`folder`](PrivatePostgres::folder), or where they are kept.
    pub fn data_dir(&self) -> &Path {
        &self.facts.data
    }

    /// Returns whether this start has made the data: `false` where kept data were there already.
    pub fn is_new(&self) -> bool {
        self.facts.is_new
    }

    /// Returns the path of the server's log.
    pub fn log(&self) -> &Path {
        &self.facts.log
    }

    /// Returns the port: the TCP port, or the number in the socket's name.
    pub fn port(&self) -> u16 {
        self.current.port.load(Ordering::Relaxed)
    }

    /// Returns the postmaster's process id; 0 while the server is down.
    pub fn pid(&self) -> u32 {
        self.current.pid.load(Ordering::Relaxed)
    }

    /// Returns the folder of the programs that run.
    pub fn bin_dir(&self) -> &Path {
        &self.facts.installation.bin
    }

    /// Returns the server's version.
    pub fn version(&self) -> &Version {
        &self.facts.installation.version
    }

    /// Returns how the programs were found.
    pub fn source(&self) -> Source {
        self.facts.installation.source
    }

    fn config(&self, database: &str) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config.host_path(&self.facts.socket).port(self.port()).user("postgres").dbname(database);
        config
    }

    /// Connects until it works, the server has ended, or the limit has passed.
    async fn await_ready(&self, again: Again) -> Result<(), LaunchError> {
        let deadline = Instant::now() + self.start_limit;
        let mut attempts = 1;
        let mut pause = Duration::from_millis(5);
        loop {
            let config = self.config("postgres");
            let connect = config.connect(tokio_postgres::NoTls);
            // Nothing else tells that a server takes connections: there is no event to wait for.
            match tokio::time::timeout_at(deadline, async { connect.await.map(drop) }).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(_)) if Instant::now() < deadline => {}
                _ => return Err(self.timeout("the start of postgres", self.start_limit)),
            }
            if let Some(status) = self.keeper.has_ended().await? {
                let log = folder::tail(&self.facts.log);
                match again {
                    Again::On(port) if attempts < ATTEMPTS_MAX && is_passing(&log) => {
                        attempts += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        self.keeper.up(port).await?;
                    }
                    _ => return Err(LaunchError::Exited { status, log }),
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    fn timeout(&self, what: &'static str, limit: Duration) -> LaunchError {
        LaunchError::Timeout { what, limit, log: folder::tail(&self.facts.log) }
    }
}

/// What becomes of a wish for a database whose name is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IfThere {
    Fail,
    Keep,
}

/// Whether a server that ended before it was ready is started again.
#[derive(Debug, Clone, Copy)]
enum Again {
    Never,
    On(Port),
}

/// Says whether the log tells of something that goes away: a port that somebody took, or the shared
/// memory or lock of a killed predecessor.
fn is_passing(log: &str) -> bool {
    ["Address already in use", "is still in use", "lock file \"postmaster.pid\" already exists"]
        .iter()
        .any(|message| log.contains(message))
}

/// RFC 3986, 2.3: all but the unreserved characters.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Quotes for a POSIX shell, where quotes are needed.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_are_percent_encoded() {
        assert_eq!(percent_encoded("/tmp/a b"), "%2Ftmp%2Fa%20b");
        assert_eq!(percent_encoded("ü"), "%C3%BC");
    }

    #[test]
    fn shell_words_are_quoted_only_if_they_must_be() {
        assert_eq!(shell_word("/tmp/convoy-pg-1"), "/tmp/convoy-pg-1");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
    }
}
