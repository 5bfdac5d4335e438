//! Everything the registry knows, at one index; a clone is O(1) and never changes under its reader.

use std::{net::IpAddr, ops::Bound, sync::Arc, time::Duration};

use imbl::{OrdMap, OrdSet};

use crate::{
    Changes, Index, Op, Put, WatchKey,
    credentials::Credentials,
    health::Status,
    names::{CheckId, InstanceId, Key, NodeKey, ServiceKey, SessionId},
    overlay::Networks,
    prepared_query::{PreparedQuery, QueryId, Resolved, Table, Unresolved},
    row::{Check, Instance, KvEntry, Node, Row, RowKey, Session, Stamped},
    version,
};

/// So many deleted keys are remembered one by one; see [`State::remember_deletions`].
const MAX_GRAVES: usize = 16_384;

/// Rows of all tables, the indexes derived from them, and watermarks.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) index: Index,
    /// See [`State::life`].
    life: u64,
    pub(crate) nodes: OrdMap<NodeKey, Arc<Stamped<Node>>>,
    pub(crate) instances: OrdMap<(NodeKey, InstanceId), Arc<Stamped<Instance>>>,
    pub(crate) checks: OrdMap<(NodeKey, CheckId), Arc<Stamped<Check>>>,
    pub(crate) sessions: OrdMap<SessionId, Arc<Stamped<Session>>>,
    pub(crate) queries: Table,
    pub(crate) credentials: Credentials,
    pub(crate) kv: OrdMap<Key, Arc<Stamped<KvEntry>>>,
    /// Derived: instances by service, in the order of answers.
    pub(crate) by_service: OrdMap<ServiceKey, OrdSet<(NodeKey, InstanceId)>>,
    /// Derived: checks by instance; `None` stands for the host itself.
    pub(crate) checks_of: OrdMap<(NodeKey, Option<InstanceId>), OrdSet<CheckId>>,
    /// Derived: hosts by their UUID.
    pub(crate) node_by_id: OrdMap<String, NodeKey>,
    /// Derived: who has an IP address; `None` stands for the host itself.
    by_address: OrdMap<IpAddr, OrdSet<(NodeKey, Option<InstanceId>)>>,
    /// Derived: containers by their addresses on their networks.
    by_network: OrdMap<IpAddr, OrdSet<(NodeKey, InstanceId)>>,
    /// Derived: the keys that tell somebody's version, by the address.
    told_callers: OrdMap<IpAddr, OrdSet<(NodeKey, Key)>>,
    /// Derived: networks of the overlay.
    networks: Networks,
    /// Derived: sessions by host.
    sessions_on: OrdMap<NodeKey, OrdSet<SessionId>>,
    /// Derived: the keys whose lock a session holds.
    held_by: OrdMap<SessionId, OrdSet<Key>>,
    pub(crate) marks: Marks,
    /// Of a view: the state that it shows a part of. The indexes of what can be waited on are that state's.
    pub(crate) whole: Option<Arc<State>>,
}

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
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ServiceMarks {
    pub(crate) any: Index,
    pub(crate) status: Index,
}

/// Watermarks of one host.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NodeMarks {
    pub(crate) services: Index,
    pub(crate) checks: Index,
}

impl Marks {
    fn new(floor: Index) -> Self {
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

/// How much there is of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Hosts.
    pub nodes: usize,
    /// Services that have an instance.
    pub services: usize,
    /// Instances.
    pub instances: usize,
    /// Keys of the KV store.
    pub keys: usize,
}

/// An instance with its host and what its checks make of it.
#[derive(Clone, Copy, Debug)]
pub struct InstanceView<'a> {
    state: &'a State,
    /// Its host.
    pub node: &'a Arc<Stamped<Node>>,
    /// The instance.
    pub instance: &'a Arc<Stamped<Instance>>,
}

