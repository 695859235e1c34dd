//! Subscribers: what a client makes of what it is told, by code of its own, with every promise about a single
//! transition checked on the spot.

use super::live::{Epoch, Moment};
use convoy_engine::{DiffOp, Digest, Outbox, OutboxState, ResultRow, Transition, UpdateKind};
use convoy_types::Lsn;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// A row: its key and its cells. Shared, since every version of a result is kept.
pub type Row = Arc<(String, Vec<String>)>;

/// A result as a client has it.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Content {
    /// Names and types.
    pub columns: Vec<(String, String)>,
    pub rows: Vec<Row>,
}

/// What a subscription shows.
#[derive(Clone, Debug)]
pub enum Shown {
    /// No answer yet.
    Nothing,
    Value(Arc<Content>),
    /// It has fallen behind, with this.
    Stale(Option<Arc<Content>>),
    Failed(String),
}

/// What a session showed after one transition.
#[derive(Clone, Debug)]
pub struct Step {
    pub epoch: u64,
    pub position: u64,
    pub lsn: Lsn,
    /// What changed, by subscription.
    pub changed: Vec<Arc<str>>,
    pub shown: Arc<BTreeMap<Arc<str>, Shown>>,
}

impl Step {
    /// Returns where the line stood.
    pub fn moment(&self) -> Moment {
        (self.epoch, self.position)
    }
}

#[derive(Default)]
struct State {
    shown: Arc<BTreeMap<Arc<str>, Shown>>,
    steps: Vec<Step>,
    lsn: Lsn,
    position: u64,
    problems: Vec<String>,
    gone: HashSet<Arc<str>>,
    /// Since a resumption: whatever was shown may be said again.
    resumed: bool,
    stale: u64,
    diffs: u64,
    snapshots: u64,
}

/// Digests of all subscribers: equal exactly where the contents are.
#[derive(Default)]
pub struct Digests {
    content_of: Mutex<HashMap<Digest, Arc<Content>>>,
    digest_of: Mutex<HashMap<Arc<Content>, Digest>>,
}

impl Digests {
    fn check(&self, digest: Digest, content: &Arc<Content>) -> Result<(), String> {
        let before =
            lock(&self.content_of).entry(digest).or_insert_with(|| content.clone()).clone();
        if before != *content {
            return Err(format!("digest {digest} stands for {before:?} and for {content:?}"));
        }
        let before = *lock(&self.digest_of).entry(content.clone()).or_insert(digest);
        if before != digest {
            return Err(format!("{content:?} has the digests {before} and {digest}"));
        }
        Ok(())
    }
}

/// Something that must hold of what a session shows.
pub type Invariant = fn(&BTreeMap<Arc<str>, Shown>) -> Result<(), String>;

