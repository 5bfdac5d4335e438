//! The tables: what a row holds, its key and its encoding.
//!
//! Keys are laid out so that what falls together is a prefix: `n/NODE` is a host, `n/NODE/i/ID` and `n/NODE/c/ID` are
//! its instances and checks, `s/ID` is a session, `q/ID` a prepared query, `a/t/ID` a token, `a/p/ID` a policy, `k/KEY` a key of the KV store. `/`, `%`
//! and control characters inside a name are escaped as in URLs, except in the last part of a KV key, where everything
//! may stand as it is. A row is encoded as JSON, field names included, so that a later version opens an older store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Index,
    credentials::{Bootstrap, Policy, Token},
    health::{Status, Thresholds},
    names::{CheckId, InstanceId, Key, NameError, NodeKey, PolicyId, ServiceKey, SessionId, TokenId},
    prepared_query::{PreparedQuery, QueryId},
};

/// String pairs, sorted.
pub type Meta = BTreeMap<String, String>;

/// A row with its place in the order of changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamped<T> {
    /// The change that first put it.
    pub created: Index,
    /// The change that last put it.
    pub modified: Index,
    /// What it holds.
    pub value: T,
}

impl<T> std::ops::Deref for Stamped<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// As registered; [`Node::key`] folds it.
    pub name: String,
    /// A UUID that survives a change of name or address; empty for hosts nobody runs an agent on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// IP or host name.
    pub address: String,
    /// More addresses, by name (`lan`, `wan`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tagged_addresses: Option<Meta>,
    /// Free pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
}

/// Who put a row, and so who may take it away by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// The agent of the row's node: listed by `/v1/agent/*`, its checks are run by that agent.
    Agent,
    /// `/v1/catalog/register`: stays until somebody deregisters it.
    #[default]
    External,
}

/// Address and port of an instance under a name such as `lan_ipv4`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedAddress {
    /// IP or host name.
    pub address: String,
    /// Port.
    pub port: u16,
}

/// How much load an instance takes, by its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weights {
    /// While it passes.
    pub passing: u16,
    /// While it warns.
    pub warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

/// One registration of a service on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The host's key.
    pub node: NodeKey,
    /// Unique on the host.
    pub id: InstanceId,
    /// As registered; [`Instance::service_key`] folds it.
    pub service: String,
    /// In the order given.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Empty: the node's address.
    #[serde(default)]
    pub address: String,
    /// 0: none.
    #[serde(default)]
    pub port: u16,
    /// A unix socket instead of a port; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// More addresses, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Free pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
    /// Share of the load.
    #[serde(default)]
    pub weights: Weights,
    /// Kept and echoed.
    #[serde(default)]
    pub enable_tag_override: bool,
    /// Empty for an ordinary service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Kept and echoed; we run no mesh.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub proxy: Value,
    /// Kept and echoed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub connect: Value,
    /// Who put it.
    #[serde(default)]
    pub owner: Owner,
    /// Whether a configuration file of the agent defines it: it goes when the file no longer does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_file: bool,
}

/// How an agent finds out the state of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// What is done.
    pub kind: ProbeKind,
    /// From one run to the next; zero for a TTL.
    #[serde(default, with = "millis")]
    pub interval: Duration,
    /// For one run; zero for a TTL.
    #[serde(default, with = "millis")]
    pub timeout: Duration,
    /// How many results in a row it takes to change the status.
    #[serde(default, skip_serializing_if = "Thresholds::is_default")]
    pub thresholds: Thresholds,
    /// The most output kept of a run; none: the agent's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_max_bytes: Option<u32>,
    /// The check's instance is deregistered when the check was critical for this long; zero: never.
    #[serde(default, with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub deregister_after: Duration,
}

impl Probe {
    /// A probe whose every result counts at once.
    pub fn new(kind: ProbeKind, interval: Duration, timeout: Duration) -> Self {
        let (thresholds, output_max_bytes, deregister_after) = (Thresholds::default(), None, Duration::ZERO);
        Self { kind, interval, timeout, thresholds, output_max_bytes, deregister_after }
    }
}

/// Whether and how a probe speaks TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTls {
    /// Take any certificate.
    #[serde(default)]
    pub skip_verify: bool,
    /// The name expected in the certificate; empty: the host of the address.
    #[serde(default)]
    pub server_name: String,
}

