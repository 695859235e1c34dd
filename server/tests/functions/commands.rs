//! `convoy migrate` and `convoy dev`, as processes.

use super::project::{Folder, NOTES, SCHEMA, functions, mutate};
use super::viewer::{Viewer, to};
use crate::client::post;
use crate::support::{connect, until};
use convoy_postgres::testing;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio_postgres::Client;

const FUNCTIONS: &str = "export const list = query((ctx) => ctx.db.query('messages').collect());";

/// What a command did.
pub struct Outcome {
    pub status: Option<i32>,
    /// All that it wrote.
    pub said: String,
    /// What it wrote to its standard output alone.
    pub printed: String,
}

/// Returns a command in an environment without settings of ours.
pub fn command(arguments: &[&str], folder: &Folder) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_convoy"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CONVOY_") || name.starts_with("PG") || name == "DATABASE_URL" {
            command.env_remove(&*name);
        }
    }
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
    command.kill_on_drop(true);
    command
}

async fn outcome(command: &mut Command) -> Outcome {
    let output = tokio::time::timeout(Duration::from_secs(60), command.output());
    let output = output.await.expect("it ends").expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = printed.clone() + &String::from_utf8_lossy(&output.stderr);
    Outcome { status: output.status.code(), said, printed }
}

pub async fn convoy(arguments: &[&str], folder: &Folder, url: Option<&str>) -> Outcome {
    outcome(command(arguments, folder).envs(url.map(|url| ("CONVOY_DATABASE_URL", url)))).await
}