impl<'a> InstanceView<'a> {
    /// The checks of its host, then its own, each set by id.
    pub fn checks(&self) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        let (state, instance) = (self.state, self.instance);
        state.node_level_checks(&instance.node).chain(state.checks_of(&instance.node, Some(&instance.id)))
    }

    /// The worst state of all its checks, the host's included; passing without any.
    pub fn status(&self) -> Status {
        Status::worst(self.checks().map(|check| check.status))
    }

    /// Where it is reached: its own address, else its host's.
    pub fn address(&self) -> &'a str {
        if self.instance.address.is_empty() { &self.node.address } else { &self.instance.address }
    }
}

impl State {
    /// Nothing yet; the first change will be at `index.next()`.
    pub fn empty(index: Index) -> Self {
        Self {
            index,
            life: 0,
            nodes: OrdMap::new(),
            instances: OrdMap::new(),
            checks: OrdMap::new(),
            sessions: OrdMap::new(),
            queries: Table::new(index),
            credentials: Credentials::new(index),
            kv: OrdMap::new(),
            by_service: OrdMap::new(),
            checks_of: OrdMap::new(),
            node_by_id: OrdMap::new(),
            by_address: OrdMap::new(),
            by_network: OrdMap::new(),
            told_callers: OrdMap::new(),
            networks: Networks::default(),
            sessions_on: OrdMap::new(),
            held_by: OrdMap::new(),
            marks: Marks::new(index),
            whole: None,
        }
    }

    /// The state that consists of `rows`, as loaded from a store whose last change was at `index`.
    pub fn load(index: Index, rows: impl IntoIterator<Item = Stamped<Row>>) -> Self {
        let mut state = Self::empty(index);
        for row in rows {
            state.insert(row);
        }
        state
    }

    /// The state that consists of `rows` after something was missed that came before `index`. If that is no later than
    /// the index here, it is another life of the registry, whose indexes mean other changes.
    #[must_use]
    pub fn load_anew(&self, index: Index, rows: impl IntoIterator<Item = Stamped<Row>>) -> Self {
        Self { life: self.life + u64::from(index <= self.index), ..Self::load(index, rows) }
    }

    /// How often indexes began to mean other changes. What is kept under an index is right in its own life only.
    pub fn life(&self) -> u64 {
        self.whole.as_deref().unwrap_or(self).life
    }

    /// Remembers the last `keys` deletions of keys one by one, and older ones together as the newest of them: a reader
    /// of a key that is not there may then be woken by the deletion of another.
    pub fn remember_deletions(&mut self, keys: usize) {
        self.marks.max_graves = keys;
    }

