//! When TTL checks, sessions, keys with a TTL and lock delays end. Deadlines are no rows: a renewal writes nothing and
//! wakes nobody.
//!
//! The writer sets and renews deadlines as it carries out commands, so their order is that of the changes; a timer
//! proposes what is due, and the writer drops a proposal whose deadline has moved meanwhile.
//!
//! Where others write too, the engine keeps the deadlines of rows and tells when one has passed. What is counted here then
//! is what it does not keep: rows that nobody has renewed since they came by a restore or by hand.

mod hold;
mod table;
mod timed;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use kvstore_core::{
    Command, Outcome, RowVerb, State, TxnStep,
    credentials::Token,
    names::{Key, SessionId},
    row::{Check, KvEntry, RowKey, Session},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{acl, engine::Entry};
use table::Table;
use timed::{Timed, put_rows};

/// The timer looks up at least this often, so that a standstill of the whole process is noticed.
const TICK: Duration = Duration::from_millis(500);

/// A standstill longer than this was not the clients' fault: every deadline moves by it.
const STALL: Duration = Duration::from_secs(1);

/// A session that is ending and does not get further for so long is ended further by whoever sees it.
const ENDING: Duration = Duration::from_secs(2);

/// All kvstores hear at once that a row has lapsed; each waits for a part of this before it proposes the end, and mostly
/// one is enough.
const SCATTER: Duration = Duration::from_millis(200);

/// All deadlines.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    table: Mutex<Table>,
    /// Told when something is due earlier than all else.
    earlier: Notify,
    /// Whether too many hosts are silent at once.
    is_cut_off: AtomicBool,
    /// Whether others, who have clocks of their own, end the same rows.
    are_shared: bool,
}

impl Deadlines {
    /// Of rows that others end, too, if `are_shared`.
    pub(crate) fn new(are_shared: bool) -> Self {
        Self { are_shared, ..Self::default() }
    }

    /// Everything in a freshly loaded state gets its full time: nobody could renew it while we were away.
    pub(crate) fn load(&self, state: &State, now: Instant) {
        for check in state.checks() {
            self.start_check(check, now);
        }
        for session in state.sessions() {
            self.start_session(session, now);
        }
        for entry in state.keys("") {
            self.start_key(entry, now);
        }
        for token in state.credentials().tokens() {
            self.start_token(token, now);
        }
    }

    fn start_check(&self, check: &Check, now: Instant) {
        if let Some(ttl) = check.ttl() {
            self.set(Timed::Check(check.node.clone(), check.id.clone()), now + ttl);
        }
    }

    fn start_session(&self, session: &Session, now: Instant) {
        if session.ending {
            self.end_soon(std::slice::from_ref(&session.id), now);
        } else if let Some(lifetime) = session.lifetime() {
            self.set(Timed::Session(session.id.clone()), now + lifetime);
        }
    }

    fn start_key(&self, entry: &KvEntry, now: Instant) {
        if let Some(lifetime) = entry.lifetime() {
            self.set(Timed::Key(entry.key.clone()), now + lifetime);
        }
    }

    /// A token ends by the clock on the wall, whether we run or not. Ours may be wrong: nobody takes it after that, but others
    /// may take it still. So what is shared stays for its whole time, whatever a clock says.
    fn start_token(&self, token: &Token, now: Instant) {
        if let Some(lifetime) = token.lifetime() {
            let left = if self.are_shared { lifetime } else { token.ends.saturating_sub(acl::now()) };
            self.set(Timed::Token(token.accessor.clone()), now + left);
        }
    }

    /// Begins the time of a row, as `state` has it.
    fn start(&self, timed: &Timed, state: &State, now: Instant) {
        match timed {
            Timed::Check(node, id) => drop(state.check(node, id).map(|check| self.start_check(check, now))),
            Timed::Session(id) => drop(state.session(id).map(|session| self.start_session(session, now))),
            Timed::Key(key) => drop(state.key(key).map(|entry| self.start_key(entry, now))),
            Timed::Token(id) => drop(state.credentials().token(id).map(|token| self.start_token(token, now))),
            Timed::LockDelay(_) => {}
        }
    }

    /// Sees to the end of sessions that are ending, if nobody else does.
    pub(crate) fn end_soon(&self, sessions: &[SessionId], now: Instant) {
        for session in sessions {
            let timed = Timed::Session(session.clone());
            self.lock().let_go(&timed);
            self.set(timed, now + ENDING.mul_f64(rand::random_range(1.0..2.0)));
        }
    }

    /// Of no effect where the engine keeps it.
    fn set(&self, timed: Timed, at: Instant) {
        if self.lock().set(timed, at) {
            self.earlier.notify_one();
        }
    }

