//! One connection to Docker: events, and what is looked at because of them.
//!
//! An event only says "look at this container again"; what counts is what `inspect` then answers. Two events tell
//! more, and early: that a stop signal was sent, and that a process ended. Lists find what events did not tell: the
//! first look, after a connection was lost, after a burst, and now and then.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use bollard::models::{ContainerSummary, EventMessage, EventMessageTypeEnum};
use futures_util::{Stream, StreamExt, stream::FuturesUnordered};
use kvstore_client::with_causes;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};

use super::{
    End, Follower, News,
    brief::{Brief, has_ended},
};
use crate::{
    container::{Container, signal},
    docker::{Connection, Error, is_nonsense, status as status_of},
};

/// Inspections at the same time: more would only wait inside of Docker.
const MAX_LOOKS: usize = 8;
/// After so many starts and ends in a row, and so long a quiet, the list is compared.
const BURST: u32 = 4;
const BURST_QUIET: Duration = Duration::from_millis(500);
/// Before asking again about a container that Docker could not tell about.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What Docker says of a container, as [`Connection::inspect`] has it.
type Found = Result<Option<Result<Container, &'static str>>, Error>;
type Look<'a> = Pin<Box<dyn Future<Output = (String, Found)> + Send + 'a>>;
type Listing<'a> = Pin<Box<dyn Future<Output = Result<Vec<ContainerSummary>, Error>> + Send + 'a>>;

/// One connection.
pub(super) struct Session<'a, 'b> {
    follower: &'a mut Follower<'b>,
    connection: &'a Connection,
    /// Containers to look at, in the order of the news about them, each once.
    queue: VecDeque<String>,
    /// Why each of those is to be looked at.
    causes: BTreeMap<String, &'static str>,
    looking: BTreeMap<String, Looking>,
    looks: FuturesUnordered<Look<'a>>,
    listing: Option<Listing<'a>>,
    /// Look at all that the list has, whether it differs or not.
    list_is_full: bool,
    /// Still to be looked at before everything has been seen.
    unseen: Option<BTreeSet<String>>,
    burst: u32,
    list_at: Option<Instant>,
    quiet_at: Option<Instant>,
}

/// A look under way.
struct Looking {
    cause: &'static str,
    /// The process ended since: the answer may be of before, and another look is queued.
    stale: bool,
}

impl<'a, 'b> Session<'a, 'b> {
    pub(super) fn new(follower: &'a mut Follower<'b>, connection: &'a Connection) -> Self {
        let list_at = follower.looks.resync.map(|every| Instant::now() + every);
        let listing: Listing<'a> = Box::pin(connection.list(follower.looks.at_the_ended));
        Self {
            follower,
            connection,
            queue: VecDeque::new(),
            causes: BTreeMap::new(),
            looking: BTreeMap::new(),
            looks: FuturesUnordered::new(),
            listing: Some(listing),
            list_is_full: true,
            unseen: None,
            burst: 0,
            list_at,
            quiet_at: None,
        }
    }

