//! Sessions: how they begin, and everything that ends them.

use super::{Draft, Refusal};
use crate::{
    health::Status,
    names::{CheckId, NodeKey, SessionId},
    row::{Behavior, KvEntry, Row, RowKey, Session},
};

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
        let session = self.session(id).ok_or_else(|| Refusal::UnknownSession(id.clone()))?;
        self.renew_deadline_of(&session);
        Ok(())
    }

    fn renew_deadline_of(&mut self, session: &Session) {
        if let Some(lifetime) = session.lifetime() {
            self.renew(RowKey::Session(session.id.clone()), lifetime);
        }
    }

    pub(super) fn expire_session(&mut self, id: &SessionId) {
        self.rely_on_lapsed(RowKey::Session(id.clone()));
        self.end_session(id);
    }

    /// Gives back every lock that the session holds, by its own rule, and takes it away with the prepared queries that are
    /// bound to it.
    pub(super) fn end_session(&mut self, id: &SessionId) {
        let Some(session) = self.session(id) else { return };
        self.rely_on_joined(RowKey::Session(id.clone()));
        let held: Vec<_> = self.state().held_by(id).cloned().collect();
        for key in held {
            let Some(entry) = self.kv(&key) else { continue };
            match session.behavior {
                Behavior::Release => self.put(Row::Kv(KvEntry { session: None, ..entry.value.clone() })),
                Behavior::Delete => self.delete(&RowKey::Kv(key.clone())),
            }
            self.free(&key, session.lock_delay);
        }
        self.end_queries_of(id);
        self.delete(&RowKey::Session(id.clone()));
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
        let sessions = self.state().sessions_on(node).filter(|session| ends(session));
        let ids: Vec<_> = sessions.map(|session| session.id.clone()).collect();
        for id in ids {
            self.end_session(&id);
        }
    }
}
