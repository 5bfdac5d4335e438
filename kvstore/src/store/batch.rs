//! A batch of commands as it was decided, each on what those before it leave, and what of that has come about.

use std::time::Duration;

use kvstore_core::{
    Changes, Index, Outcome, State, Touched,
    names::{Key, SessionId},
};

use super::{WriteError, pending::Pending};
use crate::engine::{Entry, Rejected};

/// The state with a whole batch, as decided; it is shown if the engine orders the batch just so.
pub(super) struct Draft {
    pub(super) state: State,
    pub(super) touched: Touched,
    /// Of its changes, in order.
    indexes: Vec<Index>,
}

impl Draft {
    pub(super) fn of(state: &State) -> Self {
        Self { state: state.clone(), touched: Touched::default(), indexes: Vec::new() }
    }

    pub(super) fn apply(&mut self, changes: &Changes) -> Index {
        let index = changes.index_after(self.state.index());
        self.touched.extend(self.state.apply(index, changes));
        self.indexes.push(index);
        index
    }

    /// Whether every proposal got the index that it was decided with, and nothing of others came in between.
    pub(super) fn is_what_came(&self, results: &[Result<Index, Rejected>], log: &[Entry]) -> bool {
        let came = log.iter().filter_map(|entry| match entry {
            Entry::Commit(commit) => Some(Some(commit.index)),
            Entry::Renewed(_) | Entry::Lapsed { .. } => None,
            Entry::Anew(_) => Some(None),
        });
        let ours = results.iter().map(|result| result.as_ref().ok().copied());
        came.eq(self.indexes.iter().copied().map(Some)) && ours.eq(self.indexes.iter().copied().map(Some))
    }
}

/// A command of the batch, decided.
pub(super) struct Decided {
    pub(super) pending: Pending,
    pub(super) result: Result<Outcome, WriteError>,
    /// Keys whose locks it tears from sessions, and for how long nobody may have them.
    pub(super) freed: Vec<(Key, Duration)>,
    /// The index of its proposal, as decided; none if it has nothing to propose.
    pub(super) proposed: Option<Index>,
    /// Sessions that have not given all back once it is made.
    pub(super) ending: Vec<SessionId>,
    /// What is to be renewed where it changes nothing else.
    pub(super) renews: Option<Changes>,
}

impl Decided {
    /// Whether it was decided that nothing is to be done, which holds on the newest state only. What is lazy is about
    /// this host's own checks, and nobody else writes those.
    pub(super) fn only_reads(&self) -> bool {
        self.proposed.is_none() && !self.pending.command.is_lazy()
    }
}
