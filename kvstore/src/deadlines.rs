//! When TTL checks, sessions, keys with a TTL and lock delays end. Deadlines are no rows: a renewal writes nothing and
//! wakes nobody.
//!
//! The writer sets and renews deadlines as it carries out commands, so their order is that of the changes; a timer
//! proposes what is due, and the writer drops a proposal whose deadline has moved meanwhile.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kvstore_core::{
    Command, Outcome, State,
    credentials::Token,
    names::{CheckId, Key, NodeKey, SessionId, TokenId},
    row::{Check, KvEntry, ProbeKind, RowKey, Session},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::acl;

/// The timer looks up at least this often, so that a standstill of the whole process is noticed.
const TICK: Duration = Duration::from_millis(500);

/// A standstill longer than this was not the clients' fault: every deadline moves by it.
const STALL: Duration = Duration::from_secs(1);

/// A session lives on for this part of its TTL after it, so that a renewal in time is not late by the way it took.
const SESSION_GRACE: u32 = 10;

/// What has a deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Timed {
    /// The silence of a TTL check.
    Check(NodeKey, CheckId),
    /// A session without a renewal.
    Session(SessionId),
    /// A key that is not put again.
    Key(Key),
    /// A token that is not for ever.
    Token(TokenId),
    /// The delay of a key's lock.
    LockDelay(Key),
}

impl Timed {
    /// What is to be done when its time has come; nothing if it just ends.
    fn end(&self) -> Option<Command> {
        Some(match self.clone() {
            Self::Check(node, check) => Command::ExpireTtl { node, check },
            Self::Session(session) => Command::ExpireSession { session },
            Self::Key(key) => Command::ExpireKey { key },
            Self::Token(token) => Command::ExpireToken { token },
            Self::LockDelay(_) => return None,
        })
    }

    /// Whose end the command is.
    fn of_end(command: &Command) -> Option<Self> {
        Some(match command {
            Command::ExpireTtl { node, check } => Self::Check(node.clone(), check.clone()),
            Command::ExpireSession { session } => Self::Session(session.clone()),
            Command::ExpireKey { key } => Self::Key(key.clone()),
            Command::ExpireToken { token } => Self::Token(token.clone()),
            _ => return None,
        })
    }
}

/// All deadlines.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    when: HashMap<Timed, Instant>,
    order: BTreeSet<(Instant, Timed)>,
}

impl Table {
    fn set(&mut self, timed: Timed, at: Instant) {
        if let Some(old) = self.when.insert(timed.clone(), at) {
            self.order.remove(&(old, timed.clone()));
        }
        self.order.insert((at, timed));
    }

    fn remove(&mut self, timed: &Timed) {
        if let Some(old) = self.when.remove(timed) {
            self.order.remove(&(old, timed.clone()));
        }
    }

    fn extend_all(&mut self, by: Duration) {
        self.order = std::mem::take(&mut self.order).into_iter().map(|(at, timed)| (at + by, timed)).collect();
        self.when = self.order.iter().map(|(at, timed)| (timed.clone(), *at)).collect();
    }

    fn due(&self, now: Instant) -> Vec<Timed> {
        self.order.iter().take_while(|(at, _)| *at <= now).map(|(_, timed)| timed.clone()).collect()
    }
}

/// How long the check may be silent; `None` if it has no TTL.
fn ttl_of(check: &Check) -> Option<Duration> {
    match check.probe.as_deref()?.kind {
        ProbeKind::Ttl { ttl } => Some(ttl),
        _ => None,
    }
}

