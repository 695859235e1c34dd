//! What `docs/auth.md` shows of `createContext` does what it says: its files are taken from there as they stand.

use super::identity::PATIENT;
use super::project::{Folder, Served, functions};
use super::viewer::{View, Viewer, to};
use crate::auth::{SECRET, soon, token};
use crate::client::{EventStream, ask};
use convoy_postgres::testing;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// Returns the blocks of the page that begin with this line, in their order.
fn blocks(first_line: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/auth.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let is_it = |block: &&str| {
        block.split_once('\n').is_some_and(|(_, text)| text.starts_with(&format!("{first_line}\n")))
    };
    // What stands between fences is every second piece; its first line says in which language.
    let found = page.split("```").skip(1).step_by(2).filter(is_it);
    found.map(|block| block.split_once('\n').expect("a line").1.to_owned()).collect()
}

fn block(first_line: &str) -> String {
    let [only] = &blocks(first_line)[..] else { panic!("one block begins with {first_line}") };
    only.clone()
}

const NOTES: &str = "
export const list = query(async (ctx) => {
  if (!ctx.auth) return [];
  return ctx.db.query('notes').withIndex('by_user', (q) => q.eq('userId', ctx.auth.userId)).collect();
});
export const role = query((ctx) => ctx.auth?.role ?? null);
";

async fn start(name: &str, server: &str) -> Served {
    let url = testing::shared().await.database(name).await;
    let files = [
        ("schema.ts", &*block("// convoy/schema.ts")),
        ("server.ts", server),
        ("functions/sessions.ts", &*block("// convoy/functions/sessions.ts")),
        ("functions/notes.ts", &*functions(NOTES)),
    ];
    let folder = Folder::new(&files);
    std::fs::write(folder.path().join(".secret"), SECRET).expect("a file");
    Served::of(&url, &["--max-hold", PATIENT], folder).await
}

/// Makes a user; returns its id.
async fn user(served: &Served, name: &str) -> String {
    let sql = "insert into users (doc) values (jsonb_build_object('name', $1::text, 'role', 'member')) returning _id";
    served.writer.query_one(sql, &[&name]).await.expect("a user").get(0)
}

