//! What a session remembers of what was sent: for each subscription's name, how it stands and what the client has, and the
//! final errors, until it is known that they arrived.

use super::memory::{Kept, NAME_BYTES, SUBSCRIPTION_BYTES};
use crate::limits::RequestLimits;
use crate::protocol::{ApiError, Claim, Code, Goodbye, TransitionWriter};
use crate::sse::{Item, StreamQueue};
use convoy_engine::{Digest, Update, UpdateKind};
use convoy_types::Lsn;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// Final errors that a session remembers, to repeat them where a stream broke.
const FINAL_ERRORS_MAX: usize = 256;

/// Transitions whose labels are remembered, for a client that comes back and has not got the last ones.
const LABELS_MAX: usize = 16;

/// What is known of a subscription's name.
#[derive(Default)]
pub(super) struct Sub {
    /// What it takes beside its name, while it stands.
    bytes: usize,
    /// Whether it ended: nothing that names it is sent any more.
    pub is_gone: bool,
    /// The digest that was sent last, and with which transition; 0 for what the client said it had from before.
    pub sent: Option<(u64, Digest)>,
    /// After a resume, until the next update: whether the client has what was sent last.
    pub has_it: bool,
    /// With which transition it was first told anything, if the client may have that. A first answer is no diff.
    pub answered: Option<u64>,
}

pub(super) struct State {
    /// What the session takes of memory.
    kept: Kept,
    pub subs: HashMap<Arc<str>, Sub>,
    pub active: usize,
    /// The number of the last transition sent.
    pub sequence: u64,
    pub last_lsn: Lsn,
    /// The labels of the last transitions that brought the client to a point of the line, each with its number.
    pub labels: VecDeque<(u64, Lsn)>,
    /// After a resume, until the next transition of the engine's: the client may not have what `last_lsn` promises.
    pub is_behind: bool,
    /// Final errors with the transition that told them.
    pub final_errors: Vec<(u64, Arc<str>, ApiError)>,
    /// Final errors that no transition has told yet. Bounded by the names that a session may use.
    pub untold: Vec<(Arc<str>, ApiError)>,
    pub stream: Option<Arc<StreamQueue>>,
    /// When the stream went; none while there is one.
    pub detached_at: Option<Instant>,
    pub is_over: bool,
}

/// What a name is to a session.
#[derive(Debug)]
pub enum Standing {
    /// It was never used.
    Free,
    /// A subscription has it, or its end is on its way to the client.
    Stands,
    /// It was used, and no subscription has it any more.
    Gone(ApiError),
}

impl State {
    /// Returns that of a session whose stream begins.
    pub fn new(stream: Arc<StreamQueue>, last_lsn: Lsn, kept: Kept) -> State {
        State {
            kept,
            subs: HashMap::new(),
            active: 0,
            sequence: 0,
            last_lsn,
            is_behind: false,
            labels: VecDeque::new(),
            final_errors: Vec::new(),
            untold: Vec::new(),
            stream: Some(stream),
            detached_at: None,
            is_over: false,
        }
    }

    /// Notes that the transition of the present number brings the client to a position.
    pub fn note_label(&mut self, lsn: Lsn) {
        if self.labels.len() == LABELS_MAX {
            self.labels.pop_front();
        }
        self.labels.push_back((self.sequence, lsn));
    }

    /// Returns the position of the last transition that is known to be on its way, or to have arrived; 0/0 where it is not
    /// known any more.
    pub fn label(&self) -> Lsn {
        self.labels.back().map_or(Lsn(0), |(_, lsn)| *lsn)
    }

    pub fn is_current(&self, stream: &Arc<StreamQueue>) -> bool {
        self.stream.as_ref().is_some_and(|current| Arc::ptr_eq(current, stream))
    }

    /// Lets nobody go on with it; the stream that there is says goodbye.
    pub fn end_for_good(&mut self, goodbye: Goodbye) {
        self.is_over = true;
        if let Some(stream) = self.stream.take() {
            let _ = stream.end(goodbye);
        }
    }

    pub fn standing(&self, name: &str) -> Standing {
        match self.subs.get(name) {
            None => Standing::Free,
            Some(sub) if !sub.is_gone => Standing::Stands,
            Some(_) if self.untold.iter().any(|(untold, _)| **untold == *name) => Standing::Stands,
            Some(_) => Standing::Gone(used_before(name)),
        }
    }

