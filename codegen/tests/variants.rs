//! Projects of other shapes under the compiler: without a schema, without functions, with a context of their own, with
//! odd names, and for Node's own resolution.

use crate::npm::tsc;
use crate::shop::{Shop, function, project};
use convoy_codegen::FunctionKind::{Mutation, Query};
use convoy_codegen::Visibility::{Internal, Public};
use convoy_codegen::{
    GenerateError, Project, QueryColumn, QueryParam, SqlQuery, StatedType, ValueType, generate,
};
use std::time::{Duration, Instant};

/// Compiles a project with these files; returns what the compiler says.
fn compile(project: &Project, files: &[(&str, &str)]) -> String {
    let shop = Shop::empty(project);
    for (name, text) in files {
        shop.file(name, text);
    }
    tsc(shop.path())
}

fn sql_query(name: &str, columns: &[(&str, ValueType)]) -> SqlQuery {
    let column = |(name, ty): &(&str, ValueType)| QueryColumn {
        name: (*name).to_owned(),
        ty: ty.clone(),
        nullable: false,
        stated: None,
    };
    SqlQuery {
        name: name.to_owned(),
        file: format!("queries/{}.sql", name.replace('.', "/")),
        params: Vec::new(),
        columns: columns.iter().map(column).collect(),
    }
}

const SCHEMA: &str = "
import { defineSchema, defineTable } from 'convoy';
import { z } from 'zod';
export default defineSchema({ notes: defineTable({ text: z.string() }) });
";

#[test]
fn a_schema_by_default_and_a_context_of_its_own() {
    let project = Project {
        functions: vec![function(Query, Public, "functions/notes", "mine")],
        has_schema: true,
        has_server: true,
        ..Project::default()
    };
    let server = "
import type { ServerContext } from './_generated/server';
export async function createContext(req: { headers: { authorization?: string } }, base: ServerContext) {
  return { ...base, auth: req.headers.authorization ? { userId: 'users:1' } : null };
}
";
    let notes = "
import { query, type Doc, type MutationCtx, type QueryCtx } from '../_generated/server';
export const mine = query({
  handler: async (ctx) => {
    const user: string | undefined = ctx.auth?.userId;
    return { user, notes: await ctx.db.all('notes') };
  },
});
export const helper = (ctx: QueryCtx): Promise<Doc<'notes'>[]> => ctx.db.all('notes');
export const write = (ctx: MutationCtx) => ctx.db.insert('notes', { text: ctx.auth?.userId ?? '' });
";
    let screen = "
import { useQuery } from 'use';
import { api } from './_generated/api';
export const text: string | undefined = useQuery(api.notes.mine).data?.notes[0]?.text;
";
    let files = [
        ("schema.ts", SCHEMA),
        ("server.ts", server),
        ("functions/notes.ts", notes),
        ("screen.ts", screen),
    ];
    assert_eq!(compile(&project, &files), "");
    let wrong = notes.replace("ctx.auth?.userId;", "ctx.auth.userId;");
    let files = [("schema.ts", SCHEMA), ("server.ts", server), ("functions/notes.ts", &wrong)];
    assert_eq!(
        compile(&project, &files),
        "functions/notes.ts(5,38): error TS18047: 'ctx.auth' is possibly 'null'.\n"
    );
}

#[test]
fn a_server_without_a_context_has_the_base() {
    let project = Project { has_schema: true, has_server: true, ..Project::default() };
    let use_it = "
import { query } from '../_generated/server';
export const all = query({ handler: async (ctx) => ctx.db.all('notes') });
";
    let server = "export function configureServer() {}\n";
    let files = [("schema.ts", SCHEMA), ("server.ts", server), ("functions/notes.ts", use_it)];
    assert_eq!(compile(&project, &files), "");
}

#[test]
fn a_project_without_functions_or_schema() {
    let queries = vec![sql_query("totals", &[("n", ValueType::Digits)])];
    let project = Project { queries, ..Project::default() };
    let screen = "
import { useQuery } from 'use';
import { api, internal } from './_generated/api';
import type { Doc } from './_generated/server';
export const n: string | undefined = useQuery(api.totals).data?.[0]?.n;
export const anything = (doc: Doc<'whatever'>): number => doc.x + 1;
// @ts-expect-error: there is nothing
internal.totals;
";
    assert_eq!(compile(&project, &[("screen.ts", screen)]), "");
    let nothing = "
import { api } from './_generated/api';
import type { FunctionName, QueryName } from './_generated/functions';
// @ts-expect-error: there is nothing
api.totals;
export const none = (name: FunctionName | QueryName): never => name;
";
    assert_eq!(compile(&Project::default(), &[("screen.ts", nothing)]), "");
}

