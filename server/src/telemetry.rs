//! Logs: to standard error, with colours only on a terminal and never with `NO_COLOR`.

use std::io::IsTerminal;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Returns whether standard error may be coloured.
pub fn is_colourful() -> bool {
    std::io::stderr().is_terminal() && !is_no_color()
}

/// Returns whether `NO_COLOR` asks for none (no-color.org: set and not empty).
pub fn is_no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Starts to log what `filter` lets through: a level, or tracing's directives.
///
/// # Errors
/// Where the filter is none.
pub fn start(filter: &str) -> Result<(), String> {
    let filter: Targets = filter.parse().map_err(|error| format!("--log {filter:?}: {error}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(is_colourful())
        .with_target(false);
    // A test may have begun to log before.
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
    Ok(())
}