    /// Moves the deadlines that a command, now carried out, renews or takes away.
    pub(crate) fn after(&self, command: &Command, outcome: &Outcome, state: &State, now: Instant) {
        if *outcome == Outcome::NotMatched {
            return;
        }
        match command {
            Command::Register { checks, .. } | Command::RegisterInstance { checks, .. } => {
                // The row may have another TTL than the command: an agent keeps its own.
                for row in checks.iter().filter_map(|check| state.check(&check.node, &check.id)) {
                    self.start_check(row, now);
                }
            }
            Command::Txn { steps } => {
                for step in steps {
                    if let TxnStep::Check { verb: RowVerb::Set | RowVerb::Cas(_), node, id, .. } = step
                        && let Some(row) = state.check(node, id)
                    {
                        self.start_check(row, now);
                    }
                }
            }
            Command::RegisterCheck { check } => self.start_check(check, now),
            Command::ReportTtl { node, check, .. } => {
                if let Some(row) = state.check(node, check) {
                    self.start_check(row, now);
                }
            }
            Command::CreateToken { token } => self.start_token(token, now),
            Command::CreateSession { session } => self.start_session(session, now),
            Command::RenewSession { session } => {
                if let Some(row) = state.session(session) {
                    self.start_session(row, now);
                }
            }
            Command::KvPut { key, ttl, .. } if !ttl.is_zero() => self.set(Timed::Key(key.clone()), now + *ttl),
            Command::Restore { .. } => {
                self.lock().clear();
                self.load(state, now);
            }
            command => {
                if let Some(ended) = Timed::of_end(command) {
                    self.lock().remove(&ended);
                }
            }
        }
    }

    /// All was read anew: which deadlines are kept is told next.
    pub(crate) fn load_anew(&self, state: &State, now: Instant) {
        self.lock().let_go_all();
        self.load(state, now);
    }

    /// Follows what the engine tells; `state` has it.
    pub(crate) fn follow(&self, entry: &Entry, state: &State, now: Instant) {
        match entry {
            // What is put gets its full time, unless the engine says next that it keeps that.
            Entry::Commit(commit) => put_rows(&commit.changes).for_each(|timed| self.start(&timed, state, now)),
            Entry::Renewed(row) => self.kept(row),
            Entry::Lapsed { row, unseen } => self.lapsed(row, *unseen, state, now),
            Entry::Anew(_) => {}
        }
    }

    fn kept(&self, row: &RowKey) {
        if let Some(timed) = Timed::of_row(row) {
            self.lock().keep(timed);
        }
    }

    fn lapsed(&self, row: &RowKey, unseen: bool, state: &State, now: Instant) {
        let Some(timed) = Timed::of_row(row) else { return };
        self.lock().let_go(&timed);
        // Nobody renews a token.
        if unseen && !matches!(timed, Timed::Token(_)) {
            self.start(&timed, state, now);
        } else if timed.has_end(state) {
            self.set(timed, now + SCATTER.mul_f64(rand::random()));
        }
    }

    /// What could not be ended, since others go on changing it, gets its time once more.
    pub(crate) fn postpone(&self, end: &Command, state: &State, now: Instant) {
        if let Some(timed) = Timed::of_end(end) {
            self.start(&timed, state, now);
        }
    }

    /// Lets nobody lock the keys, each for its time.
    pub(crate) fn delay_locks(&self, freed: &[(Key, Duration)], now: Instant) {
        for (key, delay) in freed {
            self.set(Timed::LockDelay(key.clone()), now + *delay);
        }
    }

    /// Whether nobody may lock the key yet.
    pub(crate) fn is_lock_delayed(&self, key: &Key, now: Instant) -> bool {
        self.lock().when(&Timed::LockDelay(key.clone())).is_some_and(|until| until > now)
    }

    /// Whether the command proposes an end whose time has not come, or has been moved.
    pub(crate) fn is_early(&self, command: &Command, now: Instant) -> bool {
        Timed::of_end(command).is_some_and(|timed| self.lock().when(&timed).is_none_or(|at| at > now))
    }

    /// Proposes what becomes due until `shutdown`. `propose` says whether it took the command.
    pub(crate) async fn run(
        &self,
        state: impl Fn() -> Arc<State>,
        propose: impl Fn(Command) -> bool,
        shutdown: CancellationToken,
    ) {
        loop {
            let now = Instant::now();
            let next = self.lock().first();
            // What was due and could not be proposed is tried again after a tick.
            let wake = next.filter(|at| *at > now).map_or(now + TICK, |at| at.min(now + TICK));
            tokio::select! {
                () = sleep_until(wake) => {}
                () = self.earlier.notified() => {}
                () = shutdown.cancelled() => return,
            }
            let now = Instant::now();
            let late = now - wake;
            if late > STALL {
                tracing::warn!(?late, "the process stood still; every TTL is extended by that");
                self.lock().extend_all(late);
            }
            self.propose_due(&state(), &propose, now);
        }
    }

    fn propose_due(&self, state: &State, propose: impl Fn(Command) -> bool, now: Instant) {
        let mut due = self.lock().due(now);
        self.hold(&mut due, state, now);
        for timed in due {
            match timed.end().filter(|_| timed.has_end(state)) {
                Some(end) => {
                    if !propose(end) {
                        return;
                    }
                }
                None => self.lock().remove(&timed),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
