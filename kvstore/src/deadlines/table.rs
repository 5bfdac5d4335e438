//! Which deadline is when, found by what has it and by time, and whose deadlines the engine keeps. Pure.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::timed::Timed;

/// Times of what is counted here.
#[derive(Debug, Default)]
pub(super) struct Table {
    when: HashMap<Timed, Instant>,
    order: BTreeSet<(Instant, Timed)>,
    /// Whose deadlines the engine keeps: they are not here.
    kept: HashSet<Timed>,
}

impl Table {
    /// Of no effect where the engine keeps it. Whether it is earlier now than all else.
    pub(super) fn set(&mut self, timed: Timed, at: Instant) -> bool {
        if self.kept.contains(&timed) {
            return false;
        }
        let is_first = self.first().is_none_or(|first| at < first);
        if let Some(old) = self.when.insert(timed.clone(), at) {
            self.order.remove(&(old, timed.clone()));
        }
        self.order.insert((at, timed));
        is_first
    }

    pub(super) fn remove(&mut self, timed: &Timed) {
        if let Some(old) = self.when.remove(timed) {
            self.order.remove(&(old, timed.clone()));
        }
    }

    /// Forgets all times, but not what the engine keeps.
    pub(super) fn clear(&mut self) {
        self.when.clear();
        self.order.clear();
    }

    pub(super) fn extend_all(&mut self, by: Duration) {
        self.order = std::mem::take(&mut self.order).into_iter().map(|(at, timed)| (at + by, timed)).collect();
        self.when = self.order.iter().map(|(at, timed)| (timed.clone(), *at)).collect();
    }

    /// When it is over; `None` if it is not counted here.
    pub(super) fn when(&self, timed: &Timed) -> Option<Instant> {
        self.when.get(timed).copied()
    }

    /// When the first of all is over.
    pub(super) fn first(&self) -> Option<Instant> {
        self.order.first().map(|(at, _)| *at)
    }

    /// What is over, in order.
    pub(super) fn due(&self, now: Instant) -> Vec<Timed> {
        self.order.iter().take_while(|(at, _)| *at <= now).map(|(_, timed)| timed.clone()).collect()
    }

    /// The engine keeps it from now on.
    pub(super) fn keep(&mut self, timed: Timed) {
        self.remove(&timed);
        self.kept.insert(timed);
    }

    /// The engine keeps it no longer.
    pub(super) fn let_go(&mut self, timed: &Timed) {
        self.kept.remove(timed);
    }

    /// The engine keeps nothing until it says so again.
    pub(super) fn let_go_all(&mut self) {
        self.kept.clear();
    }

    /// Whether the engine keeps any.
    pub(super) fn keeps_any(&self) -> bool {
        !self.kept.is_empty()
    }
}
