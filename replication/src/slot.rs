//! The replication slot: making it, taking over one that exists, and saying clearly why that does not go.
//!
//! The role, `wal_level` and the publications are looked at before a slot is made, because the server would speak of
//! them late and darkly.

use crate::config::{ReplicationConfig, SlotChoice};
use crate::connection::{Connection, ServerError, TextRow};
use crate::error::{ReplicationError, SlotMismatch};
use crate::session::ServerIdentity;
use convoy_types::Lsn;
use tracing::info;

/// The first version with the syntax and the messages that we use.
const SERVER_VERSION_MIN: u32 = 15;

/// How often a slot is made again in one attempt, because of what changed while it was made.
const CREATIONS_MAX: u32 = 5;

/// From which transaction on nothing has ended.
const NEXT_XID: &str =
    "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.xid";

/// A slot that this session holds or is about to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) name: String,
    /// All that commits after it is streamed.
    pub(crate) start: Lsn,
}

/// Asks the server who it is, and whether we can stream from it.
pub(crate) async fn inspect(
    connection: &mut Connection,
    config: &ReplicationConfig,
) -> Result<ServerIdentity, ReplicationError> {
    let rows = connection.query("IDENTIFY_SYSTEM").await?;
    let system_identifier = number(&rows, 0)?;
    let timeline = number(&rows, 1)?;
    let settings = "SELECT pg_catalog.current_setting('server_version_num'), pg_catalog.current_setting('wal_level'), \
                    pg_catalog.pg_is_in_recovery(), \
                    (extract(epoch FROM pg_catalog.pg_postmaster_start_time()) * 1000000)::pg_catalog.int8";
    let rows = connection.query(settings).await?;
    let version_num: u32 = number(&rows, 0)?;
    let major = version_num / 10_000;
    if major < SERVER_VERSION_MIN {
        return Err(ReplicationError::TooOld { major });
    }
    if text(&rows, 2)? == "t" {
        return Err(ReplicationError::InRecovery);
    }
    match text(&rows, 1)? {
        "logical" => {}
        actual => return Err(ReplicationError::WalLevel { actual: actual.to_owned() }),
    }
    let started_micros = number(&rows, 3)?;
    check_publications(connection, config).await?;
    Ok(ServerIdentity { system_identifier, timeline, version_num, started_micros })
}

async fn check_publications(
    connection: &mut Connection,
    config: &ReplicationConfig,
) -> Result<(), ReplicationError> {
    let names =
        config.publications.iter().map(|name| quote_literal(name)).collect::<Vec<_>>().join(", ");
    let missing = format!(
        "SELECT name FROM pg_catalog.unnest(ARRAY[{names}]::pg_catalog.text[]) AS name \
         WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_publication \
         WHERE pubname OPERATOR(pg_catalog.=) name::pg_catalog.name)"
    );
    let names =
        connection.query(&missing).await?.into_iter().flatten().flatten().collect::<Vec<_>>();
    if names.is_empty() { Ok(()) } else { Err(ReplicationError::PublicationsMissing { names }) }
}

/// Makes the slot or takes it over. Waits for every transaction that is open now, if it has to make one.
pub(crate) async fn claim(
    connection: &mut Connection,
    config: &ReplicationConfig,
) -> Result<Slot, ReplicationError> {
    match &config.slot {
        SlotChoice::Temporary => create(connection, config).await,
        SlotChoice::Named(name) => {
            let is_allowed =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            if name.is_empty() || name.len() > 63 || !name.bytes().all(is_allowed) {
                return Err(ReplicationError::SlotName { name: name.clone() });
            }
            match adopt(connection, config, name).await? {
                Some(slot) => Ok(slot),
                None => {
                    let made = create(connection, config).await?;
                    keep(connection, made, name).await
                }
            }
        }
    }
}

/// Makes a temporary slot whose stream has all that is published.
///
/// While a slot is being made, the server overlooks what some transactions do to its catalog, and what it decodes then it
/// goes by for as long as it streams: of a table that was published meanwhile, not one change would ever come (P2). So a
/// slot during whose making a published table or its publication changed is made again.
async fn create(
    connection: &mut Connection,
    config: &ReplicationConfig,
) -> Result<Slot, ReplicationError> {
    let name = format!("convoy_{:016x}", rand::random::<u64>());
    for _ in 0..CREATIONS_MAX {
        let began = text(&connection.query(NEXT_XID).await?, 0)?.to_owned();
        let slot = create_once(connection, &name).await?;
        if text(&connection.query(&changed_since(config, &began)).await?, 0)? == "f" {
            return Ok(slot);
        }
        info!(slot = name, "published tables changed while the slot was made: making it again");
        drop_slot(connection, &name).await?;
    }
    Err(ReplicationError::CatalogChanging { attempts: CREATIONS_MAX })
}

