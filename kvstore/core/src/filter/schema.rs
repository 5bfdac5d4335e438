//! Which fields the rows of an answer have, and what each holds.

use super::error::{Fault, Problem};
use super::syntax::Selector;

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// Yes or no.
    Bool,
    /// Texts, such as tags.
    Texts,
    /// Texts by key.
    Pairs,
    /// Records by key.
    Keyed(Schema),
    /// A record within the record.
    Record(Schema),
    /// Records; a comparison below holds if it holds for one of them.
    Records(Schema),
}

/// The fields of a record.
pub type Schema = &'static [(&'static str, Kind)];

use Kind::{Bool, Int, Keyed, Pairs, Record, Records, Text, Texts};

/// A host: `/v1/catalog/nodes`.
pub const NODE: Schema = &[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", Pairs),
    ("Meta", Pairs),
    ("PeerName", Text),
];

/// An instance: `/v1/agent/services`, `/v1/catalog/node/...`.
pub const SERVICE: Schema = &[
    ("Kind", Text),
    ("ID", Text),
    ("Service", Text),
    ("Tags", Texts),
    ("Meta", Pairs),
    ("Port", Int),
    ("Address", Text),
    ("SocketPath", Text),
    ("TaggedAddresses", Keyed(ADDRESS)),
    ("Weights", Record(WEIGHTS)),
    ("EnableTagOverride", Bool),
    ("Proxy", Record(PROXY)),
    ("Connect", Record(CONNECT)),
    ("PeerName", Text),
];

/// An instance and its host in one: `/v1/catalog/service/...`, `/v1/catalog/services`.
pub const CATALOG: Schema = &[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", Pairs),
    ("NodeMeta", Pairs),
    ("ServiceKind", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", Texts),
    ("ServiceAddress", Text),
    ("ServiceTaggedAddresses", Keyed(ADDRESS)),
    ("ServiceWeights", Record(WEIGHTS)),
    ("ServiceMeta", Pairs),
    ("ServicePort", Int),
    ("ServiceSocketPath", Text),
    ("ServiceEnableTagOverride", Bool),
    ("ServiceProxy", Record(PROXY)),
    ("ServiceConnect", Record(CONNECT)),
    ("PeerName", Text),
];

/// A check: `/v1/agent/checks` and most of `/v1/health`.
pub const CHECK: Schema = &[
    ("Node", Text),
    ("CheckID", Text),
    ("Name", Text),
    ("Status", Text),
    ("Notes", Text),
    ("Output", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", Texts),
    ("Type", Text),
    ("Interval", Text),
    ("Timeout", Text),
    ("ExposedPort", Int),
    ("PeerName", Text),
];

/// An instance with host and checks: `/v1/health/service/...`.
pub const ENTRY: Schema = &[("Node", Record(NODE)), ("Service", Record(SERVICE)), ("Checks", Records(CHECK))];

pub(super) const ADDRESS: Schema = &[("Address", Text), ("Port", Int)];

pub(super) const WEIGHTS: Schema = &[("Passing", Int), ("Warning", Int)];

pub(super) const CONNECT: Schema = &[("Native", Bool)];

/// Of what clients say about proxies, what they filter by.
pub(super) const PROXY: Schema = &[
    ("DestinationServiceName", Text),
    ("DestinationServiceID", Text),
    ("LocalServiceAddress", Text),
    ("LocalServicePort", Int),
    ("LocalServiceSocketPath", Text),
    ("Mode", Text),
    ("MeshGateway", Record(MESH_GATEWAY)),
    ("Expose", Record(EXPOSE)),
    ("TransparentProxy", Record(TRANSPARENT_PROXY)),
    ("Upstreams", Records(UPSTREAM)),
];

const MESH_GATEWAY: Schema = &[("Mode", Text)];

const EXPOSE: Schema = &[("Checks", Bool), ("Paths", Records(EXPOSED_PATH))];

const EXPOSED_PATH: Schema =
    &[("ListenerPort", Int), ("Path", Text), ("LocalPathPort", Int), ("Protocol", Text), ("ParsedFromCheck", Bool)];

const TRANSPARENT_PROXY: Schema = &[("OutboundListenerPort", Int), ("DialedDirectly", Bool)];

const UPSTREAM: Schema = &[
    ("DestinationType", Text),
    ("DestinationNamespace", Text),
    ("DestinationPeer", Text),
    ("DestinationName", Text),
    ("Datacenter", Text),
    ("LocalBindAddress", Text),
    ("LocalBindPort", Int),
    ("LocalBindSocketPath", Text),
    ("MeshGateway", Record(MESH_GATEWAY)),
];

/// What a field of the schema holds; `None` if there is no such field.
pub(super) fn field(schema: Schema, name: &str) -> Option<Kind> {
    schema.iter().find(|(own, _)| *own == name).map(|(_, kind)| *kind)
}

/// What `selector` leads to in a record of `schema`.
pub(super) fn select(selector: &Selector, schema: Schema) -> Result<Kind, Fault> {
    let mut kind = Record(schema);
    for (i, name) in selector.names.iter().enumerate() {
        let below = match kind {
            Record(schema) | Records(schema) => field(schema, name),
            Pairs => Some(Text),
            Keyed(schema) => Some(Record(schema)),
            Text | Int | Bool | Texts => None,
        };
        kind = below.ok_or_else(|| {
            let fields = match kind {
                Record(schema) | Records(schema) => schema.iter().map(|(name, _)| *name).collect(),
                _ => Vec::new(),
            };
            Fault::new(selector.at, Problem::Selector { selector: selector.names[..=i].join("."), fields })
        })?;
    }
    Ok(kind)
}
