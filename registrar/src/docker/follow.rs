//! Follows Docker for ever: tells what happens there, over one connection after the other.

mod brief;
mod clock;
mod session;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use bollard::models::EventMessage;
use kvstore_client::{Backoff, with_causes};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use brief::Brief;
use clock::Clock;
use session::Session;

use super::{Connection, Error, Identity, Target};
use crate::{container::Container, status::Status};

/// A Docker that is away is asked again at most this much later.
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// What happened at Docker.
#[derive(Debug)]
pub enum News {
    /// It answers.
    Up(Identity),
    /// A container, as it is now.
    Seen {
        /// The facts.
        container: Box<Container>,
        /// What made us look.
        cause: &'static str,
        /// Docker's clock, in nanoseconds since 1970.
        clock: i64,
    },
    /// It is no more.
    Gone {
        /// Its id.
        id: String,
        /// What made us look.
        cause: &'static str,
    },
    /// Its process ended, at this time.
    Died {
        /// Its id.
        id: String,
        /// Nanoseconds since 1970.
        time: i64,
    },
    /// It was sent a signal, at this time.
    Killed {
        /// Its id.
        id: String,
        /// The number of the signal.
        signal: i32,
        /// Nanoseconds since 1970.
        time: i64,
    },
    /// What Docker says about it makes no sense.
    Unreadable {
        /// Its id.
        id: String,
    },
    /// Every running container has been told about.
    AllSeen,
}

/// What is asked of Docker besides its events.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    /// How often the list is compared; `None` for never.
    pub resync: Option<Duration>,
    /// At the first look, containers that have ended are looked at as well.
    pub at_the_ended: bool,
}

/// Tells `news` about the Docker at `target` for as long as somebody listens.
pub async fn follow(target: &Target, looks: Looks, status: &Status, news: mpsc::Sender<News>) {
    let (known, complained) = (BTreeMap::new(), BTreeSet::new());
    let clock = Clock { at: Instant::now(), time: 0 };
    let mut follower = Follower { news, looks, status, known, newest: 0, clock, complained };
    let mut backoff = Backoff::between(Duration::from_millis(100), MAX_BACKOFF);
    let (mut lost, address) = (false, &target.address);
    loop {
        let error = match Connection::open(target).await {
            Ok((connection, identity)) => {
                if std::mem::take(&mut lost) {
                    info!("Docker at {address} is back");
                } else {
                    debug!("connected to Docker at {address}");
                }
                backoff.reset();
                status.docker.store(true, Relaxed);
                match follower.session(&connection, identity).await {
                    End::Unheard => return,
                    End::Broken(error) => error,
                }
            }
            Err(error) => error,
        };
        status.docker.store(false, Relaxed);
        if !std::mem::replace(&mut lost, true) {
            warn!("{}; what is registered stays, and Docker is asked again until it answers", with_causes(&error));
        }
        tokio::select! {
            () = sleep(backoff.delay()) => {}
            () = follower.news.closed() => return,
        }
    }
}

/// What lasts longer than a connection.
struct Follower<'a> {
    news: mpsc::Sender<News>,
    looks: Looks,
    status: &'a Status,
    /// Running containers that were told about.
    known: BTreeMap<String, Brief>,
    /// The latest time of an event; 0 for none. It never goes back, though Docker's clock may: so the order of events
    /// stays that in which they came.
    newest: i64,
    clock: Clock,
    /// Containers whose unreadable facts were complained of.
    complained: BTreeSet<String>,
}

/// Why a session ends.
enum End {
    /// Nobody listens any more.
    Unheard,
    /// The connection is of no use any more.
    Broken(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Broken(error)
    }
}

impl Follower<'_> {
    /// When `event` happened, or the latest moment known if that is later.
    fn time_of(&mut self, event: &EventMessage) -> i64 {
        let time = event.time_nano.unwrap_or(0);
        if time > self.clock.now() {
            self.clock = Clock { at: Instant::now(), time };
        }
        self.newest = self.newest.max(time);
        self.newest
    }

    /// Until the connection breaks or nobody listens any more.
    async fn session(&mut self, connection: &Connection, identity: Identity) -> End {
        // Subscribing happens with the first poll below, beside the list; whatever happens in between is sent again,
        // since it is later than this moment.
        let since = if self.newest > 0 { self.newest + 1 } else { identity.time };
        self.clock = Clock { at: Instant::now(), time: identity.time };
        let mut events = Box::pin(connection.events(since));
        if self.news.send(News::Up(identity)).await.is_err() {
            return End::Unheard;
        }
        let mut session = Session::new(self, connection);
        loop {
            if let Err(end) = session.step(&mut events).await {
                return end;
            }
        }
    }
}
