//! `convoy bench reconnect`: very many sessions come back within a second.
//!
//! Each session has one subscription, and all of them share a few live queries, half of which are kept from the WAL and
//! half read again. All connections break at once; then each session comes back at its own moment of one second, and is
//! served when its first transition with an update is in. Three times: as new sessions, to the living server with their
//! tokens, and to a server that has just begun, with their digests. Meanwhile a witness writes a row and waits for it
//! on a stream of its own, one commit after the other: what others feel. What each live query cost the database is
//! counted by the server.

use crate::args::ReconnectArgs;
use crate::http;
use crate::machine::Machine;
use crate::process;
use crate::progress::Progress;
use crate::samples::Samples;
use crate::serve::Serve;
use crate::table::{Table, head, number};
use crate::target::{DatabaseFacts, Target, session};
use anyhow::{Context, bail};
use convoy_postgres::connect;
use convoy_postgres::launcher::Search;
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// What is subscribed to: kept from the WAL, and read again.
const KEPT: &str = "select id, owner, n from convoy_bench.notes where owner = $1 order by id";
const READ_AGAIN: &str = "select notes.id, owners.name, notes.n from convoy_bench.notes join convoy_bench.owners \
                          on owners.id = notes.owner where notes.owner = $1 order by notes.id";
/// No audit, which would mend what was lost before anybody sees it, and whose reads would count.
const UNAUDITED: [&str; 2] = ["--audit-interval", "0"];
const ROWS_PER_OWNER: u32 = 10;
/// Of the live queries, one in so many changes while its clients are away: of both kinds, since it is odd.
const CHANGED_ONE_IN: u32 = 9;
/// Within this time all come back.
const WITHIN: Duration = Duration::from_secs(1);
/// How long it may take until the last one is served.
const SERVED_LIMIT: Duration = Duration::from_secs(120);
/// The longest head or event of a stream, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    database: DatabaseFacts,
    sessions: u32,
    queries: u32,
    phases: Vec<Phase>,
    /// The witness alone, in milliseconds.
    quiet_p50_ms: f64,
    quiet_p99_ms: f64,
}

#[derive(Debug, Serialize)]
struct Phase {
    name: &'static str,
    /// Streams that were refused, or ended before they were served, and were tried again.
    refused: usize,
    /// From the first connection to the last answer.
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    snapshots: usize,
    diffs: usize,
    unchanged: usize,
    /// Results that were read, and the statements that did.
    reads: u64,
    statements: u64,
    resident_bytes: u64,
    peak_bytes: u64,
    witness_p50_ms: f64,
    witness_p99_ms: f64,
    witness_max_ms: f64,
    witness_commits: usize,
}

/// Measures and prints the report.
pub(crate) async fn run(args: &ReconnectArgs, search: Search) -> anyhow::Result<()> {
    let machine = Machine::look();
    let progress = Progress::new();
    let target = Target::open(&args.target, search, &progress).await?;
    prepare(&target, args).await?;
    let queries = args.queries.get();
    let mut clients: Vec<Client> =
        (0..args.sessions.get()).map(|number| Client::new(number % queries)).collect();
    let mut phases = Vec::new();

    progress.say(&format!("{} sessions begin", args.sessions));
    let serve = Serve::start_with(target.url_text(), &UNAUDITED).await?;
    let quiet = Witness::start(&serve, target.url_text())?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let quiet = quiet.end().await?;
    phases.push(phase("new", &serve, &target, &mut clients, Form::New).await?);

    progress.say("all connections break, and all come back");
    cut(&mut clients);
    change(&target, queries, 1).await?;
    phases.push(phase("resumed", &serve, &target, &mut clients, Form::Resumed).await?);

    progress.say("the server stops, another begins, and all come back");
    serve.stop().await?;
    cut(&mut clients);
    target.await_quiet().await?;
    change(&target, queries, 2).await?;
    let serve = Serve::start_with(target.url_text(), &UNAUDITED).await?;
    phases.push(phase("restarted", &serve, &target, &mut clients, Form::Restarted).await?);

    serve.stop().await?;
    let ms = |samples: &Samples, share| samples.quantile_us(share).unwrap_or(f64::NAN) / 1e3;
    let report = Report {
        machine,
        database: target.facts.clone(),
        sessions: args.sessions.get(),
        queries,
        phases,
        quiet_p50_ms: ms(&quiet, 0.5),
        quiet_p99_ms: ms(&quiet, 0.99),
    };
    let leftovers = target.leftovers();
    target.finish().await?;
    drop(progress);
    match args.target.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{}", report.text(leftovers.as_deref())),
    }
    report.check()
}

