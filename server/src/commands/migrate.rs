//! `convoy migrate` (`deploy`): what `schema.ts` declares, brought into a database, and said before it is done.

use crate::config::DatabaseArgs;
use crate::error::ServerError;
use clap::Args;
use std::path::PathBuf;

/// Creates the tables, columns and indexes that a project's schema declares and the database has not; drops nothing
#[derive(Args, Debug)]
pub struct MigrateArgs {
    /// Which database.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The project's folder
    #[arg(long, value_name = "DIR", default_value = ".", env = "CONVOY_PROJECT")]
    pub project: PathBuf,
    /// Only says what is to be done; ends with 1 where that is anything
    #[arg(long, env = "CONVOY_DRY_RUN")]
    pub dry_run: bool,
}

/// Prints the plan, and carries it out.
///
/// # Errors
/// What is not in order, in the project or in the database; with `--dry-run` also where anything is to be done.
#[cfg(feature = "functions")]
pub async fn run(args: MigrateArgs) -> Result<(), ServerError> {
    use crate::backend::migrate;
    let url = args.database.url()?;
    let plan = migrate(&args.project, &url, &args.database.session(), args.dry_run).await?;
    print!("{}", plan.text);
    match args.dry_run && plan.has_steps {
        true => Err(ServerError::Unwell("nothing was done: run it without --dry-run".to_owned())),
        false => Ok(()),
    }
}

/// Says that this build can't.
///
/// # Errors
/// Always.
#[cfg(not(feature = "functions"))]
pub async fn run(_: MigrateArgs) -> Result<(), ServerError> {
    Err(ServerError::Misused(crate::loading::NO_FUNCTIONS.to_owned()))
}