    /// The index of the last change.
    pub fn index(&self) -> Index {
        self.index
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
            return ServiceMarks { any: marks.services_gone, status: marks.services_gone };
        }
        let floor = ServiceMarks { any: marks.floor, status: marks.floor };
        marks
            .services
            .get(service)
            .map_or(floor, |own| ServiceMarks { any: own.any.max(marks.floor), status: own.status.max(marks.floor) })
    }

    fn node_marks(&self, node: &NodeKey) -> NodeMarks {
        let marks = &self.marks;
        if !self.nodes.contains_key(node) {
            return NodeMarks { services: marks.nodes_gone, checks: marks.nodes_gone };
        }
        let floor = NodeMarks { services: marks.floor, checks: marks.floor };
        marks.nodes.get(node).map_or(floor, |own| NodeMarks {
            services: own.services.max(marks.floor),
            checks: own.checks.max(marks.floor),
        })
    }

    /// A key of the KV store.
    pub fn key(&self, key: &Key) -> Option<&Arc<Stamped<KvEntry>>> {
        self.kv.get(key)
    }

    /// Every key that begins with `prefix`, in order of bytes.
    pub fn keys<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Stamped<KvEntry>>> + use<'a> {
        from(&self.kv, prefix).map(|(_, entry)| entry).take_while(move |entry| entry.key.as_str().starts_with(prefix))
    }

    /// A session.
    pub fn session(&self, id: &SessionId) -> Option<&Arc<Stamped<Session>>> {
        self.sessions.get(id)
    }

    /// Every session, by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Stamped<Session>>> {
        self.sessions.values()
    }

    /// The sessions of a host, by id.
    pub fn sessions_on(&self, node: &NodeKey) -> impl Iterator<Item = &Arc<Stamped<Session>>> {
        self.sessions_on.get(node).into_iter().flatten().filter_map(|id| self.session(id))
    }

    /// The keys whose lock a session holds, in order of bytes.
    pub fn held_by(&self, session: &SessionId) -> impl Iterator<Item = &Key> {
        self.held_by.get(session).into_iter().flatten()
    }

    /// The keys whose locks `changes` tear from sessions that end, each with the time for which nobody may lock it.
    pub fn freed_by(&self, changes: &Changes) -> Vec<(Key, Duration)> {
        let is_ending = |id: &SessionId| self.session(id).is_some_and(|session| session.ending);
        let torn = changes.ops.iter().flat_map(|op| match op {
            Op::Delete(RowKey::Session(id)) if !is_ending(id) => self.held_by(id).cloned().collect(),
            Op::Put(Put { row: Row::Kv(KvEntry { key, session: None, .. }), .. }) | Op::Delete(RowKey::Kv(key)) => {
                let held = self.key(key).and_then(|entry| entry.session.as_ref()).is_some_and(is_ending);
                if held { vec![key.clone()] } else { vec![] }
            }
            _ => vec![],
        });
        let delayed = torn.filter_map(|key| {
            let delay = self.session(self.key(&key)?.session.as_ref()?)?.lock_delay;
            (!delay.is_zero()).then_some((key, delay))
        });
        delayed.collect()
    }

    /// A prepared query.
    pub fn query(&self, id: &QueryId) -> Option<&Arc<Stamped<PreparedQuery>>> {
        self.queries.get(id)
    }

    /// Every prepared query, by id.
    pub fn queries(&self) -> impl Iterator<Item = &Arc<Stamped<PreparedQuery>>> {
        self.queries.all()
    }

    /// The prepared query that an id or a name means: by its id, by its own name, or the template with the longest
    /// beginning of the name, rendered.
    ///
    /// # Errors
    /// [`Unresolved`] if there is one that cannot be asked by this.
    pub fn resolve_query(&self, id_or_name: &str) -> Result<Option<Resolved<'_>>, Unresolved> {
        self.queries.resolve(id_or_name)
    }

    /// Who may show themselves, and what for.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// A host.
    pub fn node(&self, node: &NodeKey) -> Option<&Arc<Stamped<Node>>> {
        self.nodes.get(node)
    }

    /// All hosts, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&NodeKey, &Arc<Stamped<Node>>)> {
        self.nodes.iter()
    }

    /// An instance.
    pub fn instance(&self, node: &NodeKey, id: &InstanceId) -> Option<&Arc<Stamped<Instance>>> {
        self.instances.get(&(node.clone(), id.clone()))
    }

    /// An instance with its host and health.
    pub fn instance_view(&self, node: &NodeKey, id: &InstanceId) -> Option<InstanceView<'_>> {
        let instance = self.instance(node, id)?;
        Some(InstanceView { state: self, node: self.nodes.get(node)?, instance })
    }

    /// The instances of a service, by node name, then id; empty if there is no such service.
    pub fn instances_of<'a>(&'a self, service: &ServiceKey) -> impl Iterator<Item = InstanceView<'a>> + use<'a> {
        let found = self.by_service.get(service);
        found.into_iter().flatten().filter_map(|(node, id)| self.instance_view(node, id))
    }

    /// Whether the service has an instance.
    pub fn has_service(&self, service: &ServiceKey) -> bool {
        self.by_service.contains_key(service)
    }

    /// Every service that has an instance.
    pub fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.by_service.keys()
    }

    /// The instances on a host, by id.
    pub fn instances_on<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a Arc<Stamped<Instance>>> + use<'a> {
        of_node(&self.instances, node)
    }

    /// Who is registered with an IP address: hosts (no instance id) and instances with an address of their own.
    pub fn holders_of(&self, address: IpAddr) -> impl Iterator<Item = (&NodeKey, Option<&InstanceId>)> {
        let found = self.by_address.get(&address);
        found.into_iter().flatten().map(|(node, id)| (node, id.as_ref()))
    }

    /// Who may ask from an address: containers by their networks' addresses, and what has no such addresses by the one it
    /// is registered with.
    pub(crate) fn callers_at(&self, address: IpAddr) -> impl Iterator<Item = &Instance> {
        let containers = self.by_network.get(&address).into_iter().flatten();
        let containers = containers.filter_map(|(node, id)| self.instance(node, id));
        let registered = self.holders_of(address).flat_map(|(node, id)| {
            let own = id.and_then(|id| self.instance(node, id));
            // With an address of their own they are elsewhere.
            let of_host = id.is_none().then(|| self.instances_on(node).filter(|i| i.address.is_empty()));
            own.into_iter().chain(of_host.into_iter().flatten())
        });
        let elsewhere = |instance: &&Arc<Stamped<Instance>>| version::network_addresses(instance).next().is_none();
        containers.chain(registered.filter(elsewhere)).map(|instance| &instance.value)
    }

    /// What keys say about who asks from an address: the host it is on, and its version.
    pub(crate) fn told_callers_at(&self, address: IpAddr) -> impl Iterator<Item = (&NodeKey, Option<&str>)> {
        let found = self.told_callers.get(&address).into_iter().flatten();
        found.filter_map(|(node, key)| Some((node, version::told(&self.key(key)?.value.value))))
    }

    /// Networks of the overlay.
    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
    }

    /// Whether a host is registered with this address.
    pub(crate) fn is_host(&self, address: IpAddr) -> bool {
        self.holders_of(address).any(|(_, instance)| instance.is_none())
    }

    /// Whether the host is registered with this address.
    pub(crate) fn has_address(&self, node: &NodeKey, address: IpAddr) -> bool {
        self.by_address.get(&address).is_some_and(|holders| holders.contains(&(node.clone(), None)))
    }

    /// Whether two hosts of the catalog are one: registered with the same address, which is not everybody's own.
    pub(crate) fn share_address(&self, one: &NodeKey, other: &NodeKey) -> bool {
        let address = self.node(one).and_then(|node| node.address.parse::<IpAddr>().ok());
        address.is_some_and(|address| !address.is_loopback() && self.has_address(other, address))
    }

    /// A check.
    pub fn check(&self, node: &NodeKey, id: &CheckId) -> Option<&Arc<Stamped<Check>>> {
        self.checks.get(&(node.clone(), id.clone()))
    }

    /// Every check of a host and its instances, by id.
    pub fn checks_on<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        of_node(&self.checks, node)
    }

    /// The checks of a host as a whole, by id.
    pub fn node_level_checks<'a>(&'a self, node: &NodeKey) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        self.checks_of(node, None)
    }

    /// The checks of one instance without its host's, or with `None` the host's; by id.
    pub fn checks_of<'a>(
        &'a self,
        node: &NodeKey,
        instance: Option<&InstanceId>,
    ) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
        let found = self.checks_of.get_key_value(&(node.clone(), instance.cloned()));
        found.into_iter().flat_map(|((node, _), ids)| ids.iter().filter_map(|id| self.check(node, id)))
    }

    /// Every check there is, by node, then id.
    pub fn checks(&self) -> impl Iterator<Item = &Arc<Stamped<Check>>> {
        self.checks.values()
    }

    /// The instance a check belongs to; none for a check of a host.
    pub fn instance_of(&self, check: &Check) -> Option<&Arc<Stamped<Instance>>> {
        self.instance(&check.node, check.service.as_ref()?)
    }

    /// How much there is.
    pub fn sizes(&self) -> Sizes {
        Sizes {
            nodes: self.nodes.len(),
            services: self.by_service.len(),
            instances: self.instances.len(),
            keys: self.kv.len(),
        }
    }

    /// Every row, in order of tables and keys: what a snapshot holds.
    pub fn rows(&self) -> impl Iterator<Item = Stamped<Row>> {
        rows(&self.nodes, Row::Node)
            .chain(rows(&self.instances, Row::Instance))
            .chain(rows(&self.checks, Row::Check))
            .chain(rows(&self.sessions, Row::Session))
            .chain(rows(self.queries.rows(), Row::Query))
            .chain(self.credentials.rows())
            .chain(rows(&self.kv, Row::Kv))
    }

    /// The same, to be changed at `index`.
    pub(crate) fn at(&self, index: Index) -> Self {
        Self { index, ..self.clone() }
    }

    /// Whether the row is there, letter for letter.
    pub(crate) fn has(&self, row: &Row) -> bool {
        match row {
            Row::Node(new) => self.node(&new.key()).is_some_and(|old| old.value == *new),
            Row::Instance(new) => self.instance(&new.node, &new.id).is_some_and(|old| old.value == *new),
            Row::Check(new) => self.check(&new.node, &new.id).is_some_and(|old| old.value == *new),
            Row::Session(new) => self.session(&new.id).is_some_and(|old| old.value == *new),
            Row::Query(new) => self.query(&new.id).is_some_and(|old| old.value == *new),
            Row::Token(new) => self.credentials.token(&new.accessor).is_some_and(|old| old.value == *new),
            Row::Policy(new) => self.credentials.policy(&new.id).is_some_and(|old| old.value == *new),
            Row::Bootstrap(new) => self.credentials.bootstrap().is_some_and(|old| old.value == *new),
            Row::Kv(new) => self.key(&new.key).is_some_and(|old| old.value == *new),
        }
    }

    /// When the row was created and last modified; `None` if it is absent.
    pub(crate) fn stamps(&self, key: &RowKey) -> Option<(Index, Index)> {
        fn stamps<T>(row: Option<&Arc<Stamped<T>>>) -> Option<(Index, Index)> {
            row.map(|r| (r.created, r.modified))
        }
        match key {
            RowKey::Node(node) => stamps(self.node(node)),
            RowKey::Instance(node, id) => stamps(self.instance(node, id)),
            RowKey::Check(node, id) => stamps(self.check(node, id)),
            RowKey::Session(id) => stamps(self.session(id)),
            RowKey::Query(id) => stamps(self.query(id)),
            RowKey::Token(accessor) => stamps(self.credentials.token(accessor)),
            RowKey::Policy(id) => stamps(self.credentials.policy(id)),
            RowKey::Bootstrap => stamps(self.credentials.bootstrap()),
            RowKey::Kv(key) => stamps(self.key(key)),
        }
    }

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
        if let Some(old) = self.nodes.get(&key)
            && !old.id.is_empty()
        {
            self.node_by_id.remove(&old.value.id);
        }
        if let Some(old) = self.nodes.get(&key).cloned() {
            self.unlink_address(&old.address, &key, None);
        }
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

