//! Who a stream belongs to, where `createContext` reads tables to find it out: it is watched, and a stream whose caller is
//! no longer who it was ends before it shows anything of that.

use super::project::{Folder, NOTES, Served, functions};
use super::viewer::{Law, View, Viewer, to};
use crate::client::{EventStream, ask, get};
use crate::support::connect;
use convoy_postgres::testing;
use convoy_server::reload::{Occasions, reload_on};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

const SCHEMA: &str = "import { defineSchema, defineTable } from 'convoy';
import { z } from 'zod';
export default defineSchema({
  sessions: defineTable({ token: z.string(), userId: z.string(), seen: z.number().optional() }).index('by_token', ['token']),
  trouble: defineTable({ code: z.string() }),
  messages: defineTable({ text: z.string() }),
});
";

/// By a session's cookie, which a table knows, as the first Convoys' users wrote it. `trouble` is what goes wrong meanwhile.
const SERVER: &str = "
import { convoyError } from 'convoy';

export async function createContext(req, base) {
  const token = req.headers.cookie?.match(/session=([^;]*)/)?.[1];
  if (token === undefined) return { ...base, auth: null };
  const trouble = await base.db.query('trouble').first();
  if (trouble) throw convoyError(trouble.code, `in trouble with ${token}`);
  const session = await base.db.query('sessions').withIndex('by_token', (q) => q.eq('token', token)).unique();
  if (!session) throw convoyError('UNAUTHORIZED', `no session ${token}`);
  return { ...base, auth: { userId: session.userId } };
}
";

const FUNCTIONS: &str = "
export const who = query((ctx) => (ctx.auth === null ? 'nobody' : ctx.auth.userId));
export const list = query((ctx) => ctx.db.query('messages').collect());
";

/// Seconds that a check may hold its session up: on a machine that is busy with other tests it may take long.
pub const PATIENT: &str = "30";

async fn start(name: &str, server: &str) -> Served {
    let url = testing::shared().await.database(name).await;
    connect(&url).await.batch_execute(NOTES).await.expect("a table");
    let functions = functions(FUNCTIONS);
    let files = [("schema.ts", SCHEMA), ("functions/t.ts", &functions), ("server.ts", server)];
    Served::of(&url, &["--allow-sql", "--max-hold", PATIENT], Folder::new(&files)).await
}

/// Logs somebody in, as another backend would.
async fn log_in(served: &Served, token: &str, user: &str) {
    let doc = json!({ "token": token, "userId": user });
    served.write(&format!("insert into sessions (doc) values ('{doc}')")).await;
}

async fn log_out(served: &Served, token: &str) {
    served.write(&format!("delete from sessions where doc->>'token' = '{token}'")).await;
}

async fn send(served: &Served, text: &str) -> String {
    served.write(&format!("insert into messages (doc) values ('{{\"text\": \"{text}\"}}')")).await
}

/// Both ways to be kept up: by the rows themselves, which are known at once, and by being run again.
fn both() -> Value {
    json!([
        { "sub": "sql", "sql": "select doc->>'text' as text from messages order by _id" },
        to("fn", "t.list", json!({})),
    ])
}

fn cookie(token: &str) -> String {
    format!("session={token}")
}

/// Says that this is never shown.
fn never(text: &str) -> Law {
    let text = json!(text);
    Box::new(move |view: &View| {
        let shows = |sub: &str| view.of(sub).field("text").contains(&text);
        match shows("sql") || shows("fn") {
            true => Err(format!("it shows {text}")),
            false => Ok(()),
        }
    })
}

async fn view(served: &Served, token: &str, law: Law) -> Viewer {
    Viewer::of(served.address, &cookie(token), both(), law).await
}

/// Checks that a stream has ended because its caller is no longer who it was; returns what was shown until then.
async fn disowned(viewer: &mut Viewer) -> View {
    let (goodbye, view) = viewer.ends().await;
    assert_eq!(goodbye["code"], "UNAUTHORIZED", "{goodbye}");
    assert_eq!((&goodbye["resume"], &goodbye["retry_ms"]), (&json!(false), &json!(1000)));
    view
}

