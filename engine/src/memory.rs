//! How much memory live queries take, estimated: what their results hold and what each costs by itself.
//!
//! An estimate that is kept as results change, since nobody can ask the allocator whose its bytes are. What subscribers
//! have not fetched yet is theirs and counted with their queues.

use crate::args::Argument;
use crate::database::{Database, ErrorCode, Outlook, QueryError};
use crate::engine::Engine;
use crate::held_rows::HeldRows;
use crate::live_query::{LiveQuery, Value};
use crate::result::Refreshed;
use crate::session::SessionId;
use crate::statement::Statement;
use convoy_query_index::QueryId;
use std::sync::Arc;

/// A live query without rows: its state, its place in the index, a subscriber (measured: `bench/README.md`, "Memory", less
/// the rows that each of those has).
pub(crate) const QUERY_BYTES: usize = 3 << 9;
/// A statement beside its text: its plan and predicates (measured: 4,000 of one short statement each take 20 MB more than
/// their live queries).
const TEMPLATE_BYTES: usize = 9 << 9;
/// A row beside its texts: its key's length, the allocation and its place in the list.
const ROW_BYTES: usize = 48;
/// A cell beside its text: its length.
const CELL_BYTES: usize = 2;
/// A row that a window holds, beside the row: where it sorts (twice in a large window), and its place in the index.
const HELD_BYTES: usize = 64;

impl Statement {
    /// Returns about how many bytes it takes while anybody reads by it: its text, and the SQL that is made of that.
    pub(crate) fn memory_bytes(&self) -> usize {
        TEMPLATE_BYTES + 2 * self.text.len()
    }
}

impl LiveQuery {
    /// Returns about how many bytes it takes.
    fn memory_bytes(&self) -> usize {
        let args: usize = self.args.iter().flatten().map(|arg| arg.len()).sum();
        let to_be_told = self.history_bytes() + self.snapshot_bytes();
        QUERY_BYTES + args + to_be_told + value_bytes(&self.value, self.columns.len())
    }
}

/// Returns about how many bytes a live query takes at first that has these arguments.
pub(crate) fn new_query_bytes(args: &[Option<Argument>]) -> usize {
    let text = |arg: &Argument| match arg {
        Argument::String(text) | Argument::Number(text) => text.len(),
        _ => 0,
    };
    QUERY_BYTES + args.iter().flatten().map(text).sum::<usize>()
}

fn value_bytes(value: &Value, columns: usize) -> usize {
    let row_bytes = ROW_BYTES + columns * CELL_BYTES;
    match value {
        Value::None => 0,
        Value::Failed(error) => error.message.len(),
        Value::Rows(Refreshed { rows, held }) => {
            let held = held.as_ref().map_or(0, HeldRows::memory_bytes);
            rows.text_bytes() + rows.rows().len() * row_bytes + held
        }
        Value::Groups(groups) => {
            let shown = groups.visible();
            shown.text_bytes() + shown.rows().len() * row_bytes + groups.state_bytes()
        }
        Value::Window(window) => {
            // Rows that are held and not shown are about as large as those that are.
            let (shown, held) = (window.visible().rows().len(), window.held_keys().len());
            let texts = window.visible().text_bytes();
            let of_spare = texts.checked_div(shown).unwrap_or(0) * held.saturating_sub(shown);
            texts + of_spare + held * (row_bytes + HELD_BYTES)
        }
    }
}

impl<D: Database> Engine<D> {
    /// Notes what a live query takes now.
    pub(crate) fn weigh(&mut self, id: QueryId) {
        if let Some(query) = self.queries.get_mut(&id) {
            let bytes = query.memory_bytes() + self.recorded.bytes_of(id);
            let before = std::mem::replace(&mut query.weight, bytes);
            self.result_bytes = self.result_bytes - before + bytes;
        }
    }

    /// Returns what live queries and their statements take.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.result_bytes + self.templates.memory_bytes()
    }

    /// Returns why no further live query may begin, where that is so.
    pub(crate) fn check_memory(&self, more_bytes: usize) -> Result<(), QueryError> {
        let (used, limit) = (self.memory_bytes(), self.limits.memory_bytes_max);
        if used + more_bytes <= limit {
            return Ok(());
        }
        Err(QueryError::new(
            ErrorCode::LimitExceeded,
            format!(
                "live queries take {used} of {limit} bytes (--memory-results, a part of --memory-limit), too much for one \
                 more: unsubscribe from some, or ask for fewer rows"
            ),
        )
        .with_outlook(Outlook::Passes))
    }

    /// Returns why a live query of a statement that is new may not begin.
    pub(crate) fn check_memory_for_new(&self, statement: &Statement) -> Result<(), QueryError> {
        self.check_memory(statement.memory_bytes() + QUERY_BYTES)
    }

    /// Ends those who wait for a result's first answer where it is more than there is room for. Who was answered goes
    /// on. Returns whether nobody is left.
    pub(crate) fn refuse_for_memory(&mut self, id: QueryId, value: &Value) -> bool {
        let Some(query) = self.queries.get(&id).filter(|query| query.version == 0) else {
            return false;
        };
        let Err(error) = self.check_memory(value_bytes(value, query.columns.len())) else {
            return false;
        };
        let waiting: Vec<(SessionId, Arc<str>)> = query
            .subscribers
            .iter()
            .filter(|(session, sub)| !self.was_answered(*session, sub))
            .cloned()
            .collect();
        for (session, sub) in waiting {
            self.refuse(session, &sub, error.clone());
        }
        self.queries.get(&id).is_none()
    }
}
