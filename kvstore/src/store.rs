//! The one writer: queue, decide, engine, log, apply, publish, wake, reply.
//!
//! Readers load the current [`State`] and take no lock. A writer is answered when its change is durable and visible.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use arc_swap::ArcSwap;
use kvstore_client::with_causes;
use kvstore_core::{
    Changes, Command, Decision, Index, Outcome, Refusal, State, Touched, WatchKey, decide, decide_in_steps,
    names::{Key, SessionId},
};
use tokio::{sync::oneshot, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    deadlines::Deadlines,
    engine::{Engine, EngineError, Entry, Loaded, Proposal, Rejected, Silence},
    metrics::StoreMetrics,
    replica::Feed,
    waiters::{Enlisted, Waiters},
};

/// Commands that wait for the writer; more are refused as [`WriteError::Busy`].
const MAX_QUEUE: usize = 4096;

/// Commands made durable together.
const MAX_BATCH: usize = 256;

/// A command decided over and over because others change what it relies on is given up after this many times.
const MAX_ATTEMPTS: usize = 8;

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
pub type Written = Result<(Outcome, Index), WriteError>;

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
        let worker = Worker { engine, shared: shared.clone(), was_away: false, refuses: false };
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

struct Worker {
    engine: Box<dyn Engine>,
    shared: Arc<Shared>,
    /// Whether others could not be reached, and renewals were refused therefore.
    was_away: bool,
    /// The last batch could not be written. That is told once; that it can be again, by the engine.
    refuses: bool,
}

struct Pending {
    command: Command,
    reply: Option<oneshot::Sender<Written>>,
    attempts: usize,
    /// Whether it is too large to be carried out at once.
    in_steps: bool,
    /// Once the first step is made.
    rest: Option<Rest>,
}

/// What is to be done before a command that is carried out in steps is answered.
struct Rest {
    outcome: Outcome,
    /// Sessions that have not given all back yet.
    sessions: Vec<SessionId>,
}

impl Pending {
    fn new(command: Command, reply: Option<oneshot::Sender<Written>>) -> Self {
        Self { command, reply, attempts: 0, in_steps: false, rest: None }
    }

    fn decide(&self, state: &State) -> Result<Decision, Refusal> {
        let decide = if self.in_steps { decide_in_steps } else { decide };
        decide(state, &self.command)
    }

    /// What comes after a step that left sessions `ending`.
    fn after_step(mut self, outcome: Outcome, ending: Vec<SessionId>) -> Progress {
        let mut rest = self.rest.take().unwrap_or(Rest { outcome, sessions: Vec::new() });
        rest.sessions.extend(ending);
        let Some(session) = rest.sessions.pop() else { return Progress::Done(self, rest.outcome) };
        self.command = Command::DestroySession { session };
        self.attempts = 0;
        self.rest = Some(rest);
        Progress::Next(self)
    }
}

/// How far a command is after a step.
enum Progress {
    /// It has another.
    Next(Pending),
    /// It is to be answered with this outcome.
    Done(Pending, Outcome),
}

/// The state with a whole batch, as decided; it is shown if the engine orders the batch just so.
struct Draft {
    state: State,
    touched: Touched,
    /// Of its changes, in order.
    indexes: Vec<Index>,
}

impl Draft {
    fn of(state: &State) -> Self {
        Self { state: state.clone(), touched: Touched::default(), indexes: Vec::new() }
    }

    fn apply(&mut self, changes: &Changes) -> Index {
        let index = changes.index_after(self.state.index());
        self.touched.extend(self.state.apply(index, changes));
        self.indexes.push(index);
        index
    }

    /// Whether every proposal got the index that it was decided with, and nothing of others came in between.
    fn is_what_came(&self, results: &[Result<Index, Rejected>], log: &[Entry]) -> bool {
        let came = log.iter().filter_map(|entry| match entry {
            Entry::Commit(commit) => Some(Some(commit.index)),
            Entry::Renewed(_) | Entry::Lapsed { .. } => None,
            Entry::Anew(_) => Some(None),
        });
        let ours = results.iter().map(|result| result.as_ref().ok().copied());
        came.eq(self.indexes.iter().copied().map(Some)) && ours.eq(self.indexes.iter().copied().map(Some))
    }
}

/// A command of the batch, decided.
struct Decided {
    pending: Pending,
    result: Result<Outcome, WriteError>,
    /// Keys whose locks it tears from sessions, and for how long nobody may have them.
    freed: Vec<(Key, Duration)>,
    /// The index of its proposal, as decided; none if it has nothing to propose.
    proposed: Option<Index>,
    /// Sessions that have not given all back once it is made.
    ending: Vec<SessionId>,
    /// What is to be renewed where it changes nothing else.
    renews: Option<Changes>,
}