    /// Marks names as used, each with the digest that the client has.
    pub fn claim<'a>(
        &mut self,
        limits: &RequestLimits,
        claims: impl Iterator<Item = &'a Claim> + Clone,
    ) -> Result<(), ApiError> {
        let count = claims.clone().count();
        let limit = |there: usize, max: usize, what: &str, flag: &str| {
            if there + count > max {
                let message = format!("a session has at most {max} {what} ({flag})");
                return Err(ApiError::new(Code::LimitExceeded, message));
            }
            Ok(())
        };
        limit(self.active, limits.subscriptions_max, "subscriptions", "--subscriptions-max")?;
        limit(
            self.subs.len(),
            limits.subscription_names_max,
            "names of subscriptions in its life",
            "--subscription-names-max",
        )?;
        let bytes = |claim: &Claim| SUBSCRIPTION_BYTES + claim.bytes;
        let in_all = |claim: &Claim| NAME_BYTES + claim.sub.len() + bytes(claim);
        self.kept.take(claims.clone().map(in_all).sum())?;
        self.subs.extend(claims.map(|claim| {
            let sent = claim.have.map(|digest| (0, digest));
            (claim.sub.clone(), Sub { bytes: bytes(claim), sent, ..Sub::default() })
        }));
        self.active += count;
        Ok(())
    }

    pub fn rescue(&mut self, items: impl IntoIterator<Item = Item>) {
        for item in items {
            let Item::Transition(transition) = item else { continue };
            for update in transition.updates {
                if let UpdateKind::Error { last: true, error } = update.kind
                    && self.subs.get(&update.sub).is_some_and(|sub| !sub.is_gone)
                {
                    self.end(&update.sub);
                    self.untold.push((update.sub, error.into()));
                }
            }
        }
        self.tell_untold();
    }

    /// Lets the stream tell final errors that nothing has told. One that goes on where another broke has to wait for the
    /// engine's next transition, which is due at once: before it, no position is true of what the client has.
    pub fn tell_untold(&self) {
        let may_go = !self.untold.is_empty() && (!self.is_behind || self.active == 0);
        if let Some(stream) = self.stream.as_ref().filter(|_| may_go) {
            stream.push_refused();
        }
    }

    pub fn write_untold(&mut self, writer: &mut TransitionWriter<'_>) {
        for (sub, error) in std::mem::take(&mut self.untold) {
            writer.error(&sub, true, &error);
            self.remember_error(sub, error);
        }
    }

    /// Writes an update; returns whether it says more than that what the client has is right.
    pub fn write(&mut self, writer: &mut TransitionWriter<'_>, update: Update) -> bool {
        let sequence = self.sequence;
        let Some(sub) = self.subs.get_mut(&update.sub) else { return true };
        if sub.is_gone {
            return true;
        }
        let has_it = std::mem::take(&mut sub.has_it);
        sub.answered.get_or_insert(sequence);
        match update.kind {
            UpdateKind::Snapshot(snapshot) => {
                let digest = snapshot.value.digest;
                let had = sub.sent.as_ref().filter(|_| has_it).map(|(_, digest)| *digest);
                if had == Some(digest) {
                    // It had it before this frame, and has it also where this one is lost.
                    writer.unchanged(&update.sub);
                    return false;
                } else {
                    writer.snapshot(&update.sub, &snapshot);
                    sub.sent = Some((sequence, digest));
                }
            }
            UpdateKind::Diffs(diffs) => {
                writer.diffs(&update.sub, &diffs);
                sub.sent = diffs.last().map(|diff| (sequence, diff.value.digest));
            }
            UpdateKind::Unchanged => {
                writer.unchanged(&update.sub);
                return false;
            }
            UpdateKind::Stale(lsn) => {
                writer.stale(&update.sub, lsn);
                // The update that ends staleness may still find the client with what it had.
                sub.has_it = has_it;
            }
            UpdateKind::Error { last, error } => {
                let error = ApiError::from(error);
                writer.error(&update.sub, last, &error);
                // The next one is a snapshot, whatever the client had.
                sub.sent = None;
                if last {
                    self.remember_error(update.sub, error);
                }
            }
        }
        true
    }

    /// Ends a subscription, and keeps its error until the client is known to have it.
    fn remember_error(&mut self, sub: Arc<str>, error: ApiError) {
        self.end(&sub);
        if self.final_errors.len() >= FINAL_ERRORS_MAX {
            self.final_errors.remove(0);
        }
        self.final_errors.push((self.sequence, sub, error));
    }

    pub fn end(&mut self, sub: &Arc<str>) {
        let known = self.subs.entry(sub.clone()).or_default();
        if !known.is_gone {
            self.active -= usize::from(self.active > 0);
        }
        self.kept.give_back(known.bytes);
        *known = Sub { is_gone: true, ..Sub::default() };
    }
}

pub(super) fn used_before(name: &str) -> ApiError {
    ApiError::invalid(format!(
        "sub {name:?} was used before in this session: give each subscription a name of its own"
    ))
}