async fn watched(served: &Served) -> u64 {
    let status = get(served.address, "/api/status").await.json();
    status["identities_watched"].as_u64().unwrap_or_else(|| panic!("{status}"))
}

async fn who(at: SocketAddr, cookie: &str) -> Value {
    let headers = [("content-type", "application/json"), ("cookie", cookie)];
    ask(at, "POST", "/api/query/t.who", &headers, "{}").await.json()["value"].clone()
}

/// The log-out commits, then the change, right behind it: whichever way either takes, the one is seen before the other.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_logged_out_sees_nothing_that_comes_after() {
    let served = start("id_log_out", SERVER).await;
    for round in 0..20 {
        let (token, before, after) =
            (format!("token{round}"), format!("before{round}"), format!("after{round}"));
        log_in(&served, &token, "ann").await;
        let mut viewer = view(&served, &token, never(&after)).await;
        let shown = |view: &View| {
            ["sql", "fn"].iter().all(|sub| view.of(sub).field("text").contains(&json!(before)))
        };
        // Into what is already answered, and into what is about to be.
        if round % 2 == 0 {
            send(&served, &before).await;
            viewer.until("it is shown", shown).await;
        }
        log_out(&served, &token).await;
        send(&served, &after).await;
        disowned(&mut viewer).await;
        viewer.close().await;
    }
    // All in one transaction: that one is not shown either.
    log_in(&served, "last", "ann").await;
    let mut viewer = view(&served, "last", never("at once")).await;
    viewer.until("it is answered", |view| view.of("sql").is_in_cut()).await;
    served
        .write("begin; insert into messages (doc) values ('{\"text\": \"at once\"}'); delete from sessions; commit")
        .await;
    disowned(&mut viewer).await;
    viewer.close().await;
    served.server.stop().await;
}

