//! `convoy explain`: how a query would be kept live, and why; straight from the database, of which nothing is changed. A function
//! is run for it: what it reads is not known before.

use super::function::{self, Function};
use super::output::{Tone, print, table};
use super::query::find;
use crate::config::{DatabaseArgs, switch};
use crate::error::ServerError;
use crate::project::NamedQueries;
use crate::protocol::{arguments_by_name, read_args};
use clap::Args;
use convoy_engine::analyse::analyse;
use convoy_engine::{
    Argument, Batching, CastId, CastRequest, Database, Event, ParamDeclaration, Plan, Publication,
    QueryTemplate, RecordedRead, Statement, TableFacts, TableKind,
};
use convoy_postgres::{DatabaseOptions, PostgresDatabase, PublishMode};
use convoy_query_index::FieldId;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// The options of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {
    /// A SELECT, or the name of a query or a query function of the project
    #[arg(value_name = "SQL|NAME")]
    pub query: String,
    /// The named query's arguments, a JSON object: of a query they are only checked, a function is run with them
    pub args: Option<String>,
    /// Who asks, for a function's ctx.auth, a JSON object
    #[arg(long, value_name = "JSON", default_value = "{}", env = "CONVOY_EXPLAIN_CLAIMS")]
    pub claims: String,
    /// Prints JSON
    #[arg(long, value_parser = switch, env = "CONVOY_EXPLAIN_JSON")]
    pub json: bool,
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".", env = "CONVOY_PROJECT")]
    pub project: PathBuf,
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
}

/// Explains a query.
///
/// # Errors
/// Why it can't be live, or why the database can't be asked.
pub async fn run(args: ExplainArgs) -> Result<(), ServerError> {
    let statement = match asked(&args).await? {
        Asked::Statement(statement) => statement,
        Asked::Function(function) => return explain_function(&args, &function).await,
    };
    let template = Analyst::new(&args.database)?.analyse(&statement).await?;
    if args.json {
        print(&format!("{:#}\n", as_json(&template)));
    } else {
        print(&as_text(&template));
    }
    Ok(())
}

/// What a function reads is seen when it runs: it is run, and each of its reads is explained.
async fn explain_function(args: &ExplainArgs, function: &Function) -> Result<(), ServerError> {
    let given = args.args.as_deref().unwrap_or("{}");
    let reference = function.reference(given, &args.claims)?;
    let answer = function.run(&reference, &args.database).await?;
    let mut analyst = Analyst::new(&args.database)?;
    let mut reads = Vec::new();
    for read in &answer.reads {
        reads.push((read, analyst.analyse(&read.statement).await?));
    }
    let threw = answer.value.err();
    if args.json {
        let read = |(read, template): &(&RecordedRead, QueryTemplate)| json!({ "sql": read.statement.text, "args": read.args.iter().map(|arg| arg.as_deref()).collect::<Vec<_>>(), "predicates": predicates(template).into_iter().map(PredicateView::json).collect::<Vec<_>>() });
        let reads: Vec<_> = reads.iter().map(read).collect();
        let threw = threw.map(|error| error.message);
        print(&format!("{:#}\n", json!({ "plan": "function", "reads": reads, "threw": threw })));
        return Ok(());
    }
    let mut rows = vec![line("plan", "run again, as a function".to_owned())];
    rows.extend(threw.map(|error| line("threw", error.message)));
    for (read, template) in &reads {
        let arg = |(number, arg): (usize, &Option<Arc<str>>)| {
            format!("${} = {}", number + 1, arg.as_deref().unwrap_or("null"))
        };
        let given = read.args.iter().enumerate().map(arg).collect::<Vec<_>>().join(", ");
        let with = if given.is_empty() { given } else { format!("; {given}") };
        rows.push(line("read", format!("{}{with}", read.statement.text)));
        rows.extend(predicate_lines(template));
    }
    let mut text = table(&rows);
    text.push_str(
        "run again when something above touches it; other arguments may read other rows\n",
    );
    print(&text);
    Ok(())
}

/// Asks the database about statements, of which nothing is changed.
struct Analyst {
    database: PostgresDatabase,
    answers: mpsc::UnboundedReceiver<Event>,
}