/// All that stands in a database beside what Postgres has itself.
pub async fn inventory(client: &Client) -> Vec<String> {
    let sql = "select n.nspname || '.' || c.relname || ' ' || c.relkind::text || ' ' || coalesce((select string_agg(a.attname, ',' order by a.attnum) \
               from pg_attribute a where a.attrelid = c.oid and a.attnum > 0), '') \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
               union all select 'schema ' || nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' \
               union all select 'publication ' || pubname from pg_publication \
               union all select 'slot ' || slot_name from pg_replication_slots where database = current_database() \
               order by 1";
    client.query(sql, &[]).await.expect("the catalogue").iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_says_creates_and_then_has_nothing_to_do() {
    let url = testing::shared().await.database("fn_migrate").await;
    let client = connect(&url).await;
    let talking = format!("{FUNCTIONS}\nconsole.log('a module', 1);");
    let folder = Folder::new(&[("functions/t.ts", &functions(&talking))]);
    let empty = inventory(&client).await;
    for _ in 0..2 {
        let outcome = convoy(&["migrate", "--dry-run"], &folder, Some(&url)).await;
        assert_eq!(outcome.status, Some(1), "{}", outcome.said);
        assert!(
            outcome.said.contains("messages") && outcome.said.contains("without --dry-run"),
            "{}",
            outcome.said
        );
        assert!(outcome.said.contains("a module 1"), "{}", outcome.said);
        assert_eq!(inventory(&client).await, empty, "a dry run writes nothing");
    }
    let outcome = convoy(&["migrate"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(0), "{}", outcome.said);
    let made = inventory(&client).await;
    assert!(made.iter().any(|line| line.starts_with("public.messages r")), "{made:?}");
    assert!(!made.iter().any(|line| line.contains("notes")), "somebody else's: {made:?}");
    client
        .batch_execute(
            "insert into messages (doc) values ('{\"channel\":\"a\",\"text\":\"x\",\"rank\":1}')",
        )
        .await
        .expect("a row");
    for arguments in [&["migrate"][..], &["deploy"], &["migrate", "--dry-run"], &["dev", "--once"]]
    {
        let outcome = convoy(arguments, &folder, Some(&url)).await;
        assert_eq!(outcome.status, Some(0), "{arguments:?}: {}", outcome.said);
        assert_eq!(inventory(&client).await, made, "{arguments:?}");
    }
    // What is no longer declared stays, and is told of.
    folder.write(
        "schema.ts",
        &SCHEMA
            .replace("topic: z.string()", "topic: z.string(), more: z.string().optional()")
            .replace("messages: defineTable", "letters: defineTable"),
    );
    let outcome = convoy(&["migrate"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(0), "{}", outcome.said);
    let rows: i64 =
        client.query_one("select count(*) from messages", &[]).await.expect("it is there").get(0);
    assert_eq!(rows, 1);
    assert!(inventory(&client).await.iter().any(|line| line.starts_with("public.letters r")));
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_graduate_to_columns_and_once_is_enough() {
    let url = testing::shared().await.database("fn_graduate").await;
    let client = connect(&url).await;
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS))]);
    let outcome = convoy(&["migrate"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(0), "{}", outcome.said);
    let row =
        "insert into messages (doc) values ('{\"channel\":\"a\",\"text\":\"x\",\"rank\":1.5}')";
    client.batch_execute(row).await.expect("a row");
    let declared = || std::fs::read_to_string(folder.path().join("convoy/schema.ts")).expect("it");
    let before = declared();
    for (arguments, status, words) in [
        (&["graduate", "mesages"][..], 2, "did you mean messages?"),
        (&["graduate", "notes"], 1, "declared .unmanaged()"),
        (&["graduate", "people"], 0, "declared .relational() already"),
        (&["graduate", "messages"], 0, "--write does it"),
    ] {
        let outcome = convoy(arguments, &folder, None).await;
        assert_eq!(outcome.status, Some(status), "{arguments:?}: {}", outcome.said);
        assert!(outcome.said.contains(words), "{arguments:?}: {}", outcome.said);
        assert_eq!(declared(), before, "{arguments:?}");
    }
    for _ in 0..2 {
        let output = command(&["graduate", "messages", "--write"], &folder).output().await;
        let output = output.expect("it runs");
        let (sql, said) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{said}");
        client.batch_execute(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        assert_eq!(declared().matches(".relational()").count(), 2, "{said}");
    }
    let outcome = convoy(&["migrate", "--dry-run"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(0), "nothing differs: {}", outcome.said);
    assert!(!outcome.said.contains("differs"), "{}", outcome.said);
    let row = client.query_one("select channel, text, rank from messages", &[]).await.expect("it");
    assert_eq!((row.get(0), row.get(1), row.get(2)), ("a", "x", 1.5_f64));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_migrate_at_once_do_not_meet() {
    let url = testing::shared().await.database("fn_both").await;
    let client = connect(&url).await;
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS))]);
    let (one, other) = tokio::join!(
        convoy(&["migrate"], &folder, Some(&url)),
        convoy(&["dev", "--once", "--no-serve"], &folder, Some(&url)),
    );
    assert_eq!((one.status, other.status), (Some(0), Some(0)), "{}\n{}", one.said, other.said);
    assert!(inventory(&client).await.iter().any(|line| line.starts_with("public.messages r")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_ends_with_one_and_leaves_nothing() {
    let url = testing::shared().await.database("fn_wrong").await;
    let client = connect(&url).await;
    client.batch_execute(NOTES).await.expect("a table");
    let before = inventory(&client).await;
    let folder =
        Folder::new(&[("functions/t.ts", &functions("export const list = query((ctx) => {{{;"))]);
    for arguments in [&["migrate"][..], &["migrate", "--dry-run"], &["dev", "--once", "--no-serve"]]
    {
        let outcome = convoy(arguments, &folder, Some(&url)).await;
        assert_eq!(outcome.status, Some(1), "{arguments:?}: {}", outcome.said);
        assert!(outcome.said.contains("functions/t.ts"), "{arguments:?}: {}", outcome.said);
    }
    folder.write("functions/t.ts", &functions(FUNCTIONS));
    folder.write(
        "schema.ts",
        &SCHEMA
            .replace("['rank']", "['rnak']")
            .replace("['channel', 'rank']", "['channel', 'rnak']"),
    );
    let outcome = convoy(&["migrate"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(1), "{}", outcome.said);
    assert!(outcome.said.contains("rnak"), "{}", outcome.said);
    assert_eq!(inventory(&client).await, before);
    // A table of that name that is something else, behind one that could be made: nothing is made.
    client.batch_execute("create view messages as select 1 as a").await.expect("a view");
    let before = inventory(&client).await;
    folder.write("schema.ts", SCHEMA);
    let outcome = convoy(&["migrate"], &folder, Some(&url)).await;
    assert!(outcome.said.contains("messages"), "{}", outcome.said);
    if outcome.status == Some(1) {
        assert_eq!(inventory(&client).await, before, "all or nothing");
    }
    let outcome = convoy(&["migrate"], &folder, None).await;
    assert_eq!(outcome.status, Some(2), "{}", outcome.said);
    let outcome =
        convoy(&["migrate", "--dry-run"], &folder, Some("postgres://nobody@127.0.0.1:1/none"))
            .await;
    assert_eq!(outcome.status, Some(1), "{}", outcome.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_without_a_database_has_its_own_and_leaves_nothing_else() {
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS))]);
    let scratch = tempfile::tempdir().expect("a folder");
    // An unprivileged server has to get there.
    for folder in [scratch.path(), folder.path()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(folder, mode).expect("a mode");
    }
    let mut command = command(&["dev", "--once", "--no-serve"], &folder);
    let before = files(&folder);
    let Outcome { status, said, .. } = outcome(command.env("TMPDIR", scratch.path())).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("messages"), "{said}");
    let left: Vec<_> = std::fs::read_dir(scratch.path()).expect("a folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    // Its data stay.
    assert!(folder.path().join(".convoy/postgres/data").is_dir());
    let is_known = |file: &str| ["_generated", ".convoy"].iter().any(|part| file.contains(part));
    let beside = |file: &String| !before.contains(file) && !is_known(file);
    let more: Vec<String> = files(&folder).into_iter().filter(beside).collect();
    assert!(more.is_empty(), "{more:?}");
}

/// It does not meet the Postgres of a server that runs, and leaves none behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_a_database_goes_beside_a_server() {
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS))]);
    let scratch = tempfile::tempdir().expect("a folder");
    for folder in [scratch.path(), folder.path()] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(folder, mode).expect("a mode");
    }
    let dev = |arguments: &[&str]| {
        let mut command = command(&[&["dev"], arguments].concat(), &folder);
        command.env("TMPDIR", scratch.path());
        command
    };
    let before = contents(&folder);
    let checked = outcome(&mut dev(&["--check"])).await;
    assert_eq!(checked.status, Some(1), "{}", checked.said);
    assert!(checked.said.contains("api.ts"), "{}", checked.said);
    assert_eq!(contents(&folder), before);
    assert_eq!(std::fs::read_dir(scratch.path()).expect("a folder").count(), 0);
    let mut watching = Watching::run(&mut dev(&["--listen", "127.0.0.1:0"]));
    watching.address().await;
    let checked = outcome(&mut dev(&["--check"])).await;
    assert_eq!(checked.status, Some(0), "{}", checked.said);
    // Its own Postgres, and nobody else's.
    let warned = watching.said.iter().any(|line| line.contains("superuser"));
    assert!(!warned, "{:#?}", watching.said);
    watching.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_writes_nothing() {
    let url = testing::shared().await.database("fn_check").await;
    let client = connect(&url).await;
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS))]);
    let check = async |status, says: &str| {
        let (stood, rows) = (contents(&folder), inventory(&client).await);
        let outcome = convoy(&["dev", "--check"], &folder, Some(&url)).await;
        assert_eq!(outcome.status, Some(status), "{}", outcome.said);
        assert!(outcome.said.contains(says), "{}", outcome.said);
        assert_eq!((contents(&folder), inventory(&client).await), (stood, rows));
    };
    check(1, "api.ts").await;
    let outcome = convoy(&["dev", "--once"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(0), "{}", outcome.said);
    assert!(inventory(&client).await.iter().any(|line| line.starts_with("public.messages r")));
    check(0, "").await;
    folder.write("functions/u.ts", &functions(FUNCTIONS));
    check(1, "api.ts").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_serve_keeps_code_and_tables_and_serves_nothing() {
    let url = testing::shared().await.database("fn_no_serve").await;
    let client = connect(&url).await;
    let folder = Folder::new(&[("functions/t.ts", &functions(FUNCTIONS))]);
    let mut watching = Watching::start(&["dev", "--no-serve"], &folder, &url);
    watching.says("watching").await;
    folder.write("schema.ts", &SCHEMA.replace("messages: defineTable", "letters: defineTable"));
    folder.write("functions/u.ts", &functions(FUNCTIONS));
    watching.says("generated api.ts").await;
    let stands = inventory(&client).await;
    assert!(stands.iter().any(|line| line.starts_with("public.letters r")), "{stands:?}");
    assert!(!stands.iter().any(|line| line.starts_with("slot") || line.starts_with("publication")));
    watching.end().await;
}

/// `convoy dev` first, and then `convoy init` beside it, and then what it imports.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_comes_later_is_taken_in() {
    let url = testing::shared().await.database("fn_comes_later").await;
    let client = connect(&url).await;
    let folder = Folder::empty();
    let mut watching = Watching::start(&["dev", "--listen", "127.0.0.1:0"], &folder, &url);
    watching.says("convoy init writes one").await;
    let address = watching.address().await;
    assert_eq!(files(&folder), Vec::<String>::new(), "there is nothing to generate for");
    let stands = inventory(&client).await;
    assert!(!stands.iter().any(|line| line.starts_with("schema convoy")), "{stands:?}");
    let outcome = convoy(&["init"], &folder, None).await;
    assert_eq!(outcome.status, Some(0), "{}", outcome.said);
    watching.says("the functions can't be served yet").await;
    folder.install();
    watching.says("generated").await;
    assert!(folder.path().join("convoy/_generated/api.ts").is_file());
    assert!(!folder.path().join("_generated").exists());
    until("it is served", async || {
        post(address, "/api/query/messages.list", "{\"channel\":\"a\"}").await.status == 200
    })
    .await;
    let args = json!({"channel": "a", "author": "ann", "text": "hello"});
    let sent = mutate(address, "messages.send", &args, &[]).await;
    assert_eq!(sent.status, 200, "{}", sent.body);
    for (query, words) in [("messages.list", "hello"), ("messages.count", "\"messages\":1")] {
        let path = format!("/api/query/{query}");
        let answer = post(address, &path, "{\"channel\":\"a\"}").await;
        assert!(answer.body.contains(words), "{query}: {}", answer.body);
    }
    // And each save from then on.
    for name in ["one", "two", "three"] {
        let text = format!(
            "import {{ query }} from '../_generated/server';\nexport const {name} = query(() => '{name}');"
        );
        let saved = Instant::now();
        folder.write("functions/more.ts", &text);
        watching.says("generated").await;
        // How soon is no law here; docs/functions.md has the figure.
        println!("generated {:?} after the save", saved.elapsed());
        // Code is written first; what it calls is served a moment later.
        let path = format!("/api/query/more.{name}");
        until("it is served", async || post(address, &path, "{}").await.json()["value"] == name)
            .await;
    }
    watching.end().await;
}

