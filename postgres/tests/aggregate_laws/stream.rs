//! A writer whose transactions are played as the stream would bring them: the rows before and after each change are the
//! texts that the server gives for them, in the transaction that makes it.

use super::table::{Change, TABLE, TRUNCATE, Table};
use convoy_types::{
    ChangeKind, Changes, Column, Datum, Lsn, OldRow, PgTimestamp, Relation, RelationId,
    ReplicaIdentity, Row, RowChange, Transaction, Xid,
};
use std::fmt::Write;
use std::sync::Arc;
use tokio_postgres::{Client, SimpleQueryMessage};

/// A row as Postgres prints it.
type Texts = Vec<Option<String>>;

/// One statement's rows in an answer to several.
type Rows = Vec<Texts>;

/// Runs statements at once; returns each one's rows and how many it was of.
pub async fn run(client: &Client, sql: &str) -> Result<Vec<(Rows, u64)>, tokio_postgres::Error> {
    let mut answers = Vec::new();
    let mut rows = Rows::new();
    for message in client.simple_query(sql).await? {
        match message {
            SimpleQueryMessage::Row(row) => {
                let texts = (0..row.len()).map(|column| row.get(column).map(str::to_owned));
                rows.push(texts.collect());
            }
            SimpleQueryMessage::CommandComplete(count) => {
                answers.push((std::mem::take(&mut rows), count));
            }
            _ => {}
        }
    }
    Ok(answers)
}

/// The writer, who also says what the stream would.
pub struct Writer<'a> {
    client: &'a Client,
    table: &'a Table,
    relation: Arc<Relation>,
}

impl<'a> Writer<'a> {
    pub async fn new(client: &'a Client, table: &'a Table) -> Writer<'a> {
        let sql = "select attname::text, atttypid, atttypmod from pg_attribute \
                   where attrelid = $1::text::regclass and attnum > 0 order by attnum";
        let columns = client.query(sql, &[&TABLE]).await.expect("the catalog");
        let column = |row: &tokio_postgres::Row| Column {
            name: row.get(0),
            type_oid: row.get(1),
            type_modifier: row.get(2),
            is_identity: true,
        };
        let oid = client.query_one("select $1::text::regclass::oid", &[&TABLE]).await;
        let relation = Relation {
            id: RelationId(oid.expect("a table").get(0)),
            namespace: "public".to_owned(),
            name: TABLE.to_owned(),
            replica_identity: ReplicaIdentity::Full,
            columns: columns.iter().map(column).collect(),
        };
        Writer { client, table, relation: Arc::new(relation) }
    }

    /// Commits changes in one transaction; returns it as the stream would bring it.
    pub async fn commit(&self, changes: &[Change]) -> Transaction {
        let mut sql =
            "begin; select pg_current_xact_id()::text, pg_current_wal_insert_lsn()::text;"
                .to_owned();
        let list = self.table.list();
        for Change { sql: change, before, after } in changes {
            let _ = write!(
                sql,
                "select {list} from {TABLE} where id = {before}; {change}; \
                 select {list} from {TABLE} where id = {after};"
            );
        }
        sql.push_str("commit; select pg_current_wal_insert_lsn()::text");
        let answers =
            run(self.client, &sql).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
        let text =
            |answer: usize, column: usize| answers[answer].0[0][column].clone().expect("a text");
        let xid: u64 = text(1, 0).parse().expect("an xid");
        let lsn = |text: String| text.parse::<Lsn>().expect("a position");
        let row_changes = changes.iter().enumerate().filter_map(|(number, change)| {
            let [(before, _), (_, count), (after, _)] = &answers[2 + 3 * number..5 + 3 * number]
            else {
                return None;
            };
            let kind = match change.sql == TRUNCATE {
                true => Some(ChangeKind::Truncate),
                false => (*count > 0).then(|| kind(before.first(), after.first())),
            };
            kind.map(|kind| RowChange { relation: self.relation.clone(), kind })
        });
        Transaction {
            // As the stream has it, without its epoch.
            xid: Xid(u32::try_from(xid & u64::from(u32::MAX)).expect("32 bits")),
            commit_lsn: lsn(text(1, 1)),
            end_lsn: lsn(text(answers.len() - 1, 0)),
            commit_time: PgTimestamp(0),
            changes: Changes::Rows(row_changes.collect()),
            messages: Vec::new(),
        }
    }
}

/// Returns what became of a row, by what an id stood for before and after.
fn kind(before: Option<&Texts>, after: Option<&Texts>) -> ChangeKind {
    let row = |texts: &Texts| {
        let datum = |text: &Option<String>| match text {
            Some(text) => Datum::Text(text.clone().into_bytes().into()),
            None => Datum::Null,
        };
        Row(texts.iter().map(datum).collect())
    };
    match (before, after) {
        (None, Some(after)) => ChangeKind::Insert { new: row(after) },
        (Some(before), Some(after)) => {
            ChangeKind::Update { old: OldRow::Full(row(before)), new: row(after) }
        }
        (Some(before), None) => ChangeKind::Delete { old: OldRow::Full(row(before)) },
        (None, None) => panic!("a change of nothing"),
    }
}
