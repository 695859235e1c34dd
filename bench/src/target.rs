//! The database that is measured: a private one, or one that was named; and the tables in it.

use crate::args::TargetArgs;
use crate::progress::Progress;
use anyhow::{Context, bail};
use convoy_postgres::launcher::{Fsync, LaunchOptions, Listen, Locale, PrivatePostgres, Search};
use convoy_postgres::{Connection, SessionOptions, connect};
use convoy_types::DatabaseUrl;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Client;

/// What makes a private server comparable to one in production; the rest is as Postgres comes.
const SETTINGS: [(&str, &str); 2] =
    [("shared_buffers", "1GB"), ("logical_decoding_work_mem", "64MB")];
/// The settings that a figure depends on.
const SHOWN: [&str; 7] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "logical_decoding_work_mem",
    "synchronous_standby_names",
];
/// How long the walsenders of a phase may take to go.
const QUIET_LIMIT: Duration = Duration::from_secs(20);

/// A database, ready to be written to. Call [`Target::finish`] at the end.
#[derive(Debug)]
pub(crate) struct Target {
    url_text: String,
    connection: Connection,
    private: Option<PrivatePostgres>,
    pub(crate) facts: DatabaseFacts,
    /// Replication slots that are not ours.
    slots: i64,
}

/// What stands in the report about the database.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct DatabaseFacts {
    pub(crate) version: String,
    pub(crate) is_private: bool,
    pub(crate) settings: BTreeMap<String, String>,
}

impl DatabaseFacts {
    /// Returns the lines of a report's head.
    pub(crate) fn lines(&self) -> Vec<(&'static str, String)> {
        let whose = if self.is_private { "private" } else { "named by --database-url" };
        let settings: Vec<_> = self
            .settings
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        vec![("Postgres", format!("{}, {whose}", self.version)), ("settings", settings.join(", "))]
    }
}

impl Target {
    /// Starts a private server or connects to the one that was named, and makes our schema.
    ///
    /// # Errors
    /// If there is none, if it can't be streamed from, or if the schema is there already.
    pub(crate) async fn open(
        args: &TargetArgs,
        search: Search,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let (private, url_text) = match &args.database_url {
            Some(url) => (None, url.clone()),
            None => {
                progress.say("starting a private Postgres, fsync on");
                let options = LaunchOptions {
                    search,
                    settings: SETTINGS.map(|(name, value)| (name.into(), value.into())).into(),
                    fsync: Fsync::On,
                    listen: Listen::Loopback,
                    ..LaunchOptions::default()
                };
                let server = PrivatePostgres::start(options)
                    .await
                    .context("could not start a private Postgres")?;
                server.create_database("bench", Locale::C).await?;
                let url = server.tcp_url("bench").context("a private Postgres without TCP")?;
                (Some(server), url)
            }
        };
        let url: DatabaseUrl = url_text.parse().context("--database-url")?;
        let connection = connect(&url, &session()).await?;
        let client = connection.client();
        let facts = facts(client, private.is_some()).await?;
        if facts.settings.get("wal_level").is_some_and(|level| level != "logical") {
            bail!(
                "wal_level is not logical: run ALTER SYSTEM SET wal_level = 'logical'; and restart Postgres"
            );
        }
        client.batch_execute("CREATE SCHEMA convoy_bench").await.context(
            "could not make the schema convoy_bench; if it is left from an earlier run: DROP SCHEMA convoy_bench CASCADE",
        )?;
        let slots = count_slots(client).await?;
        Ok(Target { url_text, connection, private, facts, slots })
    }

    /// Returns the database's URL, with the password.
    pub(crate) fn url_text(&self) -> &str {
        &self.url_text
    }

    /// Returns a connection for whatever is not measured.
    pub(crate) fn client(&self) -> &Client {
        self.connection.client()
    }

    /// Waits until the slots that came since the start are gone: a walsender that is about to notice that nobody reads
    /// takes part in the next measurement otherwise.
    pub(crate) async fn await_quiet(&self) -> anyhow::Result<()> {
        let quiet = async {
            // Postgres has no event for it.
            while count_slots(self.client()).await? > self.slots {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        let limit = QUIET_LIMIT.as_secs();
        tokio::time::timeout(QUIET_LIMIT, quiet).await.with_context(|| {
            format!("a replication slot of the last phase is still there after {limit} s")
        })?
    }

    /// Removes the schema, and the private server.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        let Target { connection, private, .. } = self;
        match private {
            Some(server) => {
                drop(connection);
                server.stop().await?;
            }
            None => {
                let sql =
                    "DROP SCHEMA convoy_bench CASCADE; DROP PUBLICATION IF EXISTS convoy_bench";
                connection.client().batch_execute(sql).await.context("could not clean up")?;
            }
        }
        Ok(())
    }

    /// Says what is left where it was, for the last line of a report.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let clean =
            "Convoy's publications are left in the database: `convoy doctor --clean` removes them";
        self.private.is_none().then(|| clean.to_owned())
    }
}

/// Returns how our sessions show up.
pub(crate) fn session() -> SessionOptions {
    SessionOptions {
        application_name: "convoy bench".into(),
        // A flood may be one statement.
        statement_timeout: Duration::from_secs(600),
        ..SessionOptions::default()
    }
}

async fn facts(client: &Client, is_private: bool) -> anyhow::Result<DatabaseFacts> {
    let names: Vec<&str> = SHOWN.into_iter().chain(["wal_level"]).collect();
    let sql = "SELECT name, pg_catalog.current_setting(name), pg_catalog.current_setting('server_version') \
               FROM pg_catalog.pg_settings WHERE name = ANY($1)";
    let rows = client.query(sql, &[&names]).await?;
    let version = rows.first().map(|row| row.get(2)).unwrap_or_default();
    let settings = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    Ok(DatabaseFacts { version, is_private, settings })
}

async fn count_slots(client: &Client) -> anyhow::Result<i64> {
    // Others' databases on the same server are none of ours.
    let sql =
        "SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE database = current_database()";
    let row = client.query_one(sql, &[]).await?;
    Ok(row.get(0))
}
