//! Statements that are very deep or long: what comes of them is a plan or an error, not an overflow of the stack, which
//! would be the end of the process.

use crate::world::{Panel, World};
use convoy_engine::Statement;
use convoy_engine::analyse::analyse;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use std::sync::Arc;

/// An eighth of what a request's body may hold. The whole has been tried; it takes a parser that is not optimised long.
const TEXT_BYTES_MAX: usize = 1 << 17;

/// Analyses a statement made of a beginning, something again and again, and an end.
fn check(begin: &str, again: &str, between: &str, end: &str) {
    let facts = World::new(&mut SmallRng::seed_from_u64(1)).facts(Panel::Group);
    for times in [10, 1_000, (TEXT_BYTES_MAX - 100) / (again.len() + between.len())] {
        let (opening, closing) = (again.repeat(times), between.repeat(times));
        let text = format!("select id, val from items where {begin}{opening}{end}{closing}");
        let Ok(statement) = Statement::ad_hoc(&text) else { continue };
        if let Ok(analysis) = analyse(&Arc::new(statement), &facts) {
            let constants = vec![None; analysis.constants().len()];
            drop(analysis.finish(&constants));
        }
    }
}

#[test]
fn long_chains_are_read() {
    check("grp = 1", " or grp = 2", "", "");
    check("grp = 1", " and val <> 2", "", "");
    check("grp = 1", " or grp = 2 and val = 3", "", "");
    check("grp = 1", " + 1", "", "");
    check("val = 1", "::int4", "", "");
    check("grp in (1", ", 2", "", ")");
    check("grp = 1", " union select id, val from items", "", "");
    check("grp = 1 order by ", "id, ", "", "val");
}

#[test]
fn what_is_nested_is_read_or_refused() {
    check("", "(", ")", "grp = 1");
    check("", "not ", "", "grp = 1");
    check("grp = ", "- ", "", "1");
    check("grp = ", "abs(", ")", "1");
    check("", "exists (select 1 from items where ", ")", "grp = 1");
    check("grp = ", "case when true then ", " end", "1");
    check("grp in ", "(select grp from items where grp in ", ")", "(1)");
    check("grp = ", "array[", "]", "1");
    check("/* ", "/* ", " */", " */ grp = 1");
}
