//! Which files are a project, what it is described as, and what is said of one that is not in order.

use crate::support::{Folder, Zod};
use convoy_functions::{FunctionKind, Limits, ModuleCache, Project, ProjectError, Visibility};
use serde_json::{Value, json};
use std::time::Instant;

const FN: &str =
    "import { query } from 'GEN/_generated/server'; export const list = query(async () => 1);";

fn at(generated: &str) -> String {
    FN.replace("GEN", generated)
}

#[test]
fn functions_are_named_by_folder_file_and_export() {
    let orders = "
        import { query, internalMutation } from '../../_generated/server';
        export const list = query({ handler: () => 1 });
        export const tidy = internalMutation({ handler: () => 1 });
        export default query(() => 2);
        export const helper = () => 3;
        export { list as again };
    ";
    let (top, hidden) = (at(".."), at("../.."));
    let folder = Folder::new(
        Zod::Three,
        &[
            ("functions/admin/orders.ts", orders),
            ("functions/users.ts", &top),
            ("functions/plain.js", &top),
            ("functions/_helpers.ts", "throw new Error('not loaded')"),
            ("functions/_hidden/x.ts", &hidden),
            ("functions/users.test.ts", "throw new Error('not loaded')"),
            ("functions/types.d.ts", "export type A = 1;"),
        ],
    );
    let project = folder.load().expect("a project");
    let names: Vec<&str> = project.functions().keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "admin.orders.again",
            "admin.orders.default",
            "admin.orders.list",
            "admin.orders.tidy",
            "plain.list",
            "users.list"
        ]
    );
    let tidy = &project.functions()["admin.orders.tidy"];
    assert_eq!((tidy.kind, tidy.visibility), (FunctionKind::Mutation, Visibility::Internal));
    assert_eq!((tidy.file.as_str(), tidy.export.as_str()), ("functions/admin/orders.ts", "tidy"));
    assert_eq!(project.schema(), "{\"tables\":[]}");
}

#[test]
fn modules_are_found_as_their_authors_expect() {
    let main = "
        import { query } from '../_generated/server';
        import one from '../lib/one';
        import { two } from '../lib';
        import { three } from '../lib/three.js';
        import { four } from '../lib/four.mjs';
        import data from '../lib/data.json';
        import type { IncomingMessage } from 'node:http';
        import { type Only, five } from 'pack';
        import { six } from 'pack/sub';
        import { eleven } from '@/eleven';
        enum Color { Red = 'red' }
        namespace Inner { export const seven = 7; }
        class Point { constructor(private readonly x: number) {} get() { return this.x; } }
        const late = await import('../lib/late');
        export const all = query(() => [one, two, three, four, data.x, five, six, Inner.seven, Color.Red, new Point(9).get(), late.ten satisfies number, eleven]);
    ";
    let folder = Folder::new(
        Zod::Three,
        &[
            ("functions/main.ts", main),
            ("lib/one.tsx", "export default 1 as const;"),
            ("lib/index.ts", "export const two: number = 2;"),
            ("lib/three.ts", "export const three = 3; export type T = string;"),
            ("lib/four.mjs", "export const four = 4;"),
            ("lib/data.json", "{\"x\": \"json\"}"),
            ("lib/late.ts", "export const ten = 10;"),
        ],
    );
    folder.write("node_modules/pack/package.json", "{\"name\":\"pack\",\"exports\":{\".\":{\"types\":\"./x.d.ts\",\"import\":\"./m.mjs\"},\"./sub\":\"./s.js\"}}");
    folder.write("node_modules/pack/m.mjs", "export const five = 5;");
    folder.write("node_modules/pack/s.js", "export const six = 6;");
    folder.write("tsconfig.json", "{ // as editors take it\n \"compilerOptions\": { \"paths\": { \"@/*\": [\"./shared/*\"] } } }");
    folder.write("shared/eleven.ts", "export const eleven = 11;");
    // A package of that name is somebody else's.
    folder.write("node_modules/convoy/index.js", "throw new Error('the wrong convoy')");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let value = runtime.block_on(async {
        let (functions, host) = (folder.runtime(), std::sync::Arc::default());
        crate::support::query(&functions, &host, "main.all", json!({})).await.expect("a value")
    });
    assert_eq!(value, json!([1, 2, 3, 4, "json", 5, 6, 7, "red", 9, 10, 11]));
}

#[test]
fn generated_code_imports_references_alone() {
    let api =
        "import { anyApi, type FilterApi } from 'convoy/api'; export const internal: any = anyApi;";
    let jobs = "
        import { getFunctionName } from 'convoy';
        import { query } from '../_generated/server';
        import { internal } from '../_generated/api';
        export const name = query(async () => getFunctionName(internal.jobs.tidy));
    ";
    let files = [("_generated/api.ts", api), ("functions/jobs.ts", jobs)];
    let project = Folder::new(Zod::Four, &files).load().expect("a project");
    assert_eq!(project.functions().keys().collect::<Vec<_>>(), ["jobs.name"]);
}

