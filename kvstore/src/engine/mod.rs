//! Orders changes and keeps them.
//!
//! An engine knows nothing of what rows mean: the core decides, the engine says which decisions hold and in which
//! order, and makes them durable. All engines pass the same battery of tests.

mod delta;
mod embedded;
mod file;
mod journal;
mod memory;
mod tables;
#[cfg(test)]
mod tests;

pub use embedded::Embedded;
pub use memory::Memory;

use kvstore_core::{Changes, Index, row::Row, row::Stamped};

/// A decision to be committed.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What to change; never empty.
    pub changes: Changes,
    /// Whether it may be lost in a crash: no fsync is made for its sake.
    pub lazy: bool,
}

/// A decision that holds, at its place in the one order.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Its place.
    pub index: Index,
    /// What it changes.
    pub changes: Changes,
}

/// What a store held when it was opened.
#[derive(Debug)]
pub struct Loaded {
    /// No change had a later index; the next one has.
    pub index: Index,
    /// Every row.
    pub rows: Vec<Stamped<Row>>,
}

/// What a proposal relied on did not hold; nothing of it was changed. Decide anew on the newest state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict;

/// Why an engine could not open or commit. After a failed commit nothing of the batch is visible, and later batches may
/// succeed. A disk that failed does not say how far it got: after a restart before the next success the batch may be
/// there, as a whole.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The data directory or the file in it cannot be used.
    #[error("cannot open the store {path}: {why}")]
    Open {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The disk is full or failing.
    #[error("cannot write to the store {path}")]
    Write {
        /// The file.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Orders proposals and makes them durable. Used by one thread, which may block in it.
pub trait Engine: Send {
    /// Everything the store holds. Called once, before all else.
    ///
    /// # Errors
    /// [`EngineError::Open`] if it cannot be read.
    fn load(&mut self) -> Result<Loaded, EngineError>;

    /// Commits each proposal that still holds, in order, each as a whole; durable on return unless all are lazy.
    ///
    /// Gives one result per proposal. The proposals of one batch were decided one after the other, each on the state
    /// that those before it leave; an engine with a single writer gives each [`Changes::index_after`] the one before.
    ///
    /// # Errors
    /// [`EngineError::Write`]: none of the batch was committed.
    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Conflict>>, EngineError>;

    /// Every commit since the last call, in order, our own included; never waits.
    fn log(&mut self) -> Vec<Commit>;
}
