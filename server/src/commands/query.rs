//! `convoy query`: a named query from the shell, straight from the database. No server is needed, and without `--live`
//! nothing in the database is touched.

use super::function;
use super::output::{Tone, print, table};
use crate::app::{App, FrontPage};
use crate::config::{Cli, Command, DatabaseArgs, ServeArgs, switch};
use crate::error::ServerError;
use crate::loading::has_functions;
use crate::mutations::Backend;
use crate::project::NamedQueries;
use crate::protocol::{
    ApiError, Numbers, TransitionWriter, arguments_by_name, encode_row, read_args,
};
use crate::serve::{ServeOptions, Server, bind};
use crate::shutdown;
use axum::Router;
use clap::{Args, Parser};
use convoy_engine::{
    Argument, DiffOp, ErrorCode, Event, Outbox, OutboxState, ParamDeclaration, QueryReference,
    ResultRow, Statement, StatementFacts, Transition, UpdateKind, argument_text,
};
use convoy_postgres::{DatabaseOptions, Pool, PostgresDatabase, PublishMode};
use convoy_types::{PgType, nearest, write_json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_postgres::SimpleQueryMessage;

/// The largest arguments that are read, in bytes: a shell has its own limit.
const ARGS_BYTES_MAX: usize = 16 << 20;
/// Transitions that wait to be printed; a slower terminal sees them collapsed.
const PRINT_QUEUE_MAX: usize = 16;

/// The options of `query`.
#[derive(Args, Clone, Debug)]
pub struct QueryArgs {
    /// The name of a query or a query function, like orders.byTenant
    pub name: String,
    /// Its arguments, a JSON object: '{"tenant": 7}'
    #[arg(default_value = "{}")]
    pub args: String,
    /// Who asks, for a query with @claim lines and for ctx.auth, a JSON object: '{"tenant": 7}'
    #[arg(long, value_name = "JSON", default_value = "{}", env = "CONVOY_QUERY_CLAIMS")]
    pub claims: String,
    /// Stays, and prints what changes; needs what `serve` needs
    #[arg(long, value_parser = switch, env = "CONVOY_QUERY_LIVE")]
    pub live: bool,
    /// Prints JSON: the rows, and with --live a line for each transition as on the wire
    #[arg(long, value_parser = switch, env = "CONVOY_QUERY_JSON")]
    pub json: bool,
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".", env = "CONVOY_PROJECT")]
    pub project: PathBuf,
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Runs the query.
///
/// # Errors
/// What is wrong with the name, the arguments or the database.
pub async fn run(args: QueryArgs) -> Result<(), ServerError> {
    let queries = NamedQueries::load(&args.project)?;
    if let Some(function) =
        function::find(&queries, &args.name, &args.project, &args.database).await?
    {
        let reference = function.reference(&args.args, &args.claims)?;
        if !args.live {
            return function.print_once(&reference, &args.database, args.json).await;
        }
        return live(args, reference, Some(function.backend)).await;
    }
    let statement = find(&queries, &args.name, &args.project)?;
    let given = read_args(args.args.as_bytes(), ARGS_BYTES_MAX).map_err(misused)?;
    let claims = read_args(args.claims.as_bytes(), ARGS_BYTES_MAX).map_err(misused)?;
    let claim = |param: &ParamDeclaration| {
        let claimed = claims.iter().find(|(name, _)| *name == param.name);
        claimed.map(|(_, value)| value.clone())
    };
    let values = arguments_by_name(&statement.params, given, claim).map_err(|error| {
        let hint = match error.code {
            ErrorCode::Forbidden => ": give it with --claims",
            _ => "",
        };
        ServerError::Misused(format!("{}{hint}", error.message))
    })?;
    if args.live {
        return live(args, QueryReference::fixed(statement, values), None).await;
    }
    once(&args, &statement, &values).await
}

/// Returns the query of this name.
pub(super) fn find(
    queries: &NamedQueries,
    name: &str,
    project: &Path,
) -> Result<Arc<Statement>, ServerError> {
    queries.get(name).cloned().ok_or_else(|| {
        let functions = match has_functions(project) && cfg!(not(feature = "functions")) {
            true => "; functions are not known to this build: cargo build --release --features functions",
            false => "",
        };
        let hint = match nearest(name, queries.names()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None if queries.is_empty() => {
                "the project has none: --project says where it is".to_owned()
            }
            None => format!("there are {}", queries.names().collect::<Vec<_>>().join(", ")),
        };
        ServerError::Misused(format!("no query is named {name}: {hint}{functions}"))
    })
}

fn misused(error: ApiError) -> ServerError {
    ServerError::Misused(error.message)
}

