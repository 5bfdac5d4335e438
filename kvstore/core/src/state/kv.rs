//! Reads of keys, of sessions, and of the locks that these hold on those.

use std::{sync::Arc, time::Duration};

use super::{State, from};
use crate::{
    Changes, Op, Put,
    names::{Key, NodeKey, SessionId},
    row::{KvEntry, Row, RowKey, Session, Stamped},
};

impl State {
    /// A key of the KV store.
    pub fn key(&self, key: &Key) -> Option<&Arc<Stamped<KvEntry>>> {
        self.kv.get(key)
    }

    /// Every key that begins with `prefix`, in order of bytes.
    pub fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Stamped<KvEntry>>> + use<'a> {
        from(&self.kv, prefix).map(|(_, entry)| entry).take_while(move |entry| entry.key.as_str().starts_with(prefix))
    }

    /// A session.
    pub fn session(&self, id: &SessionId) -> Option<&Arc<Stamped<Session>>> {
        self.sessions.get(id)
    }

    /// Every session, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Stamped<Session>>> {
        self.sessions.values()
    }

    /// The sessions of a host, by id.
    pub fn sessions_on(&self, node: &NodeKey) -> impl Iterator<Item = &Arc<Stamped<Session>>> {
        self.sessions_on.get(node).into_iter().flatten().filter_map(|id| self.session(id))
    }

    /// The keys whose lock a session holds, in order of bytes.
    pub fn held_by(&self, session: &SessionId) -> impl Iterator<Item = &Key> {
        self.held_by.get(session).into_iter().flatten()
    }

    /// The keys whose locks `changes` tear from sessions that end, each with the time for which nobody may lock it.
    pub fn freed_by(&self, changes: &Changes) -> Vec<(Key, Duration)> {
        let is_ending = |id: &SessionId| self.session(id).is_some_and(|session| session.ending);
        let torn = changes.ops.iter().flat_map(|op| match op {
            Op::Delete(RowKey::Session(id)) if !is_ending(id) => self.held_by(id).cloned().collect(),
            Op::Put(Put { row: Row::Kv(KvEntry { key, session: None, .. }), .. }) | Op::Delete(RowKey::Kv(key)) => {
                let held = self.key(key).and_then(|entry| entry.session.as_ref()).is_some_and(is_ending);
                if held { vec![key.clone()] } else { vec![] }
            }
            _ => vec![],
        });
        let delayed = torn.filter_map(|key| {
            let delay = self.session(self.key(&key)?.session.as_ref()?)?.lock_delay;
            (!delay.is_zero()).then_some((key, delay))
        });
        delayed.collect()
    }
}
