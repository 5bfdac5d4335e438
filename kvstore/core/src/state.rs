//! Everything the registry knows, at one index; a clone is O(1) and never changes under its reader.

mod addresses;
mod catalog;
mod derived;
mod kv;
mod marks;

use std::{net::IpAddr, ops::Bound, sync::Arc};

use imbl::{OrdMap, OrdSet};

use crate::{
    Index,
    credentials::Credentials,
    names::{CheckId, InstanceId, Key, NodeKey, ServiceKey, SessionId},
    overlay::Networks,
    prepared_query::{PreparedQuery, QueryId, Resolved, Table, Unresolved},
    row::{Check, Instance, KvEntry, Node, Row, RowKey, Session, Stamped},
};

pub use catalog::InstanceView;
use marks::Marks;
pub(crate) use marks::{NodeMarks, ServiceMarks};

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
    checks_of: OrdMap<(NodeKey, Option<InstanceId>), OrdSet<CheckId>>,
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

    /// The index of the last change.
    pub fn index(&self) -> Index {
        self.index
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

    /// Networks of the overlay.
    pub(crate) fn networks(&self) -> &Networks {
        &self.networks
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

/// What is at `start` or after it.
fn from<'a, V>(map: &'a OrdMap<Key, V>, start: &str) -> impl Iterator<Item = (&'a Key, &'a V)> + use<'a, V> {
    map.range::<_, str>((Bound::Included(start), Bound::Unbounded))
}
