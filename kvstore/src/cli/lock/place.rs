//! Taking, watching and giving back a lock, for the session of one who wants it.

use std::time::Duration;

use bytes::Bytes;
use kvstore_client::{Backoff, Client, Error, KvPut, Read, Wait, Watch, types::KvEntry};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::step::{self, Conflict, LOCK_FLAGS, SLOT_FLAGS, Step};
use crate::cli::failure::Failure;

/// How long a single query waits for the lock to come free.
const WAIT: Duration = Duration::from_mins(1);

/// How soon a lock is tried again that was torn from its holder: its delay makes no change that could be waited for.
const DELAY_PAUSE: Duration = Duration::from_millis(500);

/// How soon a renewal that failed is tried again.
const RENEW_PAUSE: Duration = Duration::from_secs(1);

/// How often a place is given back in a race with others before that is left to the session's end.
const MAX_RACES: u32 = 100;

/// A lock, and the session that wants it.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) session: String,
    /// Without a slash at its end.
    pub(super) prefix: String,
    /// So many may hold it.
    pub(super) limit: usize,
}

/// Why a lock is held no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    #[error("its session has ended")]
    Ended,
    #[error("its session could not be renewed in time")]
    NotRenewed,
    #[error("it was taken away")]
    Taken,
}

impl Place {
    pub(super) fn key(&self) -> String {
        self.below(".lock")
    }

    fn below(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.into() } else { format!("{}/{name}", self.prefix) }
    }

    fn is_shared(&self) -> bool {
        self.limit > 1
    }

    /// All that says how it stands with the lock.
    async fn read(&self, wait: Option<Wait>) -> Result<Read<Vec<KvEntry>>, Error> {
        if self.is_shared() {
            return self.client.kv_list(&self.below(""), wait).await;
        }
        let read = self.client.kv_get(&self.key(), wait).await?;
        Ok(Read { index: read.index, value: read.value.into_iter().collect() })
    }

    fn step(&self, entries: &[KvEntry]) -> Result<Step, Conflict> {
        if self.is_shared() {
            step::of_places(&self.key(), entries, self.limit, &self.session)
        } else {
            step::of_lock(&self.key(), entries.first(), &self.session)
        }
    }

    /// Waits for the lock, however long it takes, also while the registry is away.
    pub(super) async fn acquire(&self) -> Result<(), Failure> {
        let mut backoff = Backoff::new();
        loop {
            match self.try_to_acquire().await {
                Ok(done) => return done.map_err(|conflict| Failure::new(conflict.to_string())),
                Err(error) if error.is_transient() => sleep(backoff.delay()).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn try_to_acquire(&self) -> Result<Result<(), Conflict>, Error> {
        if self.is_shared() {
            // Shows that we are there, as long as we are.
            self.client.kv_acquire(&self.below(&self.session), Bytes::new(), SLOT_FLAGS, &self.session).await?;
        }
        let mut wait = None;
        loop {
            let Read { index, value: entries } = self.read(wait).await?;
            wait = None;
            let taken = match self.step(&entries) {
                Err(conflict) => return Ok(Err(conflict)),
                Ok(Step::Held) => return Ok(Ok(())),
                Ok(Step::Wait) => {
                    wait = Some(Wait { index: index.max(1), wait: WAIT });
                    continue;
                }
                Ok(Step::Acquire) => {
                    self.client.kv_acquire(&self.key(), Bytes::new(), LOCK_FLAGS, &self.session).await?
                }
                Ok(Step::Write(places, index)) => {
                    let put = KvPut { flags: SLOT_FLAGS, cas: Some(index), ..KvPut::default() };
                    self.client.kv_put(&self.key(), places.encode(), put).await?
                }
            };
            if taken {
                return Ok(Ok(()));
            }
            if !self.is_shared() {
                sleep(DELAY_PAUSE).await;
            }
        }
    }

    /// Returns when the lock is seen to be held no more. Without a registry nothing is seen; then the session decides.
    pub(super) async fn taken_away(&self) -> Lost {
        let mut watch = Watch::new(WAIT);
        loop {
            if let Ok(entries) = watch.next(|wait| self.read(wait)).await
                && self.step(&entries) != Ok(Step::Held)
            {
                return Lost::Taken;
            }
        }
    }

    /// Renews the session until it has ended, or nobody can tell that it has not. It was alive at `known`.
    pub(super) async fn renewed(&self, ttl: Duration, known: Instant) -> Lost {
        let mut known = known;
        loop {
            match timeout_at(known + ttl, self.renew(known + ttl / 2)).await {
                Ok(Some(again)) => known = again,
                Ok(None) => return Lost::Ended,
                Err(_) => return Lost::NotRenewed,
            }
        }
    }

    /// Renews at `due`, or as soon after as it succeeds. What comes back is when it was asked for.
    async fn renew(&self, due: Instant) -> Option<Instant> {
        sleep_until(due).await;
        loop {
            let asked = Instant::now();
            match self.client.session_renew(&self.session).await {
                Ok(session) => return session.map(|_| asked),
                Err(_) => sleep(RENEW_PAUSE).await,
            }
        }
    }

    /// Gives the lock back, so that the next one need not wait for the session's end.
    pub(super) async fn release(&self) -> Result<(), Error> {
        if !self.is_shared() {
            return self.client.kv_release(&self.key(), Bytes::new(), LOCK_FLAGS, &self.session).await.map(drop);
        }
        for _ in 0..MAX_RACES {
            let entries = self.read(None).await?.value;
            let Ok(Some((places, index))) = step::without(&self.key(), &entries, &self.session) else { break };
            let put = KvPut { flags: SLOT_FLAGS, cas: Some(index), ..KvPut::default() };
            if self.client.kv_put(&self.key(), places.encode(), put).await? {
                break;
            }
        }
        self.client.kv_delete(&self.below(&self.session), false, None).await.map(drop)
    }

    /// Removes the lock's key if nobody uses it any more.
    pub(super) async fn clean_up(&self) -> Result<(), Error> {
        let entries = self.read(None).await?.value;
        match step::unused(&self.key(), &entries) {
            Some(index) => self.client.kv_delete(&self.key(), false, Some(index)).await.map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvstore_client::ClientConfig;

    /// A session of which nobody knows that it lives is over when its time is, not when a call fails.
    #[tokio::test(start_paused = true)]
    async fn without_a_registry_the_lock_is_lost_when_the_sessions_time_is_over() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let client = Client::new(&ClientConfig { addresses: vec![closed], ..ClientConfig::default() }).unwrap();
        let place = Place { client, session: "s".into(), prefix: "p".into(), limit: 1 };
        let ttl = Duration::from_secs(15);
        let known = Instant::now();
        assert_eq!(place.renewed(ttl, known).await, Lost::NotRenewed);
        assert_eq!(known.elapsed().as_secs(), ttl.as_secs());
    }
}
