//! Who asks, and what of the registry there is for them: the one way from a request to rows.
//!
//! A read gets the state as its caller sees it, in which what it may not read does not exist. A command is asked
//! whether its caller may make it before the writer gets it. The store is private to this file, so that no handler
//! gets around either.

use std::{sync::Arc, time::Duration};

use kvstore_core::{
    Command, Index, Outcome, Refusal, State, TxnError, WatchKey,
    acl::{Authority, Denied, Level, Resource},
    credentials::Digest,
    names::TokenId,
};

use super::{
    App,
    access::{Access, Standing},
    error::ApiError,
    guard::LiveGuard,
};
use crate::{
    acl::{AccessControl, Holder},
    replica::Feed,
    store::{Store, WriteError},
    waiters::Enlisted,
};

/// Who asks. The default may everything: somebody where nothing is asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    /// The token that was shown, which is looked at again while the caller waits.
    shown: Option<Digest>,
    /// Which of the registry's tokens counts.
    pub(super) token: Option<TokenId>,
    /// None: everything.
    authority: Option<Authority>,
    /// What the configuration says of it.
    standing: Standing,
}

impl Caller {
    /// # Errors
    /// [`ApiError::Denied`] if it has less than `level` on that.
    pub(super) fn require(&self, resource: Resource, name: &str, level: Level) -> Result<(), ApiError> {
        let Some(authority) = &self.authority else { return Ok(()) };
        authority.require(resource, name, level).map_err(|denied| self.named(denied).into())
    }

    /// # Errors
    /// [`ApiError`] if it may not do `command`; of a transaction, as Consul has it, a conflict that names every such step.
    fn permitted(&self, state: &State, command: &Command) -> Result<(), ApiError> {
        let Some(authority) = &self.authority else { return Ok(()) };
        let Command::Txn { steps } = command else {
            return authority.permits(state, command).map_err(|denied| self.named(denied).into());
        };
        let denied = authority.denied_steps(state, steps).into_iter();
        let errors: Vec<_> = denied.map(|(step, why)| TxnError { step, what: self.named(why).to_string() }).collect();
        if errors.is_empty() { Ok(()) } else { Err(WriteError::Refused(Refusal::Txn(errors)).into()) }
    }

    /// Whether it has at least `level` on that.
    pub(super) fn may(&self, resource: Resource, name: &str, level: Level) -> bool {
        self.authority.as_ref().is_none_or(|authority| authority.level(resource, name) >= level)
    }

    /// What it may; none: everything. Answers are shared among those who may the same.
    pub(super) fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Whether the configuration lets it write, or read.
    pub(super) fn admit(&self, writes: bool) -> Result<(), ApiError> {
        self.standing.admit(writes)
    }

    /// The token that was shown.
    pub(super) fn shown(&self) -> Option<Digest> {
        self.shown
    }

    /// With the token that lacks it.
    fn named(&self, denied: Denied) -> Denied {
        match &self.token {
            Some(token) => denied.to(token.as_str()),
            None => denied,
        }
    }
}

/// What a route asks of its caller before its handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing, not even to be known: it tells only that somebody is there, as in Consul.
    Open,
    /// To be known. What it shows are rows that the caller sees, and what it changes the caller must be permitted.
    Rows,
    /// A level on something there is one of, or on the agent of this host.
    Needs(Resource, Level),
    /// A level on what the rest of the path names.
    Named(Resource, Level),
}

impl Rule {
    pub(super) const AGENT_READ: Self = Self::Needs(Resource::Agent, Level::Read);
    pub(super) const AGENT_WRITE: Self = Self::Needs(Resource::Agent, Level::Write);
    pub(super) const OPERATOR_READ: Self = Self::Needs(Resource::Operator, Level::Read);
    pub(super) const OPERATOR_WRITE: Self = Self::Needs(Resource::Operator, Level::Write);
    pub(super) const ACL_READ: Self = Self::Needs(Resource::Acl, Level::Read);
    pub(super) const ACL_WRITE: Self = Self::Needs(Resource::Acl, Level::Write);
    pub(super) const MESH_WRITE: Self = Self::Needs(Resource::Mesh, Level::Write);