impl Analyst {
    fn new(database: &DatabaseArgs) -> Result<Analyst, ServerError> {
        let options = DatabaseOptions {
            session: database.session(),
            publish: PublishMode::Foresee,
            ..DatabaseOptions::new(database.url()?)
        };
        let (sender, answers) = mpsc::unbounded_channel();
        let sink = Arc::new(move |event| {
            // Who asks for one answer takes one.
            let _ = sender.send(event);
        });
        let database = PostgresDatabase::new(options, Handle::current(), sink);
        Ok(Analyst { database, answers })
    }

    async fn analyse(&mut self, statement: &Arc<Statement>) -> Result<QueryTemplate, ServerError> {
        let facts = self.database.handle().facts(statement).await?;
        let analysis = analyse(statement, &facts)?;
        let requests = analysis.constants().to_vec();
        let constants = cast(&mut self.database, requests, &mut self.answers).await;
        Ok(analysis.finish(&constants)?)
    }
}

/// What is to be explained.
enum Asked {
    Statement(Arc<Statement>),
    Function(Function),
}

/// A name has no blank and no parenthesis in it; every statement has one or the other.
async fn asked(args: &ExplainArgs) -> Result<Asked, ServerError> {
    let query = args.query.trim();
    if query.contains(|c: char| c.is_whitespace() || c == '(') {
        if args.args.is_some() {
            let message =
                "arguments go with a query's name; SQL is explained for any of its parameters";
            return Err(ServerError::Misused(message.to_owned()));
        }
        return Ok(Asked::Statement(Arc::new(Statement::ad_hoc(query)?)));
    }
    let queries = NamedQueries::load(&args.project)?;
    if let Some(function) = function::find(&queries, query, &args.project, &args.database).await? {
        return Ok(Asked::Function(function));
    }
    let statement = find(&queries, query, &args.project)?;
    if let Some(given) = &args.args {
        let misused = |error: crate::protocol::ApiError| ServerError::Misused(error.message);
        let given = read_args(given.as_bytes(), usize::MAX).map_err(misused)?;
        // Whoever asks; only whether the arguments fit is looked at.
        let claim = |_: &ParamDeclaration| Some(Argument::String(String::new()));
        arguments_by_name(&statement.params, given, claim)
            .map_err(|error| ServerError::Misused(error.message))?;
    }
    Ok(Asked::Statement(statement))
}

async fn cast(
    database: &mut PostgresDatabase,
    requests: Vec<CastRequest>,
    answers: &mut mpsc::UnboundedReceiver<Event>,
) -> Vec<Option<String>> {
    if requests.is_empty() {
        return Vec::new();
    }
    let count = requests.len();
    database.cast(CastId(0), requests);
    while let Some(event) = answers.recv().await {
        if let Event::Cast(_, values) = event {
            // What a type does not take falls back to a weaker condition.
            return values.into_iter().map(|value| value.ok().flatten()).collect();
        }
    }
    vec![None; count]
}

/// What is said of one predicate.
struct PredicateView {
    table: String,
    condition: String,
    /// How the index finds the live queries.
    access: String,
    columns: Vec<String>,
    /// What counts only for rows that the result holds.
    unheld: Option<String>,
}

impl PredicateView {
    fn json(self) -> serde_json::Value {
        let PredicateView { table, condition, access, columns, unheld } = self;
        json!({ "table": table, "condition": condition, "access": access, "columns": columns, "unheld": unheld })
    }
}

fn predicates(template: &QueryTemplate) -> Vec<PredicateView> {
    let name_of = |table: Option<&Arc<TableFacts>>, field: FieldId| match table {
        Some(table) if usize::from(field.0) < table.columns.len() => {
            table.column(field).name.clone()
        }
        _ => format!("column {}", field.0),
    };
    let access = template.describe_access();
    let view = |(number, predicate): (usize, &convoy_query_index::Predicate)| {
        let table = template.tables.iter().find(|table| table.id == predicate.relation);
        let columns = (0..table.map_or(0, |table| table.columns.len()))
            .filter_map(|field| u16::try_from(field).ok().map(FieldId))
            .filter(|field| predicate.fields.contains(*field))
            .map(|field| name_of(table, field))
            .collect();
        PredicateView {
            table: table
                .map_or_else(|| predicate.relation.0.to_string(), |table| table.qualified_name()),
            condition: template.describe_predicate(number),
            access: access.get(number).cloned().unwrap_or_default(),
            columns,
            unheld: template.describe_unheld(number),
        }
    };
    template.predicates.iter().enumerate().map(view).collect()
}

