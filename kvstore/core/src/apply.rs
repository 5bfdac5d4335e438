//! Carries out a decision that has been made durable, and says which watches it touched.

use std::sync::Arc;

use crate::{
    Changes, Index, Op, Put, State, Touched, WatchKey,
    names::{InstanceId, NodeKey, ServiceKey},
    prepared_query::QueryId,
    row::{Check, Instance, Row, RowKey, RowRange, Stamped},
    state::{NodeMarks, ServiceMarks},
};

impl State {
    /// Makes `changes` at `index`, which must be above [`State::index`]. The same changes on the same state give the same
    /// state everywhere.
    pub fn apply(&mut self, index: Index, changes: &Changes) -> Touched {
        debug_assert!(index > self.index, "changes come in order");
        self.index = index;
        self.make(&changes.ops)
    }

    /// Makes `ops` at the index that the state has: more steps of the change that is being made.
    pub(crate) fn make(&mut self, ops: &[Op]) -> Touched {
        let index = self.index;
        let mut applying = Applying { state: self, index, touched: Touched::default() };
        for op in ops {
            match op {
                Op::DeleteRange(range) => applying.delete_range(range),
                Op::Delete(key) => applying.delete(key),
                Op::Put(Put { row, created }) => {
                    applying.put(Stamped { created: created.unwrap_or(index), modified: index, value: row.clone() });
                }
            }
        }
        applying.touched
    }
}

struct Applying<'a> {
    state: &'a mut State,
    index: Index,
    touched: Touched,
}

/// What about a service changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Only what a check says.
    Output,
    /// Anything that an answer about healthy instances shows.
    Status,
}