/// Makes a slot that stays, of this name, out of one that has been looked at. Whoever dies before that leaves none, and
/// so nobody ever adopts one that was not looked at.
async fn keep(
    connection: &mut Connection,
    made: Slot,
    name: &str,
) -> Result<Slot, ReplicationError> {
    let copy = format!(
        "SELECT lsn FROM pg_catalog.pg_copy_logical_replication_slot({}, {}, false)",
        quote_literal(&made.name),
        quote_literal(name)
    );
    let copied = connection.query(&copy).await;
    let copied = refused_slot(connection, name, copied).await?;
    let start = lsn(&copied, 0)?;
    drop_slot(connection, &made.name).await?;
    Ok(Slot { name: name.to_owned(), start })
}

async fn drop_slot(connection: &mut Connection, name: &str) -> Result<(), ReplicationError> {
    let drop = format!("DROP_REPLICATION_SLOT {}", quote_identifier(name));
    connection.query(&drop).await?;
    Ok(())
}

/// Returns the question whether transactions from this one on have changed what the stream is decoded by: the publications,
/// their members, and the members' and their partitions' own entries.
fn changed_since(config: &ReplicationConfig, began: &str) -> String {
    let names =
        config.publications.iter().map(|name| quote_literal(name)).collect::<Vec<_>>().join(", ");
    let began = quote_literal(began);
    format!(
        "WITH RECURSIVE \
         ours AS (SELECT oid, xmin FROM pg_catalog.pg_publication \
                  WHERE pubname OPERATOR(pg_catalog.=) ANY (ARRAY[{names}]::pg_catalog.name[])), \
         members AS (SELECT r.prrelid, r.xmin FROM pg_catalog.pg_publication_rel r \
                     JOIN ours ON ours.oid OPERATOR(pg_catalog.=) r.prpubid), \
         tree(id) AS (SELECT prrelid FROM members UNION SELECT i.inhrelid FROM tree \
                      JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) tree.id), \
         made(xid) AS (SELECT xmin FROM ours UNION ALL SELECT xmin FROM members UNION ALL \
                       SELECT c.xmin FROM pg_catalog.pg_class c \
                       JOIN tree ON c.oid OPERATOR(pg_catalog.=) tree.id UNION ALL \
                       SELECT a.xmin FROM pg_catalog.pg_attribute a \
                       JOIN tree ON a.attrelid OPERATOR(pg_catalog.=) tree.id UNION ALL \
                       SELECT i.xmin FROM pg_catalog.pg_inherits i \
                       JOIN tree ON i.inhrelid OPERATOR(pg_catalog.=) tree.id) \
         SELECT EXISTS (SELECT FROM made WHERE pg_catalog.age(xid) OPERATOR(pg_catalog.>=) 0 \
                        AND pg_catalog.age(xid) OPERATOR(pg_catalog.<=) pg_catalog.age({began}::pg_catalog.xid))"
    )
}

async fn create_once(connection: &mut Connection, name: &str) -> Result<Slot, ReplicationError> {
    let command = format!(
        "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')",
        quote_identifier(name)
    );
    let created = connection.query(&command).await;
    let rows = refused_slot(connection, name, created).await?;
    Ok(Slot { name: name.to_owned(), start: lsn(&rows, 1)? })
}

/// Says what the server's refusal of a new slot means.
async fn refused_slot(
    connection: &mut Connection,
    name: &str,
    answer: Result<Vec<TextRow>, ReplicationError>,
) -> Result<Vec<TextRow>, ReplicationError> {
    match answer {
        // configuration_limit_exceeded
        Err(ReplicationError::Server(error)) if error.code() == "53400" => {
            let rows = connection
                .query("SELECT pg_catalog.current_setting('max_replication_slots')")
                .await?;
            Err(ReplicationError::NoFreeSlot { max: number(&rows, 0)? })
        }
        // duplicate_object: somebody made it since we looked.
        Err(ReplicationError::Server(error)) if error.code() == "42710" => {
            Err(ReplicationError::SlotHeld { name: name.to_owned(), pid: None, application: None })
        }
        answer => answer,
    }
}

