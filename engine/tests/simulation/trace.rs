//! What happens, in words, for somebody who replays a schedule.

use convoy_engine::{Event, QueryError, ReadRow, ReadRows};
use convoy_types::{ChangeKind, Changes, Datum, OldRow, Row, RowChange, Transaction};

/// Returns what an event says.
pub fn named(event: &Event) -> String {
    match event {
        Event::ReplicationStarted => "ReplicationStarted".to_owned(),
        Event::Committed(transaction) => {
            let Transaction { xid, end_lsn, changes, .. } = transaction;
            format!("Committed xid {} up to {end_lsn}: {}", xid.0, described(changes))
        }
        Event::Progress(lsn) => format!("Progress {lsn}"),
        Event::ReplicationLost => "ReplicationLost".to_owned(),
        Event::Described(id, outcome) => format!("Described {} {}", id.0, well(&**outcome)),
        Event::Cast(id, _) => format!("Cast {}", id.0),
        Event::ReadOpened(id, outcome) => format!("ReadOpened {} {outcome:?}", id.0),
        Event::SnapshotTaken(id, Ok(snapshot)) => {
            format!("SnapshotTaken {} {:?} settles {}", id.0, snapshot.mark, snapshot.settle_lsn)
        }
        Event::SnapshotTaken(id, Err(error)) => format!("SnapshotTaken {} {error}", id.0),
        Event::QueryRead(id, query, outcome) => {
            let row = |row: ReadRow<'_>| {
                row.iter().map(|text| text.unwrap_or("null")).collect::<Vec<_>>().join(" ")
            };
            let rows = |rows: &ReadRows| rows.iter().map(row).collect::<Vec<_>>().join(", ");
            let outcome = outcome.as_ref().map_or_else(ToString::to_string, rows);
            format!("QueryRead {} of query {}: {outcome}", id.0, query.0)
        }
        Event::FunctionRead(id, query, answer) => {
            format!("FunctionRead {} of query {}: {:?}", id.0, query.0, answer.value)
        }
        Event::ReadFinished(id) => format!("ReadFinished {}", id.0),
        Event::SnapshotProbed(id, Ok(probed)) => {
            format!("SnapshotProbed {} {:?} open {:?}", id.0, probed.snapshot.mark, probed.open)
        }
        Event::SnapshotProbed(id, Err(error)) => format!("SnapshotProbed {} {error}", id.0),
        Event::CatalogChanged(_) => "CatalogChanged".to_owned(),
        Event::QueriesRedefined(redefined) => format!("QueriesRedefined {}", redefined[0].name),
        Event::SessionOpened(id, _) => format!("SessionOpened {}", id.0),
        Event::SessionResumed(id, _) => format!("SessionResumed {}", id.0),
        Event::IdentityWatched { session, by } => {
            format!("IdentityWatched {} {:?}", session.0, by.as_ref().map(|by| &by.args))
        }
        Event::IdentitiesDoubted => "IdentitiesDoubted".to_owned(),
        Event::Subscribe { session, sub, query, have } => {
            let text = query.statement.text.replace('\n', " ");
            format!("Subscribe {} {sub} {text} {:?} have {have:?}", session.0, query.args)
        }
        Event::Unsubscribe { session, sub } => format!("Unsubscribe {} {sub}", session.0),
        Event::Await(id, lsn) => format!("Await {} {lsn}", id.0),
        Event::MutationBegun { session, mutation } => {
            format!("MutationBegun {} {mutation}", session.0)
        }
        Event::MutationFailed(mutation) => format!("MutationFailed {mutation}"),
        Event::MutationDone(mutation, lsn) => format!("MutationDone {mutation} {lsn}"),
        Event::OutboxDrained(id) => format!("OutboxDrained {}", id.0),
        Event::OutboxLost(id) => format!("OutboxLost {}", id.0),
        Event::SessionClosed(id) => format!("SessionClosed {}", id.0),
        Event::Tick => "Tick".to_owned(),
    }
}

fn described(changes: &Changes) -> String {
    let Changes::Rows(changes) = changes else { return "tables alone".to_owned() };
    let text = |row: &Row| {
        let text = |datum: &Datum| match datum {
            Datum::Text(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        };
        row.0.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    let old = |old: &OldRow| match old {
        OldRow::SameKey => "the same key".to_owned(),
        OldRow::Key(row) => format!("key {}", text(row)),
        OldRow::Full(row) => text(row),
    };
    let change = |change: &RowChange| match &change.kind {
        ChangeKind::Insert { new } => format!("insert {}", text(new)),
        ChangeKind::Update { old: before, new } => {
            format!("update {} to {}", old(before), text(new))
        }
        ChangeKind::Delete { old: before } => format!("delete {}", old(before)),
        ChangeKind::Truncate => "truncate".to_owned(),
    };
    changes.iter().map(change).collect::<Vec<_>>().join(", ")
}

fn well<T>(outcome: &Result<T, QueryError>) -> String {
    outcome.as_ref().map_or_else(ToString::to_string, |_| "well".to_owned())
}