/// Others write, the stream from Postgres breaks, and everything is read again: what comes after a log-out is not shown.
#[tokio::test(flavor = "multi_thread")]
async fn under_load_and_losses_a_log_out_is_seen_first() {
    const SESSIONS: usize = 8;
    let served = start("id_load", SERVER).await;
    let mut viewers = Vec::new();
    for n in 0..SESSIONS {
        let token = format!("t{n}");
        log_in(&served, &token, "ann").await;
        let mut viewer = view(&served, &token, never(&format!("after {token}"))).await;
        viewer.until("it is answered", |view| view.of("fn").is_in_cut()).await;
        viewers.push(viewer);
    }
    let mut writers = JoinSet::new();
    for n in 0..SESSIONS {
        let client = connect(&served.url).await;
        writers.spawn(async move {
            let write = async |text: &str| {
                let sql =
                    "insert into messages (doc) values (jsonb_build_object('text', $1::text))";
                client.execute(sql, &[&text]).await.expect("a message");
            };
            for _ in 0..10 * (n + 1) {
                write("noise").await;
                sleep(Duration::from_millis(3)).await;
            }
            let token = format!("t{n}");
            let sql = "delete from sessions where doc->>'token' = $1";
            client.execute(sql, &[&token]).await.expect("a log-out");
            for _ in 0..5 {
                write(&format!("after {token}")).await;
            }
        });
    }
    let walsender = "select count(pg_terminate_backend(active_pid)) from pg_replication_slots \
                     where database = current_database()";
    for _ in 0..3 {
        sleep(Duration::from_millis(120)).await;
        served.count(walsender).await;
    }
    writers.join_all().await;
    for mut viewer in viewers {
        disowned(&mut viewer).await;
        viewer.close().await;
    }
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_becomes_somebody_elses_ends_and_begins_anew() {
    let served = start("id_moved", SERVER).await;
    log_in(&served, "a", "ann").await;
    let mut viewer = view(&served, "a", never("for bob")).await;
    viewer.until("it is answered", |view| view.of("fn").is_in_cut()).await;
    served.write("update sessions set doc = doc || '{\"userId\": \"bob\"}'").await;
    send(&served, "for bob").await;
    let last = disowned(&mut viewer).await;
    viewer.close().await;
    // Who comes back is asked who it is: the session of before is not resumed.
    let mut viewer = Viewer::resume_as(served.address, &cookie("a"), last).await;
    assert!(!viewer.resumed);
    viewer.say(&json!({ "subscribe": [to("who", "t.who", json!({}))] })).await;
    viewer.shows("who", json!("bob")).await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_changes_disturb_nobody() {
    let served = start("id_others", SERVER).await;
    for (token, user) in [("a", "ann"), ("b", "bob"), ("c", "cy")] {
        log_in(&served, token, user).await;
    }
    let subscribe = json!([to("who", "t.who", json!({}))]);
    let mut viewers = Vec::new();
    for (token, user) in [("a", "ann"), ("b", "bob")] {
        let mut viewer =
            Viewer::of(served.address, &cookie(token), subscribe.clone(), Box::new(|_| Ok(())))
                .await;
        viewer.shows("who", json!(user)).await;
        viewers.push(viewer);
    }
    assert_eq!((watched(&served).await, served.live_queries().await), (2, 2));
    let before = served.reads().await;
    log_out(&served, "c").await;
    log_in(&served, "d", "dora").await;
    let lsn = send(&served, "x").await;
    for viewer in &mut viewers {
        viewer.passes(&lsn).await;
    }
    assert_eq!(served.reads().await, before, "nobody is asked for the sake of others' sessions");
    // Of its own row only what createContext says of it counts.
    let lsn = served
        .write("update sessions set doc = doc || '{\"seen\": 7}' where doc->>'token' = 'a'")
        .await;
    for viewer in &mut viewers {
        let view = viewer.passes(&lsn).await;
        assert_eq!((view.of("who").kinds, view.goodbye), (vec!["snapshot".to_owned()], None));
    }
    assert_eq!(served.reads().await, before + 1);
    // They go with their sessions.
    let shown = viewers.remove(0).close().await;
    assert_eq!(shown.of("who").value(), "ann");
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_resumed_is_watched_by_what_the_caller_shows_now() {
    let served = start("id_resumed", SERVER).await;
    for token in ["a", "b"] {
        log_in(&served, token, "ann").await;
    }
    let mut viewer = view(&served, "a", Box::new(|_| Ok(()))).await;
    viewer.until("it is answered", |view| view.of("fn").is_in_cut()).await;
    // The cookie is another, and the session of before is gone: she is who she was.
    let last = viewer.close().await;
    while get(served.address, "/api/status").await.json()["streams"] != 0 {
        sleep(Duration::from_millis(20)).await;
    }
    log_out(&served, "a").await;
    let text = "for ann";
    send(&served, text).await;
    let mut viewer = Viewer::resume_as(served.address, &cookie("b"), last).await;
    assert!(viewer.resumed);
    let last =
        viewer.until("it is shown", |view| view.of("sql").field("text") == [json!(text)]).await;
    let path = format!("/api/sync/{}", viewer.session);
    assert_eq!(watched(&served).await, 1);
    // With that one it ends, whatever else is hers; nobody goes on with it.
    log_in(&served, "c", "ann").await;
    log_out(&served, "b").await;
    disowned(&mut viewer).await;
    let headers = [("content-type", "application/json"), ("cookie", "session=c")];
    assert_eq!(ask(served.address, "POST", &path, &headers, "{}").await.status, 404);
    let refused = json!({ "resume": last.token }).to_string();
    let of_b = [("content-type", "application/json"), ("cookie", "session=b")];
    assert_eq!(ask(served.address, "POST", "/api/sync", &of_b, &refused).await.status, 401);
    assert!(!Viewer::resume_as(served.address, &cookie("c"), last).await.resumed);
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_one_query_and_long_polls_end_too() {
    let served = start("id_polls", SERVER).await;
    for poll in ["", "?poll=30000"] {
        log_in(&served, "a", "ann").await;
        let headers = [("cookie", "session=a")];
        let path = format!("/api/query/t.list{poll}");
        let open = async |resume: Option<&str>| {
            let mut headers = headers.to_vec();
            headers.extend(resume.map(|token| ("last-event-id", token)));
            let mut stream = EventStream::open(served.address, "GET", &path, &headers, "").await;
            assert_eq!(stream.expect("hello").await.data["resumed"], resume.is_some());
            stream
        };
        let mut stream = open(None).await;
        let first = stream.transition().await;
        if !poll.is_empty() {
            assert!(stream.next().await.is_none(), "that is the poll's end");
            stream = open(first.id.as_deref()).await;
        }
        log_out(&served, "a").await;
        send(&served, "after").await;
        let goodbye = loop {
            let event = stream.next().await.expect("a goodbye");
            if event.name == "goodbye" {
                break event.data;
            }
            let shown = event.data["updates"].to_string();
            assert!(!shown.contains("after"), "{shown}");
        };
        assert_eq!((&goodbye["code"], &goodbye["resume"]), (&json!("UNAUTHORIZED"), &json!(false)));
        assert!(stream.next().await.is_none());
        let again = ask(served.address, "GET", &path, &headers, "").await;
        assert_eq!((again.status.as_u16(), again.code().as_str()), (401, "UNAUTHORIZED"));
        served.write("delete from messages").await;
    }
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_sessions_one_ends() {
    let served = start("id_many", SERVER).await;
    let many = "insert into sessions (doc) select jsonb_build_object('token', 't' || n, 'userId', 'user' || n) \
                from generate_series(0, 99) n";
    served.write(many).await;
    let subscribe = json!([to("who", "t.who", json!({}))]);
    let mut viewers = Vec::new();
    for n in 0..100 {
        let cookie = cookie(&format!("t{n}"));
        let viewer =
            Viewer::of(served.address, &cookie, subscribe.clone(), Box::new(|_| Ok(()))).await;
        viewers.push(viewer);
    }
    for (n, viewer) in viewers.iter_mut().enumerate() {
        viewer.shows("who", json!(format!("user{n}"))).await;
    }
    assert_eq!(watched(&served).await, 100);
    let before = served.reads().await;
    log_out(&served, "t37").await;
    disowned(&mut viewers[37]).await;
    assert_eq!(served.reads().await, before + 1);
    // A table of sessions that is emptied is the end of all.
    served.write("truncate sessions").await;
    for viewer in &mut viewers {
        disowned(viewer).await;
    }
    drop(viewers);
    while watched(&served).await > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_showed_nothing_that_a_table_knows_is_not_watched() {
    let served = start("id_nobody", SERVER).await;
    let mut viewer = Viewer::open(served.address, both()).await;
    let lsn = send(&served, "for all").await;
    viewer.passes(&lsn).await;
    assert_eq!(watched(&served).await, 0);
    assert_eq!(who(served.address, "other=1").await, "nobody");
    served.server.stop().await;
}

/// What will pass says nothing of who calls.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_while_nobody_can_say_who_calls() {
    let served = start("id_trouble", SERVER).await;
    log_in(&served, "a", "ann").await;
    let mut viewer = view(&served, "a", never("after")).await;
    viewer.until("it is answered", |view| view.of("fn").is_in_cut()).await;
    for (n, code) in ["UNAVAILABLE", "TIMEOUT"].into_iter().enumerate() {
        served
            .write(&format!("insert into trouble (doc) values ('{{\"code\": \"{code}\"}}')"))
            .await;
        send(&served, code).await;
        let shown =
            move |view: &View| ["sql", "fn"].iter().all(|sub| view.of(sub).keys().len() == n + 1);
        viewer.until("it is shown", shown).await;
        served.write("delete from trouble").await;
    }
    let lsn = send(&served, "before").await;
    viewer.passes(&lsn).await;
    log_out(&served, "a").await;
    send(&served, "after").await;
    disowned(&mut viewer).await;
    viewer.close().await;
    // What will not pass ends it.
    log_in(&served, "b", "bob").await;
    let mut viewer = view(&served, "b", never("later")).await;
    viewer.until("it is answered", |view| view.of("fn").is_in_cut()).await;
    served.write("insert into trouble (doc) values ('{\"code\": \"BROKEN\"}')").await;
    send(&served, "later").await;
    disowned(&mut viewer).await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_callers_show_is_shown_to_nobody() {
    let served = start("id_secrets", SERVER).await;
    let at = served.address;
    log_in(&served, "hush-hush", "ann-herself").await;
    let mut viewer = view(&served, "hush-hush", Box::new(|_| Ok(()))).await;
    viewer.until("it is answered", |view| view.of("fn").is_in_cut()).await;
    let lsn = served.write("update sessions set doc = doc || '{\"seen\": 8}'").await;
    viewer.passes(&lsn).await;
    let listed = get(at, "/api/queries").await;
    let queries = listed.json()["queries"].as_array().expect("queries").clone();
    let watch = queries.iter().find(|query| query["name"] == "createContext()");
    let watch = watch.unwrap_or_else(|| panic!("{}", listed.body));
    assert!(watch["sql"].as_str().is_some_and(|sql| sql.contains("sessions")), "{watch}");
    let id = watch["id"].as_str().expect("an id");
    let why = get(at, &format!("/api/queries/{id}/why")).await;
    assert_eq!(why.json()["changes"].as_array().map(Vec::len), Some(1), "{}", why.body);
    served.write("insert into trouble (doc) values ('{\"code\": \"UNAVAILABLE\"}')").await;
    send(&served, "x").await;
    viewer.until("it is shown", |view| view.of("sql").field("text") == [json!("x")]).await;
    let troubled = get(at, "/api/queries").await;
    served.write("delete from trouble; delete from sessions").await;
    let (goodbye, _) = viewer.ends().await;
    let metrics = get(at, "/metrics").await;
    for text in [&listed.body, &troubled.body, &why.body, &metrics.body, &goodbye.to_string()] {
        assert!(!text.contains("hush") && !text.contains("herself"), "{text}");
    }
    served.server.stop().await;
}

/// When the project is read again.
struct Saves(mpsc::Receiver<()>);

impl Occasions for Saves {
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_code_is_asked_again() {
    let mut served = start("id_code", SERVER).await;
    let loader = served.loader.take().expect("once");
    let (saved, saves) = mpsc::channel(1);
    let reload = tokio::spawn(reload_on(Saves(saves), served.server.app().clone(), loader));
    log_in(&served, "a", "ann").await;
    let mut viewer = view(&served, "a", Box::new(|_| Ok(()))).await;
    viewer.until("it is answered", |view| view.of("fn").is_in_cut()).await;
    let other = SERVER.replace("userId: session.userId", "userId: session.userId, role: 'user'");
    served.folder.write("server.ts", &other);
    saved.send(()).await.expect("somebody waits for it");
    disowned(&mut viewer).await;
    reload.abort();
    served.server.stop().await;
}

/// What can't be watched is refused in words, instead of counting for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_watched_is_said() {
    let server = "import { sql } from 'convoy';
    export async function createContext(req, base) {
      const [{ n }] = await base.db.raw(sql`select count(*)::int as n from pg_roles`);
      return { ...base, auth: { n } };
    }";
    let served = start("id_unseen", server).await;
    let mut viewer = view(&served, "a", Box::new(|_| Ok(()))).await;
    let (goodbye, _) = viewer.ends().await;
    assert_eq!((&goodbye["code"], &goodbye["retry_ms"]), (&json!("INVALID_ARGS"), &Value::Null));
    assert!(
        goodbye["message"].as_str().is_some_and(|text| text.contains("watched: \"pg_catalog\"")),
        "{goodbye}"
    );
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subscription_has_its_name() {
    let served = start("id_name", SERVER).await;
    let subscribe = json!({ "subscribe": [to("\0identity", "t.who", json!({}))] });
    let answer = crate::client::post(served.address, "/api/sync", &subscribe.to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "INVALID_ARGS"));
    served.server.stop().await;
}
