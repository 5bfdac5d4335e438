//! Keys and their locks.

use std::time::Duration;

use bytes::Bytes;

use super::{Draft, Outcome, Refusal};
use crate::{
    names::{Key, SessionId},
    row::{KvEntry, Row, RowKey},
};

impl Draft<'_> {
    pub(super) fn kv_put(&mut self, key: &Key, value: &Bytes, flags: u64, cas: Option<u64>, ttl: Duration) -> Outcome {
        let old = self.kv(key);
        if cas.is_some_and(|cas| cas != old.as_ref().map_or(0, |entry| entry.modified.0)) {
            return Outcome::NotMatched;
        }
        if !ttl.is_zero() {
            self.renew(RowKey::Kv(key.clone()), ttl);
        }
        // A plain write leaves the lock as it is.
        let (lock_index, session) = old.map_or((0, None), |old| (old.lock_index, old.session.clone()));
        let (key, value) = (key.clone(), value.clone());
        self.put(Row::Kv(KvEntry { key, value, flags, lock_index, session, ttl }));
        Outcome::Done
    }

    pub(super) fn kv_lock(
        &mut self,
        key: &Key,
        value: &Bytes,
        flags: u64,
        session: &SessionId,
        delayed: bool,
    ) -> Result<Outcome, Refusal> {
        if self.session(session).is_none_or(|session| session.ending) {
            return Err(Refusal::InvalidSession(session.clone()));
        }
        let old = self.kv(key);
        let holder = old.as_ref().and_then(|old| old.session.clone());
        if delayed || holder.as_ref().is_some_and(|holder| holder != session) {
            return Ok(Outcome::NotMatched);
        }
        let (taken, ttl) = old.map_or((0, Duration::ZERO), |old| (old.lock_index, old.ttl));
        let lock_index = if holder.is_some() { taken } else { taken + 1 };
        self.join(RowKey::Session(session.clone()));
        let (key, value, session) = (key.clone(), value.clone(), Some(session.clone()));
        self.put(Row::Kv(KvEntry { key, value, flags, lock_index, session, ttl }));
        Ok(Outcome::Done)
    }

    pub(super) fn kv_unlock(&mut self, key: &Key, value: &Bytes, flags: u64, session: &SessionId) -> Outcome {
        match self.kv(key) {
            Some(old) if old.session.as_ref() == Some(session) => {
                let value = value.clone();
                self.put(Row::Kv(KvEntry { value, flags, session: None, ..old.value.clone() }));
                Outcome::Done
            }
            _ => Outcome::NotMatched,
        }
    }

    pub(super) fn kv_delete(&mut self, key: &Key, cas: Option<u64>) -> Outcome {
        if let (Some(old), Some(cas)) = (self.kv(key), cas)
            && old.modified.0 != cas
        {
            return Outcome::NotMatched;
        }
        self.delete(&RowKey::Kv(key.clone()));
        Outcome::Done
    }

    /// A key that was written without a TTL meanwhile stays.
    pub(super) fn expire_key(&mut self, key: &Key) {
        self.rely_on_lapsed(RowKey::Kv(key.clone()));
        if self.kv(key).is_some_and(|entry| !entry.ttl.is_zero()) {
            self.delete(&RowKey::Kv(key.clone()));
        }
    }
}
