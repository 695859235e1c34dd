//! The server's process, and the thread that keeps it.
//!
//! All that blocks (search, download, `initdb`, waiting for an end) happens on that thread, which
//! lives as long as the server: the kernel's signal at the parent's death is one at the death of
//! the *thread* that forked (prctl(2), `PR_SET_PDEATHSIG`), and async runtimes come and go.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::discover::{self, Installation, Source};
use super::error::LaunchError;
use super::folder::{self, RunFolder};
use super::process::{self, Account, Signal, Waited};
use super::progress::Progress;
use super::standby;
use super::{Fsync, LaunchOptions, Listen, Shutdown};

/// How long `initdb` may take; it is one second on an idle machine.
const INITDB_LIMIT: Duration = Duration::from_secs(120);
/// How long a fast shutdown may take before an immediate one is asked for, and that before SIGKILL.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// The same for a server whose data go with it. A fast shutdown waits until every replication
/// client has received all; in a drop that client may be on the very thread that waits here.
const DISCARD_LIMIT: Duration = Duration::from_millis(500);
/// The port where nothing listens on TCP: it only names the socket.
const SOCKET_PORT: u16 = 5432;

/// What does not change while the server lives.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) installation: Installation,
    pub(super) folder: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) password: Option<String>,
    /// The libc locale of the cluster: `C.UTF-8`, or `C` where the system has no such locale.
    pub(super) libc_locale: &'static str,
    pub(super) psql: Option<PathBuf>,
}

/// What changes, readable without asking the thread. Written by the thread alone.
#[derive(Debug, Default)]
pub(super) struct Current {
    /// 0 while no server runs.
    pub(super) pid: AtomicU32,
    pub(super) port: AtomicU16,
}

/// Whether a server gets its old port again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    Same,
    /// Another one was taken in the moment between choosing and binding it.
    Another,
}

/// What a data folder begins with.
#[derive(Debug, Clone)]
pub(super) enum Seed {
    /// A cluster that `initdb` makes.
    Empty,
    /// The files of a running server in backup mode. The new one is not started with it: it lacks the label.
    CopyOf(PathBuf),
}

/// Everything that the keeping thread can be asked to do.
enum Order {
    Up(Port, oneshot::Sender<Result<(), LaunchError>>),
    Down(Shutdown, oneshot::Sender<Result<(), LaunchError>>),
    /// How the server ended, if it has.
    HasEnded(oneshot::Sender<Option<ExitStatus>>),
}

/// The handle of the thread; dropping it stops the server and waits for that.
#[derive(Debug)]
pub(super) struct Keeper {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, which finds, prepares and (of an empty seed) spawns a server; it may not be ready yet.
    pub(super) async fn start(
        options: LaunchOptions,
        seed: Seed,
    ) -> Result<(Keeper, Facts, Arc<Current>), LaunchError> {
        let (started_tx, started_rx) = oneshot::channel();
        let (orders, inbox) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("postgres-keeper".into())
            .spawn(move || keep(&options, &seed, started_tx, &inbox))
            .map_err(LaunchError::io("start the thread that keeps Postgres"))?;
        // The handle is made at once: should our caller give up, its drop ends the thread.
        let keeper = Keeper { orders: Some(orders), thread: Some(thread) };
        let (facts, current) = started_rx.await.map_err(|_| LaunchError::Gone)??;
        Ok((keeper, facts, current))
    }

    pub(super) async fn up(&self, port: Port) -> Result<(), LaunchError> {
        self.ask(|reply| Order::Up(port, reply)).await?
    }

    pub(super) async fn down(&self, how: Shutdown) -> Result<(), LaunchError> {
        self.ask(|reply| Order::Down(how, reply)).await?
    }

    pub(super) async fn has_ended(&self) -> Result<Option<ExitStatus>, LaunchError> {
        self.ask(Order::HasEnded).await
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, LaunchError> {
        let (reply, answer) = oneshot::channel();
        let orders = self.orders.as_ref().ok_or(LaunchError::Gone)?;
        orders.send(order(reply)).map_err(|_| LaunchError::Gone)?;
        answer.await.map_err(|_| LaunchError::Gone)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // Bounded: the thread's own waits are.
            let _ = thread.join();
        }
    }
}

type Started = Result<(Facts, Arc<Current>), LaunchError>;

