//! What a command would change, or why not. Reads rows, changes nothing.

use std::collections::HashSet;

use crate::{
    Command, Index, State, Target,
    health::Status,
    names::{CheckId, InstanceId, NodeKey},
    row::{Check, Instance, KvEntry, Node, Owner, ProbeKind, Row, RowKey, RowRange, Stamped},
};

/// The check by which an agent shows that it lives.
const SERF_HEALTH: &str = "serfHealth";

/// A row to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The content.
    pub row: Row,
    /// When the row was created; `None`: by this change.
    pub created: Option<Index>,
}

/// Something a decision relied on. If it no longer holds when the decision is committed, the decision is void.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The row was last modified at this index.
    Row(RowKey, Index),
    /// There is no such row.
    Absent(RowKey),
    /// No row in the range was put or deleted after this index.
    Unchanged(RowRange, Index),
}

/// One step of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // nearly every step is a put
pub enum Op {
    /// Writes a row.
    Put(Put),
    /// Takes a row away.
    Delete(RowKey),
    /// Takes every row of a range away.
    DeleteRange(RowRange),
}

/// What a command changes; empty if all is already as wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What was read to decide.
    pub expects: Vec<Expect>,
    /// The steps, in order, all or none; a later one may concern the row of an earlier one.
    pub ops: Vec<Op>,
    /// Their index is above this one too: it was given out in another life of the registry.
    pub above: Index,
}

impl Changes {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Their index, if `last` was that of the change before.
    #[must_use]
    pub fn index_after(&self, last: Index) -> Index {
        last.max(self.above).next()
    }
}

/// How a command ended, if it was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As wanted.
    Done,
    /// Its compare-and-set did not match; nothing changed.
    NotMatched,
}

/// A command's changes and how it ends once they are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to commit.
    pub changes: Changes,
    /// What to answer.
    pub outcome: Outcome,
}

/// Why a command is refused; nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The agent has no such instance.
    #[error("Unknown service ID {0:?}. Ensure that the service ID is passed, not the service name.")]
    UnknownInstance(InstanceId),
    /// The agent has no such check.
    #[error("Unknown check ID {0:?}. Ensure that the check ID is passed, not the check name.")]
    UnknownCheck(CheckId),
    /// A check for an instance that the agent does not have.
    #[error("ServiceID {0:?} does not exist")]
    CheckOfUnknownInstance(InstanceId),
    /// A catalog check for an instance that its node does not have.
    #[error("Unknown service ID '{instance}' for check ID '{check}'")]
    CatalogCheckOfUnknownInstance {
        /// The instance it names.
        instance: InstanceId,
        /// The check.
        check: CheckId,
    },
    /// A report for a check that is probed, not reported.
    #[error("CheckID {0:?} does not have associated TTL")]
    NotTtl(CheckId),
    /// Nothing is known of the node.
    #[error("Unknown node {0:?}")]
    UnknownNode(NodeKey),
    /// The name belongs to another node, which is alive.
    #[error("Node name {name} is reserved by node {id} with name {name} ({address})")]
    NodeNameTaken {
        /// The name.
        name: String,
        /// The UUID of its owner.
        id: String,
        /// The address of its owner.
        address: String,
    },
    /// Others changed what the command relied on, again and again.
    #[error("the rows changed while the command was decided; try again")]
    Conflict,
}

/// What `command` would do to `state`.
///
/// # Errors
/// The [`Refusal`], in which case the command changes nothing.
pub fn decide(state: &State, command: &Command) -> Result<Decision, Refusal> {
    let mut draft = Draft { state, changes: Changes::default() };
    let outcome = draft.decide(command)?;
    Ok(Decision { changes: draft.changes, outcome })
}

/// Reads rows, noting each as relied on, and collects changes.
struct Draft<'a> {
    state: &'a State,
    changes: Changes,
}

