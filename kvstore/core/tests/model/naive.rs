//! The registry's rules once more, on plain maps and without any index.

mod acl;
mod queries;
mod txn;

use std::{collections::BTreeMap, time::Duration};

use kvstore_core::{
    Command, Index, Outcome, QueryRefusal, Refusal, Target,
    credentials::{Bootstrap, Policy, Token},
    health::Status,
    names::{CheckId, InstanceId, NodeKey, PolicyId, SessionId, TokenId},
    prepared_query::{PreparedQuery, QueryId},
    row::{Behavior, Check, Instance, KvEntry, Node, Owner, ProbeKind, Row, Session, Stamped},
};

/// Rows by table and key; stamps are set where a row's content differs from what it was.
#[derive(Clone)]
pub(crate) struct Naive {
    pub(crate) index: u64,
    pub(crate) nodes: BTreeMap<NodeKey, Stamped<Node>>,
    pub(crate) instances: BTreeMap<(NodeKey, InstanceId), Stamped<Instance>>,
    pub(crate) checks: BTreeMap<(NodeKey, CheckId), Stamped<Check>>,
    pub(crate) sessions: BTreeMap<SessionId, Stamped<Session>>,
    pub(crate) queries: BTreeMap<QueryId, Stamped<PreparedQuery>>,
    pub(crate) tokens: BTreeMap<TokenId, Stamped<Token>>,
    pub(crate) policies: BTreeMap<PolicyId, Stamped<Policy>>,
    pub(crate) bootstrap: BTreeMap<(), Stamped<Bootstrap>>,
    pub(crate) kv: BTreeMap<String, Stamped<KvEntry>>,
    /// Whether steps of the last transaction changed one row twice, so that what the first did may be undone.
    pub(crate) twice: bool,
}

fn unstamped<T>(value: T) -> Stamped<T> {
    Stamped { created: Index(0), modified: Index(0), value }
}

/// Gives what is new or changed its stamps, and what is as before those it had.
fn stamp<K: Ord, T: PartialEq>(table: &mut BTreeMap<K, Stamped<T>>, old: &BTreeMap<K, Stamped<T>>, now: Index) {
    for (key, row) in table {
        let old = old.get(key);
        row.created = old.map_or(now, |old| old.created);
        row.modified = old.filter(|old| old.value == row.value).map_or(now, |old| old.modified);
    }
}

impl Naive {
    pub(crate) fn new(index: u64) -> Self {
        let (nodes, instances, checks) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (sessions, queries) = (BTreeMap::new(), BTreeMap::new());
        let (tokens, policies, bootstrap, kv) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { index, nodes, instances, checks, sessions, queries, tokens, policies, bootstrap, kv, twice: false }
    }

    pub(crate) fn carry_out(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        self.twice = false;
        let mut next = self.clone();
        let outcome = match command {
            Command::Txn { steps } => next.txn(steps)?,
            command => next.step(|naive| naive.change(command))?,
        };
        if next.twice || next.rows() != self.rows() {
            next.index = self.index + 1;
            *self = next;
        }
        Ok(outcome)
    }

    /// Makes one change with what follows from it; none if it is refused.
    fn step<T, E>(&mut self, change: impl FnOnce(&mut Self) -> Result<T, E>) -> Result<T, E> {
        let mut next = self.clone();
        let done = change(&mut next)?;
        while let Some(id) = next.ended_session() {
            next.end_session(&id);
        }
        let now = Index(self.index + 1);
        stamp(&mut next.nodes, &self.nodes, now);
        stamp(&mut next.instances, &self.instances, now);
        stamp(&mut next.checks, &self.checks, now);
        stamp(&mut next.sessions, &self.sessions, now);
        stamp(&mut next.queries, &self.queries, now);
        stamp(&mut next.tokens, &self.tokens, now);
        stamp(&mut next.policies, &self.policies, now);
        stamp(&mut next.bootstrap, &self.bootstrap, now);
        stamp(&mut next.kv, &self.kv, now);
        *self = next;
        Ok(done)
    }

    fn ended_session(&self) -> Option<SessionId> {
        let holds = |session: &Session, id: &CheckId| {
            let check = self.checks.get(&(session.node.clone(), id.clone()));
            check.is_some_and(|check| check.status != Status::Critical)
        };
        let lives =
            |session: &Session| self.nodes.contains_key(&session.node) && session.checks().all(|id| holds(session, id));
        self.sessions.values().find(|session| !lives(session)).map(|session| session.id.clone())
    }

