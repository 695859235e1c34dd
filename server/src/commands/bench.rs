//! placeholder
use crate::error::ServerError;
/// options
#[derive(clap::Args, Clone, Debug)]
pub struct BenchArgs {}
/// Runs it.
/// # Errors
/// none
pub async fn run(_args: BenchArgs) -> Result<(), ServerError> {
    Ok(())
}
