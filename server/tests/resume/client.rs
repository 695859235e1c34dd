//! A client that keeps what it was shown through any number of streams, and refuses what can't be: what comes twice, what
//! leads on from something that it never had, a digest that stands for two results.

use crate::mirror::Shown;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How a random run is repeated.
pub const SEED: &str = "CONVOY_RESUME_SEED";

/// Returns the run's dice; its seed is printed.
pub fn dice(test: &str) -> StdRng {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    println!("{test}: {SEED}={seed}");
    StdRng::seed_from_u64(seed)
}

/// What a result was where it had this digest, whoever saw it: columns, keys, values.
pub type Ledger = BTreeMap<String, (String, Vec<String>, Vec<Value>)>;

/// One subscription as the client has it.
#[derive(Clone, Debug, Default)]
pub struct Held {
    pub shown: Shown,
    pub digest: Option<String>,
    /// The columns, as text.
    columns: String,
    /// The error that stands in place of the result.
    pub error: Option<Value>,
    /// How it was told last.
    pub last: String,
}

/// A client.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub session: Option<String>,
    /// The id of the last transition that was read to its end.
    pub token: Option<String>,
    pub subs: BTreeMap<String, Held>,
    /// What it subscribes to, as SQL.
    pub wanted: BTreeMap<String, String>,
    /// Transitions that it has taken in.
    pub transitions: usize,
    /// Updates by kind, over all streams.
    pub kinds: BTreeMap<String, usize>,
    pub lsn: Option<convoy_types::Lsn>,
}

/// How a stream that was read ended.
#[derive(Debug, PartialEq)]
pub enum End {
    /// The client has as many bytes as it wanted, or waited as long.
    Cut,
    /// The server said why.
    Goodbye(Value),
    /// The server ended it.
    Closed,
}

/// A connection on which a stream comes, as bytes.
pub struct Wire {
    stream: TcpStream,
    bytes: Vec<u8>,
    /// Up to here, events were taken in.
    taken: usize,
}

impl Wire {
    /// Sends a request of HTTP/1.0, whose answer is not cut into chunks: each byte of it is one of the stream's.
    pub async fn send(
        address: SocketAddr,
        method: &str,
        path: &str,
        header: &str,
        body: &str,
    ) -> Wire {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: {address}\r\naccept: text/event-stream\r\n{header}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("a request");
        Wire { stream, bytes: Vec::new(), taken: 0 }
    }
}

impl Client {
    /// Opens a stream that begins a session with these subscriptions, or goes on with the one that there is, in one of
    /// the forms that there are for it.
    pub async fn connect(&self, address: SocketAddr, subscribe: &Value, form: u32) -> Wire {
        let Some(token) = &self.token else {
            let body = json!({ "subscribe": subscribe }).to_string();
            return Wire::send(address, "POST", "/api/sync", "", &body).await;
        };
        let header = format!("last-event-id: {token}\r\n");
        match form % 4 {
            0 => Wire::send(address, "GET", "/api/sync", &header, "").await,
            1 => Wire::send(address, "GET", &format!("/api/sync?resume={token}"), "", "").await,
            2 => {
                let body = json!({ "resume": token, "subscribe": subscribe }).to_string();
                Wire::send(address, "POST", "/api/sync", "", &body).await
            }
            // With what it has: that is known better here than there.
            _ => {
                let have: BTreeMap<_, _> = self
                    .subs
                    .iter()
                    .filter(|(_, held)| held.error.is_none())
                    .filter_map(|(sub, held)| Some((sub, held.digest.as_ref()?)))
                    .collect();
                let body = json!({ "resume": token, "have": have }).to_string();
                Wire::send(address, "POST", "/api/sync", "", &body).await
            }
        }
    }

    /// Forgets the session, of a server that is gone; what it shows is still there.
    pub fn is_another(&mut self) {
        (self.session, self.token, self.lsn) = (None, None, None);
    }

