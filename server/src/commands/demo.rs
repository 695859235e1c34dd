//! placeholder
use crate::error::ServerError;
/// options
#[derive(clap::Args, Clone, Debug)]
pub struct DemoArgs {}
/// Runs it.
/// # Errors
/// none
pub async fn run(_args: DemoArgs) -> Result<(), ServerError> {
    Ok(())
}
