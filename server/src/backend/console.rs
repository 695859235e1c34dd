//! What a project's code says by `console.log`, into the server's log.

use serde::Deserialize;

/// A line, as the host's operation `log` takes it.
#[derive(Deserialize)]
struct Line {
    level: String,
    message: String,
}

/// Writes a line that was logged in a call of `function`, or, where that is empty, while modules were evaluated.
pub(super) fn write(function: &str, line: &str) {
    let Ok(Line { level, message }) = serde_json::from_str(line) else { return };
    match level.as_str() {
        "error" => tracing::error!(target: "console", function, "{message}"),
        "warn" => tracing::warn!(target: "console", function, "{message}"),
        "debug" => tracing::debug!(target: "console", function, "{message}"),
        _ => tracing::info!(target: "console", function, "{message}"),
    }
}
