//! `queries.d.ts`: what the `.sql` files take and give; and its map, by which an editor goes on from a query's name, or
//! from one of its columns, to the file.
//!
//! A declaration file, since maps of declarations are followed for these alone.

use crate::project::{Project, QueryParam, SqlQuery, StatedType};
use crate::source_map::{Mapping, source_map};
use crate::tree::{Tree, TypeText};
use crate::typescript::{API_PACKAGE, PRETTIER_IGNORE, head, property, string};
use crate::value_type::{Place, or_null};

/// The declarations' file.
pub(crate) const FILE: &str = "queries.d.ts";
/// The map's file.
pub(crate) const MAP_FILE: &str = "queries.d.ts.map";

/// Returns the texts of both files.
pub(crate) fn queries(project: &Project) -> (String, String) {
    let mut queries: Vec<&SqlQuery> = project.queries.iter().collect();
    queries.sort_by(|a, b| a.name.cmp(&b.name));
    let mut tree = Tree::default();
    for (position, query) in queries.iter().enumerate() {
        tree.insert(query.name.split('.'), (position, *query));
    }
    let mut text = head("What the .sql files take and give, as Postgres describes them.");
    text.push_str(&format!(
        "import type {{ QueryRef }} from '{API_PACKAGE}';\n\n{PRETTIER_IGNORE}export type Queries = "
    ));
    let first_line = text.matches('\n').count();
    let printed = tree.print(first_line, &|(_, query)| query_ref(query), &|(_, query)| {
        Some(format!("`{}`", query.file.replace("*/", "* /")))
    });
    text.push_str(&printed.text);
    text.push_str(&format!(";\n//# sourceMappingURL={MAP_FILE}\n"));
    let mappings: Vec<Mapping> = printed
        .places
        .iter()
        .map(|place| Mapping { line: place.line, column: place.column, source: place.value.0 })
        .collect();
    let sources: Vec<String> = queries.iter().map(|query| format!("../{}", query.file)).collect();
    (text, source_map(FILE, &sources, &mappings))
}

/// Returns a query's type; the columns are marked, since they too are declared in the file.
fn query_ref(query: &SqlQuery) -> TypeText {
    let mut ty = TypeText { text: format!("QueryRef<{}, {{", args(query)), marks: Vec::new() };
    for (position, column) in query.columns.iter().enumerate() {
        ty.text.push_str(if position == 0 { " " } else { "; " });
        ty.marks.push(ty.text.len());
        let value = match &column.stated {
            Some(stated) => stated_type(stated, &query.file),
            None => column.ty.typescript(Place::Row),
        };
        let value = or_null(value, column.nullable);
        ty.text.push_str(&format!("{}: {value}", property(&column.name)));
    }
    ty.text.push_str(" }[]>");
    ty
}

fn args(query: &SqlQuery) -> String {
    let arg = |param: &QueryParam| {
        let ty = or_null(param.ty.typescript(Place::Argument), param.nullable);
        let optional = if param.optional { "?" } else { "" };
        format!("{}{optional}: {ty}", property(&param.name))
    };
    let args = query.params.iter().map(arg).collect::<Vec<_>>().join("; ");
    if args.is_empty() { "Record<string, never>".to_owned() } else { format!("{{ {args} }}") }
}

/// Returns the type as seen from the generated files.
fn stated_type(stated: &StatedType, file: &str) -> String {
    match &stated.from {
        None => stated.ty.clone(),
        Some(from) => format!("import({}).{}", string(&seen_from_generated(from, file)), stated.ty),
    }
}

/// Returns a module's path as it is seen from `_generated`, where a file of the project sees it as `from`.
fn seen_from_generated(from: &str, file: &str) -> String {
    if !from.starts_with('.') {
        return from.to_owned();
    }
    let mut folders: Vec<&str> = file.split('/').collect();
    folders.pop();
    let mut above = 1;
    for part in from.split('/') {
        match part {
            "." | "" => {}
            ".." => match folders.pop() {
                Some(_) => {}
                None => above += 1,
            },
            part => folders.push(part),
        }
    }
    let path = format!("{}{}", "../".repeat(above), folders.join("/"));
    // Only with an extension do all ways of resolving take it; and `.js` is that of a `.ts`.
    let path = path.strip_suffix(".ts").unwrap_or(&path);
    let has_extension = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    if has_extension { path.to_owned() } else { format!("{path}.js") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_from_where_the_generated_files_are() {
        let check = |from: &str, expect: &str| {
            assert_eq!(seen_from_generated(from, "queries/orders/byTenant.sql"), expect);
        };
        check("./meta", "../queries/orders/meta.js");
        check("../meta.ts", "../queries/meta.js");
        check("../../types/meta.js", "../types/meta.js");
        check("../../../shared/meta", "../../shared/meta.js");
        check("zod", "zod");
        check("@scope/pkg/meta", "@scope/pkg/meta");
    }
}
