//! Keeps a replica up to date: asks its hub what came after what it has, again and again, and for everything where that
//! is no longer known. Where one hub cannot be followed, the next is.

use std::{convert::Infallible, sync::Arc, time::Duration};

use kvstore_client::{Backoff, ChangesSince, Wait, with_causes};
use kvstore_core::{
    Index,
    row::{Row, Stamped},
};
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Hub, Inbox, Upstream,
    copy::Copy,
    wire::{self, Head, Life, Position},
};
use crate::{
    engine::{Commit, Entry, Loaded},
    snapshot,
    store::Store,
};

/// A question that nothing answers is asked anew after this; so long ago was a hub last heard that is well.
const WAIT: Duration = Duration::from_secs(1);

/// The first of a connection is answered at once.
const AT_ONCE: Duration = Duration::from_millis(1);

/// From one question to the next at least, so that many changes come together. The first after a while comes at once.
const PACE: Duration = Duration::from_millis(10);

/// From one attempt to the next, once no hub can be followed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A change passes through this many processes at the most.
const MAX_HOPS: usize = 8;

/// The header that tells the life of a snapshot.
pub(crate) const LIFE_HEADER: &str = "x-flotilla-life";

/// What follows the hub.
pub(super) struct Follower {
    pub(super) hub: Arc<Hub>,
    pub(super) inbox: Inbox,
    pub(super) store: Store,
    /// None where nothing is kept.
    pub(super) copy: Option<Copy>,
    /// What is known; none before the first of everything.
    pub(super) position: Option<Position>,
    /// Whether one must show a token to read here.
    pub(super) guarded: bool,
    /// The most bytes of a snapshot, packed or unpacked.
    pub(super) max_snapshot_bytes: usize,
}

impl Follower {
    /// Follows until `shutdown`; says through `first` when there is something to show.
    pub(super) async fn run(mut self, first: watch::Sender<bool>, shutdown: CancellationToken) {
        let mut pauses = Backoff::between(PAUSES.0, PAUSES.1);
        let mut at = 0;
        loop {
            let mut heard = false;
            let Err(why) = tokio::select! {
                failed = self.follow(at, &first, &mut heard) => failed,
                () = shutdown.cancelled() => break,
            };
            self.hub.lost(at, &why);
            if heard {
                pauses.reset();
            }
            at = (at + 1) % self.hub.upstreams.len();
            if at == 0 || heard {
                tokio::select! {
                    () = sleep(pauses.delay()) => {}
                    () = shutdown.cancelled() => break,
                }
            }
        }
        if let Some(copy) = self.copy {
            copy.close().await;
        }
    }

    /// Follows one hub until that fails, which is said.
    async fn follow(&mut self, at: usize, first: &watch::Sender<bool>, heard: &mut bool) -> Result<Infallible, String> {
        let hub = self.hub.clone();
        let upstream = &hub.upstreams[at];
        let mut wait = AT_ONCE;
        loop {
            let asked = Instant::now();
            let position = self.position.unwrap_or(Position { life: hub.process, index: Index(1) });
            let question = Wait { index: position.index.0.max(1), wait };
            let told = upstream.changes.changes(&position.life.to_string(), question).await;
            let path = match told.map_err(|error| with_causes(&error))? {
                ChangesSince::Told(answer) => {
                    let (head, commits) = wire::decode(&answer).map_err(|error| error.to_string())?;
                    self.check(&head)?;
                    self.take(position, &head, commits).await?;
                    head.path
                }
                ChangesSince::Missed(answer) => {
                    let (head, _) = wire::decode(&answer).map_err(|error| error.to_string())?;
                    self.check(&head)?;
                    self.fetch(upstream, head.life).await?;
                    head.path
                }
            };
            hub.heard(at, path);
            *heard = true;
            first.send_if_modified(|there| !std::mem::replace(there, true));
            wait = WAIT;
            sleep_until(asked + PACE).await;
        }
    }

    /// Whether that hub may be followed.
    fn check(&self, head: &Head) -> Result<(), String> {
        if head.path.contains(&self.hub.process) {
            return Err("it follows this replica itself; name a hub that is no replica of this one".into());
        }
        if head.path.len() >= MAX_HOPS {
            return Err(format!(
                "changes come to it by {} others, and that is as long as a chain may be",
                head.path.len()
            ));
        }
        if head.guarded && !self.guarded {
            let why = "it asks for a token before it shows anything, and this replica would show all of it to everybody; \
                       give this one the same acl and access settings";
            return Err(why.into());
        }
        Ok(())
    }

    /// Shows `commits`, which came after `position`, and keeps them.
    async fn take(&mut self, position: Position, head: &Head, commits: Vec<Commit>) -> Result<(), String> {
        let Some(last) = commits.last().map(|commit| commit.index) else { return Ok(()) };
        if head.life != position.life || commits[0].index <= position.index {
            return Err("it tells other changes than those that were asked for".into());
        }
        self.inbox.put(commits.iter().cloned().map(Entry::Commit).collect());
        self.store.reach(last).await;
        self.position = Some(Position { index: last, ..position });
        if let Some(copy) = &mut self.copy {
            copy.follow(commits, position.life, || self.store.state()).await;
        }
        Ok(())
    }

    /// Shows all that the hub has, in place of what is shown, and keeps that.
    async fn fetch(&mut self, upstream: &Upstream, life: Life) -> Result<(), String> {
        let (index, rows) = download(upstream, life, self.max_snapshot_bytes).await?;
        let (before, count) = (self.store.state(), rows.len());
        let went_back = index <= before.index();
        let mut published = self.store.feed().published();
        self.inbox.put(vec![Entry::Anew(Loaded { index, rows })]);
        let shows = || {
            let state = self.store.state();
            state.index() == index && (!went_back || state.life() > before.life())
        };
        // The sender is part of the store.
        let _ = published.wait_for(|_| shows()).await;
        match self.position {
            Some(position) if went_back && position.life != life => {
                tracing::warn!(%index, before = %before.index(), "the hub has another life: its rows take the place of those that were here");
            }
            _ => tracing::info!(%index, rows = count, "all rows were fetched"),
        }
        self.position = Some(Position { life, index });
        if let Some(copy) = &mut self.copy {
            copy.replace(life, self.store.state()).await;
        }
        Ok(())
    }
}

/// A snapshot of that life, unpacked and found whole.
async fn download(upstream: &Upstream, life: Life, max_bytes: usize) -> Result<(Index, Vec<Stamped<Row>>), String> {
    let mut download = upstream.bulk.snapshot_save().await.map_err(|error| with_causes(&error))?;
    if download.header(LIFE_HEADER) != Some(life.to_string().as_str()) {
        return Err("another kvstore answered than the one before".into());
    }
    let mut archive = Vec::new();
    while let Some(piece) = download.next().await.map_err(|error| with_causes(&error))? {
        if archive.len() + piece.len() > max_bytes {
            return Err(format!("its snapshot has more than {max_bytes} bytes; limits.snapshot_max_size is the limit"));
        }
        archive.extend_from_slice(&piece);
    }
    let read = spawn_blocking(move || snapshot::read(&archive[..], max_bytes as u64));
    let (meta, rows) = read.await.map_err(|error| error.to_string())?.map_err(|damage| damage.to_string())?;
    Ok((Index(meta.index), rows))
}
