//! Who subscribes to a live query: mostly one, sometimes very many.

use crate::session::SessionId;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A session's subscription, by its name.
pub(crate) type Subscriber = (SessionId, Arc<str>);

/// Up to so many are a list, which takes no more than they do.
const FEW_MAX: usize = 8;

/// The subscribers of one live query.
#[derive(Debug)]
pub(crate) enum Subscribers {
    Few(Vec<Subscriber>),
    Many(BTreeSet<Subscriber>),
}

impl Default for Subscribers {
    fn default() -> Self {
        Subscribers::Few(Vec::new())
    }
}

impl Subscribers {
    /// Adds a subscriber, once.
    pub fn insert(&mut self, subscriber: Subscriber) {
        match self {
            Subscribers::Many(many) => {
                many.insert(subscriber);
            }
            Subscribers::Few(few) if few.contains(&subscriber) => {}
            Subscribers::Few(few) if few.len() < FEW_MAX => {
                few.reserve_exact(1);
                few.push(subscriber);
            }
            Subscribers::Few(few) => {
                let many = few.drain(..).chain([subscriber]).collect();
                *self = Subscribers::Many(many);
            }
        }
    }

    /// Takes a subscriber off.
    pub fn remove(&mut self, subscriber: &Subscriber) {
        match self {
            Subscribers::Few(few) => few.retain(|there| there != subscriber),
            Subscribers::Many(many) => {
                many.remove(subscriber);
                // Half of the limit: a set that grows and shrinks around it does not change its form each time.
                if many.len() <= FEW_MAX / 2 {
                    *self = Subscribers::Few(std::mem::take(many).into_iter().collect());
                }
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Subscriber> {
        let (few, many) = match self {
            Subscribers::Few(few) => (Some(few.iter()), None),
            Subscribers::Many(many) => (None, Some(many.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Returns the names that a session knows the query by.
    pub fn of_session(&self, session: SessionId) -> impl Iterator<Item = &Arc<str>> {
        let (few, many) = match self {
            Subscribers::Few(few) => (Some(few.iter()), None),
            Subscribers::Many(many) => (None, Some(many.range((session, Arc::from(""))..))),
        };
        let few = few.into_iter().flatten().filter(move |(of, _)| *of == session);
        let many = many.into_iter().flatten().take_while(move |(of, _)| *of == session);
        few.chain(many).map(|(_, name)| name)
    }

    pub fn len(&self) -> usize {
        match self {
            Subscribers::Few(few) => few.len(),
            Subscribers::Many(many) => many.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn subscribers_are_a_set(steps in prop::collection::vec((any::<bool>(), 0u64..30), 1..200)) {
            let (mut subscribers, mut model) = (Subscribers::default(), BTreeSet::new());
            for (adds, number) in steps {
                let subscriber: Subscriber = (SessionId(number / 3), number.to_string().into());
                if adds {
                    subscribers.insert(subscriber.clone());
                    model.insert(subscriber);
                } else {
                    subscribers.remove(&subscriber);
                    model.remove(&subscriber);
                }
                let seen: BTreeSet<_> = subscribers.iter().cloned().collect();
                prop_assert_eq!(&seen, &model);
                for session in (0..11).map(SessionId) {
                    let names: BTreeSet<_> = subscribers.of_session(session).collect();
                    let expected = model.iter().filter(|(of, _)| *of == session);
                    prop_assert_eq!(names, expected.map(|(_, name)| name).collect());
                }
                prop_assert_eq!(subscribers.len(), model.len());
                prop_assert_eq!(subscribers.is_empty(), model.is_empty());
            }
        }
    }
}