/// The kinds of probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeKind {
    /// A client reports; silence for longer than this is critical.
    Ttl {
        /// The longest silence.
        #[serde(with = "millis")]
        ttl: Duration,
    },
    /// A request: 2xx passes, 429 warns, all else is critical.
    Http {
        /// Where.
        url: String,
        /// `GET` unless given.
        method: String,
        /// Request headers; `Host` is honoured.
        #[serde(default)]
        header: BTreeMap<String, Vec<String>>,
        /// Request body.
        #[serde(default)]
        body: String,
        /// Answer 3xx as it is instead of following it.
        #[serde(default)]
        no_redirects: bool,
        /// Take any certificate.
        #[serde(default)]
        tls_skip_verify: bool,
        /// The name expected in the certificate; empty: the URL's host.
        #[serde(default)]
        tls_server_name: String,
    },
    /// A connection: made passes, refused or timed out is critical.
    Tcp {
        /// `HOST:PORT`.
        address: String,
        /// None: plain. Else the handshake is part of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<ProbeTls>,
    },
    /// A datagram: an answer or silence passes, a refusal is critical.
    Udp {
        /// `HOST:PORT`.
        address: String,
    },
    /// A program on the agent's host: exit code 0 passes, 1 warns, all else is critical.
    Script {
        /// The program and its arguments.
        args: Vec<String>,
    },
    /// A program inside a container, judged as a script.
    Docker {
        /// The container's name or id.
        container: String,
        /// The program and its arguments.
        args: Vec<String>,
    },
    /// The standard health service of gRPC: `SERVING` passes, all else is critical.
    Grpc {
        /// `HOST:PORT`.
        address: String,
        /// The name of the service asked about; empty: the server as a whole.
        #[serde(default)]
        service: String,
        /// None: plain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<ProbeTls>,
    },
    /// A ping of HTTP/2: answered passes, all else is critical.
    H2ping {
        /// `HOST:PORT`.
        address: String,
        /// None: plain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tls: Option<ProbeTls>,
    },
    /// The worst of the checks of something else in the catalog.
    Alias {
        /// The host.
        node: NodeKey,
        /// The instance on it; none: the host itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<InstanceId>,
    },
    /// A service of the host's own system; not supported, so always critical.
    OsService {
        /// Its name there.
        name: String,
    },
    /// Nothing is run: whoever put the check puts it again with what it found.
    Reported,
}

impl ProbeKind {
    /// The word for `Type` on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ttl { .. } => "ttl",
            Self::Http { .. } => "http",
            Self::Tcp { .. } => "tcp",
            Self::Udp { .. } => "udp",
            Self::Script { .. } => "script",
            Self::Docker { .. } => "docker",
            Self::Grpc { .. } => "grpc",
            Self::H2ping { .. } => "h2ping",
            Self::Alias { .. } => "alias",
            Self::OsService { .. } => "os_service",
            Self::Reported => "",
        }
    }
}

/// A check of a host or of one of its instances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The host's key.
    pub node: NodeKey,
    /// Unique on the host.
    pub id: CheckId,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// Its state.
    pub status: Status,
    /// For people.
    #[serde(default)]
    pub notes: String,
    /// What the last run said.
    #[serde(default)]
    pub output: String,
    /// The instance it belongs to; none: the host as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<InstanceId>,
    /// The word for `Type` on the wire.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// How its agent finds out; none where others report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Arc<Probe>>,
    /// `Interval` and `Timeout` as catalog registrations spell them; echoed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interval: String,
    /// See `interval`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub timeout: String,
    /// `Definition` of a catalog registration; echoed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub definition: Value,
    /// Who put it.
    #[serde(default)]
    pub owner: Owner,
    /// As [`Instance::from_file`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_file: bool,
}

impl Check {
    /// For how long nobody need report; none if it has no TTL.
    pub fn ttl(&self) -> Option<Duration> {
        match self.probe.as_deref()?.kind {
            ProbeKind::Ttl { ttl } => Some(ttl),
            _ => None,
        }
    }
}

/// A key of the KV store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvEntry {
    /// Its name.
    pub key: Key,
    /// Its content.
    #[serde(with = "text_or_base64")]
    pub value: Bytes,
    /// Kept for the client.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub flags: u64,
    /// How often its lock was taken.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lock_index: u64,
    /// The session that holds its lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// It goes when it was not put again for this long; zero: never.
    #[serde(default, with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub ttl: Duration,
}

