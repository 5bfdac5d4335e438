//! The log: to standard error, as text for people or one JSON object a line, and to clients that follow it.
//!
//! A follower has a level of its own. While nobody follows, a line below the log's own level costs nothing.

mod line;

use std::{
    collections::BTreeMap,
    fmt,
    io::IsTerminal,
    sync::{Arc, Mutex, PoisonError},
};

use kvstore_client::logging::LogFormat;
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{Event, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    layer::{Context, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

pub(crate) use line::Line;

use crate::config::Log;

/// What libraries say below `info` is about themselves; `RUST_LOG` still shows it.
const QUIET_LIBRARIES: &str =
    "hyper=info,hyper_util=info,reqwest=info,mio=info,hickory_resolver=info,hickory_proto=info";

/// Lines a follower may be behind; one who is behind further has lost some and is let go.
const MAX_BEHIND: usize = 1024;

/// Followers at the same time.
const MAX_FOLLOWERS: usize = 64;

/// The running log: followed, and changed in level. Cheap to clone; until it is started it says nothing.
#[derive(Clone)]
pub struct Logs(Arc<Shared>);

type SetLevel = Box<dyn Fn(&Log) + Send + Sync>;
type SetFollowed = Box<dyn Fn(LevelFilter) + Send + Sync>;

struct Shared {
    lines: broadcast::Sender<Arc<Line>>,
    /// The level each follower wants.
    followers: Mutex<Followers>,
    set_level: SetLevel,
    set_followed: SetFollowed,
}

#[derive(Default)]
struct Followers {
    last: u64,
    levels: BTreeMap<u64, LevelFilter>,
}

impl Default for Logs {
    fn default() -> Self {
        Self::new(broadcast::Sender::new(1), Box::new(|_| ()), Box::new(|_| ()))
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Logs({} followers)", self.0.lines.receiver_count())
    }
}

/// Why nobody more may follow.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_FOLLOWERS} clients follow the log; end one of them first")]
pub(crate) struct TooManyFollowers;

impl Logs {
    fn new(lines: broadcast::Sender<Arc<Line>>, set_level: SetLevel, set_followed: SetFollowed) -> Self {
        Self(Arc::new(Shared { lines, followers: Mutex::default(), set_level, set_followed }))
    }

    /// Makes the log on standard error what `log` says; its format stays.
    pub(crate) fn set_level(&self, log: &Log) {
        (self.0.set_level)(log);
    }

    /// Every line from now on that is at least of that level.
    ///
    /// # Errors
    /// [`TooManyFollowers`].
    pub(crate) fn follow(&self, level: LevelFilter) -> Result<Follower, TooManyFollowers> {
        let lines = self.0.lines.subscribe();
        let number = self.change(|followers| {
            if followers.levels.len() >= MAX_FOLLOWERS {
                return None;
            }
            followers.last += 1;
            followers.levels.insert(followers.last, level);
            Some(followers.last)
        });
        let number = number.ok_or(TooManyFollowers)?;
        Ok(Follower { logs: self.clone(), number, level, lines })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Followers) -> T) -> T {
        let mut followers = self.0.followers.lock().unwrap_or_else(PoisonError::into_inner);
        let widest = |followers: &Followers| followers.levels.values().max().copied().unwrap_or(LevelFilter::OFF);
        let before = widest(&followers);
        let changed = change(&mut followers);
        if widest(&followers) != before {
            (self.0.set_followed)(widest(&followers));
        }
        changed
    }
}

/// Follows the log until it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    logs: Logs,
    number: u64,
    level: LevelFilter,
    lines: broadcast::Receiver<Arc<Line>>,
}

impl Follower {
    /// The next line; `Err` with how many were lost if it comes too late, `None` when there will be no more.
    pub(crate) async fn next(&mut self) -> Option<Result<Arc<Line>, u64>> {
        loop {
            match self.lines.recv().await {
                Ok(line) if self.level >= line.level => return Some(Ok(line)),
                Ok(_) => {}
                Err(RecvError::Lagged(lost)) => return Some(Err(lost)),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.logs.change(|followers| followers.levels.remove(&self.number));
    }
}

/// Hands each line to the followers.
struct Publish(broadcast::Sender<Arc<Line>>);

impl<S: Subscriber> Layer<S> for Publish {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.0.receiver_count() > 0 {
            // Whoever left in between misses nothing.
            let _ = self.0.send(Arc::new(Line::of(event)));
        }
    }
}

/// What followers see: of our own programs what they ask for, of libraries warnings.
fn followed(level: LevelFilter) -> Targets {
    Targets::new().with_target("kvstore", level).with_default(level.min(LevelFilter::WARN))
}

/// A level that was named wins over `RUST_LOG`.
fn filter(log: &Log) -> EnvFilter {
    match &log.level {
        Some(level) => EnvFilter::new(format!("{level},{QUIET_LIBRARIES}")),
        None => EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
    }
}

/// Starts the log; once, before anything else is started.
pub(crate) fn start(log: &Log) -> Logs {
    let (own_filter, own_handle) = reload::Layer::new(filter(log));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match log.format {
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let lines = broadcast::Sender::new(MAX_BEHIND);
    let (followed_filter, followed_handle) = reload::Layer::new(followed(LevelFilter::OFF));
    let registry = tracing_subscriber::registry().with(layer.with_filter(own_filter));
    // Fails only if somebody has started a log before, which then stays.
    let _ = registry.with(Publish(lines.clone()).with_filter(followed_filter)).try_init();
    // These fail only after the log is gone, which is never.
    let set_level = move |log: &Log| drop(own_handle.reload(filter(log)));
    let set_followed = move |level| drop(followed_handle.reload(followed(level)));
    Logs::new(lines, Box::new(set_level), Box::new(set_followed))
}

#[cfg(test)]
mod tests;