impl Decided {
    /// Whether it was decided that nothing is to be done, which holds on the newest state only. What is lazy is about
    /// this host's own checks, and nobody else writes those.
    fn only_reads(&self) -> bool {
        self.proposed.is_none() && !self.pending.command.is_lazy()
    }
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let (mut batch, mut behind) = (Vec::new(), Vec::new());
            let mut stop = false;
            for job in std::iter::once(job).chain(jobs.try_iter()) {
                match job {
                    Job::Command { command, reply } => batch.push(Pending::new(command, reply)),
                    Job::CatchUp(reply) => behind.push(reply),
                    Job::News => {}
                    Job::Stop => stop = true,
                }
                if stop || batch.len() == MAX_BATCH {
                    break;
                }
            }
            if !behind.is_empty() {
                let caught_up = self.engine.catch_up().map_err(|error| with_causes(&error));
                self.publish_news();
                for reply in behind {
                    let _ = reply.send(caught_up.clone().map_err(WriteError::Unavailable));
                }
            } else if batch.is_empty() {
                self.publish_news();
            }
            while !batch.is_empty() {
                batch = self.carry_out(batch);
            }
            if stop {
                return;
            }
        }
    }

    /// Decides, commits, applies, publishes, wakes and answers; gives back what must be decided anew.
    fn carry_out(&mut self, batch: Vec<Pending>) -> Vec<Pending> {
        self.come_back();
        let (mut decided, mut proposals, mut draft) = self.decide_all(batch);
        if decided.iter().any(Decided::only_reads) {
            let caught_up = self.engine.catch_up();
            if self.publish_news() {
                let batch = decided.into_iter().map(|decided| decided.pending).collect();
                (decided, proposals, draft) = self.decide_all(batch);
            }
            if let Err(error) = caught_up {
                let message = with_causes(&error);
                for decided in decided.iter_mut().filter(|decided| decided.only_reads()) {
                    decided.result = Err(WriteError::Unavailable(message.clone()));
                }
            }
        }
        let (started, proposed) = (std::time::Instant::now(), proposals.len());
        let results = if proposals.is_empty() { Ok(Vec::new()) } else { self.engine.commit(proposals) };
        let took = started.elapsed();
        self.publish(draft, results.as_deref().unwrap_or_default());
        let renewed = self.renew(&mut decided);
        match results {
            Ok(results) => {
                self.refuses &= proposed == 0;
                self.shared.metrics.committed(decided.len(), proposed, took);
                self.answer(decided, results, renewed)
            }
            Err(error) => {
                self.was_away = self.shared.has_peers;
                let message = with_causes(&error);
                if !std::mem::replace(&mut self.refuses, true) {
                    tracing::error!(error = message, "writes are refused until the store can be written again");
                }
                for Decided { pending, .. } in decided {
                    self.shared.metrics.failed.inc();
                    reply(pending, Err(WriteError::Unavailable(message.clone())));
                }
                Vec::new()
            }
        }
    }

    /// Renews what is only to be renewed; one result each.
    fn renew(&mut self, decided: &mut [Decided]) -> Vec<Result<(), Rejected>> {
        let renewals: Vec<_> =
            decided.iter_mut().filter_map(|decided| decided.renews.as_mut().map(std::mem::take)).collect();
        if renewals.is_empty() {
            return Vec::new();
        }
        let count = renewals.len();
        let renewed = self.engine.renew(renewals);
        self.publish_news();
        renewed.unwrap_or_else(|error| vec![Err(Rejected::Lost(with_causes(&error))); count])
    }

    /// After a time in which nobody could renew anything, every deadline begins anew.
    fn come_back(&mut self) {
        if self.was_away && self.engine.catch_up().is_ok() {
            self.publish_news();
            self.shared.deadlines.load(&self.shared.current.load(), Instant::now());
            self.was_away = false;
        }
    }

    /// Decides each command on the state that those before it leave.
    fn decide_all(&self, batch: Vec<Pending>) -> (Vec<Decided>, Vec<Proposal>, Draft) {
        let mut draft = Draft::of(&self.shared.current.load());
        let mut proposals = Vec::with_capacity(batch.len());
        let mut decided = Vec::with_capacity(batch.len());
        let deadlines = &self.shared.deadlines;
        let (now, mut freed_here) = (Instant::now(), HashSet::new());
        for mut pending in batch {
            if deadlines.is_early(&pending.command, now) {
                reply(pending, Ok((Outcome::Done, draft.state.index())));
                continue;
            }
            pending.command.delay_locks(|key| freed_here.contains(key) || deadlines.is_lock_delayed(key, now));
            let (mut proposed, mut renews) = (None, None);
            let (result, freed, ending) = match pending.decide(&draft.state) {
                Ok(Decision { changes, outcome, freed, ending }) => {
                    if !changes.is_empty() {
                        proposed = Some(draft.apply(&changes));
                        proposals.push(Proposal { changes, lazy: pending.command.is_lazy() });
                    } else if self.shared.has_peers && !changes.renews.is_empty() {
                        renews = Some(changes);
                    }
                    (Ok(outcome), freed, ending)
                }
                Err(refusal) => (Err(refusal.into()), Vec::new(), Vec::new()),
            };
            freed_here.extend(freed.iter().map(|(key, _)| key.clone()));
            decided.push(Decided { pending, result, freed, proposed, ending, renews });
        }
        (decided, proposals, draft)
    }

    /// Shows what others have changed; whether there was anything.
    fn publish_news(&mut self) -> bool {
        let draft = Draft::of(&self.shared.current.load());
        self.publish(draft, &[])
    }

    /// Applies what the engine has ordered to the current state, shows the result and wakes who waits for it. What came
    /// just as it was drafted was applied then, and the same changes at the same indexes give the same state.
    fn publish(&mut self, draft: Draft, results: &[Result<Index, Rejected>]) -> bool {
        let log = self.engine.log();
        if log.is_empty() {
            return false;
        }
        let (deadlines, now) = (&self.shared.deadlines, Instant::now());
        let news = self.shared.feed.read(&log);
        if draft.is_what_came(results, &log) {
            // What was carried out sets its deadlines itself.
            let others = log.iter().filter(|entry| !matches!(entry, Entry::Commit(_)));
            others.for_each(|entry| deadlines.follow(entry, &draft.state, now));
            self.shared.current.store(Arc::new(draft.state));
            self.shared.feed.publish(news);
            self.shared.waiters.wake(&draft.touched);
            return true;
        }
        let mut came = Draft::of(&self.shared.current.load());
        let mut anew = false;
        for entry in log {
            match entry {
                Entry::Anew(Loaded { index, rows }) => {
                    came.state = came.state.load_anew(index, rows);
                    deadlines.load_anew(&came.state, now);
                    anew = true;
                }
                entry => {
                    if let Entry::Commit(commit) = &entry {
                        deadlines.delay_locks(&came.state.freed_by(&commit.changes), now);
                        came.touched.extend(came.state.apply(commit.index, &commit.changes));
                    }
                    deadlines.follow(&entry, &came.state, now);
                }
            }
        }
        self.shared.current.store(Arc::new(came.state));
        self.shared.feed.publish(news);
        if anew {
            self.shared.waiters.wake_all();
        } else {
            self.shared.waiters.wake(&came.touched);
        }
        true
    }

    /// What comes after the first proposal that was not committed just as it was decided is decided anew, unless it was
    /// committed nevertheless: it may have been decided on what has not happened.
    fn answer(
        &mut self,
        decided: Vec<Decided>,
        results: Vec<Result<Index, Rejected>>,
        renewed: Vec<Result<(), Rejected>>,
    ) -> Vec<Pending> {
        let state = self.shared.current.load();
        let now = Instant::now();
        let (mut again, mut otherwise) = (Vec::new(), false);
        let (mut results, mut renewed) = (results.into_iter(), renewed.into_iter());
        for Decided { mut pending, result, freed, proposed, ending, renews } in decided {
            let committed = match renews {
                Some(_) => renewed.next().and_then(Result::err).map(Err),
                None => proposed.map(|_| results.next().unwrap_or(Err(Rejected::Conflict))),
            };
            match (result, committed) {
                (_, None | Some(Err(Rejected::Conflict))) if otherwise => again.push(pending),
                (_, Some(Err(rejected))) => {
                    otherwise = true;
                    pending.attempts += 1;
                    match rejected {
                        Rejected::Conflict if pending.attempts <= MAX_ATTEMPTS => again.push(pending),
                        Rejected::Conflict => {
                            self.shared.deadlines.postpone(&pending.command, &state, now);
                            reply(pending, Err(Refusal::Conflict.into()));
                        }
                        Rejected::TooLarge(_) if !pending.in_steps => {
                            pending.in_steps = true;
                            again.push(pending);
                        }
                        Rejected::TooLarge(why) => reply(pending, Err(WriteError::TooLarge(why))),
                        Rejected::Lost(why) => {
                            self.was_away = true;
                            reply(pending, Err(WriteError::Unavailable(why)));
                        }
                    }
                }
                (Err(error), _) => {
                    self.shared.metrics.refused();
                    reply(pending, Err(error));
                }
                (Ok(mut outcome), committed) => {
                    let index = committed.and_then(Result::ok);
                    if let (Some(decided), Some(index)) = (proposed, index)
                        && decided != index
                    {
                        otherwise = true;
                        outcome.move_index(decided, index);
                    }
                    self.shared.deadlines.after(&pending.command, &outcome, &state, now);
                    self.shared.deadlines.delay_locks(&freed, now);
                    self.shared.deadlines.end_soon(&ending, now);
                    match pending.after_step(outcome, ending) {
                        Progress::Next(pending) => again.push(pending),
                        Progress::Done(pending, outcome) => {
                            reply(pending, Ok((outcome, index.unwrap_or(state.index()))));
                        }
                    }
                }
            }
        }
        again
    }
}

/// Nobody to answer is no fault: the client went away.
fn reply(pending: Pending, written: Written) {
    if let Some(reply) = pending.reply {
        let _ = reply.send(written);
    }
}

#[cfg(test)]
mod tests;
