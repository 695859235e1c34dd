//! `convoy init`: a project that runs, and nothing that was there is touched.

use crate::cli::convoy;
use crate::client::ask;
use crate::mirror::Mirror;
use crate::support::{Fixture, serve_args};
use convoy_postgres::testing;
use convoy_server::project::NamedQueries;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const FILES: [&str; 11] = [
    ".gitignore",
    "README.md",
    "convoy/functions/messages.ts",
    "convoy/queries/messages/count.sql",
    "convoy/schema.ts",
    "package.json",
    "public/index.html",
    "public/live.js",
    "public/main.css",
    "public/main.js",
    "tsconfig.json",
];

/// Everything below a folder, with what is in it.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).expect("below").display().to_string();
            files.insert(name, fs::read_to_string(&path).expect("text"));
        }
    }
    files
}

/// Runs `convoy init` and returns what it said.
fn init(arguments: &[&str], status: i32) -> String {
    let output = convoy(&[&["init"], arguments].concat(), &[]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_project_is_written_once() {
    let temp = tempfile::tempdir().expect("a folder");
    let project = temp.path().join("new/My Chat");
    let said = init(&[text(&project)], 0);
    let written = tree(&project);
    assert_eq!(written.keys().collect::<Vec<_>>(), FILES);
    assert!(said.contains("11 files were written"), "{said}");
    assert!(said.contains(&format!("cd '{}'\n", project.display())), "{said}");
    let last = said.lines().last().expect("a line");
    assert!(last.trim_start().starts_with('/') && last.contains("/convoy dev  "), "{last}");
    let package: serde_json::Value = serde_json::from_str(&written["package.json"]).expect("JSON");
    assert_eq!(package["name"], "my-chat");
    assert!(package["dependencies"]["zod"].is_string());
    for (name, text) in written.iter().chain([(&"what it said".to_owned(), &said)]) {
        for wrong in ["npx convoy", "npm install convoy", "npm i convoy"] {
            assert!(!text.contains(wrong), "{wrong:?} is in {name}: that name is somebody else's");
        }
    }

    let again = init(&[text(&project)], 0);
    assert_eq!(tree(&project), written);
    assert!(again.contains("nothing was written"), "{again}");
    for file in FILES {
        let line = again.lines().find(|line| line.contains(file)).expect(file);
        assert!(line.starts_with("left alone"), "{line}");
    }
}

#[test]
fn what_is_there_is_left_alone() {
    let temp = tempfile::tempdir().expect("a folder");
    let mine = temp.path().join("README.md");
    fs::write(&mine, "mine").expect("written");
    let said = init(&[text(temp.path())], 0);
    assert_eq!(fs::read_to_string(&mine).expect("text"), "mine");
    assert!(said.lines().any(|line| line.starts_with("left alone  README.md")), "{said}");
    assert_eq!(tree(temp.path()).len(), FILES.len());
    // A package of theirs lacks what the schema is written with.
    assert!(!said.contains("npm install zod"), "{said}");
    let package = r#"{"name": "mine", "devDependencies": {"typescript": "5"}}"#;
    fs::write(temp.path().join("package.json"), package).expect("written");
    assert!(init(&[text(temp.path())], 0).contains("  npm install zod  "));

    // With a schema of its own, functions for ours would be wrong.
    let temp = tempfile::tempdir().expect("a folder");
    fs::create_dir(temp.path().join("convoy")).expect("a folder");
    fs::write(temp.path().join("convoy/schema.ts"), "mine").expect("written");
    let said = init(&[text(temp.path())], 0);
    let tree = tree(temp.path());
    assert_eq!(tree["convoy/schema.ts"], "mine");
    assert!(!tree.contains_key("convoy/functions/messages.ts"), "{tree:?}");
    assert!(tree.contains_key("tsconfig.json"));
    assert!(said.lines().any(|line| line.starts_with("left out    public/main.js")), "{said}");
}

#[test]
fn what_is_no_folder_is_refused() {
    let temp = tempfile::tempdir().expect("a folder");
    let file = temp.path().join("file");
    fs::write(&file, "").expect("written");
    assert!(init(&[text(&file)], 2).contains("is a file"));
    assert!(init(&[text(temp.path()), "--client", text(temp.path())], 2).contains("\"convoy\""));
    let other = temp.path().join("other");
    fs::create_dir_all(other.join("src/convoy")).expect("folders");
    assert!(init(&[text(&other)], 2).contains("src/convoy"));
    assert!(tree(&other).is_empty());
    // A file where a folder has to be.
    let blocked = temp.path().join("blocked");
    fs::create_dir(&blocked).expect("a folder");
    fs::write(blocked.join("public"), "").expect("written");
    assert!(init(&[text(&blocked)], 1).contains("blocked/public/index.html"));
    assert!(!blocked.join("convoy/schema.ts").exists(), "so that another run goes on");
    fs::remove_file(blocked.join("public")).expect("removed");
    init(&[text(&blocked)], 0);
    assert_eq!(tree(&blocked).len(), FILES.len());
}

#[test]
fn a_client_that_is_known_is_depended_on() {
    let temp = tempfile::tempdir().expect("a folder");
    let client: PathBuf = temp.path().join("client");
    fs::create_dir(&client).expect("a folder");
    fs::write(client.join("package.json"), r#"{"name": "convoy"}"#).expect("written");
    let project = temp.path().join("project");
    let said = init(&[text(&project), "--client", text(&client)], 0);
    assert!(!said.contains("SOURCE"), "{said}");
    let package = fs::read_to_string(project.join("package.json")).expect("text");
    let wanted =
        format!("\"convoy\": \"file:{}\"", client.canonicalize().expect("it is").display());
    assert!(package.contains(&wanted), "{package}");
}

#[tokio::test]
async fn its_page_and_its_count_are_served() {
    let temp = tempfile::tempdir().expect("a folder");
    init(&[text(temp.path())], 0);
    let url = testing::shared().await.database("init").await;
    let public = temp.path().join("public");
    let fixture = Fixture::on(&url, &["--public", text(&public)]).await;
    // As functions lay documents out.
    fixture
        .write(
            "create table messages (_id text primary key default 'messages:' || gen_random_uuid(), \
             _creation_time float8 not null default 0, doc jsonb not null); \
             alter table messages replica identity full",
        )
        .await;
    let queries = NamedQueries::load(temp.path()).expect("a project");
    fixture.server.app().replace_queries(queries);
    let page = ask(fixture.address, "GET", "/", &[], "").await;
    assert!(page.status == 200 && page.body.contains("main.js"), "{}", page.body);
    for file in ["/main.js", "/live.js", "/main.css"] {
        assert_eq!(ask(fixture.address, "GET", file, &[], "").await.status, 200, "{file}");
    }
    let path = "/api/query/messages.count?args=%7B%22channel%22%3A%22general%22%7D";
    let mut mirror = Mirror::open(fixture.address, path).await;
    mirror.shows(&serde_json::json!([{"messages": 0}])).await;
    fixture
        .write(
            r#"insert into messages (doc) values ('{"channel": "general"}'), ('{"channel": "x"}')"#,
        )
        .await;
    mirror.shows(&serde_json::json!([{"messages": 1}])).await;
    fixture.server.stop().await;
    assert!(serve_args(&["--public", "x"]).public.is_some());
}