async fn once(
    args: &QueryArgs,
    statement: &Statement,
    values: &[Option<Argument>],
) -> Result<(), ServerError> {
    let url = args.database.url()?;
    let options = DatabaseOptions {
        session: args.database.session(),
        publish: PublishMode::Foresee,
        ..DatabaseOptions::new(url.clone())
    };
    let facts = PostgresDatabase::new(options, Handle::current(), Arc::new(|_| {}))
        .handle()
        .facts(statement)
        .await?;
    let pool = Pool::new(url, args.database.session(), 1, Duration::from_secs(10));
    let mut lease = pool.get().await?;
    lease.mark_used();
    let client = lease.client();
    client.batch_execute("BEGIN TRANSACTION READ ONLY").await?;
    client.batch_execute(&prepare_sql(statement, &facts)).await.map_err(say)?;
    let answer =
        client.simple_query(&execute_sql(statement, &facts, values)?).await.map_err(say)?;
    let rows: Vec<_> = answer
        .iter()
        .filter_map(
            |message| if let SimpleQueryMessage::Row(row) = message { Some(row) } else { None },
        )
        .collect();
    let texts = |row: &tokio_postgres::SimpleQueryRow| -> Vec<Option<String>> {
        (0..facts.columns.len()).map(|column| row.get(column).map(str::to_owned)).collect()
    };
    if args.json {
        let json: Vec<String> = rows.iter().map(|row| row_json(&facts, &texts(row))).collect();
        print(&format!("[{}]\n", json.join(",\n ")));
        return Ok(());
    }
    let head = facts.columns.iter().map(|column| (column.name.clone(), Tone::Quiet)).collect();
    let mut lines: Vec<Vec<(String, Tone)>> = vec![head];
    lines.extend(rows.iter().map(|row| {
        let cell = |text: Option<String>| match text {
            Some(text) => (text.replace('\n', "\\n"), Tone::Plain),
            None => ("null".to_owned(), Tone::Quiet),
        };
        texts(row).into_iter().map(cell).collect()
    }));
    print(&table(&lines));
    let count = rows.len();
    print(&format!(
        "{count} {}; --live stays and prints what changes\n",
        if count == 1 { "row" } else { "rows" }
    ));
    Ok(())
}

/// An error of Postgres' in its own words.
fn say(error: tokio_postgres::Error) -> ServerError {
    match error.as_db_error() {
        Some(said) => {
            let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            ServerError::Unwell(format!("{}{hint}", said.message()))
        }
        None => error.into(),
    }
}

fn prepare_sql(statement: &Statement, facts: &StatementFacts) -> String {
    let types: Vec<_> = facts.params.iter().map(|param| param.type_name.as_str()).collect();
    let types = if types.is_empty() { String::new() } else { format!("({})", types.join(", ")) };
    format!("PREPARE convoy_query{types} AS {}", statement.text)
}

fn execute_sql(
    statement: &Statement,
    facts: &StatementFacts,
    values: &[Option<Argument>],
) -> Result<String, ServerError> {
    let mut arguments = Vec::new();
    for (position, param) in facts.params.iter().enumerate() {
        let argument = match values.get(position).and_then(Option::as_ref) {
            Some(value) => match argument_text(value, param)? {
                Some(text) => literal(&text),
                None => "NULL".to_owned(),
            },
            // The project's own words, as its file has them.
            None => {
                let declared =
                    statement.params.get(position).and_then(|param| param.default.clone());
                declared.unwrap_or_else(|| "NULL".to_owned())
            }
        };
        arguments.push(argument);
    }
    let arguments =
        if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
    Ok(format!("EXECUTE convoy_query{arguments}"))
}

/// Returns a text as a literal, whatever `standard_conforming_strings` says.
fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn row_json(facts: &StatementFacts, texts: &[Option<String>]) -> String {
    let cells: Vec<String> = facts
        .columns
        .iter()
        .zip(texts)
        .map(|(column, text)| {
            let Some(text) = text else { return "null".into() };
            let mut json = String::new();
            if write_json(&column.ty, text.as_bytes(), &mut json).is_err() {
                json = match (&column.ty, column.type_name.as_str()) {
                    (PgType::Other, "json") => text.clone(),
                    _ => serde_json::Value::from(text.as_str()).to_string(),
                };
            }
            json
        })
        .collect();
    let mut out = String::new();
    encode_row(&mut out, &facts.columns, &ResultRow::new("", &cells));
    out
}

/// Puts transitions where they are printed.
struct PrintOutbox(mpsc::Sender<Transition>);

impl Outbox for PrintOutbox {
    fn send(&mut self, transition: Transition) -> OutboxState {
        match self.0.try_send(transition) {
            // One short of full, so that the next that must go in (an error) has its place.
            Ok(()) if self.0.capacity() > 1 => OutboxState::Ready,
            Ok(()) => OutboxState::Full,
            Err(_) => OutboxState::Closed,
        }
    }
}