/// Others call a folder `functions`, too.
#[tokio::test]
async fn who_serves_a_folder_that_is_no_project_is_told_how_to_name_another() {
    let (folder, hint) = (Folder::empty(), "name another folder: --project DIR");
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    write(
        "functions/hello.ts",
        "import { readFile } from 'node:fs'; export const handler = readFile;",
    );
    let url = testing::shared().await.database("fn_no_project").await;
    let outcome = convoy(&["serve", "--listen", "127.0.0.1:0"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(1), "{}", outcome.said);
    assert!(outcome.said.contains("node:fs") && outcome.said.contains(hint), "{}", outcome.said);
    // Whoever has a server.ts knows that it is one.
    write("server.ts", "export const one = 1;");
    let outcome = convoy(&["serve", "--listen", "127.0.0.1:0"], &folder, Some(&url)).await;
    assert_eq!(outcome.status, Some(1), "{}", outcome.said);
    assert!(outcome.said.contains("node:fs") && !outcome.said.contains(hint), "{}", outcome.said);
}

/// What a client may not hear is for the log: the rest of what Postgres said, and which limit it was. A failure that comes
/// again and again is there once.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_clients_are_not_told() {
    let url = testing::shared().await.database("fn_log").await;
    let body = "
export const broken = query(async (ctx) => {
  await ctx.db.query('messages').collect();
  throw new Error('a bug');
});
export const join = mutation({ args: { email: z.string() }, handler: (ctx, { email }) => ctx.db.insert('people', { email }) });
export const limits = mutation({
  args: { how: z.string() },
  handler: (ctx, { how }) => {
    if (how === 'loop') for (;;) {}
    if (how === 'memory') { const all = []; for (;;) all.push('x'.repeat(1 << 20) + all.length); }
    if (how === 'large') return 'x'.repeat(17 << 20);
  },
});
export const calls = mutation(async (ctx) => { for (;;) await ctx.db.get('messages:1'); });
";
    let folder = Folder::new(&[("functions/t.ts", &functions(body))]);
    let mut watching = Watching::start(&["dev", "--listen", "127.0.0.1:0"], &folder, &url);
    let address = watching.address().await;
    let client = connect(&url).await;
    client.batch_execute("create unique index on people (email)").await.expect("an index");
    for _ in 0..2 {
        mutate(address, "t.join", &json!({"email": "taken@x"}), &[]).await;
    }
    watching.says("Key (email)=(taken@x) already exists").await;
    for (how, words) in [
        ("loop", "processor time: 1s allowed"),
        ("memory", "memory: 67108864 bytes allowed"),
        ("large", "result: 17825794 bytes, 16777216 allowed"),
    ] {
        let answer = mutate(address, "t.limits", &json!({ "how": how }), &[]).await;
        assert_eq!(answer.code(), "LIMIT_EXCEEDED", "{}", answer.body);
        let line = watching.says("a function reached a limit").await;
        assert!(line.contains(words) && line.contains("t.limits"), "{line}");
        assert!(how == "large" || line.contains("it took"), "{line}");
    }
    assert_eq!(mutate(address, "t.calls", &json!({}), &[]).await.code(), "LIMIT_EXCEEDED");
    watching.says("more than 4096 ctx.db calls").await;

    let mut viewer = Viewer::open(address, json!([to("b", "t.broken", json!({}))])).await;
    viewer.fails("b", "INTERNAL").await;
    let row = "insert into messages (doc) values ('{\"channel\":\"a\",\"text\":\"x\",\"rank\":1}') returning pg_current_wal_insert_lsn()::text";
    for _ in 0..3 {
        let lsn: String = client.query_one(row, &[]).await.expect("a row").get(0);
        viewer.passes(&lsn).await;
    }
    mutate(address, "t.limits", &json!({"how": "large"}), &[]).await;
    watching.says("a function reached a limit").await;
    let bugs = watching.said.iter().filter(|line| line.contains("a bug")).count();
    assert_eq!(bugs, 1, "{:#?}", watching.said);
    viewer.close().await;
    watching.end().await;
}

