//! Keeps every row as one key of an etcd that several kvstores share.
//!
//! A proposal is one transaction: it compares what was relied on and changes all or nothing, so that two writers who decided
//! on the same rows do not both succeed. What has become of the rows, by whomever, is told by etcd's watch alone, one commit
//! for each revision. So all kvstores see the same changes in the same order under the same indexes, and who has one index
//! misses nothing when it goes on elsewhere.
//!
//! Everything that talks to etcd is on a runtime of its own, so that the writer, a plain thread, may wait for it.

mod address;
mod follow;
mod incarnation;
mod keys;
mod lease;
mod link;
mod meta;
mod moving;
mod news;
mod pages;
mod transaction;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use etcd_client::{KeyValue, ResponseHeader, TxnOpResponse};
use futures_util::future::join_all;
use kvstore_core::{Changes, Expect, Index, row::RowKey};
use tokio::{
    runtime::{Builder, Runtime},
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

pub use address::Address;
pub(super) use moving::{Arriving, Leaving, check_vacant};

use super::{Engine, EngineError, Entry, Loaded, Proposal, Rejected, Silence, file::DataDir};
use follow::Follower;
use incarnation::{Incarnation, number};
use keys::Keys;
use lease::Lease;
use link::{Link, within};
use meta::Base;
use news::News;
use transaction::{Basis, transaction};

/// What etcd has taken comes back by its watch within this, or the watch is broken.
const COMES_BACK: Duration = Duration::from_secs(5);

/// While the connection to one member is broken for less than this, it is waited whether another takes its place.
const GRACE: Duration = Duration::from_secs(1);

/// Whoever was refused for what a kvstore did not change, but somebody by hand, waits so long for it to come.
const BY_HAND: Duration = Duration::from_millis(200);

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

/// What the writer and the follower know of each other.
struct Shared {
    address: Address,
    /// The id of this process's host; empty where nobody need be told from it.
    host: String,
    keys: Keys,
    view: Mutex<View>,
    /// The revision up to which the view has everything.
    revision: watch::Sender<i64>,
    doubt: mpsc::Sender<String>,
}

#[derive(Default)]
struct View {
    /// None while etcd is away.
    link: Option<Connected>,
    /// Since when it is, and why.
    away: Option<(Instant, String)>,
    entries: Vec<Entry>,
    /// Rows that cannot be read, with their revisions.
    unreadable: BTreeMap<String, i64>,
    /// Rows whose deadlines are kept.
    alive: BTreeMap<String, Lease>,
    incarnation: Incarnation,
    news: Option<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Clone)]
struct Connected {
    link: Link,
    base: Base,
    store_revision: i64,
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
        let keys = Keys::new(&address.prefix);
        let view = Mutex::default();
        let shared =
            Arc::new(Shared { address, host: host.to_owned(), keys, view, revision: watch::Sender::new(0), doubt });
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

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection; if there is none for a moment only, the next.
    async fn connected(&self) -> Result<Connected, String> {
        self.is_newest()?;
        let mut changes = self.revision.subscribe();
        loop {
            let (since, why) = {
                let view = self.view();
                if let Some(connected) = &view.link {
                    return Ok(connected.clone());
                }
                view.away.clone().unwrap_or_else(|| (Instant::now(), String::new()))
            };
            let left = GRACE.saturating_sub(since.elapsed());
            if left.is_zero() || timeout(left, changes.changed()).await.is_err() {
                return Err(format!("etcd is away ({why}); try again"));
            }
        }
    }

