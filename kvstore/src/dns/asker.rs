//! As which token's holder questions are answered, where there is access control: DNS carries no tokens, so it is that of
//! the agent for DNS, else its default one, else the anonymous one.

use std::sync::{Arc, Mutex, PoisonError};

use kvstore_core::{
    State,
    acl::{Authority, DefaultPolicy},
};

use crate::{acl::AccessControl, http::LiveGuard};

/// Who asks by DNS.
#[derive(Debug)]
pub(crate) struct Asker {
    guard: LiveGuard,
    control: Arc<AccessControl>,
    last: Mutex<Last>,
}

/// What could be seen the last time.
#[derive(Debug, Default)]
struct Last {
    authority: Option<Authority>,
    /// How often that was another than before.
    changes: u64,
}

impl Asker {
    pub(crate) fn new(guard: LiveGuard, control: Arc<AccessControl>) -> Self {
        Self { guard, control, last: Mutex::default() }
    }

    /// What is seen of the state that `newest` gives, and how often it was another part of it than before: replies of
    /// that time are not to be given again.
    pub(super) fn see(&self, newest: impl Fn() -> Arc<State>) -> (Arc<State>, u64) {
        let (whole, guard) = (newest(), self.guard.now());
        let Some(acl) = &guard.access.acl else { return (whole, 0) };
        let secret = acl.tokens.dns.or(acl.tokens.default);
        let authority = match self.control.holder(&whole, secret, acl.default_policy) {
            Some(holder) => holder.authority,
            // A token that is not there, or not any more, lets nobody see anything.
            None => Some(Authority::of([], DefaultPolicy::Deny)),
        };
        let changes = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            last.changes += u64::from(last.authority != authority);
            last.authority.clone_from(&authority);
            last.changes
        };
        let seen = authority.map_or(whole, |authority| self.control.see(&authority, newest));
        (seen, changes)
    }
}
