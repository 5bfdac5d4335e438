//! Whether a history of operations by several clients is one that a single copy could have had: each operation at one
//! moment between its call and its return (Herlihy and Wing, 1990). Pure.
//!
//! The moments are found as in Lowe's "Testing for linearizability" (2017), just in time: the history is gone through in
//! the order of its calls and returns, with all states that are possible by then. Nothing has to have happened before it
//! returns, so only at a return it is tried in which orders the operations under way may have led up to it. An operation
//! of unknown outcome is under way for ever: it may have happened at any time since its call, or not at all. What can be
//! done from a state in which it has happened can be done from the same one in which it has not, since it never must; so of
//! such two only the latter is kept, and of equal ones the first is taken; so unknown outcomes do not multiply.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
};

/// What an object does.
pub trait Object {
    /// What it holds.
    type State: Clone + Eq + Hash + fmt::Debug;
    /// What is asked of it, with what it answered.
    type Operation: PartialEq + fmt::Debug;

    /// What it holds after `operation`; `None` if that cannot be answered so in this state. One of unknown outcome that
    /// would change nothing need not happen and is `None`, too.
    fn step(state: &Self::State, operation: &Self::Operation) -> Option<Self::State>;

    /// Whether what `operation` leaves and whether it can be depend in no way on what was there: a write without a look.
    fn is_blind(_operation: &Self::Operation) -> bool {
        false
    }
}

/// One operation of a history.
#[derive(Clone, Debug)]
pub struct Timed<O> {
    /// Which.
    pub operation: O,
    /// When it was asked for, on a clock that all clients share.
    pub called: u64,
    /// When it was answered; `None` if it was not, and may have happened or not.
    pub returned: Option<u64>,
}

/// Why a history is none of a single copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refuted {
    /// The operation that cannot have been answered as it was; an index into the history.
    pub at: usize,
    /// What the object may have held before.
    pub states: Vec<String>,
    /// What was under way.
    pub pending: Vec<usize>,
}

/// A state that is possible, with what of the operations under way has led to it.
struct Possible<S> {
    state: S,
    /// Those that return later; sorted.
    known: Vec<usize>,
    /// Those of unknown outcome; sorted.
    unknown: Vec<usize>,
}

/// For each state and what of the known has happened, the smallest sets of the unknown that can have.
struct Frontier<S>(HashMap<(S, Vec<usize>), Vec<Vec<usize>>>);

impl<S: Clone + Eq + Hash> Frontier<S> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Whether it is news.
    fn insert(&mut self, Possible { state, known, unknown }: Possible<S>) -> bool {
        let sets = self.0.entry((state, known)).or_default();
        if sets.iter().any(|smaller| is_subset(smaller, &unknown)) {
            return false;
        }
        sets.retain(|larger| !is_subset(&unknown, larger));
        sets.push(unknown);
        true
    }

    fn into_iter(self) -> impl Iterator<Item = Possible<S>> {
        self.0.into_iter().flat_map(|((state, known), sets)| {
            sets.into_iter().map(move |unknown| Possible { state: state.clone(), known: known.clone(), unknown })
        })
    }
}

/// Of sorted ones.
fn is_subset(smaller: &[usize], larger: &[usize]) -> bool {
    smaller.iter().all(|one| larger.binary_search(one).is_ok())
}

fn with(set: &[usize], one: usize) -> Vec<usize> {
    let mut set = set.to_vec();
    let place = set.binary_search(&one).unwrap_or_else(|place| place);
    set.insert(place, one);
    set
}

