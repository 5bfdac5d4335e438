//! Sessions, which hold locks.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::millis;
use crate::names::{CheckId, NodeKey, SessionId};

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
