//! The tables: what a row holds, its key and its encoding.
//!
//! Keys are laid out so that what falls together is a prefix: `n/NODE` is a host, `n/NODE/i/ID` and `n/NODE/c/ID` are
//! its instances and checks, `s/ID` is a session, `q/ID` a prepared query, `a/t/ID` a token, `a/p/ID` a policy, `k/KEY` a key of the KV store. `/`, `%`
//! and control characters inside a name are escaped as in URLs, except in the last part of a KV key, where everything
//! may stand as it is. A row is encoded as JSON, field names included, so that a later version opens an older store.

mod catalog;
mod check;
mod kv;
mod session;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Index,
    credentials::{Bootstrap, Policy, Token},
    names::{CheckId, InstanceId, Key, NameError, NodeKey, PolicyId, ServiceKey, SessionId, TokenId},
    prepared_query::{PreparedQuery, QueryId},
};

pub use catalog::{Instance, Node, Owner, TaggedAddress, Weights};
pub use check::{Check, Probe, ProbeKind, ProbeTls};
pub use kv::KvEntry;
pub use session::{Behavior, ServiceCheck, Session};

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

#[cfg(test)]
mod tests;