    /// Commits what relies on nothing of the batch at once, and what does after that; waits until the view has all.
    async fn commit(&self, connected: &Connected, start: Index, batch: Vec<Proposal>) -> Vec<Result<Index, Rejected>> {
        let mut results = Vec::with_capacity(batch.len());
        let (mut decided, mut exact, mut newest) = (start, true, 0);
        for wave in batch.chunk_by(|_, next| !relies_on_later(&next.changes, start)) {
            let made = wave.iter().map(|proposal| self.commit_one(connected, (start, exact), &proposal.changes));
            for (Proposal { changes, .. }, (result, revision)) in wave.iter().zip(join_all(made).await) {
                decided = changes.index_after(decided);
                exact &= result == Ok(decided);
                newest = revision.max(newest);
                results.push(result);
            }
            // Who did not answer is not asked again.
            if let Some(lost) = results.iter().find(|result| matches!(result, Err(Rejected::Lost(_)))).cloned() {
                results.resize(batch.len(), lost);
                break;
            }
        }
        if let Err(why) = self.reach(newest).await {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(Rejected::Lost(why.clone()));
            }
        }
        results
    }

    /// Has deadlines begin anew; only one that is not kept yet is written. Waits until the view has all of that.
    async fn renew(&self, connected: &Connected, start: Index, renewals: Vec<Changes>) -> Vec<Result<(), Rejected>> {
        let renewed = renewals.iter().map(|changes| async move {
            match self.leases(connected, &changes.renews).await {
                Ok(leases) if leases.is_empty() => (Ok(()), 0),
                Ok(leases) => {
                    let (result, revision) = self.transact(connected, (start, false), changes, &leases).await;
                    (result.map(drop), revision)
                }
                Err(rejected) => (Err(rejected), 0),
            }
        });
        let (results, revisions): (Vec<_>, Vec<_>) = join_all(renewed).await.into_iter().unzip();
        // Where that is not heard of, the next renewal puts it once more.
        let _ = self.reach(revisions.into_iter().max().unwrap_or(0)).await;
        results
    }

    /// See [`Shared::transact`].
    async fn commit_one(
        &self,
        connected: &Connected,
        since: (Index, bool),
        changes: &Changes,
    ) -> (Result<Index, Rejected>, i64) {
        match self.leases(connected, &changes.renews).await {
            Ok(leases) => self.transact(connected, since, changes, &leases).await,
            Err(rejected) => (Err(rejected), 0),
        }
    }

    /// `start` and `exact` are those of its [`Basis`]; gives also the revision that the view must have before who is
    /// answered looks.
    async fn transact(
        &self,
        connected: &Connected,
        (start, exact): (Index, bool),
        changes: &Changes,
        leases: &[(String, Lease)],
    ) -> (Result<Index, Rejected>, i64) {
        let made = {
            let view = self.view();
            let Connected { base, store_revision, .. } = *connected;
            let (keys, View { unreadable, alive, .. }) = (&self.keys, &*view);
            let incarnation = match view.incarnation {
                Incarnation::Newest(ours) => Some((keys.agent(&self.host), ours)),
                Incarnation::None | Incarnation::Replaced => None,
            };
            let basis = Basis { keys, base, store_revision, unreadable, alive, start, incarnation, exact };
            transaction(changes, leases, &basis)
        };
        let (txn, base) = match made {
            Ok(made) => made,
            Err(rejected) => return (Err(rejected), 0),
        };
        let answer = match within(connected.link.kv().txn(txn)).await {
            Ok(answer) => answer,
            Err(why) => {
                self.is_doubted(&why);
                return (Err(Rejected::Lost(format!("etcd does not take it ({why}); try again"))), 0);
            }
        };
        if answer.succeeded() {
            let revision = answer.header().map_or(0, ResponseHeader::revision);
            return (Ok(base.index(revision)), revision);
        }
        let mut looked = answer.op_responses().into_iter().map(|response| match response {
            TxnOpResponse::Get(got) => got.kvs().first().cloned(),
            _ => None,
        });
        let mark = looked.next().flatten().map_or(0, |last| last.mod_revision());
        if let Some(newest) = looked.next() {
            self.newest_is(newest.as_ref().map_or(0, number));
            if let Err(why) = self.is_newest() {
                return (Err(Rejected::Lost(why)), 0);
            }
            if newest.is_none() {
                self.is_doubted("the row of this host's newest process is gone");
            }
        }
        if mark <= *self.revision.borrow() {
            let _ = timeout(BY_HAND, self.revision.subscribe().changed()).await;
        }
        (Err(Rejected::Conflict), mark)
    }

    /// Waits until the view has what any kvstore had changed before.
    async fn catch_up(&self, connected: &Connected) -> Result<(), String> {
        let got =
            within(connected.link.kv().get(self.keys.last(), None)).await.inspect_err(|why| self.is_doubted(why))?;
        self.reach(got.kvs().first().map_or(0, KeyValue::mod_revision)).await
    }

    async fn reach(&self, revision: i64) -> Result<(), String> {
        let mut reached = self.revision.subscribe();
        let come = timeout(COMES_BACK, reached.wait_for(|reached| *reached >= revision)).await;
        come.map(drop).map_err(|_| {
            let why = "its watch does not tell what it has taken";
            self.is_doubted(why);
            why.to_owned()
        })
    }

    fn is_doubted(&self, why: &str) {
        // One doubt is enough.
        let _ = self.doubt.try_send(why.to_owned());
    }

    fn is_away(&self, why: String) {
        let mut view = self.view();
        if view.link.take().is_some() {
            tracing::warn!(why, "etcd is away; reads go on, and writes are refused until it is back");
        }
        let since = view.away.take().map_or_else(Instant::now, |(since, _)| since);
        view.away = Some((since, why));
    }

    fn is_there(&self, link: Link, base: Base, store_revision: i64) {
        let mut view = self.view();
        if view.away.take().is_some() {
            tracing::info!("etcd is back");
        }
        view.link = Some(Connected { link, base, store_revision });
        drop(view);
        // Wakes who waits for a connection.
        self.revision.send_modify(|_| {});
    }

    fn is_anew(
        &self,
        loaded: Loaded,
        unreadable: BTreeMap<String, i64>,
        alive: BTreeMap<String, Lease>,
        revision: i64,
    ) {
        let mut view = self.view();
        // What has not been taken is in it.
        view.entries = vec![Entry::Anew(loaded)];
        view.entries.extend(alive.keys().filter_map(|key| RowKey::decode(key)).map(Entry::Renewed));
        view.unreadable = unreadable;
        view.alive = alive;
        view.tell();
        drop(view);
        self.revision.send_replace(revision);
    }

    /// Gives how many entries wait.
    fn has_come(&self, News { entries, unreadable, alive, agents, revision }: News) -> usize {
        for (_, newest) in agents.into_iter().filter(|(host, _)| *host == self.host) {
            self.newest_is(newest);
        }
        let mut view = self.view();
        let waited = !view.entries.is_empty();
        view.entries.extend(entries);
        take_in(&mut view.unreadable, unreadable);
        take_in(&mut view.alive, alive);
        if !waited && !view.entries.is_empty() {
            view.tell();
        }
        let waiting = view.entries.len();
        drop(view);
        self.revision.send_replace(revision);
        waiting
    }
}

/// Whether the changes rely on what is later than `start`, and so on what comes before them in their batch.
fn relies_on_later(changes: &Changes, start: Index) -> bool {
    let on_later = |expect: &Expect| match expect {
        Expect::Row(_, index) | Expect::Unchanged(_, index) | Expect::Unjoined(_, index) => *index > start,
        Expect::Absent(_) | Expect::Lapsed(_) => false,
    };
    changes.above > start || changes.expects.iter().any(on_later)
}

fn take_in<V>(all: &mut BTreeMap<String, V>, changed: BTreeMap<String, Option<V>>) {
    for (key, value) in changed {
        match value {
            Some(value) => drop(all.insert(key, value)),
            None => drop(all.remove(&key)),
        }
    }
}

impl View {
    fn tell(&self) {
        if let Some(news) = &self.news {
            news();
        }
    }
}
