//! "Go to definition" leads from a call to the function, or to the `.sql` file, that answers it; and the mouse over a
//! call shows what it takes and gives.

use crate::language_server::{LanguageServer, Place};
use crate::npm::Compiler;
use crate::shop::{Shop, project};
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

/// A project with the screen in it, open in an editor.
struct Editor {
    shop: Shop,
    server: LanguageServer,
    file: String,
}

impl Editor {
    fn open(compiler: Compiler) -> Editor {
        let shop = Shop::of(&project());
        let file = shop.file("screen.ts", SCREEN);
        let server = LanguageServer::open(compiler, shop.path(), &file);
        Editor { shop, server, file: file.display().to_string() }
    }

    /// Returns the place of a word of the screen, behind `before`.
    fn place(&self, before: &str, word: &str) -> Place {
        let at = SCREEN.find(&format!("{before}{word}")).expect("a word of the screen");
        let before = &SCREEN[..at + before.len()];
        Place {
            file: self.file.clone(),
            line: before.matches('\n').count(),
            column: before.len() - before.rfind('\n').map_or(0, |newline| newline + 1),
        }
    }

    /// Returns the file and the text that a word is defined at.
    fn definitions(&mut self, before: &str, word: &str) -> Vec<String> {
        let places = self.server.definitions(&self.place(before, word));
        let root = fs::canonicalize(self.shop.path()).expect("the folder");
        let shown = places.iter().map(|place| {
            let path = fs::canonicalize(&place.file).expect("a file");
            let file = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
            let text = fs::read_to_string(&path).expect("a text");
            let line = text.lines().nth(place.line).expect("a line");
            format!("{file}: {}", &line[place.column..])
        });
        shown.collect()
    }
}

#[test]
fn a_definition_is_the_function_or_the_sql_file() {
    for compiler in [Compiler::Five, Compiler::Seven] {
        let mut editor = Editor::open(compiler);
        let mut check = |before: &str, word: &str, expect: &str| {
            let definitions = editor.definitions(before, word);
            assert_eq!(definitions, [expect], "{compiler:?}: {before}{word}");
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
}

#[test]
fn the_mouse_shows_what_a_call_takes_and_gives() {
    for compiler in [Compiler::Five, Compiler::Seven] {
        let mut editor = Editor::open(compiler);
        let mut check = |before: &str, word: &str, expect: &str| {
            let place = editor.place(before, word);
            let shown = editor.server.hover(&place);
            let shown = shown.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(shown.contains(expect), "{compiler:?}: {shown}\n{expect}");
        };
        check(
            "api.orders.",
            "byTenant",
            "QueryRef<{ tenant: number; }, { id: string; total: string | null; }[], \"public\">",
        );
        check("const ", "total =", "const total: string | null | undefined");
        check(
            "api.orders.",
            "create",
            "MutationRef<Flat<{ userId: Id<\"users\">; total: number; }>, Id<\"orders\">, \"public\">",
        );
    }
}
