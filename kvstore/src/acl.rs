//! From a token to what it may do, and from that to the state as its holder sees it. Both are kept, within bounds, for
//! whoever comes next with the same.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use kvstore_core::{
    Index, State, WatchKey,
    acl::{Authority, DefaultPolicy, Rules, View},
    credentials::{ANONYMOUS, Digest, GLOBAL_MANAGEMENT, Token},
    names::TokenId,
    row::Stamped,
};
use uuid::Uuid;

/// So many tokens' authorities are kept; then all are forgotten at once.
const MAX_AUTHORITIES: usize = 4096;

/// So many authorities have a view at hand; most requests come with one of a few.
const MAX_VIEWS: usize = 64;

/// The time since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The first token, of which the configuration says the secret. Its policies are added when it is kept.
pub(crate) fn management(secret: Digest) -> Token {
    Token {
        accessor: new_token_id(),
        secret: Some(secret),
        description: "Initial Management Token".into(),
        policies: Vec::new(),
        local: false,
        made: now(),
        ends: Duration::ZERO,
    }
}

pub(crate) fn new_token_id() -> TokenId {
    TokenId::new(&Uuid::new_v4().hyphenated().to_string()).expect("it is a UUID")
}

/// A token that is valid, and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    /// What the token is called by.
    pub(crate) token: TokenId,
    /// What its policies say; none: everything.
    pub(crate) authority: Option<Authority>,
    ends: Duration,
}

/// What holders of tokens may do, and see; the same for HTTP and DNS.
#[derive(Debug, Default)]
pub(crate) struct AccessControl {
    authorities: Authorities,
    views: Views,
}

impl AccessControl {
    /// Who has the token with that secret; without one, the anonymous token. None if there is no such token.
    pub(crate) fn holder(&self, state: &State, secret: Option<Digest>, default: DefaultPolicy) -> Option<Holder> {
        self.authorities.find(state, secret, default)
    }

    /// The newest state as `authority` sees it. `newest` gives the whole one.
    pub(crate) fn see(&self, authority: &Authority, newest: impl Fn() -> Arc<State>) -> Arc<State> {
        self.views.see(authority, newest)
    }
}

/// The authorities of tokens, as long as no token and no policy changes.
#[derive(Debug, Default)]
struct Authorities(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// Of tokens and policies: the life of the registry, and the index in it.
    at: (u64, Index),
    holders: HashMap<Option<Digest>, Holder>,
}

impl Authorities {
    fn find(&self, state: &State, secret: Option<Digest>, default: DefaultPolicy) -> Option<Holder> {
        let at = (state.life(), state.index_of(&WatchKey::Acl));
        let mut known = lock(&self.0);
        if known.at != at || known.holders.len() >= MAX_AUTHORITIES {
            *known = Known { at, holders: HashMap::new() };
        }
        let kept = known.holders.get(&secret).cloned();
        let holder = kept.or_else(|| {
            let holder = holder(state, secret, default)?;
            known.holders.insert(secret, holder.clone());
            Some(holder)
        })?;
        drop(known);
        // The clock is asked only about a token that ends.
        (holder.ends.is_zero() || holder.ends > now()).then_some(holder)
    }
}

fn holder(state: &State, secret: Option<Digest>, default: DefaultPolicy) -> Option<Holder> {
    let credentials = state.credentials();
    let anonymous = TokenId::new(ANONYMOUS).expect("a constant id");
    let row = match &secret {
        Some(secret) => Some(credentials.token_of(secret)?),
        None => credentials.token(&anonymous),
    };
    let token = row.map_or(anonymous, |row| row.accessor.clone());
    let authority = row.map_or_else(|| Some(Authority::of([], default)), |row| authority(state, row, default));
    Some(Holder { token, authority, ends: row.map_or(Duration::ZERO, |row| row.ends) })
}

/// What a token's policies give; none: everything.
fn authority(state: &State, token: &Stamped<Token>, default: DefaultPolicy) -> Option<Authority> {
    if token.policies.iter().any(|policy| policy.as_str() == GLOBAL_MANAGEMENT) {
        return None;
    }
    let policies = token.policies.iter().filter_map(|id| state.credentials().policy(id));
    let rules = policies.map(|policy| Rules::parse(&policy.rules).map_err(|error| (policy, error)));
    Some(match rules.collect::<Result<Vec<_>, _>>() {
        Ok(rules) => Authority::of(&rules, default),
        Err((policy, error)) => {
            // It was checked when it was put, maybe by a version that knew more. What cannot be read may have been a
            // restriction.
            tracing::error!(policy = policy.name, %error, "a policy cannot be read; tokens that have it permit nothing");
            Authority::of([], DefaultPolicy::Deny)
        }
    })
}

/// The state as each authority sees it.
#[derive(Debug, Default)]
struct Views(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Counts uses, to tell which view was used last.
    uses: u64,
    views: HashMap<Authority, (u64, Arc<Slot>)>,
}

#[derive(Debug)]
struct Slot(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    view: View,
    state: Option<Arc<State>>,
}

impl Views {
    fn see(&self, authority: &Authority, newest: impl Fn() -> Arc<State>) -> Arc<State> {
        let slot = self.slot(authority);
        // Asked for inside the lock, so that a view never goes back.
        let mut seen = lock(&slot.0);
        let whole = newest();
        let is_of = |state: &&Arc<State>| (state.life(), state.index()) == (whole.life(), whole.index());
        if let Some(state) = seen.state.as_ref().filter(is_of) {
            return state.clone();
        }
        let state = Arc::new(seen.view.at(&whole));
        seen.state = Some(state.clone());
        state
    }

    fn slot(&self, authority: &Authority) -> Arc<Slot> {
        let mut kept = lock(&self.0);
        kept.uses += 1;
        let uses = kept.uses;
        if let Some((used, slot)) = kept.views.get_mut(authority) {
            *used = uses;
            return slot.clone();
        }
        if kept.views.len() >= MAX_VIEWS {
            let oldest = kept.views.iter().min_by_key(|(_, (used, _))| *used).map(|(authority, _)| authority.clone());
            oldest.and_then(|oldest| kept.views.remove(&oldest));
        }
        let slot = Arc::new(Slot(Mutex::new(Seen { view: View::new(authority.clone()), state: None })));
        kept.views.insert(authority.clone(), (uses, slot.clone()));
        slot
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept can be made anew, and is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