/// A client's end of a session.
#[derive(Clone)]
pub struct Subscriber {
    pub name: &'static str,
    state: Arc<Mutex<State>>,
    digests: Arc<Digests>,
    epoch: Epoch,
    moved: Arc<Notify>,
    invariant: Option<Invariant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Subscriber {
    /// Returns a client without subscriptions.
    pub fn new(name: &'static str, digests: Arc<Digests>, epoch: Epoch) -> Subscriber {
        let (state, moved) = (Arc::default(), Arc::default());
        Subscriber { name, state, digests, epoch, moved, invariant: None }
    }

    /// Adds something that must hold after every transition.
    pub fn with_invariant(mut self, invariant: Invariant) -> Subscriber {
        self.invariant = Some(invariant);
        self
    }

    /// Notes that the client asks for this.
    pub fn subscribes(&self, sub: &Arc<str>) {
        let mut state = lock(&self.state);
        Arc::make_mut(&mut state.shown).insert(sub.clone(), Shown::Nothing);
    }

    /// Notes that the client no longer wants this.
    pub fn unsubscribes(&self, sub: &Arc<str>) {
        let mut state = lock(&self.state);
        Arc::make_mut(&mut state.shown).remove(sub);
        state.gone.insert(sub.clone());
    }

    /// Notes that the client comes back over another connection.
    pub fn resumes(&self) {
        lock(&self.state).resumed = true;
    }

    /// Returns an outbox that says after each transition that it is full, or never does.
    pub fn outbox(
        &self,
        is_slow: bool,
        drained: Option<tokio::sync::mpsc::UnboundedSender<()>>,
    ) -> Box<dyn Outbox> {
        Box::new(Line { subscriber: self.clone(), is_slow, drained })
    }

    /// Returns what has been shown so far, transition by transition.
    pub fn steps(&self) -> Vec<Step> {
        lock(&self.state).steps.clone()
    }

    /// Returns what is shown now, and as of when.
    pub fn now(&self) -> (Lsn, Arc<BTreeMap<Arc<str>, Shown>>) {
        let state = lock(&self.state);
        (state.lsn, state.shown.clone())
    }

    /// Returns what was wrong.
    pub fn problems(&self) -> Vec<String> {
        lock(&self.state).problems.clone()
    }

    /// Returns how many updates were diffs, snapshots and `stale`.
    pub fn counts(&self) -> (u64, u64, u64) {
        let state = lock(&self.state);
        (state.diffs, state.snapshots, state.stale)
    }

    /// Waits until every subscription has had an answer.
    pub async fn until_answered(&self, limit: Duration) -> Result<(), String> {
        self.until(limit, |_, shown| !shown.values().any(|shown| matches!(shown, Shown::Nothing)))
            .await
    }

    /// Waits until everything before a position is shown, and nothing is stale or unanswered.
    pub async fn until_settled(&self, lsn: Lsn, limit: Duration) -> Result<(), String> {
        let is_settled = |shown: &Shown| !matches!(shown, Shown::Nothing | Shown::Stale(_));
        let settled =
            self.until(limit, |reached, shown| reached >= lsn && shown.values().all(is_settled));
        settled.await.map_err(|problem| format!("{problem} (wanted: {lsn})"))
    }

    async fn until(
        &self,
        limit: Duration,
        is_so: impl Fn(Lsn, &BTreeMap<Arc<str>, Shown>) -> bool,
    ) -> Result<(), String> {
        let waiting = async {
            loop {
                let mut moved = pin!(self.moved.notified());
                moved.as_mut().enable();
                let (reached, shown) = self.now();
                if is_so(reached, &shown) {
                    return;
                }
                moved.await;
            }
        };
        tokio::time::timeout(limit, waiting).await.map_err(|_| {
            let (reached, shown) = self.now();
            let late =
                shown.iter().filter(|(_, shown)| matches!(shown, Shown::Nothing | Shown::Stale(_)));
            let late: Vec<_> = late
                .map(|(sub, shown)| (sub.to_string(), matches!(shown, Shown::Nothing)))
                .collect();
            format!("{} is at {reached}; unanswered (true) or stale: {late:?}", self.name)
        })
    }
}

/// The connection over which a session's transitions come.
struct Line {
    subscriber: Subscriber,
    is_slow: bool,
    drained: Option<tokio::sync::mpsc::UnboundedSender<()>>,
}

impl Outbox for Line {
    fn send(&mut self, transition: Transition) -> OutboxState {
        let subscriber = &self.subscriber;
        let mut state = lock(&subscriber.state);
        if let Err(problem) =
            state.take(&transition, subscriber.epoch.load(Ordering::Relaxed), &subscriber.digests)
        {
            state.note(format!("{}: {problem}", subscriber.name));
        }
        if let Some(invariant) = subscriber.invariant
            && let Err(problem) = invariant(&state.shown)
        {
            let position = transition.position.0;
            state.note(format!(
                "{}: at position {position}, panels disagree: {problem}",
                subscriber.name
            ));
        }
        drop(state);
        subscriber.moved.notify_waiters();
        match (self.is_slow, &self.drained) {
            (true, Some(drained)) => {
                let _ = drained.send(());
                OutboxState::Full
            }
            _ => OutboxState::Ready,
        }
    }
}

impl State {
    fn note(&mut self, problem: String) {
        if self.problems.len() < 20 {
            self.problems.push(problem);
        }
    }