impl Applying<'_> {
    fn delete_range(&mut self, range: &RowRange) {
        match range {
            RowRange::All => {
                let keys: Vec<_> = self.state.rows().map(|row| row.value.key()).collect();
                // What is on a host before the host.
                for key in keys.iter().rev() {
                    self.delete(key);
                }
            }
            RowRange::Node(node) => {
                let checks: Vec<_> = self.state.checks_on(node).map(|c| c.id.clone()).collect();
                let instances: Vec<_> = self.state.instances_on(node).map(|i| i.id.clone()).collect();
                for id in checks {
                    self.delete(&RowKey::Check(node.clone(), id));
                }
                for id in instances {
                    self.delete(&RowKey::Instance(node.clone(), id));
                }
                self.delete(&RowKey::Node(node.clone()));
            }
            RowRange::Queries => {
                let ids: Vec<_> = self.state.queries().map(|query| query.id.clone()).collect();
                for id in ids {
                    self.delete(&RowKey::Query(id));
                }
            }
            RowRange::Acl => {
                let keys: Vec<_> = self.state.credentials.rows().map(|row| row.value.key()).collect();
                for key in keys {
                    self.delete(&key);
                }
            }
            RowRange::KvPrefix(prefix) => {
                let keys: Vec<_> = self.state.keys(prefix).map(|entry| entry.key.clone()).collect();
                for key in keys {
                    self.delete(&RowKey::Kv(key));
                }
            }
        }
    }

    fn delete(&mut self, key: &RowKey) {
        match key {
            RowKey::Node(node) => {
                if self.state.remove_node(node).is_some() {
                    self.touch_services_on(node, Part::Status);
                    self.touch_node_list();
                    self.touch_node(node);
                    self.state.marks.nodes.remove(node);
                    self.state.marks.nodes_gone = self.index;
                }
            }
            RowKey::Instance(node, id) => {
                if let Some(old) = self.state.remove_instance(node, id) {
                    self.touch_service(&old.service_key(), Part::Status);
                    self.touch_service_list();
                    self.touch_node(node);
                }
            }
            RowKey::Check(node, id) => {
                if let Some(old) = self.state.remove_check(node, id) {
                    self.touch_check(&old, Part::Status);
                }
            }
            RowKey::Session(id) => {
                if self.state.remove_session(id).is_some() {
                    self.touch_sessions();
                }
            }
            RowKey::Query(id) => {
                if self.state.queries.remove(id, self.index) {
                    self.touch_query(id);
                }
            }
            RowKey::Token(accessor) => {
                if self.state.credentials.remove_token(accessor) {
                    self.touch_acl();
                }
            }
            RowKey::Policy(id) => {
                if self.state.credentials.remove_policy(id) {
                    self.touch_acl();
                }
            }
            RowKey::Bootstrap => {
                if self.state.credentials.remove_bootstrap() {
                    self.touch_acl();
                }
            }
            RowKey::Kv(key) => {
                if self.state.remove_key(key).is_some() {
                    self.state.marks.bury(key, self.index);
                    self.touched.insert(WatchKey::Key(key.clone()));
                }
            }
        }
    }

    fn put(&mut self, row: Stamped<Row>) {
        match &row.value {
            Row::Node(node) => {
                let key = node.key();
                let old = self.state.node(&key).map(|old| old.name.clone());
                if old.is_none() {
                    // Until now it shared its marks with all hosts that are not there; they must not go back.
                    let gone = self.state.marks.nodes_gone;
                    self.state.marks.nodes.insert(key.clone(), NodeMarks::both(gone));
                }
                // Checks show the name of their host.
                let respelled = old.is_some_and(|old| old != node.name) && self.state.checks_on(&key).next().is_some();
                self.state.insert(row);
                self.touch_services_on(&key, Part::Status);
                self.touch_node_list();
                self.touch_node(&key);
                if respelled {
                    self.touch_node_checks(&key, Part::Status);
                }
            }
            Row::Instance(instance) => {
                let old = self.state.instance(&instance.node, &instance.id).cloned();
                let (node, id, service) = (instance.node.clone(), instance.id.clone(), instance.service_key());
                let listed = |i: &Instance| (i.service.clone(), i.tags.clone());
                let same_listing = old.as_ref().is_some_and(|old| listed(old) == listed(instance));
                self.state.insert(row);
                if let Some(old) = old
                    && old.service_key() != service
                {
                    self.touch_service(&old.service_key(), Part::Status);
                }
                self.touch_service(&service, Part::Status);
                self.touch_node(&node);
                if !same_listing {
                    self.touch_service_list();
                    self.touch_checks_of(&node, &id);
                }
            }
            Row::Check(check) => {
                let old = self.state.check(&check.node, &check.id).cloned();
                let new = check.clone();
                self.state.insert(row);
                let part = match &old {
                    Some(old) if differ_in_output_only(old, &new) => Part::Output,
                    _ => Part::Status,
                };
                if let Some(old) = old
                    && old.service != new.service
                {
                    self.touch_check(&old, Part::Status);
                }
                self.touch_check(&new, part);
            }
            Row::Session(_) => {
                self.state.insert(row);
                self.touch_sessions();
            }
            Row::Query(query) => {
                let id = query.id.clone();
                self.state.insert(row);
                self.touch_query(&id);
            }
            Row::Token(_) | Row::Policy(_) | Row::Bootstrap(_) => {
                self.state.insert(row);
                self.touch_acl();
            }
            Row::Kv(entry) => {
                let key = entry.key.clone();
                self.state.insert(row);
                self.state.marks.unbury(&key);
                self.touched.insert(WatchKey::Key(key));
            }
        }
    }

    /// A check shows in every service of its host, or in that of its instance.
    fn touch_check(&mut self, check: &Check, part: Part) {
        match &check.service {
            None => self.touch_services_on(&check.node, part),
            Some(id) => {
                if let Some(instance) = self.state.instance(&check.node, id).cloned() {
                    self.touch_service(&instance.service_key(), part);
                }
            }
        }
        self.touch_node_checks(&check.node, part);
    }

    /// Checks show the name and tags of their instance.
    fn touch_checks_of(&mut self, node: &NodeKey, id: &InstanceId) {
        if self.state.checks_of(node, Some(id)).next().is_some() {
            self.touch_node_checks(node, Part::Status);
        }
    }

    fn touch_services_on(&mut self, node: &NodeKey, part: Part) {
        let services: std::collections::BTreeSet<ServiceKey> =
            self.state.instances_on(node).map(|i: &Arc<Stamped<Instance>>| i.service_key()).collect();
        for service in services {
            self.touch_service(&service, part);
        }
    }

    fn touch_service(&mut self, service: &ServiceKey, part: Part) {
        self.touched.insert(WatchKey::Service(service.clone()));
        if part == Part::Status {
            self.touched.insert(WatchKey::ServiceStatus(service.clone()));
        }
        let (index, marks) = (self.index, &mut self.state.marks);
        if !self.state.by_service.contains_key(service) {
            marks.services.remove(service);
            marks.services_gone = index;
            return;
        }
        let floor = ServiceMarks::both(marks.floor);
        let mark = marks.services.entry(service.clone()).or_insert(floor);
        mark.any = index;
        if part == Part::Status {
            mark.status = index;
        }
    }

    fn touch_node(&mut self, node: &NodeKey) {
        self.touched.insert(WatchKey::Node(node.clone()));
        self.node_marks(node).services = self.index;
    }

    fn touch_node_checks(&mut self, node: &NodeKey, part: Part) {
        self.touched.extend([WatchKey::NodeChecks(node.clone()), WatchKey::Checks]);
        if part == Part::Status {
            self.touched.insert(WatchKey::CheckStatuses);
            self.state.marks.check_statuses = self.index;
        }
        self.node_marks(node).checks = self.index;
        self.state.marks.checks = self.index;
    }

    fn node_marks(&mut self, node: &NodeKey) -> &mut NodeMarks {
        let floor = self.state.marks.floor;
        self.state.marks.nodes.entry(node.clone()).or_insert(NodeMarks::both(floor))
    }

    fn touch_query(&mut self, id: &QueryId) {
        self.touched.extend([WatchKey::Query(id.clone()), WatchKey::Queries]);
    }

    fn touch_acl(&mut self) {
        self.touched.insert(WatchKey::Acl);
        self.state.credentials.changed = self.index;
    }

    fn touch_service_list(&mut self) {
        self.touched.insert(WatchKey::Services);
        self.state.marks.service_list = self.index;
    }

    fn touch_sessions(&mut self) {
        self.touched.insert(WatchKey::Sessions);
        self.state.marks.sessions = self.index;
    }

    fn touch_node_list(&mut self) {
        self.touched.insert(WatchKey::Nodes);
        self.state.marks.node_list = self.index;
    }
}

fn differ_in_output_only(old: &Check, new: &Check) -> bool {
    *new == Check { output: new.output.clone(), ..old.clone() }
}

#[cfg(test)]
mod tests;
