//! A project with functions, in a folder of its own, and a server that serves it.

use crate::client::{Answer, ask, get, post};
use crate::support::{connect, serve_args};
use axum::Router;
use convoy_postgres::testing;
use convoy_server::app::FrontPage;
use convoy_server::loading::{OpenProject, ProjectLoader, Runs, Tables};
use convoy_server::serve::{ServeOptions, Server, bind};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;
use tokio_postgres::Client;

/// What a `_generated/server.ts` has.
const GENERATED: &str = "import { createFunctionHelpers } from 'convoy';
export const { query, mutation, internalQuery, internalMutation } = createFunctionHelpers<any>();
";

/// The tests' tables: documents, columns, and one that is somebody else's.
pub const SCHEMA: &str = "import { defineSchema, defineTable } from 'convoy';
import { z } from 'zod';
export default defineSchema({
  channels: defineTable({ name: z.string(), topic: z.string() }).index('by_name', ['name']),
  messages: defineTable({
    channel: z.string(), text: z.string(), rank: z.number(), extra: z.any().optional(), channelId: z.string().optional(),
  }).index('by_channel', ['channel']).index('by_channel_rank', ['channel', 'rank']),
  counters: defineTable({ name: z.string(), n: z.number() }).index('by_name', ['name']),
  people: defineTable({ email: z.string(), age: z.number().optional() }).index('by_email', ['email']).relational(),
  notes: defineTable({ body: z.string() }).unmanaged(),
});
";

/// The table that is somebody else's.
pub const NOTES: &str = "create table notes (id int4 primary key, body text not null)";

/// A folder with zod in it, filled once for all tests; it lies in `target/`.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("server-packages");
        let done = folder.join("done");
        if !done.exists() {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(folder.join("package.json"), "{\"private\": true}").expect("a file");
            let status =
                Command::new("npm").args(["install", "zod@4.6.7"]).current_dir(&folder).status();
            assert!(status.expect("npm is there").success(), "npm install zod");
            std::fs::write(done, "").expect("a file");
        }
        folder
    })
}

/// A project's folder.
pub struct Folder(TempDir);

impl Folder {
    /// Returns one in which nothing is.
    pub fn empty() -> Folder {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    /// Makes what the project's modules import from packages be there.
    pub fn install(&self) {
        let modules = self.path().join("node_modules");
        std::fs::create_dir_all(&modules).expect("a folder");
        let zod = packages().join("node_modules/zod");
        std::os::unix::fs::symlink(zod, modules.join("zod")).expect("a link");
    }

    /// Returns one with the tests' schema and these files, named from `convoy/` on.
    pub fn new(files: &[(&str, &str)]) -> Folder {
        let folder = Folder::empty();
        folder.install();
        folder.write("_generated/server.ts", GENERATED);
        folder.write("schema.ts", SCHEMA);
        for (file, text) in files {
            folder.write(file, text);
        }
        folder
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.path().join("convoy").join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        // In one step: somebody may be reading the project just then.
        let new = path.with_extension("new");
        std::fs::write(&new, text).expect("a file");
        std::fs::rename(new, path).expect("a file");
    }
}

/// Returns a file of functions, with what all of them import.
pub fn functions(body: &str) -> String {
    format!(
        "import {{ query, mutation, internalQuery, internalMutation }} from '../_generated/server';\n\
         import {{ convoyError, sql }} from 'convoy';\nimport {{ z }} from 'zod';\n{body}"
    )
}

/// A server of a project with functions.
pub struct Served {
    pub server: Server,
    pub address: SocketAddr,
    pub url: String,
    pub writer: Client,
    pub folder: Folder,
    /// Who reads the project again.
    pub loader: Option<ProjectLoader>,
}

impl Served {
    /// Starts one, on a database of its own, with these functions in `functions/t.ts`.
    pub async fn start(name: &str, flags: &[&str], body: &str) -> Served {
        let url = testing::shared().await.database(name).await;
        connect(&url).await.batch_execute(NOTES).await.expect("a table");
        Served::on(&url, flags, body).await
    }

