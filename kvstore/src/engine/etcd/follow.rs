//! Keeps up with etcd: reads everything once, then takes each change in order. After a broken connection it goes on where
//! it was, on another member if need be; where etcd no longer has what was missed, everything is read anew.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use etcd_client::{
    Compare, CompareOp, Event, GetOptions, KeyValue, KvClient, ResponseHeader, Txn, TxnOp, WatchOptions, WatchResponse,
    WatchStream,
};
use kvstore_core::{
    Index,
    row::{Row, Stamped},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout},
};

use super::{
    super::Loaded,
    Shared,
    keys::{Place, Span},
    lease::Lease,
    link::{Link, explained, why, within},
    meta::Base,
    news::{News, decoded},
    pages::Pages,
};

/// A watch that does not begin within this does not begin.
const BEGIN: Duration = Duration::from_secs(3);

/// Entries that wait to be taken; when there are more, everything is read anew in their stead.
const MAX_ENTRIES: usize = 1 << 16;

/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(100);

/// What lapses within this after a connection began may have done so because etcd, or we, stood still before.
const UNSEEN: Duration = Duration::from_secs(3);

/// It is looked up at least this often, so that a standstill of the whole process is noticed.
const TICK: Duration = Duration::from_millis(500);

/// A standstill longer than this is as if the connection had been broken.
const STALL: Duration = Duration::from_secs(1);

/// What keeps up.
pub(super) struct Follower {
    shared: Arc<Shared>,
    /// The first index of a store that is not there yet comes after this.
    fresh: Index,
    /// None until everything was read.
    known: Option<Known>,
    /// Whether everything is to be read anew.
    anew: bool,
    /// Why somebody else found that the connection does not work.
    doubts: mpsc::Receiver<String>,
    /// Who waits to know whether there is anything to follow.
    first: Option<First>,
}

/// Gets nothing once all was read and each further change comes, or why no member could be followed.
pub(super) type First = oneshot::Sender<Result<(), String>>;

/// How far we are.
#[derive(Clone, Copy)]
struct Known {
    base: Base,
    /// Of the row `store`.
    store_revision: i64,
    /// Everything up to it was told.
    revision: i64,
}

/// The row `store` as it is, and the revision of etcd at which that was read.
struct StoreRow {
    base: Base,
    own_revision: i64,
    revision: i64,
}

impl Follower {
    pub(super) fn new(shared: Arc<Shared>, fresh: Index, doubts: mpsc::Receiver<String>, first: First) -> Self {
        Self { shared, fresh, known: None, anew: true, doubts, first: Some(first) }
    }

    /// Follows one member after the other, for ever if the first round has found one.
    pub(super) async fn run(mut self) {
        let members = self.shared.address.members.clone();
        let mut failed = Vec::new();
        for member in members.iter().cycle() {
            let Err(error) = Box::pin(self.follow(member)).await;
            let why = format!("{member}: {error}");
            if self.first.is_some() {
                failed.push(explained(&self.shared.address, &why));
                if failed.len() == members.len() {
                    let _ = self.first.take().map(|first| first.send(Err(failed.join("; "))));
                    return;
                }
            } else {
                self.shared.is_away(why);
                sleep(PAUSE).await;
            }
        }
    }

    async fn follow(&mut self, member: &str) -> Result<Infallible, String> {
        let link = Link::to(&self.shared.address, member).await?;
        let known = self.read_if_needed(&link).await?;
        self.shared.go_on(&link).await?;
        let all = self.shared.keys.all();
        let options = WatchOptions::new().with_range(all.to).with_start_revision(known.revision + 1);
        let begun = timeout(BEGIN, async {
            let mut stream = link.watch().watch(all.from, Some(options)).await?;
            let first = stream.message().await?;
            Ok((stream, first))
        });
        let (mut stream, mut next) =
            begun.await.map_err(|_| "its watch does not begin".to_owned())?.map_err(|error| why(&error))?;
        while self.doubts.try_recv().is_ok() {}
        self.shared.is_there(link, known.base, known.store_revision);
        let seen_from = Instant::now() + UNSEEN;
        let _ = self.first.take().map(|first| first.send(Ok(())));
        loop {
            let response = next.ok_or("it ended the watch")?;
            if response.canceled() {
                self.anew |= response.compact_revision() > 0;
                return Err(format!("it ended the watch: {}", response.cancel_reason()));
            }
            self.take(response.events(), Instant::now() < seen_from)?;
            next = self.next(&mut stream).await?;
        }
    }

    /// The next message; none at the end.
    async fn next(&mut self, stream: &mut WatchStream) -> Result<Option<WatchResponse>, String> {
        loop {
            let waits_since = Instant::now();
            let message = tokio::select! {
                message = stream.message() => Some(message),
                Some(why) = self.doubts.recv() => return Err(why),
                () = sleep(TICK) => None,
            };
            if waits_since.elapsed() > TICK + STALL {
                return Err("this process stood still".into());
            }
            if let Some(message) = message {
                return message.map_err(|error| why(&error));
            }
        }
    }

    /// Reads everything, unless what is known can be followed from where it is.
    async fn read_if_needed(&mut self, link: &Link) -> Result<Known, String> {
        match self.known {
            Some(known) if !self.anew => {
                let mut kv = link.kv();
                let store = self.store_row(&mut kv).await?.ok_or_else(|| self.gone())?;
                if store.own_revision == known.store_revision && store.revision >= known.revision {
                    return Ok(known);
                }
            }
            _ => {}
        }
        self.read(link).await?;
        self.known.ok_or_else(|| "nothing was read".to_owned())
    }

    fn gone(&self) -> String {
        format!(
            "{} is gone from it; put back what was there, or start this kvstore anew to begin with what is left",
            self.shared.keys.store()
        )
    }

