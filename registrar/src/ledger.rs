//! What the registry holds as far as we know, what is under way, and which call comes next. Pure.
//!
//! One call at a time about one id, many ids at once. Truth comes in two ways: what a call of ours changed, and views
//! of the whole, which may be older than such a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kvstore_client::{Backoff, Error};

use crate::{
    checks::MESSENGER_TTL,
    plan::{self, Action, Actual, Circumstances, META_CONTAINER, Mark, Registered, Step, step},
    world::World,
};

/// Calls at the same time; enough to fill the registry's batches.
const MAX_CALLS: usize = 16;
/// The word about a HEALTHCHECK is repeated three times before the registry forgets it.
const RENEW_AFTER: Duration = Duration::from_secs(MESSENGER_TTL.as_secs() / 3);
/// A former run may have said it last long ago; renewals of the first round are spread over this time.
const FIRST_RENEWALS: Duration = Duration::from_mins(10);
/// Between attempts to make a registry take what it refused.
const REFUSED: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// A call to make.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// About this id.
    pub id: String,
    /// What to do.
    pub action: Action,
    /// Why, for the log.
    pub cause: &'static str,
}

/// What became of a call.
#[derive(Debug)]
pub enum Outcome {
    /// It is done.
    Done,
    /// The registry cannot be reached; nothing more is called until the next view.
    Lost(Error),
    /// The registry takes no writes just now; it is asked again and again. Only the first time carries the error.
    Unwilling(Option<Error>),
    /// The registry does not want this one; it is asked again, but rarely. Only the first time carries the error.
    Refused(Option<Error>),
    /// Our idea of the registry was wrong: a new view is needed.
    Surprise,
}

impl Outcome {
    /// For those who count.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Lost(_) => "lost",
            Self::Unwilling(_) | Self::Refused(_) => "refused",
            Self::Surprise => "surprise",
        }
    }
}

/// Our side of the registry.
#[derive(Debug, Default)]
pub struct Ledger {
    registered: Registered,
    /// A view has come, and no call has failed to arrive since.
    online: bool,
    lost_at: Option<Instant>,
    /// Ids to look at, with the cause.
    dirty: BTreeMap<String, &'static str>,
    busy: BTreeSet<String>,
    /// When a call about an id ended: an older view does not know of it.
    called: BTreeMap<String, Instant>,
    refused: BTreeMap<String, Refused>,
    /// Ids of others that we would need, with the reason.
    taken: BTreeMap<String, String>,
    renew_at: BTreeMap<String, Instant>,
    /// Renewals that are due.
    renew: BTreeSet<String>,
    /// The last write failed for the registry's own reasons.
    unwilling: bool,
}

#[derive(Debug)]
struct Refused {
    until: Instant,
    backoff: Backoff,
}

impl Ledger {
    /// Something has changed about `ids`; a former refusal may not hold any more.
    pub fn touch(&mut self, ids: impl IntoIterator<Item = String>, cause: &'static str) {
        for id in ids {
            self.refused.remove(&id);
            self.dirty.insert(id, cause);
        }
    }

    /// The container with this short id is not what it was: look at all that was registered for it.
    pub fn touch_container(&mut self, short_id: &str, cause: &'static str) {
        let of = |actual: &Actual| actual.meta.get(META_CONTAINER).is_some_and(|id| id == short_id);
        let ids: Vec<_> = self.registered.iter().filter(|(_, a)| of(a)).map(|(id, _)| id.clone()).collect();
        self.touch(ids, cause);
    }

    /// All that the registry held when it was asked at `asked`.
    pub fn view(&mut self, mut seen: Registered, asked: Instant, world: &World, cause: &'static str) {
        if self.lost_at.is_some_and(|lost| lost >= asked) {
            return;
        }
        let newer = |id: &String| self.busy.contains(id) || self.called.get(id).is_some_and(|at| *at >= asked);
        seen.retain(|id, _| !newer(id));
        let kept = std::mem::take(&mut self.registered).into_iter().filter(|(id, _)| newer(id));
        seen.extend(kept);
        self.registered = seen;
        self.called.retain(|_, at| *at >= asked);
        self.online = true;
        self.touch_all(world, cause);
        self.renew_at.retain(|id, _| self.registered.contains_key(id));
    }

    /// What the registry holds.
    pub fn registered(&self) -> &Registered {
        &self.registered
    }

    /// Looks at everything again.
    pub fn touch_all(&mut self, world: &World, cause: &'static str) {
        for id in self.registered.keys().chain(world.wanted_ids()) {
            self.dirty.entry(id.clone()).or_insert(cause);
        }
    }

