//! The writer's thread: what is queued is decided, committed, applied, published, told to who waits, and answered.

use std::{
    collections::HashSet,
    sync::{Arc, mpsc::Receiver},
};

use kvstore_client::with_causes;
use kvstore_core::{Decision, Index, Outcome, Refusal, State};
use tokio::time::Instant;

use super::{
    Job, Shared, WriteError,
    batch::{Decided, Draft},
    pending::{Pending, Progress},
};
use crate::engine::{Engine, Entry, Loaded, Proposal, Rejected};

/// Commands made durable together.
const MAX_BATCH: usize = 256;

/// A command decided over and over because others change what it relies on is given up after this many times.
pub(super) const MAX_ATTEMPTS: usize = 8;

pub(super) struct Worker {
    engine: Box<dyn Engine>,
    shared: Arc<Shared>,
    /// Whether others could not be reached, and renewals were refused therefore.
    was_away: bool,
    /// The last batch could not be written. That is told once; that it can be again, by the engine.
    refuses: bool,
}

impl Worker {
    pub(super) fn new(engine: Box<dyn Engine>, shared: Arc<Shared>) -> Self {
        Self { engine, shared, was_away: false, refuses: false }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            let (mut batch, mut behind) = (Vec::new(), Vec::new());
            let mut stop = false;
            for job in std::iter::once(job).chain(jobs.try_iter()) {
                match job {
                    Job::Command { command, reply } => batch.push(Pending::new(command, reply)),
                    Job::CatchUp(reply) => behind.push(reply),
                    Job::News => {}
                    Job::Stop => stop = true,
                }
                if stop || batch.len() == MAX_BATCH {
                    break;
                }
            }
            if !behind.is_empty() {
                let caught_up = self.engine.catch_up().map_err(|error| with_causes(&error));
                self.publish_news();
                for reply in behind {
                    let _ = reply.send(caught_up.clone().map_err(WriteError::Unavailable));
                }
            } else if batch.is_empty() {
                self.publish_news();
            }
            while !batch.is_empty() {
                batch = self.carry_out(batch);
            }
            if stop {
                return;
            }
        }
    }

    /// Decides, commits, applies, publishes, wakes and answers; gives back what must be decided anew.
    fn carry_out(&mut self, batch: Vec<Pending>) -> Vec<Pending> {
        self.come_back();
        let (mut decided, mut proposals, mut draft) = self.decide_all(batch);
        if decided.iter().any(Decided::only_reads) {
            let caught_up = self.engine.catch_up();
            if self.publish_news() {
                let batch = decided.into_iter().map(|decided| decided.pending).collect();
                (decided, proposals, draft) = self.decide_all(batch);
            }
            if let Err(error) = caught_up {
                let message = with_causes(&error);
                for decided in decided.iter_mut().filter(|decided| decided.only_reads()) {
                    decided.result = Err(WriteError::Unavailable(message.clone()));
                }
            }
        }
        let (started, proposed) = (std::time::Instant::now(), proposals.len());
        let results = if proposals.is_empty() { Ok(Vec::new()) } else { self.engine.commit(proposals) };
        let took = started.elapsed();
        self.publish(draft, results.as_deref().unwrap_or_default());
        let renewed = self.renew(&mut decided);
        match results {
            Ok(results) => {
                self.refuses &= proposed == 0;
                self.shared.metrics.committed(decided.len(), proposed, took);
                self.answer(decided, results, renewed)
            }
            Err(error) => {
                self.was_away = self.shared.has_peers;
                let message = with_causes(&error);
                if !std::mem::replace(&mut self.refuses, true) {
                    tracing::error!(error = message, "writes are refused until the store can be written again");
                }
                for Decided { pending, .. } in decided {
                    self.shared.metrics.failed.inc();
                    pending.answer(Err(WriteError::Unavailable(message.clone())));
                }
                Vec::new()
            }
        }
    }

    /// Renews what is only to be renewed; one result each.
    fn renew(&mut self, decided: &mut [Decided]) -> Vec<Result<(), Rejected>> {
        let renewals: Vec<_> =
            decided.iter_mut().filter_map(|decided| decided.renews.as_mut().map(std::mem::take)).collect();
        if renewals.is_empty() {
            return Vec::new();
        }
        let count = renewals.len();
        let renewed = self.engine.renew(renewals);
        self.publish_news();
        renewed.unwrap_or_else(|error| vec![Err(Rejected::Lost(with_causes(&error))); count])
    }

    /// After a time in which nobody could renew anything, every deadline begins anew.
    fn come_back(&mut self) {
        if self.was_away && self.engine.catch_up().is_ok() {
            self.publish_news();
            self.shared.deadlines.load(&self.shared.current.load(), Instant::now());
            self.was_away = false;
        }
    }

    /// Decides each command on the state that those before it leave.
    fn decide_all(&self, batch: Vec<Pending>) -> (Vec<Decided>, Vec<Proposal>, Draft) {
        let mut draft = Draft::of(&self.shared.current.load());
        let mut proposals = Vec::with_capacity(batch.len());
        let mut decided = Vec::with_capacity(batch.len());
        let deadlines = &self.shared.deadlines;
        let (now, mut freed_here) = (Instant::now(), HashSet::new());
        for mut pending in batch {
            if deadlines.is_early(&pending.command, now) {
                pending.answer(Ok((Outcome::Done, draft.state.index())));
                continue;
            }
            pending.command.delay_locks(|key| freed_here.contains(key) || deadlines.is_lock_delayed(key, now));
            let (mut proposed, mut renews) = (None, None);
            let (result, freed, ending) = match pending.decide(&draft.state) {
                Ok(Decision { changes, outcome, freed, ending }) => {
                    if !changes.is_empty() {
                        proposed = Some(draft.apply(&changes));
                        proposals.push(Proposal { changes, lazy: pending.command.is_lazy() });
                    } else if self.shared.has_peers && !changes.renews.is_empty() {
                        renews = Some(changes);
                    }
                    (Ok(outcome), freed, ending)
                }
                Err(refusal) => (Err(refusal.into()), Vec::new(), Vec::new()),
            };
            freed_here.extend(freed.iter().map(|(key, _)| key.clone()));
            decided.push(Decided { pending, result, freed, proposed, ending, renews });
        }
        (decided, proposals, draft)
    }

    /// Shows what others have changed; whether there was anything.
    fn publish_news(&mut self) -> bool {
        let draft = Draft::of(&self.shared.current.load());
        self.publish(draft, &[])
    }

    /// Applies what the engine has ordered to the current state, shows the result and wakes who waits for it. What came
    /// just as it was drafted was applied then, and the same changes at the same indexes give the same state.
    fn publish(&mut self, draft: Draft, results: &[Result<Index, Rejected>]) -> bool {
        let log = self.engine.log();
        if log.is_empty() {
            return false;
        }
        let (deadlines, now) = (&self.shared.deadlines, Instant::now());
        let news = self.shared.feed.read(&log);
        if draft.is_what_came(results, &log) {
            // What was carried out sets its deadlines itself.
            let others = log.iter().filter(|entry| !matches!(entry, Entry::Commit(_)));
            others.for_each(|entry| deadlines.follow(entry, &draft.state, now));
            self.shared.current.store(Arc::new(draft.state));
            self.shared.feed.publish(news);
            self.shared.waiters.wake(&draft.touched);
            return true;
        }
        let mut came = Draft::of(&self.shared.current.load());
        let mut anew = false;
        for entry in log {
            match entry {
                Entry::Anew(Loaded { index, rows }) => {
                    came.state = came.state.load_anew(index, rows);
                    deadlines.load_anew(&came.state, now);
                    anew = true;
                }
                entry => {
                    if let Entry::Commit(commit) = &entry {
                        deadlines.delay_locks(&came.state.freed_by(&commit.changes), now);
                        came.touched.extend(came.state.apply(commit.index, &commit.changes));
                    }
                    deadlines.follow(&entry, &came.state, now);
                }
            }
        }
        self.shared.current.store(Arc::new(came.state));
        self.shared.feed.publish(news);
        if anew {
            self.shared.waiters.wake_all();
        } else {
            self.shared.waiters.wake(&came.touched);
        }
        true
    }

    /// Gives back a command that was not committed if it is to be decided anew, and answers it if not.
    fn rejected(&mut self, mut pending: Pending, why: Rejected, state: &State, now: Instant) -> Option<Pending> {
        pending.attempts += 1;
        match why {
            Rejected::Conflict if pending.attempts <= MAX_ATTEMPTS => return Some(pending),
            Rejected::Conflict => {
                self.shared.deadlines.postpone(&pending.command, state, now);
                pending.answer(Err(Refusal::Conflict.into()));
            }
            Rejected::TooLarge(_) if !pending.in_steps => {
                pending.in_steps = true;
                return Some(pending);
            }
            Rejected::TooLarge(why) => pending.answer(Err(WriteError::TooLarge(why))),
            Rejected::Lost(why) => {
                self.was_away = true;
                pending.answer(Err(WriteError::Unavailable(why)));
            }
        }
        None
    }

    /// What comes after the first proposal that was not committed just as it was decided is decided anew, unless it was
    /// committed nevertheless: it may have been decided on what has not happened.
    fn answer(
        &mut self,
        decided: Vec<Decided>,
        results: Vec<Result<Index, Rejected>>,
        renewed: Vec<Result<(), Rejected>>,
    ) -> Vec<Pending> {
        let state = self.shared.current.load();
        let now = Instant::now();
        let (mut again, mut otherwise) = (Vec::new(), false);
        let (mut results, mut renewed) = (results.into_iter(), renewed.into_iter());
        for Decided { pending, result, freed, proposed, ending, renews } in decided {
            let committed = match renews {
                Some(_) => renewed.next().and_then(Result::err).map(Err),
                None => proposed.map(|_| results.next().unwrap_or(Err(Rejected::Conflict))),
            };
            match (result, committed) {
                (_, None | Some(Err(Rejected::Conflict))) if otherwise => again.push(pending),
                (_, Some(Err(rejected))) => {
                    otherwise = true;
                    again.extend(self.rejected(pending, rejected, &state, now));
                }
                (Err(error), _) => {
                    self.shared.metrics.refused();
                    pending.answer(Err(error));
                }
                (Ok(mut outcome), committed) => {
                    let index = committed.and_then(Result::ok);
                    if let (Some(decided), Some(index)) = (proposed, index)
                        && decided != index
                    {
                        otherwise = true;
                        outcome.move_index(decided, index);
                    }
                    self.shared.deadlines.after(&pending.command, &outcome, &state, now);
                    self.shared.deadlines.delay_locks(&freed, now);
                    self.shared.deadlines.end_soon(&ending, now);
                    match pending.after_step(outcome, ending) {
                        Progress::Next(pending) => again.push(pending),
                        Progress::Done(pending, outcome) => {
                            pending.answer(Ok((outcome, index.unwrap_or(state.index()))));
                        }
                    }
                }
            }
        }
        again
    }
}
