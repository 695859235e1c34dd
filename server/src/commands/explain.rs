//! placeholder
use crate::error::ServerError;
/// options
#[derive(clap::Args, Clone, Debug)]
pub struct ExplainArgs {}
/// Runs it.
/// # Errors
/// none
pub async fn run(_args: ExplainArgs) -> Result<(), ServerError> {
    Ok(())
}
