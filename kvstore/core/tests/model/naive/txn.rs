//! Transactions: each step as a change of its own, on what those before it left.

use std::{collections::BTreeSet, time::Duration};

use kvstore_core::{
    Command, KvVerb, Outcome, Refusal, RowVerb, Target, TxnError, TxnStep,
    row::{KvEntry, Stamped},
};

use super::Naive;

impl Naive {
    /// The words for a failure are the tables' to judge.
    pub(super) fn txn(&mut self, steps: &[TxnStep]) -> Result<Outcome, Refusal> {
        let (mut changed, mut errors) = (BTreeSet::new(), Vec::new());
        for (step, txn_step) in steps.iter().enumerate() {
            let before = self.rows();
            if self.step(|naive| naive.txn_step(txn_step)).is_err() {
                errors.push(TxnError { step, what: String::new() });
            }
            let (before, after): (BTreeSet<_>, BTreeSet<_>) =
                (before.into_iter().collect(), self.rows().into_iter().collect());
            let keys: BTreeSet<_> = before.symmetric_difference(&after).map(|(key, _)| key.clone()).collect();
            self.twice |= !changed.is_disjoint(&keys);
            changed.extend(keys);
        }
        if errors.is_empty() { Ok(Outcome::Txn(vec![])) } else { Err(Refusal::Txn(errors)) }
    }

    fn txn_step(&mut self, step: &TxnStep) -> Result<(), ()> {
        let done = |outcome: Result<Outcome, Refusal>| match outcome {
            Ok(Outcome::Done) => Ok(()),
            _ => Err(()),
        };
        let ensure = |holds: bool| if holds { Ok(()) } else { Err(()) };
        match step {
            TxnStep::Kv { verb, key, value, flags } => {
                let (key, value, flags, ttl) = (key.clone(), value.clone(), *flags, Duration::ZERO);
                let old = self.kv.get(key.as_str());
                let command = match verb.clone() {
                    KvVerb::Set => Command::KvPut { key, value, flags, cas: None, ttl },
                    KvVerb::Cas(cas) => Command::KvPut { key, value, flags, cas: Some(cas), ttl },
                    KvVerb::Lock { session, delayed } => Command::KvLock { key, value, flags, session, delayed },
                    KvVerb::Unlock(session) => Command::KvUnlock { key, value, flags, session },
                    KvVerb::Delete => Command::KvDelete { key, cas: None },
                    KvVerb::DeleteCas(cas) => Command::KvDelete { key, cas: Some(cas) },
                    KvVerb::Get => return ensure(old.is_some()),
                    KvVerb::GetOrEmpty => return Ok(()),
                    KvVerb::CheckIndex(index) => return ensure(old.is_some_and(|old| old.modified.0 == index)),
                    KvVerb::CheckSession(id) => {
                        let held = |old: &Stamped<KvEntry>| old.session.as_ref().map_or("", |s| s.as_str()) == id;
                        return ensure(old.is_some_and(held));
                    }
                    KvVerb::CheckNotExists => return ensure(old.is_none()),
                };
                done(self.change(&command))
            }
            TxnStep::KvGetTree(_) => Ok(()),
            TxnStep::KvDeleteTree(prefix) => done(self.change(&Command::KvDeleteTree { prefix: prefix.clone() })),
            TxnStep::Node { verb, name, node } => {
                let key = name.clone().expect("named in this test");
                let modified = self.nodes.get(&key).map(|old| old.modified.0);
                if !fits(*verb, modified)? {
                    return Ok(());
                }
                if deletes(*verb) {
                    self.remove(&key, &Target::Node);
                    return Ok(());
                }
                self.register(node, false, None, &[]).map_err(drop)
            }
            TxnStep::Instance { verb, node, id, instance } => {
                let modified = self.instances.get(&(node.clone(), id.clone())).map(|old| old.modified.0);
                if !fits(*verb, modified)? {
                    return Ok(());
                }
                if deletes(*verb) {
                    self.remove(node, &Target::Instance(id.clone()));
                    return Ok(());
                }
                self.need_node(node).map_err(drop)?;
                self.put_kept_instance(instance.as_deref().expect("given in this test"));
                Ok(())
            }
            TxnStep::Check { verb, node, id, check } => {
                let modified = self.checks.get(&(node.clone(), id.clone())).map(|old| old.modified.0);
                if !fits(*verb, modified)? {
                    return Ok(());
                }
                if deletes(*verb) {
                    self.remove(node, &Target::Check(id.clone()));
                    return Ok(());
                }
                let check = check.as_deref().expect("given in this test");
                self.need_node(node).map_err(drop)?;
                if let Some(of) = &check.service {
                    ensure(self.instances.contains_key(&(node.clone(), of.clone())))?;
                }
                self.put_kept_check(check, &self.checks.clone());
                Ok(())
            }
            TxnStep::Wrong { .. } => Err(()),
        }
    }
}

/// Whether there is anything to write or delete; an error if the verb does not suit the row.
fn fits(verb: RowVerb, modified: Option<u64>) -> Result<bool, ()> {
    match (verb, modified) {
        (RowVerb::Get, Some(_)) => Ok(false),
        (RowVerb::Set | RowVerb::Delete, _) | (RowVerb::DeleteCas(_), None) => Ok(true),
        (RowVerb::Cas(index), modified) if modified.unwrap_or(0) == index => Ok(true),
        (RowVerb::DeleteCas(index), Some(modified)) if modified == index => Ok(true),
        _ => Err(()),
    }
}

fn deletes(verb: RowVerb) -> bool {
    matches!(verb, RowVerb::Delete | RowVerb::DeleteCas(_))
}
