//! The JSON of the API, field for field, without logic.
//!
//! Field names and their order are Consul's. Reading is lenient (`null` lists, absent fields, unknown fields), since a
//! genuine Consul of any version may be at the other end; writing gives exactly what Consul would.

mod acl;
mod agent;
mod catalog;
mod event;
mod health;
mod kv;
mod member;
mod query;
mod session;

pub use acl::{AclLink, AclPolicy, AclToken};
pub use agent::{AgentCheck, AgentService, CheckRegistration, CheckUpdate, ServiceRegistration};
pub use catalog::{
    CatalogDeregistration, CatalogNode, CatalogRegistration, CatalogService, CatalogServices, CheckDefinition, Node,
    NodeService, ServiceAddress, ServicePort, Weights,
};
pub use event::UserEvent;
pub use health::{CheckStatus, HealthCheck, ServiceEntry};
pub use kv::{KvEntry, base64_or_null};
pub use member::{Coordinate, Member, NodeCoordinate, RaftConfiguration, RaftServer};
pub use query::{
    PreparedQuery, QueryCreated, QueryDns, QueryExecution, QueryExplanation, QueryFailover, QueryFailoverTarget,
    QueryMeta, QueryTemplate, ServiceQuery,
};
pub use session::{Session, SessionRequest, SessionServiceCheck};

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// String pairs, sorted: node and service metadata, tagged node addresses.
pub type Meta = BTreeMap<String, String>;

/// Reads `null` as the type's default, as Go does.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
pub(crate) fn is_zero(n: &u16) -> bool {
    *n == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
pub(crate) fn is_false(b: &bool) -> bool {
    !*b
}
