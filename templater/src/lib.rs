//! Renders templates from the registry, has each result checked, swaps it in and reloads who uses it.
//!
//! What a template can say is written in [`functions`]. Decisions are made in pure modules ([`values`], [`functions`],
//! [`render`], [`quiescence`], the command lines of [`target`]); [`watch`], [`source`], [`output`] and [`command`] act.

mod arguments;
pub mod cli;
pub mod command;
pub mod config;
mod each;
mod filters;
pub mod functions;
pub mod guard;
pub mod host;
mod kept;
mod mock;
pub mod offline;
pub mod output;
pub mod quiescence;
pub mod render;
mod report;
mod runner;
pub mod source;
pub mod state;
pub mod target;
mod temp;
pub mod values;
pub mod watch;

use std::{sync::Arc, time::Duration};

use kvstore_client::{Client, ClientConfig};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info};

use config::{Config, JobSpec, Mode};
use guard::DropPolicy;
use host::Host;
use runner::{Shared, Worker};
use source::SourceWatcher;
use target::{container::Docker, reloads::Reloads};
use watch::Watches;

/// When told to stop, a pass that is under way may take this long to end.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Why a run ended badly. What was live before is live still.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The registry's address cannot be used.
    #[error(transparent)]
    Registry(#[from] kvstore_client::Error),
    /// A template is wrong, its destination is taken, or with `--once` not all is rendered; in words.
    #[error("{}", .0.join("\n"))]
    Templates(Vec<String>),
}

/// Does what `config` says, and what each of `reloads` says from then on, until `stop`.
///
/// # Errors
/// [`RunError`]: with [`Mode::Daemon`] only at the start.
pub async fn run(config: Config, reloads: mpsc::Receiver<Config>, stop: CancellationToken) -> Result<(), RunError> {
    match config.mode {
        Mode::Daemon => daemon(config, reloads, stop).await,
        Mode::Once | Mode::DryRun => once(config, stop).await,
    }
}

async fn once(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let shared = share(&config.registry, config.drops, &stop)?;
    let mut tasks = Vec::new();
    let mut faults = Vec::new();
    for spec in config.jobs {
        let (mut worker, fault) = Worker::new(spec, shared.clone());
        let locked = if config.mode == Mode::Once { worker.prepare() } else { Ok(()) };
        faults.extend(fault.or(locked.err().map(|e| e.report(""))));
        tasks.push((worker, config.mode, config.timeout));
    }
    if !faults.is_empty() {
        return Err(RunError::Templates(faults)); // before anything is written
    }
    let running = tasks.into_iter().map(|(worker, mode, limit)| {
        let span = worker.span();
        tokio::spawn(worker.once(mode, limit).instrument(span))
    });
    for task in running.collect::<Vec<_>>() {
        tokio::select! {
            ended = task => match ended {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => faults.push(fault),
                Err(panic) => faults.push(panic.to_string()),
            },
            () = stop.cancelled() => faults.push("stopped before all was rendered".into()),
        }
    }
    shared.watches.close().await;
    if faults.is_empty() { Ok(()) } else { Err(RunError::Templates(faults)) }
}

async fn daemon(config: Config, mut reloads: mpsc::Receiver<Config>, stop: CancellationToken) -> Result<(), RunError> {
    let mut fleet = Fleet::start(config, &stop)?;
    loop {
        let next = tokio::select! {
            () = stop.cancelled() => None,
            config = reloads.recv() => config,
        };
        match next {
            Some(config) => fleet.change(config, &stop).await,
            None => stop.cancelled().await,
        }
        if stop.is_cancelled() {
            fleet.end().await;
            return Ok(());
        }
    }
}

fn share(registry: &ClientConfig, drops: DropPolicy, stop: &CancellationToken) -> Result<Shared, RunError> {
    let sources = SourceWatcher::new();
    Ok(Shared {
        watches: Watches::new(Client::new(registry)?, drops, sources.clone(), stop.child_token()),
        sources,
        docker: Arc::new(Docker::default()),
        reloads: Arc::new(Reloads::default()),
        host: Arc::new(Host::look()),
    })
}

