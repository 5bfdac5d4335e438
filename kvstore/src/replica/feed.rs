//! What was committed lately, kept for replicas. Costs nothing until the first of them asks, and nothing again some time
//! after the last has.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use kvstore_core::Index;
use tokio::{sync::watch, time::Instant};

use super::wire::{self, Life, Position};
use crate::engine::{Entry, Loaded};

/// What is kept at the most; who is further behind fetches everything.
const MAX_BYTES: usize = 4 << 20;

/// What a commit takes beside its line, about.
const OVERHEAD_BYTES: usize = 64;

/// When nobody has asked for so long, nothing is kept any more.
const FORGOTTEN: Duration = Duration::from_mins(5);

/// The commits of a kvstore, for those who follow it.
#[derive(Debug)]
pub(crate) struct Feed {
    /// This process.
    pub(crate) process: Life,
    kept: Mutex<Kept>,
    /// Where the published state stands. Marked as changed by each publication.
    published: watch::Sender<Index>,
}

#[derive(Debug)]
struct Kept {
    life: Life,
    /// The index of the last commit that was told, whether it is kept or not.
    newest: Index,
    /// None while nobody asks.
    lately: Option<Lately>,
}

#[derive(Debug)]
struct Lately {
    commits: Commits,
    asked: Instant,
}

/// The newest commits, within bounds. Pure.
#[derive(Debug)]
struct Commits {
    lines: VecDeque<(Index, Bytes)>,
    bytes: usize,
    /// All that came after this one are here.
    since: Index,
}

impl Commits {
    fn since(index: Index) -> Self {
        Self { lines: VecDeque::new(), bytes: 0, since: index }
    }

    fn push(&mut self, index: Index, line: Bytes, max_bytes: usize) {
        self.bytes += line.len() + OVERHEAD_BYTES;
        self.lines.push_back((index, line));
        while self.bytes > max_bytes
            && let Some((index, line)) = self.lines.pop_front()
        {
            self.bytes -= line.len() + OVERHEAD_BYTES;
            self.since = index;
        }
    }

    /// Those that came after `index`, the first ones of at most `max_bytes` together, but one at least; `None` if some of
    /// them are gone.
    fn after(&self, index: Index, max_bytes: usize) -> Option<Vec<(Index, Bytes)>> {
        let first = self.lines.partition_point(|(at, _)| *at <= index);
        let mut bytes = 0;
        let fits = |(_, line): &&(Index, Bytes)| {
            let before = bytes;
            bytes += line.len();
            before == 0 || bytes <= max_bytes
        };
        (index >= self.since).then(|| self.lines.range(first..).take_while(fits).cloned().collect())
    }
}

/// What a log told, made ready before it is taken apart.
#[derive(Debug)]
pub(crate) struct News {
    entries: Vec<New>,
    /// Whether commits are among them.
    whole: bool,
}

#[derive(Debug)]
enum New {
    Commit(Index, Bytes),
    Anew(Index),
}

/// What a replica is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// How far the replica is then; if it is to fetch everything, where this kvstore stands.
    pub(crate) at: Position,
    /// Lines; `None` if changes are gone that it lacks.
    pub(crate) commits: Option<Vec<Bytes>>,
}

impl Feed {
    /// Of a state that stands at `index`.
    pub(crate) fn new(index: Index) -> Self {
        let kept = Kept { life: Life::begin(), newest: index, lately: None };
        Self { process: Life::begin(), kept: Mutex::new(kept), published: watch::Sender::new(index) }
    }

    /// What `log` tells. [`Feed::publish`] comes next, once the state shows it.
    pub(crate) fn read(&self, log: &[Entry]) -> News {
        let whole = self.lock().lately.is_some();
        let new = |entry: &Entry| match entry {
            Entry::Commit(commit) => {
                Some(New::Commit(commit.index, if whole { wire::encode(commit) } else { Bytes::new() }))
            }
            Entry::Anew(Loaded { index, .. }) => Some(New::Anew(*index)),
            Entry::Renewed(_) | Entry::Lapsed { .. } => None,
        };
        News { entries: log.iter().filter_map(new).collect(), whole }
    }

    /// Takes `news`, which the state shows by now, and wakes who waits for it.
    pub(crate) fn publish(&self, news: News) {
        let newest = self.lock().take(news);
        self.published.send_replace(newest);
    }

    /// Where the published state stands, from now on.
    pub(crate) fn published(&self) -> watch::Receiver<Index> {
        self.published.subscribe()
    }

    /// The life that indexes are of now.
    pub(crate) fn life(&self) -> Life {
        self.lock().life
    }

