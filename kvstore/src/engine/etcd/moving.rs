//! A registry on its way out of an etcd, or into one.
//!
//! Its row `store` says so meanwhile, which every transaction of a kvstore compares: nobody writes to it, and nobody starts
//! on it. What went wrong halfway is seen there, too. Where it leaves, it is whole all the time; where it arrives, it is
//! opened once all of it was read back.

use std::time::{Duration, Instant};

use etcd_client::{
    Compare, CompareOp, DeleteOptions, Error, GetOptions, GetResponse, KeyValue, KvClient, ResponseHeader, Txn, TxnOp,
};
use kvstore_core::row::{Row, Stamped};
use tokio::time::{sleep, timeout};

use super::{
    super::{Loaded, moving::Sum},
    address::Address,
    keys::{Keys, Place, Span},
    link::{Link, explained, why},
    meta::{Base, Standing},
    news::decoded,
    pages::Pages,
    transaction::{MAX_BYTES, MAX_OPERATIONS},
};

/// One request; it may have all that etcd takes, and a slow disk under it.
const REQUEST: Duration = Duration::from_secs(10);

/// For so long another member is tried in the stead of one that went away in the middle.
const PATIENCE: Duration = Duration::from_secs(30);

/// From one attempt to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// The row `store` as somebody left it.
struct Store {
    value: Vec<u8>,
    /// Of etcd; zero if there is none.
    revision: i64,
}

/// A registry in etcd that nobody writes to.
pub(in super::super) struct Leaving {
    asking: Asking,
    /// The row `store` as it was; none if it is still there.
    before: Option<Vec<u8>>,
    held: Store,
}

impl Leaving {
    /// Reads all there is, and what is no row. With `hold` nobody writes from then on, until [`Leaving::stay`].
    ///
    /// # Errors
    /// What is to be said; the registry is as it was then.
    pub(in super::super) async fn begin(
        address: &Address,
        to: &str,
        hold: bool,
    ) -> Result<(Self, Loaded, Vec<String>), String> {
        let (mut asking, (store, now)) = Asking::first(address).await?;
        let store = store.ok_or_else(|| format!("there is no registry below {}/", address.prefix))?;
        let base = match Standing::decode(&store.value)? {
            Standing::Open(base) | Standing::Moved { base, .. } => base,
            Standing::Arriving { .. } => return Err(Base::decode(&store.value).err().unwrap_or_default()),
        };
        let (before, held, revision) = if hold {
            let moved = Standing::Moved { base, to: to.to_owned() }.encode();
            let held = asking.exchange(store.revision, moved, Vec::new()).await?;
            let revision = held.revision;
            (Some(store.value), held, revision)
        } else {
            (None, store, now)
        };
        let mut leaving = Self { asking, before, held };
        match leaving.asking.rows(base, revision).await {
            Ok((rows, unreadable)) => {
                let whole = Loaded { index: base.index(revision), rows };
                Ok((leaving, whole, unreadable))
            }
            Err(error) => {
                let _ = leaving.stay().await;
                Err(error)
            }
        }
    }

    /// Has the registry be there as it was.
    ///
    /// # Errors
    /// What is to be said; it is held then as it was before.
    pub(in super::super) async fn stay(mut self) -> Result<(), String> {
        match self.before.take() {
            Some(before) => self.asking.exchange(self.held.revision, before, Vec::new()).await.map(drop),
            None => Ok(()),
        }
    }
}

/// A place in etcd into which rows are put while nobody looks.
pub(in super::super) struct Arriving {
    asking: Asking,
    base: Base,
    store: Store,
}

/// # Errors
/// What stands in the way of a registry there, in words.
pub(in super::super) async fn check_vacant(address: &Address) -> Result<(), String> {
    let (mut asking, (store, _)) = Asking::first(address).await?;
    asking.check_vacant(store.as_ref()).await
}

impl Arriving {
    /// Takes the place for a registry whose last index was `whole`'s. What an earlier attempt left there is removed.
    ///
    /// # Errors
    /// What is to be said; nothing was changed.
    pub(in super::super) async fn begin(address: &Address, from: &str, whole: &Loaded) -> Result<Self, String> {
        let too_large = whole.rows.iter().find(|row| size(&asked(&Keys::new(&address.prefix), row)) > MAX_BYTES);
        if let Some(row) = too_large {
            let key = row.value.key().encode();
            return Err(format!("it takes {MAX_BYTES} bytes at once, and the row {key:?} has more"));
        }
        let (mut asking, (store, _)) = Asking::first(address).await?;
        asking.check_vacant(store.as_ref()).await?;
        let id = format!("{:016x}", rand::random::<u64>());
        let arriving = Standing::Arriving { from: from.into(), id }.encode();
        let leftovers =
            [asking.keys.rows(), asking.keys.guards(), asking.keys.all_alive(), Span::of(&asking.keys.last())];
        let delete = |span: Span| TxnOp::delete(span.from, Some(DeleteOptions::new().with_range(span.to)));
        let leftovers = leftovers.into_iter().map(delete).collect();
        let store = asking.exchange(store.map_or(0, |store| store.revision), arriving, leftovers).await?;
        let base = Base::going_on(whole.index, store.revision);
        Base::decode(&base.encode()).map_err(|_| format!("indexes cannot go on after {}", whole.index.0))?;
        Ok(Self { asking, base, store })
    }

