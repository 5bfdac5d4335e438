//! Who writes during a round: one of each kind on each host, through the kvstore there.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use flotilla_tests::objects::{OnLock, OnRegister};
use kvstore_client::{
    Client, Error, GoDuration, KvPut, Read,
    types::{KvEntry, SessionRequest},
};
use tokio::time::sleep;

use super::history::History;

/// Between two operations of a client.
const PAUSE: Duration = Duration::from_millis(8);
/// A session that is not renewed ends after so long; the least that there is.
const TTL: Duration = Duration::from_secs(10);
/// After one that was refused, or not answered.
const LONGER: Duration = Duration::from_millis(80);

/// What all clients of a round share.
pub(crate) struct Round {
    /// Its keys begin with this.
    pub(crate) prefix: String,
    pub(crate) history: History,
    /// No more is to be written but locks of the dead, which others wait for.
    pub(crate) stop: AtomicBool,
    /// Not even those.
    pub(crate) close: AtomicBool,
    /// What was acknowledged.
    pub(crate) acknowledged: Mutex<Acknowledged>,
    /// The last number that made a value or a session different from all others.
    pub(crate) number: AtomicU64,
}

/// Writes that the registry has answered with success, and those whose outcome nobody knows.
#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    pub(crate) counted: u64,
    pub(crate) perhaps_counted: u64,
    pub(crate) elements: BTreeSet<u64>,
    pub(crate) perhaps_elements: BTreeSet<u64>,
    pub(crate) locked: u64,
    pub(crate) abandoned: u64,
}

impl Round {
    pub(crate) fn new(prefix: String) -> Self {
        let (acknowledged, number) = (Mutex::default(), AtomicU64::new(1));
        let (stop, close) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { prefix, history: History::new(), stop, close, acknowledged, number }
    }

    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn is_closed(&self) -> bool {
        self.close.load(Ordering::Relaxed)
    }

    fn next(&self) -> u64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn acknowledged(&self, note: impl FnOnce(&mut Acknowledged)) {
        note(&mut self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Compares and sets, and notes what came of it: `None` if nobody knows.
    async fn cas(&self, client: &Client, key: &str, old: Option<&KvEntry>, new: String) -> Option<bool> {
        let cas = Some(old.map_or(0, |old| old.modify_index));
        let expected = old.map(|old| self.history.value(&old.value));
        let value = self.history.value(new.as_bytes());
        let called = self.history.now();
        let done = client.kv_put(key, new, KvPut { cas, ..KvPut::default() }).await.ok();
        self.history.on_register(key, called, done.is_some(), OnRegister::Cas { expected, new: value, done });
        if done.is_none() {
            sleep(LONGER).await;
        }
        done
    }

    /// Reads what this kvstore has, which may be old; no part of the history.
    async fn glance(&self, client: &Client, key: &str) -> Result<Option<KvEntry>, Error> {
        let Read { value, .. } = client.kv_get(key, None).await?;
        if let Some(entry) = &value {
            self.history.seen(key, entry.modify_index, self.history.value(&entry.value));
        }
        Ok(value)
    }

    /// Reads what is newest, for the history.
    pub(crate) async fn read(&self, client: &Client, key: &str) -> Result<Option<KvEntry>, Error> {
        let called = self.history.now();
        let Read { value, .. } = client.consistent().kv_get(key, None).await?;
        let seen = value.as_ref().map(|entry| self.history.value(&entry.value));
        self.history.on_register(key, called, true, OnRegister::Read(seen));
        if let Some(entry) = &value {
            self.history.seen(key, entry.modify_index, self.history.value(&entry.value));
        }
        Ok(value)
    }
}

/// Counts: reads, and sets one more if that is still what is there.
pub(crate) async fn count((round, client): (Arc<Round>, Client)) {
    let key = round.key("count");
    while !round.is_over() {
        sleep(PAUSE).await;
        let Ok(old) = round.glance(&client, &key).await else { continue };
        let count: u64 = old.as_ref().map_or(0, |old| number(&old.value));
        match round.cas(&client, &key, old.as_ref(), (count + 1).to_string()).await {
            Some(true) => round.acknowledged(|all| all.counted += 1),
            Some(false) => {}
            None => round.acknowledged(|all| all.perhaps_counted += 1),
        }
    }
}

fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).expect("only numbers were written")
}