impl<'a> Draft<'a> {
    fn decide(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::KvPut { key, value, flags, cas } => {
                let old = self.kv(key);
                if cas.is_some_and(|cas| cas != old.map_or(0, |entry| entry.modified.0)) {
                    return Ok(Outcome::NotMatched);
                }
                let (lock_index, session) = old.map_or((0, String::new()), |o| (o.lock_index, o.session.clone()));
                let (key, value) = (key.clone(), value.clone());
                self.put(Row::Kv(KvEntry { key, value, flags: *flags, lock_index, session }));
            }
            Command::KvDelete { key, cas } => {
                let old = self.kv(key);
                if let (Some(old), Some(cas)) = (old, cas)
                    && old.modified.0 != *cas
                {
                    return Ok(Outcome::NotMatched);
                }
                self.delete(RowKey::Kv(key.clone()));
            }
            Command::KvDeleteTree { prefix } => self.delete_range(RowRange::KvPrefix(prefix.clone())),
            Command::Register { node, keep_node, instance, checks } => {
                self.register(node, *keep_node, instance.as_deref(), checks)?;
            }
            Command::RegisterInstance { instance, checks, replace_checks } => {
                self.register_instance(instance, checks, *replace_checks)?;
            }
            Command::RegisterCheck { check } => {
                if self.node(&check.node).is_none() {
                    return Err(Refusal::UnknownNode(check.node.clone()));
                }
                if let Some(id) = &check.service {
                    let own = self.instance(&check.node, id).is_some_and(|i| i.owner == Owner::Agent);
                    if !own {
                        return Err(Refusal::CheckOfUnknownInstance(id.clone()));
                    }
                }
                self.put_keeping_state(check);
            }
            Command::Deregister { node, target } => self.deregister(node, target),
            Command::DeregisterOwn { node, target } => self.deregister_own(node, target)?,
            Command::Undefine { node, target } => self.undefine(node, target),
            Command::ReportTtl { node, check, status, output } => {
                let old = self.own_check(node, check)?;
                if !is_ttl(old) {
                    return Err(Refusal::NotTtl(check.clone()));
                }
                self.put(Row::Check(Check { status: *status, output: output.clone(), ..old.clone() }));
            }
            Command::ExpireTtl { node, check } => self.expire(node, check),
            Command::ReapCritical { node, check, probe } => {
                if let Some(old) = self.check(node, check)
                    && let Some(instance) = &old.service
                    && old.status == Status::Critical
                    && old.probe.as_ref() == Some(probe)
                {
                    self.delete_instance(node, instance);
                }
            }
            Command::Restore { rows, index } => self.restore(rows, *index),
            Command::ProbeResult { node, check, probe, status, output } => {
                if let Some(old) = self.check(node, check)
                    && old.probe.as_ref() == Some(probe)
                {
                    self.put(Row::Check(Check { status: *status, output: output.clone(), ..old.clone() }));
                }
            }
        }
        Ok(Outcome::Done)
    }

    /// Takes everything away and puts `rows`. What was there and comes again is modified too: who waits looks anew.
    fn restore(&mut self, rows: &[Stamped<Row>], index: Index) {
        self.delete_range(RowRange::All);
        let put = |row: &Stamped<Row>| Op::Put(Put { row: row.value.clone(), created: Some(row.created) });
        self.changes.ops.extend(rows.iter().map(put));
        self.changes.above = index;
    }

    fn register(
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
            let id = if node.id.is_empty() { old.map_or("", |o| &o.id) } else { &node.id };
            self.put(Row::Node(Node { id: id.into(), ..node.clone() }));
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
            self.put(Row::Check(row));
        }
        Ok(())
    }

    /// What the catalog says of an instance that its host's agent has put: the agent keeps it.
    fn kept_instance(&mut self, new: &Instance) -> Instance {
        match self.instance(&new.node, &new.id) {
            Some(old) if (old.owner, new.owner) == (Owner::Agent, Owner::External) => {
                Instance { owner: old.owner, from_file: old.from_file, ..new.clone() }
            }
            _ => new.clone(),
        }
    }

    /// The same of a check, which the agent goes on running.
    fn kept_check(&mut self, new: &Check) -> Check {
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
        if let Some(old) = self.state.node_by_id.get(&node.id)
            && old != key
        {
            self.delete_range(RowRange::Node(old.clone()));
        }
        Ok(())
    }

    fn register_instance(
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
            for old in self.state.checks_of(&instance.node, Some(&instance.id)) {
                if !kept.contains(&old.id) {
                    self.delete(RowKey::Check(old.node.clone(), old.id.clone()));
                }
            }
        }
        for check in last_of_each(checks) {
            self.put_keeping_state(check);
        }
        Ok(())
    }

    /// A check that is registered anew goes on where it was.
    fn put_keeping_state(&mut self, check: &Check) {
        let row = match self.check(&check.node, &check.id) {
            Some(old) => Check { status: old.status, output: old.output.clone(), ..check.clone() },
            None => check.clone(),
        };
        self.put(Row::Check(row));
    }

    fn deregister(&mut self, node: &NodeKey, target: &Target) {
        match target {
            Target::Node => self.delete_range(RowRange::Node(node.clone())),
            Target::Instance(id) => self.delete_instance(node, id),
            Target::Check(id) => self.delete(RowKey::Check(node.clone(), id.clone())),
        }
    }

    fn deregister_own(&mut self, node: &NodeKey, target: &Target) -> Result<(), Refusal> {
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
                self.delete(RowKey::Check(node.clone(), id.clone()));
                Ok(())
            }
        }
    }

    fn undefine(&mut self, node: &NodeKey, target: &Target) {
        match target {
            Target::Node => {}
            Target::Instance(id) => {
                if self.instance(node, id).is_some_and(|instance| instance.from_file) {
                    self.delete_instance(node, id);
                }
            }
            Target::Check(id) => {
                if self.check(node, id).is_some_and(|check| check.from_file) {
                    self.delete(RowKey::Check(node.clone(), id.clone()));
                }
            }
        }
    }

    fn delete_instance(&mut self, node: &NodeKey, id: &InstanceId) {
        for check in self.state.checks_of(node, Some(id)) {
            self.delete(RowKey::Check(node.clone(), check.id.clone()));
        }
        self.delete(RowKey::Instance(node.clone(), id.clone()));
    }

    fn expire(&mut self, node: &NodeKey, id: &CheckId) {
        // Another kind of check may have taken its place meanwhile.
        if let Some(old) = self.check(node, id)
            && is_ttl(old)
            && old.status != Status::Critical
        {
            let output = format!("TTL expired (last output before timeout follows): {}", old.output);
            self.put(Row::Check(Check { status: Status::Critical, output, ..old.clone() }));
        }
    }

    fn own_check(&mut self, node: &NodeKey, id: &CheckId) -> Result<&'a Check, Refusal> {
        match self.check(node, id) {
            Some(check) if check.owner == Owner::Agent => Ok(check),
            _ => Err(Refusal::UnknownCheck(id.clone())),
        }
    }

    fn rely_on(&mut self, key: RowKey) {
        self.changes.expects.push(match self.state.stamps(&key) {
            Some((_, modified)) => Expect::Row(key, modified),
            None => Expect::Absent(key),
        });
    }

    fn kv(&mut self, key: &crate::names::Key) -> Option<&'a crate::row::Stamped<KvEntry>> {
        self.rely_on(RowKey::Kv(key.clone()));
        self.state.key(key).map(AsRef::as_ref)
    }

    fn node(&mut self, key: &NodeKey) -> Option<&'a Node> {
        self.rely_on(RowKey::Node(key.clone()));
        self.state.node(key).map(|row| &row.value)
    }

    fn instance(&mut self, node: &NodeKey, id: &InstanceId) -> Option<&'a Instance> {
        self.rely_on(RowKey::Instance(node.clone(), id.clone()));
        self.state.instance(node, id).map(|row| &row.value)
    }

    fn check(&mut self, node: &NodeKey, id: &CheckId) -> Option<&'a Check> {
        self.rely_on(RowKey::Check(node.clone(), id.clone()));
        self.state.check(node, id).map(|row| &row.value)
    }

    /// Puts a row unless it is there already, letter for letter. At most once for each row of a command.
    fn put(&mut self, row: Row) {
        let key = row.key();
        let same = match (&row, &key) {
            (Row::Node(new), RowKey::Node(node)) => self.state.node(node).is_some_and(|old| old.value == *new),
            (Row::Instance(new), RowKey::Instance(node, id)) => {
                self.state.instance(node, id).is_some_and(|old| old.value == *new)
            }
            (Row::Check(new), RowKey::Check(node, id)) => {
                self.state.check(node, id).is_some_and(|old| old.value == *new)
            }
            (Row::Kv(new), RowKey::Kv(key)) => self.state.key(key).is_some_and(|old| old.value == *new),
            _ => unreachable!("a row's key is of its table"),
        };
        if !same {
            let created = self.state.stamps(&key).map(|(created, _)| created);
            self.changes.ops.push(Op::Put(Put { row, created }));
        }
    }

    fn delete(&mut self, key: RowKey) {
        if self.state.stamps(&key).is_some() {
            self.changes.ops.push(Op::Delete(key));
        }
    }

    fn delete_range(&mut self, range: RowRange) {
        let occupied = match &range {
            RowRange::All => self.state.rows().next().is_some(),
            RowRange::Node(node) => self.state.node(node).is_some(),
            RowRange::KvPrefix(prefix) => self.state.keys(prefix).next().is_some(),
        };
        self.changes.expects.push(Expect::Unchanged(range.clone(), self.state.index()));
        if occupied {
            self.changes.ops.push(Op::DeleteRange(range));
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

fn is_ttl(check: &Check) -> bool {
    check.probe.as_deref().is_some_and(|probe| matches!(probe.kind, ProbeKind::Ttl { .. }))
}

#[cfg(test)]
mod tests;
