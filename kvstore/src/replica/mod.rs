//! A kvstore that shows what another one, its hub, has: rows and order are the hub's, and so is whatever is written.
//!
//! ```text
//! hub      store.rs -> feed.rs    commits, kept while a replica asks      -> wire.rs -> /v1/internal/flotilla/changes
//! replica  follow.rs <- wire.rs   a blocking query after the other        <- the first time, and where some were missed: a snapshot
//!             │ inbox.rs          the engine of its store, which nobody commits to
//!             └ copy.rs           the same in the data directory, to begin with after a restart
//! ```
//!
//! What is not about rows, or would change some, is asked of the hub itself (`http/pass_on.rs`).

mod copy;
mod feed;
mod follow;
mod hub;
mod inbox;
mod part;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use feed::Feed;
pub(crate) use follow::LIFE_HEADER;
pub(crate) use hub::{Hub, Upstream};
pub(crate) use inbox::Inbox;
pub(crate) use part::Replica;
#[cfg(any(test, fuzzing))]
pub use wire::fuzzed;
pub(crate) use wire::{Head, Life, Position, answer};
