//! Generated files at run time, under Node: names of references, the list of functions, and the wire by hand.

use crate::npm::{node, tsc};
use crate::shop::{Shop, project};

/// Runs a file of the shop, which fails by an error.
fn run(file: &str) {
    let shop = Shop::of(&project());
    let text = std::fs::read_to_string(crate::shop::tests().join("fixture").join(file));
    shop.file(file, &text.expect("a file of the fixture"));
    let said = node(shop.path(), file);
    assert_eq!(said, "done\n");
}

#[test]
fn references_know_their_names() {
    run("names.ts");
}

#[test]
fn what_there_is_can_be_listed_and_loaded() {
    run("listed.ts");
}

#[test]
fn the_wire_is_spoken_by_hand() {
    run("wire.ts");
}

#[test]
fn the_wire_compiles_with_the_types_of_the_web_and_without() {
    let shop = Shop::of(&project());
    let path = shop.path().join("_generated/http.ts");
    let text = std::fs::read_to_string(&path).expect("a file");
    let checked: String =
        text.split_inclusive('\n').filter(|line| !line.contains("@ts-nocheck")).collect();
    assert_ne!(checked, text);
    let calls = "
import { api, internal } from './_generated/api';
import { callMutation, callQuery, subscribe } from './_generated/http';
export const total: Promise<string | null | undefined> =
  callQuery(api.orders.byTenant, { tenant: 7 }).then((rows) => rows[0]?.total);
export const end: () => void = subscribe(api.orders.count, {}, { onValue: (count: number) => count });
// @ts-expect-error: no query
callQuery(api.orders.create, { total: 1 });
// @ts-expect-error: no argument of that name
callQuery(api.orders.byTenant, { tenat: 7 });
// @ts-expect-error: not for clients
callMutation(internal.orders.sweep, { before: 1 });
";
    shop.file("calls.ts", calls);
    std::fs::write(&path, checked).expect("a file");
    assert_eq!(tsc(shop.path()), "");
    std::fs::write(&path, text).expect("a file");
    shop.option("lib", serde_json::json!(["es2022"]));
    // zod's own declarations ask for the web's.
    shop.option("skipLibCheck", serde_json::json!(true));
    assert_eq!(tsc(shop.path()), "");
}