/// Adds an element to a set, which is one value.
pub(crate) async fn add((round, client): (Arc<Round>, Client)) {
    let key = round.key("set");
    while !round.is_over() {
        sleep(PAUSE).await;
        let Ok(old) = round.glance(&client, &key).await else { continue };
        let element = round.next();
        let mut set = old.as_ref().map_or_else(Vec::new, |old| elements(&old.value));
        set.push(element);
        let text = set.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        match round.cas(&client, &key, old.as_ref(), text).await {
            Some(true) => round.acknowledged(|all| all.elements.extend([element])),
            Some(false) => {}
            None => round.acknowledged(|all| all.perhaps_elements.extend([element])),
        }
    }
}

/// The elements of a set, in the order in which they were added.
pub(crate) fn elements(text: &[u8]) -> Vec<u64> {
    text.split(|byte| *byte == b',').map(number).collect()
}

/// Writes a register without looking, compares and sets it, and reads what is newest.
pub(crate) async fn write((round, client): (Arc<Round>, Client)) {
    let key = round.key("register");
    for turn in 0u64.. {
        sleep(PAUSE).await;
        if round.is_over() {
            return;
        }
        match turn % 4 {
            0 => {
                let new = format!("value {}", round.next());
                let value = round.history.value(new.as_bytes());
                let called = round.history.now();
                let done = client.kv_put(&key, new, KvPut::default()).await;
                assert!(!matches!(done, Ok(false)), "a plain put cannot fail to match");
                round.history.on_register(&key, called, done.is_ok(), OnRegister::Put(value));
                if done.is_err() {
                    sleep(LONGER).await;
                }
            }
            1 => {
                let Ok(old) = round.glance(&client, &key).await else { continue };
                round.cas(&client, &key, old.as_ref(), format!("value {}", round.next())).await;
            }
            // What cannot be read says nothing.
            _ => drop(round.read(&client, &key).await),
        }
    }
}

/// Locks with one session after the other, holds the lock for a moment, and gives it back or ends the session.
pub(crate) async fn lock((round, client): (Arc<Round>, Client)) {
    let key = round.key("lock");
    while !round.is_over() {
        // Without a TTL, so that nobody ends it but us.
        let Ok(id) = client.session_create(&unchecked()).await else {
            sleep(LONGER).await;
            continue;
        };
        let session =
            Session { number: round.history.value(id.as_bytes()), id, key: &key, round: &round, client: &client };
        while session.holds_and_gives_back().await && !round.is_over() {
            sleep(PAUSE).await;
        }
        session.end().await;
    }
}

struct Session<'a> {
    id: String,
    number: u64,
    key: &'a str,
    round: &'a Round,
    client: &'a Client,
}

impl Session<'_> {
    /// Whether the session can be used again: it is known what it holds, and chance does not end it.
    async fn holds_and_gives_back(&self) -> bool {
        let history = &self.round.history;
        let called = history.now();
        let got = self.client.kv_acquire(self.key, "", 0, &self.id).await.ok();
        history.on_lock(self.key, called, got.is_some(), OnLock::Acquire(self.number, got));
        match got {
            None => return false,
            Some(false) => return true,
            Some(true) => self.round.acknowledged(|all| all.locked += 1),
        }
        self.sees_who_holds_it().await;
        sleep(PAUSE).await;
        if rand::random_ratio(1, 8) {
            return false;
        }
        let called = history.now();
        let gave = self.client.kv_release(self.key, "", 0, &self.id).await.ok();
        history.on_lock(self.key, called, gave.is_some(), OnLock::Release(self.number, gave));
        gave.is_some()
    }

    async fn sees_who_holds_it(&self) {
        let history = &self.round.history;
        let called = history.now();
        let Ok(Read { value, .. }) = self.client.consistent().kv_get(self.key, None).await else { return };
        let holder =
            value.filter(|entry| !entry.session.is_empty()).map(|entry| history.value(entry.session.as_bytes()));
        history.on_lock(self.key, called, true, OnLock::Holder(holder));
    }

    /// Tries until it is known to have ended, or the round is over.
    async fn end(&self) {
        loop {
            let called = self.round.history.now();
            let ended = self.client.session_destroy(&self.id).await.is_ok();
            self.round.history.on_lock(self.key, called, ended, OnLock::End(self.number, ended.then_some(true)));
            if ended || self.round.is_over() {
                return;
            }
            sleep(LONGER).await;
        }
    }
}