/// Judges a history that begins with `initial`.
///
/// # Errors
/// [`Refuted`] with the first operation that no order explains.
pub fn check<O: Object>(initial: O::State, history: &[Timed<O::Operation>]) -> Result<(), Refuted> {
    let mut possible = vec![Possible { state: initial, known: Vec::new(), unknown: Vec::new() }];
    let mut pending: Vec<usize> = Vec::new();
    for (_, is_return, at) in events(history) {
        if !is_return {
            pending.push(at);
            continue;
        }
        let after = returns::<O>(history, &pending, possible.iter(), at);
        if after.is_empty() {
            let states = possible.iter().map(|possible| format!("{:?}", possible.state)).collect();
            return Err(Refuted { at, states, pending });
        }
        possible = after;
        pending.retain(|other| *other != at);
        settle(history, &mut possible, &mut pending);
    }
    Ok(())
}

/// When what is called and returns, in order; at one moment calls come before returns.
fn events<O>(history: &[Timed<O>]) -> Vec<(u64, bool, usize)> {
    let calls = history.iter().enumerate().map(|(at, timed)| (timed.called, false, at));
    let returns = history.iter().enumerate().filter_map(|(at, timed)| Some((timed.returned?, true, at)));
    let mut events: Vec<_> = calls.chain(returns).collect();
    events.sort_unstable();
    events
}

/// What is possible once `at` has returned.
fn returns<'a, O: Object>(
    history: &[Timed<O::Operation>],
    pending: &[usize],
    before: impl Iterator<Item = &'a Possible<O::State>>,
    at: usize,
) -> Vec<Possible<O::State>>
where
    O::State: 'a,
{
    let (mut seen, mut after) = (Frontier::new(), Frontier::new());
    let copy = |possible: &Possible<O::State>| Possible {
        state: possible.state.clone(),
        known: possible.known.clone(),
        unknown: possible.unknown.clone(),
    };
    // The shortest ways first, which rule out all that lead further about to the same.
    let mut open: VecDeque<_> = before.map(|possible| (copy(possible), false)).collect();
    while let Some((Possible { state, known, unknown }, last_is_unknown)) = open.pop_front() {
        if let Ok(place) = known.binary_search(&at) {
            let mut known = known;
            known.remove(place);
            after.insert(Possible { state, known, unknown });
            continue;
        }
        let has_happened = |one: &usize| known.binary_search(one).is_ok() || unknown.binary_search(one).is_ok();
        for (place, &next) in pending.iter().enumerate().filter(|(_, next)| !has_happened(next)) {
            // What need not have happened has not, where nobody would have noticed.
            if last_is_unknown && O::is_blind(&history[next].operation) {
                continue;
            }
            let Some(state) = O::step(&state, &history[next].operation) else { continue };
            if pending[..place].iter().any(|before| is_alike(history, *before, next) && !has_happened(before)) {
                continue;
            }
            let (known, unknown) = match history[next].returned {
                Some(_) => (with(&known, next), unknown.clone()),
                None => (known.clone(), with(&unknown, next)),
            };
            let found = Possible { state, known, unknown };
            if seen.insert(copy(&found)) {
                open.push_back((found, history[next].returned.is_none()));
            }
        }
    }
    after.into_iter().collect()
}

/// Whether the two are one thing asked twice, of which nobody knows what came.
fn is_alike<O: PartialEq>(history: &[Timed<O>], one: usize, other: usize) -> bool {
    let (one, other) = (&history[one], &history[other]);
    one.returned.is_none() && other.returned.is_none() && one.operation == other.operation
}

/// What has happened in every possible case is under way no more.
fn settle<S, O>(history: &[Timed<O>], possible: &mut [Possible<S>], pending: &mut Vec<usize>) {
    let Some((first, others)) = possible.split_first() else { return };
    let everywhere = |at: &usize| others.iter().all(|possible| possible.unknown.binary_search(at).is_ok());
    let settled: Vec<_> = first.unknown.iter().copied().filter(everywhere).collect();
    debug_assert!(settled.iter().all(|&at| history[at].returned.is_none()), "the others leave when they return");
    pending.retain(|at| settled.binary_search(at).is_err());
    for possible in possible {
        possible.unknown.retain(|at| settled.binary_search(at).is_err());
    }
}

#[cfg(test)]
mod tests;
