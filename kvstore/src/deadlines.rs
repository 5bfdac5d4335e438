//! When TTL checks, sessions, keys with a TTL and lock delays end. Deadlines are no rows: a renewal writes nothing and
//! wakes nobody.
//!
//! The writer sets and renews deadlines as it carries out commands, so their order is that of the changes; a timer
//! proposes what is due, and the writer drops a proposal whose deadline has moved meanwhile.
//!
//! Where others write too, the engine keeps the deadlines of rows and tells when one has passed. What is counted here then
//! is what it does not keep: rows that nobody has renewed since they came by a restore or by hand.

mod hold;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};

use kvstore_core::{
    Changes, Command, Op, Outcome, Put, State,
    credentials::Token,
    health::Status,
    names::{CheckId, Key, NodeKey, SessionId, TokenId},
    row::{Check, KvEntry, Row, RowKey, Session},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{acl, engine::Entry};

/// The timer looks up at least this often, so that a standstill of the whole process is noticed.
const TICK: Duration = Duration::from_millis(500);

/// A standstill longer than this was not the clients' fault: every deadline moves by it.
const STALL: Duration = Duration::from_secs(1);

/// A session that is ending and does not get further for so long is ended further by whoever sees it.
const ENDING: Duration = Duration::from_secs(2);

/// All kvstores hear at once that a row has lapsed; each waits for a part of this before it proposes the end, and mostly
/// one is enough.
const SCATTER: Duration = Duration::from_millis(200);

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

    /// What of a row has a deadline; nothing if its kind has none.
    fn of_row(row: &RowKey) -> Option<Self> {
        Some(match row {
            RowKey::Check(node, id) => Self::Check(node.clone(), id.clone()),
            RowKey::Session(id) => Self::Session(id.clone()),
            RowKey::Kv(key) => Self::Key(key.clone()),
            RowKey::Token(id) => Self::Token(id.clone()),
            _ => return None,
        })
    }

    /// Whether there is anything that its end would change.
    fn has_end(&self, state: &State) -> bool {
        match self {
            Self::Check(node, id) => {
                state.check(node, id).is_some_and(|check| check.ttl().is_some() && check.status != Status::Critical)
            }
            Self::Session(id) => {
                state.session(id).is_some_and(|session| session.ending || session.lifetime().is_some())
            }
            Self::Key(key) => state.key(key).is_some_and(|entry| entry.lifetime().is_some()),
            Self::Token(id) => state.credentials().token(id).is_some(),
            Self::LockDelay(_) => true,
        }
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
    /// Told when something is due earlier than all else.
    earlier: Notify,
    /// Whether too many hosts are silent at once.
    is_cut_off: AtomicBool,
    /// Whether others, who have clocks of their own, end the same rows.
    are_shared: bool,
}

#[derive(Debug, Default)]
struct Table {
    when: HashMap<Timed, Instant>,
    order: BTreeSet<(Instant, Timed)>,
    /// Whose deadlines the engine keeps: they are not here.
    kept: HashSet<Timed>,
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
            self.lock().kept.remove(&timed);
            self.set(timed, now + ENDING.mul_f64(rand::random_range(1.0..2.0)));
        }
    }

    /// Of no effect where the engine keeps it.
    fn set(&self, timed: Timed, at: Instant) {
        let mut table = self.lock();
        if table.kept.contains(&timed) {
            return;
        }
        let first = table.order.first().is_none_or(|(first, _)| at < *first);
        table.set(timed, at);
        drop(table);
        if first {
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
                let mut table = self.lock();
                *table = Table { kept: std::mem::take(&mut table.kept), ..Table::default() };
                drop(table);
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
        self.lock().kept.clear();
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
            let mut table = self.lock();
            table.remove(&timed);
            table.kept.insert(timed);
        }
    }

    fn lapsed(&self, row: &RowKey, unseen: bool, state: &State, now: Instant) {
        let Some(timed) = Timed::of_row(row) else { return };
        self.lock().kept.remove(&timed);
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
        self.lock().when.get(&Timed::LockDelay(key.clone())).is_some_and(|until| *until > now)
    }

    /// Whether the command proposes an end whose time has not come, or has been moved.
    pub(crate) fn is_early(&self, command: &Command, now: Instant) -> bool {
        Timed::of_end(command).is_some_and(|timed| self.lock().when.get(&timed).is_none_or(|at| *at > now))
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
            let next = self.lock().order.first().map(|(at, _)| *at);
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

/// What of the rows that `changes` puts has a deadline, if it has one.
fn put_rows(changes: &Changes) -> impl Iterator<Item = Timed> {
    let rows = changes.ops.iter().filter_map(|op| match op {
        Op::Put(Put { row: row @ (Row::Check(_) | Row::Session(_) | Row::Kv(_) | Row::Token(_)), .. }) => {
            Some(row.key())
        }
        _ => None,
    });
    rows.filter_map(|key| Timed::of_row(&key))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kvstore_core::{
        Index,
        credentials::Digest,
        health::Status,
        row::{Behavior, Node, Owner, Probe, ProbeKind},
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

    /// What a host's registrar puts over and over.
    fn host(name: &str) -> Command {
        let Command::Register { node, checks, .. } = register(name, 15) else { unreachable!() };
        let node = Node { name: name.into(), ..node };
        let own = |check| Check { node: node.key(), owner: Owner::External, ..check };
        let checks = checks.into_iter().map(own).collect();
        Command::Register { node, keep_node: false, instance: None, checks }
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
            ending: false,
        };
        Command::CreateSession { session: session.into() }
    }

    /// Runs the timer for `seconds` and gives the checks it proposed to expire.
    async fn run(deadlines: &Deadlines, state: &State, seconds: u64) -> Vec<String> {
        let due = Mutex::new(Vec::new());
        let propose = |command: Command| {
            assert!(!deadlines.is_early(&command, Instant::now()));
            due.lock().unwrap().push(match &command {
                Command::ExpireTtl { check, .. } => check.to_string(),
                Command::ExpireSession { session } => format!("session {session}"),
                Command::ExpireKey { key } => format!("key {key}"),
                Command::ExpireToken { token } => format!("token {token}"),
                other => panic!("{other:?}"),
            });
            deadlines.after(&command, &Outcome::Done, &State::empty(Index(1)), Instant::now());
            true
        };
        let forever = deadlines.run(|| Arc::new(state.clone()), propose, CancellationToken::new());
        let _ = tokio::time::timeout(Duration::from_secs(seconds), forever).await;
        due.into_inner().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn silence_expires_once_and_a_report_moves_the_deadline() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        carry_out(&deadlines, &mut state, &register("a", 10));
        carry_out(&deadlines, &mut state, &register("b", 10));
        assert!(run(&deadlines, &state, 8).await.is_empty());
        carry_out(&deadlines, &mut state, &report("a"));
        assert_eq!(run(&deadlines, &state, 4).await, ["b"]);
        carry_out(&deadlines, &mut state, &register("a", 10));
        assert!(run(&deadlines, &state, 9).await.is_empty(), "registering again renews");
        assert_eq!(run(&deadlines, &state, 60).await, ["a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_loaded_state_grants_a_full_ttl_and_a_standstill_extends_all() {
        let mut state = State::empty(Index(1));
        carry_out(&Deadlines::default(), &mut state, &register("a", 10));
        let deadlines = Deadlines::default();
        deadlines.load(&state, Instant::now());
        assert!(run(&deadlines, &state, 9).await.is_empty());
        let mut forever =
            Box::pin(deadlines.run(|| Arc::new(state.clone()), |_| panic!("nothing is due"), CancellationToken::new()));
        assert!(futures_util::poll!(forever.as_mut()).is_pending());
        tokio::time::advance(Duration::from_mins(1)).await;
        assert!(futures_util::poll!(forever.as_mut()).is_pending());
        drop(forever);
        assert_eq!(run(&deadlines, &state, 2).await, ["a"], "a second was left, and is again");
    }

    #[tokio::test(start_paused = true)]
    async fn hosts_that_fall_silent_together_stay_until_they_are_heard_again() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        let hosts = ["h1", "h2", "h3", "h4", "h5"];
        for command in hosts.map(host).into_iter().chain([register("a", 15)]) {
            carry_out(&deadlines, &mut state, &command);
        }
        let mut ended = Vec::new();
        for name in &hosts[..3] {
            ended.extend(run(&deadlines, &state, 2).await);
            carry_out(&deadlines, &mut state, &host(name));
        }
        ended.extend(run(&deadlines, &state, 60).await);
        assert_eq!(ended, ["a"], "an agent's own check is no host's word");
        for name in ["h1", "h2"] {
            carry_out(&deadlines, &mut state, &host(name));
        }
        assert!(run(&deadlines, &state, 4).await.is_empty(), "three of five are silent yet");
        for name in ["h1", "h2", "h3"] {
            carry_out(&deadlines, &mut state, &host(name));
        }
        assert!(run(&deadlines, &state, 9).await.is_empty(), "the rest has its full time again");
        for name in ["h1", "h2", "h3"] {
            carry_out(&deadlines, &mut state, &host(name));
        }
        assert_eq!(run(&deadlines, &state, 7).await, ["h4", "h5"], "two of five may be gone");
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_and_keys_end_unless_renewed() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        for command in [register("a", 10), session("s", 20), session("for-ever", 0), put("k", 20), put("stays", 0)] {
            carry_out(&deadlines, &mut state, &command);
        }
        assert_eq!(run(&deadlines, &state, 15).await, ["a"]);
        carry_out(&deadlines, &mut state, &put("k", 20));
        carry_out(&deadlines, &mut state, &Command::RenewSession { session: SessionId::new("s").unwrap() });
        assert!(run(&deadlines, &state, 18).await.is_empty());
        assert_eq!(run(&deadlines, &state, 3).await, ["key k"]);
        assert_eq!(run(&deadlines, &state, 2).await, ["session s"], "a tenth of its TTL after it");

        let loaded = Deadlines::default();
        loaded.load(&state, Instant::now());
        assert!(run(&loaded, &state, 9).await.is_empty(), "all have their full time again");
        assert_eq!(run(&loaded, &state, 60).await, ["a", "key k", "session s"]);
    }

    /// Where the engine keeps deadlines, nothing is due before it says so, and then at once.
    #[tokio::test(start_paused = true)]
    async fn what_the_engine_keeps_is_not_counted_here() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        for command in [register("a", 10), session("s", 20), put("k", 20)] {
            carry_out(&deadlines, &mut state, &command);
        }
        let rows = ["n/n/c/a", "s/s", "k/k"].map(|key| RowKey::decode(key).unwrap());
        let follow = |entry: Entry| deadlines.follow(&entry, &state, Instant::now());
        for row in rows.clone() {
            follow(Entry::Renewed(row));
        }
        deadlines.after(&report("a"), &Outcome::Done, &state, Instant::now());
        deadlines.load(&state, Instant::now());
        assert!(run(&deadlines, &state, 100).await.is_empty());

        let lapsed = |row: &RowKey, unseen| Entry::Lapsed { row: row.clone(), unseen };
        follow(lapsed(&rows[0], false));
        assert_eq!(run(&deadlines, &state, 1).await, ["a"]);
        follow(lapsed(&rows[1], true));
        assert!(run(&deadlines, &state, 21).await.is_empty(), "it begins anew where nobody could renew it");
        follow(Entry::Renewed(rows[1].clone()));
        assert!(run(&deadlines, &state, 100).await.is_empty(), "and is kept again once it is renewed");
        follow(lapsed(&rows[1], true));
        assert_eq!(run(&deadlines, &state, 23).await, ["session s"]);
        let empty = State::empty(Index(1));
        deadlines.follow(&lapsed(&rows[2], false), &empty, Instant::now());
        assert!(run(&deadlines, &state, 100).await.is_empty(), "what is gone anyway does not end");
        deadlines.load_anew(&state, Instant::now());
        assert_eq!(
            run(&deadlines, &state, 100).await,
            ["a", "key k", "session s"],
            "nothing is kept until that is told"
        );
    }

    /// A row that came without having been renewed, by hand or from a snapshot, is given its time.
    #[tokio::test(start_paused = true)]
    async fn what_nobody_keeps_is_counted_from_its_coming() {
        let (deadlines, mut state) = (Deadlines::default(), State::empty(Index(1)));
        let changes = kvstore_core::decide(&state, &put("k", 20)).unwrap().changes;
        state.apply(Index(2), &changes);
        let commit = Entry::Commit(crate::engine::Commit { index: Index(2), changes });
        deadlines.follow(&commit, &state, Instant::now());
        assert!(run(&deadlines, &state, 19).await.is_empty());
        assert_eq!(run(&deadlines, &state, 2).await, ["key k"]);
    }

    /// A clock that is an hour ahead ends nothing early for those who share it.
    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_shared_ends_after_its_time_by_no_clock() {
        for (are_shared, seconds, ended) in [(false, 1, true), (true, 59, false), (true, 61, true)] {
            let made = acl::now().checked_sub(Duration::from_hours(1)).expect("it is after 1970");
            let token = Token { made, ends: made + Duration::from_mins(1), ..acl::management(Digest([1; 32])) };
            let mut state = State::empty(Index(1));
            let create = Command::CreateToken { token: token.into() };
            let changes = kvstore_core::decide(&state, &create).unwrap().changes;
            state.apply(Index(2), &changes);
            let deadlines = Deadlines::new(are_shared);
            deadlines.load(&state, Instant::now());
            assert_eq!(!run(&deadlines, &state, seconds).await.is_empty(), ended, "{are_shared} {seconds}");
        }
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
        assert!(run(&deadlines, &state, 14).await.is_empty());
        assert!(deadlines.is_lock_delayed(&key("k"), Instant::now()));
        assert!(run(&deadlines, &state, 3).await.is_empty());
        assert!(!deadlines.is_lock_delayed(&key("k"), Instant::now()));
        assert!(!deadlines.lock().when.contains_key(&Timed::LockDelay(key("k"))), "forgotten once it has ended");
    }
}