    /// Reads a stream until so many bytes are there, or so much time has passed, and takes in what events are whole.
    pub async fn read(
        &mut self,
        wire: &mut Wire,
        bytes_max: usize,
        time: Duration,
        ledger: &mut Ledger,
    ) -> End {
        let deadline = Instant::now() + time;
        loop {
            while let Some(block) = next_block(wire) {
                if let Some(end) = self.take_in(&block, ledger) {
                    return end;
                }
            }
            let room = bytes_max.saturating_sub(wire.bytes.len());
            if room == 0 {
                return End::Cut;
            }
            let mut buffer = vec![0; room.min(16 << 10)];
            match timeout_at(deadline, wire.stream.read(&mut buffer)).await {
                Err(_) => return End::Cut,
                Ok(Ok(0) | Err(_)) => return End::Closed,
                Ok(Ok(count)) => wire.bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// Takes in a block of lines: an answer's head or an event.
    fn take_in(&mut self, block: &str, ledger: &mut Ledger) -> Option<End> {
        if let Some(head) = block.strip_prefix("HTTP/1.0 ") {
            assert!(head.starts_with("200"), "{head}");
            return None;
        }
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let data: Value = serde_json::from_str(field("data: ")?).expect("JSON");
        match field("event: ")? {
            "hello" => {
                let (session, resumed) = (data["session"].as_str(), &data["resumed"]);
                assert_eq!(resumed, &json!(self.token.is_some()), "{data}");
                assert!(self.token.is_none() || self.session.as_deref() == session, "{data}");
                self.session = session.map(str::to_owned);
            }
            "transition" => {
                let token = field("id: ").expect("a token").to_owned();
                assert_ne!(self.token.as_ref(), Some(&token), "a token comes once");
                let lsn = data["lsn"].as_str().expect("an LSN").parse().expect("an LSN");
                assert!(self.lsn.is_none_or(|before| before <= lsn), "{:?} > {lsn}", self.lsn);
                (self.lsn, self.token) = (Some(lsn), Some(token));
                self.transitions += 1;
                for update in data["updates"].as_array().expect("updates") {
                    self.update(update, ledger);
                }
            }
            "goodbye" => return Some(End::Goodbye(data)),
            other => panic!("an unknown event: {other}"),
        }
        None
    }

    fn update(&mut self, update: &Value, ledger: &mut Ledger) {
        let kind = update["type"].as_str().expect("a type").to_owned();
        *self.kinds.entry(kind.clone()).or_default() += 1;
        let sub = update["sub"].as_str().expect("a sub").to_owned();
        let held = self.subs.entry(sub).or_default();
        match kind.as_str() {
            "error" => held.error = Some(update.clone()),
            "diff" | "unchanged" => {
                assert!(held.error.is_none(), "after an error: {update}");
                assert!(held.digest.is_some(), "it has nothing yet: {update}");
            }
            _ => {}
        }
        if kind == "snapshot" {
            held.error = None;
            held.columns = update["columns"].to_string();
        }
        if kind != "error" {
            held.shown.take_in(update);
        }
        if let Some(digest) = update["digest"].as_str() {
            held.digest = Some(digest.to_owned());
            let result = (held.columns.clone(), held.shown.keys.clone(), held.shown.rows.clone());
            let known = ledger.entry(digest.to_owned()).or_insert_with(|| result.clone());
            assert_eq!(known, &result, "one digest, two results: {update}");
        }
        held.last = kind;
    }
}

fn next_block(wire: &mut Wire) -> Option<String> {
    let rest = &wire.bytes[wire.taken..];
    // The head's lines end in another way.
    let is_head = wire.taken == 0;
    let end: &[u8] = if is_head { b"\r\n\r\n" } else { b"\n\n" };
    let at = rest.windows(end.len()).position(|window| window == end)?;
    let block = String::from_utf8(rest[..at].to_vec()).expect("UTF-8");
    wire.taken += at + end.len();
    Some(block)
}

/// A number of bytes after which to cut: mostly few, sometimes none, sometimes many.
pub fn bytes_to_read(dice: &mut StdRng) -> usize {
    match dice.random_range(0..8) {
        0 => dice.random_range(0..200),
        1..=4 => dice.random_range(200..1500),
        5 | 6 => dice.random_range(1500..6000),
        _ => usize::MAX,
    }
}
