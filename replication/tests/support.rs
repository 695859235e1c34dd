//! A database with publications, a client that writes to it, and a stream that is read up to a marker.

use convoy_postgres::testing;
use convoy_replication::{
    ReplicationConfig, ReplicationError, ReplicationStream, SlotChoice, StreamEvent,
};
use convoy_types::{
    ChangeKind, Changes, DatabaseUrl, Datum, Lsn, OldRow, Relation, Row, RowChange, Transaction,
};
use std::fmt::Write;
use std::future::Future;
use std::time::Duration;
use tokio_postgres::{Client, NoTls};

/// How long a test may take; most take some 100 ms.
const LIMIT: Duration = Duration::from_secs(60);

/// Fails a test that hangs.
pub async fn within<Output>(test: impl Future<Output = Output>) -> Output {
    tokio::time::timeout(LIMIT, test).await.expect("the test took too long")
}

/// A database of a test's own.
pub struct Database {
    pub url: String,
    pub client: Client,
}

impl Database {
    /// Makes a database on the shared server, with both publications and these tables.
    pub async fn new(hint: &str, sql: &str) -> Database {
        let url = testing::shared().await.database(hint).await;
        let database = Database { client: connect(&url).await, url };
        database.run("CREATE PUBLICATION convoy_full").await;
        database.run("CREATE PUBLICATION convoy_ins WITH (publish = 'insert, truncate')").await;
        database.run(sql).await;
        database
    }

    /// Runs statements, each for itself.
    pub async fn run(&self, sql: &str) {
        run(&self.client, sql).await;
    }

    pub async fn text(&self, query: &str) -> Option<String> {
        text(&self.client, query).await
    }

    /// Checks what becomes of a stream one of whose publications is not there: it ends before 18; since 18 it goes on, and
    /// nothing of what was written comes.
    pub async fn lacks_a_publication(&self, stream: &mut ReplicationStream) {
        let version = self.text("SHOW server_version_num").await.expect("a version");
        let is_silent = version.parse::<u32>().expect("a number") >= 180_000;
        let written = self.text("SELECT pg_current_wal_insert_lsn()").await.expect("a position");
        let written: Lsn = written.parse().expect("a position");
        // Something behind it for the stream to pass.
        self.run("SELECT pg_switch_wal()").await;
        loop {
            match stream.next().await {
                Ok(StreamEvent::Progress { wal_end }) if is_silent && wal_end >= written => return,
                Ok(StreamEvent::Progress { .. }) => {}
                Ok(event) => panic!("{event:?}"),
                Err(ReplicationError::PublicationDropped { .. }) if !is_silent => return,
                Err(error) => panic!("{error:?}"),
            }
        }
    }

    pub fn config(&self) -> ReplicationConfig {
        ReplicationConfig::new(self.url.parse().expect("a URL"))
    }

    pub fn config_with_slot(&self, name: &str) -> ReplicationConfig {
        ReplicationConfig { slot: SlotChoice::Named(name.to_owned()), ..self.config() }
    }

    pub async fn stream(&self) -> ReplicationStream {
        ReplicationStream::connect(self.config()).await.expect("a stream")
    }

    /// Reads the transactions up to now, and confirms them.
    pub async fn read(&self, stream: &mut ReplicationStream) -> Vec<Transaction> {
        self.run("SELECT pg_logical_emit_message(true, 'convoy.marker', 'x')").await;
        let mut transactions = Vec::new();
        loop {
            if let StreamEvent::Committed(transaction) = stream.next().await.expect("an event") {
                stream.confirm(transaction.end_lsn);
                if transaction.messages.iter().any(|message| message.prefix == "convoy.marker") {
                    return transactions;
                }
                transactions.push(transaction);
            }
        }
    }

    /// Starts a stream, runs the statements, and shows what the stream brings of it.
    pub async fn changes_of(&self, sql: &str) -> Vec<String> {
        let mut stream = self.stream().await;
        self.run(sql).await;
        let transactions = self.read(&mut stream).await;
        stream.shutdown().await;
        transactions.iter().flat_map(show).collect()
    }

    /// Asks until the answer is this; fails by the test's limit.
    pub async fn wait_until(&self, query: &str, expected: Option<&str>) {
        while self.text(query).await.as_deref() != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Opens a connection for SQL.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

pub async fn run(client: &Client, sql: &str) {
    for statement in sql.split(";\n").filter(|statement| !statement.trim().is_empty()) {
        if let Err(error) = client.batch_execute(statement).await {
            panic!("{statement}: {error:?}");
        }
    }
}

pub async fn text(client: &Client, query: &str) -> Option<String> {
    let messages =
        client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    messages.into_iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
        _ => None,
    })?
}

/// Returns the same way in as somebody else.
pub fn as_user(url: &str, user: &str, password: Option<&str>) -> DatabaseUrl {
    let url: DatabaseUrl = url.parse().expect("a URL");
    DatabaseUrl { user: user.to_owned(), password: password.map(str::to_owned), ..url }
}

/// Returns why there is no stream.
pub async fn refusal(config: ReplicationConfig) -> ReplicationError {
    match ReplicationStream::connect(config).await {
        Ok(stream) => panic!("a stream from {}", stream.slot_name()),
        Err(error) => error,
    }
}

/// Shows a transaction's changes: `t: insert id=1 note=null`, with `?` for missing, `^` for unchanged.
pub fn show(transaction: &Transaction) -> Vec<String> {
    match &transaction.changes {
        Changes::Rows(rows) => rows.iter().map(show_change).collect(),
        Changes::Touched(relations) => {
            let names = relations.iter().map(|relation| relation.name.as_str()).collect::<Vec<_>>();
            vec![format!("touched {}", names.join(" "))]
        }
    }
}

fn show_change(change: &RowChange) -> String {
    let row = |row: &Row| show_row(&change.relation, row);
    let old = |old: &OldRow| match old {
        OldRow::SameKey => "same key".to_owned(),
        OldRow::Key(key) => format!("key{}", row(key)),
        OldRow::Full(full) => format!("full{}", row(full)),
    };
    let kind = match &change.kind {
        ChangeKind::Insert { new } => format!("insert{}", row(new)),
        ChangeKind::Update { old: before, new } => format!("update {} ->{}", old(before), row(new)),
        ChangeKind::Delete { old: before } => format!("delete {}", old(before)),
        ChangeKind::Truncate => "truncate".to_owned(),
    };
    format!("{}: {kind}", change.relation.name)
}

fn show_row(relation: &Relation, row: &Row) -> String {
    let mut text = String::new();
    for (column, datum) in relation.columns.iter().zip(&row.0) {
        let value = match datum {
            Datum::Null => "null".to_owned(),
            Datum::Text(text) if text.len() > 200 => format!("({} bytes)", text.len()),
            Datum::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Datum::UnchangedToast => "^".to_owned(),
            Datum::Missing => "?".to_owned(),
        };
        write!(text, " {}={value}", column.name).expect("writing to a string");
    }
    text
}