    /// Puts `rows`, so many at once as etcd takes; `done` hears how many.
    ///
    /// # Errors
    /// What is to be said; some of them may be there.
    pub(in super::super) async fn put(
        &mut self,
        rows: &[Stamped<Row>],
        done: &(dyn Fn(usize) + Sync),
    ) -> Result<(), String> {
        let puts: Vec<_> = rows.iter().map(|row| asked(&self.asking.keys, row)).collect();
        for some in chunks(&puts) {
            let own = Compare::mod_revision(self.asking.keys.store(), CompareOp::Equal, self.store.revision);
            let ops: Vec<_> =
                some.iter().map(|(key, value)| TxnOp::put(key.as_str(), value.as_slice(), None)).collect();
            let txn = Txn::new().when([own]).and_then(ops);
            let answer = self.asking.ask(async |mut kv: KvClient| kv.txn(txn.clone()).await).await?;
            if !answer.succeeded() {
                return Err(format!("somebody else has changed {} meanwhile", self.asking.keys.store()));
            }
            done(some.len());
        }
        Ok(())
    }

    /// Reads back what is there, and opens it if that is `wanted`.
    ///
    /// # Errors
    /// What is to be said; nobody uses it then.
    pub(in super::super) async fn open(mut self, wanted: &Sum) -> Result<(), String> {
        let (_, now) = self.asking.store().await?;
        let (rows, unreadable) = self.asking.rows(self.base, now).await?;
        let read = Sum::of(&rows);
        if read != *wanted || !unreadable.is_empty() {
            return Err(format!("what was read back ({read}) is not what was put ({wanted})"));
        }
        let mark = TxnOp::put(self.asking.keys.last(), "", None);
        self.asking.exchange(self.store.revision, self.base.encode(), vec![mark]).await.map(drop)
    }
}

/// A row as it is put.
fn asked(keys: &Keys, row: &Stamped<Row>) -> (String, Vec<u8>) {
    (keys.row(&row.value.key().encode()), row.value.encode_unstamped(Some(row.created)))
}

fn size((key, value): &(String, Vec<u8>)) -> usize {
    key.len() + value.len()
}

/// Parts of `puts` that one transaction takes each.
fn chunks(puts: &[(String, Vec<u8>)]) -> impl Iterator<Item = &[(String, Vec<u8>)]> {
    let mut rest = puts;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fits = rest.iter().take(MAX_OPERATIONS).take_while(|put| {
            bytes += size(put);
            bytes <= MAX_BYTES
        });
        // One that is too large by itself was refused before.
        let count = fits.count().max(1).min(rest.len());
        let (some, others) = rest.split_at(count);
        rest = others;
        (!some.is_empty()).then_some(some)
    })
}

/// Asks one member of etcd, the others in its stead.
struct Asking {
    address: Address,
    keys: Keys,
    member: usize,
    link: Option<Link>,
}

/// The row `store`, if it is there, and the revision of etcd then.
type Found = (Option<Store>, i64);

/// Why etcd did not do what it was asked to.
struct Failed {
    why: String,
    /// Whether another member, or the same one later, may do it.
    may_pass: bool,
}

impl Asking {
    /// Asks each member once.
    async fn first(address: &Address) -> Result<(Self, Found), String> {
        let keys = Keys::new(&address.prefix);
        let mut asking = Self { address: address.clone(), keys, member: 0, link: None };
        let mut failed = Vec::new();
        for _ in &address.members {
            let key = asking.keys.store();
            match asking.ask_once(&async |mut kv: KvClient| kv.get(key.as_str(), None).await).await {
                Ok(got) => return Ok((asking, found(&got))),
                Err(error) => failed.push(explained(address, &error.why)),
            }
        }
        Err(failed.join("; "))
    }

