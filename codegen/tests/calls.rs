//! A generated project under the compiler: right calls compile, and wrong ones fail at the place, and with the words,
//! that tell what is wrong.

use crate::npm::{Compiler, tsc_of};
use crate::shop::{Shop, project};
use std::collections::BTreeMap;

const HEAD: &str = "\
import { useMutation, useQuery } from 'use';
import { api, internal } from './_generated/api';
import type { Doc, Id } from './_generated/server';

declare const user: Id<'users'>;
const use = (..._: unknown[]) => {};
";

const RIGHT: &str = "\
const list = useQuery(api.orders.list, { userId: user, limit: 3 });
const orders: Doc<'orders'>[] | undefined = list.data;
const total: number | undefined = orders?.[0]?.total;
const rows: { id: string; total: string | null }[] | undefined =
  useQuery(api.orders.byTenant, { tenant: 7 }).data;
const create = useMutation(api.orders.create);
const id: Promise<Id<'orders'>> = create({ userId: user, total: 1.5 });
const found: Doc<'users'> | null | undefined = useQuery(api.admin.users.find, { name: 'ada' }).data;
use(total, rows, id, found, useQuery(api.orders.count), useQuery(api.totals), useQuery(api.totals, {}));
use(internal.orders.sweep);
";

/// A call that is wrong where `«` stands, and what the compilers say of it, behind `||` the newer one's own words.
const WRONG: &[(&str, &str)] = &[
    // A wrong name of an argument.
    (
        "useQuery(api.orders.byTenant, { «tenat: 7 });",
        "TS2561: Object literal may only specify known properties, but 'tenat' does not exist in type '{ tenant: number; }'. Did you mean to write 'tenant'?",
    ),
    (
        "useQuery(api.orders.list, { «userID: user });",
        "TS2561: Object literal may only specify known properties, but 'userID' does not exist in type 'Flat<{ userId: Id<\"users\">; limit?: number | undefined; }>'. Did you mean to write 'userId'?",
    ),
    // A wrong type.
    (
        "useQuery(api.orders.byTenant, { «tenant: '7' });",
        "TS2322: Type 'string' is not assignable to type 'number'.",
    ),
    (
        "useQuery(api.admin.users.find, { «name: 7 });",
        "TS2322: Type 'number' is not assignable to type 'string'.",
    ),
    // The id of another table.
    (
        "useQuery(api.orders.list, { «userId: user as unknown as Id<'orders'> });",
        "TS2322: Type 'Id<\"orders\">' is not assignable to type 'Id<\"users\">'.",
    ),
    // A missing argument; all of them; and one too many.
    (
        "useQuery(api.orders.byTenant, «{});",
        "TS2345: Argument of type '{}' is not assignable to parameter of type '{ tenant: number; }'.|| TS2741: Property 'tenant' is missing in type '{}' but required in type '{ tenant: number; }'.",
    ),
    ("«useQuery(api.orders.byTenant);", "TS2554: Expected 2 arguments, but got 1."),
    (
        "useMutation(api.orders.create)(«{ userId: user });",
        "TS2345: Argument of type '{ userId: Id<\"users\">; }' is not assignable to parameter of type 'Flat<{ userId: Id<\"users\">; total: number; }>'.|| TS2741: Property 'total' is missing in type '{ userId: Id<\"users\">; }' but required in type 'Flat<{ userId: Id<\"users\">; total: number; }>'.",
    ),
    (
        "useQuery(api.totals, { «tenant: 7 });",
        "TS2322: Type 'number' is not assignable to type 'never'.",
    ),
    // A mutation where a query belongs, and the other way round.
    (
        "useQuery(«api.orders.create, { userId: user, total: 1 });",
        "TS2345: Argument of type 'MutationRef<Flat<{ userId: Id<\"users\">; total: number; }>, Id<\"orders\">, \"public\">' is not assignable to parameter of type 'QueryRef<any, any, \"public\">'.",
    ),
    (
        "useMutation(«api.orders.byTenant);",
        "TS2345: Argument of type 'QueryRef<{ tenant: number; }, { id: string; total: string | null; }[], \"public\">' is not assignable to parameter of type 'MutationRef<any, any, \"public\">'.",
    ),
    // What clients may not call, by its own tree and by the other.
    (
        "useMutation(«internal.orders.sweep);",
        "TS2345: Argument of type 'MutationRef<Flat<{ before: number; }>, number, \"internal\">' is not assignable to parameter of type 'MutationRef<any, any, \"public\">'.",
    ),
    ("use(api.orders.«sweep);", "TS2339: Property 'sweep' does not exist on type"),
    ("use(internal.orders.«list);", "TS2339: Property 'list' does not exist on type"),
    ("use(internal.«admin);", "TS2339: Property 'admin' does not exist on type"),
    // What is no function.
    ("use(api.orders.«PAGE);", "TS2339: Property 'PAGE' does not exist on type"),
    ("use(api.orders.«byTennant);", "TS2551: Property 'byTennant' does not exist on type"),
    ("useQuery(«'orders.byTenant', { tenant: 7 });", "TS2345: Argument of type 'string'"),
    // A result that may not be there.
    (
        "const «total: string = useQuery(api.orders.byTenant, { tenant: 7 }).data![0]!.total; use(total);",
        "TS2322: Type 'string | null' is not assignable to type 'string'.",
    ),
    (
        "use(useQuery(api.orders.byTenant, { tenant: 7 }).data?.[0]?.«tota);",
        "TS2551: Property 'tota' does not exist on type '{ id: string; total: string | null; }'. Did you mean 'total'?",
    ),
    // Tables and fields of the schema.
    (
        "export type T = Doc<«'order'>; use(user);",
        "TS2344: Type '\"order\"' does not satisfy the constraint '\"users\" | \"orders\"'.|| TS2344: Type '\"order\"' does not satisfy the constraint '\"orders\" | \"users\"'.",
    ),
];

