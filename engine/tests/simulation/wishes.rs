//! What clients wish to see, and what names come to mean.

use super::clients::{Inbox, Sent, Wish};
use super::schedule::Schedule;
use super::temper::STATED_HOLD;
use crate::world::{OfGroup, Panel};
use convoy_engine::{
    Argument, Definition, ErrorCode, Event, IDENTITY_SUB, QueryError, QueryReference, Redefinition,
    Statement, UpdateKind,
};
use rand::Rng;
use std::sync::Arc;

/// What a name means, one after the other; none where its file is gone. It is asked for with a group, always.
pub type Meanings = Vec<Option<Panel>>;

/// Returns whether a meaning serves those who ask with a group.
pub fn serves(meaning: &Option<Panel>) -> bool {
    meaning.is_some_and(Panel::has_parameter)
}

impl Schedule {
    pub fn subscribe(&mut self, at: usize) {
        let panel = Panel::WISHES[self.random.random_range(0..Panel::WISHES.len())];
        let grp = self.random.random_range(0..3);
        let client = &mut self.clients[at];
        let sub: Arc<str> = client.next_sub.to_string().into();
        client.next_sub += 1;
        let name = self.random.random_range(0..4);
        let wish = match self.names.get(name) {
            Some(meanings) if meanings.last().is_some_and(serves) => Wish::Name(name, 0),
            _ => Wish::Panel(panel),
        };
        self.ask(at, sub, wish, grp);
    }

    /// Subscribes to something, with the digest of what the client has of it.
    pub fn ask(&mut self, at: usize, sub: Arc<str>, wish: Wish, grp: i32) {
        if *sub == *IDENTITY_SUB {
            return self.watch(at, grp);
        }
        let (wish, query) = match wish {
            Wish::Panel(panel) => {
                // Some say how long they may be waited for.
                let hold = match self.random.random_bool(0.1) {
                    true => format!("-- @maxhold {}ms\n", STATED_HOLD.as_millis()),
                    false => String::new(),
                };
                (wish, panel.reference(&hold, grp))
            }
            Wish::Name(name, _) => {
                // Who asks may have looked the name up a while ago.
                let meanings = &self.names[name];
                let ago = self.random.random_range(0..3_usize).saturating_sub(1);
                let ago = ago.min(meanings.len() - 1);
                let meaning = match meanings[meanings.len() - 1 - ago] {
                    Some(panel) if panel.has_parameter() => panel,
                    _ => Panel::Sum,
                };
                let wish = Wish::Name(name, meanings.len() - 1 - ago);
                let statement = meaning.named(&format!("q{name}"));
                (wish, QueryReference::named(statement, Arc::new(OfGroup(grp))).expect("it fits"))
            }
        };
        let client = &mut self.clients[at];
        client.subs.insert(sub.clone(), (wish, grp));
        client.unanswered.insert(sub.clone());
        let have = client.digests.get(&sub).copied();
        let session = client.id;
        self.handle(Event::Subscribe { session, sub, query, have });
    }

    /// Has a client's session watched by what a group's rows say. It sees that here, as it sees what it subscribes to: both
    /// are of one cut. The world runs the function as it runs any.
    pub fn watch(&mut self, at: usize, grp: i32) {
        let args = [grp.to_string(), "ann".to_owned()].map(|arg| Some(Argument::String(arg)));
        let by = QueryReference::fixed(Arc::new(Statement::identity("who()")), args.into());
        let client = &mut self.clients[at];
        client.subs.insert(IDENTITY_SUB.into(), (Wish::Panel(Panel::Linked), grp));
        client.unanswered.insert(IDENTITY_SUB.into());
        let session = client.id;
        self.handle(Event::IdentityWatched { session, by: Some(by) });
    }

    /// The project is read again, and a name means something else, or its new version is no good.
    pub fn redefine(&mut self) {
        let name = self.random.random_range(0..self.names.len());
        let said = self.random.random_range(0..1_000);
        let error = |code| QueryError::new(code, format!("the {said}th of its kind"));
        let definition = match self.random.random_range(0..8) {
            0 => Definition::Broken(error(ErrorCode::InvalidArgs)),
            1 => {
                self.names[name].push(None);
                Definition::Removed(error(ErrorCode::NotFound))
            }
            _ => {
                let panel = Panel::WISHES[self.random.random_range(0..Panel::WISHES.len())];
                self.names[name].push(Some(panel));
                Definition::Statement(panel.named(&format!("q{name}")))
            }
        };
        let redefinition = Redefinition { name: format!("q{name}"), definition };
        self.handle(Event::QueriesRedefined(vec![redefinition]));
    }

    pub fn unsubscribe(&mut self, at: usize) {
        let client = &mut self.clients[at];
        let nth = self.random.random_range(0..client.subs.len().max(1));
        let Some(sub) = client.subs.keys().nth(nth).cloned() else { return };
        if *sub == *IDENTITY_SUB {
            // No client can.
            return;
        }
        client.forget(&sub);
        // Nothing that is sent from now on names it.
        client.inbox.end(&sub);
        let session = client.id;
        self.handle(Event::Unsubscribe { session, sub });
    }

    /// What waits for a client is let go for want of memory: at once, or with the next that comes.
    pub fn lose_what_waits(&mut self, at: usize) {
        let at_once = self.random.random_bool(0.5);
        let client = &self.clients[at];
        client.inbox.lose(at_once);
        if at_once {
            let id = client.id;
            self.handle(Event::OutboxLost(id));
        }
    }

    /// Final errors that were lost are the server's to repeat.
    pub fn forget_lost(&mut self, at: usize, lost: Vec<Sent>) {
        let client = &mut self.clients[at];
        let lost = client.inbox.take_lost().into_iter().chain(lost);
        for update in lost.flat_map(|sent| sent.transition.updates) {
            if matches!(update.kind, UpdateKind::Error { last: true, .. }) {
                client.forget(&update.sub);
            }
        }
    }

    /// A client comes back over another connection; what was still on the old one may be lost.
    pub fn resume(&mut self, at: usize) {
        if self.random.random_bool(0.5) {
            self.read(at);
        }
        let now = self.now;
        let lost = self.clients[at].inbox.take();
        self.forget_lost(at, lost);
        let client = &mut self.clients[at];
        // What has been reached was told, though the client may not have got it.
        let sent = client.inbox.sent_lsn();
        client.awaits.retain(|(lsn, _)| *lsn > sent);
        // A first answer is all of a result, and so is what is told of it after an error.
        let mut has = client.digests.clone();
        has.retain(|sub, _| !client.in_error.contains(sub) && !client.unanswered.contains(sub));
        let inbox: Inbox = client.inbox.again(has);
        client.inbox = inbox.clone();
        client.awaits.iter_mut().for_each(|(_, since)| *since = now);
        let id = client.id;
        self.handle(Event::SessionResumed(id, Box::new(inbox)));
    }
}