async fn live(
    args: QueryArgs,
    query: QueryReference,
    backend: Option<Backend>,
) -> Result<(), ServerError> {
    let system = |doing: &'static str| move |source| ServerError::System { doing, source };
    let stopping = shutdown::listen().map_err(system("listening for signals"))?;
    let listener = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let options = ServeOptions {
        url: args.database.url()?,
        ad_hoc_url: None,
        args: ServeArgs { database: args.database.clone(), ..serve_defaults() },
        queries: NamedQueries::default(),
        backend,
        front_page: FrontPage::Status,
        loopback_origins: false,
        is_own_postgres: false,
        extra: Router::new(),
    };
    let mut server = tokio::select! {
        server = Server::start(listener, options) => server?,
        () = shutdown::begun(stopping.clone()) => return Ok(()),
    };
    let (sender, mut receiver) = mpsc::channel(PRINT_QUEUE_MAX);
    let app: App = server.app().clone();
    let session = app.sessions.next_id();
    let room = app.queue.reserve(0, 2).await;
    app.queue.push_request(
        room,
        vec![
            Event::SessionOpened(session, Box::new(PrintOutbox(sender))),
            Event::Subscribe { session, sub: "0".into(), query, have: None },
        ],
    );
    let outcome = loop {
        tokio::select! {
            transition = receiver.recv() => {
                let Some(transition) = transition else { break Err(ServerError::EngineStopped) };
                app.queue.push_control(Event::OutboxDrained(session));
                if args.json {
                    print(&wire_line(&transition));
                } else {
                    print(&readable(&transition));
                }
                let last = |kind: &UpdateKind| matches!(kind, UpdateKind::Error { last: true, .. });
                if let Some(update) = transition.updates.into_iter().find(|update| last(&update.kind))
                    && let UpdateKind::Error { error, .. } = update.kind
                {
                    break Err(error.into());
                }
            }
            () = shutdown::begun(stopping.clone()) => break Ok(()),
            failure = server.failed() => break Err(failure),
        }
    };
    server.stop().await;
    outcome
}

/// Returns the options that `serve` has where nobody says otherwise.
fn serve_defaults() -> ServeArgs {
    match Cli::parse_from(["convoy", "serve"]).command {
        Command::Serve(args) => *args,
        _ => unreachable!("serve is what was parsed"),
    }
}

fn wire_line(transition: &Transition) -> String {
    let mut chunks = Vec::new();
    let (lsn, at) = (transition.lsn, transition.committed_at);
    let mut writer =
        TransitionWriter::begin(&mut chunks, Numbers::Number, "0", lsn, at, &transition.reflects);
    for update in &transition.updates {
        match &update.kind {
            UpdateKind::Snapshot(snapshot) => writer.snapshot(&update.sub, snapshot),
            UpdateKind::Diffs(diffs) => writer.diffs(&update.sub, diffs),
            UpdateKind::Unchanged => writer.unchanged(&update.sub),
            UpdateKind::Stale(lsn) => writer.stale(&update.sub, *lsn),
            UpdateKind::Error { last, error } => {
                writer.error(&update.sub, *last, &error.clone().into())
            }
        }
    }
    writer.end();
    let frame = String::from_utf8_lossy(&chunks.concat()).into_owned();
    let data = frame.lines().find_map(|line| line.strip_prefix("data: ")).unwrap_or_default();
    format!("{data}\n")
}

fn readable(transition: &Transition) -> String {
    use std::fmt::Write;
    let mut out = String::new();
    for update in &transition.updates {
        let when =
            transition.committed_at.map(|at| format!(", committed {at}")).unwrap_or_default();
        match &update.kind {
            UpdateKind::Snapshot(snapshot) => {
                let rows = &snapshot.value.rows;
                let _ = writeln!(out, "= {} rows at {}{when}", rows.len(), transition.lsn);
                for row in rows {
                    out.push_str("  ");
                    encode_row(&mut out, &snapshot.value.columns, row);
                    out.push('\n');
                }
            }
            UpdateKind::Diffs(diffs) => {
                let _ = writeln!(out, "at {}{when}", transition.lsn);
                for diff in diffs {
                    for op in &diff.value.ops {
                        push_op(&mut out, op, &diff.value.columns);
                    }
                }
            }
            UpdateKind::Unchanged => {}
            UpdateKind::Stale(lsn) => {
                let _ = writeln!(out, "! stale: as of {lsn}");
            }
            UpdateKind::Error { error, .. } => {
                let _ = writeln!(out, "! {}", error.message);
            }
        }
    }
    out
}

fn push_op(out: &mut String, op: &DiffOp, columns: &[convoy_engine::OutputColumn]) {
    use std::fmt::Write;
    match op {
        DiffOp::Remove { key } => {
            let _ = writeln!(out, "- {key}");
        }
        DiffOp::Insert { row, at } => {
            let _ = write!(out, "+ {} at {at} ", row.key());
            encode_row(out, columns, row);
            out.push('\n');
        }
        DiffOp::Update { key, set } => {
            let _ = write!(out, "~ {key}");
            for (column, cell) in set {
                let _ = write!(out, " {}={cell}", columns[*column].name);
            }
            out.push('\n');
        }
        DiffOp::Move { key, at } => {
            let _ = writeln!(out, "> {key} to {at}");
        }
        DiffOp::Patch { value, .. } => {
            let _ = writeln!(out, "~ {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_quoted() {
        assert_eq!(literal("a'b\\c"), "E'a''b\\\\c'");
    }
}
