//! Puts rows and takes them out, and keeps what is derived from them true. Marks are kept by who calls it.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::State;
use crate::{
    names::{CheckId, InstanceId, Key, NodeKey, SessionId},
    row::{Check, Instance, KvEntry, Node, Row, Session, Stamped},
    version,
};

impl State {
    /// Puts a row and keeps the derived indexes true. Marks are the caller's.
    pub(crate) fn insert(&mut self, row: Stamped<Row>) {
        let Stamped { created, modified, value } = row;
        match value {
            Row::Node(value) => self.insert_node(Arc::new(Stamped { created, modified, value })),
            Row::Instance(value) => self.insert_instance(Arc::new(Stamped { created, modified, value })),
            Row::Check(value) => self.insert_check(Arc::new(Stamped { created, modified, value })),
            Row::Session(value) => self.insert_session(Arc::new(Stamped { created, modified, value })),
            Row::Query(value) => self.queries.insert(Arc::new(Stamped { created, modified, value })),
            Row::Token(value) => self.credentials.insert_token(Stamped { created, modified, value }),
            Row::Policy(value) => self.credentials.insert_policy(Stamped { created, modified, value }),
            Row::Bootstrap(value) => self.credentials.insert_bootstrap(Stamped { created, modified, value }),
            Row::Kv(value) => self.insert_key(Arc::new(Stamped { created, modified, value })),
        }
    }

    pub(crate) fn insert_node(&mut self, row: Arc<Stamped<Node>>) {
        let key = row.key();
        self.remove_node(&key);
        self.link_address(&row.address, &key, None);
        if !row.id.is_empty() {
            self.node_by_id.insert(row.id.clone(), key.clone());
        }
        self.nodes.insert(key, row);
    }

    pub(crate) fn insert_instance(&mut self, row: Arc<Stamped<Instance>>) {
        self.remove_instance(&row.node, &row.id);
        self.link_address(&row.address, &row.node, Some(&row.id));
        let key = (row.node.clone(), row.id.clone());
        for address in version::network_addresses(&row) {
            self.by_network.entry(address).or_default().insert(key.clone());
        }
        self.by_service.entry(row.service_key()).or_default().insert(key.clone());
        self.instances.insert(key, row);
    }

    pub(crate) fn insert_check(&mut self, row: Arc<Stamped<Check>>) {
        self.remove_check(&row.node, &row.id);
        let of = (row.node.clone(), row.service.clone());
        self.checks_of.entry(of).or_default().insert(row.id.clone());
        self.checks.insert((row.node.clone(), row.id.clone()), row);
    }

    pub(crate) fn insert_session(&mut self, row: Arc<Stamped<Session>>) {
        self.remove_session(&row.id);
        self.sessions_on.entry(row.node.clone()).or_default().insert(row.id.clone());
        self.sessions.insert(row.id.clone(), row);
    }

    pub(crate) fn insert_key(&mut self, row: Arc<Stamped<KvEntry>>) {
        let (key, session) = (row.key.clone(), row.session.clone());
        if let Some((node, address)) = version::told_caller(&key) {
            self.told_callers.entry(address).or_default().insert((node, key.clone()));
        }
        self.networks.insert(&key, &row.value.value);
        let old = self.kv.insert(key.clone(), row);
        if let Some(holder) = old.as_ref().and_then(|old| old.session.as_ref()) {
            remove_member(&mut self.held_by, holder, &key);
        }
        if let Some(holder) = session {
            self.held_by.entry(holder).or_default().insert(key);
        }
    }

    pub(crate) fn remove_node(&mut self, node: &NodeKey) -> Option<Arc<Stamped<Node>>> {
        let old = self.nodes.remove(node)?;
        self.unlink_address(&old.address, node, None);
        if self.node_by_id.get(&old.id) == Some(node) {
            self.node_by_id.remove(&old.id);
        }
        Some(old)
    }

    pub(crate) fn remove_instance(&mut self, node: &NodeKey, id: &InstanceId) -> Option<Arc<Stamped<Instance>>> {
        let key = (node.clone(), id.clone());
        let old = self.instances.remove(&key)?;
        self.unlink_address(&old.address, node, Some(id));
        for address in version::network_addresses(&old) {
            remove_member(&mut self.by_network, &address, &key);
        }
        remove_member(&mut self.by_service, &old.service_key(), &key);
        Some(old)
    }

    pub(crate) fn remove_check(&mut self, node: &NodeKey, id: &CheckId) -> Option<Arc<Stamped<Check>>> {
        let old = self.checks.remove(&(node.clone(), id.clone()))?;
        remove_member(&mut self.checks_of, &(node.clone(), old.service.clone()), id);
        Some(old)
    }

    pub(crate) fn remove_session(&mut self, id: &SessionId) -> Option<Arc<Stamped<Session>>> {
        let old = self.sessions.remove(id)?;
        remove_member(&mut self.sessions_on, &old.node, id);
        Some(old)
    }

    pub(crate) fn remove_key(&mut self, key: &Key) -> Option<Arc<Stamped<KvEntry>>> {
        let old = self.kv.remove(key)?;
        if let Some((node, address)) = version::told_caller(key) {
            remove_member(&mut self.told_callers, &address, &(node, key.clone()));
        }
        self.networks.remove(key);
        if let Some(holder) = &old.session {
            remove_member(&mut self.held_by, holder, key);
        }
        Some(old)
    }

    fn link_address(&mut self, address: &str, node: &NodeKey, instance: Option<&InstanceId>) {
        if let Ok(ip) = address.parse() {
            let holder = (node.clone(), instance.cloned());
            self.by_address.entry(ip).or_default().insert(holder);
        }
    }

    fn unlink_address(&mut self, address: &str, node: &NodeKey, instance: Option<&InstanceId>) {
        if let Ok(ip) = address.parse() {
            let holder = (node.clone(), instance.cloned());
            remove_member(&mut self.by_address, &ip, &holder);
        }
    }
}

fn remove_member<K: Ord + Clone, V: Ord + Clone>(map: &mut OrdMap<K, OrdSet<V>>, key: &K, member: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