    /// # Errors
    /// [`ApiError::Denied`] if `caller` may not ask for `rest` on the agent of `node`.
    pub(super) fn check(self, caller: &Caller, node: &str, rest: &str) -> Result<(), ApiError> {
        match self {
            Self::Open | Self::Rows => Ok(()),
            Self::Needs(Resource::Agent, level) => caller.require(Resource::Agent, node, level),
            Self::Needs(resource, level) => caller.require(resource, "", level),
            Self::Named(resource, level) => caller.require(resource, rest, level),
        }
    }
}

/// The registry, as callers reach it.
#[derive(Debug)]
pub(super) struct Registry {
    store: Store,
    control: Arc<AccessControl>,
}

impl Registry {
    pub(super) fn new(store: Store, control: Arc<AccessControl>) -> Self {
        Self { store, control }
    }

    /// Who shows that token.
    ///
    /// # Errors
    /// [`ApiError::Forbidden`] if nobody may who shows it.
    pub(super) fn caller(&self, access: &Access, shown: Option<Digest>) -> Result<Caller, ApiError> {
        let standing = access.standing(shown)?;
        let authority = match (standing, &access.acl) {
            (Standing::Writer, _) => None,
            (Standing::AsPoliciesSay, Some(acl)) => {
                let secret = shown.or(acl.tokens.default);
                let holder = self.control.holder(&self.store.state(), secret, acl.default_policy);
                let Holder { token, authority, .. } = holder.ok_or(ApiError::Forbidden("ACL not found"))?;
                return Ok(Caller { shown, token: Some(token), authority, standing });
            }
            _ => Some(Authority::reader()),
        };
        Ok(Caller { shown, authority, standing, token: None })
    }

    /// Waits until the caller's token lets it do other things than now, or nothing any more.
    pub(super) async fn changed(&self, caller: &Caller, guard: &LiveGuard) {
        let mut enlisted = self.enlist(&[WatchKey::Acl]);
        loop {
            let now = self.caller(&guard.now().access, caller.shown);
            if !now.is_ok_and(|now| now.authority == caller.authority) {
                return;
            }
            enlisted.touched().await;
        }
    }

    /// The newest state, as the caller sees it.
    pub(super) fn state(&self, caller: &Caller) -> Arc<State> {
        match &caller.authority {
            None => self.store.state(),
            Some(authority) => self.control.see(authority, || self.store.state()),
        }
    }

    /// Everything, to be decided by and not to be shown.
    pub(super) fn whole(&self) -> Arc<State> {
        self.store.state()
    }

    /// As [`Store::catch_up`].
    pub(super) async fn catch_up(&self) -> Result<(), WriteError> {
        self.store.catch_up().await
    }

    /// As [`Store::silence`].
    pub(super) fn silence(&self) -> Option<Duration> {
        self.store.silence()
    }

    /// As [`Store::reach`].
    pub(super) async fn reach(&self, index: Index) {
        self.store.reach(index).await;
    }

    /// What replicas are told: every row that changes. The rule of its route is that the caller may everything.
    pub(super) fn feed(&self) -> &Feed {
        self.store.feed()
    }

    /// Takes a place among those who wait on `keys`.
    pub(super) fn enlist(&self, keys: &[WatchKey]) -> Enlisted<'_> {
        self.store.enlist(keys)
    }

    /// Carries out `command`, if the caller may.
    ///
    /// # Errors
    /// [`ApiError`]; nothing was changed.
    pub(super) async fn submit(&self, caller: &Caller, command: Command) -> Result<(Outcome, Index), ApiError> {
        caller.permitted(&self.store.state(), &command)?;
        Ok(self.store.submit(command).await?)
    }
}

impl App {
    /// Whether the tokens of the registry count.
    pub(super) fn counts_tokens(&self) -> bool {
        self.about.guard.now().access.acl.is_some()
    }

    /// The newest state, as the caller sees it.
    pub(super) fn state(&self, caller: &Caller) -> Arc<State> {
        self.registry.state(caller)
    }

    /// Carries out `command`, if the caller may.
    ///
    /// # Errors
    /// [`ApiError`]; nothing was changed.
    pub(super) async fn submit(&self, caller: &Caller, command: Command) -> Result<(Outcome, Index), ApiError> {
        self.registry.submit(caller, command).await
    }
}

#[cfg(test)]
mod tests;
