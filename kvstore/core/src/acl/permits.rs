//! What it takes to do a command, as Consul asks for it.

use super::{
    Authority, Denied,
    Level::{self, Read, Write},
    Resource,
};
use crate::{
    Command, KvVerb, RowVerb, State, Target, TxnResult, TxnStep,
    names::{CheckId, InstanceId, Key, NodeKey, SessionId},
    prepared_query::{PreparedQuery, QueryId},
    row::{Check, Instance, Node},
};

type Permission = Result<(), Denied>;

impl Authority {
    /// Whether it may do `command`, judged by the whole state and not by a view. What is not there needs no permission to
    /// be taken away: nothing comes of it.
    ///
    /// What a transaction reads of the catalog and of single keys needs permission like a read of its own; trees of keys
    /// do not, and [`Authority::retain_readable`] takes out of them what may not be seen. What a registry does by itself
    /// needs what a client would need that does the same.
    ///
    /// # Errors
    /// [`Denied`] names the first permission that is lacking.
    pub fn permits(&self, state: &State, command: &Command) -> Permission {
        let mut asking = Asking { authority: self, state, planned: vec![] };
        match command {
            Command::KvPut { key, .. }
            | Command::KvLock { key, .. }
            | Command::KvUnlock { key, .. }
            | Command::KvDelete { key, .. }
            | Command::ExpireKey { key } => asking.key(key, Write),
            Command::KvDeleteTree { prefix } => asking.tree(prefix),
            Command::Txn { steps } => {
                self.denied_steps(state, steps).into_iter().next().map_or(Ok(()), |(_, denied)| Err(denied))
            }
            Command::CreateSession { session } => self.require(Resource::Session, session.node.as_str(), Write),
            Command::RenewSession { session }
            | Command::DestroySession { session }
            | Command::ExpireSession { session } => asking.session(session),
            Command::CreateQuery { query } => asking.query(query),
            Command::UpdateQuery { query } => asking.query_there(&query.id).and_then(|()| asking.query(query)),
            Command::DeleteQuery { query } => asking.query_there(query),
            // Who can make the first token has none yet.
            Command::BootstrapAcl { .. } => Ok(()),
            Command::PrepareAcl { .. }
            | Command::CreateToken { .. }
            | Command::UpdateToken { .. }
            | Command::DeleteToken { .. }
            | Command::ExpireToken { .. }
            | Command::CreatePolicy { .. }
            | Command::UpdatePolicy { .. }
            | Command::DeletePolicy { .. }
            | Command::Restore { .. } => self.require(Resource::Acl, "", Write),
            Command::Register { node, keep_node, instance, checks } => {
                if !(*keep_node && state.node(&node.key()).is_some()) {
                    asking.put_node(node)?;
                }
                instance.iter().try_for_each(|instance| asking.put_instance(instance))?;
                checks.iter().try_for_each(|check| asking.put_check(check))
            }
            Command::RegisterInstance { instance, checks, .. } => {
                asking.put_instance(instance)?;
                checks.iter().try_for_each(|check| asking.put_check(check))
            }
            Command::RegisterCheck { check } => asking.put_check(check),
            Command::Deregister { node, target } => {
                // So an agent can clean up whose token is not for that service any more.
                let of_node = self.require(Resource::Node, node.as_str(), Write);
                of_node.or_else(|_| asking.target(node, target))
            }
            Command::DeregisterOwn { node, target } | Command::Undefine { node, target } => asking.target(node, target),
            Command::ReportTtl { node, check, .. }
            | Command::ExpireTtl { node, check }
            | Command::ReapCritical { node, check, .. }
            | Command::ProbeResult { node, check, .. } => asking.check_there(node, check, Write),
        }
    }

    /// What it may not do of a transaction, each with the step's place from 0.
    pub fn denied_steps(&self, state: &State, steps: &[TxnStep]) -> Vec<(usize, Denied)> {
        let mut asking = Asking { authority: self, state, planned: vec![] };
        let denied = steps.iter().enumerate().map(|(at, step)| asking.step(step).map_err(|denied| (at, denied)));
        denied.filter_map(Result::err).collect()
    }

    /// Takes out of what a transaction gives the keys that may not be read.
    pub fn retain_readable(&self, results: &mut Vec<TxnResult>) {
        results.retain(|result| match result {
            TxnResult::Kv { entry, .. } => self.key(entry.key.as_str()) >= Read,
            TxnResult::NoSuchKey(key) => self.key(key.as_str()) >= Read,
            TxnResult::Node(_) | TxnResult::Instance(_) | TxnResult::Check(_) => true,
        });
    }
}

/// What has to be asked for to see a query or change it: itself, by its name. One that has none goes with a session, and
/// so does the right to it; Consul lets everybody change it who knows its id.
pub(super) fn guard_of<'a>(state: &'a State, query: &'a PreparedQuery) -> (Resource, &'a str) {
    if !query.name.is_empty() || query.is_template() {
        return (Resource::Query, &query.name);
    }
    let session = SessionId::new(&query.session).ok().and_then(|id| state.session(&id));
    (Resource::Session, session.map_or("", |session| session.node.as_str()))
}

struct Asking<'a> {
    authority: &'a Authority,
    state: &'a State,
    /// What earlier steps put: their checks may follow.
    planned: Vec<&'a Instance>,
}

impl<'a> Asking<'a> {
    fn require(&self, resource: Resource, name: &str, level: Level) -> Permission {
        self.authority.require(resource, name, level)
    }

    fn key(&self, key: &Key, level: Level) -> Permission {
        self.require(Resource::Key, key.as_str(), level)
    }

