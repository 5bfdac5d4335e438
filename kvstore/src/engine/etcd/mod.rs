//! Keeps every row as one key of an etcd that several kvstores share.
//!
//! A proposal is one transaction: it compares what was relied on and changes all or nothing, so that two writers who decided
//! on the same rows do not both succeed. What has become of the rows, by whomever, is told by etcd's watch alone, one commit
//! for each revision. So all kvstores see the same changes in the same order under the same indexes, and who has one index
//! misses nothing when it goes on elsewhere.
//!
//! Everything that talks to etcd is on a runtime of its own, so that the writer, a plain thread, may wait for it.

mod address;
mod commit;
mod follow;
mod incarnation;
mod keys;
mod lease;
mod link;
mod meta;
mod moving;
mod news;
mod pages;
mod shared;
mod transaction;

use std::{path::Path, sync::Arc};

use kvstore_core::{Changes, Index};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot},
};

pub use address::Address;
pub(super) use moving::{Arriving, Leaving, check_vacant};

use super::{Engine, EngineError, Entry, Loaded, Proposal, Rejected, Silence, file::DataDir};
use follow::Follower;
use shared::{Connected, Shared};

/// The engine of several kvstores.
pub struct Etcd {
    /// None once it is dropped.
    runtime: Option<Runtime>,
    shared: Arc<Shared>,
    /// Comes when the first of everything was read, or cannot be.
    first: Option<oneshot::Receiver<Result<(), String>>>,
    /// The index of the last entry that the log has told.
    told: Index,
    /// Held as long as this is.
    dir: Option<DataDir>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("address", &self.shared.address).field("told", &self.told).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Begins to connect, for the host with the id `host`, which is kept in `data_dir`. The first change of a store that is
    /// not there yet comes after `fresh`.
    ///
    /// # Errors
    /// [`EngineError::Open`] if another process holds the directory, or the system has no thread.
    pub fn start(address: Address, host: &str, data_dir: &Path, fresh: Index) -> Result<Self, EngineError> {
        // First, since whoever begins later replaces who began before.
        let dir = DataDir::lock(data_dir)?;
        let mut engine = Self::begin(address, host, fresh)?;
        engine.dir = Some(dir);
        Ok(engine)
    }

    /// Of all with the same `host`, unless that is empty, the one that was started last writes.
    pub(super) fn begin(address: Address, host: &str, fresh: Index) -> Result<Self, EngineError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("etcd").enable_all().build();
        let runtime =
            runtime.map_err(|error| EngineError::Open { path: address.to_string(), why: error.to_string() })?;
        let (doubt, doubts) = mpsc::channel(1);
        let shared = Arc::new(Shared::new(address, host, doubt));
        let (first_is, first) = oneshot::channel();
        runtime.spawn(Follower::new(shared.clone(), fresh, doubts, first_is).run());
        Ok(Self { runtime: Some(runtime), shared, first: Some(first), told: fresh, dir: None })
    }

    fn path(&self) -> String {
        self.shared.address.to_string()
    }

    fn connected(&self) -> Result<Connected, EngineError> {
        let shared = self.shared.clone();
        self.wait(async move { shared.connected().await }).map_err(|why| self.failed(why))
    }

    /// The connection, for who writes.
    fn writing(&self) -> Result<Connected, EngineError> {
        let shared = self.shared.clone();
        let writing = async move {
            let connected = shared.connected().await?;
            shared.begin_to_write(&connected.link).await.inspect_err(|why| shared.is_doubted(why))?;
            Ok(connected)
        };
        self.wait(writing).map_err(|why| self.failed(why))
    }

    fn failed(&self, why: String) -> EngineError {
        EngineError::Write { path: self.path(), source: why.into() }
    }

    /// Runs `work` to its end and blocks meanwhile.
    fn wait<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = std::sync::mpsc::sync_channel(1);
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        runtime.spawn(async move { done.send(work.await) });
        result.recv().expect("it runs to its end, since the runtime does not stop before the drop")
    }
}

impl Engine for Etcd {
    fn load(&mut self) -> Result<Loaded, EngineError> {
        let refused = |why| EngineError::Open { path: self.shared.address.to_string(), why };
        let first = self.first.take().ok_or_else(|| refused("it was loaded before".into()))?;
        let first = self.wait(async { first.await.unwrap_or_else(|_| Err("nobody follows it".into())) });
        first.map_err(refused)?;
        let mut entries = std::mem::take(&mut self.shared.view().entries).into_iter();
        let Some(Entry::Anew(loaded)) = entries.next() else { return Err(refused("nothing was read".into())) };
        self.told = loaded.index;
        // What came right after it is still news.
        self.shared.view().entries.splice(0..0, entries);
        Ok(loaded)
    }

    fn on_news(&mut self, news: Box<dyn Fn() + Send + Sync>) {
        if !self.shared.view().entries.is_empty() {
            news();
        }
        self.shared.view().news = Some(news);
    }

    fn commit(&mut self, batch: Vec<Proposal>) -> Result<Vec<Result<Index, Rejected>>, EngineError> {
        let connected = self.writing()?;
        let (shared, start) = (self.shared.clone(), self.told);
        Ok(self.wait(async move { shared.commit(&connected, start, batch).await }))
    }

    fn has_peers(&self) -> bool {
        true
    }

    fn renew(&mut self, renewals: Vec<Changes>) -> Result<Vec<Result<(), Rejected>>, EngineError> {
        let connected = self.writing()?;
        let (shared, start) = (self.shared.clone(), self.told);
        Ok(self.wait(async move { shared.renew(&connected, start, renewals).await }))
    }

    fn silence(&self) -> Silence {
        let shared = self.shared.clone();
        Arc::new(move || shared.view().away.as_ref().map(|(since, _)| since.elapsed()))
    }

    fn catch_up(&mut self) -> Result<(), EngineError> {
        let connected = self.connected()?;
        let shared = self.shared.clone();
        self.wait(async move { shared.catch_up(&connected).await }).map_err(|why| self.failed(why))
    }

    fn log(&mut self) -> Vec<Entry> {
        let entries = std::mem::take(&mut self.shared.view().entries);
        let index = |entry: &Entry| match entry {
            Entry::Commit(commit) => Some(commit.index),
            Entry::Anew(loaded) => Some(loaded.index),
            Entry::Renewed(_) | Entry::Lapsed { .. } => None,
        };
        self.told = entries.iter().rev().find_map(index).unwrap_or(self.told);
        entries
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
