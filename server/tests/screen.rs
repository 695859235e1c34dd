//! A session with many panels: what each of them shows after every transition, and what that took.

use crate::client::{EventStream, post};
use crate::mirror::Shown;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything takes that works.
const PATIENCE: Duration = Duration::from_secs(40);

/// One subscription.
#[derive(Clone, Debug, Default)]
pub struct Panel {
    pub shown: Shown,
    /// Whether it has had its first answer, and that was none of an error.
    pub is_answered: bool,
    /// The error that it shows.
    pub error: Option<Value>,
    /// All errors that it has shown.
    pub errors: Vec<Value>,
    /// The digests of all results.
    pub digests: Vec<Value>,
    /// How many updates of each type have named it.
    pub updates: BTreeMap<String, u32>,
}

impl Panel {
    /// Whether it is part of its session's cuts.
    pub fn is_in_cut(&self) -> bool {
        self.is_answered && self.error.is_none() && !self.shown.is_stale
    }

    pub fn updates_of(&self, kind: &str) -> u32 {
        self.updates.get(kind).copied().unwrap_or(0)
    }

    pub fn updates_in_all(&self) -> u32 {
        self.updates.values().sum()
    }
}

/// All that a session shows.
#[derive(Clone, Debug, Default)]
pub struct Panels {
    pub by_name: BTreeMap<String, Panel>,
    pub transitions: u64,
    pub lsn: convoy_types::Lsn,
}

impl std::ops::Index<&str> for Panels {
    type Output = Panel;

    fn index(&self, name: &str) -> &Panel {
        self.by_name.get(name).unwrap_or_else(|| panic!("no panel {name}"))
    }
}

/// What is asked of each state, and what happened on the way to it; what is wrong ends the screen.
pub type Check = Box<dyn FnMut(&Panels, &Value) -> Result<(), String> + Send>;

/// A session whose stream is read.
pub struct Screen {
    address: SocketAddr,
    session: String,
    panels: watch::Receiver<Panels>,
    /// Panels that were given up: what is on its way for them is of no interest.
    gone: Arc<Mutex<BTreeSet<String>>>,
    reader: JoinHandle<Result<(), String>>,
}

impl Screen {
    /// Opens a session with these panels, each SQL or the name of a query; `check` sees each state.
    pub async fn open(address: SocketAddr, panels: &[(&str, &str)], mut check: Check) -> Screen {
        let body = json!({ "subscribe": references(panels) }).to_string();
        let mut stream = EventStream::open(address, "POST", "/api/sync", &[], &body).await;
        let hello = stream.expect("hello").await.data;
        let session = hello["session"].as_str().expect("a session").to_owned();
        let (sender, receiver) = watch::channel(Panels::default());
        let gone = Arc::new(Mutex::new(BTreeSet::new()));
        let given_up = gone.clone();
        let reader = tokio::spawn(async move {
            let mut panels = Panels::default();
            while let Some(event) = stream.next().await {
                if event.name == "goodbye" {
                    return Ok(());
                }
                let given_up = given_up.lock().expect("nobody panics with it").clone();
                panels.by_name.retain(|name, _| !given_up.contains(name));
                panels.take(&event.data, &given_up)?;
                check(&panels, &event.data)?;
                // Who waits may be gone; the check goes on.
                sender.send_replace(panels.clone());
            }
            Ok(())
        });
        Screen { address, session, panels: receiver, gone, reader }
    }

    pub async fn subscribe(&self, panels: &[(&str, &str)]) {
        self.say(&json!({ "subscribe": references(panels) })).await;
    }

    pub async fn unsubscribe(&self, names: &[&str]) {
        let gone = names.iter().map(|name| (*name).to_owned());
        self.gone.lock().expect("nobody panics with it").extend(gone);
        self.say(&json!({ "unsubscribe": names })).await;
    }

    async fn say(&self, body: &Value) {
        let path = format!("/api/sync/{}", self.session);
        let answer = post(self.address, &path, &body.to_string()).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }

    /// Waits until this is so.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Panels) -> bool) -> Panels {
        let found = async { self.panels.wait_for(wanted).await.ok().map(|panels| panels.clone()) };
        if let Ok(Some(panels)) = timeout(PATIENCE, found).await {
            return panels;
        }
        let last = self.panels();
        if self.reader.is_finished() {
            match (&mut self.reader).await {
                Ok(Err(problem)) => panic!("{problem}"),
                Ok(Ok(())) => panic!("the stream ended before {what}"),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        let brief = |(name, panel): (&String, &Panel)| {
            let Panel { shown, error, updates, .. } = panel;
            format!(
                "{name}: {} rows, stale {}, {updates:?}, {error:?}",
                shown.rows.len(),
                shown.is_stale
            )
        };
        let brief: Vec<_> = last.by_name.iter().map(brief).collect();
        panic!("never: {what}: {} transitions to {}, {brief:#?}", last.transitions, last.lsn);
    }

    pub fn panels(&self) -> Panels {
        self.panels.borrow().clone()
    }

    /// Panics with what a check found wrong.
    pub async fn close(mut self) -> Panels {
        let panels = self.panels();
        if self.reader.is_finished() {
            match (&mut self.reader).await {
                Ok(result) => result.unwrap_or_else(|problem| panic!("{problem}")),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        panels
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn references(panels: &[(&str, &str)]) -> Vec<Value> {
    let reference = |(name, asked): &(&str, &str)| match asked.contains(' ') {
        true => json!({"sub": name, "sql": asked}),
        false => json!({"sub": name, "query": asked}),
    };
    panels.iter().map(reference).collect()
}

impl Panels {
    fn take(&mut self, transition: &Value, given_up: &BTreeSet<String>) -> Result<(), String> {
        let lsn = transition["lsn"].as_str().and_then(|lsn| lsn.parse().ok());
        let lsn: convoy_types::Lsn = lsn.ok_or_else(|| format!("no position: {transition}"))?;
        if lsn < self.lsn {
            return Err(format!("the session's position went back from {} to {lsn}", self.lsn));
        }
        self.lsn = lsn;
        self.transitions += 1;
        for update in transition["updates"].as_array().into_iter().flatten() {
            let name = update["sub"].as_str().unwrap_or_default();
            if given_up.contains(name) {
                continue;
            }
            let panel = self.by_name.entry(name.to_owned()).or_default();
            let kind = update["type"].as_str().unwrap_or_default();
            *panel.updates.entry(kind.to_owned()).or_default() += 1;
            if kind == "error" {
                panel.errors.push(update["error"].clone());
                panel.error = panel.errors.last().cloned();
                continue;
            }
            if panel.error.is_some() && kind != "snapshot" {
                return Err(format!("after {:?} comes a snapshot, not {update}", panel.error));
            }
            panel.error = None;
            panel.digests.push(update["digest"].clone());
            panel.is_answered = true;
            panel.shown.take_in(update);
        }
        Ok(())
    }
}
