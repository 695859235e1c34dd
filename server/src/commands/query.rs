//! placeholder
use crate::error::ServerError;
/// options
#[derive(clap::Args, Clone, Debug)]
pub struct QueryArgs {}
/// Runs it.
/// # Errors
/// none
pub async fn run(_args: QueryArgs) -> Result<(), ServerError> {
    Ok(())
}