async fn prepare(target: &Target, args: &ReconnectArgs) -> anyhow::Result<()> {
    let queries = args.queries;
    let sql = format!(
        "CREATE TABLE convoy_bench.owners (id int4 PRIMARY KEY, name text NOT NULL);
         INSERT INTO convoy_bench.owners SELECT n, 'owner ' || n FROM generate_series(0, {queries} - 1) n;
         CREATE TABLE convoy_bench.notes (id int4 PRIMARY KEY, owner int4 NOT NULL, n int4 NOT NULL);
         INSERT INTO convoy_bench.notes
           SELECT n, n / {ROWS_PER_OWNER}, 0 FROM generate_series(0, {queries} * {ROWS_PER_OWNER} - 1) n;
         CREATE INDEX ON convoy_bench.notes (owner);
         CREATE TABLE convoy_bench.witness (id int4 PRIMARY KEY, n int4 NOT NULL);
         INSERT INTO convoy_bench.witness VALUES (1, 0)"
    );
    let client = target.client();
    client.batch_execute(&sql).await.context("could not make the tables")?;
    client.batch_execute("VACUUM ANALYZE convoy_bench.notes, convoy_bench.owners").await?;
    Ok(())
}

fn is_changed(query: u32) -> bool {
    query.is_multiple_of(CHANGED_ONE_IN)
}

/// Changes what some of the clients see.
async fn change(target: &Target, queries: u32, to: i32) -> anyhow::Result<()> {
    for owner in (0..queries).filter(|query| is_changed(*query)) {
        let sql =
            format!("UPDATE convoy_bench.notes SET n = {to} WHERE id = {}", owner * ROWS_PER_OWNER);
        target.client().batch_execute(&sql).await?;
    }
    Ok(())
}

/// A client: what it subscribes to and what it has.
struct Client {
    query: u32,
    token: Option<String>,
    digest: Option<String>,
    connection: Option<Connection>,
}

/// In which way clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    New,
    Resumed,
    Restarted,
}

/// How a client was served.
struct Served {
    nanos: i64,
    kind: String,
    refused: usize,
}

impl Client {
    fn new(query: u32) -> Self {
        Client { query, token: None, digest: None, connection: None }
    }

    fn body(&self, form: Form) -> String {
        let sql = if self.query.is_multiple_of(2) { KEPT } else { READ_AGAIN };
        let subscribe = json!([{"sub": "a", "sql": sql, "params": [self.query]}]);
        match form {
            Form::New => json!({ "subscribe": subscribe }),
            Form::Resumed => json!({ "resume": self.token }),
            Form::Restarted => {
                json!({"resume": self.token, "subscribe": subscribe, "have": {"a": self.digest}})
            }
        }
        .to_string()
    }

    /// Comes, as often as it takes, until it is served.
    async fn come(&mut self, address: SocketAddr, form: Form) -> anyhow::Result<Served> {
        let begun = Instant::now();
        let mut refused = 0;
        loop {
            match self.try_to_come(address, form).await? {
                Some(kind) => {
                    let nanos = i64::try_from(begun.elapsed().as_nanos())?;
                    return Ok(Served { nanos, kind, refused });
                }
                None => refused += 1,
            }
        }
    }

