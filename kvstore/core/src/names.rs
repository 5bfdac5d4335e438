//! Names, validated once, here; cheap to clone.
//!
//! Node and service names compare without regard to case, as in Consul: their key is the lower-case form, and the
//! spelling somebody registered is kept in the row.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest name of a node, service, instance or check, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of name.
        what: &'static str,
    },
    /// Longer than [`MAX_NAME_BYTES`].
    #[error("{what} has {bytes} bytes; the most is {MAX_NAME_BYTES}")]
    TooLong {
        /// Which kind of name.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// A control character, which no client could show or type.
    #[error("{what} {name:?} has a control character")]
    Control {
        /// Which kind of name.
        what: &'static str,
        /// The text.
        name: String,
    },
}

fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong { what, bytes: name.len() });
    }
    if name.chars().any(char::is_control) {
        return Err(NameError::Control { what, name: name.into() });
    }
    Ok(())
}

/// A name is seen and found by its text.
macro_rules! is_text {
    ($type:ident) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

/// The name before all others: where a range over those of one host begins. It names nothing.
pub(crate) struct Empty;

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $fold:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        is_text!($type);

        impl $type {
            /// `name` as a key.
            ///
            /// # Errors
            /// [`NameError`] if it is empty, too long or has control characters.
            pub fn new(name: &str) -> Result<Self, NameError> {
                let fold: fn(&str) -> Arc<str> = $fold;
                let folded = fold(name);
                // The folded form is what is stored and read back; it can be longer than what it was made from.
                check($what, &folded)?;
                Ok(Self(folded))
            }
        }

        impl From<Empty> for $type {
            fn from(_: Empty) -> Self {
                Self("".into())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&text).map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! uuid {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        is_text!($type);

        impl $type {
            /// The UUID that `text` spells with hyphens, in any case; `None` if it spells none.
            pub fn new(text: &str) -> Option<Self> {
                is_uuid(text).then(|| Self(text.to_ascii_lowercase()))
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::new(&text).filter(|id| id.0 == text).ok_or_else(|| de::Error::custom("not a UUID in lower case"))
            }
        }
    };
}

fn is_uuid(text: &str) -> bool {
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

uuid!(
    /// A prepared query's UUID in lower case.
    QueryId
);
uuid!(
    /// What a token is called by, which is no secret: a UUID in lower case.
    TokenId
);
uuid!(
    /// A policy's UUID in lower case.
    PolicyId
);

fn lower(name: &str) -> Arc<str> {
    if name.chars().any(char::is_uppercase) { name.to_lowercase().into() } else { name.into() }
}

name!(
    /// A host of the catalog, lower-case.
    NodeKey, "the node name", lower
);
name!(
    /// A service, lower-case.
    ServiceKey, "the service name", lower
);
name!(
    /// An instance: unique on its node; case counts.
    InstanceId, "the service id", |name| name.into()
);
name!(
    /// A check: unique on its node; case counts.
    CheckId, "the check id", |name| name.into()
);
name!(
    /// A session, as it was named to its client: a UUID in small letters.
    SessionId, "the session id", |name| name.into()
);

/// A key of the KV store: any text, case counts; `/` has no meaning but for separators in listings.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key(Arc<str>);

impl Key {
    /// `key`, or `None` if it is empty.
    pub fn new(key: &str) -> Option<Self> {
        (!key.is_empty()).then(|| Self(key.into()))
    }
}

is_text!(Key);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_folded() {
        assert_eq!(NodeKey::new("Up-Per").unwrap().as_str(), "up-per");
        assert_eq!(ServiceKey::new("\u{c4}pfel").unwrap().as_str(), "\u{e4}pfel");
        assert_eq!(InstanceId::new("Web/1 a").unwrap().as_str(), "Web/1 a");
        assert_eq!(NodeKey::new(""), Err(NameError::Empty { what: "the node name" }));
        assert!(matches!(CheckId::new("a\nb"), Err(NameError::Control { .. })));
        assert!(matches!(InstanceId::new(&"x".repeat(1025)), Err(NameError::TooLong { bytes: 1025, .. })));
    }

    #[test]
    fn a_name_that_was_taken_once_is_taken_again() {
        // Two bytes each, and three when folded.
        let fits = NodeKey::new(&"\u{130}".repeat(MAX_NAME_BYTES / 3)).unwrap();
        assert_eq!(NodeKey::new(fits.as_str()).unwrap(), fits);
        assert!(matches!(NodeKey::new(&"\u{130}".repeat(MAX_NAME_BYTES / 2)), Err(NameError::TooLong { .. })));
    }
}