/// The thread's life.
fn keep(
    options: &LaunchOptions,
    seed: &Seed,
    started: oneshot::Sender<Started>,
    inbox: &mpsc::Receiver<Order>,
) {
    let mut server = match Server::prepare(options, seed, &|| started.is_closed()) {
        Ok(server) => server,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let spawned = match seed {
        Seed::Empty => server.up(Port::Another),
        Seed::CopyOf(_) => Ok(()),
    };
    let answer = spawned.map(|()| (server.facts.clone(), server.current.clone()));
    if started.send(answer).is_err() {
        return;
    }
    while let Ok(order) = inbox.recv() {
        // A caller that no longer waits for its answer is no error.
        match order {
            Order::Up(port, reply) => drop(reply.send(server.up(port))),
            Order::Down(how, reply) => drop(reply.send(server.down(how, STOP_LIMIT))),
            Order::HasEnded(reply) => drop(reply.send(server.has_ended())),
        }
    }
}

/// One data folder and the process that runs on it, if one does.
struct Server {
    facts: Facts,
    current: Arc<Current>,
    account: Option<Account>,
    listen: Listen,
    /// Before `folder`, so that the process is gone when the folder goes.
    process: Option<Child>,
    folder: RunFolder,
}

impl Server {
    /// Finds the programs and makes the data folder.
    fn prepare(
        options: &LaunchOptions,
        seed: &Seed,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Server, LaunchError> {
        folder::sweep(&options.temp_dir);
        let account = Account::to_change_to();
        let found =
            discover::find(&options.search, account.as_ref(), &options.progress, cancelled)?;
        let folder = RunFolder::new(&options.temp_dir, account.as_ref())?;
        let mut installation = found.clone();
        if let Some(account) = &account
            && found.source == Source::Npm
            && !account.can_run(&found.bin.join("postgres"))
        {
            // Root's cache is closed to others, and to the account that the server runs as.
            installation.bin = folder.adopt_programs(&found.bin)?;
        }
        let version = installation.version.clone();
        options.progress.report(&Progress::Initializing { version });
        let password = (options.listen == Listen::Loopback).then(random_password);
        let libc_locale = match seed {
            Seed::Empty => {
                let (bin, password) = (&installation.bin, password.as_deref());
                initdb(bin, &folder, account.as_ref(), password, cancelled)?
            }
            Seed::CopyOf(data) => {
                standby::copy_data(data, &folder.data(), account.as_ref())
                    .map_err(LaunchError::io(format!("copy {}", data.display())))?;
                // Of use for databases that are made, which a standby makes none of.
                "C"
            }
        };
        configure(options, &folder)?;
        let facts = Facts {
            folder: folder.path().to_owned(),
            socket: folder.socket(),
            log: folder.log(),
            psql: discover::psql(&options.search, &installation.bin),
            installation,
            password,
            libc_locale,
        };
        options.progress.report(&Progress::Starting);
        let current = Arc::default();
        Ok(Server { facts, current, account, listen: options.listen, process: None, folder })
    }

    fn up(&mut self, port: Port) -> Result<(), LaunchError> {
        if self.process.is_some() && self.has_ended().is_none() {
            return Ok(());
        }
        if port == Port::Another {
            let port = match self.listen {
                Listen::SocketOnly => SOCKET_PORT,
                Listen::Loopback => free_port()?,
            };
            self.current.port.store(port, Ordering::Relaxed);
        }
        let log = self.folder.open_log()?;
        let log_too = log.try_clone().map_err(LaunchError::io("open the server's log"))?;
        let mut command = postgres_command(&self.facts.installation.bin, "postgres", &self.folder);
        command
            .arg("-D")
            .arg(self.folder.data())
            .arg("-p")
            .arg(self.current.port.load(Ordering::Relaxed).to_string())
            .stdout(log)
            .stderr(log_too);
        process::bind_to_this_thread(&mut command, self.account.as_ref(), Signal::Int);
        let child = command.spawn().map_err(LaunchError::io("start postgres"))?;
        self.current.pid.store(child.id(), Ordering::Relaxed);
        self.process = Some(child);
        Ok(())
    }

    /// Stops the server and reaps it; one that does not obey gets the next harder signal.
    ///
    /// `patience` is what the first signal gets.
    fn down(&mut self, how: Shutdown, patience: Duration) -> Result<(), LaunchError> {
        let Some(child) = &mut self.process else { return Ok(()) };
        let signals = match how {
            Shutdown::Fast => &[Signal::Int, Signal::Quit, Signal::Kill][..],
            Shutdown::Immediate => &[Signal::Quit, Signal::Kill],
            Shutdown::Kill => &[Signal::Kill],
        };
        let mut limit = patience;
        for signal in signals {
            if matches!(child.try_wait(), Ok(None)) {
                // Not reaped yet, so the pid is still its.
                process::send(child.id(), *signal);
            }
            let waited = process::wait(child, limit, &|| false, || ());
            limit = STOP_LIMIT;
            if let Waited::Ended(_) = waited.map_err(LaunchError::io("wait for postgres"))? {
                self.current.pid.store(0, Ordering::Relaxed);
                self.process = None;
                return Ok(());
            }
            tracing::warn!(pid = child.id(), ?signal, "the private Postgres does not stop");
        }
        Err(LaunchError::WouldNotStop { pid: child.id(), limit: STOP_LIMIT })
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.try_wait().ok()??;
        self.current.pid.store(0, Ordering::Relaxed);
        Some(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.down(Shutdown::Fast, DISCARD_LIMIT) {
            tracing::error!(%error, "the private Postgres was left running");
        }
    }
}

/// Returns a command in the folder, without what the caller's environment says to Postgres.
fn postgres_command(bin: &Path, program: &str, folder: &RunFolder) -> Command {
    let mut command = Command::new(bin.join(program));
    // Our own working folder may be closed to the account that this runs as.
    command.current_dir(folder.data()).stdin(Stdio::null());
    for variable in ["PGDATA", "PGPORT", "PGHOST", "PGUSER", "PGDATABASE", "PGOPTIONS", "LANGUAGE"]
    {
        command.env_remove(variable);
    }
    // Messages in English: some of them are looked for, and all are searched for.
    command.env("LC_ALL", "C");
    command
}

/// Makes the data folder and returns the locale that it took.
fn initdb(
    bin: &Path,
    folder: &RunFolder,
    account: Option<&Account>,
    password: Option<&str>,
    cancelled: &dyn Fn() -> bool,
) -> Result<&'static str, LaunchError> {
    let password_file = folder.path().join("password");
    if let Some(password) = password {
        let doing = || LaunchError::io("write the password for initdb");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&password_file)
            .map_err(doing())?;
        file.write_all(password.as_bytes()).map_err(doing())?;
        if let Some(account) = account {
            chown(&password_file, Some(account.uid), Some(account.gid)).map_err(doing())?;
        }
    }
    let run = |locale: &'static str| -> Result<ExitStatus, LaunchError> {
        let log = folder.open_log()?;
        let log_too = log.try_clone().map_err(LaunchError::io("open initdb's log"))?;
        let mut command = postgres_command(bin, "initdb", folder);
        command
            .args(["-U", "postgres", "--encoding=UTF8", "--no-sync", "--no-instructions"])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .arg(format!("--locale={locale}"))
            .arg("-D")
            .arg(folder.data())
            .stdout(log)
            .stderr(log_too);
        if password.is_some() {
            command.arg("--pwfile").arg(&password_file);
        }
        process::bind_to_this_thread(&mut command, account, Signal::Int);
        let mut child = command.spawn().map_err(LaunchError::io("start initdb"))?;
        let waited = process::wait(&mut child, INITDB_LIMIT, cancelled, || ());
        match waited.map_err(LaunchError::io("wait for initdb"))? {
            Waited::Ended(status) => Ok(status),
            unfinished => {
                end_initdb(&mut child);
                Err(match unfinished {
                    Waited::Cancelled => LaunchError::Cancelled,
                    _ => LaunchError::Timeout {
                        what: "initdb",
                        limit: INITDB_LIMIT,
                        log: folder::tail(&folder.log()),
                    },
                })
            }
        }
    };
    let mut locale = "C.UTF-8";
    let mut status = run(locale)?;
    if !status.success() && folder::tail(&folder.log()).contains("invalid locale name") {
        locale = "C";
        status = run(locale)?;
    }
    if password.is_some() {
        let _ = fs::remove_file(&password_file);
    }
    match status.success() {
        true => Ok(locale),
        false => Err(LaunchError::Initdb { status, output: folder::tail(&folder.log()) }),
    }
}

