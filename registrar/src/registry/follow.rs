//! Follows the registry: a view at the start, whenever something may have changed, and now and then; over every loss.
//! Keeps the host's own node alive meanwhile.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use kvstore_client::{Backoff, Error, Wait, with_causes};
use tokio::{
    sync::{mpsc, watch},
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use super::{Place, Registry, Trouble, token_hint};
use crate::{
    address::HostAddress,
    plan::{Mark, Registered},
    status::Status,
};

/// Longest single wait for a change.
const WATCH: Duration = Duration::from_mins(1);
/// Views are at least this far apart, unless something is wrong: our own writes wake us too.
const VIEW_GAP: Duration = Duration::from_secs(1);
/// Where changes cannot be waited for, we look this often.
const POLL: Duration = Duration::from_secs(5);
/// A registry that is away is asked again at most this much later: it has everything to regain.
const MAX_BACKOFF: Duration = Duration::from_millis(500);

/// All that the registry holds for this host.
#[derive(Debug)]
pub struct View {
    /// Of any owner.
    pub registered: Registered,
    /// When it was asked for.
    pub asked: Instant,
    /// This host's address.
    pub address: HostAddress,
    /// What made us look.
    pub cause: &'static str,
}

impl Registry {
    /// Sends a view at the start, whenever something may have changed, and every `resync`; for ever, over every loss.
    pub async fn follow(
        self: Arc<Self>,
        resync: Option<Duration>,
        status: Arc<Status>,
        mark: watch::Receiver<Option<Mark>>,
        views: mpsc::Sender<View>,
    ) {
        let mut follower = Follower { registry: self, resync, status, mark, views, lost: None, poll: false };
        let mut backoff = Backoff::between(Duration::from_millis(100), MAX_BACKOFF);
        while let Err(trouble) = follower.session(&mut backoff).await {
            follower.status.registry.store(false, Relaxed);
            let message = with_causes(&trouble);
            // The words of one loss differ (refused, then reset); it is still one, unless somebody has to act.
            let to_be_told = match &trouble {
                Trouble::Call(Error::Tls { why, .. }) => Some(why),
                Trouble::Rival { .. } | Trouble::Call(Error::Status { status: 401 | 403, .. }) => Some(&message),
                _ => None,
            };
            let hint = if let Trouble::Call(error) = &trouble { token_hint(error) } else { "" };
            if follower.lost.is_none() || to_be_told.is_some() && follower.lost.as_ref() != to_be_told {
                warn!("{message}{hint}; nothing is lost, and the registry is asked again until it answers");
                follower.lost = Some(to_be_told.unwrap_or(&message).clone());
            }
            sleep(backoff.delay()).await;
        }
    }

    /// Three words fit into the time that one holds.
    fn beat(&self) -> Interval {
        let every = match &self.place {
            Place::Node { ttl, .. } => *ttl / 3,
            // never heard: there is no node of ours to keep alive
            Place::Agent => Duration::from_hours(24),
        };
        let mut beat = interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat
    }
}

/// What lasts longer than a connection.
struct Follower {
    registry: Arc<Registry>,
    resync: Option<Duration>,
    status: Arc<Status>,
    mark: watch::Receiver<Option<Mark>>,
    views: mpsc::Sender<View>,
    /// What was said when the registry was lost.
    lost: Option<String>,
    /// The registry lets us look, but not wait for changes.
    poll: bool,
}

/// With what the last view was asked for and announced.
struct Said<'a> {
    mark: &'a Mark,
    address: HostAddress,
    asked: Instant,
}

impl Follower {
    /// Until the registry is lost (an error) or nobody listens any more.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        let registry = self.registry.clone();
        let Ok(mark) = self.mark.wait_for(Option::is_some).await.map(|mark| mark.clone()) else { return Ok(()) };
        let mark = mark.expect("just checked");
        let node = registry.node_name().await?;
        // First the position, then the view: what changes in between ends the first wait.
        let mut index = self.position(&node).await?;
        let mut cause = "start";
        let mut beat = registry.beat();
        loop {
            let asked = Instant::now();
            let registered = registry.view(&mark).await?;
            let address = registry.own_address().await?;
            if cause == "start" {
                registry.announce(&mark, address.main).await?;
                beat.reset();
            }
            backoff.reset();
            self.status.registry.store(true, Relaxed);
            if self.lost.take().is_some() {
                info!("the registry at {} is back", registry.client.address());
                cause = "registry is back";
            }
            let view = View { registered, asked, address, cause };
            if self.views.send(view).await.is_err() {
                return Ok(());
            }
            cause = self.reason(&node, &mut index, &mut beat, &Said { mark: &mark, address, asked }).await?;
        }
    }

    async fn position(&mut self, node: &str) -> Result<u64, Error> {
        self.poll = false;
        match self.registry.client.catalog_node(node, None).await {
            Ok(read) => Ok(read.index.max(1)),
            Err(error) if error.status().is_some() && !error.is_transient() => {
                warn!("{error}; changes made by others are noticed every {POLL:?}");
                self.poll = true;
                Ok(1)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until there is a reason for another view, and says which. Keeps the node alive meanwhile.
    async fn reason(
        &self,
        node: &str,
        index: &mut u64,
        beat: &mut Interval,
        last: &Said<'_>,
    ) -> Result<&'static str, Trouble> {
        let registry = &self.registry;
        let change = self.change(node, *index);
        let gap = sleep(VIEW_GAP.saturating_sub(last.asked.elapsed()));
        let resync = async {
            match self.resync {
                Some(every) => sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(change, gap, resync);
        let mut found = None;
        loop {
            tokio::select! {
                moved = &mut change, if found.is_none() => {
                    *index = moved?;
                    found = Some("registry");
                }
                () = &mut resync, if found.is_none() => found = Some("resync"),
                () = &mut gap, if found.is_some() => return Ok(found.unwrap_or_default()),
                () = registry.look.notified() => return Ok("trouble"),
                _ = beat.tick() => registry.announce(last.mark, last.address.main).await?,
                () = self.views.closed() => return Ok("end"),
            }
        }
    }

    /// The position after the next change of what the node holds.
    async fn change(&self, node: &str, index: u64) -> Result<u64, Error> {
        if self.poll {
            sleep(POLL).await;
            return Ok(index);
        }
        loop {
            let asked = Instant::now();
            let wait = Some(Wait { index, wait: WATCH });
            let read = self.registry.client.catalog_node(node, wait).await?;
            let now = read.index.max(1);
            if now != index {
                debug!(index = now, "the registry has changed");
                return Ok(now);
            }
            // An answer without news that came at once: whoever sends such must not be asked at once again.
            sleep(VIEW_GAP.saturating_sub(asked.elapsed())).await;
        }
    }
}
