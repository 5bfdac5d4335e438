//! Steps that are made all or none.

use std::time::Duration;

use super::{Draft, Outcome, Refusal};
use crate::{
    KvVerb, RowVerb, TxnError, TxnResult, TxnStep,
    names::{CheckId, InstanceId, Key, NodeKey},
    row::{Check, Instance, Node, Row, RowKey, RowRange},
};

/// Why a step failed, in Consul's words.
type Failure = String;

impl Draft<'_> {
    pub(super) fn txn(&mut self, steps: &[TxnStep]) -> Result<Vec<TxnResult>, Refusal> {
        let (mut results, mut errors) = (Vec::new(), Vec::new());
        for (place, step) in steps.iter().enumerate() {
            if let Err(what) = self.step(step, &mut results) {
                errors.push(TxnError { step: place, what });
            }
        }
        if errors.is_empty() { Ok(results) } else { Err(Refusal::Txn(errors)) }
    }

    fn step(&mut self, step: &TxnStep, results: &mut Vec<TxnResult>) -> Result<(), Failure> {
        match step {
            TxnStep::Kv { verb, key, value, flags } => results.extend(self.kv_step(verb, key, value, *flags)?),
            TxnStep::KvGetTree(prefix) => {
                self.rely_on_range(RowRange::KvPrefix(prefix.clone()));
                let keys: Vec<_> = self.state().keys(prefix).map(|entry| entry.key.clone()).collect();
                // One by one too, since none may be gone either.
                let entries: Vec<_> = keys.iter().filter_map(|key| self.kv(key)).collect();
                results.extend(entries.into_iter().map(|entry| TxnResult::Kv { entry, with_value: true }));
            }
            TxnStep::KvDeleteTree(prefix) => self.delete_range(&RowRange::KvPrefix(prefix.clone())),
            TxnStep::Node { verb, name, node } => results.extend(self.node_step(*verb, name.as_ref(), node)?),
            TxnStep::Instance { verb, node, id, instance } => {
                results.extend(self.instance_step(*verb, node, id, instance.as_deref())?);
            }
            TxnStep::Check { verb, node, id, check } => {
                results.extend(self.check_step(*verb, node, id, check.as_deref())?);
            }
            TxnStep::Wrong { what } => return Err(what.clone()),
        }
        Ok(())
    }

    fn kv_step(
        &mut self,
        verb: &KvVerb,
        key: &Key,
        value: &bytes::Bytes,
        flags: u64,
    ) -> Result<Option<TxnResult>, Failure> {
        let name = key.as_str();
        match verb {
            KvVerb::Set => self.kv_put(key, value, flags, None, Duration::ZERO),
            KvVerb::Cas(index) => self
                .kv_put(key, value, flags, Some(*index), Duration::ZERO)
                .or(|| format!("failed to set key {name:?}, index is stale"))?,
            KvVerb::Lock { delayed: true, .. } => return Err(format!("failed to lock key {name:?} due to lock delay")),
            KvVerb::Lock { session, delayed } => self
                .kv_lock(key, value, flags, session, *delayed)
                .map_err(|_| format!("invalid session {:?}", session.as_str()))?
                .or(|| format!("failed to lock key {name:?}, lock is already held"))?,
            KvVerb::Unlock(session) => self
                .kv_unlock(key, value, flags, session)
                .or(|| format!("failed to unlock key {name:?}, lock isn't held, or is held by another session"))?,
            KvVerb::Delete | KvVerb::DeleteCas(_) => {
                let cas = if let KvVerb::DeleteCas(index) = verb { Some(*index) } else { None };
                self.kv_delete(key, cas).or(|| format!("failed to delete key {name:?}, index is stale"))?;
                return Ok(None);
            }
            KvVerb::CheckNotExists if self.kv(key).is_some() => return Err(format!("key {name:?} exists")),
            KvVerb::CheckNotExists => return Ok(None),
            KvVerb::GetOrEmpty if self.kv(key).is_none() => return Ok(Some(TxnResult::NoSuchKey(key.clone()))),
            KvVerb::CheckIndex(index) => self.check_index(key, *index)?,
            KvVerb::CheckSession(session) => self.check_session(key, session)?,
            KvVerb::Get | KvVerb::GetOrEmpty => Outcome::Done,
        };
        let entry = self.kv(key).ok_or_else(|| format!("key {name:?} doesn't exist"))?;
        Ok(Some(TxnResult::Kv { entry, with_value: matches!(verb, KvVerb::Get | KvVerb::GetOrEmpty) }))
    }

    fn check_index(&mut self, key: &Key, index: u64) -> Result<Outcome, Failure> {
        let name = key.as_str();
        let entry = self.kv(key).ok_or_else(|| format!("failed to check index, key {name:?} doesn't exist"))?;
        if entry.modified.0 == index {
            return Ok(Outcome::Done);
        }
        Err(format!("failed index check for key {name:?}, current modify index {} != {index}", entry.modified))
    }

    fn check_session(&mut self, key: &Key, session: &str) -> Result<Outcome, Failure> {
        let name = key.as_str();
        let entry = self.kv(key).ok_or_else(|| format!("failed to check session, key {name:?} doesn't exist"))?;
        let holder = entry.session.as_ref().map_or("", |holder| holder.as_str());
        if holder == session {
            return Ok(Outcome::Done);
        }
        Err(format!("failed session check for key {name:?}, current session {holder:?} != {session:?}"))
    }

    fn node_step(&mut self, verb: RowVerb, name: Option<&NodeKey>, node: &Node) -> Result<Option<TxnResult>, Failure> {
        let by_id = self.state().node_by_id.get(&node.id).cloned();
        let key = name.cloned().or(by_id).ok_or_else(|| format!("node {:?} doesn't exist", node.id))?;
        let old = self.node(&key);
        let modified = old.as_ref().map(|old| old.modified.0);
        match verb {
            RowVerb::Get => {}
            RowVerb::Set => self.register(node, false, None, &[]).map_err(|refusal| refusal.to_string())?,
            RowVerb::Cas(index) => {
                matches(modified.unwrap_or(0), index, || format!("failed to set node {key:?}, index is stale"))?;
                self.register(node, false, None, &[]).map_err(|refusal| refusal.to_string())?;
            }
            RowVerb::Delete | RowVerb::DeleteCas(_) => {
                delete_matches(verb, modified, || format!("failed to delete node {key:?}, index is stale"))?;
                self.delete_range(&RowRange::Node(key));
                return Ok(None);
            }
        }
        let row = self.node(&key).ok_or_else(|| format!("node {key:?} doesn't exist"))?;
        Ok(Some(TxnResult::Node(row)))
    }

    fn instance_step(
        &mut self,
        verb: RowVerb,
        node: &NodeKey,
        id: &InstanceId,
        instance: Option<&Instance>,
    ) -> Result<Option<TxnResult>, Failure> {
        let old = self.instance(node, id);
        let modified = old.as_ref().map(|old| old.modified.0);
        let stale = |what: &str| format!("failed to {what} service {id:?} on node {node:?}, index is stale");
        match verb {
            RowVerb::Get => {}
            RowVerb::Delete | RowVerb::DeleteCas(_) => {
                delete_matches(verb, modified, || stale("delete"))?;
                self.delete_instance(node, id);
                return Ok(None);
            }
            RowVerb::Set | RowVerb::Cas(_) => {
                if let RowVerb::Cas(index) = verb {
                    matches(modified.unwrap_or(0), index, || stale("set"))?;
                }
                self.node(node).ok_or("Missing node registration")?;
                let row = self.kept_instance(instance.ok_or("Missing service")?);
                self.put(Row::Instance(row));
            }
        }
        let row = self.instance(node, id);
        Ok(Some(TxnResult::Instance(row.ok_or_else(|| format!("service {id:?} on node {node:?} doesn't exist"))?)))
    }

    fn check_step(
        &mut self,
        verb: RowVerb,
        node: &NodeKey,
        id: &CheckId,
        check: Option<&Check>,
    ) -> Result<Option<TxnResult>, Failure> {
        let old = self.check(node, id);
        let modified = old.as_ref().map(|old| old.modified.0);
        let stale = |what: &str| format!("failed to {what} check {id:?} on node {node:?}, index is stale");
        match verb {
            RowVerb::Get => {}
            RowVerb::Delete | RowVerb::DeleteCas(_) => {
                delete_matches(verb, modified, || stale("delete"))?;
                self.delete(&RowKey::Check(node.clone(), id.clone()));
                return Ok(None);
            }
            RowVerb::Set | RowVerb::Cas(_) => {
                if let RowVerb::Cas(index) = verb {
                    matches(modified.unwrap_or(0), index, || stale("set"))?;
                }
                self.set_check(node, check.ok_or("Missing check")?)?;
            }
        }
        let row = self.check(node, id);
        Ok(Some(TxnResult::Check(row.ok_or_else(|| format!("check {id:?} on node {node:?} doesn't exist"))?)))
    }

    fn set_check(&mut self, node: &NodeKey, check: &Check) -> Result<(), Failure> {
        self.node(node).ok_or("Missing node registration")?;
        if let Some(of) = &check.service {
            self.instance(node, of).ok_or("Missing service registration")?;
        }
        let row = self.kept_check(check);
        self.put_heard(row);
        Ok(())
    }
}

impl Outcome {
    fn or(self, failure: impl FnOnce() -> Failure) -> Result<Self, Failure> {
        if self == Self::NotMatched { Err(failure()) } else { Ok(self) }
    }
}

fn matches(current: u64, wanted: u64, failure: impl FnOnce() -> Failure) -> Result<(), Failure> {
    if current == wanted { Ok(()) } else { Err(failure()) }
}

/// What is absent is deleted already.
fn delete_matches(verb: RowVerb, modified: Option<u64>, failure: impl FnOnce() -> Failure) -> Result<(), Failure> {
    match (verb, modified) {
        (RowVerb::DeleteCas(index), Some(modified)) => matches(modified, index, failure),
        _ => Ok(()),
    }
}
