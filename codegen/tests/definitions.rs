//! "Go to definition" leads from a call to the function, or to the `.sql` file, that answers it.

use crate::shop::{Shop, project};
use crate::tsserver::TsServer;
use std::fs;

const SCREEN: &str = "\
import { useMutation, useQuery } from 'use';
import { api, internal } from './_generated/api';

export const list = useQuery(api.orders.list, { userId: 'users:1' as any });
export const create = useMutation(api.orders.create);
export const find = useQuery(api.admin.users.find, { name: 'ada' });
export const sweep = internal.orders.sweep;
export const byTenant = useQuery(api.orders.byTenant, { tenant: 7 });
export const totals = useQuery(api.totals);
export const total = byTenant.data?.[0]?.total;
";

/// Returns the line and column of a word of the screen, behind `before`.
fn place(before: &str, word: &str) -> (u64, u64) {
    let at = SCREEN.find(&format!("{before}{word}")).expect("a word of the screen") + before.len();
    let line = SCREEN[..at].matches('\n').count() + 1;
    let column = at - SCREEN[..at].rfind('\n').map_or(0, |newline| newline + 1) + 1;
    (line.try_into().expect("a line"), column.try_into().expect("a column"))
}

/// Returns the places that a word of the screen is defined at, behind `before`.
fn definitions(server: &mut TsServer, shop: &Shop, before: &str, word: &str) -> Vec<String> {
    let file = shop.path().join("screen.ts");
    let (line, column) = place(before, word);
    let root = fs::canonicalize(shop.path()).expect("the folder");
    let places = server.definition(&file, line, column);
    let shown = places.iter().map(|place| {
        let path = fs::canonicalize(&place.file).expect("a file");
        let file = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let text = fs::read_to_string(&path).expect("a text");
        let line = text.lines().nth(place.line as usize - 1).expect("a line");
        format!("{file}: {}", &line[place.column as usize - 1..])
    });
    shown.collect()
}

#[test]
fn a_definition_is_the_function_or_the_sql_file() {
    let shop = Shop::of(&project());
    let file = shop.file("screen.ts", SCREEN);
    let mut server = TsServer::start();
    server.open(&file);
    let mut check = |before: &str, word: &str, expect: &str| {
        assert_eq!(definitions(&mut server, &shop, before, word), [expect], "{before}{word}");
    };
    check("api.orders.", "list", "functions/orders.ts: list = query({");
    check("api.orders.", "create", "functions/orders.ts: create = mutation({");
    check("api.admin.users.", "find", "functions/admin/users.ts: find = query({");
    check("internal.orders.", "sweep", "functions/orders.ts: sweep = internalMutation({");
    check("api.orders.", "byTenant", "queries/orders/byTenant.sql: -- @param tenant int4");
    check("api.", "totals", "queries/totals.sql: -- @notnull orders");
    // A column leads to its query.
    check("?.[0]?.", "total", "queries/orders/byTenant.sql: -- @param tenant int4");
}

#[test]
fn the_mouse_shows_what_a_call_takes_and_gives() {
    let shop = Shop::of(&project());
    let file = shop.file("screen.ts", SCREEN);
    let mut server = TsServer::start();
    server.open(&file);
    let mut hover = |before: &str, word: &str| {
        let (line, column) = place(before, word);
        server.hover(&file, line, column).split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        hover("api.orders.", "byTenant"),
        "(property) byTenant: QueryRef<{ tenant: number; }, { id: string; total: string | null; }[], \"public\">"
    );
    assert_eq!(hover("const ", "total ="), "const total: string | null | undefined");
    assert_eq!(
        hover("api.orders.", "create"),
        "(property) create: MutationRef<Flat<{ userId: Id<\"users\">; total: number; }>, Id<\"orders\">, \"public\">"
    );
}
