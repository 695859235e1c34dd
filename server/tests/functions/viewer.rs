//! A session that shows values of any kind: rows, objects, numbers, errors, each as the stream last said.

use crate::client::{EventStream, StreamEvent, ask};
use crate::mirror::Shown;
use convoy_types::Lsn;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(45);

/// What one subscription shows.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    rows: Shown,
    /// The value, where it is no set of rows.
    whole: Option<Value>,
    pub error: Option<Value>,
    /// The types of all updates, in their order.
    pub kinds: Vec<String>,
    pub is_stale: bool,
    pub is_final: bool,
}

impl Seen {
    /// What it shows; null while that is nothing, or an error.
    pub fn value(&self) -> Value {
        match (&self.error, &self.whole) {
            (Some(_), _) => Value::Null,
            (None, Some(whole)) => whole.clone(),
            (None, None) => Value::Array(self.rows.rows.clone()),
        }
    }

    /// The keys of its rows.
    pub fn keys(&self) -> &[String] {
        &self.rows.keys
    }

    /// One field of each row.
    pub fn field(&self, name: &str) -> Vec<Value> {
        self.rows.rows.iter().map(|row| row[name].clone()).collect()
    }

    /// The code of the error that it shows.
    pub fn code(&self) -> Option<&str> {
        self.error.as_ref()?["code"].as_str()
    }

    /// Whether it is part of its session's cuts.
    pub fn is_in_cut(&self) -> bool {
        !self.kinds.is_empty() && self.error.is_none() && !self.is_stale
    }

    fn take(&mut self, update: &Value) -> Result<(), String> {
        let kind = update["type"].as_str().unwrap_or_default().to_owned();
        if self.error.is_some() && !matches!(&*kind, "snapshot" | "error") {
            return Err(format!("after an error comes a snapshot, not {update}"));
        }
        self.is_stale = kind == "stale";
        match &*kind {
            "error" => {
                self.error = Some(update["error"].clone());
                self.is_final = update["final"] == true;
            }
            "snapshot" if update.get("keys").is_none() => {
                (self.error, self.whole) = (None, Some(update["value"].clone()));
            }
            "patch" => {
                let Some(whole) = &mut self.whole else {
                    return Err(format!("rows do not change by patch: {update}"));
                };
                let patch: json_patch::Patch = serde_json::from_value(update["patch"].clone())
                    .map_err(|error| format!("{error}: {update}"))?;
                json_patch::patch(whole, &patch).map_err(|error| format!("{error}: {update}"))?;
            }
            "diff" if self.whole.is_some() => return Err(format!("no rows change by {update}")),
            "stale" | "unchanged" => {}
            _ => {
                (self.error, self.whole) = (None, None);
                self.rows.take_in(update);
            }
        }
        self.kinds.push(kind);
        Ok(())
    }
}

/// What a session shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    subs: BTreeMap<String, Seen>,
    pub lsn: Lsn,
    /// The id of the last transition: what resumes the session.
    pub token: String,
    /// How many transitions there were.
    pub transitions: usize,
    /// The mutations that transitions named: which transition, and which mutation.
    pub reflected: Vec<(usize, String)>,
    pub goodbye: Option<Value>,
}

impl View {
    /// What a subscription shows.
    pub fn of(&self, sub: &str) -> Seen {
        self.subs.get(sub).cloned().unwrap_or_default()
    }

    /// How often a mutation was named.
    pub fn named(&self, mutation: &str) -> usize {
        self.reflected.iter().filter(|(_, named)| named == mutation).count()
    }

    fn take(&mut self, event: &StreamEvent) -> Result<(), String> {
        if event.name == "goodbye" {
            self.goodbye = Some(event.data.clone());
            return Ok(());
        }
        let transition = &event.data;
        let lsn = transition["lsn"].as_str().and_then(|lsn| lsn.parse().ok());
        let lsn: Lsn = lsn.ok_or_else(|| format!("no position: {transition}"))?;
        if lsn < self.lsn {
            return Err(format!("the position went back from {} to {lsn}", self.lsn));
        }
        self.lsn = lsn;
        self.transitions += 1;
        if let Some(id) = &event.id {
            self.token.clone_from(id);
        }
        for mutation in transition["reflects"].as_array().into_iter().flatten() {
            let mutation = mutation.as_str().unwrap_or_default().to_owned();
            self.reflected.push((self.transitions, mutation));
        }
        for update in transition["updates"].as_array().into_iter().flatten() {
            let sub = update["sub"].as_str().unwrap_or_default();
            self.subs.entry(sub.to_owned()).or_default().take(update)?;
        }
        Ok(())
    }
}

/// What is asked of each state; what is wrong ends the viewer.
pub type Law = Box<dyn FnMut(&View) -> Result<(), String> + Send>;

/// A session whose stream is read.
pub struct Viewer {
    address: SocketAddr,
    cookie: String,
    pub session: String,
    pub resumed: bool,
    view: watch::Receiver<View>,
    reader: JoinHandle<Result<(), String>>,
}