/// Runs a statement of the page's.
async fn run(served: &Served, first_line: &str, params: &[&(dyn ToSql + Sync)]) {
    let sql = block(first_line);
    served.writer.execute(&sql, params).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

const LOG_IN: &str = "-- log in: the token, and whom the password was right for";

async fn note(served: &Served, of: &str, text: &str) {
    let doc = json!({ "userId": of, "text": text });
    served.write(&format!("insert into notes (doc) values ('{doc}')")).await;
}

/// Opens a stream with a cookie, which shows who that is.
async fn view(served: &Served, token: &str, name: Value) -> Viewer {
    let subscribe = json!([
        to("me", "sessions.me", json!({})),
        to("notes", "notes.list", json!({})),
        to("role", "notes.role", json!({})),
    ]);
    let hidden = json!("hidden");
    let law = move |view: &View| match view.of("notes").field("text").contains(&hidden) {
        true => Err("it shows what came after".to_owned()),
        false => Ok(()),
    };
    let cookie = format!("theme=dark; session={token}");
    let mut viewer = Viewer::of(served.address, &cookie, subscribe, Box::new(law)).await;
    let is_it = |view: &View| view.of("me").is_in_cut() && view.of("me").value()["name"] == name;
    viewer.until(&format!("it is {name}"), is_it).await;
    viewer
}

async fn ends(mut viewer: Viewer) {
    let (goodbye, _) = viewer.ends().await;
    assert_eq!((&goodbye["code"], &goodbye["resume"]), (&json!("UNAUTHORIZED"), &json!(false)));
    viewer.close().await;
}

async fn mutate(served: &Served, name: &str, token: &str) -> u16 {
    let cookie = format!("session={token}");
    served.ask(name, &json!({}), &[("cookie", &cookie)]).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn cookies_are_sessions_in_a_table() {
    let servers = blocks("// convoy/server.ts");
    let served = start("fn_auth_cookies", &servers[0]).await;
    let ann = user(&served, "Ann").await;
    for token in ["a", "b", "c"] {
        run(&served, LOG_IN, &[&token, &ann]).await;
    }
    // By another backend.
    let viewer = view(&served, "a", json!("Ann")).await;
    run(&served, "-- log out", &[&"a"]).await;
    note(&served, &ann, "hidden").await;
    ends(viewer).await;
    view(&served, "a", Value::Null).await;
    served.write("delete from notes").await;
    // By mutations.
    let (viewer, other) =
        (view(&served, "b", json!("Ann")).await, view(&served, "c", json!("Ann")).await);
    assert_eq!(mutate(&served, "sessions.logOutElsewhere", "b").await, 200);
    ends(other).await;
    assert_eq!(viewer.view().goodbye, None);
    assert_eq!(mutate(&served, "sessions.logOut", "b").await, 200);
    ends(viewer).await;
    assert_eq!(mutate(&served, "sessions.logOut", "b").await, 401);
    // What is known of the user is watched too.
    run(&served, LOG_IN, &[&"d", &ann]).await;
    let mut viewer = view(&served, "d", json!("Ann")).await;
    viewer.shows("role", json!("member")).await;
    served.write("update users set doc = doc || '{\"role\": \"admin\"}'").await;
    ends(viewer).await;
    let mut viewer = view(&served, "d", json!("Ann")).await;
    viewer.shows("role", json!("admin")).await;
    // What has expired is cleaned away.
    let soon = "update sessions set doc = doc || jsonb_build_object('expiresAt', extract(epoch from now()) * 1000 + 2000)";
    let lsn = served.write(soon).await;
    assert_eq!(viewer.passes(&lsn).await.goodbye, None);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    run(&served, "-- clean up", &[]).await;
    ends(viewer).await;
    assert_eq!(served.count("select count(*) from sessions").await, 0);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_name_users_in_a_table() {
    let servers = blocks("// convoy/server.ts");
    let served = start("fn_auth_tokens", &servers[1]).await;
    let (ann, bob) = (user(&served, "Ann").await, user(&served, "Bob").await);
    let of = |sub: &str| {
        let claims = json!({ "sub": sub, "iss": "https://login.example/", "aud": "my-app", "exp": soon(300) });
        token(&claims)
    };
    let open = async |sub: &str| {
        let token = of(sub);
        let headers = [("authorization", &*token), ("content-type", "application/json")];
        let path = "/api/query/notes.role";
        let mut stream = EventStream::open(served.address, "POST", path, &headers, "{}").await;
        stream.expect("hello").await;
        assert_eq!(stream.transition().await.data["updates"][0]["value"], "member");
        stream
    };
    let ends = async |mut stream: EventStream| {
        loop {
            let event = stream.next().await.expect("a goodbye");
            if event.name == "goodbye" {
                let (code, resume) = (&event.data["code"], &event.data["resume"]);
                return assert_eq!((code, resume), (&json!("UNAUTHORIZED"), &json!(false)));
            }
        }
    };
    let (anns, bobs) = (open(&ann).await, open(&bob).await);
    let gone = "delete from users where _id = $1";
    served.writer.execute(gone, &[&ann]).await.expect("she is there");
    ends(anns).await;
    let token = of(&ann);
    let headers = [("authorization", &*token), ("content-type", "application/json")];
    let again = ask(served.address, "POST", "/api/query/notes.role", &headers, "{}").await;
    assert_eq!((again.status.as_u16(), again.code().as_str()), (401, "UNAUTHORIZED"));
    // A secret that has changed is not watched; with the next change the token counts no longer.
    let secret = served.folder.path().join(".secret");
    std::fs::write(secret, SECRET.to_uppercase()).expect("a file");
    served.write("update users set doc = doc || '{\"name\": \"Bo\"}'").await;
    ends(bobs).await;
    served.server.stop().await;
}