impl KvEntry {
    /// How long after it was put it goes; none if it stays.
    pub fn lifetime(&self) -> Option<Duration> {
        Some(self.ttl).filter(|ttl| !ttl.is_zero())
    }
}

/// What becomes of the keys that a session holds when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Behavior {
    /// They stay and are free.
    #[default]
    Release,
    /// They go.
    Delete,
}

/// A check of an instance that a session depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCheck {
    /// The check, on the session's host.
    pub id: CheckId,
    /// Kept and echoed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
}

/// A client's claim to be alive, which holds locks as long as it is believed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// It ends with this host.
    pub node: NodeKey,
    /// After it ended by other than its holders' release, its keys cannot be locked for this long.
    #[serde(default, with = "millis")]
    pub lock_delay: Duration,
    /// What becomes of its keys.
    #[serde(default)]
    pub behavior: Behavior,
    /// As its client spelled it; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ttl_text: String,
    /// It ends when it was not renewed for this long; zero: never.
    #[serde(default, with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub ttl: Duration,
    /// It ends when one of these is critical or gone.
    #[serde(default)]
    pub node_checks: Vec<CheckId>,
    /// The same for checks of instances; none: not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_checks: Option<Vec<ServiceCheck>>,
    /// It has ended, and gives its locks back in several changes, after the last of which it is gone. Nobody can lock
    /// anything for it any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// A session lives on for this part of its TTL after it, so that a renewal in time is not late by the way it took.
const SESSION_GRACE: u32 = 10;

impl Session {
    /// How long after a renewal it ends; none if it needs none.
    pub fn lifetime(&self) -> Option<Duration> {
        (!self.ttl.is_zero()).then(|| self.ttl + self.ttl / SESSION_GRACE)
    }

    /// Every check it depends on.
    pub fn checks(&self) -> impl Iterator<Item = &CheckId> {
        self.node_checks.iter().chain(self.service_checks.iter().flatten().map(|check| &check.id))
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Node {
    /// The key of a valid node; rows in a state are valid.
    pub fn key(&self) -> NodeKey {
        NodeKey::new(&self.name).expect("a node row has a checked name")
    }
}

impl Instance {
    /// The service's key; rows in a state are valid.
    pub fn service_key(&self) -> ServiceKey {
        ServiceKey::new(&self.service).expect("an instance row has a checked service name")
    }
}

/// Where a row stands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowKey {
    /// `n/NODE`
    Node(NodeKey),
    /// `n/NODE/i/ID`
    Instance(NodeKey, InstanceId),
    /// `n/NODE/c/ID`
    Check(NodeKey, CheckId),
    /// `s/ID`
    Session(SessionId),
    /// `q/ID`
    Query(QueryId),
    /// `a/t/ACCESSOR`
    Token(TokenId),
    /// `a/p/ID`
    Policy(PolicyId),
    /// `a/bootstrap`
    Bootstrap,
    /// `k/KEY`
    Kv(Key),
}

/// Every row below a point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowRange {
    /// All there is.
    All,
    /// A host with all that is on it.
    Node(NodeKey),
    /// Every prepared query.
    Queries,
    /// Every token and policy.
    Acl,
    /// Every key that begins with this; empty: every key.
    KvPrefix(String),
}

/// One row's content, of any table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // each is its own documented type
pub enum Row {
    Node(Node),
    Instance(Instance),
    Check(Check),
    Session(Session),
    Query(PreparedQuery),
    Token(Token),
    Policy(Policy),
    Bootstrap(Bootstrap),
    Kv(KvEntry),
}

/// Why stored bytes are not a row.
#[derive(Debug, thiserror::Error)]
pub enum RowError {
    /// No table has such a key.
    #[error("no table has a row {0:?}; it may come from a newer version")]
    Key(String),
    /// The content cannot be read.
    #[error("row {key:?} cannot be read")]
    Value {
        /// The encoded key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The content has a name that is none.
    #[error("row {key:?} has an impossible name")]
    Name {
        /// The encoded key.
        key: String,
        /// What is wrong.
        #[source]
        source: NameError,
    },
    /// The content says no index.
    #[error("row {0:?} does not say when it was created and modified")]
    Unstamped(String),
    /// The content is that of another row.
    #[error("row {own:?} is stored as {key:?}")]
    Place {
        /// The encoded key.
        key: String,
        /// The key that the content belongs to.
        own: String,
    },
}

/// What is stored: the stamps beside the row's own fields.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Index>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    modified: Option<Index>,
    #[serde(flatten)]
    value: T,
}

