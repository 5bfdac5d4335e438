//! Hosts, instances and checks.

use std::{collections::HashSet, sync::Arc};

use super::{Draft, Refusal};
use crate::{
    Target,
    health::Status,
    names::{CheckId, InstanceId, NodeKey},
    row::{Check, Instance, Node, Owner, Probe, Row, RowKey, RowRange, Stamped},
};

/// The check by which an agent shows that it lives.
const SERF_HEALTH: &str = "serfHealth";

impl Draft<'_> {
    pub(super) fn register(
        &mut self,
        node: &Node,
        keep_node: bool,
        instance: Option<&Instance>,
        checks: &[Check],
    ) -> Result<(), Refusal> {
        let key = node.key();
        let old = self.node(&key);
        if !(keep_node && old.is_some()) {
            self.claim_name(&key, node)?;
            // A host that does not say its id keeps the one it had.
            let id =
                if node.id.is_empty() { old.map_or_else(String::new, |old| old.id.clone()) } else { node.id.clone() };
            self.put(Row::Node(Node { id, ..node.clone() }));
        }
        if let Some(instance) = instance {
            let row = self.kept_instance(instance);
            self.put(Row::Instance(row));
        }
        for check in checks {
            if let Some(of) = &check.service
                && instance.is_none_or(|i| i.id != *of)
                && self.instance(&key, of).is_none()
            {
                let (instance, check) = (of.clone(), check.id.clone());
                return Err(Refusal::CatalogCheckOfUnknownInstance { instance, check });
            }
        }
        for check in last_of_each(checks) {
            let row = self.kept_check(check);
            self.put_heard(row);
        }
        Ok(())
    }

    /// Puts a check that was heard of: if it has a TTL, that begins anew.
    pub(super) fn put_heard(&mut self, check: Check) {
        if let Some(ttl) = check.ttl() {
            self.renew(RowKey::Check(check.node.clone(), check.id.clone()), ttl);
        }
        self.put(Row::Check(check));
    }

    /// What the catalog says of an instance that its host's agent has put: the agent keeps it.
    pub(super) fn kept_instance(&mut self, new: &Instance) -> Instance {
        match self.instance(&new.node, &new.id) {
            Some(old) if (old.owner, new.owner) == (Owner::Agent, Owner::External) => {
                Instance { owner: old.owner, from_file: old.from_file, ..new.clone() }
            }
            _ => new.clone(),
        }
    }

    /// The same of a check, which the agent goes on running.
    pub(super) fn kept_check(&mut self, new: &Check) -> Check {
        match self.check(&new.node, &new.id) {
            Some(old) if (old.owner, new.owner) == (Owner::Agent, Owner::External) => Check {
                owner: old.owner,
                from_file: old.from_file,
                probe: old.probe.clone(),
                kind: old.kind.clone(),
                interval: old.interval.clone(),
                timeout: old.timeout.clone(),
                ..new.clone()
            },
            _ => new.clone(),
        }
    }

    /// The same id under a new name is a rename; a name that a live host of another id holds is refused.
    fn claim_name(&mut self, key: &NodeKey, node: &Node) -> Result<(), Refusal> {
        if node.id.is_empty() {
            return Ok(());
        }
        if let Some(old) = self.node(key)
            && !old.id.is_empty()
            && old.id != node.id
        {
            let serf = CheckId::new(SERF_HEALTH).expect("a constant name");
            if self.check(key, &serf).is_some_and(|check| check.status == Status::Passing) {
                let (name, id, address) = (node.name.clone(), old.id.clone(), old.address.clone());
                return Err(Refusal::NodeNameTaken { name, id, address });
            }
        }
        let named_before = self.state().node_by_id.get(&node.id).filter(|old| *old != key).cloned();
        if let Some(old) = named_before {
            self.delete_range(&RowRange::Node(old));
        }
        Ok(())
    }

    pub(super) fn register_instance(
        &mut self,
        instance: &Instance,
        checks: &[Check],
        replace_checks: bool,
    ) -> Result<(), Refusal> {
        if self.node(&instance.node).is_none() {
            return Err(Refusal::UnknownNode(instance.node.clone()));
        }
        self.put(Row::Instance(instance.clone()));
        if replace_checks {
            let kept: HashSet<_> = checks.iter().map(|check| &check.id).collect();
            self.delete_checks(&instance.node, &instance.id, |check| !kept.contains(check));
        }
        for check in last_of_each(checks) {
            self.put_keeping_state(check);
        }
        Ok(())
    }

    pub(super) fn register_check(&mut self, check: &Check) -> Result<(), Refusal> {
        if self.node(&check.node).is_none() {
            return Err(Refusal::UnknownNode(check.node.clone()));
        }
        if let Some(id) = &check.service
            && self.instance(&check.node, id).is_none_or(|instance| instance.owner != Owner::Agent)
        {
            return Err(Refusal::CheckOfUnknownInstance(id.clone()));
        }
        self.put_keeping_state(check);
        Ok(())
    }

    /// A check that is registered anew goes on where it was.
    fn put_keeping_state(&mut self, check: &Check) {
        let row = match self.check(&check.node, &check.id) {
            Some(old) => Check { status: old.status, output: old.output.clone(), ..check.clone() },
            None => check.clone(),
        };
        self.put_heard(row);
    }

    pub(super) fn deregister(&mut self, node: &NodeKey, target: &Target) {
        match target {
            Target::Node => self.delete_range(&RowRange::Node(node.clone())),
            Target::Instance(id) => self.delete_instance(node, id),
            Target::Check(id) => self.delete(&RowKey::Check(node.clone(), id.clone())),
        }
    }

    pub(super) fn deregister_own(&mut self, node: &NodeKey, target: &Target) -> Result<(), Refusal> {
        match target {
            Target::Node => Err(Refusal::UnknownNode(node.clone())),
            Target::Instance(id) => {
                if self.instance(node, id).is_none_or(|i| i.owner != Owner::Agent) {
                    return Err(Refusal::UnknownInstance(id.clone()));
                }
                self.delete_instance(node, id);
                Ok(())
            }
            Target::Check(id) => {
                self.own_check(node, id)?;
                self.delete(&RowKey::Check(node.clone(), id.clone()));
                Ok(())
            }
        }
    }

    pub(super) fn undefine(&mut self, node: &NodeKey, target: &Target) {
        match target {
            Target::Node => {}
            Target::Instance(id) => {
                if self.instance(node, id).is_some_and(|instance| instance.from_file) {
                    self.delete_instance(node, id);
                }
            }
            Target::Check(id) => {
                if self.check(node, id).is_some_and(|check| check.from_file) {
                    self.delete(&RowKey::Check(node.clone(), id.clone()));
                }
            }
        }
    }

    pub(super) fn delete_instance(&mut self, node: &NodeKey, id: &InstanceId) {
        self.delete_checks(node, id, |_| true);
        self.delete(&RowKey::Instance(node.clone(), id.clone()));
    }

    fn delete_checks(&mut self, node: &NodeKey, of: &InstanceId, which: impl Fn(&CheckId) -> bool) {
        self.rely_on_range(RowRange::Node(node.clone()));
        let checks = self.state().checks_of(node, Some(of)).map(|check| check.id.clone());
        let doomed: Vec<_> = checks.filter(which).collect();
        for check in doomed {
            self.delete(&RowKey::Check(node.clone(), check));
        }
    }

    pub(super) fn report_ttl(
        &mut self,
        node: &NodeKey,
        check: &CheckId,
        status: Status,
        output: &str,
    ) -> Result<(), Refusal> {
        let old = self.own_check(node, check)?;
        if old.ttl().is_none() {
            return Err(Refusal::NotTtl(check.clone()));
        }
        self.put_heard(Check { status, output: output.into(), ..old.value.clone() });
        Ok(())
    }

    pub(super) fn reap(&mut self, node: &NodeKey, check: &CheckId, probe: &Arc<Probe>) {
        if let Some(old) = self.check(node, check)
            && let Some(instance) = &old.service
            && old.status == Status::Critical
            && old.probe.as_ref() == Some(probe)
        {
            self.delete_instance(node, instance);
        }
    }

    pub(super) fn probe_result(
        &mut self,
        node: &NodeKey,
        check: &CheckId,
        probe: &Arc<Probe>,
        status: Status,
        output: &str,
    ) {
        if let Some(old) = self.check(node, check)
            && old.probe.as_ref() == Some(probe)
        {
            self.put(Row::Check(Check { status, output: output.into(), ..old.value.clone() }));
        }
    }

    pub(super) fn expire_ttl(&mut self, node: &NodeKey, id: &CheckId) {
        // Another kind of check may have taken its place meanwhile.
        if let Some(old) = self.check(node, id)
            && old.ttl().is_some()
            && old.status != Status::Critical
        {
            self.rely_on_lapsed(RowKey::Check(node.clone(), id.clone()));
            let output = if id.as_str() == SERF_HEALTH {
                "Agent not live or unreachable".into()
            } else {
                format!("TTL expired (last output before timeout follows): {}", old.output)
            };
            self.put(Row::Check(Check { status: Status::Critical, output, ..old.value.clone() }));
        }
    }

    fn own_check(&mut self, node: &NodeKey, id: &CheckId) -> Result<Arc<Stamped<Check>>, Refusal> {
        match self.check(node, id) {
            Some(check) if check.owner == Owner::Agent => Ok(check),
            _ => Err(Refusal::UnknownCheck(id.clone())),
        }
    }
}

/// Of two checks with one id the later counts.
fn last_of_each(checks: &[Check]) -> impl Iterator<Item = &Check> {
    let mut seen = HashSet::new();
    let mut last: Vec<_> = checks.iter().rev().filter(|check| seen.insert(&check.id)).collect();
    last.reverse();
    last.into_iter()
}