/// Returns the slot of this name if there is one, and if it is ours to use.
async fn adopt(
    connection: &mut Connection,
    config: &ReplicationConfig,
    name: &str,
) -> Result<Option<Slot>, ReplicationError> {
    let rows = slot_row(connection, name).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let foreign = |reason| Err(ReplicationError::SlotForeign { name: name.to_owned(), reason });
    if text(&rows, 0)? != "logical" {
        return foreign(SlotMismatch::Physical);
    }
    match text(&rows, 1)? {
        "pgoutput" => {}
        plugin => return foreign(SlotMismatch::Plugin { plugin: plugin.to_owned() }),
    }
    match text(&rows, 2)? {
        database if database == config.url.database => {}
        database => return foreign(SlotMismatch::Database { database: database.to_owned() }),
    }
    if text(&rows, 3)? == "t" {
        return foreign(SlotMismatch::Temporary);
    }
    if text(&rows, 4)? == "t" {
        return Err(held(name, &rows));
    }
    // Null in the moment before the first position is known, as lost as a slot that the server says is lost.
    match (column(&rows, 6), column(&rows, 7)) {
        (Some("lost"), _) | (_, None) => Err(ReplicationError::SlotLost { name: name.to_owned() }),
        _ => Ok(Some(Slot { name: name.to_owned(), start: lsn(&rows, 7)? })),
    }
}

/// Returns the error of a slot that somebody holds, from its row.
fn held(name: &str, rows: &[TextRow]) -> ReplicationError {
    ReplicationError::SlotHeld {
        name: name.to_owned(),
        pid: number(rows, 5).ok(),
        application: column(rows, 8).map(str::to_owned),
    }
}

async fn slot_row(
    connection: &mut Connection,
    name: &str,
) -> Result<Vec<TextRow>, ReplicationError> {
    let query = format!(
        "SELECT slot_type, plugin, database, temporary, active, active_pid, wal_status, confirmed_flush_lsn, \
         (SELECT application_name FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) active_pid) \
         FROM pg_catalog.pg_replication_slots WHERE slot_name OPERATOR(pg_catalog.=) {}::pg_catalog.name",
        quote_literal(name)
    );
    connection.query(&query).await
}

/// Begins to stream from the slot.
pub(crate) async fn start(
    connection: &mut Connection,
    config: &ReplicationConfig,
    slot: &Slot,
) -> Result<(), ReplicationError> {
    let publications =
        config.publications.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(",");
    let command = format!(
        "START_REPLICATION SLOT {} LOGICAL 0/0 (proto_version '2', streaming 'on', publication_names {}, messages 'true')",
        quote_identifier(&slot.name),
        quote_literal(&publications)
    );
    match connection.start_copy(&command).await {
        // object_in_use: somebody was quicker.
        Err(ReplicationError::Server(error)) if error.code() == "55006" => {
            let rows = slot_row(connection, &slot.name).await.unwrap_or_default();
            Err(held(&slot.name, &rows))
        }
        Err(error) => Err(in_stream(error)),
        Ok(()) => Ok(()),
    }
}

/// Says what the server's refusal means when it comes in the stream.
pub(crate) fn in_stream(error: ReplicationError) -> ReplicationError {
    match error {
        // undefined_object
        ReplicationError::Server(source) if is_missing_publication(&source) => {
            ReplicationError::PublicationDropped { source }
        }
        error => error,
    }
}

fn is_missing_publication(error: &ServerError) -> bool {
    error.code() == "42704" && error.routine() == "get_publication_oid"
}

/// Quotes a name for SQL.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a text for SQL and for replication commands, which know no escapes but the doubled quote.
fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn column(rows: &[TextRow], index: usize) -> Option<&str> {
    rows.first()?.get(index)?.as_deref()
}

fn text(rows: &[TextRow], index: usize) -> Result<&str, ReplicationError> {
    column(rows, index)
        .ok_or(ReplicationError::Protocol { what: "the answer to a question of ours" })
}

fn number<Number: std::str::FromStr>(
    rows: &[TextRow],
    index: usize,
) -> Result<Number, ReplicationError> {
    let error =
        |_| ReplicationError::Protocol { what: "a number in the answer to a question of ours" };
    text(rows, index)?.parse().map_err(error)
}

fn lsn(rows: &[TextRow], index: usize) -> Result<Lsn, ReplicationError> {
    let error = |_| ReplicationError::Protocol {
        what: "a WAL position in the answer to a question of ours",
    };
    text(rows, index)?.parse().map_err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_what_needs_it() {
        assert_eq!(quote_identifier(r#"a"b"#), r#""a""b""#);
        assert_eq!(quote_literal("it's"), "'it''s'");
    }
}
