//! `?filter=`: which rows of a list a client wants. The language and its rules are [`kvstore_core::filter`]'s.

use kvstore_core::{
    InstanceView, State, WatchKey,
    filter::{CatalogRecord, CheckRecord, EntryRecord, Filter, NodeRecord, Schema, ServiceRecord},
    row::{Check, Instance, Node},
};

use super::{App, Call, error::ApiError};

/// The filter of one request; without one, everything is wanted.
pub(super) struct Wanted {
    filter: Filter,
    datacenter: String,
}

impl Wanted {
    /// What `call` wants of rows with the fields of `schema`.
    pub(super) fn of(app: &App, call: &Call, schema: Schema) -> Result<Self, ApiError> {
        let refused = |why| ApiError::Rejected(format!("Failed to create boolean expression evaluator: {why}"));
        let filter = Filter::parse(call.query.get("filter").unwrap_or_default(), schema).map_err(refused)?;
        Ok(Self { filter, datacenter: app.about.datacenter.clone() })
    }

    pub(super) fn node(&self, node: &Node) -> bool {
        self.filter.takes(&NodeRecord { node, datacenter: &self.datacenter })
    }

    pub(super) fn instance(&self, instance: &Instance) -> bool {
        self.filter.takes(&ServiceRecord(instance))
    }

    /// An instance with its host, as the catalog lists it.
    pub(super) fn listed(&self, view: &InstanceView<'_>) -> bool {
        let (node, instance) = (view.node, view.instance);
        self.filter.takes(&CatalogRecord { node, instance, datacenter: &self.datacenter })
    }

    /// An instance with its host and checks.
    pub(super) fn entry(&self, state: &State, view: InstanceView<'_>) -> bool {
        self.filter.takes(&EntryRecord { state, view, datacenter: &self.datacenter })
    }

    pub(super) fn check(&self, state: &State, check: &Check) -> bool {
        self.filter.takes(&CheckRecord { state, check })
    }

    /// Whether what a check says may decide what is wanted.
    pub(super) fn reads_output(&self) -> bool {
        self.filter.reads("Output")
    }

    /// Whether a filter was given.
    pub(super) fn narrows(&self) -> bool {
        self.filter.narrows()
    }

    /// What else the list of services depends on: a filter may ask for any field of any instance. Hosts that come
    /// later change the list of hosts.
    pub(super) fn watched(&self, state: &State) -> Vec<WatchKey> {
        if !self.filter.narrows() {
            return Vec::new();
        }
        let hosts = state.nodes().map(|(node, _)| WatchKey::Node(node.clone()));
        hosts.chain([WatchKey::Nodes]).collect()
    }
}