    fn tree(&self, prefix: &str) -> Permission {
        let may = self.authority.key_prefix_write(prefix);
        if may { Ok(()) } else { Err(Denied::new(Resource::Key, prefix, Write)) }
    }

    fn session(&self, id: &SessionId) -> Permission {
        let session = self.state.session(id);
        session.map_or(Ok(()), |session| self.require(Resource::Session, session.node.as_str(), Write))
    }

    fn query(&self, query: &PreparedQuery) -> Permission {
        let (resource, name) = guard_of(self.state, query);
        self.require(resource, name, Write)
    }

    fn query_there(&self, id: &QueryId) -> Permission {
        self.state.query(id).map_or(Ok(()), |query| self.query(query))
    }

    /// A host that would not change needs nothing: who registers a service says where it is.
    fn put_node(&self, node: &Node) -> Permission {
        let key = node.key();
        let stays = self.state.node(&key).is_some_and(|old| {
            let id = if node.id.is_empty() { old.id.clone() } else { node.id.clone() };
            old.value == Node { id, ..node.clone() }
        });
        if stays {
            return Ok(());
        }
        // Under another name with the same id, it would go from there.
        let named_before = self.state.node_by_id.get(&node.id).into_iter();
        named_before.chain([&key]).try_for_each(|name| self.require(Resource::Node, name.as_str(), Write))
    }

    /// That it may be put, and what has its id now may be written over.
    fn put_instance(&mut self, instance: &'a Instance) -> Permission {
        self.require(Resource::Service, &instance.service, Write)?;
        self.instance_there(&instance.node, &instance.id, Write)?;
        self.planned.push(instance);
        Ok(())
    }

    fn instance_there(&self, node: &NodeKey, id: &InstanceId, level: Level) -> Permission {
        let instance = self.state.instance(node, id);
        instance.map_or(Ok(()), |instance| self.require(Resource::Service, &instance.service, level))
    }

    /// As for an instance.
    fn put_check(&self, check: &Check) -> Permission {
        self.check(check, Write)?;
        self.check_there(&check.node, &check.id, Write)
    }

    fn check_there(&self, node: &NodeKey, id: &CheckId, level: Level) -> Permission {
        self.state.check(node, id).map_or(Ok(()), |check| self.check(check, level))
    }

    fn check(&self, check: &Check, level: Level) -> Permission {
        let planned = |id: &InstanceId| {
            self.planned.iter().copied().rfind(|instance| instance.node == check.node && instance.id == *id)
        };
        let there = |id: &InstanceId| self.state.instance(&check.node, id).map(|instance| &instance.value);
        match check.service.as_ref().and_then(|id| planned(id).or_else(|| there(id))) {
            Some(instance) => self.require(Resource::Service, &instance.service, level),
            None => self.require(Resource::Node, check.node.as_str(), level),
        }
    }

    fn target(&self, node: &NodeKey, target: &Target) -> Permission {
        match target {
            Target::Node => self.require(Resource::Node, node.as_str(), Write),
            Target::Instance(id) => self.instance_there(node, id, Write),
            Target::Check(id) => self.check_there(node, id, Write),
        }
    }

    fn step(&mut self, step: &'a TxnStep) -> Permission {
        let level = |verb: &RowVerb| if *verb == RowVerb::Get { Read } else { Write };
        match step {
            TxnStep::Kv { verb, key, .. } => self.key(key, level_of_key(verb)),
            TxnStep::KvDeleteTree(prefix) => self.tree(prefix),
            TxnStep::KvGetTree(_) | TxnStep::Wrong { .. } => Ok(()),
            TxnStep::Node { verb: RowVerb::Set | RowVerb::Cas(_), node, .. } => self.put_node(node),
            TxnStep::Node { verb, name, node } => {
                let name = name.as_ref().or_else(|| self.state.node_by_id.get(&node.id));
                name.map_or(Ok(()), |name| self.require(Resource::Node, name.as_str(), level(verb)))
            }
            TxnStep::Instance { verb, node, id, instance } => {
                self.instance_there(node, id, level(verb))?;
                match (verb, instance) {
                    (RowVerb::Get, _) => self.require(Resource::Node, node.as_str(), Read),
                    (RowVerb::Set | RowVerb::Cas(_), Some(instance)) => self.put_instance(instance),
                    (RowVerb::Set | RowVerb::Cas(_), None) | (RowVerb::Delete | RowVerb::DeleteCas(_), _) => Ok(()),
                }
            }
            TxnStep::Check { verb, node, id, check } => {
                self.check_there(node, id, level(verb))?;
                match (verb, check) {
                    (RowVerb::Get, _) => self.require(Resource::Node, node.as_str(), Read),
                    (RowVerb::Set | RowVerb::Cas(_), Some(check)) => self.put_check(check),
                    (RowVerb::Set | RowVerb::Cas(_), None) | (RowVerb::Delete | RowVerb::DeleteCas(_), _) => Ok(()),
                }
            }
        }
    }
}

fn level_of_key(verb: &KvVerb) -> Level {
    match verb {
        KvVerb::Get | KvVerb::GetOrEmpty | KvVerb::CheckIndex(_) | KvVerb::CheckSession(_) | KvVerb::CheckNotExists => {
            Read
        }
        KvVerb::Set
        | KvVerb::Cas(_)
        | KvVerb::Lock { .. }
        | KvVerb::Unlock(_)
        | KvVerb::Delete
        | KvVerb::DeleteCas(_) => Write,
    }
}

#[cfg(test)]
mod tests;
