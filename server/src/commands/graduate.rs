//! `convoy graduate`: the SQL that moves a document table to columns, and the change of `schema.ts` that says so.

use crate::error::ServerError;
use clap::Args;
use std::path::PathBuf;

/// Prints the SQL that moves a table's documents to columns, for psql; nothing is changed in any database
#[derive(Args, Debug)]
pub struct GraduateArgs {
    /// The table
    pub table: String,
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".", env = "CONVOY_PROJECT")]
    pub project: PathBuf,
    /// Declares the table .relational() in schema.ts, too
    #[arg(long, env = "CONVOY_WRITE")]
    pub write: bool,
}

/// Prints the SQL, and says where `schema.ts` changes.
///
/// # Errors
/// What is not in order in the project; where there is no such table, or it can't have columns.
#[cfg(feature = "functions")]
pub async fn run(args: GraduateArgs) -> Result<(), ServerError> {
    use super::output::print;
    use convoy_schema::{EditError, graduation, schema_edit};
    use convoy_types::nearest;
    let schema = crate::backend::schema(&args.project).await?;
    let found = schema.tables.iter().find(|table| table.name == args.table);
    let table = found.ok_or_else(|| {
        let names = || schema.tables.iter().map(|table| &*table.name);
        let hint = match nearest(&args.table, names()) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
        };
        ServerError::Misused(format!("schema.ts declares no table {}: {hint}", args.table))
    })?;
    let moved = graduation(table)?;
    let file = crate::project::root(&args.project).join("schema.ts");
    let system = |doing| move |source| ServerError::System { doing, source };
    let source = std::fs::read_to_string(&file).map_err(system("reading schema.ts"))?;
    match schema_edit(&source, &args.table) {
        Ok(edit) if args.write => {
            std::fs::write(&file, edit.applied(&source)).map_err(system("writing schema.ts"))?;
            tracing::info!("schema.ts, line {}: declared .relational()", edit.line);
        }
        Ok(edit) => tracing::info!(
            "schema.ts, line {}, column {}: put {} there (--write does it)",
            edit.line,
            edit.column,
            edit.text
        ),
        Err(already @ EditError::Already { .. }) => tracing::info!("schema.ts, {already}"),
        Err(error) => tracing::warn!("schema.ts: {error}"),
    }
    print(&moved.sql);
    Ok(())
}

/// Says that this build can't.
///
/// # Errors
/// Always.
#[cfg(not(feature = "functions"))]
pub async fn run(_: GraduateArgs) -> Result<(), ServerError> {
    Err(ServerError::Misused(crate::loading::NO_FUNCTIONS.to_owned()))
}