impl Deadlines {
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
        if let Some(ttl) = ttl_of(check) {
            self.lock().set(Timed::Check(check.node.clone(), check.id.clone()), now + ttl);
        }
    }

    fn start_session(&self, session: &Session, now: Instant) {
        if !session.ttl.is_zero() {
            let until = now + session.ttl + session.ttl / SESSION_GRACE;
            self.lock().set(Timed::Session(session.id.clone()), until);
        }
    }

    fn start_key(&self, entry: &KvEntry, now: Instant) {
        if !entry.ttl.is_zero() {
            self.lock().set(Timed::Key(entry.key.clone()), now + entry.ttl);
        }
    }

    /// A token ends by the clock on the wall, whether we run or not.
    fn start_token(&self, token: &Token, now: Instant) {
        if !token.ends.is_zero() {
            let left = token.ends.saturating_sub(acl::now());
            self.lock().set(Timed::Token(token.accessor.clone()), now + left);
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
            Command::KvPut { key, ttl, .. } if !ttl.is_zero() => self.lock().set(Timed::Key(key.clone()), now + *ttl),
            Command::Restore { .. } => {
                *self.lock() = Table::default();
                self.load(state, now);
            }
            command => {
                if let Some(ended) = Timed::of_end(command) {
                    self.lock().remove(&ended);
                }
            }
        }
    }

    /// Another kvstore has renewed the row: its deadline begins anew.
    pub(crate) fn renewed(&self, row: &RowKey, state: &State, now: Instant) {
        match row {
            RowKey::Check(node, id) => {
                if let Some(check) = state.check(node, id) {
                    self.start_check(check, now);
                }
            }
            RowKey::Session(id) => {
                if let Some(session) = state.session(id) {
                    self.start_session(session, now);
                }
            }
            RowKey::Kv(key) => {
                if let Some(entry) = state.key(key) {
                    self.start_key(entry, now);
                }
            }
            _ => {}
        }
    }

    /// Lets nobody lock the keys, each for its time.
    pub(crate) fn delay_locks(&self, freed: &[(Key, Duration)], now: Instant) {
        for (key, delay) in freed {
            self.lock().set(Timed::LockDelay(key.clone()), now + *delay);
        }
    }

    /// Whether nobody may lock the key yet.
    pub(crate) fn is_lock_delayed(&self, key: &Key, now: Instant) -> bool {
        self.lock().when.get(&Timed::LockDelay(key.clone())).is_some_and(|until| *until > now)
    }

    /// Whether the command proposes an end whose time has not come, or has been moved.
    pub(crate) fn is_early(&self, command: &Command, now: Instant) -> bool {
        Timed::of_end(command).is_some_and(|timed| self.lock().when.get(&timed).is_none_or(|at| *at > now))
    }

    /// Proposes what becomes due until `shutdown`. `propose` says whether it took the command.
    pub(crate) async fn run(&self, propose: impl Fn(Command) -> bool, shutdown: CancellationToken) {
        loop {
            let now = Instant::now();
            let next = self.lock().order.first().map(|(at, _)| *at);
            // What was due and could not be proposed is tried again after a tick.
            let wake = next.filter(|at| *at > now).map_or(now + TICK, |at| at.min(now + TICK));
            tokio::select! {
                () = sleep_until(wake) => {}
                () = shutdown.cancelled() => return,
            }
            let now = Instant::now();
            let late = now - wake;
            if late > STALL {
                tracing::warn!(?late, "the process stood still; every TTL is extended by that");
                self.lock().extend_all(late);
            }
            let due = self.lock().due(now);
            for timed in due {
                let Some(command) = timed.end() else {
                    self.lock().remove(&timed);
                    continue;
                };
                if !propose(command) {
                    break;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kvstore_core::{
        Index,
        health::Status,
        row::{Behavior, Node, Owner, Probe},
    };

    use super::*;

    fn register(id: &str, ttl: u64) -> Command {
        let node = Node {
            name: "n".into(),
            id: String::new(),
            address: "10.0.0.1".into(),
            tagged_addresses: None,
            meta: None,
        };
        let kind = ProbeKind::Ttl { ttl: Duration::from_secs(ttl) };
        let check = Check {
            node: node.key(),
            id: CheckId::new(id).unwrap(),
            name: id.into(),
            status: Status::Passing,
            notes: String::new(),
            output: String::new(),
            service: None,
            kind: "ttl".into(),
            probe: Some(Arc::new(Probe::new(kind, Duration::ZERO, Duration::ZERO))),
            interval: String::new(),
            timeout: String::new(),
            definition: serde_json::Value::Null,
            owner: Owner::Agent,
            from_file: false,
        };
        Command::Register { node, keep_node: false, instance: None, checks: vec![check] }
    }

    fn carry_out(deadlines: &Deadlines, state: &mut State, command: &Command) {
        let decision = kvstore_core::decide(state, command).unwrap();
        if !decision.changes.is_empty() {
            state.apply(state.index().next(), &decision.changes);
        }
        deadlines.after(command, &decision.outcome, state, Instant::now());
        deadlines.delay_locks(&decision.freed, Instant::now());
    }

    fn report(id: &str) -> Command {
        let (node, check) = (NodeKey::new("n").unwrap(), CheckId::new(id).unwrap());
        Command::ReportTtl { node, check, status: Status::Passing, output: String::new() }
    }

    fn key(name: &str) -> Key {
        Key::new(name).unwrap()
    }

    fn put(name: &str, ttl: u64) -> Command {
        let ttl = Duration::from_secs(ttl);
        Command::KvPut { key: key(name), value: "".into(), flags: 0, cas: None, ttl }
    }

    fn session(id: &str, ttl: u64) -> Command {
        let session = Session {
            id: SessionId::new(id).unwrap(),
            name: String::new(),
            node: NodeKey::new("n").unwrap(),
            lock_delay: Duration::from_secs(15),
            behavior: Behavior::Release,
            ttl_text: String::new(),
            ttl: Duration::from_secs(ttl),
            node_checks: vec![],
            service_checks: None,
        };
        Command::CreateSession { session: session.into() }
    }

    /// Runs the timer for `seconds` and gives the checks it proposed to expire.
    async fn run(deadlines: &Deadlines, seconds: u64) -> Vec<String> {
        let due = Mutex::new(Vec::new());
        let propose = |command: Command| {
            assert!(!deadlines.is_early(&command, Instant::now()));
            due.lock().unwrap().push(match &command {
                Command::ExpireTtl { check, .. } => check.to_string(),
                Command::ExpireSession { session } => format!("session {session}"),
                Command::ExpireKey { key } => format!("key {key}"),
                other => panic!("{other:?}"),
            });
            deadlines.after(&command, &Outcome::Done, &State::empty(Index(1)), Instant::now());
            true
        };
        let forever = deadlines.run(propose, CancellationToken::new());
        let _ = tokio::time::timeout(Duration::from_secs(seconds), forever).await;
        due.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_expires_once_and_a_report_moves_the_deadline() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        carry_out(&deadlines, &mut state, &register("a", 10));
        carry_out(&deadlines, &mut state, &register("b", 10));
        assert!(run(&deadlines, 8).await.is_empty());
        carry_out(&deadlines, &mut state, &report("a"));
        assert_eq!(run(&deadlines, 4).await, ["b"]);
        carry_out(&deadlines, &mut state, &register("a", 10));
        assert!(run(&deadlines, 9).await.is_empty(), "registering again renews");
        assert_eq!(run(&deadlines, 60).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loaded_state_grants_a_full_ttl_and_a_standstill_extends_all() {
        let mut state = State::empty(Index(1));
        carry_out(&Deadlines::default(), &mut state, &register("a", 10));
        let deadlines = Deadlines::default();
        deadlines.load(&state, Instant::now());
        assert!(run(&deadlines, 9).await.is_empty());
        let mut forever = Box::pin(deadlines.run(|_| panic!("nothing is due"), CancellationToken::new()));
        assert!(futures_util::poll!(forever.as_mut()).is_pending());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(futures_util::poll!(forever.as_mut()).is_pending());
        drop(forever);
        assert_eq!(run(&deadlines, 2).await, ["a"], "a second was left, and is again");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_and_keys_end_unless_renewed() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        for command in [register("a", 10), session("s", 20), session("for-ever", 0), put("k", 20), put("stays", 0)] {
            carry_out(&deadlines, &mut state, &command);
        }
        assert_eq!(run(&deadlines, 15).await, ["a"]);
        carry_out(&deadlines, &mut state, &put("k", 20));
        carry_out(&deadlines, &mut state, &Command::RenewSession { session: SessionId::new("s").unwrap() });
        assert!(run(&deadlines, 18).await.is_empty());
        assert_eq!(run(&deadlines, 3).await, ["key k"]);
        assert_eq!(run(&deadlines, 2).await, ["session s"], "a tenth of its TTL after it");

        let loaded = Deadlines::default();
        loaded.load(&state, Instant::now());
        assert!(run(&loaded, 9).await.is_empty(), "all have their full time again");
        assert_eq!(run(&loaded, 60).await, ["a", "key k", "session s"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_torn_lock_is_delayed_for_its_time() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        let lock = Command::KvLock {
            key: key("k"),
            value: "".into(),
            flags: 0,
            session: SessionId::new("s").unwrap(),
            delayed: false,
        };
        for command in [register("a", 60), session("s", 0), lock] {
            carry_out(&deadlines, &mut state, &command);
        }
        assert!(!deadlines.is_lock_delayed(&key("k"), Instant::now()));
        carry_out(&deadlines, &mut state, &Command::DestroySession { session: SessionId::new("s").unwrap() });
        assert!(run(&deadlines, 14).await.is_empty());
        assert!(deadlines.is_lock_delayed(&key("k"), Instant::now()));
        assert!(run(&deadlines, 3).await.is_empty());
        assert!(!deadlines.is_lock_delayed(&key("k"), Instant::now()));
        assert!(!deadlines.lock().when.contains_key(&Timed::LockDelay(key("k"))), "forgotten once it has ended");
    }
}