    /// Starts one on a database that is there.
    pub async fn on(url: &str, flags: &[&str], body: &str) -> Served {
        let folder = Folder::new(&[("functions/t.ts", &functions(body))]);
        Served::of(url, flags, folder).await
    }

    /// Starts one of a folder that is there.
    pub async fn of(url: &str, flags: &[&str], folder: Folder) -> Served {
        let args = serve_args(flags);
        let database = url.parse().expect("a URL");
        let session = args.database.session();
        let (tables, runs) = (Tables::Create, Runs::WhatIsThere);
        let opened = OpenProject::open(folder.path(), &database, &session, tables, runs).await;
        let OpenProject { queries, backend, loader } =
            opened.unwrap_or_else(|error| panic!("{error:?}"));
        let listener = bind(args.listen).await.expect("a port");
        let options = ServeOptions {
            args,
            url: database,
            ad_hoc_url: None,
            queries,
            backend,
            front_page: FrontPage::Status,
            loopback_origins: false,
            is_own_postgres: false,
            extra: Router::new(),
        };
        let server = Server::start(listener, options).await.expect("a server");
        let (address, writer) = (server.address(), connect(url).await);
        Served { server, address, url: url.to_owned(), writer, folder, loader: Some(loader) }
    }

    /// Writes as psql would, and returns a position that includes it.
    pub async fn write(&self, sql: &str) -> String {
        self.writer.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let position = "select pg_current_wal_insert_lsn()::text";
        self.writer.query_one(position, &[]).await.expect("a position").get(0)
    }

    /// Inserts a message as psql would; returns its id.
    pub async fn message(&self, channel: &str, text: &str, rank: i64) -> String {
        let doc = json!({ "channel": channel, "text": text, "rank": rank }).to_string();
        let sql = "insert into messages (doc) values ($1::text::jsonb) returning _id";
        self.writer.query_one(sql, &[&doc]).await.expect("a message").get(0)
    }

    /// Asks for a mutation, with these headers.
    pub async fn ask(&self, name: &str, args: &Value, headers: &[(&str, &str)]) -> Answer {
        mutate(self.address, name, args, headers).await
    }

    /// Carries a mutation out, which must succeed; returns its value.
    pub async fn mutate(&self, name: &str, args: Value) -> Value {
        let answer = self.ask(name, &args, &[]).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
        answer.json()["value"].clone()
    }

    /// Asks a query once.
    pub async fn query(&self, name: &str, args: Value) -> Answer {
        post(self.address, &format!("/api/query/{name}"), &args.to_string()).await
    }

    /// How many results have been read so far.
    pub async fn reads(&self) -> u64 {
        let metrics = get(self.address, "/metrics").await.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("convoy_reads_total "));
        line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
    }

    /// How many live queries there are.
    pub async fn live_queries(&self) -> u64 {
        let status = get(self.address, "/api/status").await.json();
        status["live_queries"].as_u64().unwrap_or_else(|| panic!("{status}"))
    }

    /// What Postgres says: a number.
    pub async fn count(&self, sql: &str) -> i64 {
        let sql = format!("select ({sql})::int8");
        let row = self.writer.query_one(&sql, &[]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
    }
}

/// Asks for a mutation.
pub async fn mutate(
    address: SocketAddr,
    name: &str,
    args: &Value,
    headers: &[(&str, &str)],
) -> Answer {
    let mut all = vec![("content-type", "application/json")];
    all.extend_from_slice(headers);
    ask(address, "POST", &format!("/api/mutation/{name}"), &all, &args.to_string()).await
}

/// Returns the `n`-th id of a test's mutations.
pub fn uuid(n: u32) -> String {
    format!("0198c1f0-7b1e-7c3a-9d2b-{n:012x}")
}