#[track_caller]
fn check_error(files: &[(&str, &str)], parts: &[&str]) -> ProjectError {
    let folder = Folder::new(Zod::Four, files);
    let error = folder.load().expect_err("not in order");
    for part in parts {
        assert!(error.to_string().contains(part), "{part:?} is not in: {error}");
    }
    error
}

#[test]
fn errors_name_file_line_and_column() {
    check_error(&[("functions/a.ts", "const x = 1;\nconst y = = 2;")], &["functions/a.ts:2:11: "]);
    check_error(
        &[("functions/a.ts", "\n  import { x } from './nowhere';\nx();")],
        &["functions/a.ts:2:21: can't import \"./nowhere\"", "no such file"],
    );
    check_error(&[("functions/a.ts", "import fs from 'node:fs'; fs();")], &["without Node"]);
    check_error(
        &[("functions/a.ts", "import { x } from 'convoy/react'; x();")],
        &["for the browser"],
    );
    check_error(
        &[("functions/a.ts", "import x from 'missing-package'; x();")],
        &["functions/a.ts:1:15", "npm install"],
    );
    check_error(
        &[
            ("functions/a.ts", "import { x } from './_b'; x();"),
            ("functions/_b.ts", "export const y = 1;"),
        ],
        &["x"],
    );
    check_error(
        &[("functions/2fast.ts", "")],
        &["functions/2fast.ts: \"2fast\" can't be part of a function's name"],
    );
    check_error(
        &[
            ("functions/a.ts", "import x from './old'; x();"),
            ("functions/_old.js", ""),
            ("functions/old.js", "module.exports = 1;"),
        ],
        &["functions/old.js is a CommonJS module"],
    );
    check_error(
        &[(
            "functions/a.ts",
            "interface A { x: 1 }\n\n\nconst f = (a: A): number => {\n  throw new Error('at the top');\n};\nf({ x: 1 });",
        )],
        &["Error: at the top", "functions/a.ts:5:"],
    );
    check_error(&[("functions/a.ts", "for (;;) {}")], &["too much processor time"]);
    check_error(&[("schema.ts", "export const x = 1;")], &["schema.ts exports no schema"]);
    check_error(
        &[(
            "schema.ts",
            "import { defineSchema, defineTable, defineRef } from 'convoy'; export default defineSchema({ users: defineTable({}), posts: defineTable({ by: defineRef('user').optional() }) });",
        )],
        &[
            "the field posts.by refers to the table user, which the schema does not have: did you mean users?",
        ],
    );
    let (one, two) = (at(".."), at(".."));
    let error = check_error(
        &[("functions/a.ts", &one), ("functions/a.js", &two)],
        &["a.list is defined twice: in functions/a.js and in functions/a.ts"],
    );
    assert!(matches!(error, ProjectError::Twice { .. }));
}

#[test]
fn without_zod_it_says_how_to_get_it() {
    let folder = Folder::new(Zod::Four, &[("functions/a.ts", &at(".."))]);
    std::fs::remove_file(folder.path().join("node_modules/zod")).expect("a link");
    let error = folder.load().expect_err("no zod").to_string();
    assert!(error.contains("npm install zod"), "{error}");
}

const SCHEMA: &str = "
import { defineSchema, defineTable, defineRef } from 'convoy';
import { z } from 'zod';
export const schema = defineSchema({
  all: defineTable({
    text: z.string().email(),
    number: z.number().int(),
    flag: z.boolean(),
    choice: z.enum(['a', 'b']),
    one: z.literal('x'),
    two: z.union([z.literal(1), z.literal(2)]),
    mixed: z.union([z.string(), z.number()]),
    ref: defineRef('users'),
    maybeRef: defineRef('users').optional(),
    maybe: z.string().optional(),
    nullable: z.number().nullable(),
    nullish: z.string().nullish(),
    defaulted: z.string().optional().default('x'),
    branded: z.string().brand('b'),
    refined: z.string().refine((text) => text !== ''),
    transformed: z.string().transform((text) => text.length),
    list: z.array(z.string()),
    object: z.object({ a: z.string() }),
    when: z.date(),
    anything: z.any(),
  }).index('by_text', ['text']).index('by_both', ['text', 'number']),
  audit_log: defineTable({ event: z.string() }).unmanaged(),
  wide: defineTable({ event: z.string() }).relational(),
  users: defineTable({}),
});
";