    /// Returns the kind of the first update; none where it was refused.
    async fn try_to_come(
        &mut self,
        address: SocketAddr,
        form: Form,
    ) -> anyhow::Result<Option<String>> {
        let Ok(mut connection) = Connection::open(address, &self.body(form)).await else {
            return Ok(None);
        };
        while let Some(block) = connection.next().await? {
            let Some(event) = Event::read(&block)? else { continue };
            match event.name.as_str() {
                "hello" if (form == Form::Resumed) != (event.data["resumed"] == true) => {
                    bail!("{form:?} is answered by {}", event.data);
                }
                "transition" => {
                    self.token = event.id;
                    let Some(update) = event.data["updates"].get(0) else { continue };
                    if let Some(digest) = update["digest"].as_str() {
                        self.digest = Some(digest.to_owned());
                    }
                    let kind = update["type"].as_str().context("an update without a type")?;
                    if kind == "error" {
                        bail!("a subscription failed: {update}");
                    }
                    self.connection = Some(connection);
                    return Ok(Some(kind.to_owned()));
                }
                "goodbye" => return Ok(None),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Breaks all connections.
fn cut(clients: &mut [Client]) {
    for client in clients {
        client.connection = None;
    }
}

/// A stream as it comes: of HTTP/1.0, whose answers are not cut into chunks.
struct Connection {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr, body: &str) -> anyhow::Result<Self> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        let length = body.len();
        let request = format!(
            "POST /api/sync HTTP/1.0\r\nhost: {address}\r\naccept: text/event-stream\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        socket.write_all(request.as_bytes()).await?;
        Ok(Connection { socket, bytes: Vec::new() })
    }

    /// Waits for the next block of lines: the head or an event; none at the end.
    async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let ends: [&[u8]; 2] = [b"\n\n", b"\r\n\r\n"];
            let found = ends.into_iter().filter_map(|end| {
                let at = self.bytes.windows(end.len()).position(|window| window == end)?;
                Some(at + end.len())
            });
            if let Some(end) = found.min() {
                let block: Vec<u8> = self.bytes.drain(..end).collect();
                if self.bytes.is_empty() {
                    self.bytes = Vec::new();
                }
                return Ok(Some(String::from_utf8_lossy(&block).into_owned()));
            }
            if self.bytes.len() > EVENT_BYTES_MAX {
                bail!("an event is larger than {EVENT_BYTES_MAX} bytes");
            }
            self.bytes.reserve(2048);
            match self.socket.read_buf(&mut self.bytes).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }
}

#[derive(Debug)]
struct Event {
    name: String,
    id: Option<String>,
    data: Value,
}

impl Event {
    /// Reads a block; none for a comment and the answer's head, which must be good.
    fn read(block: &str) -> anyhow::Result<Option<Self>> {
        if let Some(head) = block.strip_prefix("HTTP/1.0 ") {
            match head.starts_with("200") {
                true => return Ok(None),
                false => bail!("the server answered {}", head.lines().next().unwrap_or_default()),
            }
        }
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        let (Some(name), Some(data)) = (field("event: "), field("data: ")) else { return Ok(None) };
        let data = serde_json::from_str(data).context("an event's data")?;
        Ok(Some(Event { name: name.to_owned(), id: field("id: ").map(str::to_owned), data }))
    }
}

/// All clients come, each at its own moment.
async fn phase(
    name: &'static str,
    serve: &Serve,
    target: &Target,
    clients: &mut Vec<Client>,
    form: Form,
) -> anyhow::Result<Phase> {
    let address = serve.address();
    let witness = Witness::start(serve, target.url_text())?;
    witness.until_it_watches().await?;
    let before = settled_reads(address).await?;
    let (begun, count) = (Instant::now(), clients.len());
    let mut coming = JoinSet::new();
    for (place, mut client) in clients.drain(..).enumerate() {
        let due = begun + WITHIN.mul_f64(place as f64 / count as f64);
        coming.spawn(async move {
            sleep_until(due).await;
            let served = client.come(address, form).await?;
            anyhow::Ok((client, served))
        });
    }
    let mut all = Vec::with_capacity(count);
    let serving = async {
        while let Some(came) = coming.join_next().await {
            let (client, served) = came??;
            check_kind(&client, &served.kind, form)?;
            clients.push(client);
            all.push(served);
        }
        anyhow::Ok(())
    };
    let limit = SERVED_LIMIT.as_secs();
    let served = timeout(SERVED_LIMIT, serving).await;
    served
        .with_context(|| format!("not all were served within {limit} s"))
        .flatten()
        .with_context(|| format!("convoy serve said last:\n{}", serve.last_words()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let after = reads(address).await?;
    let felt = witness.end().await?;
    let memory = process::memory(serve.pid()?)?;
    let took: Samples = all.iter().map(|served| served.nanos).collect();
    let ms = |samples: &Samples, share| samples.quantile_us(share).unwrap_or(f64::NAN) / 1e3;
    let kinds = |kind: &str| all.iter().filter(|served| served.kind == kind).count();
    Ok(Phase {
        name,
        refused: all.iter().map(|served| served.refused).sum(),
        seconds,
        p50_ms: ms(&took, 0.5),
        p99_ms: ms(&took, 0.99),
        max_ms: ms(&took, 1.0),
        snapshots: kinds("snapshot"),
        diffs: kinds("diff"),
        unchanged: kinds("unchanged"),
        reads: after.0 - before.0,
        statements: after.1 - before.1,
        resident_bytes: memory.resident_bytes,
        peak_bytes: memory.peak_bytes,
        witness_p50_ms: ms(&felt, 0.5),
        witness_p99_ms: ms(&felt, 0.99),
        witness_max_ms: ms(&felt, 1.0),
        witness_commits: felt.len(),
    })
}

/// What has changed is told, and nothing else.
fn check_kind(client: &Client, kind: &str, form: Form) -> anyhow::Result<()> {
    let is_right = match (form, is_changed(client.query)) {
        (Form::New, _) => kind == "snapshot",
        (Form::Resumed, true) => kind == "diff" || kind == "snapshot",
        (Form::Restarted, true) => kind == "snapshot",
        (_, false) => kind == "unchanged",
    };
    if !is_right {
        bail!("{form:?}: query {} is told by {kind}", client.query);
    }
    Ok(())
}

/// Returns how many results the server has read, and by how many statements.
async fn reads(address: SocketAddr) -> anyhow::Result<(u64, u64)> {
    let (_, text) = http::get(address, "/metrics").await?;
    let count = |name| anyhow::Ok(metric(&text, name)? as u64);
    Ok((count("convoy_reads_total")?, count("convoy_read_statements_total")?))
}

/// Waits until the server has nothing to read, and returns the same.
async fn settled_reads(address: SocketAddr) -> anyhow::Result<(u64, u64)> {
    let waiting = async || {
        let (_, text) = http::get(address, "/metrics").await?;
        let waiting = ["convoy_dirty_queries", "convoy_reads_running"];
        waiting.into_iter().map(|name| metric(&text, name)).sum::<anyhow::Result<f64>>()
    };
    let settling = async {
        let mut quiet = 0;
        // A change that is on its way shows in neither for some milliseconds.
        while quiet < 10 {
            quiet = if waiting().await? == 0.0 { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        reads(address).await
    };
    timeout(SERVED_LIMIT, settling).await.context("the server reads without end")?
}

fn metric(text: &str, name: &str) -> anyhow::Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.parse().ok()).with_context(|| format!("no metric {name}"))
}

/// Somebody else, on a thread of his own: writes a row and waits for it, again and again.
struct Witness {
    stop: Arc<AtomicBool>,
    watches: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<i64>>>,
}

impl Witness {
    fn start(serve: &Serve, database_url: &str) -> anyhow::Result<Self> {
        let (stop, watches) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (address, url) = (serve.address(), database_url.to_owned());
        let (stopped, watching) = (stop.clone(), watches.clone());
        let thread = std::thread::Builder::new().name("witness".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(witness(address, &url, &stopped, &watching))
        })?;
        Ok(Witness { stop, watches, thread })
    }

    async fn until_it_watches(&self) -> anyhow::Result<()> {
        while !self.watches.load(Ordering::Acquire) {
            if self.thread.is_finished() {
                bail!("the witness is gone before it began");
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    async fn end(self) -> anyhow::Result<Samples> {
        self.stop.store(true, Ordering::Release);
        let ended = tokio::task::spawn_blocking(move || self.thread.join()).await?;
        let nanos = ended.map_err(|_| anyhow::anyhow!("the witness panicked"))??;
        Ok(nanos.into_iter().collect())
    }
}

async fn witness(
    address: SocketAddr,
    url: &str,
    stop: &AtomicBool,
    watches: &AtomicBool,
) -> anyhow::Result<Vec<i64>> {
    let database = connect(&url.parse()?, &session()).await?;
    let body =
        json!({"subscribe": [{"sub": "w", "sql": "select id, n from convoy_bench.witness"}]});
    let mut stream = Connection::open(address, &body.to_string()).await?;
    let mut next = async || loop {
        let block = stream.next().await?.context("the witness' stream ended")?;
        let Some(event) = Event::read(&block)? else { continue };
        match event.data["updates"].get(0) {
            Some(_) => return anyhow::Ok(()),
            None if event.name == "goodbye" => bail!("the witness was told {}", event.data),
            None => {}
        }
    };
    next().await?;
    watches.store(true, Ordering::Release);
    let mut nanos = Vec::new();
    while !stop.load(Ordering::Acquire) {
        let sql = "UPDATE convoy_bench.witness SET n = n + 1";
        let begun = Instant::now();
        database.client().batch_execute(sql).await?;
        timeout(SERVED_LIMIT, next()).await.context("the witness waits in vain")??;
        nanos.push(i64::try_from(begun.elapsed().as_nanos())?);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(nanos)
}

impl Report {
    /// What must hold whatever the machine.
    fn check(&self) -> anyhow::Result<()> {
        // The witness' one query is read before.
        let may_read = [
            ("new", u64::from(self.queries)),
            ("resumed", 0),
            ("restarted", u64::from(self.queries)),
        ];
        for (phase, (name, reads_max)) in self.phases.iter().zip(may_read) {
            if phase.reads > reads_max {
                bail!("{name}: {} results were read, for at most {reads_max}", phase.reads);
            }
            if phase.refused > 0 {
                bail!("{name}: {} streams were refused", phase.refused);
            }
        }
        Ok(())
    }

    fn text(&self, leftovers: Option<&str>) -> String {
        let mut lines = self.machine.lines();
        lines.extend(self.database.lines());
        let Report { sessions, queries, .. } = self;
        let load = format!(
            "{sessions} sessions of one subscription each come within {} s; {queries} live queries, of which one in {CHANGED_ONE_IN} changed meanwhile",
            WITHIN.as_secs()
        );
        lines.push(("load", load));
        let mut out = head("convoy bench reconnect", &lines);
        out.push('\n');
        let mut table = Table::new([
            "",
            "served in s",
            "p50 ms",
            "p99 ms",
            "max ms",
            "refused",
            "reads",
            "statements",
            "snapshots",
            "diffs",
            "unchanged",
            "resident MiB",
            "peak MiB",
        ]);
        let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
        for phase in &self.phases {
            table.row([
                phase.name.to_owned(),
                format!("{:.2}", phase.seconds),
                number(phase.p50_ms),
                number(phase.p99_ms),
                number(phase.max_ms),
                phase.refused.to_string(),
                phase.reads.to_string(),
                phase.statements.to_string(),
                phase.snapshots.to_string(),
                phase.diffs.to_string(),
                phase.unchanged.to_string(),
                mib(phase.resident_bytes),
                mib(phase.peak_bytes),
            ]);
        }
        out.push_str(&table.render());
        out.push('\n');
        let mut table =
            Table::new(["commit to somebody else", "p50 ms", "p99 ms", "max ms", "commits"]);
        table.row([
            "quiet".into(),
            number(self.quiet_p50_ms),
            number(self.quiet_p99_ms),
            String::new(),
            String::new(),
        ]);
        for phase in &self.phases {
            table.row([
                phase.name.to_owned(),
                number(phase.witness_p50_ms),
                number(phase.witness_p99_ms),
                number(phase.witness_max_ms),
                phase.witness_commits.to_string(),
            ]);
        }
        out.push_str(&table.render());
        if self.machine.is_busy() {
            // Writing to a String can't fail.
            let _ = writeln!(out, "the machine was busy: the times are no measure, the counts are");
        }
        if let Some(leftovers) = leftovers {
            let _ = writeln!(out, "{leftovers}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_and_nothing_else_is_to_be_told() {
        let told = |query, kind, form| check_kind(&Client::new(query), kind, form).is_ok();
        assert!(told(9, "diff", Form::Resumed) && !told(9, "unchanged", Form::Resumed));
        assert!(told(11, "unchanged", Form::Restarted) && !told(11, "snapshot", Form::Restarted));
    }

    #[test]
    fn a_refusal_is_no_event() {
        assert!(Event::read("HTTP/1.0 503 Service Unavailable\r\n").is_err());
        let event = Event::read("event: hello\ndata: {\"resumed\":true}\n\n").expect("good");
        assert_eq!(event.expect("an event").data["resumed"], true);
    }
}
