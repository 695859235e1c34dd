//! placeholder
use crate::error::ServerError;
/// options
#[derive(clap::Args, Clone, Debug)]
pub struct DoctorArgs {}
/// Runs it.
/// # Errors
/// none
pub async fn run(_args: DoctorArgs) -> Result<(), ServerError> {
    Ok(())
}