/// Whoever writes SQL alone makes the tables by hand, in the Postgres that `dev` has started.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_made_later_is_waited_for() {
    let url = testing::shared().await.database("fn_made_later").await;
    let folder = Folder::new(&[]);
    std::fs::remove_file(folder.path().join("convoy/schema.ts")).expect("a schema");
    folder.write("queries/total.sql", "select count(*) as n from made_later");
    let mut watching = Watching::start(&["dev", "--listen", "127.0.0.1:0"], &folder, &url);
    watching.says(r#"relation "made_later" does not exist"#).await;
    watching.says("serving http://").await;
    let client = connect(&url).await;
    client.batch_execute("create table made_later (id int primary key)").await.expect("a table");
    watching.says("generated api.ts").await;
    let types = std::fs::read_to_string(folder.path().join("convoy/_generated/queries.d.ts"));
    assert!(types.expect("it is generated").contains("n: string"));
    watching.end().await;
}

/// A command that runs until it is stopped.
struct Watching {
    process: tokio::process::Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStderr>>,
    said: Vec<String>,
}

impl Watching {
    const WITHIN: Duration = Duration::from_secs(40);

    fn start(arguments: &[&str], folder: &Folder, url: &str) -> Watching {
        Watching::run(command(arguments, folder).env("CONVOY_DATABASE_URL", url))
    }

