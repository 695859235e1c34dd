//! What is broken on purpose, to see whether the simulator sees it.

use convoy_engine::{IDENTITY_SUB, Transition, Update, UpdateKind};
use convoy_types::{Changes, Transaction};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transaction, on its way to the engine.
    Transaction,
    /// A diff, on its way to a client.
    Diff,
    /// The names of mutations, on their way to a client.
    Reflects,
    /// That a result is stale, on its way to a client.
    Stale,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Transaction, Kind::Diff, Kind::Reflects, Kind::Stale];
}

/// So many that could have been lost arrive before one is.
const SPARED: usize = 2;

/// Loses one thing of a kind; by default nothing.
#[derive(Clone, Default)]
pub struct Fault {
    kind: Option<Kind>,
    /// How many could have been lost by now.
    passed: Arc<AtomicUsize>,
}

impl Fault {
    pub fn new(kind: Kind) -> Self {
        Fault { kind: Some(kind), passed: Arc::default() }
    }

    /// Returns whether something was lost.
    pub fn has_struck(&self) -> bool {
        self.passed.load(Ordering::Relaxed) > SPARED
    }

    /// Returns whether it is this one's turn.
    fn is_next(&self) -> bool {
        self.passed.fetch_add(1, Ordering::Relaxed) == SPARED
    }

    /// Returns whether a transaction is lost.
    pub fn takes(&self, transaction: &Transaction) -> bool {
        let does_something = match &transaction.changes {
            Changes::Rows(changes) => !changes.is_empty(),
            Changes::Touched(_) => true,
        };
        self.kind == Some(Kind::Transaction) && does_something && self.is_next()
    }

    /// Loses some of a transition.
    pub fn strike(&self, transition: &mut Transition) {
        let is_it = |kind: &UpdateKind| match self.kind {
            Some(Kind::Diff) => matches!(kind, UpdateKind::Diffs(_)),
            Some(Kind::Stale) => matches!(kind, UpdateKind::Stale(_)),
            Some(Kind::Transaction | Kind::Reflects) | None => false,
        };
        // What no client hears of is no loss.
        let is_heard = |update: &Update| *update.sub != *IDENTITY_SUB;
        let strikes = |update: &Update| is_heard(update) && is_it(&update.kind);
        if let Some(at) = transition.updates.iter().position(strikes)
            && self.is_next()
        {
            transition.updates.remove(at);
        }
        let names_any = self.kind == Some(Kind::Reflects) && !transition.reflects.is_empty();
        if names_any && self.is_next() {
            transition.reflects.clear();
        }
    }
}