impl Viewer {
    /// Opens a session with these subscriptions, `[{"sub": …, "query": …, "args": …}]`.
    pub async fn open(address: SocketAddr, subscribe: Value) -> Viewer {
        Viewer::under(address, subscribe, Box::new(|_| Ok(()))).await
    }

    /// Opens one each of whose states is asked for something.
    pub async fn under(address: SocketAddr, subscribe: Value, law: Law) -> Viewer {
        Viewer::of(address, "", subscribe, law).await
    }

    /// Opens one of somebody who sends this cookie.
    pub async fn of(address: SocketAddr, cookie: &str, subscribe: Value, law: Law) -> Viewer {
        let body = json!({ "subscribe": subscribe });
        Viewer::with(address, cookie, &body, View::default(), law).await
    }

    /// Goes on with the session of another viewer, which is gone, from what that one showed.
    pub async fn resume(address: SocketAddr, view: View) -> Viewer {
        Viewer::resume_as(address, "", view).await
    }

    /// Does so with this cookie.
    pub async fn resume_as(address: SocketAddr, cookie: &str, view: View) -> Viewer {
        let body = json!({ "resume": view.token });
        Viewer::with(address, cookie, &body, view, Box::new(|_| Ok(()))).await
    }

    async fn with(
        address: SocketAddr,
        cookie: &str,
        body: &Value,
        mut view: View,
        mut law: Law,
    ) -> Viewer {
        let (path, headers) = ("/api/sync", [("cookie", cookie)]);
        let headers = if cookie.is_empty() { &[][..] } else { &headers };
        let mut stream = EventStream::open(address, "POST", path, headers, &body.to_string()).await;
        let hello = stream.expect("hello").await.data;
        let session = hello["session"].as_str().expect("a session").to_owned();
        let (sender, receiver) = watch::channel(view.clone());
        let reader = tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                view.take(&event)?;
                law(&view).map_err(|problem| format!("{problem}: {}", event.data))?;
                // Who waits may be gone; the law goes on.
                sender.send_replace(view.clone());
            }
            Ok(())
        });
        let (cookie, resumed) = (cookie.to_owned(), hello["resumed"] == true);
        Viewer { address, cookie, session, resumed, view: receiver, reader }
    }

    /// Waits until this is so.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&View) -> bool) -> View {
        let found = async { self.view.wait_for(wanted).await.ok().map(|view| view.clone()) };
        if let Ok(Some(view)) = timeout(PATIENCE, found).await {
            return view;
        }
        let view = self.view();
        if self.reader.is_finished() {
            match (&mut self.reader).await {
                Ok(Err(problem)) => panic!("{problem}"),
                Ok(Ok(())) => panic!("the stream ended before {what}"),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        panic!("never: {what}: {view:#?}");
    }

    /// Waits until a subscription shows this.
    pub async fn shows(&mut self, sub: &str, value: Value) -> Seen {
        let what = format!("{sub} shows {value}");
        let is_it = |seen: &Seen| seen.is_in_cut() && seen.value() == value;
        self.until(&what, |view| is_it(&view.of(sub))).await.of(sub)
    }

    /// Waits until the rows of a subscription have these in a field.
    pub async fn has(&mut self, sub: &str, field: &str, values: Value) -> Seen {
        let what = format!("{sub} has {values} in {field}");
        let values: Vec<Value> = values.as_array().expect("an array").clone();
        let is_it = |seen: &Seen| seen.is_in_cut() && seen.field(field) == values;
        self.until(&what, |view| is_it(&view.of(sub))).await.of(sub)
    }

    /// Waits until a subscription shows an error with this code.
    pub async fn fails(&mut self, sub: &str, code: &str) -> Seen {
        let what = format!("{sub} shows the error {code}");
        self.until(&what, |view| view.of(sub).code() == Some(code)).await.of(sub)
    }

    /// Waits until the stream says goodbye; returns that, and what was shown until then.
    pub async fn ends(&mut self) -> (Value, View) {
        let view = self.until("the stream's goodbye", |view| view.goodbye.is_some()).await;
        (view.goodbye.clone().unwrap_or_default(), view)
    }

    /// Waits until the session has passed a position.
    pub async fn passes(&mut self, lsn: &str) -> View {
        self.say(&json!({ "await": lsn })).await;
        let lsn: Lsn = lsn.parse().expect("a position");
        self.until(&format!("it passes {lsn}"), |view| view.lsn >= lsn).await
    }

    /// Sends the session something.
    pub async fn say(&self, body: &Value) {
        let path = format!("/api/sync/{}", self.session);
        let headers = [("content-type", "application/json"), ("cookie", &*self.cookie)];
        let answer = ask(self.address, "POST", &path, &headers, &body.to_string()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }

    /// What it shows now.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// Panics with what was found wrong; returns the last view.
    pub async fn close(mut self) -> View {
        let view = self.view();
        if self.reader.is_finished() {
            match (&mut self.reader).await {
                Ok(result) => result.unwrap_or_else(|problem| panic!("{problem}")),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        view
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// A subscription to a function.
pub fn to(sub: &str, query: &str, args: Value) -> Value {
    json!({ "sub": sub, "query": query, "args": args })
}
