//! What a registry's keys do, as objects whose histories can be judged ([`crate::linearizable`]). Pure.

use std::collections::BTreeSet;

use crate::linearizable::Object;

/// A key whose every value is another; `None` while it is absent.
pub struct Register;

/// What is asked of a [`Register`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnRegister {
    /// It was read, and this was there.
    Read(Option<u64>),
    /// It was written.
    Put(u64),
    /// It was to be written if this was there.
    Cas {
        /// What was to be there.
        expected: Option<u64>,
        /// What was to come.
        new: u64,
        /// Whether it was written; `None` if nobody knows.
        done: Option<bool>,
    },
}

impl Object for Register {
    type State = Option<u64>;
    type Operation = OnRegister;

    fn step(state: &Self::State, operation: &Self::Operation) -> Option<Self::State> {
        match operation {
            OnRegister::Read(seen) => (seen == state).then_some(*state),
            OnRegister::Put(new) => Some(Some(*new)),
            OnRegister::Cas { expected, done: Some(false), .. } => (expected != state).then_some(*state),
            OnRegister::Cas { expected, new, .. } => (expected == state).then_some(Some(*new)),
        }
    }

    fn is_blind(operation: &Self::Operation) -> bool {
        matches!(operation, OnRegister::Put(_))
    }
}

/// A key that sessions lock. A session ends once and comes never back.
pub struct Lock;

/// What is asked of a [`Lock`] by the session of this number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnLock {
    /// It wanted the lock; whether it has got it.
    Acquire(u64, Option<bool>),
    /// It gave it back; whether it had it.
    Release(u64, Option<bool>),
    /// It was ended; whether it was, or nobody knows.
    End(u64, Option<bool>),
    /// This session was seen to hold it.
    Holder(Option<u64>),
}

/// Who holds it, and who has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Held {
    holder: Option<u64>,
    ended: BTreeSet<u64>,
}

impl Object for Lock {
    type State = Held;
    type Operation = OnLock;

    fn step(state: &Held, operation: &OnLock) -> Option<Held> {
        let Held { holder, ended } = state;
        let holding = |holder| Held { holder, ended: ended.clone() };
        match *operation {
            OnLock::Acquire(session, Some(false)) => {
                holder.is_some_and(|holder| holder != session).then(|| state.clone())
            }
            OnLock::Acquire(session, _) => {
                let may = !ended.contains(&session) && holder.is_none_or(|holder| holder == session);
                may.then(|| holding(Some(session)))
            }
            OnLock::Release(session, Some(false)) => (*holder != Some(session)).then(|| state.clone()),
            OnLock::Release(session, _) => (*holder == Some(session)).then(|| holding(None)),
            // Without the lock, that it may have ended shows in nothing.
            OnLock::End(session, None) if *holder != Some(session) => None,
            OnLock::End(session, _) => {
                let mut state = holding(holder.filter(|holder| *holder != session));
                state.ended.insert(session);
                Some(state)
            }
            OnLock::Holder(seen) => (seen == *holder).then(|| state.clone()),
        }
    }
}
