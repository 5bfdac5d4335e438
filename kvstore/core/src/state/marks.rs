//! When each set that can be waited on changed last, deletions included.

use imbl::{OrdMap, OrdSet};

use super::{State, from};
use crate::{
    Index, WatchKey,
    names::{Key, NodeKey, ServiceKey},
};

/// So many deleted keys are remembered one by one; see [`State::remember_deletions`].
const MAX_GRAVES: usize = 16_384;

/// The index of the last change of each set that can be waited on, deletions included.
///
/// What has no mark of its own changed last at or before `floor`, which is the index at which the rows were loaded.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    pub(crate) floor: Index,
    pub(crate) services: OrdMap<ServiceKey, ServiceMarks>,
    /// When a service last lost its last instance; stands for every service that has none.
    pub(crate) services_gone: Index,
    pub(crate) nodes: OrdMap<NodeKey, NodeMarks>,
    pub(crate) nodes_gone: Index,
    pub(crate) service_list: Index,
    pub(crate) node_list: Index,
    pub(crate) checks: Index,
    pub(crate) check_statuses: Index,
    pub(crate) sessions: Index,
    graves: OrdMap<Key, Index>,
    graves_by_age: OrdSet<(Index, Key)>,
    graves_forgotten: Index,
    max_graves: usize,
}

/// Watermarks of one service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServiceMarks {
    pub(crate) any: Index,
    pub(crate) status: Index,
}

/// Watermarks of one host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeMarks {
    pub(crate) services: Index,
    pub(crate) checks: Index,
}

impl ServiceMarks {
    /// Both at `index`.
    pub(crate) fn both(index: Index) -> Self {
        Self { any: index, status: index }
    }
}

impl NodeMarks {
    /// Both at `index`.
    pub(crate) fn both(index: Index) -> Self {
        Self { services: index, checks: index }
    }
}

impl Marks {
    pub(super) fn new(floor: Index) -> Self {
        Self {
            floor,
            services: OrdMap::new(),
            services_gone: floor,
            nodes: OrdMap::new(),
            nodes_gone: floor,
            service_list: floor,
            node_list: floor,
            checks: floor,
            check_statuses: floor,
            sessions: floor,
            graves: OrdMap::new(),
            graves_by_age: OrdSet::new(),
            graves_forgotten: floor,
            max_graves: MAX_GRAVES,
        }
    }

    /// Remembers that `key` was deleted at `index`.
    pub(crate) fn bury(&mut self, key: &Key, index: Index) {
        if let Some(old) = self.graves.insert(key.clone(), index) {
            self.graves_by_age.remove(&(old, key.clone()));
        }
        self.graves_by_age.insert((index, key.clone()));
        while self.graves.len() > self.max_graves
            && let Some((oldest, key)) = self.graves_by_age.remove_min()
        {
            self.graves.remove(&key);
            self.graves_forgotten = self.graves_forgotten.max(oldest);
        }
    }

    /// A living key needs no grave: its modify index is later.
    pub(crate) fn unbury(&mut self, key: &Key) {
        if let Some(old) = self.graves.remove(key) {
            self.graves_by_age.remove(&(old, key.clone()));
        }
    }
}

impl State {
    /// Remembers the last `keys` deletions of keys one by one, and older ones together as the newest of them: a reader
    /// of a key that is not there may then be woken by the deletion of another.
    pub fn remember_deletions(&mut self, keys: usize) {
        self.marks.max_graves = keys;
    }

    /// The index of the last change of what `key` names; rises with every change of it, deletions included, and may
    /// rise without one.
    pub fn index_of(&self, key: &WatchKey) -> Index {
        if let Some(whole) = &self.whole {
            return whole.index_of(key);
        }
        let marks = &self.marks;
        match key {
            WatchKey::Key(key) => self.key_index(key),
            WatchKey::KeyPrefix(prefix) => {
                let rows = self.keys(prefix).map(|entry| entry.modified);
                let graves = from(&marks.graves, prefix)
                    .take_while(|(key, _)| key.as_str().starts_with(prefix.as_str()))
                    .map(|(_, index)| *index);
                rows.chain(graves).fold(marks.graves_forgotten, Ord::max)
            }
            WatchKey::Service(service) => self.service_marks(service).any,
            WatchKey::ServiceStatus(service) => self.status_index(service),
            WatchKey::Services => marks.service_list,
            WatchKey::Nodes => marks.node_list,
            WatchKey::Node(node) => self.node_marks(node).services,
            WatchKey::NodeChecks(node) => self.node_marks(node).checks,
            WatchKey::Checks => marks.checks,
            WatchKey::CheckStatuses => marks.check_statuses,
            WatchKey::Sessions => marks.sessions,
            WatchKey::Queries => self.queries.changed(),
            WatchKey::Query(id) => self.queries.changed_last(id),
            WatchKey::Acl => self.credentials.changed,
        }
    }

    /// The index of the last change to a service that answers about healthy instances show.
    pub(crate) fn status_index(&self, service: &ServiceKey) -> Index {
        self.whole.as_deref().unwrap_or(self).service_marks(service).status
    }

    /// The index of the last change to a key, or of its deletion.
    pub(crate) fn key_index(&self, key: &Key) -> Index {
        let Self { kv, marks, .. } = self.whole.as_deref().unwrap_or(self);
        match kv.get(key) {
            Some(entry) => entry.modified,
            None => marks.graves.get(key).copied().unwrap_or(marks.graves_forgotten),
        }
    }

    fn service_marks(&self, service: &ServiceKey) -> ServiceMarks {
        let marks = &self.marks;
        if !self.by_service.contains_key(service) {
            return ServiceMarks::both(marks.services_gone);
        }
        marks.services.get(service).copied().unwrap_or(ServiceMarks::both(marks.floor))
    }

    fn node_marks(&self, node: &NodeKey) -> NodeMarks {
        let marks = &self.marks;
        if !self.nodes.contains_key(node) {
            return NodeMarks::both(marks.nodes_gone);
        }
        marks.nodes.get(node).copied().unwrap_or(NodeMarks::both(marks.floor))
    }
}
