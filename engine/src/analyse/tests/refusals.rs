//! What can't be live, and what is said of it.

use super::{analysed, check_refused};
use crate::analyse::fixture::{Case, show_predicates};
use crate::facts::{Publication, TableKind};

#[test]
fn refusals() {
    check_refused(&Case::new("select random() as r", "r"), "random is a volatile function");
    check_refused(
        &Case::new("-- @refresh 5s\nselect random() as r", "r"),
        "random is a volatile function",
    );
    check_refused(
        &Case::new("select table_to_xml('x', true, true, '') as x", "x"),
        "reads tables that can't be seen",
    );
    check_refused(&Case::new("select secret() as s", "s"), "shop.secret");
    check_refused(
        &Case::new("select message from logs", "message"),
        "ALTER TABLE \"shop\".\"logs\" REPLICA IDENTITY FULL",
    );
    check_refused(&Case::new("select ctid as c from orders", "c"), "ctid is a system column");
    check_refused(&Case::new("select 1", "?column?"), "column 1 of the result has no name");
    check_refused(
        &Case::new("select id, id from orders", "id id"),
        "two columns of the result are called id",
    );
    for (kind, expect) in [
        (TableKind::Unlogged, "unlogged"),
        (TableKind::Temporary, "temporary"),
        (TableKind::Foreign, "foreign"),
        (TableKind::MaterializedView, "materialized"),
        (TableKind::Sequence, "sequence"),
        (TableKind::Catalog, "catalog"),
    ] {
        let changed = |sql: &str| {
            Case::new(sql, "id").table("orders", |table| {
                table.kind = kind;
                table.publication = Publication::None;
            })
        };
        check_refused(&changed("select id from orders"), expect);
        let template = analysed(&changed("-- @refresh 5s\nselect id from orders"));
        assert!(template.predicates.is_empty());
    }
    let template = analysed(&Case::new(
        "-- @refresh 1m\nselect message from logs where message = 'a'",
        "message",
    ));
    assert_eq!(show_predicates(&template), "logs: message = * [message]");
    let template = analysed(&Case::new(
        "-- @depends customers\nselect secret() as s, id from orders where id = 1",
        "s id",
    ));
    assert_eq!(show_predicates(&template), "customers: true [all]\norders: id = * [id]");
}

#[test]
fn clocks_are_noted() {
    let warns = |sql: &str| {
        analysed(&Case::new(sql, "id")).notes.iter().any(|note| note.contains("with time"))
    };
    assert!(warns("select id from orders where created > now()"));
    assert!(warns("select id from orders where created > current_date"));
    assert!(!warns("-- @refresh 5s\nselect id from orders where created > now()"));
    assert!(!warns("select id from orders"));
    let notes =
        analysed(&Case::new("select id from orders where label = current_setting('x')", "id"))
            .notes;
    assert!(notes.iter().any(|note| note.contains("settings")), "{notes:?}");
}
