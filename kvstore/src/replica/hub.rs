//! Whom a replica follows, and how that stands.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kvstore_client::{Client, ClientConfig, Error};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::wire::Life;

/// An answer about changes comes within this, on top of what was to be waited.
const ANSWER: Duration = Duration::from_secs(3);

/// The same for all of the rows, and for each piece of them.
const BULK: Duration = Duration::from_secs(20);

/// Whoever wants something of the hub waits so long for a contact that was just lost.
const GRACE: Duration = Duration::from_secs(1);

/// Who is followed: one of these, the next where that fails.
#[derive(Debug)]
pub(crate) struct Hub {
    /// This process, by which a circle is known.
    pub(crate) process: Life,
    pub(crate) upstreams: Vec<Upstream>,
    standing: Mutex<Standing>,
    /// Marked as changed when contact was made or lost.
    turns: watch::Sender<bool>,
}

/// One that can be followed.
pub(crate) struct Upstream {
    pub(crate) address: String,
    pub(crate) changes: Client,
    pub(crate) bulk: Client,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Upstream").field(&self.address).finish()
    }
}

#[derive(Debug)]
struct Standing {
    /// Which of them is followed; none while there is no contact.
    followed: Option<usize>,
    /// When it was last heard of, or else when the process began.
    heard: Instant,
    /// What each of them cannot be followed for, as far as it was tried since the last contact.
    faults: Vec<Option<String>>,
    /// By whom changes come here.
    path: Vec<Life>,
}

/// How new the rows are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contact {
    /// The hub that is followed; none while there is no contact.
    pub(crate) with: Option<String>,
    /// For how long nothing was heard.
    pub(crate) silent: Duration,
}

impl Hub {
    /// Those of `config`; nothing is sent yet.
    ///
    /// # Errors
    /// [`Error`] if one of the addresses or files cannot be used.
    pub(crate) fn new(config: &ClientConfig) -> Result<Self, Error> {
        let upstream = |address: &String| {
            let at = |timeout| ClientConfig { addresses: vec![address.clone()], timeout, ..config.clone() };
            let (changes, bulk) = (Client::new(&at(ANSWER))?, Client::new(&at(BULK))?);
            Ok::<_, Error>(Upstream { address: address.clone(), changes, bulk })
        };
        let upstreams = config.addresses.iter().map(upstream).collect::<Result<Vec<_>, _>>()?;
        let faults = vec![None; upstreams.len()];
        let standing = Standing { followed: None, heard: Instant::now(), faults, path: Vec::new() };
        Ok(Self { process: Life::begin(), upstreams, standing: Mutex::new(standing), turns: watch::Sender::new(false) })
    }

    /// How new the rows are.
    pub(crate) fn contact(&self) -> Contact {
        let standing = self.lock();
        let with = standing.followed.map(|at| self.upstreams[at].address.clone());
        Contact { with, silent: standing.heard.elapsed() }
    }

    /// For how long nothing has been heard; none while there is contact.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let standing = self.lock();
        standing.followed.is_none().then(|| standing.heard.elapsed())
    }

    /// By whom changes come to those that follow this process; none while they do not come.
    pub(crate) fn path(&self) -> Option<Vec<Life>> {
        let standing = self.lock();
        standing.followed?;
        Some(standing.path.iter().copied().chain([self.process]).collect())
    }

    /// The one that is followed; if contact is lost for a moment only, the next.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn followed(&self) -> Result<&Upstream, String> {
        let mut turns = self.turns.subscribe();
        let left = GRACE.saturating_sub(self.silence().unwrap_or_default());
        let _ = timeout(left, turns.wait_for(|there| *there)).await;
        let standing = self.lock();
        let at = standing.followed.ok_or_else(|| {
            let faults: Vec<_> = standing.faults.iter().flatten().map(String::as_str).collect();
            let why = if faults.is_empty() { "it was not reached yet".to_owned() } else { faults.join("; ") };
            format!("the hub is away, and this replica only reads without it: {why}")
        })?;
        Ok(&self.upstreams[at])
    }

    /// Waits until contact is lost.
    pub(crate) async fn until_lost(&self) {
        let mut turns = self.turns.subscribe();
        // The sender is part of the hub.
        let _ = turns.wait_for(|there| !*there).await;
    }

    /// The upstream of that number has answered; changes come to it by `path`.
    pub(super) fn heard(&self, at: usize, path: Vec<Life>) {
        let mut standing = self.lock();
        let is_new = standing.followed != Some(at);
        (standing.followed, standing.heard, standing.path) = (Some(at), Instant::now(), path);
        standing.faults.fill(None);
        drop(standing);
        if is_new {
            tracing::info!(hub = self.upstreams[at].address, "this replica has what its hub has");
            self.turns.send_replace(true);
        }
    }

    /// The upstream of that number cannot be followed.
    pub(super) fn lost(&self, at: usize, why: &str) {
        let mut standing = self.lock();
        let had = standing.followed.take().is_some();
        // The same is said once.
        let is_new = standing.faults[at].as_deref() != Some(why);
        standing.faults[at] = Some(why.to_owned());
        drop(standing);
        if had {
            self.turns.send_replace(false);
        }
        if is_new {
            let hub = &self.upstreams[at].address;
            tracing::warn!(hub, why, "the hub cannot be followed; reads are answered by what there is");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        // It is whole between any two statements.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
