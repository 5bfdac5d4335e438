//! The registry's state and the one way to change it: a queue to the one writer, which a thread of its own is.
//!
//! Readers load the current [`State`] and take no lock. A writer is answered when its change is durable and visible.

mod batch;
mod pending;
mod worker;

use std::{
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use kvstore_core::{Command, Index, Outcome, Refusal, State, WatchKey};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    deadlines::Deadlines,
    engine::{Engine, EngineError, Silence},
    metrics::StoreMetrics,
    replica::Feed,
    waiters::{Enlisted, Waiters},
};
use worker::Worker;

/// Commands that wait for the writer; more are refused as [`WriteError::Busy`].
const MAX_QUEUE: usize = 4096;

/// Why a command was not carried out; it changed nothing. Where others write too, [`WriteError::Unavailable`] may be said
/// of one that was: then the answer of etcd was lost.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// By the rules.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// More writes wait than the store can take.
    #[error("too many writes are waiting; try again")]
    Busy,
    /// More than the store takes in one change.
    #[error("{0}")]
    TooLarge(String),
    /// The disk is full or failing, or etcd is away. Reads go on.
    #[error("the registry cannot write now: {0}")]
    Unavailable(String),
    /// The registry is stopping.
    #[error("the registry is stopping")]
    Stopping,
}

/// A command's end and the index of the state that shows it.
pub(crate) type Written = Result<(Outcome, Index), WriteError>;

/// The registry's state and the way to change it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    queue: Arc<SyncSender<Job>>,
}

#[derive(Debug)]
struct Shared {
    current: Arc<ArcSwap<State>>,
    waiters: Waiters,
    deadlines: Deadlines,
    metrics: StoreMetrics,
    /// For replicas, and for who waits until an index is reached.
    feed: Feed,
    /// Whether others write too.
    has_peers: bool,
    silence: Quiet,
}

/// See [`Engine::silence`].
struct Quiet(Silence);

impl std::fmt::Debug for Quiet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&(self.0)(), f)
    }
}

enum Job {
    Command {
        command: Command,
        reply: Option<oneshot::Sender<Written>>,
    },
    /// The log has what others changed.
    News,
    /// To have all that anybody has committed so far.
    CatchUp(oneshot::Sender<Result<(), WriteError>>),
    Stop,
}

/// The writer's thread; joined by [`Writer::stop`].
#[derive(Debug)]
pub struct Writer {
    queue: Arc<SyncSender<Job>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Carries out what is queued, closes the engine and ends.
    pub fn stop(self) {
        // A full queue only delays this; the writer always makes progress.
        if self.queue.send(Job::Stop).is_ok() && self.thread.join().is_err() {
            tracing::error!("the writer ended by a panic");
        }
    }
}

impl Store {
    /// Loads what `engine` holds and starts the writer.
    ///
    /// # Errors
    /// [`EngineError::Open`] if the engine cannot be read.
    pub fn start(mut engine: Box<dyn Engine>) -> Result<(Self, Writer), EngineError> {
        let loaded = engine.load()?;
        let state = State::load(loaded.index, loaded.rows);
        let deadlines = Deadlines::new(engine.has_peers());
        deadlines.load(&state, Instant::now());
        let feed = Feed::new(state.index());
        let current = Arc::new(ArcSwap::from_pointee(state));
        let (waiters, metrics) = (Waiters::default(), StoreMetrics::default());
        let (has_peers, silence) = (engine.has_peers(), Quiet(engine.silence()));
        let shared = Arc::new(Shared { current, waiters, deadlines, metrics, feed, has_peers, silence });
        let (queue, jobs) = sync_channel(MAX_QUEUE);
        let queue = Arc::new(queue);
        let news = Arc::downgrade(&queue);
        engine.on_news(Box::new(move || {
            // A writer with a full queue looks into the log anyway.
            if let Some(queue) = news.upgrade() {
                drop(queue.try_send(Job::News));
            }
        }));
        let worker = Worker::new(engine, shared.clone());
        let thread = std::thread::Builder::new()
            .name("writer".into())
            .spawn(move || worker.run(&jobs))
            .map_err(|e| EngineError::Open { path: String::new(), why: format!("cannot start a thread: {e}") })?;
        Ok((Self { shared, queue: queue.clone() }, Writer { queue, thread }))
    }

    /// The newest state; it never changes under its reader.
    pub fn state(&self) -> Arc<State> {
        self.shared.current.load_full()
    }

    /// Where the newest state is always found, for readers that load it many times a second.
    pub fn snapshots(&self) -> Arc<ArcSwap<State>> {
        self.shared.current.clone()
    }

    /// Takes a place among those who wait on `keys`. Enlist first, then read, then wait.
    pub(crate) fn enlist(&self, keys: &[WatchKey]) -> Enlisted<'_> {
        self.shared.waiters.enlist(keys)
    }

    /// What the writer measures.
    pub(crate) fn metrics(&self) -> &StoreMetrics {
        &self.shared.metrics
    }

    /// How many wait for a change.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiters.count()
    }

    /// What replicas are told.
    pub(crate) fn feed(&self) -> &Feed {
        &self.shared.feed
    }

    /// Waits until the state has all up to `index`, which somebody else has told.
    pub(crate) async fn reach(&self, index: Index) {
        let mut published = self.shared.feed.published();
        // The sender is part of the store.
        let _ = published.wait_for(|_| self.shared.current.load().index() >= index).await;
    }

    /// Waits until the index of one of `keys` passes `index`; at once if it has.
    pub async fn wait_past(&self, keys: &[WatchKey], index: Index) -> Arc<State> {
        let mut enlisted = self.enlist(keys);
        loop {
            let state = self.state();
            if keys.iter().any(|key| state.index_of(key) > index) {
                return state;
            }
            enlisted.touched().await;
        }
    }

    /// Carries out `command`; answers when it is durable and visible. It is carried out even if nobody waits for the
    /// answer any more.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn submit(&self, command: Command) -> Written {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Command { command, reply: Some(reply) })?;
        answer.await.unwrap_or(Err(WriteError::Stopping))
    }

    /// Waits until the state has all that anybody had committed, through this kvstore or another, before the call.
    ///
    /// # Errors
    /// [`WriteError::Unavailable`] if nobody can say now.
    pub async fn catch_up(&self) -> Result<(), WriteError> {
        if !self.shared.has_peers {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        self.send(Job::CatchUp(reply))?;
        answer.await.unwrap_or(Err(WriteError::Stopping))
    }

    /// For how long nothing that others write has been heard of; none while it is.
    pub(crate) fn silence(&self) -> Option<Duration> {
        (self.shared.silence.0)()
    }

    fn send(&self, job: Job) -> Result<(), WriteError> {
        self.queue.try_send(job).map_err(|e| match e {
            TrySendError::Full(_) => WriteError::Busy,
            TrySendError::Disconnected(_) => WriteError::Stopping,
        })
    }

    /// Proposes the end of checks' TTLs, sessions and keys as they become due, until `shutdown`.
    pub async fn keep_deadlines(&self, shutdown: CancellationToken) {
        let propose = |command| self.queue.try_send(Job::Command { command, reply: None }).is_ok();
        self.shared.deadlines.run(|| self.state(), propose, shutdown).await;
    }
}

#[cfg(test)]
mod tests;
