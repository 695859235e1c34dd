//! Stacks in the lines of the sources.

use crate::source::Graph;

/// Rewrites each `(file:line:column)` of a stack to where that is in the source, and leaves out what is Convoy's own.
pub(super) fn mapped(stack: &str, graph: &Graph) -> String {
    let lines = stack.lines().filter(|line| !line.trim().is_empty() && !line.contains("convoy:e"));
    lines.map(|line| mapped_line(line.trim_end(), graph)).collect::<Vec<_>>().join("\n")
}

fn mapped_line(line: &str, graph: &Graph) -> String {
    let place = line
        .rsplit_once('(')
        .and_then(|(before, place)| Some((before, "(", place.strip_suffix(')')?)));
    let place =
        place.or_else(|| line.split_once("at ").map(|(before, place)| (before, "at ", place)));
    let Some((before, open, place)) = place else { return line.to_owned() };
    let close = if open == "(" { ")" } else { "" };
    let original = || {
        let (rest, column) = place.rsplit_once(':')?;
        let (file, at) = rest.rsplit_once(':')?;
        let (line, column) = graph.original(file, at.parse().ok()?, column.parse().ok()?)?;
        Some(format!("{before}{open}{file}:{line}:{column}{close}"))
    };
    original().unwrap_or_else(|| line.to_owned())
}