impl RowKey {
    /// The key as stored.
    pub fn encode(&self) -> String {
        match self {
            Self::Node(node) => format!("n/{}", escape(node.as_str())),
            Self::Instance(node, id) => format!("n/{}/i/{}", escape(node.as_str()), escape(id.as_str())),
            Self::Check(node, id) => format!("n/{}/c/{}", escape(node.as_str()), escape(id.as_str())),
            Self::Session(id) => format!("s/{}", escape(id.as_str())),
            Self::Query(id) => format!("q/{id}"),
            Self::Token(accessor) => format!("a/t/{accessor}"),
            Self::Policy(id) => format!("a/p/{id}"),
            Self::Bootstrap => "a/bootstrap".into(),
            Self::Kv(key) => format!("k/{key}"),
        }
    }

    /// The key that is stored as `key`; none if no table has such a key.
    pub fn decode(key: &str) -> Option<Self> {
        let node = |name: &str| NodeKey::new(&unescape(name)).ok();
        let decoded = match key.split('/').collect::<Vec<_>>()[..] {
            ["k", ..] => Self::Kv(Key::new(key.strip_prefix("k/")?)?),
            ["n", name] => Self::Node(node(name)?),
            ["n", name, "i", id] => Self::Instance(node(name)?, InstanceId::new(&unescape(id)).ok()?),
            ["n", name, "c", id] => Self::Check(node(name)?, CheckId::new(&unescape(id)).ok()?),
            ["s", id] => Self::Session(SessionId::new(&unescape(id)).ok()?),
            ["q", id] => Self::Query(QueryId::new(id)?),
            ["a", "t", accessor] => Self::Token(TokenId::new(accessor)?),
            ["a", "p", id] => Self::Policy(PolicyId::new(id)?),
            ["a", "bootstrap"] => Self::Bootstrap,
            _ => return None,
        };
        (decoded.encode() == key).then_some(decoded)
    }
}

impl RowRange {
    /// Whether the row stored under `key` is inside.
    pub fn contains(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::Node(node) => {
                let rest = key.strip_prefix("n/").and_then(|k| k.strip_prefix(&*escape(node.as_str())));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Queries => key.starts_with("q/"),
            Self::Acl => key.starts_with("a/"),
            Self::KvPrefix(prefix) => key.strip_prefix("k/").is_some_and(|k| k.starts_with(prefix)),
        }
    }

    /// The text that all encoded keys inside begin with; some keys outside may begin with it too.
    pub fn prefix(&self) -> String {
        match self {
            Self::All => String::new(),
            Self::Node(node) => format!("n/{}", escape(node.as_str())),
            Self::Queries => "q/".into(),
            Self::Acl => "a/".into(),
            Self::KvPrefix(prefix) => format!("k/{prefix}"),
        }
    }
}