/// Ends `initdb` in order: on SIGINT it lets the server of the step under way end, which frees its shared memory and
/// writes nothing more into the folder, and then ends too. Killed, it would leave that server behind.
fn end_initdb(child: &mut Child) {
    process::send(child.id(), Signal::Int);
    if !matches!(process::wait(child, STOP_LIMIT, &|| false, || ()), Ok(Waited::Ended(_))) {
        process::send(child.id(), Signal::Kill);
        let _ = child.wait();
    }
}

/// Appends our settings, then the caller's, to `postgresql.conf`: of two the later one holds.
fn configure(options: &LaunchOptions, folder: &RunFolder) -> Result<(), LaunchError> {
    let socket = folder.socket().display().to_string();
    let ours = [
        ("listen_addresses", if options.listen == Listen::Loopback { "127.0.0.1" } else { "" }),
        ("unix_socket_directories", socket.as_str()),
        ("unix_socket_permissions", "0700"),
        ("wal_level", "logical"),
        ("fsync", if options.fsync == Fsync::On { "on" } else { "off" }),
        ("logging_collector", "off"),
    ];
    let theirs = options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let lines: String = ours
        .into_iter()
        .chain(theirs)
        .map(|(name, value)| format!("{name} = '{}'\n", quoted(value)))
        .collect();
    fs::OpenOptions::new()
        .append(true)
        .open(folder.data().join("postgresql.conf"))
        .and_then(|mut file| file.write_all(format!("\n# Convoy\n{lines}").as_bytes()))
        .map_err(LaunchError::io("write postgresql.conf"))
}

/// Quotes for postgresql.conf, where a backslash escapes too (manual, 20.1.2).
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n")
}

fn free_port() -> Result<u16, LaunchError> {
    TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(LaunchError::io("find a free port on 127.0.0.1"))
}

fn random_password() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_quoted_as_the_configuration_file_wants_it() {
        assert_eq!(quoted(r"it's a \path"), r"it''s a \\path");
        assert_eq!(quoted("two\nlines"), r"two\nlines");
    }

    #[test]
    fn passwords_differ_and_need_no_escaping() {
        let (one, two) = (random_password(), random_password());
        assert_ne!(one, two);
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
