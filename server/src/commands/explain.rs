//! `convoy explain`: how a query would be kept live, and why; straight from the database, of which nothing is changed.

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
    QueryTemplate, Statement, TableFacts, TableKind,
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
    /// A SELECT, or the name of a query of the project
    #[arg(value_name = "SQL|NAME")]
    pub query: String,
    /// The named query's arguments, a JSON object; they are only checked
    pub args: Option<String>,
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
    let statement = statement(&args)?;
    let options = DatabaseOptions {
        session: args.database.session(),
        publish: PublishMode::Foresee,
        ..DatabaseOptions::new(args.database.url()?)
    };
    let (sender, mut answers) = mpsc::unbounded_channel();
    let sink = Arc::new(move |event| {
        // Who asks for one answer takes one.
        let _ = sender.send(event);
    });
    let mut database = PostgresDatabase::new(options, Handle::current(), sink);
    let facts = database.handle().facts(&statement).await?;
    let analysis = analyse(&statement, &facts)?;
    let requests = analysis.constants().to_vec();
    let constants = cast(&mut database, requests, &mut answers).await;
    let template = analysis.finish(&constants)?;
    if args.json {
        print(&format!("{:#}\n", as_json(&template)));
    } else {
        print(&as_text(&template));
    }
    Ok(())
}

/// A name has no blank and no parenthesis in it; every statement has one or the other.
fn statement(args: &ExplainArgs) -> Result<Arc<Statement>, ServerError> {
    let query = args.query.trim();
    if query.contains(|c: char| c.is_whitespace() || c == '(') {
        if args.args.is_some() {
            let message =
                "arguments go with a query's name; SQL is explained for any of its parameters";
            return Err(ServerError::Misused(message.to_owned()));
        }
        return Ok(Arc::new(Statement::ad_hoc(query)?));
    }
    let statement = find(&NamedQueries::load(&args.project)?, query, &args.project)?;
    if let Some(given) = &args.args {
        let misused = |error: crate::protocol::ApiError| ServerError::Misused(error.message);
        let given = read_args(given.as_bytes(), usize::MAX).map_err(misused)?;
        // Whoever asks; only whether the arguments fit is looked at.
        let claim = |_: &ParamDeclaration| Some(Argument::String(String::new()));
        arguments_by_name(&statement.params, given, claim)
            .map_err(|error| ServerError::Misused(error.message))?;
    }
    Ok(statement)
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

fn as_text(template: &QueryTemplate) -> String {
    let mut rows: Vec<Vec<(String, Tone)>> = Vec::new();
    let mut row = |label: &str, text: String| {
        rows.push(vec![(label.to_owned(), Tone::Quiet), (text, Tone::Plain)])
    };
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
    for (position, predicate) in predicates(template).into_iter().enumerate() {
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
        row(label, text);
    }
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
    let predicate = |predicate: PredicateView| json!({ "table": predicate.table, "condition": predicate.condition, "access": predicate.access, "columns": predicate.columns, "unheld": predicate.unheld });
    json!({
        "plan": plan_word(template),
        "columns": template.columns.iter().map(|column| json!({ "name": column.name, "type": column.type_name })).collect::<Vec<_>>(),
        "tables": template.tables.iter().map(|table| json!({ "name": table.qualified_name(), "published": publication(table) })).collect::<Vec<_>>(),
        "predicates": predicates(template).into_iter().map(predicate).collect::<Vec<_>>(),
        "read": batching(template),
        "notes": template.notes,
    })
}