    /// Asks until an answer comes, for as long as a new leader may take.
    async fn ask<T>(&mut self, asked: impl AsyncFn(KvClient) -> Result<T, Error>) -> Result<T, String> {
        let since = Instant::now();
        loop {
            match self.ask_once(&asked).await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.may_pass && since.elapsed() < PATIENCE => sleep(PAUSE).await,
                Err(error) => return Err(error.why),
            }
        }
    }

    /// Another member is asked the next time if this one does not answer.
    async fn ask_once<T>(&mut self, asked: &impl AsyncFn(KvClient) -> Result<T, Error>) -> Result<T, Failed> {
        let member = self.address.members[self.member % self.address.members.len()].clone();
        let failed = |why: String, may_pass| Failed { why: format!("{member}: {why}"), may_pass };
        self.member += 1;
        let link = match self.link.take() {
            Some(link) => link,
            None => Box::pin(Link::to(&self.address, &member)).await.map_err(|why| failed(why, true))?,
        };
        match timeout(REQUEST, Box::pin(asked(link.kv()))).await {
            Ok(Ok(answer)) => {
                self.link = Some(link);
                self.member -= 1;
                Ok(answer)
            }
            Ok(Err(error)) => Err(failed(why(&error), may_pass(&error))),
            Err(_) => Err(failed(format!("no answer within {} s", REQUEST.as_secs()), true)),
        }
    }

    async fn store(&mut self) -> Result<Found, String> {
        let key = self.keys.store();
        Ok(found(&self.ask(async |mut kv: KvClient| kv.get(key.as_str(), None).await).await?))
    }

    async fn rows(&mut self, base: Base, revision: i64) -> Result<(Vec<Stamped<Row>>, Vec<String>), String> {
        let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
        let mut pages = Pages::of(self.keys.rows(), revision);
        while let Some((from, options)) = pages.next() {
            let page = async |mut kv: KvClient| kv.get(from.clone(), Some(options.clone())).await;
            let page = self.ask(page).await?;
            for kv in page.kvs() {
                let Place::Row(key) = self.keys.place(kv.key()) else { continue };
                match decoded(key, kv, base) {
                    Some(row) => rows.push(row),
                    None => unreadable.push(key.to_owned()),
                }
            }
            pages.came(&page);
        }
        Ok((rows, unreadable))
    }

    /// Has the row `store`, which had `revision`, become `value`, and makes `more` happen with it. That it is so already
    /// is the same: an answer may have been lost on its way.
    async fn exchange(&mut self, revision: i64, value: Vec<u8>, more: Vec<TxnOp>) -> Result<Store, String> {
        let key = self.keys.store();
        let unchanged = Compare::mod_revision(key.as_str(), CompareOp::Equal, revision);
        let ops: Vec<_> = [TxnOp::put(key.as_str(), value.clone(), None)].into_iter().chain(more).collect();
        let txn = Txn::new().when([unchanged]).and_then(ops);
        self.ask(async |mut kv: KvClient| kv.txn(txn.clone()).await).await?;
        match self.store().await?.0 {
            Some(store) if store.value == value => Ok(store),
            _ => Err(format!("somebody else has changed {key} meanwhile")),
        }
    }

    /// # Errors
    /// What stands in the way of a registry here, in words.
    async fn check_vacant(&mut self, store: Option<&Store>) -> Result<(), String> {
        let prefix = self.address.prefix.clone();
        let other = format!("choose another prefix, or remove what is there: etcdctl del --prefix {prefix}/");
        match store.map(|store| Standing::decode(&store.value)).transpose()? {
            Some(Standing::Arriving { .. }) => return Ok(()),
            Some(Standing::Open(_)) => return Err(format!("there is a registry below {prefix}/ already; {other}")),
            Some(Standing::Moved { to, .. }) => {
                return Err(format!("what is below {prefix}/ is left of a registry that was moved to {to}; {other}"));
            }
            None => {}
        }
        let all = self.keys.all();
        let options = GetOptions::new().with_range(all.to).with_keys_only().with_limit(1);
        let there = self.ask(async |mut kv: KvClient| kv.get(all.from.clone(), Some(options.clone())).await).await?;
        match there.kvs().first() {
            Some(foreign) => Err(format!(
                "there are {} keys below {prefix}/ that are not of a kvstore, such as {:?}; choose another prefix",
                there.count(),
                String::from_utf8_lossy(foreign.key())
            )),
            None => Ok(()),
        }
    }
}

fn found(got: &GetResponse) -> Found {
    let store = |row: &KeyValue| Store { value: row.value().to_vec(), revision: row.mod_revision() };
    (got.kvs().first().map(store), got.header().map_or(0, ResponseHeader::revision))
}

/// Whether etcd may answer otherwise soon: not if it has understood, and refuses.
fn may_pass(error: &Error) -> bool {
    match error {
        // As gRPC numbers them: invalid argument, permission denied, resource exhausted, failed precondition, out of range,
        // unauthenticated.
        Error::GRpcStatus(status) => !matches!(i32::from(status.code()), 3 | 7 | 8 | 9 | 11 | 16),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_what_etcd_takes_at_once() {
        let put = |bytes: usize| ("k".to_owned(), vec![0; bytes - 1]);
        let check = |sizes: &[usize], want: &[usize]| {
            let puts: Vec<_> = sizes.iter().map(|size| put(*size)).collect();
            assert_eq!(chunks(&puts).map(<[_]>::len).collect::<Vec<_>>(), want, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[10; 128], &[128]);
        check(&[10; 129], &[128, 1]);
        check(&[MAX_BYTES - 10, 10, 1], &[2, 1]);
        check(&[MAX_BYTES, MAX_BYTES, 1], &[1, 1, 1]);
    }
}
