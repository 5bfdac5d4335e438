//! What the node's own agent does: takes registrations and runs the checks it owns.
//!
//! [`run`] looks at the node's rows whenever a check changes in more than its output, and starts and stops probes
//! accordingly. Each probe is a task of its own: wait, run, and write what is new; an alias check waits for its target's
//! rows instead.
//! TTL checks are not probed; they lapse by the store's deadlines. Instances whose check stays critical are reaped.

mod alias;
mod checks;
pub(crate) mod defined;
mod definition;
mod reaper;
pub(crate) mod registration;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use kvstore_core::{
    Command, State, WatchKey,
    health::{Counter, Status},
    names::{CheckId, InstanceId, NodeKey},
    row::{Check, Owner, Probe, ProbeKind},
};
use tokio::{
    runtime::Builder,
    sync::{Notify, oneshot},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(any(test, fuzzing))]
pub use checks::fuzzed;
pub use defined::Definitions;

pub use checks::{Outputs, tls::Trust};
pub(crate) use definition::MIN_DEREGISTER_AFTER;

use crate::{metrics::CheckMetrics, store::Store};
use checks::{Finding, Prober, schedule};
use reaper::Reaper;

/// After a look at the rows, what else changes within this time is looked at together.
const SETTLE: Duration = Duration::from_millis(20);

/// The same for the checks of all hosts, of which there may be many.
const SETTLE_EXTERNAL: Duration = Duration::from_millis(500);

/// An instance that could not be reaped, because writes were refused, is tried again after this.
const REAP_AGAIN: Duration = Duration::from_secs(1);

/// How the node's checks are run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A new output without a new status is written at most this often.
    pub output_every: Duration,
    /// Which programs may be run.
    pub programs: Programs,
    /// What is kept of what checks say.
    pub outputs: Outputs,
    /// Whom probes that speak TLS trust.
    pub trust: Trust,
    /// What counts their runs.
    pub runs: CheckMetrics,
}

/// Which programs may be run as checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Programs {
    /// None.
    #[default]
    No,
    /// Those of the agent's own configuration files.
    OfFiles,
    /// Those registered through the API too.
    All,
}

impl Programs {
    fn allow(self, check: &Check) -> bool {
        self == Self::All || self == Self::OfFiles && check.from_file
    }
}

/// [`run`] on a thread of its own, until `shutdown` or until this is dropped. Thousands of probes are small steps that
/// wait on each other's sockets: one thread takes them one after the other, where several would wake each other for
/// each, and who asks the registry for something does not wait behind them.
///
/// # Errors
/// The thread, or what it needs to wait, cannot be made; or it ended in a panic.
pub async fn run_apart(store: Store, node: NodeKey, settings: Settings, shutdown: CancellationToken) -> io::Result<()> {
    let stop = shutdown.child_token();
    let (_dropped, (ended, end)) = (stop.clone().drop_guard(), oneshot::channel());
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let work = move || {
        runtime.block_on(run(store, node, settings, stop));
        let _ = ended.send(());
    };
    thread::Builder::new().name("checks".into()).spawn(work)?;
    end.await.map_err(|_| io::Error::other("the thread that runs checks has ended"))
}

/// Runs the checks that the agent of `node` owns, as they come and go, until `shutdown`; no probe outlives it. A check's
/// new status is written at once.
pub async fn run(store: Store, node: NodeKey, settings: Settings, shutdown: CancellationToken) {
    let Settings { output_every, programs, outputs, trust, runs } = settings;
    let (prober, judged) = (Prober::new(trust, outputs), Notify::new());
    let start = Instant::now();
    let shared = Arc::new(Shared { prober, store: store.clone(), output_every, programs, runs, start, judged });
    let mut probes = Probes {
        shared: shared.clone(),
        running: HashMap::new(),
        tasks: TaskTracker::new(),
        stop: shutdown.child_token(),
    };
    // Not the checks of the node: what they say changes all the time, and starts and stops nothing.
    let mut changes = store.enlist(&[WatchKey::CheckStatuses]);
    let mut reaper = Reaper::default();
    let follow = async {
        loop {
            let state = store.state();
            probes.follow(&node, &state);
            let own = |check: &Check| check.owner == Owner::Agent && probes.judged(check);
            let (due, next) = reaper.look(state.checks_on(&node), own, Instant::now());
            drop(state);
            let next = reap_all(&store, due, next).await;
            sleep(SETTLE).await;
            tokio::select! {
                () = changes.touched() => {}
                () = shared.judged.notified() => {}
                () = sleep_until_some(next) => {}
            }
        }
    };
    let all = async { tokio::join!(follow, reap_external(&store)) };
    shutdown.run_until_cancelled(all).await;
    probes.end().await;
}

/// The same for checks that nobody's agent runs, on all hosts: whoever put them says that they are critical.
async fn reap_external(store: &Store) {
    let mut changes = store.enlist(&[WatchKey::CheckStatuses]);
    let mut reaper = Reaper::default();
    loop {
        let state = store.state();
        let external = |check: &Check| check.owner == Owner::External;
        let (due, next) = reaper.look(state.checks(), external, Instant::now());
        drop(state);
        let next = reap_all(store, due, next).await;
        sleep(SETTLE_EXTERNAL).await;
        tokio::select! {
            () = changes.touched() => {}
            () = sleep_until_some(next) => {}
        }
    }
}

