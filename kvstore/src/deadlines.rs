//! When TTL checks expire. Deadlines are no rows: a renewal writes nothing and wakes nobody.
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
    names::{CheckId, NodeKey},
    row::{Check, ProbeKind},
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// The timer looks up at least this often, so that a standstill of the whole process is noticed.
const TICK: Duration = Duration::from_millis(500);

/// A standstill longer than this was not the clients' fault: every deadline moves by it.
const STALL: Duration = Duration::from_secs(1);

type CheckRef = (NodeKey, CheckId);

/// The deadlines of all TTL checks.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    when: HashMap<CheckRef, Instant>,
    order: BTreeSet<(Instant, CheckRef)>,
}

impl Table {
    fn set(&mut self, check: CheckRef, at: Instant) {
        if let Some(old) = self.when.insert(check.clone(), at) {
            self.order.remove(&(old, check.clone()));
        }
        self.order.insert((at, check));
    }

    fn remove(&mut self, check: &CheckRef) {
        if let Some(old) = self.when.remove(check) {
            self.order.remove(&(old, check.clone()));
        }
    }

    fn extend_all(&mut self, by: Duration) {
        self.order = std::mem::take(&mut self.order).into_iter().map(|(at, check)| (at + by, check)).collect();
        self.when = self.order.iter().map(|(at, check)| (check.clone(), *at)).collect();
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
    /// Every TTL check of a freshly loaded state gets one full TTL: nobody could report while we were away.
    pub(crate) fn load(&self, state: &State, now: Instant) {
        for check in state.checks() {
            self.start(check, now);
        }
    }

    fn start(&self, check: &Check, now: Instant) {
        if let Some(ttl) = ttl_of(check) {
            self.lock().set((check.node.clone(), check.id.clone()), now + ttl);
        }
    }

    /// Moves the deadlines that a command, now carried out, renews or takes away.
    pub(crate) fn after(&self, command: &Command, outcome: Outcome, state: &State, now: Instant) {
        if outcome != Outcome::Done {
            return;
        }
        match command {
            Command::Register { checks, .. } | Command::RegisterInstance { checks, .. } => {
                // The row may have another TTL than the command: an agent keeps its own.
                for row in checks.iter().filter_map(|check| state.check(&check.node, &check.id)) {
                    self.start(row, now);
                }
            }
            Command::RegisterCheck { check } => self.start(check, now),
            Command::ReportTtl { node, check, .. } => {
                if let Some(row) = state.check(node, check) {
                    self.start(row, now);
                }
            }
            Command::Restore { .. } => {
                *self.lock() = Table::default();
                self.load(state, now);
            }
            Command::ExpireTtl { node, check } => self.lock().remove(&(node.clone(), check.clone())),
            _ => {}
        }
    }

    /// Whether the check is silent for too long at `now`.
    pub(crate) fn is_due(&self, node: &NodeKey, check: &CheckId, now: Instant) -> bool {
        self.lock().when.get(&(node.clone(), check.clone())).is_some_and(|at| *at <= now)
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
            let due: Vec<CheckRef> =
                self.lock().order.iter().take_while(|(at, _)| *at <= now).map(|(_, check)| check.clone()).collect();
            for (node, check) in due {
                if !propose(Command::ExpireTtl { node, check }) {
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
        row::{Node, Owner, Probe},
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
        deadlines.after(command, decision.outcome, state, Instant::now());
    }

    fn report(id: &str) -> Command {
        let (node, check) = (NodeKey::new("n").unwrap(), CheckId::new(id).unwrap());
        Command::ReportTtl { node, check, status: Status::Passing, output: String::new() }
    }

    /// Runs the timer for `seconds` and gives the checks it proposed to expire.
    async fn run(deadlines: &Deadlines, seconds: u64) -> Vec<String> {
        let due = Mutex::new(Vec::new());
        let propose = |command: Command| {
            let Command::ExpireTtl { node, check } = &command else { panic!("{command:?}") };
            assert!(deadlines.is_due(node, check, Instant::now()));
            due.lock().unwrap().push(check.to_string());
            deadlines.after(&command, Outcome::Done, &State::empty(Index(1)), Instant::now());
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
}
