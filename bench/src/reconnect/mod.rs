//! `convoy bench reconnect`: very many sessions come back within a second.
//!
//! Each session has one subscription, and all of them share a few live queries, half of which are kept from the WAL and
//! half read again. All connections break at once; then each session comes back at its own moment of one second, and is
//! served when its first transition with an update is in. Three times: as new sessions, to the living server with their
//! tokens, and to a server that has just begun, with their digests. Meanwhile a witness writes a row and waits for it
//! on a stream of its own, one commit after the other: what others feel. What each live query cost the database is
//! counted by the server.

mod connection;
mod report;
mod witness;

use crate::args::ReconnectArgs;
use crate::http;
use crate::machine::Machine;
use crate::process;
use crate::progress::Progress;
use crate::samples::Samples;
use crate::serve::Serve;
use crate::target::Target;
use anyhow::{Context, bail};
use connection::{Connection, Event};
use convoy_postgres::launcher::Search;
use report::{Phase, Report};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use witness::Witness;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_and_nothing_else_is_to_be_told() {
        let told = |query, kind, form| check_kind(&Client::new(query), kind, form).is_ok();
        assert!(told(9, "diff", Form::Resumed) && !told(9, "unchanged", Form::Resumed));
        assert!(told(11, "unchanged", Form::Restarted) && !told(11, "snapshot", Form::Restarted));
    }
}
