//! Tokens and policies: who may show themselves, and what for. Of a token's secret only the digest is known.

use std::{fmt, sync::Arc, time::Duration};

use imbl::OrdMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{
    Index,
    names::{PolicyId, TokenId},
    row::{Row, Stamped, millis},
    state::rows,
};

/// The policy that permits everything; it is always there, and always the same.
pub const GLOBAL_MANAGEMENT: &str = "00000000-0000-0000-0000-000000000001";

/// The token of whoever shows none; it is always there.
pub const ANONYMOUS: &str = "00000000-0000-0000-0000-000000000002";

/// The SHA-256 digest of a secret. Who compares digests tells nothing of the secrets, however long it takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}", Hex(&self.0)))
    }
}

struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let bytes = digits.map(|digits| digits.chunks(2).map(|pair| pair.iter().fold(0, |n, d| n << 4 | d)).collect());
        let bytes = bytes.and_then(|bytes: Vec<u8>| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not a SHA-256 digest"))
    }
}

/// What lets its holder do what its policies permit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is called by.
    pub accessor: TokenId,
    /// Whoever knows its secret has it; the anonymous token, which nobody need show, has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Digest>,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Each is there.
    #[serde(default)]
    pub policies: Vec<PolicyId>,
    /// Kept and echoed: there is one datacenter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
    /// When it was made, since 1970.
    #[serde(default, with = "millis")]
    pub made: Duration,
    /// When it ends, since 1970; zero: never.
    #[serde(default, with = "millis", skip_serializing_if = "Duration::is_zero")]
    pub ends: Duration,
}

impl Token {
    /// For how long it is there, whatever a clock says; none: for ever. Both ends of it are of one host's clock.
    pub fn lifetime(&self) -> Option<Duration> {
        (!self.ends.is_zero()).then(|| self.ends.saturating_sub(self.made))
    }
}

/// Rules under a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// Unique.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// As they were written.
    #[serde(default)]
    pub rules: String,
    /// Kept and echoed: there is one datacenter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub datacenters: Vec<String>,
}

/// That the first token was made, which happens once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// That token.
    pub token: TokenId,
}

/// Rows, what is derived from them, and the watermark of all.
#[derive(Clone, Debug)]
pub struct Credentials {
    tokens: OrdMap<TokenId, Arc<Stamped<Token>>>,
    policies: OrdMap<PolicyId, Arc<Stamped<Policy>>>,
    bootstrap: Option<Arc<Stamped<Bootstrap>>>,
    /// Derived: tokens by their secrets.
    by_secret: OrdMap<Digest, TokenId>,
    /// Derived: policies by their names.
    by_name: OrdMap<String, PolicyId>,
    /// When any of it was last put or deleted.
    pub(crate) changed: Index,
}

impl Credentials {
    /// None, and none was deleted after `floor`.
    pub(crate) fn new(floor: Index) -> Self {
        let (tokens, policies, by_secret, by_name) = Default::default();
        Self { tokens, policies, bootstrap: None, by_secret, by_name, changed: floor }
    }

    /// A token.
    pub fn token(&self, accessor: &TokenId) -> Option<&Arc<Stamped<Token>>> {
        self.tokens.get(accessor)
    }

    /// Every token, by accessor id.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Stamped<Token>>> {
        self.tokens.values()
    }

    /// The token with that secret.
    pub fn token_of(&self, secret: &Digest) -> Option<&Arc<Stamped<Token>>> {
        self.token(self.by_secret.get(secret)?)
    }

    /// A policy.
    pub fn policy(&self, id: &PolicyId) -> Option<&Arc<Stamped<Policy>>> {
        self.policies.get(id)
    }

    /// Every policy, by id.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Stamped<Policy>>> {
        self.policies.values()
    }

    /// The policy with that name.
    pub fn policy_named(&self, name: &str) -> Option<&Arc<Stamped<Policy>>> {
        self.policy(self.by_name.get(name)?)
    }

    /// That the first token was made, if it was.
    pub fn bootstrap(&self) -> Option<&Arc<Stamped<Bootstrap>>> {
        self.bootstrap.as_ref()
    }

    /// Every row.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Stamped<Row>> {
        let Self { tokens, policies, bootstrap, .. } = self;
        let stamp = |row: &Arc<Stamped<Bootstrap>>| Stamped {
            created: row.created,
            modified: row.modified,
            value: Row::Bootstrap(row.value.clone()),
        };
        rows(tokens, Row::Token).chain(rows(policies, Row::Policy)).chain(bootstrap.iter().map(stamp))
    }

    pub(crate) fn insert_token(&mut self, row: Stamped<Token>) {
        self.remove_token(&row.accessor);
        if let Some(secret) = row.secret {
            self.by_secret.insert(secret, row.accessor.clone());
        }
        self.tokens.insert(row.accessor.clone(), Arc::new(row));
    }

    /// Takes a row away; whether it was there.
    pub(crate) fn remove_token(&mut self, accessor: &TokenId) -> bool {
        let Some(old) = self.tokens.remove(accessor) else { return false };
        if let Some(secret) = &old.secret {
            self.by_secret.remove(secret);
        }
        true
    }

    pub(crate) fn insert_policy(&mut self, row: Stamped<Policy>) {
        self.remove_policy(&row.id);
        self.by_name.insert(row.name.clone(), row.id.clone());
        self.policies.insert(row.id.clone(), Arc::new(row));
    }

    /// Takes a row away; whether it was there.
    pub(crate) fn remove_policy(&mut self, id: &PolicyId) -> bool {
        let old = self.policies.remove(id);
        old.is_some_and(|old| self.by_name.remove(&old.name).is_some())
    }

    pub(crate) fn insert_bootstrap(&mut self, row: Stamped<Bootstrap>) {
        self.bootstrap = Some(Arc::new(row));
    }

    /// Takes the row away; whether it was there.
    pub(crate) fn remove_bootstrap(&mut self) -> bool {
        self.bootstrap.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_rows_of_hexadecimal_digits_and_are_not_printed() {
        let digest = Digest(std::array::from_fn(|n| u8::try_from(n * 8).unwrap()));
        let text = serde_json::to_string(&digest).unwrap();
        assert!(text.starts_with("\"0008101820") && text.len() == 66, "{text}");
        assert_eq!(serde_json::from_str::<Digest>(&text).unwrap(), digest);
        for bad in ["\"\"", "\"00\"", &text.replace("00", "0g"), &text.replace("00", "000"), &text.replace("00", "")] {
            assert!(serde_json::from_str::<Digest>(bad).is_err(), "{bad}");
        }
        assert_eq!(format!("{digest:?}"), "Digest");
    }
}