impl Row {
    /// Where it stands.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Node(node) => RowKey::Node(node.key()),
            Self::Instance(instance) => RowKey::Instance(instance.node.clone(), instance.id.clone()),
            Self::Check(check) => RowKey::Check(check.node.clone(), check.id.clone()),
            Self::Session(session) => RowKey::Session(session.id.clone()),
            Self::Query(query) => RowKey::Query(query.id.clone()),
            Self::Token(token) => RowKey::Token(token.accessor.clone()),
            Self::Policy(policy) => RowKey::Policy(policy.id.clone()),
            Self::Bootstrap(_) => RowKey::Bootstrap,
            Self::Kv(entry) => RowKey::Kv(entry.key.clone()),
        }
    }

    /// The content as stored.
    pub fn encode(&self, created: Index, modified: Index) -> Vec<u8> {
        self.encode_with(Some(created), Some(modified))
    }

    /// The content as kept by a store that knows by itself when a row was modified; `created` if that was earlier.
    pub fn encode_unstamped(&self, created: Option<Index>) -> Vec<u8> {
        self.encode_with(created, None)
    }

    fn encode_with(&self, created: Option<Index>, modified: Option<Index>) -> Vec<u8> {
        fn json<T: Serialize>(created: Option<Index>, modified: Option<Index>, value: T) -> Vec<u8> {
            serde_json::to_vec(&Stored { created, modified, value }).expect("rows have string keys only")
        }
        match self {
            Self::Node(node) => json(created, modified, node),
            Self::Instance(instance) => json(created, modified, instance),
            Self::Check(check) => json(created, modified, check),
            Self::Session(session) => json(created, modified, session),
            Self::Query(query) => json(created, modified, query),
            Self::Token(token) => json(created, modified, token),
            Self::Policy(policy) => json(created, modified, policy),
            Self::Bootstrap(bootstrap) => json(created, modified, bootstrap),
            Self::Kv(entry) => json(created, modified, entry),
        }
    }

    /// The row stored as `value` under `key`.
    ///
    /// # Errors
    /// [`RowError`] if the key belongs to no table or the value is not the content of a row with this key.
    pub fn decode(key: &str, value: &[u8]) -> Result<Stamped<Self>, RowError> {
        match Self::decode_any(key, value)? {
            Stored { created: Some(created), modified: Some(modified), value } => {
                Ok(Stamped { created, modified, value })
            }
            _ => Err(RowError::Unstamped(key.into())),
        }
    }

    /// The row that a store has under `key` as `value`, and knows to have been modified at `modified`.
    ///
    /// # Errors
    /// As [`Row::decode`].
    pub fn decode_unstamped(key: &str, value: &[u8], modified: Index) -> Result<Stamped<Self>, RowError> {
        let Stored { created, value, .. } = Self::decode_any(key, value)?;
        Ok(Stamped { created: created.unwrap_or(modified).min(modified), modified, value })
    }

    fn decode_any(key: &str, value: &[u8]) -> Result<Stored<Self>, RowError> {
        fn json<T: for<'de> Deserialize<'de>>(
            key: &str,
            bytes: &[u8],
            row: fn(T) -> Row,
        ) -> Result<Stored<Row>, RowError> {
            let stored: Stored<T> =
                serde_json::from_slice(bytes).map_err(|source| RowError::Value { key: key.into(), source })?;
            Ok(Stored { created: stored.created, modified: stored.modified, value: row(stored.value) })
        }
        let row = match key.split('/').collect::<Vec<_>>()[..] {
            ["k", ..] if key.len() > "k/".len() => json(key, value, Self::Kv),
            ["n", _] => json(key, value, Self::Node),
            ["n", _, "i", _] => json(key, value, Self::Instance),
            ["n", _, "c", _] => json(key, value, Self::Check),
            ["s", _] => json(key, value, Self::Session),
            ["q", _] => json(key, value, Self::Query),
            ["a", "t", _] => json(key, value, Self::Token),
            ["a", "p", _] => json(key, value, Self::Policy),
            ["a", "bootstrap"] => json(key, value, Self::Bootstrap),
            _ => Err(RowError::Key(key.into())),
        }?;
        row.value.check_names().map_err(|source| RowError::Name { key: key.into(), source })?;
        let own = row.value.key().encode();
        if own == key { Ok(row) } else { Err(RowError::Place { key: key.into(), own }) }
    }

    /// Names that the types do not check by themselves, because they are kept as they were spelled.
    fn check_names(&self) -> Result<(), NameError> {
        match self {
            Self::Node(node) => NodeKey::new(&node.name).map(drop),
            Self::Instance(instance) => ServiceKey::new(&instance.service).map(drop),
            _ => Ok(()),
        }
    }
}

fn escape(name: &str) -> std::borrow::Cow<'_, str> {
    if !name.contains(['/', '%']) {
        return name.into();
    }
    name.replace('%', "%25").replace('/', "%2F").into()
}

fn unescape(text: &str) -> String {
    text.replace("%2F", "/").replace("%25", "%")
}

/// Durations as whole milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(d: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

/// Bytes as text where they are text, so that a person can read the row; else as `{"base64": "..."}`.
mod text_or_base64 {
    use super::{Bytes, Deserialize};
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use serde::{Deserializer, Serializer, de::Error, ser::SerializeMap};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Content {
        Text(String),
        Binary { base64: String },
    }

    pub(super) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(value) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &STANDARD.encode(value))?;
        map.end()
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        match Content::deserialize(deserializer)? {
            Content::Text(text) => Ok(text.into()),
            Content::Binary { base64 } => STANDARD.decode(base64).map(Bytes::from).map_err(D::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests;