    fn take(
        &mut self,
        transition: &Transition,
        epoch: u64,
        digests: &Digests,
    ) -> Result<(), String> {
        let (lsn, position) = (transition.lsn, transition.position.0);
        if lsn < self.lsn {
            return Err(format!("lsn goes back from {} to {lsn}", self.lsn));
        }
        if position < self.position {
            return Err(format!("the position goes back from {} to {position}", self.position));
        }
        (self.lsn, self.position) = (lsn, position);
        let mut shown = (*self.shown).clone();
        let mut changed = Vec::new();
        let mut named = HashSet::new();
        let mut problem = Ok(());
        for update in &transition.updates {
            let sub = &update.sub;
            let Some(before) = shown.get(sub).cloned() else {
                if self.gone.contains(sub) {
                    // It may have been under way.
                    continue;
                }
                return Err(format!(
                    "an update of {sub}, which nobody asked for: {:?}",
                    update.kind
                ));
            };
            let is_stale = matches!(update.kind, UpdateKind::Stale(_));
            if !named.insert((sub.clone(), is_stale)) {
                let kinds: Vec<_> = transition
                    .updates
                    .iter()
                    .filter(|other| other.sub == *sub)
                    .map(|update| kind_of(&update.kind))
                    .collect();
                problem = Err(format!("{sub} is named twice in one transition: {kinds:?}"));
            }
            let content = match &before {
                Shown::Value(content) | Shown::Stale(Some(content)) => Some(content.clone()),
                _ => None,
            };
            let after = match &update.kind {
                UpdateKind::Snapshot(snapshot) => {
                    self.snapshots += 1;
                    let snapshot = &snapshot.value;
                    let columns = snapshot
                        .columns
                        .iter()
                        .map(|column| (column.name.clone(), column.type_name.clone()));
                    let rows: Vec<Row> = snapshot.rows.iter().map(row_of).collect();
                    let content = Arc::new(Content { columns: columns.collect(), rows });
                    check_rows(&content).map_err(|error| format!("snapshot of {sub}: {error}"))?;
                    digests
                        .check(snapshot.digest, &content)
                        .map_err(|error| format!("snapshot of {sub}: {error}"))?;
                    Shown::Value(content)
                }
                UpdateKind::Diffs(diffs) => {
                    self.diffs += 1;
                    let Some(content) = content else {
                        return Err(format!("a diff of {sub}, which shows {before:?}"));
                    };
                    let mut rows = content.rows.clone();
                    let mut last = content;
                    for diff in diffs {
                        apply(&mut rows, &diff.value.ops).map_err(|error| {
                            format!("diff of {sub}: {error}\n{:?}\nto {last:?}", diff.value.ops)
                        })?;
                        let content =
                            Arc::new(Content { columns: last.columns.clone(), rows: rows.clone() });
                        check_rows(&content).map_err(|error| format!("diff of {sub}: {error}"))?;
                        digests.check(diff.value.digest, &content).map_err(|error| {
                            format!("diff of {sub}: {error}; ops {:?}", diff.value.ops)
                        })?;
                        last = content;
                    }
                    Shown::Value(last)
                }
                UpdateKind::Unchanged => match content {
                    Some(content) => Shown::Value(content),
                    None => return Err(format!("{sub} is unchanged, and shows {before:?}")),
                },
                UpdateKind::Stale(_) => {
                    self.stale += 1;
                    Shown::Stale(content)
                }
                UpdateKind::Error { last, error } => {
                    Shown::Failed(format!("{error} (last: {last})"))
                }
            };
            changed.push(sub.clone());
            shown.insert(sub.clone(), after);
        }
        self.shown = Arc::new(shown);
        self.steps.push(Step { epoch, position, lsn, changed, shown: self.shown.clone() });
        problem
    }
}

fn kind_of(kind: &UpdateKind) -> &'static str {
    match kind {
        UpdateKind::Snapshot(_) => "snapshot",
        UpdateKind::Diffs(_) => "diff",
        UpdateKind::Unchanged => "unchanged",
        UpdateKind::Stale(_) => "stale",
        UpdateKind::Error { .. } => "error",
    }
}

fn row_of(row: &ResultRow) -> Row {
    Arc::new((row.key().to_owned(), row.cells().map(str::to_owned).collect()))
}

fn check_rows(content: &Content) -> Result<(), String> {
    let mut keys = HashSet::new();
    for row in &content.rows {
        let (key, cells) = &**row;
        if key.len() > 64 {
            return Err(format!("the key {key:?} is longer than 64 bytes"));
        }
        if !keys.insert(key) {
            return Err(format!("the key {key:?} stands twice"));
        }
        if cells.len() != content.columns.len() {
            return Err(format!(
                "row {key:?} has {} cells of {}",
                cells.len(),
                content.columns.len()
            ));
        }
    }
    Ok(())
}

/// Applies the steps of a diff, as docs/protocol.md says them.
fn apply(rows: &mut Vec<Row>, ops: &[DiffOp]) -> Result<(), String> {
    let find = |rows: &[Row], key: &str| {
        rows.iter().position(|row| row.0 == key).ok_or_else(|| format!("there is no row {key:?}"))
    };
    for op in ops {
        match op {
            DiffOp::Remove { key } => {
                let at = find(rows, key)?;
                rows.remove(at);
            }
            DiffOp::Insert { row, at } => {
                if *at > rows.len() {
                    return Err(format!("{:?} would stand at {at} of {}", row.key(), rows.len()));
                }
                if find(rows, row.key()).is_ok() {
                    return Err(format!("{:?} is inserted and there already", row.key()));
                }
                rows.insert(*at, row_of(row));
            }
            DiffOp::Update { key, set } => {
                if key.starts_with('#') && key.contains('.') {
                    return Err(format!(
                        "{key:?} is made of its row's values, and its row is updated"
                    ));
                }
                let at = find(rows, key)?;
                for (column, value) in set {
                    let cells = &mut Arc::make_mut(&mut rows[at]).1;
                    let Some(cell) = cells.get_mut(*column) else {
                        return Err(format!("no column {column}"));
                    };
                    *cell = value.to_string();
                }
            }
            DiffOp::Patch { .. } => return Err("a patch, of a set of rows".to_owned()),
            DiffOp::Move { key, at } => {
                let from = find(rows, key)?;
                let row = rows.remove(from);
                if *at > rows.len() {
                    return Err(format!("{key:?} would move to {at} of {}", rows.len()));
                }
                rows.insert(*at, row);
            }
        }
    }
    Ok(())
}