    /// Reads all rows as they are at one revision.
    async fn read(&mut self, link: &Link) -> Result<(), String> {
        let mut kv = link.kv();
        let store = match self.store_row(&mut kv).await? {
            Some(store) => store,
            None if self.known.is_some() => return Err(self.gone()),
            None => self.make_store(&mut kv).await?,
        };
        if let Some(known) = self.known {
            let told = known.base.index(known.revision);
            if store.base.index(store.revision) < told {
                // An older etcd was restored. Nobody is to see time go back.
                self.replace_store(&mut kv, &store, Base::going_on(told, store.revision)).await?;
                return Err("it is older than it was; indexes begin anew above those that were told".into());
            }
        }
        let (rows, unreadable) = self.read_rows(&mut kv, &store).await?;
        let alive = self.read_alive(&mut kv, &store).await?;
        let index = store.base.index(store.revision);
        self.known = Some(Known { base: store.base, store_revision: store.own_revision, revision: store.revision });
        self.anew = false;
        self.shared.is_anew(Loaded { index, rows }, unreadable, alive, store.revision);
        Ok(())
    }

    /// The row `store`, by a read that needs etcd's majority.
    async fn store_row(&self, kv: &mut KvClient) -> Result<Option<StoreRow>, String> {
        let got = within(kv.get(self.shared.keys.store(), None)).await?;
        let revision = got.header().map(ResponseHeader::revision).ok_or("it does not tell its revision")?;
        let Some(row) = got.kvs().first() else { return Ok(None) };
        let base = Base::decode(row.value())?;
        Ok(Some(StoreRow { base, own_revision: row.mod_revision(), revision }))
    }

    /// Makes the row where nothing is yet, or gives the one that another kvstore made meanwhile.
    async fn make_store(&self, kv: &mut KvClient) -> Result<StoreRow, String> {
        let (keys, prefix) = (&self.shared.keys, &self.shared.address.prefix);
        let all = keys.all();
        let options = GetOptions::new().with_range(all.to).with_keys_only().with_limit(1);
        let found = within(kv.get(all.from, Some(options))).await?;
        if let Some(foreign) = found.kvs().first() {
            return Err(format!(
                "it has {} keys below {prefix}/ that are not of a kvstore, such as {:?}; choose another prefix",
                found.count(),
                String::from_utf8_lossy(foreign.key())
            ));
        }
        let absent = Compare::version(keys.store(), CompareOp::Equal, 0);
        let put = TxnOp::put(keys.store(), Base(self.fresh).encode(), None);
        let made = within(kv.txn(Txn::new().when([absent]).and_then([put]))).await?;
        if made.succeeded() {
            tracing::info!(etcd = %self.shared.address, "a new store was begun");
        }
        self.store_row(kv).await?.ok_or_else(|| "what was put is not there".to_owned())
    }

    async fn replace_store(&self, kv: &mut KvClient, old: &StoreRow, base: Base) -> Result<(), String> {
        let keys = &self.shared.keys;
        let unchanged = Compare::mod_revision(keys.store(), CompareOp::Equal, old.own_revision);
        let put = TxnOp::put(keys.store(), base.encode(), None);
        within(kv.txn(Txn::new().when([unchanged]).and_then([put]))).await.map(drop)
    }

    /// All rows at the revision at which `store` was read, and those that are none with their revisions.
    async fn read_rows(
        &self,
        kv: &mut KvClient,
        store: &StoreRow,
    ) -> Result<(Vec<Stamped<Row>>, BTreeMap<String, i64>), String> {
        let (mut rows, mut unreadable) = (Vec::new(), BTreeMap::new());
        let take = |row: &KeyValue| {
            let Place::Row(key) = self.shared.keys.place(row.key()) else { return };
            match decoded(key, row, store.base) {
                Some(row) => rows.push(row),
                None => drop(unreadable.insert(key.to_owned(), row.mod_revision())),
            }
        };
        read_all(kv, self.shared.keys.rows(), store.revision, take).await?;
        Ok((rows, unreadable))
    }

    /// All rows whose deadlines are kept, at the same revision.
    async fn read_alive(&self, kv: &mut KvClient, store: &StoreRow) -> Result<BTreeMap<String, Lease>, String> {
        let mut alive = BTreeMap::new();
        let take = |sign: &KeyValue| {
            if let Place::Alive(key) = self.shared.keys.place(sign.key()) {
                alive.insert(key.to_owned(), Lease::of(sign));
            }
        };
        read_all(kv, self.shared.keys.all_alive(), store.revision, take).await?;
        Ok(alive)
    }

    /// Tells what happened.
    fn take(&mut self, events: &[Event], unseen: bool) -> Result<(), String> {
        if events.is_empty() {
            return Ok(());
        }
        let Some(known) = &mut self.known else { return Err("nothing was read".into()) };
        let Ok(news) = News::of(events, &self.shared.keys, known.base, unseen) else {
            self.anew = true;
            return Err("its row `store` was changed, so all is read anew".into());
        };
        known.revision = news.revision.max(known.revision);
        if self.shared.has_come(news) > MAX_ENTRIES {
            self.anew = true;
            return Err("its changes are not taken, so all is read anew".into());
        }
        Ok(())
    }
}

/// Gives `take` each key of `span` as it was at `revision`.
async fn read_all(kv: &mut KvClient, span: Span, revision: i64, mut take: impl FnMut(&KeyValue)) -> Result<(), String> {
    let mut pages = Pages::of(span, revision);
    while let Some((from, options)) = pages.next() {
        let page = within(kv.get(from, Some(options))).await?;
        page.kvs().iter().for_each(&mut take);
        pages.came(&page);
    }
    Ok(())
}
