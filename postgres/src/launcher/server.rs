//! The server's process, and the thread that keeps it.
//!
//! All that blocks (search, download, `initdb`, waiting for an end) happens on that thread, which
//! lives as long as the server: the kernel's signal at the parent's death is one at the death of
//! the *thread* that forked (prctl(2), `PR_SET_PDEATHSIG`), and async runtimes come and go.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use super::cluster;
use super::discover::{self, Installation, Search, Source};
use super::error::LaunchError;
use super::folder;
use super::home::Home;
use super::kept::KeptFolder;
use super::process::{self, Account, Signal, Waited};
use super::progress::Progress;
use super::standby;
use super::{LaunchOptions, Listen, Shutdown};

/// How long a fast shutdown may take before an immediate one is asked for, and that before SIGKILL.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(5);
/// The first of these for a server whose data go with it. A fast shutdown waits until every replication
/// client has received all; in a drop that client may be on the very thread that waits here.
const DISCARD_LIMIT: Duration = Duration::from_millis(500);
/// The port where nothing listens on TCP: it only names the socket.
const SOCKET_PORT: u16 = 5432;

/// What does not change while the server lives.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) installation: Installation,
    pub(super) folder: PathBuf,
    pub(super) data: PathBuf,
    /// Whether this start made the data.
    pub(super) is_new: bool,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) password: Option<String>,
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
    /// Settings that are given at each start: those of kept data, where the account's folder is none for us to write in.
    settings: Vec<(String, String)>,
    /// Before `home`, so that the process is gone when the folder goes.
    process: Option<Child>,
    home: Home,
}

impl Server {
    /// Finds the programs and makes the data folder, or finds the data that were kept.
    fn prepare(
        options: &LaunchOptions,
        seed: &Seed,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Server, LaunchError> {
        folder::sweep(&options.temp_dir);
        let account = Account::to_change_to();
        let kept = match &options.keep {
            Some(path) => Some(KeptFolder::open(path, account.as_ref(), cancelled)?),
            None => None,
        };
        let made_by = kept.as_ref().map_or(Ok(None), KeptFolder::made_by)?;
        let found = match (made_by, &options.keep) {
            (Some(made_by), Some(folder)) => {
                find_version(options, made_by, folder, account.as_ref(), cancelled)?
            }
            _ => discover::find(&options.search, account.as_ref(), &options.progress, cancelled)?,
        };
        let home = Home::new(&options.temp_dir, account.as_ref(), kept)?;
        let mut installation = found.clone();
        if let Some(account) = &account
            && found.source == Source::Npm
            && !account.can_run(&found.bin.join("postgres"))
        {
            // Root's cache is closed to others, and to the account that the server runs as.
            installation.bin = home.adopt_programs(&found.bin)?;
        }
        if made_by.is_none() {
            let version = installation.version.clone();
            options.progress.report(&Progress::Initializing { version });
        }
        let needs_password = options.listen == Listen::Loopback || home.is_kept();
        let fresh = (needs_password && made_by.is_none()).then(random_password);
        let bin = &installation.bin;
        let password = match (seed, home.kept()) {
            (Seed::Empty, Some(kept)) => {
                let password = kept.password(fresh.as_deref())?;
                if made_by.is_none() {
                    let data = kept.begin(account.as_ref())?;
                    let password = password.as_deref();
                    cluster::initdb(bin, &home, &data, account.as_ref(), password, cancelled)
                        .inspect_err(|_| kept.give_up())?;
                    kept.finish()?;
                }
                password
            }
            (Seed::Empty, None) => {
                let (data, password) = (home.data(), fresh.as_deref());
                cluster::initdb(bin, &home, data, account.as_ref(), password, cancelled)?;
                fresh
            }
            (Seed::CopyOf(data), _) => {
                standby::copy_data(data, home.data(), account.as_ref())
                    .map_err(LaunchError::io(format!("copy {}", data.display())))?;
                fresh
            }
        };
        let mut settings = cluster::settings(options, &home);
        if !home.is_kept() {
            // In its file, so that what a test says later, by ALTER SYSTEM, holds.
            cluster::configure(home.data(), &settings)?;
            settings.clear();
        }
        let facts = Facts {
            folder: home.path().to_owned(),
            data: home.data().to_owned(),
            is_new: made_by.is_none(),
            socket: home.socket(),
            log: home.log(),
            psql: discover::psql(&options.search, &installation.bin),
            installation,
            password: password.filter(|_| options.listen == Listen::Loopback),
        };
        options.progress.report(&Progress::Starting);
        let (current, listen) = (Arc::default(), options.listen);
        Ok(Server { facts, current, account, listen, settings, process: None, home })
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
        let log = self.home.open_log()?;
        let log_too = log.try_clone().map_err(LaunchError::io("open the server's log"))?;
        let (bin, data) = (&self.facts.installation.bin, self.home.data());
        let mut command = cluster::command(bin, "postgres", &self.home, data)?;
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
            .arg("-D")
            .arg(data)
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
        let patience = if self.home.is_kept() { STOP_LIMIT } else { DISCARD_LIMIT };
        if let Err(error) = self.down(Shutdown::Fast, patience) {
            tracing::error!(%error, "the private Postgres was left running");
        }
    }
}

/// Finds the programs of the version that made the kept data: no other reads them.
fn find_version(
    options: &LaunchOptions,
    made_by: u32,
    folder: &Path,
    account: Option<&Account>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Installation, LaunchError> {
    let find = |search| discover::find(&search, account, &options.progress, cancelled);
    let asked = &options.search;
    let missing = match asked.major.is_none_or(|major| major == made_by) {
        true => match find(Search { major: Some(made_by), ..asked.clone() }) {
            Err(error) if !matches!(error, LaunchError::Cancelled) => Some(error),
            found => return found,
        },
        false => None,
    };
    // Only for the message, so nothing is fetched for it.
    match (find(Search { cache_dir: None, ..asked.clone() }), missing) {
        (Ok(Installation { bin, version, .. }), _) => {
            let folder = folder.to_owned();
            Err(LaunchError::OtherVersion { folder, made_by, found: version, bin })
        }
        (Err(_), Some(error)) | (Err(error), None) => Err(error),
    }
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
    fn passwords_differ_and_need_no_escaping() {
        let (one, two) = (random_password(), random_password());
        assert_ne!(one, two);
        assert!(one.len() == 32 && one.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}
