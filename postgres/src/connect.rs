//! From a URL to a connection: the hosts in order, encryption as libpq means its `sslmode`, the wanted kind of
//! server (PostgreSQL manual, 34.1.2 and 34.19). The TLS side is in `tls`.

use crate::error::PostgresError;
use crate::session::SessionOptions;
use crate::tls::{Tls, TlsFiles};
use convoy_types::{ChannelBinding, DatabaseUrl, Host, SslMode, TargetSessionAttrs};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, Statement};

/// How long an attempt to cancel a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be silent while the network holds data for it.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Prepared statements that a connection keeps; past it all are dropped and prepared as they are needed.
const STATEMENTS_MAX: usize = 256;

/// A connection to Postgres, with the task that drives it and the statements prepared on it.
#[derive(Debug)]
pub struct Connection {
    client: Arc<Client>,
    driver: JoinHandle<()>,
    tls: Option<Tls>,
    opened_at: Instant,
    statements: HashMap<(Arc<str>, Arc<[u32]>), Statement>,
    /// Since which change of the catalogue its statements have been prepared.
    generation: u64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        // The socket closes with the task; whoever is still waiting for an answer is told so.
        self.driver.abort();
    }
}

impl Connection {
    /// Returns the client.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Returns the client to whoever is alone with it, which one who begins a transaction has to be.
    pub fn client_mut(&mut self) -> Option<&mut Client> {
        Arc::get_mut(&mut self.client)
    }

    /// Returns whether the connection is of no more use.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.driver.is_finished()
    }

    /// Returns how long ago it was opened.
    pub(crate) fn age(&self) -> Duration {
        self.opened_at.elapsed()
    }

    /// Returns a prepared statement, preparing it at its first use on this connection.
    ///
    /// # Errors
    /// What Postgres says of the statement.
    pub async fn prepared(
        &mut self,
        sql: &Arc<str>,
        param_types: &Arc<[u32]>,
    ) -> Result<Statement, tokio_postgres::Error> {
        let key = (sql.clone(), param_types.clone());
        if let Some(statement) = self.statements.get(&key) {
            return Ok(statement.clone());
        }
        let types: Vec<Type> = param_types.iter().map(|&oid| param_type(oid)).collect();
        let statement = self.client.prepare_typed(sql, &types).await?;
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(key, statement.clone());
        Ok(statement)
    }

    /// Returns whether [`Connection::prepared`] answers at once.
    pub fn is_prepared(&self, sql: &Arc<str>, param_types: &Arc<[u32]>) -> bool {
        self.statements.contains_key(&(sql.clone(), param_types.clone()))
    }

    /// Forgets all prepared statements where the catalogue has changed since: Postgres plans them again by itself, but their
    /// names go on meaning what they meant, also where a table of that name has come earlier in the search path.
    pub(crate) fn renew(&mut self, generation: u64) {
        if self.generation != generation {
            self.statements.clear();
            self.generation = generation;
        }
    }

    /// Forgets a prepared statement whose plan is out of date; returns whether it was known.
    pub fn forget(&mut self, sql: &Arc<str>, param_types: &Arc<[u32]>) -> bool {
        self.statements.remove(&(sql.clone(), param_types.clone())).is_some()
    }

    /// Returns what closes the connection; whoever waits for an answer is told so.
    pub(crate) fn driver(&self) -> AbortHandle {
        self.driver.abort_handle()
    }

    /// Returns what can cancel this connection's statements.
    pub(crate) fn canceller(&self) -> Canceller {
        Canceller { token: self.client.cancel_token(), tls: self.tls.clone() }
    }
}

/// Cancels what a connection is doing, whatever that is when the wish arrives.
#[derive(Clone)]
pub(crate) struct Canceller {
    token: tokio_postgres::CancelToken,
    tls: Option<Tls>,
}

impl Canceller {
    /// Asks the server; does not wait for it to happen.
    pub(crate) fn cancel(self) {
        tokio::spawn(async move {
            let cancel = async {
                match self.tls {
                    Some(tls) => self.token.cancel_query(tls.connector()).await,
                    None => self.token.cancel_query(NoTls).await,
                }
            };
            if let Ok(Err(error)) = tokio::time::timeout(CANCEL_TIMEOUT, cancel).await {
                tracing::debug!(%error, "could not cancel a query");
            }
        });
    }
}

/// Returns a type of which only the oid is known, which is all that Parse needs.
pub(crate) fn param_type(oid: u32) -> Type {
    Type::from_oid(oid).unwrap_or_else(|| {
        let kind = tokio_postgres::types::Kind::Simple;
        Type::new(oid.to_string(), oid, kind, "pg_catalog".into())
    })
}

