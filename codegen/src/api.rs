//! `api.ts`: one tree of references for functions and `.sql` queries.
//!
//! The references' types are derived from the modules' own, so that an argument's type is known before anything is
//! generated again, and an editor leads from `api.orders.list` into the function. Which names there are at run time is
//! nobody's business: `anyApi` makes a reference of any.

use crate::project::Project;
use crate::tree::{Tree, TypeText};
use crate::typescript::{
    API_PACKAGE, PRETTIER_IGNORE, head, is_plain_identifier, is_reserved, string,
};
use std::collections::{BTreeMap, BTreeSet};

/// Returns the text of `api.ts`.
pub(crate) fn api(project: &Project) -> String {
    let modules = Modules::of(project);
    let mut text = head("References to all functions and queries, with their types.");
    // What is imported and not used is an error to some projects.
    let of_modules = if modules.aliases.is_empty() { "" } else { "type ApiFromModule, " };
    text.push_str(&format!(
        "import {{ anyApi, {of_modules}type FilterApi }} from '{API_PACKAGE}';\n"
    ));
    for (module, alias) in &modules.aliases {
        let path = string(&format!("../{module}.js"));
        text.push_str(&format!("import type * as {alias} from {path};\n"));
    }
    if !project.queries.is_empty() {
        text.push_str("import type { Queries } from './queries.js';\n");
    }
    let mut tree = Tree::default();
    for (module, alias) in &modules.aliases {
        tree.insert(segments(module), alias);
    }
    let ty = |alias: &&String| TypeText {
        text: format!("ApiFromModule<typeof {alias}>"),
        ..TypeText::default()
    };
    let tree = tree.print(0, &ty, &|_| None);
    text.push_str(&format!("\n{PRETTIER_IGNORE}type Modules = {};\n", tree.text));
    let all = if project.queries.is_empty() { "Modules" } else { "Modules & Queries" };
    text.push_str(&format!(
        "
/** What clients may call. */
export const api: FilterApi<{all}, 'public'> = anyApi as any;

/** What only functions may call. */
export const internal: FilterApi<{all}, 'internal'> = anyApi as any;
"
    ));
    text
}

/// The modules that functions are in.
#[derive(Debug)]
pub(crate) struct Modules<'a> {
    /// By their paths, the names that they are imported under.
    pub(crate) aliases: BTreeMap<&'a str, String>,
}

impl<'a> Modules<'a> {
    /// Returns the modules of a project.
    pub(crate) fn of(project: &'a Project) -> Self {
        let paths: BTreeSet<&str> =
            project.functions.iter().map(|function| &*function.module).collect();
        let mut taken = BTreeSet::new();
        let mut aliases = BTreeMap::new();
        for path in paths {
            let alias = alias(path, &taken);
            taken.insert(alias.clone());
            aliases.insert(path, alias);
        }
        Modules { aliases }
    }
}

/// Returns the segments of the names of a module's functions.
fn segments(module: &str) -> impl Iterator<Item = &str> {
    module.strip_prefix("functions/").unwrap_or(module).split('/')
}

/// Returns a name for a module that none has yet: `admin_users` for `functions/admin/users`.
fn alias(module: &str, taken: &BTreeSet<String>) -> String {
    let plain = |c: char| if is_plain_identifier(&format!("_{c}")) { c } else { '_' };
    let words: Vec<String> =
        segments(module).map(|segment| segment.chars().map(plain).collect()).collect();
    let mut alias = words.join("_");
    while !is_plain_identifier(&alias) || is_reserved(&alias) || taken.contains(&alias) {
        alias.push('_');
        if !is_plain_identifier(&alias) {
            alias.insert(0, '_');
        }
    }
    alias
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_have_names_of_their_own() {
        let check = |module: &str, taken: &[&str], expect: &str| {
            let taken = taken.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(alias(module, &taken), expect);
        };
        check("functions/orders", &[], "orders");
        check("functions/admin/users", &[], "admin_users");
        check("functions/admin_users", &["admin_users"], "admin_users_");
        check("functions/delete", &[], "delete_");
        check("functions/api", &[], "api_");
        check("functions/größe", &[], "gr__e");
        check("functions/größe", &["gr__e"], "gr__e_");
    }
}