#[test]
fn the_schema_is_described_in_either_zod() {
    for zod in [Zod::Three, Zod::Four] {
        let folder = Folder::new(zod, &[("schema.ts", SCHEMA)]);
        let project = folder.load().unwrap_or_else(|error| panic!("{error}"));
        let schema: Value = serde_json::from_str(project.schema()).expect("JSON");
        let field = |name: &str, of: &str, rest: [bool; 2], target: Value| json!({ "name": name, "type": of, "ref": target, "optional": rest[0], "nullable": rest[1] });
        let (no, users) = ([false, false], json!("users"));
        let expected = [
            field("text", "string", no, Value::Null),
            field("number", "number", no, Value::Null),
            field("flag", "boolean", no, Value::Null),
            field("choice", "string", no, Value::Null),
            field("one", "string", no, Value::Null),
            field("two", "number", no, Value::Null),
            field("mixed", "json", no, Value::Null),
            field("ref", "string", no, users.clone()),
            field("maybeRef", "string", [true, false], users),
            field("maybe", "string", [true, false], Value::Null),
            field("nullable", "number", [false, true], Value::Null),
            field("nullish", "string", [true, true], Value::Null),
            field("defaulted", "string", no, Value::Null),
            field("branded", "string", no, Value::Null),
            field("refined", "string", no, Value::Null),
            field("transformed", "json", no, Value::Null),
            field("list", "json", no, Value::Null),
            field("object", "json", no, Value::Null),
            field("when", "json", no, Value::Null),
            // It takes what is not there, and null.
            field("anything", "json", [true, true], Value::Null),
        ];
        for (found, expected) in
            schema["tables"][0]["fields"].as_array().expect("fields").iter().zip(&expected)
        {
            assert_eq!(found, expected, "{zod:?}");
        }
        assert_eq!(schema["tables"][0]["fields"].as_array().map(Vec::len), Some(expected.len()));
        assert_eq!(
            schema["tables"][0]["indexes"],
            json!([{ "name": "by_text", "fields": ["text"] }, { "name": "by_both", "fields": ["text", "number"] }])
        );
        let kinds: Vec<Value> = schema["tables"]
            .as_array()
            .expect("tables")
            .iter()
            .map(|table| json!([table["name"], table["managed"], table["layout"]]))
            .collect();
        assert_eq!(
            kinds,
            [
                json!(["all", true, "document"]),
                json!(["audit_log", false, "document"]),
                json!(["wide", true, "relational"]),
                json!(["users", true, "document"])
            ]
        );
    }
}

#[test]
fn what_modules_log_while_they_are_evaluated_is_kept() {
    let folder = Folder::new(
        Zod::Three,
        &[("functions/a.ts", "console.warn('at', 'the top'); export const a = 1;")],
    );
    let project = folder.load().expect("a project");
    let lines: Vec<Value> =
        project.logged().iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines, [json!({ "level": "warn", "message": "at the top" })]);
}

#[test]
fn who_configures_a_server_is_told_that_there_is_none() {
    let server = "export function configureServer() {}
        export const createContext = async () => ({});";
    let project = Folder::new(Zod::Four, &[("server.ts", server)]).load().expect("a project");
    assert!(project.has_context());
    let [line] = project.logged() else { panic!("{:?}", project.logged()) };
    assert!(line.contains("configureServer, which nobody calls"), "{line}");
}

/// Half of zod 4 is the words of its errors in other languages.
#[test]
fn namespaces_that_nobody_mentions_are_not_loaded() {
    let plain = "import { query } from '../_generated/server'; import { z } from 'zod';
        export const list = query({ input: { a: z.string() }, handler: () => Object.keys(z.locales).length });";
    let german = "import { z } from 'zod'; z.config(z.locales.de()); export const german = 1;";
    let (mut sizes, mut counts) = (Vec::new(), Vec::new());
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for files in [
        vec![("functions/a.ts", plain)],
        vec![("functions/a.ts", plain), ("functions/_b.ts", german)],
    ] {
        let main = if files.len() == 1 {
            plain.replace("z.locales", "(z as any)['lo' + 'cales']")
        } else {
            format!("import '../functions/_b'; {plain}")
        };
        let mut files = files;
        files[0].1 = &main;
        let folder = Folder::new(Zod::Four, &files);
        sizes.push(folder.load().expect("a project").size().0);
        counts.push(runtime.block_on(async {
            let (functions, host) = (folder.runtime(), std::sync::Arc::default());
            let count = crate::support::query(&functions, &host, "a.list", json!({ "a": "x" }))
                .await
                .expect("a value");
            let error = crate::support::query(&functions, &host, "a.list", json!({}))
                .await
                .expect_err("no argument");
            (count.as_u64().expect("a number") > 40, error.message.contains("Ungültige Eingabe"))
        }));
    }
    assert!(sizes[0] + 40 < sizes[1], "{sizes:?}");
    assert_eq!(counts, [(false, false), (true, true)]);
}

/// Of a saved file that file alone is compiled again.
#[test]
fn a_second_load_compiles_only_what_changed() {
    let folder = Folder::new(Zod::Four, &[("functions/a.ts", &at(".."))]);
    let (limits, cache) = (Limits::default(), ModuleCache::default());
    let began = Instant::now();
    Project::load(folder.path(), &limits, &cache).expect("a project");
    let first = began.elapsed();
    let compiled = cache.compiled_count();
    folder.write("convoy/functions/a.ts", &at("..").replace("list", "other"));
    let began = Instant::now();
    let project = Project::load(folder.path(), &limits, &cache).expect("a project");
    println!("first load {first:?}, after a change {:?}", began.elapsed());
    assert_eq!(cache.compiled_count(), compiled + 1);
    assert!(project.functions().contains_key("a.other"));
}
