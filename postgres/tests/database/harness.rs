//! A database of a test's own, as the engine would use it: calls in, events out.

use convoy_engine::{
    Batching, CastId, CastRequest, Database, DescribeId, Described, Directives, Event, QueryError,
    QueryRead, ReadCompany, ReadId, ReadRows, ReadStatement, ReadingRole, Snapshot, Statement,
    StatementKind, TableFacts,
};
use convoy_postgres::{DatabaseOptions, PostgresDatabase, testing};
use convoy_query_index::QueryId;
use convoy_types::{DatabaseUrl, RelationId};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_postgres::{Client, NoTls};

/// Nothing that a test waits for takes so long, unless it never comes.
const LIMIT: Duration = Duration::from_secs(20);

pub struct Harness {
    pub database: PostgresDatabase,
    pub url: String,
    /// Somebody else's connection, with all rights.
    pub admin: Client,
    events: mpsc::UnboundedReceiver<Event>,
    /// What came while something else was waited for.
    kept: Vec<Event>,
    next_id: u64,
}

/// Connects as somebody else.
pub async fn client(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// Returns an ad hoc statement.
pub fn statement(sql: &str) -> Arc<Statement> {
    Arc::new(Statement {
        kind: StatementKind::Query,
        name: None,
        text: sql.to_owned(),
        params: Vec::new(),
        directives: Directives::default(),
    })
}

/// Returns a statement that is read singly.
pub fn read_statement(sql: &str, param_types: &[u32]) -> Arc<ReadStatement> {
    Arc::new(ReadStatement {
        sql: Arc::from(sql),
        param_types: Arc::from(param_types),
        batching: Batching::Singly("a test says so".to_owned()),
    })
}

/// Returns a query of a read without parameters.
pub fn query(number: u32, sql: &str) -> QueryRead {
    QueryRead {
        query: QueryId(number),
        role: ReadingRole::Server,
        statement: read_statement(sql, &[]),
        company: ReadCompany::Others,
        params: Arc::from([]),
        timeout: Duration::from_secs(10),
        rows_max: 1000,
        bytes_max: 1 << 20,
        last_took: Duration::ZERO,
    }
}

/// Returns a result as one would write it down.
pub fn shown(rows: &ReadRows) -> Vec<Vec<&str>> {
    rows.iter().map(|row| row.iter().map(|text| text.unwrap_or("NULL")).collect()).collect()
}

impl Harness {
    /// Makes a database, runs a script in it and opens it.
    pub async fn new(name: &str, script: &str) -> Harness {
        Harness::with(name, script, |options| options).await
    }

    pub async fn with(
        name: &str,
        script: &str,
        change: impl FnOnce(DatabaseOptions) -> DatabaseOptions,
    ) -> Harness {
        let url = testing::shared().await.database(name).await;
        let admin = client(&url).await;
        admin.batch_execute(script).await.expect("the test's own script");
        Harness::at(url, change).await
    }

    /// Opens a database that is there.
    pub async fn at(
        url: String,
        change: impl FnOnce(DatabaseOptions) -> DatabaseOptions,
    ) -> Harness {
        let admin = client(&url).await;
        let parsed: DatabaseUrl = url.parse().expect("a URL");
        let options = change(DatabaseOptions {
            watch_interval: Duration::from_millis(50),
            ..DatabaseOptions::new(parsed)
        });
        let (events_tx, events) = mpsc::unbounded_channel();
        let sink = Arc::new(move |event| drop(events_tx.send(event)));
        let database = PostgresDatabase::new(options, Handle::current(), sink);
        Harness { database, url, admin, events, kept: Vec::new(), next_id: 0 }
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Waits for the first event that this picks; the others are kept.
    pub async fn wait<T>(&mut self, mut pick: impl FnMut(Event) -> Result<T, Event>) -> T {
        let mut at = 0;
        loop {
            if at < self.kept.len() {
                let event = self.kept.remove(at);
                match pick(event) {
                    Ok(picked) => return picked,
                    Err(event) => self.kept.insert(at, event),
                }
                at += 1;
                continue;
            }
            let event = tokio::time::timeout(LIMIT, self.events.recv()).await;
            self.kept.push(event.expect("an event in time").expect("a sink that lives"));
        }
    }

    pub async fn describe(&mut self, statement: &Arc<Statement>) -> Described {
        let asked = DescribeId(self.id());
        self.database.describe(asked, statement);
        self.wait(|event| match event {
            Event::Described(id, described) if id == asked => Ok(*described),
            other => Err(other),
        })
        .await
    }

    /// Describes a statement that must be right.
    pub async fn facts(&mut self, sql: &str) -> convoy_engine::StatementFacts {
        self.describe(&statement(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Returns how results of a statement are read.
    pub async fn read_statement(&mut self, sql: &str) -> Arc<ReadStatement> {
        let facts = self.facts(sql).await;
        let ad_hoc = Arc::new(Statement::ad_hoc(sql).expect("good"));
        let analysis = convoy_engine::analyse::analyse(&ad_hoc, &facts).expect("it can be live");
        let constants = self.cast(analysis.constants().to_vec()).await;
        let constants: Vec<_> = constants.into_iter().map(|c| c.ok().flatten()).collect();
        let template = analysis.finish(&constants).expect("it can be live");
        template.read
    }

    /// Describes a table that must be publishable or not, but there.
    pub async fn table(&mut self, name: &str) -> Arc<TableFacts> {
        let facts = self.facts(&format!("select * from {name}")).await;
        let oid = self.oid(name).await;
        facts.tables.into_iter().find(|table| table.id == oid).expect("the table itself")
    }

    pub async fn oid(&self, table: &str) -> RelationId {
        let row = self.admin.query_one("select to_regclass($1)::oid", &[&table]).await;
        RelationId(row.expect("a table").get(0))
    }

    pub async fn cast(
        &mut self,
        values: Vec<CastRequest>,
    ) -> Vec<Result<Option<String>, QueryError>> {
        let asked = CastId(self.id());
        self.database.cast(asked, values);
        self.wait(|event| match event {
            Event::Cast(id, outcomes) if id == asked => Ok(outcomes),
            other => Err(other),
        })
        .await
    }

    pub async fn open(
        &mut self,
        tables: Vec<RelationId>,
    ) -> (ReadId, Result<BTreeSet<RelationId>, QueryError>) {
        let asked = self.start_open(tables);
        (asked, self.opened(asked).await)
    }

    pub fn start_open(&mut self, tables: Vec<RelationId>) -> ReadId {
        let asked = ReadId(self.id());
        self.database.open_read(asked, tables);
        asked
    }

    pub async fn opened(&mut self, asked: ReadId) -> Result<BTreeSet<RelationId>, QueryError> {
        self.wait(|event| match event {
            Event::ReadOpened(id, result) if id == asked => Ok(result),
            other => Err(other),
        })
        .await
    }

    pub async fn snapshot(&mut self, read: ReadId) -> Result<Snapshot, QueryError> {
        self.database.take_snapshot(read);
        self.wait(|event| match event {
            Event::SnapshotTaken(id, result) if id == read => Ok(result),
            other => Err(other),
        })
        .await
    }

    /// Runs queries and returns all answers, when the read is finished.
    pub async fn run(
        &mut self,
        read: ReadId,
        queries: Vec<QueryRead>,
    ) -> HashMap<u32, Result<ReadRows, QueryError>> {
        self.database.run(read, queries, Vec::new());
        let mut answers = HashMap::new();
        self.wait(|event| match event {
            Event::QueryRead(id, query, result) if id == read => {
                assert!(answers.insert(query.0, result).is_none(), "answered twice");
                Err(Event::Tick)
            }
            Event::ReadFinished(id) if id == read => Ok(()),
            other => Err(other),
        })
        .await;
        answers
    }

    /// Opens, takes the snapshot and runs.
    pub async fn read(
        &mut self,
        tables: Vec<RelationId>,
        queries: Vec<QueryRead>,
    ) -> HashMap<u32, Result<ReadRows, QueryError>> {
        let (read, opened) = self.open(tables).await;
        opened.expect("an open read");
        self.snapshot(read).await.expect("a snapshot");
        self.run(read, queries).await
    }

    /// Waits until a table is said to have changed.
    pub async fn changed(&mut self, table: RelationId) {
        self.wait(|event| match event {
            Event::CatalogChanged(tables) if tables.contains(&table) => Ok(()),
            other => Err(other),
        })
        .await;
    }

    /// Returns the events that have come and that nobody waited for.
    pub fn kept(&mut self) -> &[Event] {
        while let Ok(event) = self.events.try_recv() {
            self.kept.push(event);
        }
        &self.kept
    }

    /// Returns the publications that have a table, by name.
    pub async fn publications_of(&self, table: &str) -> Vec<String> {
        let sql = "select pubname::text from pg_publication_rel r join pg_publication p on p.oid = prpubid \
                   where prrelid = to_regclass($1) order by 1";
        let rows = self.admin.query(sql, &[&table]).await.expect("the catalog");
        rows.iter().map(|row| row.get(0)).collect()
    }
}

/// Waits until somebody waits for a lock of a kind, or holds one, in the database that `admin` is in.
pub async fn until(admin: &Client, condition: &str) {
    let sql = format!("select exists ({condition})");
    let found = async {
        while !admin.query_one(&sql, &[]).await.expect("a condition").get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, found).await.unwrap_or_else(|_| panic!("never came: {condition}"));
}