/// A table's rows, by key.
pub(crate) fn rows<'a, K: Clone + Ord, T: Clone + 'a>(
    table: &'a OrdMap<K, Arc<Stamped<T>>>,
    row: fn(T) -> Row,
) -> impl Iterator<Item = Stamped<Row>> + 'a {
    let stamp =
        move |r: &Arc<Stamped<T>>| Stamped { created: r.created, modified: r.modified, value: row(r.value.clone()) };
    table.values().map(stamp)
}

fn remove_member<K: Ord + Clone, V: Ord + Clone>(map: &mut OrdMap<K, OrdSet<V>>, key: &K, member: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(member);
        if set.is_empty() {
            map.remove(key);
        }
    }
}

fn from<'a, V>(map: &'a OrdMap<Key, V>, start: &str) -> impl Iterator<Item = (&'a Key, &'a V)> + use<'a, V> {
    map.range::<_, str>((Bound::Included(start), Bound::Unbounded))
}

/// The rows of one host in a table keyed by host and id.
fn of_node<'a, I: Ord + Clone + From<Empty>, T>(
    table: &'a OrdMap<(NodeKey, I), Arc<Stamped<T>>>,
    node: &NodeKey,
) -> impl Iterator<Item = &'a Arc<Stamped<T>>> + use<'a, I, T> {
    let node = node.clone();
    table.range((node.clone(), I::from(Empty))..).take_while(move |((of, _), _)| *of == node).map(|(_, row)| row)
}

/// The id before all others: where a range over a host's rows begins.
pub(crate) struct Empty;