    /// The next call, if one is due. It counts as under way until [`Ledger::done`].
    pub fn next(&mut self, world: &World, now: Instant) -> Option<Call> {
        if !self.online || self.busy.len() >= MAX_CALLS {
            return None;
        }
        let mark = &world.policy()?.mark;
        let due = self.dirty.iter().filter(|(id, _)| self.is_due(id, now));
        for (id, cause) in due.map(|(id, cause)| (id.clone(), *cause)).collect::<Vec<_>>() {
            self.dirty.remove(&id);
            match self.step(&id, world, mark, now) {
                Step::Settled => {
                    self.refused.remove(&id);
                    self.taken.remove(&id);
                    self.renew.remove(&id);
                }
                Step::Taken(why) => drop(self.taken.insert(id, why)),
                Step::Do(action) => {
                    self.taken.remove(&id);
                    self.busy.insert(id.clone());
                    return Some(Call { id, action, cause });
                }
            }
        }
        None
    }

    fn is_due(&self, id: &str, now: Instant) -> bool {
        !self.busy.contains(id) && self.refused.get(id).is_none_or(|refused| refused.until <= now)
    }

    fn step(&mut self, id: &str, world: &World, mark: &Mark, now: Instant) -> Step {
        let desired = world.desired(id).map(|(desired, _)| desired);
        let actual = self.registered.get(id);
        let container = actual.and_then(|actual| actual.meta.get(META_CONTAINER));
        if desired.is_none() && container.is_some_and(|id| world.is_unreadable(id)) {
            return Step::Settled;
        }
        if desired.as_ref().is_some_and(|desired| desired.health.is_some()) {
            self.renew_at.entry(id.to_owned()).or_insert_with(|| now + spread(id));
        }
        let kept = container.is_some_and(|id| world.is_kept(id));
        let circumstances = Circumstances { mark, all_seen: world.all_seen(), kept, renew: self.renew.contains(id) };
        step(id, desired.as_ref(), actual, circumstances)
    }

    /// Ids that others hold although we would need them, with the reason.
    pub fn taken(&self) -> &BTreeMap<String, String> {
        &self.taken
    }

    /// `call` has ended.
    pub fn done(&mut self, call: &Call, result: Result<(), Error>, now: Instant) -> Outcome {
        let Call { id, action, cause } = call;
        self.busy.remove(id);
        self.called.insert(id.clone(), now);
        self.dirty.entry(id.clone()).or_insert(cause);
        let gone = result.as_ref().is_err_and(|error| error.status() == Some(404));
        match result {
            Err(error) if !(gone && matches!(action, Action::Deregister | Action::DropCheck(_))) => {
                self.failed(id, error, gone, now)
            }
            _ => {
                plan::apply(id, action, &mut self.registered);
                self.refused.remove(id);
                self.unwilling = false;
                if matches!(action, Action::Register(_) | Action::Report(_)) {
                    self.renew.remove(id);
                    self.renew_at.insert(id.clone(), now + RENEW_AFTER);
                }
                Outcome::Done
            }
        }
    }

    fn failed(&mut self, id: &str, error: Error, gone: bool, now: Instant) -> Outcome {
        if error.status().is_none() {
            self.online = false;
            self.lost_at = Some(now);
            return Outcome::Lost(error);
        }
        let old = self.refused.remove(id);
        let known = old.is_some();
        let first = if error.is_transient() { Backoff::new() } else { Backoff::between(REFUSED.0, REFUSED.1) };
        let mut backoff = old.map_or(first, |old| old.backoff);
        let until = now + backoff.delay();
        self.refused.insert(id.to_owned(), Refused { until, backoff });
        if gone {
            Outcome::Surprise
        } else if error.is_transient() {
            let known = std::mem::replace(&mut self.unwilling, true);
            Outcome::Unwilling((!known).then_some(error))
        } else {
            Outcome::Refused((!known).then_some(error))
        }
    }

    /// When [`Ledger::next`] may have something although nothing happened.
    pub fn next_deadline(&self) -> Option<Instant> {
        // The end of a call wakes us anyway.
        if !self.online || self.busy.len() >= MAX_CALLS {
            return None;
        }
        let waits = |id: &&String| self.dirty.contains_key(*id) && !self.busy.contains(*id);
        let refused = self.refused.iter().filter(|(id, _)| waits(id)).map(|(_, refused)| refused.until);
        refused.chain(self.renew_at.values().copied()).min()
    }

    /// Marks what is to be renewed by now.
    pub fn renew(&mut self, now: Instant) {
        let due: Vec<_> = self.renew_at.iter().filter(|(_, at)| **at <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.renew_at.remove(&id);
            self.dirty.entry(id.clone()).or_insert("renewal");
            self.renew.insert(id);
        }
    }
}

/// A moment within the first round of renewals, always the same for one id.
fn spread(id: &str) -> Duration {
    let hash = id.bytes().fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
    FIRST_RENEWALS * (hash % 1000) / 1000
}

#[cfg(test)]
mod tests;
