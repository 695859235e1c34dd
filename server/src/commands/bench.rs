//! `convoy bench`: the benchmarks, which are a crate of their own.

use crate::config::postgres_search;
use crate::error::ServerError;
pub use convoy_bench::BenchArgs;

/// Runs a benchmark.
///
/// # Errors
/// What kept it from being measured.
pub async fn run(args: BenchArgs) -> Result<(), ServerError> {
    let search = postgres_search(None);
    let ran = tokio::task::spawn_blocking(move || convoy_bench::run(args, search)).await;
    match ran {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(ServerError::Unwell(format!("{error:#}"))),
        Err(error) => Err(ServerError::Unwell(format!("the benchmark ended: {error}"))),
    }
}
