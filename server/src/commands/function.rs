//! A project's query function from the shell: run once, on a connection of its own, in a transaction that writes nothing.

use super::output::print;
use crate::auth::Identity;
use crate::config::DatabaseArgs;
use crate::error::ServerError;
use crate::loading::{OpenProject, Runs, Tables, has_functions};
use crate::mutations::Backend;
use crate::project::NamedQueries;
use crate::protocol::read_args;
use crate::wish;
use convoy_engine::{
    Argument, FunctionAnswer, FunctionRead, QueryReference, Statement, StatementKind,
};
use convoy_postgres::connect;
use convoy_query_index::QueryId;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long it may take in all.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A function, and who runs it.
pub(super) struct Function {
    pub statement: Arc<Statement>,
    pub backend: Backend,
}

/// Returns the function of this name; none where a `.sql` file has it, or nothing that this build knows. The tables that it
/// reads have to be there.
///
/// # Errors
/// What is not in order, in the project or in the database.
pub(super) async fn find(
    queries: &NamedQueries,
    name: &str,
    project: &Path,
    database: &DatabaseArgs,
) -> Result<Option<Function>, ServerError> {
    let is_one = queries.get(name).is_none() && has_functions(project);
    if !is_one || cfg!(not(feature = "functions")) {
        return Ok(None);
    }
    let (url, session) = (database.url()?, database.session());
    let opened =
        OpenProject::open(project, &url, &session, Tables::Look, Runs::WhatIsThere).await?;
    let statement = super::query::find(&opened.queries, name, project)?;
    Ok(match opened.backend {
        Some(backend) if statement.kind == StatementKind::Function => {
            Some(Function { statement, backend })
        }
        _ => None,
    })
}

impl Function {
    /// Returns a reference to it, with these arguments and claims, both JSON objects.
    ///
    /// # Errors
    /// What is wrong with those.
    pub fn reference(&self, args: &str, claims: &str) -> Result<QueryReference, ServerError> {
        let misused = |error: crate::protocol::ApiError| ServerError::Misused(error.message);
        let given = read_args(args.as_bytes(), usize::MAX).map_err(misused)?;
        let claims: serde_json::Value = serde_json::from_str(claims)
            .map_err(|error| ServerError::Misused(format!("--claims: no valid JSON ({error})")))?;
        let nobody = claims.as_object().is_some_and(serde_json::Map::is_empty);
        let identity = match nobody {
            true => Identity::nobody(),
            false => Identity::new(claims, None).map_err(misused)?,
        };
        Ok(wish::reference(self.statement.clone(), given, &identity)?)
    }

    /// Runs it.
    ///
    /// # Errors
    /// Where it could not be run. What it throws is its answer.
    pub async fn run(
        &self,
        reference: &QueryReference,
        database: &DatabaseArgs,
    ) -> Result<FunctionAnswer, ServerError> {
        let text = |argument: &Option<Argument>| match argument {
            Some(Argument::String(text)) => Some(Arc::from(text.as_str())),
            _ => None,
        };
        let read = FunctionRead {
            query: QueryId(0),
            statement: self.statement.clone(),
            params: reference.args.iter().map(text).collect(),
            timeout: TIMEOUT,
        };
        let connection = connect(&database.url()?, &database.session()).await?;
        let client = connection.client();
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = {}",
            TIMEOUT.as_millis()
        );
        client.batch_execute(&begin).await?;
        Ok(self.backend.functions.run(&read, client.clone()).await.outcome?)
    }

    /// Runs it, and prints what it gives.
    ///
    /// # Errors
    /// What it throws, too.
    pub async fn print_once(
        &self,
        reference: &QueryReference,
        database: &DatabaseArgs,
        json: bool,
    ) -> Result<(), ServerError> {
        let value = self.run(reference, database).await?.value?;
        if json {
            print(&format!("{value}\n"));
            return Ok(());
        }
        let value: serde_json::Value = serde_json::from_str(&value).unwrap_or_default();
        print(&format!("{value:#}\n--live stays and prints what changes\n"));
        Ok(())
    }
}
