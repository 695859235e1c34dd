//! `functions.ts`: what functions and queries there are, at run time, for servers and tests that want to know.

use crate::api::Modules;
use crate::project::{FunctionEntry, FunctionKind, Project, SqlQuery, Visibility};
use crate::typescript::{PRETTIER_IGNORE, head, string};

/// Returns the text of `functions.ts`.
pub(crate) fn functions(project: &Project) -> String {
    let mut text =
        head("All functions and queries by name; a module is loaded when it is asked for.");
    text.push_str(&format!("{PRETTIER_IGNORE}export const modules = {{\n"));
    for path in Modules::of(project).aliases.keys() {
        let file = string(&format!("../{path}.js"));
        text.push_str(&format!("  {}: () => import({file}),\n", string(path)));
    }
    text.push_str(&format!("}} as const;\n\n{PRETTIER_IGNORE}export const functions = [\n"));
    let mut functions: Vec<&FunctionEntry> = project.functions.iter().collect();
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    for function in functions {
        text.push_str(&format!(
            "  {{ name: {}, kind: {}, visibility: {}, module: {}, export: {} }},\n",
            string(&function.name),
            string(kind(function.kind)),
            string(visibility(function.visibility)),
            string(&function.module),
            string(&function.export),
        ));
    }
    text.push_str(&format!("] as const;\n\n{PRETTIER_IGNORE}export const queries = [\n"));
    let mut queries: Vec<&SqlQuery> = project.queries.iter().collect();
    queries.sort_by(|a, b| a.name.cmp(&b.name));
    for query in queries {
        let (name, file) = (string(&query.name), string(&query.file));
        text.push_str(&format!("  {{ name: {name}, file: {file} }},\n"));
    }
    text.push_str("] as const;\n");
    text.push_str("\nexport type FunctionName = (typeof functions)[number]['name'];\n");
    text.push_str("export type QueryName = (typeof queries)[number]['name'];\n");
    text
}

fn kind(kind: FunctionKind) -> &'static str {
    match kind {
        FunctionKind::Query => "query",
        FunctionKind::Mutation => "mutation",
    }
}

fn visibility(visibility: Visibility) -> &'static str {
    match visibility {
        Visibility::Public => "public",
        Visibility::Internal => "internal",
    }
}
