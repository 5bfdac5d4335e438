//! Keeps what templates read fresh: one blocking query for each dependency, shared by all templates that read it.
//!
//! Owns the newest values. Does not decide when anybody renders: it only wakes the readers of what changed.

mod contact;
mod fetch;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kvstore_client::{Client, Error, Read, Wait, Watch};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, warn};

use crate::{
    guard::{DropPolicy, Guard, Verdict},
    runner::at,
    source::SourceWatcher,
    values::{Answer, Dependency, Values},
};

use contact::Contact;
use fetch::fetch;
pub(crate) use fetch::read_below;

/// The longest wait of one blocking query.
const WAIT: Duration = Duration::from_mins(1);

/// A dependency that nobody reads any more stays watched this long: one that flaps is not asked for anew each time.
const KEPT_UNREAD: Duration = Duration::from_secs(10);

/// All watches on one registry. Cheap to clone.
#[derive(Clone)]
pub struct Watches {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    policy: DropPolicy,
    sources: SourceWatcher,
    table: Mutex<Table>,
    /// Locked alone, or after the table.
    contact: Mutex<Contact>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Table {
    values: Values,
    /// Of an earlier life, where there is no answer yet; shown while the registry is away.
    kept: Values,
    slots: HashMap<Arc<Dependency>, Slot>,
    next_reader: u64,
}

struct Slot {
    /// Whom to wake, by the reader's number.
    readers: HashMap<u64, Arc<Notify>>,
    unread_since: Option<Instant>,
    stop: CancellationToken,
}

impl Watches {
    /// No watches yet on the registry of `client` and on files, of which `sources` tells; all of them end with `stop`.
    pub fn new(client: Client, policy: DropPolicy, sources: SourceWatcher, stop: CancellationToken) -> Self {
        let (table, contact, tasks) = (Mutex::default(), Mutex::default(), TaskTracker::new());
        Self { inner: Arc::new(Inner { client, policy, sources, table, contact, tasks, stop }) }
    }

    /// A reader that follows nothing yet and that `wake` tells of changes.
    pub fn reader(&self, wake: Arc<Notify>) -> Reader {
        let mut table = self.inner.table();
        table.next_reader += 1;
        Reader { watches: self.clone(), id: table.next_reader, wake, following: BTreeSet::new() }
    }

    /// Answers of an earlier life. They are shown while the registry is away and has not answered in this one, and what
    /// it says first is compared with them.
    pub fn keep(&self, kept: Values) {
        self.inner.table().kept.extend(kept);
    }

    /// Why the registry does not answer, if it does not.
    pub fn trouble(&self) -> Option<String> {
        self.inner.contact().trouble()
    }

    /// Ends every watch and waits for the end.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }
}

/// What one template follows. Dropping it follows nothing.
pub struct Reader {
    watches: Watches,
    id: u64,
    wake: Arc<Notify>,
    following: BTreeSet<Arc<Dependency>>,
}

impl Reader {
    /// Everything known now, also what others read.
    pub fn values(&self) -> Values {
        let table = self.watches.inner.table();
        let mut values = table.values.clone();
        if self.watches.inner.contact().is_away() {
            for (dependency, answer) in &table.kept {
                values.entry(dependency.clone()).or_insert_with(|| answer.clone());
            }
        }
        values
    }

    /// Whether every one of `dependencies` has an answer.
    pub fn knows(&self, dependencies: &BTreeSet<Arc<Dependency>>) -> bool {
        let table = self.watches.inner.table();
        let away = self.watches.inner.contact().is_away();
        dependencies.iter().all(|d| table.values.contains_key(d) || away && table.kept.contains_key(d))
    }

    /// What is followed.
    pub fn following(&self) -> &BTreeSet<Arc<Dependency>> {
        &self.following
    }

    /// Whether what is followed is known from an earlier life only, if at all.
    pub fn is_stale(&self) -> bool {
        let table = self.watches.inner.table();
        self.following.iter().any(|d| !table.values.contains_key(d) && table.kept.contains_key(d))
    }

