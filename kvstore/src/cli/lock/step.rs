//! Whether a lock is held, free, or somebody else's: what the keys below a prefix say. Pure.
//!
//! A lock for one is the key `PREFIX/.lock`, acquired by its holder's session. A lock for several has a key for each who
//! wants it, `PREFIX/SESSION`, acquired by its session, so that it goes with it; and in `PREFIX/.lock` stands who has got
//! a place, written by compare-and-set. Both are laid out and flagged as Consul's, whose clients take part.

use std::collections::BTreeMap;

use kvstore_client::types::KvEntry;
use serde::{Deserialize, Serialize};

/// The flags of a lock's key.
pub(super) const LOCK_FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// The flags of all keys of a lock for several.
pub(super) const SLOT_FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// What one who wants a lock does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is held already.
    Held,
    /// Others hold it: wait for a change.
    Wait,
    /// It is free: acquire the key.
    Acquire,
    /// There is a place: write this if the key's modify index is still that.
    Write(Places, u64),
}

/// Why what is there is no such lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Conflict {
    #[error("the key {0:?} is there and is no lock of this kind")]
    NoLock(String),
    #[error("the lock {key:?} is for {there} holders, not for {wanted}; -n must be the same for all")]
    Limit { key: String, there: usize, wanted: usize },
}

/// Who has got a place: the value of a lock for several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Places {
    pub(super) limit: usize,
    #[serde(default)]
    pub(super) holders: BTreeMap<String, bool>,
}

impl Places {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("it has string keys only")
    }
}

/// The next step of `session` towards the lock for one; `entry` is what the key `key` holds.
pub(super) fn of_lock(key: &str, entry: Option<&KvEntry>, session: &str) -> Result<Step, Conflict> {
    match entry {
        Some(entry) if entry.flags != LOCK_FLAGS => Err(Conflict::NoLock(key.into())),
        Some(entry) if entry.session == session => Ok(Step::Held),
        Some(entry) if !entry.session.is_empty() => Ok(Step::Wait),
        _ => Ok(Step::Acquire),
    }
}

/// The next step of `session` towards one of `limit` places; `entries` is all there is below the prefix.
pub(super) fn of_places(key: &str, entries: &[KvEntry], limit: usize, session: &str) -> Result<Step, Conflict> {
    let (mut places, index) = places(key, entries, limit)?;
    if places.limit != limit {
        return Err(Conflict::Limit { key: key.into(), there: places.limit, wanted: limit });
    }
    if places.holders.contains_key(session) {
        return Ok(Step::Held);
    }
    if places.holders.len() >= limit {
        return Ok(Step::Wait);
    }
    places.holders.insert(session.into(), true);
    Ok(Step::Write(places, index))
}

/// What to write so that `session` has no place any more; nothing if it has none.
pub(super) fn without(key: &str, entries: &[KvEntry], session: &str) -> Result<Option<(Places, u64)>, Conflict> {
    let (mut places, index) = places(key, entries, 0)?;
    Ok(places.holders.remove(session).map(|_| (places, index)))
}

/// The modify index with which the key may be removed, since nobody holds the lock or wants it.
pub(super) fn unused(key: &str, entries: &[KvEntry]) -> Option<u64> {
    let entry = entries.iter().find(|entry| entry.key == key)?;
    let alone = entries.iter().all(|entry| entry.session.is_empty());
    let ours = entry.flags == LOCK_FLAGS || entry.flags == SLOT_FLAGS;
    (alone && ours).then_some(entry.modify_index)
}