    /// What came after `position`, of at most `max_bytes`, but one commit at least. From now on commits are kept.
    pub(crate) fn after(&self, position: Option<Position>, max_bytes: usize) -> Told {
        self.lock().after(position, max_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Whoever panics in between leaves no half of anything behind.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Gives the newest index.
    fn take(&mut self, news: News) -> Index {
        for new in news.entries {
            match new {
                New::Commit(index, line) => {
                    self.newest = index;
                    if let Some(lately) = self.lately.as_mut().filter(|_| news.whole) {
                        lately.commits.push(index, line, MAX_BYTES);
                    }
                }
                New::Anew(index) => {
                    (self.life, self.newest) = (Life::begin(), index);
                    if let Some(lately) = &mut self.lately {
                        lately.commits = Commits::since(index);
                    }
                }
            }
        }
        if let Some(lately) = self.lately.as_mut().filter(|_| !news.whole) {
            // Somebody asked for the first time while this was on its way.
            lately.commits = Commits::since(self.newest);
        }
        self.lately.take_if(|lately| lately.asked.elapsed() > FORGOTTEN);
        self.newest
    }

    fn after(&mut self, position: Option<Position>, max_bytes: usize) -> Told {
        let (newest, now) = (self.newest, Instant::now());
        let lately = self.lately.get_or_insert_with(|| Lately { commits: Commits::since(newest), asked: now });
        lately.asked = now;
        let here = Position { life: self.life, index: newest };
        let known = position.filter(|position| position.life == here.life && position.index <= newest);
        let Some((position, commits)) =
            known.and_then(|position| Some((position, lately.commits.after(position.index, max_bytes)?)))
        else {
            return Told { at: here, commits: None };
        };
        let index = commits.last().map_or(position.index, |(index, _)| *index);
        let lines = commits.into_iter().map(|(_, line)| line).collect();
        Told { at: Position { index, ..here }, commits: Some(lines) }
    }
}

#[cfg(test)]
mod tests {
    use kvstore_core::Changes;

    use super::*;
    use crate::engine::Commit;

    fn commit(index: u64) -> Entry {
        Entry::Commit(Commit { index: Index(index), changes: Changes::default() })
    }

    fn tell(feed: &Feed, log: &[Entry]) {
        let news = feed.read(log);
        feed.publish(news);
    }

    fn anew(index: u64) -> Entry {
        Entry::Anew(Loaded { index: Index(index), rows: Vec::new() })
    }

    /// How many commits come after `index` of the life that is now, and how far one is then; none if some are gone.
    fn after(feed: &Feed, index: u64) -> Option<(usize, u64)> {
        let position = Position { life: feed.life(), index: Index(index) };
        let told = feed.after(Some(position), usize::MAX);
        Some((told.commits?.len(), told.at.index.0))
    }

    #[tokio::test(start_paused = true)]
    async fn who_follows_is_told_each_commit_and_who_was_away_to_fetch_all() {
        let feed = Feed::new(Index(10));
        tell(&feed, &[commit(11)]);
        assert!(feed.lock().lately.is_none(), "nothing is kept that nobody asks for");
        assert_eq!(after(&feed, 10), None);
        assert_eq!(after(&feed, 11), Some((0, 11)));
        tell(&feed, &[commit(12), Entry::Renewed(kvstore_core::row::RowKey::Bootstrap), commit(14)]);
        for (index, told) in [(11, Some((2, 14))), (12, Some((1, 14))), (13, Some((1, 14))), (14, Some((0, 14)))] {
            assert_eq!(after(&feed, index), told, "{index}");
        }
        assert_eq!(after(&feed, 15), None, "ahead of all there is");
        assert!(feed.after(None, 1).commits.is_none());
        let of_another = Position { life: Life(1), index: Index(14) };
        assert!(feed.after(Some(of_another), 1).commits.is_none());

        let before = feed.life();
        tell(&feed, &[anew(12), commit(13)]);
        assert_ne!(feed.life(), before);
        assert_eq!((after(&feed, 11), after(&feed, 12)), (None, Some((1, 13))));
        assert_eq!(*feed.published().borrow(), Index(13));

        tokio::time::advance(FORGOTTEN * 2).await;
        tell(&feed, &[commit(14)]);
        assert!(feed.lock().lately.is_none(), "nobody has asked for long");
    }

    #[test]
    fn what_was_on_its_way_when_the_first_one_asked_is_not_missed() {
        let feed = Feed::new(Index(10));
        let news = feed.read(&[commit(11)]);
        assert_eq!(after(&feed, 10), Some((0, 10)));
        feed.publish(news);
        assert_eq!((after(&feed, 10), after(&feed, 11)), (None, Some((0, 11))));
    }

    #[test]
    fn what_is_kept_and_what_is_told_at_once_are_bounded() {
        let line = |bytes: usize| Bytes::from(vec![b'x'; bytes]);
        let mut commits = Commits::since(Index(0));
        for index in 1..=10 {
            commits.push(Index(index), line(36), 500);
        }
        assert_eq!((commits.lines.len(), commits.since, commits.bytes), (5, Index(5), 500));
        let told = |commits: &Commits, index, most| Some(commits.after(Index(index), most)?.len());
        for (index, most, count) in [
            (4, 1000, None),
            (5, 1000, Some(5)),
            (5, 1, Some(1)),
            (5, 36, Some(1)),
            (5, 71, Some(1)),
            (5, 72, Some(2)),
            (9, 1000, Some(1)),
            (10, 1000, Some(0)),
        ] {
            assert_eq!(told(&commits, index, most), count, "after {index}, {most} bytes");
        }
        commits.push(Index(20), line(501), 500);
        assert_eq!((commits.lines.len(), commits.since, commits.bytes), (0, Index(20), 0), "too large to be kept");
    }
}