    fn end_session(&mut self, id: &SessionId) {
        let Some(session) = self.sessions.remove(id) else { return };
        self.queries.retain(|_, query| query.session != id.as_str());
        let held = |entry: &Stamped<KvEntry>| entry.session.as_ref() == Some(id);
        match session.behavior {
            Behavior::Delete => self.kv.retain(|_, entry| !held(entry)),
            Behavior::Release => {
                for entry in self.kv.values_mut().filter(|entry| held(entry)) {
                    entry.value.session = None;
                }
            }
        }
    }

    pub(crate) fn rows(&self) -> Vec<(String, Vec<u8>)> {
        fn encode<K, T: Clone>(table: &BTreeMap<K, Stamped<T>>, row: fn(T) -> Row) -> Vec<(String, Vec<u8>)> {
            let encode = |stamped: &Stamped<T>| {
                let row = row(stamped.value.clone());
                (row.key().encode(), row.encode(stamped.created, stamped.modified))
            };
            table.values().map(encode).collect()
        }
        let mut rows = encode(&self.nodes, Row::Node);
        rows.extend(encode(&self.instances, Row::Instance));
        rows.extend(encode(&self.checks, Row::Check));
        rows.extend(encode(&self.sessions, Row::Session));
        rows.extend(encode(&self.queries, Row::Query));
        rows.extend(encode(&self.tokens, Row::Token));
        rows.extend(encode(&self.policies, Row::Policy));
        rows.extend(encode(&self.bootstrap, Row::Bootstrap));
        rows.extend(encode(&self.kv, Row::Kv));
        rows.sort();
        rows
    }

