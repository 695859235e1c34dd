//! What the analysis makes of statements, by many small cases, a file for each subject.

mod conditions;
mod groups;
mod predicates;
mod refreshes;
mod refusals;
mod unheld;
mod windows;

use crate::analyse::fixture::{Case, show, show_predicates};
use crate::template::{Plan, QueryTemplate, RowKeys, WindowPlan};
use convoy_query_index::OldRows;

fn analysed(case: &Case) -> QueryTemplate {
    match case.analyse() {
        Ok(template) => template,
        Err(error) => panic!("{}: {error}", case.sql),
    }
}

fn window(template: &QueryTemplate) -> &WindowPlan {
    match &template.plan {
        Plan::Window(window) => window,
        Plan::Groups(groups) => panic!("{}: {:?}", groups.sql, template.notes),
        Plan::Refresh(refresh) => panic!("{}: {:?}", refresh.sql, template.notes),
    }
}

/// Checks that a WHERE on orders is exact, and what it says.
fn check_exact(condition: &str, params: &str, expect: &str) {
    let case = Case::new(&format!("select id from orders where {condition}"), "id").params(params);
    let template = analysed(&case);
    let window = window(&template);
    assert_eq!(show(&window.condition, &template, window.table.id), expect, "{condition}");
}

/// Checks that a WHERE on orders is refreshed, and what is known of it all the same.
fn check_weaker(condition: &str, params: &str, expect: &str) {
    let case = Case::new(&format!("select id from orders where {condition}"), "id").params(params);
    let template = analysed(&case);
    assert!(matches!(template.plan, Plan::Refresh(_)), "{condition}");
    let shown = show_predicates(&template);
    let shown = shown
        .strip_prefix("orders: ")
        .and_then(|shown| shown.rsplit_once(" ["))
        .expect("one predicate")
        .0;
    assert_eq!(shown, expect, "{condition}");
}

/// Checks how a refreshed statement's rows are told apart, and its predicates.
fn check_refresh(case: &Case, keys: &RowKeys, expect: &[&str]) {
    let template = analysed(case);
    let Plan::Refresh(plan) = &template.plan else { panic!("{} is no refresh", case.sql) };
    assert_eq!(&plan.keys, keys, "{}: {:?}", case.sql, template.notes);
    assert_eq!(show_predicates(&template), expect.join("\n"), "{}: {:?}", case.sql, template.notes);
    assert!(template.predicates.iter().all(|predicate| predicate.old_rows == OldRows::Condition));
}

/// Checks the SQL of a refreshed statement.
fn check_sql(case: &Case, expect: &str) {
    let template = analysed(case);
    let sql = template.read.sql.replace("pg_catalog.", "").replace('"', "");
    assert_eq!(sql, expect, "{}: {:?}", case.sql, template.notes);
}

fn check_refused(case: &Case, expect: &str) {
    let error = case.analyse().expect_err(&case.sql);
    assert!(error.message.contains(expect), "{}: {error}", case.sql);
}