    /// Waits for the next thing to happen, and handles it.
    pub(super) async fn step<S>(&mut self, events: &mut S) -> Result<(), End>
    where
        S: Stream<Item = Result<EventMessage, bollard::errors::Error>> + Unpin,
    {
        self.start_looks();
        let next = self.list_at.into_iter().chain(self.quiet_at).min();
        tokio::select! {
            biased;
            event = events.next() => self.heard(event).await,
            Some((id, answer)) = self.looks.next(), if !self.looks.is_empty() => self.looked(id, answer).await,
            list = async { self.listing.as_mut().expect("checked").await }, if self.listing.is_some() => {
                self.listing = None;
                self.listed(list?).await
            }
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                self.tick();
                Ok(())
            }
            () = self.follower.news.closed() => Err(End::Unheard),
        }
    }

    async fn heard(&mut self, event: Option<Result<EventMessage, bollard::errors::Error>>) -> Result<(), End> {
        let address = self.connection.address.clone();
        match event {
            Some(Ok(event)) => self.event(event).await,
            Some(Err(error)) => {
                // Were it sent again, it would break the next stream too.
                self.follower.newest = 0;
                Err(End::Broken(Error::Call { what: "read events", address, source: error }))
            }
            None => Err(End::Broken(Error::Ended { address })),
        }
    }

    async fn tell(&mut self, news: News) -> Result<(), End> {
        self.follower.news.send(news).await.map_err(|_| End::Unheard)
    }

    fn look(&mut self, id: &str, cause: &'static str) {
        if self.causes.insert(id.to_owned(), cause).is_none() {
            self.queue.push_back(id.to_owned());
        }
    }

    fn start_looks(&mut self) {
        let mut later = VecDeque::new();
        while self.looks.len() < MAX_LOOKS
            && let Some(id) = self.queue.pop_front()
        {
            if self.looking.contains_key(&id) {
                later.push_back(id); // again, once that look is over
            } else {
                self.start_look(id, Duration::ZERO);
            }
        }
        later.append(&mut self.queue);
        self.queue = later;
    }

    fn start_look(&mut self, id: String, after: Duration) {
        let connection = self.connection;
        let cause = self.causes.remove(&id).unwrap_or("list");
        self.looking.insert(id.clone(), Looking { cause, stale: false });
        self.looks.push(Box::pin(async move {
            if !after.is_zero() {
                sleep(after).await;
            }
            let answer = connection.inspect(&id).await;
            (id, answer)
        }));
    }

    async fn event(&mut self, event: EventMessage) -> Result<(), End> {
        self.follower.status.events.fetch_add(1, Relaxed);
        let time = self.follower.time_of(&event);
        let Some(actor) = event.actor else { return Ok(()) };
        let attributes = actor.attributes.unwrap_or_default();
        let of_network = event.typ == Some(EventMessageTypeEnum::NETWORK);
        let id = if of_network { attributes.get("container").cloned() } else { actor.id };
        let Some(id) = id else { return Ok(()) };
        let action = event.action.unwrap_or_default();
        debug!(container = id, action, "event");
        match action.split(':').next().unwrap_or_default() {
            "start" => {
                self.count();
                self.look(&id, "start");
            }
            "die" => {
                self.count();
                if let Some(looking) = self.looking.get_mut(&id) {
                    looking.stale = true;
                }
                self.look(&id, "die");
                self.tell(News::Died { id, time }).await?;
            }
            "kill" => {
                if let Some(signal) = attributes.get("signal").and_then(|s| signal(s)) {
                    self.tell(News::Killed { id, signal, time }).await?;
                }
            }
            // podman's word for it comes second
            "destroy" | "remove" => self.gone(&id, "destroy").await?,
            other => self.look_if_running(&id, other),
        }
        Ok(())
    }

    /// Before a start and after an end, such events are no news.
    fn look_if_running(&mut self, id: &str, action: &str) {
        let cause = match action {
            "pause" => "pause",
            "unpause" => "unpause",
            "rename" => "rename",
            "health_status" => "health",
            "connect" | "disconnect" => "network",
            _ => return,
        };
        if self.follower.known.contains_key(id) || self.looking.contains_key(id) || self.causes.contains_key(id) {
            self.look(id, cause);
        }
    }

    fn count(&mut self) {
        self.burst += 1;
        self.quiet_at = Some(Instant::now() + BURST_QUIET);
    }

    async fn looked(&mut self, id: String, answer: Found) -> Result<(), End> {
        let Some(Looking { cause, stale }) = self.looking.remove(&id) else { return Ok(()) };
        match answer {
            Ok(_) if stale => return Ok(()),
            Ok(Some(Ok(container))) => self.seen(container, cause).await?,
            Ok(Some(Err(why))) => self.unreadable(&id, why).await?,
            Ok(None) => self.gone(&id, cause).await?,
            Err(error) if is_nonsense(&error) => self.unreadable(&id, &with_causes(&error)).await?,
            Err(Error::Call { source, .. }) if status_of(&source).is_some() => {
                self.unreadable(&id, &with_causes(&source)).await?;
                self.start_look(id.clone(), LOOK_AGAIN);
            }
            Err(error) => return Err(error.into()),
        }
        self.was_seen(&id).await
    }

    async fn seen(&mut self, container: Container, cause: &'static str) -> Result<(), End> {
        self.follower.complained.remove(&container.id);
        let known = &mut self.follower.known;
        let old = known.remove(&container.id);
        if container.running {
            known.insert(container.id.clone(), Brief::of(&container));
        }
        // A look at a container that is just starting waits inside of Docker until it runs.
        let cause = if old.is_none() && container.running && cause != "list" { "start" } else { cause };
        let (container, clock) = (Box::new(container), self.follower.clock.now());
        self.tell(News::Seen { container, cause, clock }).await
    }

    async fn gone(&mut self, id: &str, cause: &'static str) -> Result<(), End> {
        self.follower.complained.remove(id);
        self.follower.known.remove(id);
        let id = id.to_owned();
        self.tell(News::Gone { id, cause }).await
    }

    async fn unreadable(&mut self, id: &str, why: &str) -> Result<(), End> {
        if self.follower.complained.insert(id.to_owned()) {
            warn!(
                container = id,
                "Docker's answer about a container cannot be used: {why}; its entries stay as they are"
            );
        }
        let id = id.to_owned();
        self.tell(News::Unreadable { id }).await
    }

    async fn was_seen(&mut self, id: &str) -> Result<(), End> {
        if let Some(unseen) = &mut self.unseen {
            unseen.remove(id);
            if unseen.is_empty() {
                self.unseen = None;
                return self.tell(News::AllSeen).await;
            }
        }
        Ok(())
    }

    fn start_list(&mut self, full: bool) {
        self.list_is_full |= full;
        if self.listing.is_none() {
            self.listing = Some(Box::pin(self.connection.list(self.follower.looks.at_the_ended)));
        }
    }

    async fn listed(&mut self, list: Vec<ContainerSummary>) -> Result<(), End> {
        let full = std::mem::take(&mut self.list_is_full);
        let listed: BTreeMap<String, ContainerSummary> =
            list.into_iter().filter_map(|c| Some((c.id.clone()?, c))).collect();
        let missing = self.follower.known.keys().filter(|id| !listed.contains_key(*id));
        let same = |id: &String, listed| {
            let on_its_way = self.causes.contains_key(id) || self.looking.contains_key(id);
            let known = self.follower.known.get(id);
            on_its_way || known.map_or_else(|| has_ended(listed), |known| known.fits(listed))
        };
        let differing = listed.iter().filter(|(id, c)| full || !same(id, c));
        let ids: BTreeSet<String> = missing.chain(differing.map(|(id, _)| id)).cloned().collect();
        debug!(containers = listed.len(), to_look_at = ids.len(), "compared the list");
        for id in &ids {
            self.look(id, "list");
        }
        if !full {
            return Ok(());
        }
        if ids.is_empty() {
            return self.tell(News::AllSeen).await;
        }
        self.unseen = Some(ids);
        Ok(())
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if self.quiet_at.is_some_and(|at| at <= now) {
            self.quiet_at = None;
            if std::mem::take(&mut self.burst) >= BURST {
                self.start_list(false);
            }
        }
        if self.list_at.is_some_and(|at| at <= now) {
            self.list_at = self.follower.looks.resync.map(|every| now + every);
            self.start_list(false);
        }
    }
}