/// The templates at work.
struct Fleet {
    registry: ClientConfig,
    drops: DropPolicy,
    shared: Shared,
    workers: Vec<Running>,
}

struct Running {
    spec: JobSpec,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Refuses to start if another templater has a destination, or if no template at all can be used.
    fn start(config: Config, stop: &CancellationToken) -> Result<Self, RunError> {
        let shared = share(&config.registry, config.drops, stop)?;
        let mut faults = Vec::new();
        let mut good = Vec::new();
        for spec in config.jobs {
            let (mut worker, fault) = Worker::new(spec.clone(), shared.clone());
            if let Err(error @ output::PutError::State(state::StateError::Locked { .. })) = worker.prepare() {
                return Err(RunError::Templates(vec![error.report("")]));
            }
            good.push((spec, worker, fault.is_none()));
            faults.extend(fault);
        }
        if !good.iter().any(|(_, _, is_good)| *is_good) {
            return Err(RunError::Templates(faults));
        }
        for fault in faults {
            error!("{fault}\n  it is used as soon as it is mended");
        }
        info!(
            "rendering {} from the registry at {}",
            if good.len() == 1 { "1 template".to_owned() } else { format!("{} templates", good.len()) },
            config.registry.addresses.join(", ")
        );
        let workers = good.into_iter().map(|(spec, worker, _)| Running::start(spec, worker, stop));
        Ok(Self { workers: workers.collect(), registry: config.registry, drops: config.drops, shared })
    }

    /// Ends what `config` no longer has, starts what is new, leaves the rest undisturbed.
    async fn change(&mut self, config: Config, stop: &CancellationToken) {
        let same_registry = config.registry.addresses == self.registry.addresses
            && config.registry.token == self.registry.token
            && config.drops == self.drops;
        let old = std::mem::take(&mut self.workers);
        let keep = |running: &Running| same_registry && config.jobs.contains(&running.spec);
        let (kept, gone): (Vec<_>, Vec<_>) = old.into_iter().partition(keep);
        self.workers = kept;
        join(gone).await; // their destinations must be free before others take them
        if !same_registry {
            match share(&config.registry, config.drops, stop) {
                Ok(shared) => {
                    let old = std::mem::replace(&mut self.shared, shared);
                    old.watches.close().await;
                    (self.registry, self.drops) = (config.registry, config.drops);
                }
                Err(error) => error!("{error}; the old registry stays in use"),
            }
        }
        for spec in config.jobs {
            if self.workers.iter().any(|running| running.spec == spec) {
                continue;
            }
            let (worker, fault) = Worker::new(spec.clone(), self.shared.clone());
            if let Some(fault) = fault {
                error!("{fault}\n  it is used as soon as it is mended");
            }
            self.workers.push(Running::start(spec, worker, stop));
        }
        info!("the new configuration is in use");
    }

    async fn end(self) {
        join(self.workers).await;
        self.shared.watches.close().await;
    }
}

impl Running {
    fn start(spec: JobSpec, worker: Worker, stop: &CancellationToken) -> Self {
        let stop = stop.child_token();
        let span = worker.span();
        let task = tokio::spawn(worker.run(stop.clone()).instrument(span));
        Self { spec, stop, task }
    }
}

/// Stops all of `workers`, then waits for each; what takes too long is cut off, and its reload stays owed.
async fn join(workers: Vec<Running>) {
    for running in &workers {
        running.stop.cancel();
    }
    for mut running in workers {
        match timeout(STOP_GRACE, &mut running.task).await {
            Ok(Ok(())) => {}
            Ok(Err(panic)) => error!(template = %running.spec, "the template's task failed: {panic}"),
            Err(_) => running.task.abort(),
        }
    }
}