    /// Follows exactly `used` from now on. Wakes at once if something newly followed is known already, since it may
    /// have changed after the last look.
    pub fn follow(&mut self, used: BTreeSet<Arc<Dependency>>) {
        if used == self.following {
            return;
        }
        let inner = &self.watches.inner;
        let mut table = inner.table();
        for dropped in self.following.difference(&used) {
            table.leave(dropped, self.id);
        }
        for added in used.difference(&self.following) {
            let slot = table.slots.entry(added.clone()).or_insert_with(|| inner.start(added));
            slot.unread_since = None;
            slot.readers.insert(self.id, self.wake.clone());
            if table.values.contains_key(added) {
                self.wake.notify_one();
            }
        }
        table.sweep(inner);
        drop(table);
        self.following = used;
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.follow(BTreeSet::new());
    }
}

impl Table {
    fn leave(&mut self, dependency: &Arc<Dependency>, reader: u64) {
        if let Some(slot) = self.slots.get_mut(dependency) {
            slot.readers.remove(&reader);
            if slot.readers.is_empty() {
                slot.unread_since = Some(Instant::now());
            }
        }
    }

    /// Ends the watches that nobody has read for long enough.
    fn sweep(&mut self, inner: &Inner) {
        let values = &mut self.values;
        self.slots.retain(|dependency, slot| {
            let old = slot.unread_since.is_some_and(|since| since.elapsed() >= KEPT_UNREAD);
            if old {
                slot.stop.cancel();
                values.remove(dependency);
                inner.contact().forget(dependency);
            }
            !old
        });
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn contact(&self) -> MutexGuard<'_, Contact> {
        self.contact.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(self: &Arc<Self>, dependency: &Arc<Dependency>) -> Slot {
        let stop = self.stop.child_token();
        match &**dependency {
            Dependency::File { root, path } => {
                let (root, path) = (root.clone(), path.clone());
                self.tasks.spawn(self.clone().keep_read(dependency.clone(), root, path, stop.clone()));
            }
            _ => drop(self.tasks.spawn(self.clone().keep_fresh(dependency.clone(), stop.clone()))),
        }
        Slot { readers: HashMap::new(), unread_since: None, stop }
    }

    async fn keep_fresh(self: Arc<Self>, dependency: Arc<Dependency>, stop: CancellationToken) {
        let mut watch = Watch::new(WAIT);
        let mut guard = Guard::new(self.policy, self.table().kept.contains_key(&dependency));
        loop {
            let read = async |wait| {
                let read = self.ask(&dependency, wait).await?;
                if self.known(&dependency).as_ref() == Some(&read.value) {
                    guard.unchanged();
                }
                Ok(read)
            };
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                answer = watch.next(read) => answer,
                () = at(guard.due()) => {
                    match fetch(&self.client.consistent(), &dependency, None).await {
                        Ok(read) => {
                            guard.believed();
                            self.publish(&dependency, &read.value, &stop);
                        }
                        Err(error) => {
                            guard.again(Instant::now());
                            self.failed(&dependency, &error, &stop);
                        }
                    }
                    continue;
                }
            };
            match answer {
                Ok(answer) => self.consider(&mut guard, &dependency, &answer, &stop),
                Err(error) => {
                    guard.missed();
                    self.failed(&dependency, &error, &stop);
                }
            }
        }
    }

    /// What the registry said last, in this life or an earlier one.
    fn known(&self, dependency: &Arc<Dependency>) -> Option<Arc<Answer>> {
        let table = self.table();
        table.values.get(dependency).or_else(|| table.kept.get(dependency)).cloned()
    }

    /// Publishes `answer`, unless it tells of a loss that is not believed yet.
    fn consider(
        &self,
        guard: &mut Guard,
        dependency: &Arc<Dependency>,
        answer: &Arc<Answer>,
        stop: &CancellationToken,
    ) {
        let before = self.known(dependency);
        match guard.judge(before.as_deref(), answer, Instant::now()) {
            Verdict::Believe => self.publish(dependency, answer, stop),
            Verdict::Hold(until, true) => {
                let (had, has) = (before.as_ref().map_or(0, |b| b.len()), answer.len());
                let hold = until.saturating_duration_since(Instant::now()).as_secs_f64().round();
                warn!(%dependency, "the registry has {has} where it had {had}; that is not believed for {hold} s, then it is asked again");
                // What an earlier life knew is what is known until then.
                if let Some(before) = before {
                    self.publish(dependency, &before, stop);
                }
            }
            Verdict::Hold(_, false) => {}
        }
    }

    fn failed(&self, dependency: &Arc<Dependency>, error: &Error, stop: &CancellationToken) {
        let table = self.table();
        if stop.is_cancelled() {
            return; // swept meanwhile; nobody would ever say that it is over
        }
        let gone = self.contact().failed(dependency, error);
        if gone && !table.kept.is_empty() {
            let readers = table.slots.values().flat_map(|slot| slot.readers.values());
            readers.for_each(|wake| wake.notify_one());
        }
    }