fn plan_word(template: &QueryTemplate) -> &'static str {
    match template.plan {
        Plan::Window(_) | Plan::Groups(_) => "incremental",
        Plan::Refresh(_) => "refresh",
    }
}

fn publication(table: &TableFacts) -> &'static str {
    match (table.publication, table.kind) {
        (Publication::Full, _) => "all changes",
        (Publication::InsertsOnly, _) => "inserts only: its updates can't be seen",
        (Publication::None, TableKind::View) => "a view: through its tables",
        (Publication::None, _) => "not in the log",
    }
}

/// Says whether the results of many live queries of it are read at once.
fn batching(template: &QueryTemplate) -> String {
    match &template.read.batching {
        Batching::Together(_) => "many live queries of it by one statement".to_owned(),
        Batching::Singly(why) => format!("each live query by its own statement, because {why}"),
    }
}

/// A labelled line of what is printed.
fn line(label: &str, text: String) -> Vec<(String, Tone)> {
    vec![(label.to_owned(), Tone::Quiet), (text, Tone::Plain)]
}

/// Says what touches a live query.
fn predicate_lines(template: &QueryTemplate) -> Vec<Vec<(String, Tone)>> {
    let said = |(position, predicate): (usize, PredicateView)| {
        let label = if position == 0 { "touched by" } else { "" };
        let mut text = format!(
            "{} where {}; found by {}",
            predicate.table, predicate.condition, predicate.access
        );
        if !predicate.columns.is_empty() {
            text.push_str(&format!(
                "; an update counts if it changes {}",
                predicate.columns.join(", ")
            ));
        }
        if let Some(unheld) = predicate.unheld {
            text.push_str(&format!("; {unheld}"));
        }
        line(label, text)
    };
    predicates(template).into_iter().enumerate().map(said).collect()
}

fn as_text(template: &QueryTemplate) -> String {
    let mut rows: Vec<Vec<(String, Tone)>> = Vec::new();
    let mut row = |label: &str, text: String| rows.push(line(label, text));
    row("plan", plan_word(template).to_owned());
    for (position, column) in template.columns.iter().enumerate() {
        row(
            if position == 0 { "columns" } else { "" },
            format!("{} {}", column.name, column.type_name),
        );
    }
    for (position, table) in template.tables.iter().enumerate() {
        row(
            if position == 0 { "tables" } else { "" },
            format!("{}: {}", table.qualified_name(), publication(table)),
        );
    }
    rows.extend(predicate_lines(template));
    let mut row = |label: &str, text: String| rows.push(line(label, text));
    row("read", batching(template));
    for (position, note) in template.notes.iter().enumerate() {
        row(if position == 0 { "why" } else { "" }, note.clone());
    }
    let mut text = table(&rows);
    text.push_str(match template.plan {
        Plan::Window(_) | Plan::Groups(_) => {
            "kept up to date from the log alone, without asking the database\n"
        }
        Plan::Refresh(_) => "read again when something above touches it\n",
    });
    text
}

fn as_json(template: &QueryTemplate) -> serde_json::Value {
    json!({
        "plan": plan_word(template),
        "columns": template.columns.iter().map(|column| json!({ "name": column.name, "type": column.type_name })).collect::<Vec<_>>(),
        "tables": template.tables.iter().map(|table| json!({ "name": table.qualified_name(), "published": publication(table) })).collect::<Vec<_>>(),
        "predicates": predicates(template).into_iter().map(PredicateView::json).collect::<Vec<_>>(),
        "read": batching(template),
        "notes": template.notes,
    })
}
