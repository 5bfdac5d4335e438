//! Sessions: how they begin, and everything that ends them.

use super::{Draft, Refusal};
use crate::{
    health::Status,
    names::{CheckId, Key, NodeKey, SessionId},
    row::{Behavior, KvEntry, Row, RowKey, Session},
};

/// What a session that ends in steps gives back in one of them: so many rows, and so many bytes of values, which etcd
/// takes in one transaction.
const STEP_ROWS: usize = 40;
const STEP_BYTES: usize = 768 << 10;

impl Draft<'_> {
    pub(super) fn create_session(&mut self, session: &Session) -> Result<(), Refusal> {
        if self.node(&session.node).is_none() {
            return Err(Refusal::SessionOnUnknownNode(session.node.clone()));
        }
        for id in session.checks() {
            match self.check(&session.node, id) {
                None => return Err(Refusal::SessionOfUnknownCheck(id.clone())),
                Some(check) if check.status == Status::Critical => {
                    return Err(Refusal::SessionOfCriticalCheck(id.clone()));
                }
                Some(_) => {}
            }
        }
        self.put(Row::Session(session.clone()));
        self.join(RowKey::Node(session.node.clone()));
        self.renew_deadline_of(session);
        Ok(())
    }

    pub(super) fn renew_session(&mut self, id: &SessionId) -> Result<(), Refusal> {
        let session = self.session(id).filter(|session| !session.ending);
        let session = session.ok_or_else(|| Refusal::UnknownSession(id.clone()))?;
        self.renew_deadline_of(&session);
        Ok(())
    }

    fn renew_deadline_of(&mut self, session: &Session) {
        if let Some(lifetime) = session.lifetime() {
            self.renew(RowKey::Session(session.id.clone()), lifetime);
        }
    }

    pub(super) fn expire_session(&mut self, id: &SessionId) {
        // One that is ending does so whether it is renewed or not.
        if self.session(id).is_some_and(|session| !session.ending) {
            self.rely_on_lapsed(RowKey::Session(id.clone()));
        }
        self.end_session(id);
    }

    /// Gives back every lock that the session holds, by its own rule, and takes it away with the prepared queries that are
    /// bound to it; in steps, only some of them.
    pub(super) fn end_session(&mut self, id: &SessionId) {
        let Some(session) = self.session(id) else { return };
        self.rely_on_joined(RowKey::Session(id.clone()));
        if session.ending {
            self.end_further(&session);
        } else if self.in_steps {
            self.put(Row::Session(Session { ending: true, ..session.value.clone() }));
            self.ends_further(id);
        } else {
            let held: Vec<_> = self.state().held_by(id).cloned().collect();
            self.give_back(&session, &held);
            self.end_queries_of(id, usize::MAX);
            self.delete(&RowKey::Session(id.clone()));
        }
    }

    /// Gives back as much as makes a small change; with the last of it the session goes.
    fn end_further(&mut self, session: &Session) {
        let held = self.some_held_by(&session.id);
        self.give_back(session, &held);
        if self.state().held_by(&session.id).next().is_some() || self.end_queries_of(&session.id, STEP_ROWS) {
            self.ends_further(&session.id);
        } else {
            self.delete(&RowKey::Session(session.id.clone()));
        }
    }

    /// At least one key, if the session holds any.
    fn some_held_by(&mut self, id: &SessionId) -> Vec<Key> {
        let state = self.state();
        let mut bytes = 0;
        let fits = |key: &&Key| {
            let first = bytes == 0;
            bytes += 1 + state.key(key).map_or(0, |entry| entry.value.value.len());
            first || bytes <= STEP_BYTES
        };
        state.held_by(id).take_while(fits).take(STEP_ROWS).cloned().collect()
    }

    fn give_back(&mut self, session: &Session, keys: &[Key]) {
        for key in keys {
            let Some(entry) = self.kv(key) else { continue };
            match session.behavior {
                Behavior::Release => self.put(Row::Kv(KvEntry { session: None, ..entry.value.clone() })),
                Behavior::Delete => self.delete(&RowKey::Kv(key.clone())),
            }
            self.free(key, session.lock_delay);
        }
    }

    /// Ends the sessions that depend on a check which is critical or gone.
    pub(super) fn end_sessions_of_check(&mut self, node: &NodeKey, check: &CheckId) {
        self.end_sessions(node, |session| session.checks().any(|id| id == check));
    }

    /// Ends the sessions of a host that is gone.
    pub(super) fn end_sessions_on(&mut self, node: &NodeKey) {
        self.end_sessions(node, |_| true);
    }

    fn end_sessions(&mut self, node: &NodeKey, ends: impl Fn(&Session) -> bool) {
        self.rely_on_joined(RowKey::Node(node.clone()));
        let sessions = self.state().sessions_on(node).filter(|session| !session.ending && ends(session));
        let ids: Vec<_> = sessions.map(|session| session.id.clone()).collect();
        for id in ids {
            self.end_session(&id);
        }
    }
}
