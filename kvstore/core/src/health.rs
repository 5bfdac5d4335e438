//! States of checks and what they make of an instance: the worst wins.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a check; the order is the severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Passing,
    /// Still offered, but somebody should look.
    Warning,
    /// Not offered.
    Critical,
}

impl Status {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passing => "passing",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    /// The state that `word` names; `None` if it names none.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Passing, Self::Warning, Self::Critical].into_iter().find(|s| s.as_str() == word)
    }

    /// The worst of `all`; without any, passing.
    pub fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().max().unwrap_or(Self::Passing)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Status::{self, Critical, Passing, Warning};

    #[test]
    fn the_worst_wins() {
        assert_eq!(Status::worst([]), Passing);
        assert_eq!(Status::worst([Passing, Warning]), Warning);
        assert_eq!(Status::worst([Warning, Critical, Passing]), Critical);
    }
}