    /// Reads a file anew whenever it may have changed.
    async fn keep_read(
        self: Arc<Self>,
        dependency: Arc<Dependency>,
        root: PathBuf,
        path: PathBuf,
        stop: CancellationToken,
    ) {
        let changed = Arc::new(Notify::new());
        let mut last = None;
        loop {
            self.sources.listen_to(&root.join(&path), &changed); // before it is read, so that nothing is missed
            let (root, path) = (root.clone(), path.clone());
            let read = tokio::task::spawn_blocking(move || read_below(&root, &path)).await;
            let answer = Arc::new(Answer::File(read.unwrap_or_else(|e| Err(e.to_string()))));
            if last.as_ref() != Some(&answer) {
                self.publish(&dependency, &answer, &stop);
                last = Some(answer);
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed.notified() => {}
            }
        }
    }

    async fn ask(&self, dependency: &Arc<Dependency>, wait: Option<Wait>) -> Result<Read<Arc<Answer>>, Error> {
        let read = fetch(&self.client, dependency, wait).await?;
        self.contact().answered(dependency, self.client.address());
        debug!(%dependency, index = read.index, "answered");
        Ok(read)
    }

    fn publish(&self, dependency: &Arc<Dependency>, answer: &Arc<Answer>, stop: &CancellationToken) {
        let mut table = self.table();
        if stop.is_cancelled() {
            return; // swept meanwhile; a value without a watch would never be renewed
        }
        let before = table.values.get(dependency).map(|a| a.rejected()).unwrap_or_default();
        for rejected in answer.rejected().iter().filter(|r| !before.contains(r)) {
            warn!(%dependency, "an instance is kept from templates, for it could break out of its line: {rejected}");
        }
        table.kept.remove(dependency);
        table.values.insert(dependency.clone(), answer.clone());
        if let Some(slot) = table.slots.get(dependency) {
            slot.readers.values().for_each(|wake| wake.notify_one());
        }
        table.sweep(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvstore_client::ClientConfig;

    /// On a registry that nobody can reach.
    fn watches() -> Watches {
        let config = ClientConfig { addresses: vec!["http://127.0.0.1:1".into()], ..ClientConfig::default() };
        let client = Client::new(&config).unwrap();
        Watches::new(client, DropPolicy::default(), SourceWatcher::new(), CancellationToken::new())
    }

    fn key() -> Arc<Dependency> {
        Arc::new(Dependency::Key("k".into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_is_away_for_ten_minutes_changes_nothing() {
        let watches = watches();
        let kept = Arc::new(Answer::Key(Some("v".into())));
        watches.keep([(key(), kept.clone())].into());
        let wake = Arc::new(Notify::new());
        let mut reader = watches.reader(wake.clone());
        assert_eq!(reader.values().get(&key()), None, "the registry may answer yet");
        reader.follow([key()].into());
        wake.notified().await;
        for _ in 0..60 {
            assert_eq!(reader.values().get(&key()), Some(&kept));
            assert!(reader.is_stale() && reader.knows(reader.following()));
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        assert!(watches.trouble().unwrap().contains("127.0.0.1:1"));
        // What was asked in vain is not asked any more: nobody knows whether the registry is away.
        reader.follow(BTreeSet::new());
        {
            let mut table = watches.inner.table();
            table.slots.get_mut(&key()).unwrap().unread_since = Instant::now().checked_sub(KEPT_UNREAD);
            table.sweep(&watches.inner);
        }
        assert_eq!((reader.values().get(&key()), watches.trouble()), (None, None));
        watches.close().await;
    }

    #[tokio::test]
    async fn what_nobody_reads_any_more_is_dropped_late() {
        let watches = watches();
        let mut reader = watches.reader(Arc::new(Notify::new()));
        reader.follow([key()].into());
        reader.follow(BTreeSet::new());
        let inner = watches.inner.clone();
        let sweep = |unread_for: Duration| {
            let mut table = inner.table();
            table.slots.get_mut(&key()).unwrap().unread_since = Instant::now().checked_sub(unread_for);
            table.sweep(&inner);
            table.slots.contains_key(&key())
        };
        assert!(sweep(KEPT_UNREAD / 2));
        reader.follow([key()].into());
        inner.table().sweep(&inner);
        assert!(inner.table().slots.contains_key(&key()), "it is read again");
        reader.follow(BTreeSet::new());
        assert!(!sweep(KEPT_UNREAD));
        watches.close().await;
    }
}
