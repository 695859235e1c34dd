//! Who a session belongs to, watched: one more live query of the session, of which its client never hears.
//!
//! Its function says once more who calls, of what the caller showed when its stream began, and fails where that is no longer
//! who it was. It stands in the session's cuts as any subscription does, but from before its first answer on: nothing is shown of
//! a cut at which it is not known, unless that takes longer than the hold. What became of it goes to the outbox in the
//! transition of its cut, and the outbox sees it before its client sees any of that.

use crate::args::Argument;
use crate::database::Database;
use crate::engine::Engine;
use crate::live_query::Told;
use crate::memory::new_query_bytes;
use crate::session::{IDENTITY_SUB, QueryReference, SessionId};
use crate::sessions::{Shows, Sub};
use crate::templates::Applicant;
use convoy_query_index::QueryId;
use std::sync::Arc;

impl<D: Database> Engine<D> {
    /// Watches who a session belongs to by this, in place of what it was watched by before.
    pub(crate) fn watch_identity(&mut self, session: SessionId, by: Option<QueryReference>) {
        let Some(state) = self.sessions.get(session) else { return };
        let sub: Arc<str> = IDENTITY_SUB.into();
        let before = state.subs.get(&sub).and_then(|sub| sub.query);
        // A client that polls shows the same each time.
        if let (Some(before), Some(by)) = (before, &by)
            && self.is_of(before, by)
        {
            return;
        }
        // What is staged was taken down under the one before, and may be waiting for it.
        self.dissolve_stage(session);
        let bytes_before = self.result_bytes;
        self.unsubscribe(session, &sub);
        let (now, bytes_freed) = (self.now, bytes_before - self.result_bytes);
        let (Some(QueryReference { statement, args, .. }), Some(state)) =
            (by, self.sessions.get_mut(session))
        else {
            return;
        };
        // Not `Nothing`: a first answer is waited for by nobody.
        let told = Told::Reset;
        let watch = Sub {
            wish: None,
            query: None,
            notice: None,
            told,
            // As if its value had been shown: what comes with it is waited for.
            shows: Shows::Result,
            stale: false,
            behind: None,
            have: None,
            since: now,
        };
        state.subs.insert(sub.clone(), watch);
        // Who takes no more than it did goes on.
        let bytes = new_query_bytes(&args);
        match self.check_memory(bytes) {
            Err(error) if bytes > bytes_freed => self.refuse(session, &sub, error),
            _ => self.apply_for(&statement, Applicant { session, sub, args }),
        }
    }

    /// Returns whether a live query is the one that a reference asks for.
    fn is_of(&self, id: QueryId, reference: &QueryReference) -> bool {
        let Some(query) = self.queries.get(&id) else { return false };
        let is_text = |(text, arg): (&Option<Arc<str>>, &Option<Argument>)| match (text, arg) {
            (Some(text), Some(Argument::String(arg))) => **text == **arg,
            (None, None) => true,
            _ => false,
        };
        query.args.len() == reference.args.len()
            && query.args.iter().zip(&reference.args).all(is_text)
            && self
                .templates
                .get(query.template)
                .is_some_and(|entry| entry.statement == reference.statement)
    }

    /// Has all that are watched said once more, by code that is not what it was.
    pub(crate) fn doubt_identities(&mut self) {
        let watches = self.templates.iter().filter(|(_, entry)| entry.statement.is_identity());
        let queries: Vec<_> =
            watches.flat_map(|(_, entry)| entry.queries.iter().copied()).collect();
        for id in queries {
            self.detach_reads(id);
            self.make_dirty(id);
        }
    }
}
