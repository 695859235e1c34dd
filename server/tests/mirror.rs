//! A subscriber that keeps what it is shown, and refuses what can't be: a row that comes twice, or one that goes and was
//! not there.

use crate::client::{EventStream, StreamEvent};
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything takes that works, a Postgres that restarts or connections that hang included, on a machine that is
/// busy with other tests.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a subscription shows.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    pub keys: Vec<String>,
    pub rows: Vec<Value>,
    pub is_stale: bool,
    /// How often the result was sent as another than before: in snapshots and in diffs.
    pub changes: u32,
    /// How many of these were snapshots, the first answer among them.
    pub snapshots: u32,
    /// That of the result that it shows.
    pub digest: Option<String>,
    /// The reason why the stream has ended.
    pub goodbye: Option<Value>,
}

/// The subscriber of one query.
pub struct Mirror {
    shown: watch::Receiver<Shown>,
    reader: JoinHandle<()>,
}

impl Mirror {
    /// Subscribes, and waits for the first answer.
    pub async fn open(address: SocketAddr, path: &str) -> Mirror {
        Mirror::of_stream(EventStream::open(address, "GET", path, &[], "").await).await
    }

    /// Reads a stream that has said nothing yet.
    pub async fn of_stream(mut stream: EventStream) -> Mirror {
        stream.expect("hello").await;
        let mut shown = Shown::default();
        shown.apply(&stream.transition().await);
        let (sender, receiver) = watch::channel(shown.clone());
        let reader = tokio::spawn(async move {
            while let Some(event) = stream.next().await {
                shown.apply(&event);
                if sender.send(shown.clone()).is_err() {
                    return;
                }
            }
        });
        Mirror { shown: receiver, reader }
    }

    /// Subscribes to SQL of the test's own.
    pub async fn of_sql(address: SocketAddr, sql: &str) -> Mirror {
        let escape = |c: char| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' => c.to_string(),
            other => format!("%{:02X}", u32::from(other)),
        };
        let sql: String = sql.chars().map(escape).collect();
        Mirror::open(address, &format!("/api/sql?sql={sql}")).await
    }

    /// Waits until this is so.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Shown) -> bool) {
        if timeout(PATIENCE, self.shown.wait_for(wanted)).await.is_ok_and(|found| found.is_ok()) {
            return;
        }
        if self.reader.is_finished()
            && let Err(error) = (&mut self.reader).await
        {
            std::panic::resume_unwind(error.into_panic());
        }
        panic!("never showed {what}: {:?}", *self.shown.borrow());
    }

    /// Waits until it shows these rows.
    pub async fn shows(&mut self, rows: &Value) {
        let rows = rows.as_array().expect("rows").clone();
        let what = format!("{} rows like {:?}", rows.len(), rows.last());
        self.until(&what, |shown| shown.rows == rows && !shown.is_stale).await;
    }

    /// Waits until it shows what a statement gives.
    pub async fn shows_what(&mut self, client: &tokio_postgres::Client, sql: &str) {
        let sql = format!("select coalesce(json_agg(to_json(r)), '[]')::text from ({sql}) r");
        let row = client.query_one(&sql, &[]).await.expect("the rows");
        let rows: Value = serde_json::from_str(row.get(0)).expect("JSON");
        self.shows(&rows).await;
    }

    pub fn shown(&self) -> Shown {
        self.shown.borrow().clone()
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shown {
    fn place(&self, key: &Value) -> usize {
        let key = key.as_str().expect("a key");
        let found = self.keys.iter().position(|known| known == key);
        found.unwrap_or_else(|| panic!("{key} was never there: {:?}", self.keys))
    }

    fn take(&mut self, key: &Value) -> (String, Value) {
        let at = self.place(key);
        (self.keys.remove(at), self.rows.remove(at))
    }

    fn put(&mut self, at: &Value, key: String, row: Value) {
        assert!(!self.keys.contains(&key), "{key} came twice: {:?}", self.keys);
        let at = usize::try_from(at.as_u64().expect("a place")).expect("a place");
        self.keys.insert(at, key);
        self.rows.insert(at, row);
    }

    fn apply(&mut self, event: &StreamEvent) {
        if event.name == "goodbye" {
            self.goodbye = Some(event.data.clone());
        }
        for update in event.data["updates"].as_array().into_iter().flatten() {
            let before = self.digest.take();
            self.take_in(update);
            let is_sent = self.digest.is_some();
            // What stayed the same is not sent, a result that was read again least of all.
            assert!(!is_sent || self.digest != before, "nothing has changed: {update}");
            self.digest = self.digest.take().or(before);
        }
    }

    /// Takes one update in.
    pub fn take_in(&mut self, update: &Value) {
        self.is_stale = update["type"] == "stale";
        let is_snapshot = update["type"] == "snapshot";
        if is_snapshot || update["type"] == "diff" {
            self.changes += 1;
            self.snapshots += u32::from(is_snapshot);
            self.digest = Some(update["digest"].as_str().expect("a digest").to_owned());
        }
        match update["type"].as_str() {
            Some("snapshot") => {
                let keys = update["keys"].as_array().expect("keys").iter();
                self.keys = keys.map(|key| key.as_str().expect("a key").to_owned()).collect();
                self.rows = update["value"].as_array().expect("rows").clone();
            }
            Some("diff") => {
                update["ops"].as_array().expect("operations").iter().for_each(|op| self.step(op));
            }
            Some("unchanged" | "stale") => {}
            _ => panic!("{update}"),
        }
    }

    fn step(&mut self, op: &Value) {
        match op["op"].as_str() {
            Some("remove") => drop(self.take(&op["key"])),
            Some("insert") => {
                let key = op["key"].as_str().expect("a key").to_owned();
                self.put(&op["at"], key, op["row"].clone());
            }
            Some("update") => {
                let at = self.place(&op["key"]);
                for (column, value) in op["set"].as_object().expect("columns") {
                    self.rows[at][column] = value.clone();
                }
            }
            Some("move") => {
                let (key, row) = self.take(&op["key"]);
                self.put(&op["at"], key, row);
            }
            _ => panic!("{op}"),
        }
    }
}
