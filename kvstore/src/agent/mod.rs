//! What the node's own agent does: takes registrations and runs the checks it owns.
//!
//! [`run`] looks at the node's rows whenever one of its checks changes and starts and stops probes accordingly. Each
//! probe is a task of its own: wait, run, and write what is new. TTL checks are not probed; they lapse by the store's
//! deadlines.

mod checks;
mod definition;
pub mod registration;

use std::{collections::HashMap, sync::Arc, time::Duration};

use kvstore_core::{
    Command, State, WatchKey,
    health::Status,
    names::{CheckId, NodeKey},
    row::{Check, Owner, Probe, ProbeKind},
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use definition::{DEFAULT_TIMEOUT, MIN_INTERVAL};

use crate::store::Store;
use checks::{Finding, Prober, schedule};

/// After a look at the rows, what else changes within this time is looked at together.
const SETTLE: Duration = Duration::from_millis(20);

/// Why the node's checks cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("cannot prepare the probing of health checks")]
pub struct AgentError(#[from] reqwest::Error);

/// Runs the checks that the agent of `node` owns, as they come and go, until `shutdown`; no probe outlives it. A check's
/// new status is written at once, a new output alone at most every `output_every`.
///
/// # Errors
/// [`AgentError`] before anything is run.
pub async fn run(
    store: Store,
    node: NodeKey,
    output_every: Duration,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    let shared = Arc::new(Shared { prober: Prober::new()?, store: store.clone(), output_every });
    let mut probes =
        Probes { shared, running: HashMap::new(), tasks: TaskTracker::new(), stop: shutdown.child_token() };
    let mut changes = store.enlist(&[WatchKey::NodeChecks(node.clone())]);
    let follow = async {
        loop {
            probes.follow(&node, &store.state());
            tokio::time::sleep(SETTLE).await;
            changes.touched().await;
        }
    };
    shutdown.run_until_cancelled(follow).await;
    probes.end().await;
    Ok(())
}

/// What every probe needs.
#[derive(Debug)]
struct Shared {
    prober: Prober,
    store: Store,
    output_every: Duration,
}

/// The probes that run.
#[derive(Debug)]
struct Probes {
    shared: Arc<Shared>,
    running: HashMap<CheckId, (Arc<Probe>, CancellationToken)>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Probes {
    /// Makes the running probes those of `state`.
    fn follow(&mut self, node: &NodeKey, state: &State) {
        self.running.retain(|id, (probe, stop)| {
            let wanted = state.check(node, id).and_then(|check| probe_of(check));
            // The same probe registered again goes on; equal pointers spare the comparison of what did not change.
            let stays = wanted.is_some_and(|wanted| Arc::ptr_eq(wanted, probe) || wanted == probe);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for check in state.checks_on(node) {
            if let Some(probe) = probe_of(check)
                && !self.running.contains_key(&check.id)
            {
                self.start(check, probe);
            }
        }
    }

    fn start(&mut self, check: &Check, probe: &Arc<Probe>) {
        let stop = self.stop.child_token();
        self.running.insert(check.id.clone(), (probe.clone(), stop.clone()));
        let task = Task {
            shared: self.shared.clone(),
            node: check.node.clone(),
            check: check.id.clone(),
            probe: probe.clone(),
            written: None,
        };
        self.tasks.spawn(async move { stop.run_until_cancelled(task.run()).await });
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The probe that this agent runs for `check`, if it does.
fn probe_of(check: &Check) -> Option<&Arc<Probe>> {
    let own = check.probe.as_ref().filter(|_| check.owner == Owner::Agent);
    own.filter(|probe| !matches!(probe.kind, ProbeKind::Ttl { .. }))
}

/// One check's probe, run again and again.
#[derive(Debug)]
struct Task {
    shared: Arc<Shared>,
    node: NodeKey,
    check: CheckId,
    probe: Arc<Probe>,
    /// When a result was last written.
    written: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        let (start, interval) = (Instant::now(), self.probe.interval);
        tokio::time::sleep(schedule::first(Duration::ZERO, interval, rand::random())).await;
        self.once().await;
        let mut due = schedule::second(start.elapsed(), interval, rand::random());
        loop {
            tokio::time::sleep_until(start + due).await;
            self.once().await;
            due = schedule::next(due, start.elapsed(), interval);
        }
    }

    async fn once(&mut self) {
        match self.shared.prober.run(&self.probe).await {
            Finding::Found { status, output } => self.write(status, output).await,
            Finding::NotTried(why) => tracing::warn!(check = %self.check, why, "this host cannot run a health check"),
        }
    }

    /// Compares with the row itself, so that what could not be written comes again with the next run.
    async fn write(&mut self, status: Status, output: String) {
        let state = self.shared.store.state();
        let Some(row) = state.check(&self.node, &self.check) else { return };
        let since = self.written.map(|at| at.elapsed());
        let (old, new) = ((row.status, row.output.as_str()), (status, output.as_str()));
        if !schedule::worth_writing(old, new, since, self.shared.output_every) {
            return;
        }
        if row.status != status {
            tracing::info!(check = %self.check, from = %row.status, to = %status, "a health check changed");
        }
        let (node, check, probe) = (self.node.clone(), self.check.clone(), self.probe.clone());
        let command = Command::ProbeResult { node, check, probe, status, output };
        drop(state);
        match self.shared.store.submit(command).await {
            Ok(_) => self.written = Some(Instant::now()),
            Err(error) => tracing::debug!(check = %self.check, %error, "a result is written later"),
        }
    }
}

#[cfg(test)]
mod tests;
