//! Every decision of the registry, pure: no clock, no file, no socket, no randomness.
//!
//! What the registry knows is [`State`]: rows in a few tables ([`row`]) and secondary indexes derived from them. A
//! change goes three steps: [`decide()`] says which rows a [`Command`] would put and delete, an engine outside makes that
//! durable and orders it, and [`State::apply`] carries it out and says which watches it touched.
//!
//! ```
//! use std::time::Duration;
//!
//! use kvstore_core::{Command, Index, State, WatchKey, decide, names::Key};
//!
//! let mut state = State::empty(Index(1000));
//! let key = Key::new("greeting").unwrap();
//! let command = Command::KvPut { key: key.clone(), value: "hello".into(), flags: 0, cas: None, ttl: Duration::ZERO };
//! let decision = decide(&state, &command).unwrap();
//! let touched = state.apply(Index(1001), &decision.changes);
//! assert!(touched.contains(&WatchKey::Key(key.clone())));
//! assert_eq!(state.key(&key).unwrap().modified, Index(1001));
//! ```

pub mod acl;
mod apply;
mod command;
pub mod credentials;
pub mod cut_off;
mod decide;
pub mod dns;
pub mod filter;
pub mod generations;
pub mod health;
pub mod names;
pub mod near;
mod overlay;
mod pattern;
pub mod prepared_query;
pub mod row;
mod shuffle;
mod state;
#[cfg(test)]
mod tests;
mod txn;
pub mod version;
mod watch;

pub use command::{Command, Target};
pub use decide::{
    AclRefusal, Changes, Decision, Expect, Op, Outcome, Put, QueryRefusal, Refusal, Renewal, decide, decide_in_steps,
};
pub use state::{InstanceView, Sizes, State};
pub use txn::{KvVerb, RowVerb, TxnError, TxnResult, TxnStep};
pub use watch::{Touched, WatchKey};

use std::fmt;

use serde::{Deserialize, Serialize};

/// A position in the one order of all changes; below 2^53, so that JavaScript reads it exactly; never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Index(pub u64);

impl Index {
    /// The position after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
