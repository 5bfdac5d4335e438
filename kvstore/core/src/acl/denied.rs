//! What somebody lacks, in Consul's words.

use std::fmt;

use super::{Level, Resource};

/// Why something is not done: HTTP 403.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// What it is about.
    pub resource: Resource,
    /// Which one; empty where there is one only.
    pub name: String,
    /// What is asked for.
    pub level: Level,
    /// The public id of the token that lacks it; none: not said.
    pub accessor: Option<String>,
}

impl Denied {
    pub(super) fn new(resource: Resource, name: &str, level: Level) -> Self {
        Self { resource, name: name.into(), level, accessor: None }
    }

    /// The same of the token with this public id.
    #[must_use]
    pub fn to(self, accessor: &str) -> Self {
        Self { accessor: Some(accessor.into()), ..self }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permission denied: token ")?;
        if let Some(accessor) = &self.accessor {
            write!(f, "with AccessorID '{accessor}' ")?;
        }
        write!(f, "lacks permission '{}:{}'", self.resource.word(), self.level.word())?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " on {:?}", self.name) }
    }
}

impl std::error::Error for Denied {}
