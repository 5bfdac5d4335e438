//! What the writer, who commits, and the follower, who keeps up, know of each other.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use etcd_client::KeyValue;
use kvstore_core::row::RowKey;
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use super::{
    super::{Entry, Loaded},
    address::Address,
    incarnation::Incarnation,
    keys::Keys,
    lease::Lease,
    link::{Link, within},
    meta::Base,
    news::News,
};

/// What etcd has taken comes back by its watch within this, or the watch is broken.
const COMES_BACK: Duration = Duration::from_secs(5);

/// While the connection to one member is broken for less than this, it is waited whether another takes its place.
const GRACE: Duration = Duration::from_secs(1);

/// What the writer and the follower know of each other.
pub(super) struct Shared {
    pub(super) address: Address,
    /// The id of this process's host; empty where nobody need be told from it.
    pub(super) host: String,
    pub(super) keys: Keys,
    view: Mutex<View>,
    /// The revision up to which the view has everything.
    pub(super) revision: watch::Sender<i64>,
    doubt: mpsc::Sender<String>,
}

/// What is known of etcd now.
#[derive(Default)]
pub(super) struct View {
    /// None while etcd is away.
    link: Option<Connected>,
    /// Since when it is, and why.
    pub(super) away: Option<(Instant, String)>,
    pub(super) entries: Vec<Entry>,
    /// Rows that cannot be read, with their revisions.
    pub(super) unreadable: BTreeMap<String, i64>,
    /// Rows whose deadlines are kept.
    pub(super) alive: BTreeMap<String, Lease>,
    pub(super) incarnation: Incarnation,
    pub(super) news: Option<Box<dyn Fn() + Send + Sync>>,
}

/// The connection, and what the rows are reached by.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) link: Link,
    pub(super) base: Base,
    pub(super) store_revision: i64,
}

impl Shared {
    /// Of who is not connected yet; `doubt` takes why a connection is not believed to work.
    pub(super) fn new(address: Address, host: &str, doubt: mpsc::Sender<String>) -> Self {
        let keys = Keys::new(&address.prefix);
        Self { address, host: host.to_owned(), keys, view: Mutex::default(), revision: watch::Sender::new(0), doubt }
    }

    pub(super) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection; if there is none for a moment only, the next.
    pub(super) async fn connected(&self) -> Result<Connected, String> {
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

    /// Waits until the view has what any kvstore had changed before.
    pub(super) async fn catch_up(&self, connected: &Connected) -> Result<(), String> {
        let got =
            within(connected.link.kv().get(self.keys.last(), None)).await.inspect_err(|why| self.is_doubted(why))?;
        self.reach(got.kvs().first().map_or(0, KeyValue::mod_revision)).await
    }

    pub(super) async fn reach(&self, revision: i64) -> Result<(), String> {
        let mut reached = self.revision.subscribe();
        let come = timeout(COMES_BACK, reached.wait_for(|reached| *reached >= revision)).await;
        come.map(drop).map_err(|_| {
            let why = "its watch does not tell what it has taken";
            self.is_doubted(why);
            why.to_owned()
        })
    }

    pub(super) fn is_doubted(&self, why: &str) {
        // One doubt is enough.
        let _ = self.doubt.try_send(why.to_owned());
    }

    pub(super) fn is_away(&self, why: String) {
        let mut view = self.view();
        if view.link.take().is_some() {
            tracing::warn!(why, "etcd is away; reads go on, and writes are refused until it is back");
        }
        let since = view.away.take().map_or_else(Instant::now, |(since, _)| since);
        view.away = Some((since, why));
    }

    pub(super) fn is_there(&self, link: Link, base: Base, store_revision: i64) {
        let mut view = self.view();
        if view.away.take().is_some() {
            tracing::info!("etcd is back");
        }
        view.link = Some(Connected { link, base, store_revision });
        drop(view);
        // Wakes who waits for a connection.
        self.revision.send_modify(|_| {});
    }

    pub(super) fn is_anew(
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
    pub(super) fn has_come(&self, News { entries, unreadable, alive, agents, revision }: News) -> usize {
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

impl View {
    fn tell(&self) {
        if let Some(news) = &self.news {
            news();
        }
    }
}

fn take_in<V>(all: &mut BTreeMap<String, V>, changed: BTreeMap<String, Option<V>>) {
    for (key, value) in changed {
        match value {
            Some(value) => drop(all.insert(key, value)),
            None => drop(all.remove(&key)),
        }
    }
}
