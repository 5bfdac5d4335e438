//! Orders changes and keeps them.
//!
//! An engine knows nothing of what rows mean: the core decides, the engine says which decisions hold and in which
//! order, and makes them durable. All engines pass the same battery of tests.

mod delta;
mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
mod file;
mod journal;
mod memory;
pub(crate) mod moving;
mod tables;
#[cfg(test)]
pub(crate) mod tests;

pub use embedded::Embedded;
#[cfg(feature = "etcd")]
pub use etcd::{Address as EtcdAddress, Etcd};
#[cfg(any(test, fuzzing))]
pub use journal::fuzzed;
pub use memory::Memory;

use std::{sync::Arc, time::Duration};

use kvstore_core::{
    Changes, Index,
    row::{Row, RowKey, Stamped},
};

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

/// What a store holds at an index.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// No change of it had a later index; the next one has.
    pub index: Index,
    /// Every row.
    pub rows: Vec<Stamped<Row>>,
}

/// What has become of the rows.
#[derive(Clone, Debug)]
pub enum Entry {
    /// This changed.
    Commit(Commit),
    /// The engine keeps the deadline of this row from here on, and tells when it has passed.
    Renewed(RowKey),
    /// Nobody has renewed this row in time.
    Lapsed {
        /// Which.
        row: RowKey,
        /// Whether that may be because nobody could: the engine was away or stood still. Its time begins anew then.
        unseen: bool,
    },
    /// Changes were missed; this is what there is now.
    Anew(Loaded),
}

/// Why a proposal of a batch was not committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// What it relied on did not hold; nothing of it was changed. Decide anew on the newest state.
    Conflict,
    /// It is more than the engine takes at once; nothing of it was changed.
    TooLarge(String),
    /// The engine did not answer. If it is committed nevertheless, the log will tell.
    Lost(String),
}

/// Why an engine could not open or commit. After a failed commit nothing of the batch is visible, and later batches may
/// succeed. A disk that failed does not say how far it got: after a restart before the next success the batch may be
/// there, as a whole.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store cannot be used: a data directory with its files, or etcd.
    #[error("cannot open the store {path}: {why}")]
    Open {
        /// Where it is.
        path: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The disk is full or failing, or etcd is away.
    #[error("cannot write to the store {path}")]
    Write {
        /// Where it is.
        path: String,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// For how long an engine has heard nothing of what is committed elsewhere.
pub type Silence = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Orders proposals and makes them durable. Used by one thread, which may block in it.
pub trait Engine: Send {
    /// Everything the store holds. Called once, before all else.
    ///
    /// # Errors
    /// [`EngineError::Open`] if it cannot be read.
    fn load(&mut self) -> Result<Loaded, EngineError>;

    /// Has `news` called, from any thread, when others have changed something: the log has more then. Called once, after
    /// [`Engine::load`]. An engine with a single writer has no news.
    fn on_news(&mut self, news: Box<dyn Fn() + Send + Sync>) {
        drop(news);
    }

    /// Commits each proposal that still holds, each as a whole; durable on return unless all are lazy.
    ///
    /// Gives one result per proposal. The proposals of one batch were decided one after the other, each on the state
    /// that those before it leave; an engine with a single writer commits them in order and gives each
    /// [`Changes::index_after`] the one before. With several writers an index may be later, those that do not rely on
    /// each other may come in another order, and what relied on an index of the batch that was not given is void.
    ///
    /// # Errors
    /// [`EngineError::Write`]: none of the batch was committed.
    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Rejected>>, EngineError>;

    /// Whether others write too. Then the engine keeps the deadlines of rows, since a renewal through one of them is to
    /// count for all.
    fn has_peers(&self) -> bool {
        false
    }

    /// Has deadlines begin anew where nothing else changes ([`Changes::renews`]); one result each. Takes no index, unless
    /// the engine did not keep the deadline yet. Asked only where there are peers.
    ///
    /// # Errors
    /// [`EngineError::Write`]: nothing was renewed.
    fn renew(&mut self, renewals: Vec<Changes>) -> Result<Vec<Result<(), Rejected>>, EngineError> {
        Ok(vec![Ok(()); renewals.len()])
    }

    /// Tells, on any thread, for how long what is committed elsewhere has not been heard of; none while it is.
    fn silence(&self) -> Silence {
        Arc::new(|| None)
    }

    /// Waits until the log has all that anybody committed before this call.
    ///
    /// # Errors
    /// [`EngineError::Write`] if nobody can say now.
    fn catch_up(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// What has come since the last call, in order, our own commits included; never waits.
    fn log(&mut self) -> Vec<Entry>;
}