#[test]
fn odd_names_are_no_trouble() {
    let mut query = sql_query(
        "orders.list.deep",
        &[("it's \"odd\"", ValueType::Boolean), ("größe", ValueType::Number)],
    );
    query.params = vec![QueryParam {
        name: "größe".to_owned(),
        ty: ValueType::Enum(vec!["it's".to_owned(), "a\\b".to_owned()]),
        nullable: true,
        optional: true,
    }];
    query.columns.push(QueryColumn {
        name: "meta".to_owned(),
        ty: ValueType::Json,
        nullable: true,
        stated: Some(StatedType { ty: "Meta[]".to_owned(), from: Some("./meta".to_owned()) }),
    });
    let project = Project {
        functions: vec![
            function(Query, Public, "functions/delete", "all"),
            function(Query, Public, "functions/größe", "grösste"),
            function(Query, Public, "functions/orders", "list"),
            function(Query, Public, "functions/orders/lines", "list"),
            function(Mutation, Internal, "functions/orders_lines", "api"),
        ],
        queries: vec![query],
        ..Project::default()
    };
    let module = |name: &str, kind: &str, depth: usize| {
        let up = "../".repeat(depth);
        format!(
            "import {{ {kind} }} from '{up}_generated/server';\nexport const {name} = {kind}({{ handler: async () => '{name}' }});\n"
        )
    };
    let screen = "
import { useQuery } from 'use';
import { api, internal } from './_generated/api';
export const words: (string | undefined)[] = [
  useQuery(api.delete.all).data,
  useQuery(api.größe.grösste).data,
  useQuery(api.orders.list).data,
  useQuery(api.orders.lines.list).data,
];
export const rows = useQuery(api.orders.list.deep, { größe: \"it's\" }).data;
export const odd: boolean | undefined = rows?.[0]?.['it\\'s \"odd\"'];
export const size: number | undefined = rows?.[0]?.größe;
export const unit: 'cm' | undefined = rows?.[0]?.meta?.[0]?.unit;
useQuery(api.orders.list.deep, { größe: null });
useQuery(api.orders.list.deep);
export const sweep = internal.orders_lines.api;
";
    let files = [
        ("functions/delete.ts", module("all", "query", 1)),
        ("functions/größe.ts", module("grösste", "query", 1)),
        ("functions/orders.ts", module("list", "query", 1)),
        ("functions/orders/lines.ts", module("list", "query", 2)),
        ("functions/orders_lines.ts", module("api", "internalMutation", 1)),
        ("queries/orders/list/meta.ts", "export interface Meta { unit: 'cm' }\n".to_owned()),
        ("screen.ts", screen.to_owned()),
    ];
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    assert_eq!(compile(&project, &files), "");
}

#[test]
fn nodes_own_resolution_takes_it() {
    let shop = Shop::empty(&Project { queries: project().queries, ..Project::default() });
    shop.file("package.json", "{\"type\": \"module\"}");
    shop.option("module", "nodenext".into());
    shop.option("moduleResolution", "nodenext".into());
    // The fixture is no package, and so no ES module to Node.
    shop.option("verbatimModuleSyntax", false.into());
    let screen = "
import { api } from './_generated/api.js';
import { queries } from './_generated/functions.js';
import { callQuery } from './_generated/http.js';
export const rows: Promise<{ id: string }[]> = callQuery(api.orders.byTenant, { tenant: 1 });
export const names: 'orders.byTenant' | 'totals' = queries[0].name;
";
    shop.file("screen.ts", screen);
    assert_eq!(tsc(shop.path()), "");
}

#[test]
fn a_new_export_is_in_the_api_at_once() {
    // `create` is on the disk, and nothing was generated since.
    let mut project = project();
    project.functions.retain(|function| function.export != "create");
    let shop = Shop::of(&project);
    let screen = "
import { useMutation } from 'use';
import { api } from './_generated/api';
export const create = useMutation(api.orders.create);
";
    shop.file("screen.ts", screen);
    assert_eq!(tsc(shop.path()), "");
}

#[test]
fn one_name_is_one_thing() {
    let mut project = project();
    project.queries.push(sql_query("orders.list", &[("n", ValueType::Number)]));
    let error = generate(&project).expect_err("two of one name");
    let twice = GenerateError::Twice {
        name: "orders.list".to_owned(),
        first: "functions/orders.ts (list)".to_owned(),
        second: "queries/orders/list.sql".to_owned(),
    };
    assert_eq!(error, twice);
    let message = error.to_string();
    assert!(
        message.starts_with("orders.list is defined twice: in functions/orders.ts (list) and in")
    );
}

/// What is promised from a save to the files, of which this is a part.
const SAVE_TO_FILES: Duration = Duration::from_millis(200);

#[test]
fn hundreds_of_functions_are_no_wait() {
    let functions = (0..500).map(|number| {
        let module = format!("functions/folder{}/module{}", number % 7, number / 10);
        function(Query, Public, &module, &format!("function{number}"))
    });
    let columns = ["a", "b", "c", "d"].map(|name| (name, ValueType::Text));
    let queries = (0..200).map(|number| sql_query(&format!("reports.query{number}"), &columns));
    let project = Project {
        functions: functions.collect(),
        queries: queries.collect(),
        ..Project::default()
    };
    let started = Instant::now();
    let files = generate(&project).expect("a good project");
    let generated = started.elapsed();
    let folder = tempfile::tempdir().expect("a folder");
    convoy_codegen::write(folder.path(), &files).expect("written");
    let written = started.elapsed() - generated;
    let bytes: usize = files.iter().map(|file| file.text.len()).sum();
    println!(
        "500 functions and 200 queries: {bytes} bytes, generated in {generated:?}, written in {written:?}"
    );
    assert!(generated + written < SAVE_TO_FILES, "{generated:?}, {written:?}");
}