    fn run(command: &mut Command) -> Watching {
        let mut process =
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(process.stderr.take().expect("a pipe")).lines();
        Watching { process, lines, said: Vec::new() }
    }

    /// Waits until it says where it serves.
    async fn address(&mut self) -> SocketAddr {
        let line = self.says("serving http://").await;
        let address =
            line.rsplit("serving http://").next().and_then(|address| address.trim().parse().ok());
        address.unwrap_or_else(|| panic!("{line}"))
    }

    /// Waits until it says these words; returns the line.
    async fn says(&mut self, words: &str) -> String {
        while let Ok(line) = tokio::time::timeout(Self::WITHIN, self.lines.next_line()).await {
            let Some(line) = line.expect("a line") else { break };
            let found = line.contains(words);
            self.said.push(line.clone());
            if found {
                return line;
            }
        }
        panic!("it never said {words}: {:#?}", self.said);
    }

    /// Ends it as Ctrl-C does.
    async fn end(mut self) {
        let pid = self.process.id().expect("it runs").to_string();
        let killed = Command::new("kill").args(["-INT", &pid]).status().await;
        assert!(killed.expect("kill is there").success());
        let ended = tokio::time::timeout(Self::WITHIN, self.process.wait()).await;
        assert_eq!(ended.expect("it ends").expect("a status").code(), Some(0));
    }
}

/// The files of a project, with what is in them.
fn contents(folder: &Folder) -> BTreeMap<String, Vec<u8>> {
    let read = |file: String| (file.clone(), std::fs::read(file).expect("a file"));
    files(folder).into_iter().filter(|file| Path::new(file).is_file()).map(read).collect()
}

/// The files of a project.
fn files(folder: &Folder) -> Vec<String> {
    let mut waiting = vec![folder.path().to_owned()];
    let mut found = Vec::new();
    while let Some(path) = waiting.pop() {
        for entry in std::fs::read_dir(path).expect("a folder").flatten() {
            match entry.file_type().expect("a type").is_dir() {
                true => waiting.push(entry.path()),
                false => found.push(entry.path().display().to_string()),
            }
        }
    }
    found
}