/// What is wrong in functions, where the schema knows better.
const WRONG_FUNCTIONS: &[(&str, &str)] = &[
    (
        "export const a = query({ handler: async (ctx) => ctx.db.«insert('users', { name: 'a' }) });",
        "TS2339: Property 'insert' does not exist on type 'Reader<",
    ),
    (
        "export const a = mutation({ handler: async (ctx) => ctx.db.insert('users', { «nam: 'a' }) });",
        "TS2561: Object literal may only specify known properties, but 'nam' does not exist in type",
    ),
    (
        "export const a = query({ handler: async (ctx) => ctx.db.all(«'user') });",
        "TS2345: Argument of type '\"user\"' is not assignable to parameter of type '\"users\" | \"orders\"'.|| TS2345: Argument of type '\"user\"' is not assignable to parameter of type '\"orders\" | \"users\"'.",
    ),
];

#[test]
fn right_calls_compile() {
    let shop = Shop::of(&project());
    shop.file("right.ts", &format!("{HEAD}{RIGHT}"));
    for compiler in [Compiler::Five, Compiler::Seven] {
        assert_eq!(tsc_of(compiler, shop.path()), "");
    }
}

#[test]
fn wrong_calls_fail_where_they_are_wrong() {
    let shop = Shop::of(&project());
    let functions =
        "import { mutation, query } from '../_generated/server';\nexport { mutation, query };\n";
    let mut expected = BTreeMap::new();
    let calls = WRONG.iter().map(|wrong| (HEAD, "", wrong));
    let functions = WRONG_FUNCTIONS.iter().map(|wrong| (functions, "functions/", wrong));
    for (number, (head, folder, (call, message))) in calls.chain(functions).enumerate() {
        let name = format!("{folder}wrong{number}.ts");
        let (before, after) = call.split_once('«').expect("a place");
        let unused = if folder.is_empty() {
            "use(useMutation, useQuery, api, internal, user);\nexport type D = Doc<'users'>;\n"
        } else {
            ""
        };
        shop.file(&name, &format!("{head}{unused}{before}{after}\n"));
        let line = (head.to_owned() + unused).matches('\n').count() + 1;
        let place = format!("{name}({line},{}): error ", before.chars().count() + 1);
        expected.insert(name, (place, *message));
    }
    for compiler in [Compiler::Five, Compiler::Seven] {
        check_diagnostics(&tsc_of(compiler, shop.path()), &expected);
    }
}

/// Checks that there is one diagnostic in each file, with its place and the beginning of its words.
fn check_diagnostics(printed: &str, expected: &BTreeMap<String, (String, &str)>) {
    // What is indented says more of the line above it.
    let diagnostics: Vec<&str> = printed.lines().filter(|line| !line.starts_with(' ')).collect();
    let mut misfits = Vec::new();
    for (name, (place, message)) in expected {
        let of_file: Vec<&str> = diagnostics
            .iter()
            .copied()
            .filter(|line| line.starts_with(&format!("{name}(")))
            .collect();
        let is_told = |line: &&str| {
            let told = line.strip_prefix(place.as_str());
            told.is_some_and(|told| message.split("|| ").any(|words| told.starts_with(words)))
        };
        if of_file.len() != 1 || !of_file.iter().all(is_told) {
            misfits.push(format!("{place}{message}\nbut: {of_file:#?}"));
        }
    }
    assert!(misfits.is_empty(), "{}", misfits.join("\n\n"));
    assert_eq!(diagnostics.len(), expected.len(), "{printed}");
    // The reason of a refused kind stands below it.
    assert!(printed.contains("Types of property '_kind' are incompatible."), "{printed}");
    assert!(
        printed.contains("Type '\"mutation\"' is not assignable to type '\"query\"'."),
        "{printed}"
    );
    assert!(printed.contains("Property 'tenant' is missing in type '{}'"), "{printed}");
}
