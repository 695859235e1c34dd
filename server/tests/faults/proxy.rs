//! A network that fails as a test says, between a server and its Postgres.
//!
//! Each connection says in its start-up message whether it is for replication, so that one address serves all of them
//! and yet each kind has faults of its own. What passes is cut, refused, delayed, throttled or held without a word.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// The codes in the place of a protocol version (PostgreSQL manual, 55.7 "Message Formats").
const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
/// How much is passed on at a time.
const CHUNK_BYTES: usize = 16 * 1024;

/// Whose connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Replication,
    /// The pools', and what cancels their statements.
    Pools,
    All,
}

/// What happens to one kind of connections.
#[derive(Clone, Debug, Default)]
struct Conduct {
    refuses: bool,
    latency: Duration,
    bytes_per_second: Option<usize>,
    /// Connections with a number below are closed.
    cut_before: u64,
    /// Connections with a number below pass nothing on any more, and are not closed.
    stalled_before: u64,
}

/// One kind of connections.
struct Kind {
    conduct: watch::Sender<Conduct>,
    /// The bytes that the server may still send before the connection that brings them is closed.
    cut_after: Mutex<Option<usize>>,
}

impl Kind {
    fn new() -> Kind {
        Kind { conduct: watch::Sender::default(), cut_after: Mutex::default() }
    }

    fn cut_after(&self) -> MutexGuard<'_, Option<usize>> {
        self.cut_after.lock().expect("nobody panics with it")
    }
}

struct Shared {
    replication: Kind,
    pools: Kind,
    /// The number of the connection that comes next.
    next: Mutex<u64>,
}

/// The proxy; dropping it closes its port, and its connections with it.
pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.cut(Whose::All);
    }
}

impl Proxy {
    /// Listens in front of a server's Unix socket.
    pub async fn start(socket_dir: &std::path::Path, port: u16) -> Proxy {
        let socket = socket_dir.join(format!(".s.PGSQL.{port}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared =
            Arc::new(Shared { replication: Kind::new(), pools: Kind::new(), next: Mutex::new(0) });
        let acceptor = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(serve(client, socket.clone(), shared.clone()));
                }
            }
        });
        Proxy { port, shared, acceptor }
    }

    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    fn kinds(&self, whose: Whose) -> Vec<&Kind> {
        match whose {
            Whose::Replication => vec![&self.shared.replication],
            Whose::Pools => vec![&self.shared.pools],
            Whose::All => vec![&self.shared.replication, &self.shared.pools],
        }
    }

    fn change(&self, whose: Whose, change: impl Fn(&mut Conduct)) {
        self.kinds(whose).into_iter().for_each(|kind| kind.conduct.send_modify(&change));
    }

    /// Closes the connections that there are.
    pub fn cut(&self, whose: Whose) {
        let next = *self.shared.next.lock().expect("nobody panics with it");
        self.change(whose, |conduct| conduct.cut_before = next);
    }

    /// Closes one connection once the server has sent so many bytes more, wherever in a message that is.
    pub fn cut_after(&self, whose: Whose, bytes: usize) {
        self.kinds(whose).into_iter().for_each(|kind| *kind.cut_after() = Some(bytes));
    }

    /// Returns whether the connection that was to be closed is closed.
    pub fn has_cut(&self, whose: Whose) -> bool {
        self.kinds(whose).into_iter().all(|kind| kind.cut_after().is_none())
    }

    /// Lets nobody in any more, or everybody again.
    pub fn refuse(&self, whose: Whose, refuses: bool) {
        self.change(whose, |conduct| conduct.refuses = refuses);
    }

    /// Holds each piece for so long, both ways.
    pub fn delay(&self, whose: Whose, latency: Duration) {
        self.change(whose, |conduct| conduct.latency = latency);
    }

    /// Passes so many bytes a second on, each way.
    pub fn throttle(&self, whose: Whose, bytes_per_second: Option<usize>) {
        self.change(whose, |conduct| conduct.bytes_per_second = bytes_per_second);
    }

    /// Passes nothing more on of the connections that there are, for good, and does not close them: as a firewall that
    /// has forgotten them. New ones are not concerned.
    pub fn stall(&self, whose: Whose) {
        let next = *self.shared.next.lock().expect("nobody panics with it");
        self.change(whose, |conduct| conduct.stalled_before = next);
    }
}

/// Serves one connection to its end.
async fn serve(mut client: TcpStream, socket: PathBuf, shared: Arc<Shared>) {
    let Some((startup, is_replication)) = read_startup(&mut client).await else { return };
    let kind = if is_replication { &shared.replication } else { &shared.pools };
    let number = {
        let mut next = shared.next.lock().expect("nobody panics with it");
        *next += 1;
        *next - 1
    };
    if kind.conduct.borrow().refuses {
        return;
    }
    let Ok(mut server) = UnixStream::connect(&socket).await else { return };
    if server.write_all(&startup).await.is_err() {
        return;
    }
    let mut conduct = kind.conduct.subscribe();
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let never = Mutex::new(None);
    tokio::select! {
        _ = pass(from_client, to_server, number, kind.conduct.subscribe(), &never) => {}
        _ = pass(from_server, to_client, number, kind.conduct.subscribe(), &kind.cut_after) => {}
        _ = conduct.wait_for(|conduct| number < conduct.cut_before) => {}
    }
}

/// Reads what a connection begins with, and whether it is for replication.
async fn read_startup(client: &mut TcpStream) -> Option<(Vec<u8>, bool)> {
    loop {
        let len = client.read_u32().await.ok()?;
        let mut content = vec![0; usize::try_from(len).ok()?.checked_sub(4)?];
        client.read_exact(&mut content).await.ok()?;
        let code = u32::from_be_bytes(content.get(..4)?.try_into().ok()?);
        if code == SSL_REQUEST {
            client.write_all(b"N").await.ok()?;
            continue;
        }
        let words: Vec<&[u8]> = content[4..].split(|byte| *byte == 0).collect();
        let is_replication = code != CANCEL_REQUEST
            && words.windows(2).any(|pair| pair == [&b"replication"[..], &b"database"[..]]);
        return Some(([&len.to_be_bytes()[..], &content].concat(), is_replication));
    }
}

/// Passes bytes on until one side closes, or until as many have passed as may.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut conduct: watch::Receiver<Conduct>,
    cut_after: &Mutex<Option<usize>>,
) -> Option<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let rate = conduct.borrow().bytes_per_second;
        // Twenty pieces a second, so that a slow line is slow and not merely late.
        let most = rate.map_or(CHUNK_BYTES, |rate| (rate / 20).clamp(1, CHUNK_BYTES));
        let len = from.read(&mut chunk[..most]).await.ok().filter(|len| *len > 0)?;
        let latency = conduct.borrow().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        if let Some(rate) = rate {
            sleep(Duration::from_secs_f64(len as f64 / rate as f64)).await;
        }
        conduct.wait_for(|conduct| number >= conduct.stalled_before).await.ok()?;
        let (allowed, is_last) = {
            let mut left = cut_after.lock().expect("nobody panics with it");
            match *left {
                Some(bytes) if bytes <= len => {
                    *left = None;
                    (bytes, true)
                }
                Some(bytes) => {
                    *left = Some(bytes - len);
                    (len, false)
                }
                None => (len, false),
            }
        };
        to.write_all(&chunk[..allowed]).await.ok()?;
        if is_last {
            return None;
        }
    }
}
