//! Functions that refuse, or fail: what of it ends a subscription, what has a status, and what is run again.

use super::project::{Served, functions};
use super::viewer::{Viewer, to};
use crate::client::{EventStream, ask};
use convoy_server::reload::reload_on;
use serde_json::json;
use tokio::sync::mpsc;

const FUNCTIONS: &str = "
export const few = query({
  args: { n: z.number() },
  handler: async (ctx, { n }) => (await ctx.db.query('messages').take(n)).length,
});
export const throwing = query({
  args: {},
  handler: async (ctx) => {
    await ctx.db.query('messages').collect();
    throw convoyError('INVALID_ARGS', 'not these', { issues: [] });
  },
});
";

/// Percent-encodes what stands in a URL.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_no_function_takes_are_refused_before_anything_is_opened() {
    let served = Served::start("fn_refuses", &[], FUNCTIONS).await;
    let event_stream = [("accept", "text/event-stream"), ("content-type", "application/json")];
    for (args, word) in
        [("{}", "n: "), ("{\"n\":\"1\"}", "n: "), ("{\"n\":1,\"m\":1}", "did you mean n?")]
    {
        let url = format!("/api/query/t.few?args={}", encoded(args));
        for answer in [
            ask(served.address, "GET", &url, &event_stream[..1], "").await,
            ask(served.address, "POST", "/api/query/t.few", &event_stream, args).await,
            ask(served.address, "POST", "/api/query/t.few", &event_stream[1..], args).await,
        ] {
            assert_eq!(answer.status, 400, "{args}: {}", answer.body);
            assert_eq!(answer.code(), "INVALID_ARGS");
            let error = answer.json()["error"].clone();
            assert!(
                error["message"].as_str().is_some_and(|message| message.contains(word)),
                "{error}"
            );
            assert!(error["data"]["issues"][0]["message"].is_string(), "{error}");
        }
        let args = serde_json::from_str(args).expect("JSON");
        let subscribe = json!([to("bad", "t.few", args), to("good", "t.few", json!({"n": 1}))]);
        let mut viewer = Viewer::open(served.address, subscribe).await;
        assert!(viewer.fails("bad", "INVALID_ARGS").await.is_final);
        viewer.shows("good", json!(0)).await;
        // It is gone, and can be gone no more.
        viewer.say(&json!({"unsubscribe": ["bad"]})).await;
        viewer.close().await;
    }
    // What a function says itself is no refusal of its arguments, though it looks like one.
    let mut stream =
        EventStream::open(served.address, "GET", "/api/query/t.throwing", &[], "").await;
    assert_eq!(stream.status, 200);
    stream.expect("hello").await;
    let update = stream.transition().await.data["updates"][0].clone();
    assert_eq!((&update["type"], &update["final"]), (&json!("error"), &json!(false)), "{update}");
    served.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_runs_waits_for_a_version_that_takes_its_arguments() {
    let mut served = Served::start("fn_outgrown", &[], FUNCTIONS).await;
    let (save, saves) = mpsc::channel(1);
    let loader = served.loader.take().expect("one that nobody has");
    let reload = tokio::spawn(reload_on(Told(saves), served.server.app().clone(), loader));
    let mut viewer = Viewer::open(served.address, json!([to("f", "t.few", json!({"n": 3}))])).await;
    viewer.shows("f", json!(0)).await;
    served
        .folder
        .write("functions/t.ts", &functions(&FUNCTIONS.replace("n: z.number()", "n: z.string()")));
    save.send(()).await.expect("it listens");
    assert!(!viewer.fails("f", "INVALID_ARGS").await.is_final);
    // Who comes now never had an answer.
    viewer.say(&json!({"subscribe": [to("late", "t.few", json!({"n": 3}))]})).await;
    assert!(viewer.fails("late", "INVALID_ARGS").await.is_final);
    served.message("a", "x", 1).await;
    served.folder.write("functions/t.ts", &functions(FUNCTIONS));
    save.send(()).await.expect("it listens");
    viewer.shows("f", json!(1)).await;
    served.message("a", "y", 1).await;
    viewer.shows("f", json!(2)).await;
    reload.abort();
    viewer.close().await;
    served.server.stop().await;
}

/// Saves, as a test tells of them.
struct Told(mpsc::Receiver<()>);

impl convoy_server::reload::Occasions for Told {
    async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending().await
        }
    }
}