/// Who has a place and still lives, and the key's modify index; 0: there is no key yet.
fn places(key: &str, entries: &[KvEntry], limit: usize) -> Result<(Places, u64), Conflict> {
    let Some(entry) = entries.iter().find(|entry| entry.key == key) else {
        return Ok((Places { limit, holders: BTreeMap::new() }, 0));
    };
    let read = serde_json::from_slice(&entry.value).ok().filter(|_| entry.flags == SLOT_FLAGS);
    let mut places: Places = read.ok_or_else(|| Conflict::NoLock(key.into()))?;
    places.holders.retain(|holder, _| entries.iter().any(|entry| entry.session == *holder));
    Ok((places, entry.modify_index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, value: &str, flags: u64, session: &str) -> KvEntry {
        KvEntry {
            lock_index: 1,
            key: key.into(),
            flags,
            value: value.to_owned().into(),
            session: session.into(),
            create_index: 1,
            modify_index: 7,
        }
    }

    #[test]
    fn a_lock_for_one_is_its_sessions() {
        let lock = |session: &str| entry("p/.lock", "", LOCK_FLAGS, session);
        for (there, expected) in [
            (None, Ok(Step::Acquire)),
            (Some(lock("")), Ok(Step::Acquire)),
            (Some(lock("me")), Ok(Step::Held)),
            (Some(lock("other")), Ok(Step::Wait)),
            (Some(entry("p/.lock", "", 0, "")), Err(Conflict::NoLock("p/.lock".into()))),
        ] {
            assert_eq!(of_lock("p/.lock", there.as_ref(), "me"), expected, "{there:?}");
        }
    }

    /// `holders` stand in the lock's key, `alive` have keys of their own.
    fn below(holders: &str, alive: &[&str]) -> Vec<KvEntry> {
        let value = format!(r#"{{"Limit":2,"Holders":{{{holders}}}}}"#);
        let own = alive.iter().map(|session| entry(&format!("p/{session}"), "", SLOT_FLAGS, session));
        std::iter::once(entry("p/.lock", &value, SLOT_FLAGS, "")).chain(own).collect()
    }

    #[test]
    fn places_are_taken_until_there_are_none() {
        let write = |holders: &[&str], index| {
            let holders = holders.iter().map(|holder| ((*holder).to_owned(), true)).collect();
            Ok(Step::Write(Places { limit: 2, holders }, index))
        };
        for (entries, expected) in [
            (vec![], write(&["me"], 0)),
            (below("", &["me"]), write(&["me"], 7)),
            (below(r#""a":true"#, &["a", "me"]), write(&["a", "me"], 7)),
            (below(r#""a":true,"b":true"#, &["a", "b", "me"]), Ok(Step::Wait)),
            // The session of b has ended, and its key went with it.
            (below(r#""a":true,"b":true"#, &["a", "me"]), write(&["a", "me"], 7)),
            (below(r#""a":true,"me":true"#, &["a", "me"]), Ok(Step::Held)),
            // So is ours gone without its key.
            (below(r#""a":true,"me":true"#, &["a"]), write(&["a", "me"], 7)),
            (vec![entry("p/.lock", "{}", SLOT_FLAGS, "")], Err(Conflict::NoLock("p/.lock".into()))),
            (vec![entry("p/.lock", "", LOCK_FLAGS, "a")], Err(Conflict::NoLock("p/.lock".into()))),
        ] {
            assert_eq!(of_places("p/.lock", &entries, 2, "me"), expected, "{entries:?}");
        }
        let conflict = of_places("p/.lock", &below("", &[]), 3, "me").unwrap_err();
        assert_eq!(conflict, Conflict::Limit { key: "p/.lock".into(), there: 2, wanted: 3 });
    }

    #[test]
    fn a_place_is_given_back_and_the_last_one_removes_the_key() {
        let two = below(r#""a":true,"me":true"#, &["a", "me"]);
        let (left, index) = without("p/.lock", &two, "me").unwrap().unwrap();
        assert_eq!((left.holders.keys().map(String::as_str).collect::<Vec<_>>(), index), (vec!["a"], 7));
        assert_eq!(String::from_utf8(left.encode()).unwrap(), r#"{"Limit":2,"Holders":{"a":true}}"#);
        assert_eq!(without("p/.lock", &two, "b"), Ok(None));
        for (entries, expected) in [
            (below("", &[]), Some(7)),
            (below("", &["waits"]), None),
            (vec![], None),
            (vec![entry("p/.lock", "", LOCK_FLAGS, "")], Some(7)),
            (vec![entry("p/.lock", "", LOCK_FLAGS, "a")], None),
            (vec![entry("p/.lock", "", 3, "")], None),
        ] {
            assert_eq!(unused("p/.lock", &entries), expected, "{entries:?}");
        }
    }
}
