//! Who waits on what: watch key to sleepers.
//!
//! A reader enlists, then reads, then waits; so no change between its read and its wait is missed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::select_all;
use kvstore_core::{Touched, WatchKey};
use tokio::sync::watch;

/// Sleepers by what they wait on.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    table: Mutex<Table>,
    /// How many places are taken.
    taken: AtomicUsize,
}

#[derive(Debug, Default)]
struct Table {
    sleepers: HashMap<WatchKey, watch::Sender<()>>,
    /// How many prefixes of each length (in bytes) are waited on: what to look up when a key is touched.
    prefix_lengths: BTreeMap<usize, usize>,
}

/// A place among the waiters; woken by every touch of its keys since it was taken.
#[derive(Debug)]
pub(crate) struct Enlisted<'a> {
    waiters: &'a Waiters,
    receivers: Vec<(WatchKey, watch::Receiver<()>)>,
}

impl Waiters {
    /// Takes a place for whoever wants to know of changes of any of `keys`.
    pub(crate) fn enlist(&self, keys: &[WatchKey]) -> Enlisted<'_> {
        let mut table = self.lock();
        let receivers = keys.iter().map(|key| (key.clone(), table.subscribe(key))).collect();
        self.taken.fetch_add(1, Ordering::Relaxed);
        Enlisted { waiters: self, receivers }
    }

    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Wakes everybody who waits on something touched.
    pub(crate) fn wake(&self, touched: &Touched) {
        let table = self.lock();
        if table.sleepers.is_empty() {
            return;
        }
        for key in touched {
            table.wake(key);
            if let WatchKey::Key(name) = key {
                let name = name.as_str();
                for length in table.prefix_lengths.range(..=name.len()).map(|(length, _)| *length) {
                    if let Some(prefix) = name.get(..length) {
                        table.wake(&WatchKey::KeyPrefix(prefix.to_owned()));
                    }
                }
            }
        }
    }

    /// Wakes everybody.
    pub(crate) fn wake_all(&self) {
        for sender in self.lock().sleepers.values() {
            sender.send_replace(());
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        // The table is consistent between any two statements that could panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn subscribe(&mut self, key: &WatchKey) -> watch::Receiver<()> {
        if let Some(sender) = self.sleepers.get(key) {
            return sender.subscribe();
        }
        if let WatchKey::KeyPrefix(prefix) = key {
            *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
        }
        let (sender, receiver) = watch::channel(());
        self.sleepers.insert(key.clone(), sender);
        receiver
    }

    fn wake(&self, key: &WatchKey) {
        if let Some(sender) = self.sleepers.get(key) {
            sender.send_replace(());
        }
    }

    fn leave(&mut self, key: &WatchKey) {
        if self.sleepers.get(key).is_none_or(|sender| sender.receiver_count() > 0) {
            return;
        }
        self.sleepers.remove(key);
        if let WatchKey::KeyPrefix(prefix) = key
            && let Some(count) = self.prefix_lengths.get_mut(&prefix.len())
        {
            *count -= 1;
            if *count == 0 {
                self.prefix_lengths.remove(&prefix.len());
            }
        }
    }
}

impl Enlisted<'_> {
    /// Waits until one of the keys is touched; at once if that happened since the last wait or since enlisting.
    pub(crate) async fn touched(&mut self) {
        // The sender lives as long as a receiver does, so this is never the error of a dropped sender.
        match self.receivers.as_mut_slice() {
            // Nothing is waited on, so nothing comes; `select_all` would not take it.
            [] => std::future::pending().await,
            // Nearly everybody waits on one thing only: no allocation for each wait.
            [(_, receiver)] => drop(receiver.changed().await),
            several => {
                drop(select_all(several.iter_mut().map(|(_, receiver)| Box::pin(receiver.changed()))).await);
            }
        }
    }
}

impl Drop for Enlisted<'_> {
    fn drop(&mut self) {
        self.waiters.taken.fetch_sub(1, Ordering::Relaxed);
        let mut table = self.waiters.lock();
        for (key, receiver) in self.receivers.drain(..) {
            drop(receiver);
            table.leave(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use kvstore_core::names::Key;

    fn key(name: &str) -> WatchKey {
        WatchKey::Key(Key::new(name).unwrap())
    }

    fn woken(enlisted: &mut Enlisted<'_>) -> bool {
        enlisted.touched().now_or_never().is_some()
    }

    #[test]
    fn wakes_who_waits_on_what_was_touched_and_nobody_else() {
        let waiters = Waiters::default();
        let mut exact = waiters.enlist(&[key("a/b")]);
        let mut prefix = waiters.enlist(&[WatchKey::KeyPrefix("a/".into())]);
        let mut all = waiters.enlist(&[WatchKey::KeyPrefix(String::new())]);
        let mut other = waiters.enlist(&[key("a/c"), WatchKey::KeyPrefix("a/bc".into()), WatchKey::Services]);
        waiters.wake(&Touched::from([key("a/b")]));
        assert!(woken(&mut exact) && woken(&mut prefix) && woken(&mut all));
        assert!(!woken(&mut other) && !woken(&mut exact), "once, and only the touched");
        waiters.wake(&Touched::from([WatchKey::Services]));
        assert!(woken(&mut other) && !woken(&mut all));
        waiters.wake_all();
        assert!(woken(&mut exact) && woken(&mut prefix) && woken(&mut all) && woken(&mut other));
    }

    #[test]
    fn leaves_nothing_behind() {
        let waiters = Waiters::default();
        let first = waiters.enlist(&[WatchKey::KeyPrefix("a".into())]);
        let second = waiters.enlist(&[WatchKey::KeyPrefix("a".into()), WatchKey::Nodes]);
        drop(first);
        assert_eq!((waiters.lock().sleepers.len(), waiters.count()), (2, 1));
        drop(second);
        assert!(waiters.lock().sleepers.is_empty() && waiters.count() == 0 && waiters.lock().prefix_lengths.is_empty());
    }

    #[test]
    fn a_prefix_that_ends_inside_a_character_is_not_looked_up() {
        let waiters = Waiters::default();
        let mut waiting = waiters.enlist(&[WatchKey::KeyPrefix("x".into())]);
        waiters.wake(&Touched::from([key("\u{e4}x")]));
        assert!(!woken(&mut waiting));
    }
}
