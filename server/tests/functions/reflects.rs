//! `reflects`: the transition that first contains a session's mutation names it.

use super::project::{Served, mutate, uuid};
use super::viewer::{Law, View, Viewer, to};
use convoy_types::Lsn;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const FUNCTIONS: &str = "
export const list = query((ctx) => ctx.db.query('messages').collect());
export const send = mutation({
  args: { text: z.string() },
  handler: (ctx, { text }) => ctx.db.insert('messages', { channel: 'a', text, rank: 1 }),
});
export const unseen = mutation({ args: { text: z.string() }, handler: (ctx, { text }) => ctx.db.insert('channels', { name: text, topic: 't' }) });
export const nothing = mutation(() => 'nothing');
export const fails = mutation(() => { throw convoyError('NO'); });
";

/// Says that the transition that names a mutation is the first that shows what it wrote: its text is its id.
fn law(of: u32) -> Law {
    let is_own = move |text: &str| {
        text.rsplit('-')
            .next()
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .map(|n| n >> 16)
            == Some(of)
    };
    Box::new(move |view: &View| {
        let texts = view.of("l").field("text");
        let shown: Vec<&str> =
            texts.iter().filter_map(Value::as_str).filter(|text| is_own(text)).collect();
        if let Some(text) = shown.iter().find(|text| view.named(text) != 1) {
            return Err(format!("it shows {text}, named {} times", view.named(text)));
        }
        match view.reflected.iter().find(|(_, named)| !shown.contains(&named.as_str())) {
            Some((_, named)) => Err(format!("{named} is named and not shown")),
            None => Ok(()),
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_transition_that_first_contains_a_mutation_names_it() {
    let served = Served::start("fn_reflects", &["--allow-sql"], FUNCTIONS).await;
    let subscribe = json!([
        to("l", "t.list", json!({})),
        {"sub": "s", "sql": "select _id, doc->>'text' as text from messages"},
    ]);
    let mut viewers = Vec::new();
    for n in 0..3 {
        let mut viewer = Viewer::under(served.address, subscribe.clone(), law(n)).await;
        viewer.shows("l", json!([])).await;
        viewers.push(viewer);
    }
    let other = &mut Viewer::open(served.address, json!([to("l", "t.list", json!({}))])).await;
    let mut clients = JoinSet::new();
    for (n, viewer) in (0_u32..).zip(&viewers) {
        for part in 0..2 {
            let (address, session) = (served.address, viewer.session.clone());
            clients.spawn(async move {
                for m in 0..20 {
                    let id = uuid((n << 16) + (part << 8) + m);
                    let headers = [("x-convoy-mutation", &*id), ("x-convoy-session", &*session)];
                    let answer = mutate(address, "t.send", &json!({ "text": id }), &headers).await;
                    assert_eq!(answer.status, 200, "{}", answer.body);
                }
            });
        }
    }
    clients.join_all().await;
    for viewer in &mut viewers {
        viewer.until("all", |view| view.of("l").keys().len() == 120).await;
    }
    assert_eq!(other.until("all", |view| view.of("l").keys().len() == 120).await.reflected, []);
    for viewer in viewers {
        let view = viewer.close().await;
        assert_eq!(view.reflected.len(), 40);
    }
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mutation_that_touches_nothing_shown_is_named_too() {
    let served = Served::start("fn_unseen", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("l", "t.list", json!({}))])).await;
    let mut empty = Viewer::open(served.address, json!([])).await;
    viewer.shows("l", json!([])).await;
    for (n, name, args) in [(1, "t.unseen", json!({"text": "x"})), (2, "t.nothing", json!({}))] {
        for (of, viewer) in [(0, &mut viewer), (1, &mut empty)] {
            let id = uuid(n * 2 + of);
            let headers = [("x-convoy-mutation", &*id), ("x-convoy-session", &*viewer.session)];
            let answer = mutate(served.address, name, &args, &headers).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let lsn: Lsn = answer.json()["lsn"].as_str().expect("one").parse().expect("one");
            let view = viewer.until("it is named", |view| view.named(&id) == 1).await;
            let (transition, _) = view.reflected.last().expect("one").clone();
            assert_eq!(transition, view.transitions, "the frame has just come: {lsn}");
        }
    }
    // One that fails is named by none; one that is repeated not again.
    let id = uuid(9);
    let headers = [("x-convoy-mutation", &*id), ("x-convoy-session", &*viewer.session)];
    assert_eq!(mutate(served.address, "t.fails", &json!({}), &headers).await.code(), "NO");
    let repeated = uuid(2);
    let headers = [("x-convoy-mutation", &*repeated), ("x-convoy-session", &*viewer.session)];
    let answer = mutate(served.address, "t.unseen", &json!({"text": "x"}), &headers).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let lsn = served.write("insert into notes values (1, 'x')").await;
    let view = viewer.passes(&lsn).await;
    assert_eq!((view.named(&id), view.named(&repeated)), (0, 1));
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_lost_is_named_again_after_a_resume() {
    let served = Served::start("fn_resumed", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("l", "t.list", json!({}))])).await;
    viewer.shows("l", json!([])).await;
    let session = viewer.session.clone();
    let send = async |n: u32| {
        let id = uuid(n);
        let headers = [("x-convoy-mutation", &*id), ("x-convoy-session", &*session)];
        let answer = mutate(served.address, "t.send", &json!({ "text": id }), &headers).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        id
    };
    let seen = send(1).await;
    let before = viewer.until("it is named", |view| view.named(&seen) == 1).await;
    // The next one's transition does not arrive: as far as this client knows.
    let lost = send(2).await;
    viewer.until("it is named", |view| view.named(&lost) == 1).await;
    drop(viewer);
    // And one while nobody listens.
    let missed = send(3).await;
    let mut viewer = Viewer::resume(served.address, before).await;
    assert!(viewer.resumed);
    let view =
        viewer.until("all is named", |view| view.named(&lost) + view.named(&missed) >= 2).await;
    assert_eq!((view.named(&lost), view.named(&missed)), (1, 1), "{view:?}");
    let view = viewer.until("all is shown", |view| view.of("l").keys().len() == 3).await;
    assert!(view.named(&seen) <= 2);
    let last = send(4).await;
    viewer.until("the next", |view| view.named(&last) == 1).await;
    let lsn = served.write("insert into notes values (1, 'x')").await;
    let view = viewer.passes(&lsn).await;
    assert_eq!((view.named(&lost), view.named(&last)), (1, 1));
    viewer.close().await;
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_lost_in_between_loses_no_name() {
    let served = Served::start("fn_lost", &[], FUNCTIONS).await;
    let mut viewer = Viewer::open(served.address, json!([to("l", "t.list", json!({}))])).await;
    viewer.shows("l", json!([])).await;
    let (address, session) = (served.address, viewer.session.clone());
    let sending = tokio::spawn(async move {
        let mut sent = Vec::new();
        for n in 0..60 {
            let id = uuid(n);
            let headers = [("x-convoy-mutation", &*id), ("x-convoy-session", &*session)];
            let answer = mutate(address, "t.send", &json!({ "text": id }), &headers).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            sent.push(id);
        }
        sent
    });
    let walsender = "select count(pg_terminate_backend(active_pid)) from pg_replication_slots \
                     where database = current_database()";
    while !sending.is_finished() {
        served.count(walsender).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let sent = sending.await.expect("all is sent");
    viewer.until("all is shown", |view| view.of("l").keys().len() == sent.len()).await;
    let missing =
        |view: &View| sent.iter().filter(|id| view.named(id) == 0).cloned().collect::<Vec<_>>();
    viewer.until("all is named", |view| missing(view).is_empty()).await;
    let view = viewer.close().await;
    assert!(sent.iter().all(|id| view.named(id) == 1), "{:?}", view.reflected);
    served.server.stop().await;
}
