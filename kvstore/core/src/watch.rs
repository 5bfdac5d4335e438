//! What a read depended on, and what a write touched: the same words on both sides.

use std::collections::HashSet;

use crate::{
    names::{Key, NodeKey, ServiceKey},
    prepared_query::QueryId,
};

/// Something that can be waited on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum WatchKey {
    /// One key, present or not. A write touches it; who waits on a prefix is found by the waiters.
    Key(Key),
    /// All keys that begin with this. Only waited on, never in [`Touched`].
    KeyPrefix(String),
    /// Instances of a service, their checks with output, their hosts.
    Service(ServiceKey),
    /// The same without the output of checks.
    ServiceStatus(ServiceKey),
    /// The names and tags of all services.
    Services,
    /// The list of hosts.
    Nodes,
    /// A host and its instances.
    Node(NodeKey),
    /// The checks of a host and of its instances.
    NodeChecks(NodeKey),
    /// Any check.
    Checks,
    /// The same without the output of checks.
    CheckStatuses,
    /// Any session.
    Sessions,
    /// Any prepared query.
    Queries,
    /// One prepared query.
    Query(QueryId),
    /// Any token or policy.
    Acl,
}

/// What a change touched.
pub type Touched = HashSet<WatchKey>;