/// Takes away what is `due`; gives when to look again.
async fn reap_all(store: &Store, due: Vec<Command>, next: Option<Instant>) -> Option<Instant> {
    let next = if due.is_empty() { next } else { Some(Instant::now() + REAP_AGAIN) };
    for command in due {
        reap(store, command).await;
    }
    next
}

/// For ever if there is no such time.
async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn reap(store: &Store, command: Command) {
    let Command::ReapCritical { node, check, probe } = &command else { return };
    let (node, check, after) = (node.clone(), check.clone(), probe.deregister_after);
    let instance = store.state().check(&node, &check).and_then(|row| row.service.clone());
    match store.submit(command).await {
        Ok(_) if store.state().check(&node, &check).is_none() => {
            let instance = instance.as_ref().map_or("", InstanceId::as_str);
            tracing::info!(instance, %check, ?after, "an instance was deregistered: its check was critical for too long");
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(%check, %error, "a critical instance is deregistered later"),
    }
}

/// What every probe needs.
#[derive(Debug)]
struct Shared {
    prober: Prober,
    store: Store,
    output_every: Duration,
    programs: Programs,
    runs: CheckMetrics,
    /// What the times of all probes count from.
    start: Instant,
    /// Told when a probe has its first result.
    judged: Notify,
}

/// The probes that run.
#[derive(Debug)]
struct Probes {
    shared: Arc<Shared>,
    running: HashMap<CheckId, RunningProbe>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct RunningProbe {
    probe: Arc<Probe>,
    stop: CancellationToken,
    /// Whether it had a result.
    judged: Arc<AtomicBool>,
}

impl Probes {
    /// Makes the running probes those of `state`.
    fn follow(&mut self, node: &NodeKey, state: &State) {
        self.running.retain(|id, RunningProbe { probe, stop, .. }| {
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
        let judged = Arc::new(AtomicBool::new(false));
        let running = RunningProbe { probe: probe.clone(), stop: stop.clone(), judged: judged.clone() };
        self.running.insert(check.id.clone(), running);
        let task = Task {
            shared: self.shared.clone(),
            node: check.node.clone(),
            check: check.id.clone(),
            probe: probe.clone(),
            counter: Counter::new(probe.thresholds),
            programs: self.shared.programs.allow(check),
            judged,
            written: None,
        };
        self.tasks.spawn(async move { stop.run_until_cancelled(task.run()).await });
    }

    /// Whether the status of `check` was found in this life: what is not probed was reported, or lapsed.
    fn judged(&self, check: &Check) -> bool {
        probe_of(check).is_none()
            || self.running.get(&check.id).is_some_and(|running| running.judged.load(Ordering::Acquire))
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
    counter: Counter,
    /// Whether it may be a program.
    programs: bool,
    /// Whether there was a result.
    judged: Arc<AtomicBool>,
    /// When a result was last written.
    written: Option<Instant>,
}

impl Task {
    async fn run(self) {
        match &self.probe.clone().kind {
            ProbeKind::Alias { node, service } => self.mirror(node, service.as_ref()).await,
            _ => self.repeat().await,
        }
    }

    /// Follows the checks of something else.
    async fn mirror(mut self, target: &NodeKey, service: Option<&InstanceId>) {
        let store = self.shared.store.clone();
        let mut changes = store.enlist(&[WatchKey::NodeChecks(target.clone()), WatchKey::Node(target.clone())]);
        loop {
            let (status, output) = alias::judge(&store.state(), (&self.node, &self.check), target, service);
            self.write(status, output).await;
            tokio::select! {
                () = changes.touched() => {}
                // An output that came too soon after another was not written.
                () = sleep(self.shared.output_every.max(SETTLE)) => {}
            }
        }
    }

    async fn repeat(mut self) {
        let (start, interval) = (self.shared.start, self.probe.interval);
        sleep_until(start + schedule::together(schedule::first(start.elapsed(), interval, rand::random()))).await;
        self.once().await;
        let mut due = schedule::second(start.elapsed(), interval, rand::random());
        loop {
            sleep_until(start + schedule::together(due)).await;
            self.once().await;
            due = schedule::next(due, start.elapsed(), interval);
        }
    }

    async fn once(&mut self) {
        let finding = self.shared.prober.run(&self.probe, self.programs).await;
        self.shared.runs.ran(finding.word());
        match finding {
            Finding::Found { status, output } => {
                if let Some(status) = self.counter.count(status) {
                    self.write(status, output).await;
                }
            }
            Finding::NotTried(why) => tracing::warn!(check = %self.check, why, "this host cannot run a health check"),
        }
    }

    /// Compares with the row itself, so that what could not be written comes again with the next run.
    async fn write(&mut self, status: Status, output: String) {
        self.compare_and_write(status, output).await;
        if !self.judged.swap(true, Ordering::AcqRel) {
            self.shared.judged.notify_one();
        }
    }

    async fn compare_and_write(&mut self, status: Status, output: String) {
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