    fn change(&mut self, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::Restore { .. } => unreachable!("not among the random commands: it wakes more than it changes"),
            Command::KvPut { key, value, flags, cas, ttl: _ } => {
                let old = self.kv.get(key.as_str());
                if cas.is_some_and(|cas| cas != old.map_or(0, |old| old.modified.0)) {
                    return Ok(Outcome::NotMatched);
                }
                let (lock_index, session) = old.map_or((0, None), |old| (old.lock_index, old.session.clone()));
                let (key, value) = (key.clone(), value.clone());
                let entry =
                    KvEntry { key: key.clone(), value, flags: *flags, lock_index, session, ttl: Duration::ZERO };
                self.kv.insert(key.as_str().into(), unstamped(entry));
            }
            Command::CreateQuery { query } => {
                if self.queries.contains_key(&query.id) {
                    return Err(Refusal::Conflict);
                }
                self.put_query(query)?;
            }
            Command::UpdateQuery { query } => {
                if !self.queries.contains_key(&query.id) {
                    return Err(QueryRefusal::Unknown(query.id.clone()).into());
                }
                self.put_query(query)?;
            }
            Command::DeleteQuery { query } => {
                self.queries.remove(query).ok_or_else(|| QueryRefusal::Unknown(query.clone()))?;
            }
            Command::PrepareAcl { .. }
            | Command::BootstrapAcl { .. }
            | Command::CreateToken { .. }
            | Command::UpdateToken { .. }
            | Command::DeleteToken { .. }
            | Command::ExpireToken { .. }
            | Command::CreatePolicy { .. }
            | Command::UpdatePolicy { .. }
            | Command::DeletePolicy { .. } => self.change_acl(command)?,
            Command::KvLock { key, value, flags, session, delayed } => {
                if !self.sessions.contains_key(session) {
                    return Err(Refusal::InvalidSession(session.clone()));
                }
                let old = self.kv.get(key.as_str()).map(|old| old.value.clone());
                let holder = old.as_ref().and_then(|old| old.session.clone());
                if *delayed || holder.as_ref().is_some_and(|holder| holder != session) {
                    return Ok(Outcome::NotMatched);
                }
                let lock_index = old.map_or(0, |old| old.lock_index) + u64::from(holder.is_none());
                let (value, flags, session, ttl) = (value.clone(), *flags, Some(session.clone()), Duration::ZERO);
                let entry = KvEntry { key: key.clone(), value, flags, lock_index, session, ttl };
                self.kv.insert(key.as_str().into(), unstamped(entry));
            }
            Command::KvUnlock { key, value, flags, session } => {
                let Some(old) = self.kv.get_mut(key.as_str()).filter(|old| old.session.as_ref() == Some(session))
                else {
                    return Ok(Outcome::NotMatched);
                };
                (old.value.value, old.value.flags, old.value.session) = (value.clone(), *flags, None);
            }
            Command::ExpireKey { .. } => {}
            Command::CreateSession { session } => {
                if !self.nodes.contains_key(&session.node) {
                    return Err(Refusal::SessionOnUnknownNode(session.node.clone()));
                }
                for id in session.checks() {
                    let check = self.checks.get(&(session.node.clone(), id.clone()));
                    let check = check.ok_or_else(|| Refusal::SessionOfUnknownCheck(id.clone()))?;
                    if check.status == Status::Critical {
                        return Err(Refusal::SessionOfCriticalCheck(id.clone()));
                    }
                }
                self.sessions.insert(session.id.clone(), unstamped((**session).clone()));
            }
            Command::RenewSession { session } => {
                self.sessions.get(session).map(drop).ok_or_else(|| Refusal::UnknownSession(session.clone()))?;
            }
            Command::DestroySession { session } | Command::ExpireSession { session } => self.end_session(session),
            Command::Txn { .. } => unreachable!("a transaction has no other inside"),
            Command::KvDelete { key, cas } => {
                let old = self.kv.get(key.as_str());
                if old.is_some_and(|old| cas.is_some_and(|cas| cas != old.modified.0)) {
                    return Ok(Outcome::NotMatched);
                }
                self.kv.remove(key.as_str());
            }
            Command::KvDeleteTree { prefix } => self.kv.retain(|key, _| !key.starts_with(prefix)),
            Command::Register { node, keep_node, instance, checks } => {
                self.register(node, *keep_node, instance.as_deref(), checks)?;
            }
            Command::RegisterInstance { instance, checks, replace_checks } => {
                self.need_node(&instance.node)?;
                self.put_instance(instance);
                let before = self.checks.clone();
                let listed = |id: &CheckId| checks.iter().any(|check| check.id == *id);
                self.checks.retain(|(node, id), old| {
                    let own = *node == instance.node && old.service.as_ref() == Some(&instance.id);
                    !(own && *replace_checks) || listed(id)
                });
                for check in checks {
                    self.put_keeping_state(check, &before);
                }
            }
            Command::RegisterCheck { check } => {
                self.need_node(&check.node)?;
                if let Some(id) = &check.service {
                    let instance = self.instances.get(&(check.node.clone(), id.clone()));
                    if instance.is_none_or(|instance| instance.owner != Owner::Agent) {
                        return Err(Refusal::CheckOfUnknownInstance(id.clone()));
                    }
                }
                self.put_keeping_state(check, &self.checks.clone());
            }
            Command::Deregister { node, target } => self.remove(node, target),
            Command::DeregisterOwn { node, target } => {
                match target {
                    Target::Node => return Err(Refusal::UnknownNode(node.clone())),
                    Target::Instance(id) => {
                        let own = self.instances.get(&(node.clone(), id.clone()));
                        own.filter(|i| i.owner == Owner::Agent).ok_or(Refusal::UnknownInstance(id.clone()))?;
                    }
                    Target::Check(id) => drop(self.own_check(node, id)?),
                }
                self.remove(node, target);
            }
            Command::Undefine { node, target } => {
                let from_file = match target {
                    Target::Node => false,
                    Target::Instance(id) => {
                        self.instances.get(&(node.clone(), id.clone())).is_some_and(|i| i.from_file)
                    }
                    Target::Check(id) => self.checks.get(&(node.clone(), id.clone())).is_some_and(|c| c.from_file),
                };
                if from_file {
                    self.remove(node, target);
                }
            }
            Command::ReportTtl { node, check, status, output } => {
                let old = self.own_check(node, check)?;
                if !is_ttl(&old) {
                    return Err(Refusal::NotTtl(check.clone()));
                }
                self.put_check(&Check { status: *status, output: output.clone(), ..old });
            }
            Command::ExpireTtl { node, check } => {
                if let Some(old) = self.checks.get(&(node.clone(), check.clone())).map(|old| old.value.clone())
                    && is_ttl(&old)
                    && old.status != Status::Critical
                {
                    let output = match check.as_str() {
                        "serfHealth" => "Agent not live or unreachable".to_owned(),
                        _ => format!("TTL expired (last output before timeout follows): {}", old.output),
                    };
                    self.put_check(&Check { status: Status::Critical, output, ..old });
                }
            }
            Command::ReapCritical { node, check, probe } => {
                if let Some(old) = self.checks.get(&(node.clone(), check.clone())).map(|old| old.value.clone())
                    && old.probe.as_ref() == Some(probe)
                    && old.status == Status::Critical
                    && let Some(instance) = old.service
                {
                    self.remove(node, &Target::Instance(instance));
                }
            }
            Command::ProbeResult { node, check, probe, status, output } => {
                if let Some(old) = self.checks.get(&(node.clone(), check.clone())).map(|old| old.value.clone())
                    && old.probe.as_ref() == Some(probe)
                {
                    self.put_check(&Check { status: *status, output: output.clone(), ..old });
                }
            }
        }
        Ok(Outcome::Done)
    }

    fn register(
        &mut self,
        node: &Node,
        keep: bool,
        instance: Option<&Instance>,
        checks: &[Check],
    ) -> Result<(), Refusal> {
        let key = node.key();
        let old = self.nodes.get(&key).map(|old| old.value.clone());
        if !(keep && old.is_some()) {
            let mut node = node.clone();
            match old {
                Some(old) if node.id.is_empty() => node.id = old.id,
                Some(old) if !old.id.is_empty() && old.id != node.id => {
                    let alive = self.checks.get(&(key.clone(), CheckId::new("serfHealth").unwrap()));
                    if alive.is_some_and(|check| check.status == Status::Passing) {
                        let (name, id, address) = (node.name, old.id, old.address);
                        return Err(Refusal::NodeNameTaken { name, id, address });
                    }
                }
                _ => {}
            }
            let renamed = self.nodes.iter().find(|(k, n)| **k != key && !node.id.is_empty() && n.id == node.id);
            if let Some(old) = renamed.map(|(key, _)| key.clone()) {
                self.remove(&old, &Target::Node);
            }
            self.nodes.insert(key.clone(), unstamped(node));
        }
        if let Some(instance) = instance {
            self.put_kept_instance(instance);
        }
        let before = self.checks.clone();
        for check in checks {
            if let Some(instance) = &check.service
                && !self.instances.contains_key(&(key.clone(), instance.clone()))
            {
                let (instance, check) = (instance.clone(), check.id.clone());
                return Err(Refusal::CatalogCheckOfUnknownInstance { instance, check });
            }
            self.put_kept_check(check, &before);
        }
        Ok(())
    }

    fn put_kept_instance(&mut self, instance: &Instance) {
        let mut instance = instance.clone();
        let old = self.instances.get(&(instance.node.clone(), instance.id.clone()));
        if let Some(old) = old.filter(|old| old.owner == Owner::Agent && instance.owner == Owner::External) {
            (instance.owner, instance.from_file) = (Owner::Agent, old.from_file);
        }
        self.put_instance(&instance);
    }

    /// As it was before the command, should the command name a check twice.
    fn put_kept_check(&mut self, check: &Check, before: &BTreeMap<(NodeKey, CheckId), Stamped<Check>>) {
        let mut check = check.clone();
        let old = before.get(&(check.node.clone(), check.id.clone())).map(|old| old.value.clone());
        if let Some(old) = old.filter(|old| old.owner == Owner::Agent && check.owner == Owner::External) {
            (check.owner, check.from_file, check.probe) = (Owner::Agent, old.from_file, old.probe);
            (check.kind, check.interval, check.timeout) = (old.kind, old.interval, old.timeout);
        }
        self.put_check(&check);
    }

    fn remove(&mut self, node: &NodeKey, target: &Target) {
        match target {
            Target::Node => {
                self.nodes.remove(node);
                self.instances.retain(|(of, _), _| of != node);
                self.checks.retain(|(of, _), _| of != node);
            }
            Target::Instance(id) => {
                self.instances.remove(&(node.clone(), id.clone()));
                self.checks.retain(|(of, _), check| of != node || check.service.as_ref() != Some(id));
            }
            Target::Check(id) => drop(self.checks.remove(&(node.clone(), id.clone()))),
        }
    }

    fn need_node(&self, node: &NodeKey) -> Result<(), Refusal> {
        self.nodes.get(node).map(drop).ok_or_else(|| Refusal::UnknownNode(node.clone()))
    }

    fn own_check(&self, node: &NodeKey, id: &CheckId) -> Result<Check, Refusal> {
        let check = self.checks.get(&(node.clone(), id.clone())).filter(|check| check.owner == Owner::Agent);
        check.map(|check| check.value.clone()).ok_or_else(|| Refusal::UnknownCheck(id.clone()))
    }

    fn put_instance(&mut self, instance: &Instance) {
        self.instances.insert((instance.node.clone(), instance.id.clone()), unstamped(instance.clone()));
    }

    fn put_check(&mut self, check: &Check) {
        self.checks.insert((check.node.clone(), check.id.clone()), unstamped(check.clone()));
    }

    /// As it was before the command, should the command name a check twice.
    fn put_keeping_state(&mut self, check: &Check, before: &BTreeMap<(NodeKey, CheckId), Stamped<Check>>) {
        let mut check = check.clone();
        if let Some(old) = before.get(&(check.node.clone(), check.id.clone())) {
            (check.status, check.output) = (old.status, old.output.clone());
        }
        self.put_check(&check);
    }
}

fn is_ttl(check: &Check) -> bool {
    matches!(check.probe.as_deref(), Some(probe) if matches!(probe.kind, ProbeKind::Ttl { .. }))
}