/// Locks with sessions that it then forgets, as who dies with a lock: another has it when the session's time is over, and
/// not before.
pub(crate) async fn abandon((round, client): (Arc<Round>, Client)) {
    let key = round.key("abandoned");
    while !round.is_closed() {
        let Some(mut session) = Renewed::begin(&round, &client, &key).await else { continue };
        if session.waits().await {
            round.acknowledged(|all| all.abandoned += 1);
        }
    }
}

/// Holds a lock, as long as it lives.
pub(crate) async fn hold((round, client): (Arc<Round>, Client)) {
    let key = round.key("held");
    while !round.is_closed() {
        let Some(mut session) = Renewed::begin(&round, &client, &key).await else { continue };
        if session.waits().await {
            while !round.is_closed() && session.renew().await {
                sleep(Duration::from_millis(500)).await;
            }
        }
    }
}

/// A session with a TTL, and when that began last. Whoever drops it, also by being killed, has died with it: it may end
/// when its time is over.
struct Renewed<'a> {
    id: String,
    number: u64,
    since: u64,
    /// Whether it ever asked for the lock.
    asked: bool,
    /// Since when it asks, and has no answer.
    asking: Option<u64>,
    key: &'a str,
    round: &'a Round,
    client: &'a Client,
}

impl<'a> Renewed<'a> {
    async fn begin(round: &'a Round, client: &'a Client, key: &'a str) -> Option<Self> {
        let request = SessionRequest { ttl: Some(GoDuration(TTL)), ..unchecked() };
        let since = round.history.now();
        let Ok(id) = client.session_create(&request).await else {
            sleep(LONGER).await;
            return None;
        };
        let number = round.history.value(id.as_bytes());
        Some(Self { id, number, since, asked: false, asking: None, key, round, client })
    }

    /// Asks for the lock until it has it; whether that is known.
    async fn waits(&mut self) -> bool {
        self.asked = true;
        while !self.round.is_closed() {
            let called = self.round.history.now();
            self.asking = Some(called);
            let got = self.client.kv_acquire(self.key, "", 0, &self.id).await.ok();
            self.asking = None;
            self.round.history.on_lock(self.key, called, got.is_some(), OnLock::Acquire(self.number, got));
            if got != Some(false) {
                return got.is_some();
            }
            sleep(LONGER).await;
            if !self.renew().await {
                return false;
            }
        }
        false
    }

    /// Whether it is there still, as far as is known.
    async fn renew(&mut self) -> bool {
        let called = self.round.history.now();
        match self.client.session_renew(&self.id).await {
            Ok(Some(_)) => self.since = called,
            Ok(None) => return false,
            Err(_) => {}
        }
        true
    }
}

impl Drop for Renewed<'_> {
    fn drop(&mut self) {
        if let Some(called) = self.asking {
            self.round.history.on_lock(self.key, called, false, OnLock::Acquire(self.number, None));
        }
        if self.asked {
            self.round.history.on_lock(self.key, self.since + nanos(TTL), false, OnLock::End(self.number, None));
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("it is a matter of seconds")
}

/// A session that hangs on no check, and may have a lock as soon as another has lost it.
fn unchecked() -> SessionRequest {
    SessionRequest {
        lock_delay: Some(GoDuration(Duration::ZERO)),
        node_checks: Some(Vec::new()),
        ..SessionRequest::default()
    }
}

/// Waits for each change of the keys. What it is told never goes back, not even when its kvstore was killed in between.
pub(crate) async fn watch((round, client): (Arc<Round>, Client)) {
    let mut index = 0;
    while !round.is_over() {
        let wait = kvstore_client::Wait { index, wait: Duration::from_secs(1) };
        match client.kv_list(&round.prefix, (index > 0).then_some(wait)).await {
            Ok(read) => {
                assert!(read.index >= index, "the index went back from {index} to {}", read.index);
                index = read.index;
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}