/// Whether one attempt is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Plain,
    /// Encrypted if the server can.
    Opportunistic,
    Encrypted,
}

/// Returns what is tried on one host, in order, as libpq does it.
fn attempts(mode: SslMode, host: &Host) -> &'static [Attempt] {
    match (mode, host) {
        // libpq never encrypts a Unix socket.
        (_, Host::Unix { .. }) | (SslMode::Disable, _) => &[Attempt::Plain],
        (SslMode::Allow, _) => &[Attempt::Plain, Attempt::Encrypted],
        (SslMode::Prefer, _) => &[Attempt::Opportunistic, Attempt::Plain],
        (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, _) => &[Attempt::Encrypted],
    }
}

/// When a server was started, in microseconds since 1970: `pg_postmaster_start_time()`. No two servers have one, and
/// none has the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerStart(pub i64);

/// Connects to the first of the URL's hosts that will do.
///
/// # Errors
/// [`PostgresError::Connect`] and its kin for the last host tried; certificate errors at once.
pub async fn connect(
    url: &DatabaseUrl,
    session: &SessionOptions,
) -> Result<Connection, PostgresError> {
    connect_to(url, session, None, &AtomicUsize::new(0)).await
}

/// Connects as [`connect`] does; to this very server where one is named, which is looked for first where the last one
/// was found: hosts before it may be silent, and take their time.
pub(crate) async fn connect_to(
    url: &DatabaseUrl,
    session: &SessionOptions,
    server: Option<ServerStart>,
    last_host: &AtomicUsize,
) -> Result<Connection, PostgresError> {
    let first = server.map_or(0, |_| last_host.load(Ordering::Relaxed));
    let mut last = None;
    // A standby that was met while one was merely preferred has its second chance as any server.
    let passes: &[TargetSessionAttrs] = match url.target_session_attrs {
        TargetSessionAttrs::PreferStandby => {
            &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any]
        }
        ref other => std::slice::from_ref(other),
    };
    for &wanted in passes {
        let hosts = url.hosts.iter().enumerate().cycle().skip(first).take(url.hosts.len());
        for (number, host) in hosts {
            match connect_host(url, host, session, (wanted, server)).await {
                Ok(connection) => {
                    last_host.store(number, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(
                    error @ (PostgresError::Certificate { .. }
                    | PostgresError::NoRootCertificate
                    | PostgresError::HalfIdentity
                    | PostgresError::Tls(_)),
                ) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
    }
    Err(last.unwrap_or(PostgresError::Unexpected { what: "a URL with at least one host" }))
}

async fn connect_host(
    url: &DatabaseUrl,
    host: &Host,
    session: &SessionOptions,
    (wanted, server): (TargetSessionAttrs, Option<ServerStart>),
) -> Result<Connection, PostgresError> {
    let target = target(host);
    let limit = url.connect_timeout;
    let plan = attempts(url.ssl_mode, host);
    let mut outcome = None;
    for (number, &attempt) in plan.iter().enumerate() {
        let connecting = connect_once(url, host, session, attempt, limit);
        let result = tokio::time::timeout(limit, connecting)
            .await
            .map_err(|_| PostgresError::ConnectTimeout { target: target.clone(), limit })?;
        match result {
            Ok(connection) => {
                outcome = Some(connection);
                break;
            }
            Err(Attempted::Config(error)) => return Err(error),
            Err(Attempted::Failed(source)) => {
                let last = number + 1 == plan.len();
                if last || !worth_another_way(&source) {
                    return Err(PostgresError::Connect { target, source });
                }
            }
        }
    }
    let connection = outcome.ok_or(PostgresError::Unexpected { what: "an attempt to connect" })?;
    let suits = tokio::time::timeout(limit, suits(&connection, wanted, server))
        .await
        .map_err(|_| PostgresError::ConnectTimeout { target: target.clone(), limit })??;
    match suits {
        Suits::Yes => Ok(connection),
        Suits::OtherKind(found) => {
            Err(PostgresError::WrongServer { target, found, wanted: wanted.as_str() })
        }
        Suits::OtherServer => Err(PostgresError::OtherServer { target }),
    }
}

/// Returns whether the other way (plain, encrypted) may succeed: the server let nobody in this way, or TLS failed.
fn worth_another_way(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(db) => *db.code() == SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
        None => true,
    }
}

enum Attempted {
    Config(PostgresError),
    Failed(tokio_postgres::Error),
}

async fn connect_once(
    url: &DatabaseUrl,
    host: &Host,
    session: &SessionOptions,
    attempt: Attempt,
    limit: Duration,
) -> Result<Connection, Attempted> {
    let mut config = Config::new();
    config.user(&url.user).dbname(&url.database).connect_timeout(limit);
    config.options(session.startup_options(url.options.as_deref()));
    let application_name = url.application_name.as_deref().unwrap_or(&session.application_name);
    config.application_name(application_name);
    config.keepalives_idle(Duration::from_secs(15)).tcp_user_timeout(TCP_USER_TIMEOUT);
    config.channel_binding(match url.channel_binding {
        ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
        ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
        ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
    });
    if let Some(password) = &url.password {
        config.password(password);
    }
    match host {
        Host::Tcp { name, port } => config.host(name).port(*port),
        Host::Unix { directory, port } => config.host_path(directory).port(*port),
    };
    let ssl_mode = match attempt {
        Attempt::Plain => tokio_postgres::config::SslMode::Disable,
        Attempt::Opportunistic => tokio_postgres::config::SslMode::Prefer,
        Attempt::Encrypted => tokio_postgres::config::SslMode::Require,
    };
    config.ssl_mode(ssl_mode);
    let (client, driver, tls) = if attempt == Attempt::Plain {
        let (client, connection) = config.connect(NoTls).await.map_err(Attempted::Failed)?;
        (client, tokio::spawn(drive(connection)), None)
    } else {
        let files = TlsFiles {
            root: url.ssl_root_cert.as_deref(),
            cert: url.ssl_cert.as_deref(),
            key: url.ssl_key.as_deref(),
        };
        let tls = Tls::new(url.ssl_mode, files).map_err(Attempted::Config)?;
        let connecting = config.connect(tls.connector());
        let (client, connection) = connecting.await.map_err(Attempted::Failed)?;
        (client, tokio::spawn(drive(connection)), Some(tls))
    };
    Ok(Connection {
        client: Arc::new(client),
        driver,
        tls,
        opened_at: Instant::now(),
        statements: HashMap::new(),
        generation: 0,
    })
}

async fn drive<S, T>(connection: tokio_postgres::Connection<S, T>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection to Postgres ended");
    }
}

/// Whether a connection leads where it should.
enum Suits {
    Yes,
    OtherKind(&'static str),
    OtherServer,
}

async fn suits(
    connection: &Connection,
    wanted: TargetSessionAttrs,
    server: Option<ServerStart>,
) -> Result<Suits, PostgresError> {
    if wanted == TargetSessionAttrs::Any && server.is_none() {
        return Ok(Suits::Yes);
    }
    let sql = "SELECT pg_catalog.pg_is_in_recovery(), \
               pg_catalog.current_setting('default_transaction_read_only') = 'on', \
               (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8";
    let row = connection.client.query_typed_one(sql, &[]).await?;
    let (standby, read_only): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    let start = ServerStart(row.try_get(2)?);
    let is_of_kind = match wanted {
        TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => true,
        TargetSessionAttrs::ReadWrite => !standby && !read_only,
        TargetSessionAttrs::ReadOnly => standby || read_only,
        TargetSessionAttrs::Primary => !standby,
        TargetSessionAttrs::Standby => standby,
    };
    Ok(match is_of_kind {
        false if standby => Suits::OtherKind("a standby"),
        false if read_only => Suits::OtherKind("a primary that is read-only"),
        false => Suits::OtherKind("a primary"),
        true if server.is_some_and(|server| server != start) => Suits::OtherServer,
        true => Suits::Yes,
    })
}

fn target(host: &Host) -> String {
    match host {
        Host::Tcp { name, port } if name.contains(':') => format!("[{name}]:{port}"),
        Host::Tcp { name, port } => format!("{name}:{port}"),
        Host::Unix { directory, port } => format!("{}/.s.PGSQL.{port}", directory.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp() -> Host {
        Host::Tcp { name: "db".into(), port: 5432 }
    }

    #[test]
    fn attempts_are_libpqs() {
        assert_eq!(attempts(SslMode::Disable, &tcp()), [Attempt::Plain]);
        assert_eq!(attempts(SslMode::Allow, &tcp()), [Attempt::Plain, Attempt::Encrypted]);
        assert_eq!(attempts(SslMode::Prefer, &tcp()), [Attempt::Opportunistic, Attempt::Plain]);
        assert_eq!(attempts(SslMode::Require, &tcp()), [Attempt::Encrypted]);
        let unix = Host::Unix { directory: "/tmp".into(), port: 1 };
        assert_eq!(attempts(SslMode::VerifyFull, &unix), [Attempt::Plain]);
    }

    #[test]
    fn targets_are_shown_as_one_would_type_them() {
        assert_eq!(target(&tcp()), "db:5432");
        assert_eq!(target(&Host::Tcp { name: "::1".into(), port: 1 }), "[::1]:1");
    }
}
