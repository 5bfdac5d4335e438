//! Keeps what templates read fresh: one blocking query for each dependency, shared by all templates that read it.
//!
//! Owns the newest values. Does not decide when anybody renders: it only wakes the readers of what changed.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use kvstore_client::{Client, Error, Read, Wait, Watch};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::values::{Answer, Dependency, Values};

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
    table: Mutex<Table>,
    contact: Mutex<Contact>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Default)]
struct Table {
    values: Values,
    slots: HashMap<Arc<Dependency>, Slot>,
    next_reader: u64,
}

struct Slot {
    /// Whom to wake, by the reader's number.
    readers: HashMap<u64, Arc<Notify>>,
    unread_since: Option<Instant>,
    stop: CancellationToken,
}

/// Which reads fail now, and how: so that the log says it once and says when it is over.
#[derive(Default)]
struct Contact {
    failing: HashMap<Arc<Dependency>, Failure>,
}

struct Failure {
    transient: bool,
    message: String,
}

impl Watches {
    /// No watches yet on the registry of `client`; all of them end with `stop`.
    pub fn new(client: Client, stop: CancellationToken) -> Self {
        let inner =
            Inner { client, table: Mutex::default(), contact: Mutex::default(), tasks: TaskTracker::new(), stop };
        Self { inner: Arc::new(inner) }
    }

    /// A reader that follows nothing yet and that `wake` tells of changes.
    pub fn reader(&self, wake: Arc<Notify>) -> Reader {
        let mut table = self.inner.table();
        table.next_reader += 1;
        Reader { watches: self.clone(), id: table.next_reader, wake, following: BTreeSet::new() }
    }

    /// Why the registry does not answer, if it does not.
    pub fn trouble(&self) -> Option<String> {
        let contact = self.inner.contact();
        contact.failing.values().map(|f| f.message.clone()).min()
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
        self.watches.inner.table().values.clone()
    }

    /// Whether every one of `dependencies` has an answer.
    pub fn knows(&self, dependencies: &BTreeSet<Arc<Dependency>>) -> bool {
        let table = self.watches.inner.table();
        dependencies.iter().all(|d| table.values.contains_key(d))
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
                inner.contact().failing.remove(dependency);
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
        let task = self.clone().keep_fresh(dependency.clone(), stop.clone());
        self.tasks.spawn(task);
        Slot { readers: HashMap::new(), unread_since: None, stop }
    }

    async fn keep_fresh(self: Arc<Self>, dependency: Arc<Dependency>, stop: CancellationToken) {
        let mut watch = Watch::new(WAIT);
        loop {
            let read = async |wait| self.ask(&dependency, wait).await;
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                answer = watch.next(read) => answer,
            };
            match answer {
                Ok(answer) => self.publish(&dependency, answer, &stop),
                Err(error) => self.contact().failed(&dependency, &error),
            }
        }
    }

    async fn ask(&self, dependency: &Arc<Dependency>, wait: Option<Wait>) -> Result<Read<Arc<Answer>>, Error> {
        let read = fetch(&self.client, dependency, wait).await?;
        self.contact().answered(dependency, self.client.address());
        debug!(%dependency, index = read.index, "answered");
        Ok(read)
    }

    fn publish(&self, dependency: &Arc<Dependency>, answer: Arc<Answer>, stop: &CancellationToken) {
        let mut table = self.table();
        if stop.is_cancelled() {
            return; // swept meanwhile; a value without a watch would never be renewed
        }
        let before = table.values.get(dependency).map(|a| a.rejected()).unwrap_or_default();
        for rejected in answer.rejected().iter().filter(|r| !before.contains(r)) {
            warn!(%dependency, "an instance is kept from templates, for it could break out of its line: {rejected}");
        }
        table.values.insert(dependency.clone(), answer);
        if let Some(slot) = table.slots.get(dependency) {
            slot.readers.values().for_each(|wake| wake.notify_one());
        }
        table.sweep(self);
    }
}

impl Contact {
    fn failed(&mut self, dependency: &Arc<Dependency>, error: &Error) {
        let failure = Failure { transient: error.is_transient(), message: kvstore_client::with_causes(error) };
        let known = self.failing.get(dependency).is_some_and(|f| f.message == failure.message);
        if known || failure.transient && self.is_away() {
            debug!(%dependency, "no answer: {}", failure.message);
        } else if failure.transient {
            warn!(
                "the registry does not answer; files stay as they are, and it is asked again until it does\n  cause: {}",
                failure.message
            );
        } else {
            warn!(%dependency, "the registry refuses to answer; what reads this is not written\n  cause: {}", failure.message);
        }
        self.failing.insert(dependency.clone(), failure);
    }

    fn is_away(&self) -> bool {
        self.failing.values().any(|f| f.transient)
    }

    fn answered(&mut self, dependency: &Arc<Dependency>, address: &str) {
        let recovered = self.failing.remove(dependency);
        if recovered.is_some_and(|f| f.transient) && !self.is_away() {
            info!("the registry at {address} answers again");
        }
    }
}

async fn fetch(client: &Client, dependency: &Dependency, wait: Option<Wait>) -> Result<Read<Arc<Answer>>, Error> {
    fn shaped<T>(read: Read<T>, shape: impl FnOnce(T) -> Answer) -> Read<Arc<Answer>> {
        Read { index: read.index, value: Arc::new(shape(read.value)) }
    }
    Ok(match dependency {
        Dependency::Service { name, passing } => {
            shaped(client.health_service(name, *passing, wait).await?, Answer::instances)
        }
        Dependency::Services => shaped(client.catalog_services(wait).await?, Answer::services),
        Dependency::Node(name) => shaped(client.catalog_node(name, wait).await?, Answer::node),
        Dependency::Nodes => shaped(client.catalog_nodes(wait).await?, Answer::nodes),
        Dependency::Key(path) => shaped(client.kv_get(path, wait).await?, Answer::key),
        Dependency::Prefix(prefix) => shaped(client.kv_list(prefix, wait).await?, Answer::pairs),
    })
}
