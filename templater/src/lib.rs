//! Renders templates from the registry, has each result checked, swaps it in and reloads who uses it.
//!
//! What a template can say is written in [`functions`]. Decisions are made in pure modules ([`values`], [`functions`],
//! [`render`], [`quiescence`], the command lines of [`target`]); [`watch`], [`source`], [`output`] and [`command`] act.

mod arguments;
pub mod cli;
pub mod command;
pub mod config;
pub mod convert;
mod each;
pub mod exec;
mod filters;
pub mod functions;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
pub mod guard;
pub mod host;
mod kept;
mod mock;
pub mod offline;
pub mod output;
mod progress;
pub mod quiescence;
pub mod reference;
pub mod render;
mod report;
mod runner;
pub mod source;
pub mod state;
mod status;
mod systemd;
pub mod target;
mod temp;
pub mod values;
pub mod watch;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use kvstore_client::{Client, ClientConfig, monitoring, systemd::Systemd};
use nix::sys::signal::Signal;
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use config::{Config, JobSpec, Mode};
use exec::supervise;
use guard::DropPolicy;
use host::Host;
use progress::Progress;
use runner::{Shared, Worker};
use source::SourceWatcher;
use status::Status;
use target::{docker::Docker, reloads::Reloads};
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
    /// Nobody can ask how it does.
    #[error("cannot listen on {address}; http_addr takes another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The process id cannot be written down.
    #[error("the pid file {path} cannot be written")]
    PidFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// What is asked of a run that goes on.
#[derive(Clone, Debug)]
pub enum Order {
    /// Go by this configuration from now on.
    Configure(Box<Config>),
    /// Give this signal to the program of `--exec`.
    Forward(Signal),
}

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All is rendered, or it was told to stop.
    Well,
    /// The program of `--exec` has ended, with this exit code.
    WithProgram(u8),
}

/// Does what `config` says, and what each of `orders` says from then on, until `stop` or the end of the program that it
/// runs.
///
/// # Errors
/// [`RunError`]: with [`Mode::Daemon`] only at the start.
pub async fn run(config: Config, orders: mpsc::Receiver<Order>, stop: CancellationToken) -> Result<Ended, RunError> {
    match config.mode {
        Mode::Daemon => daemon(config, orders, stop).await,
        Mode::Once | Mode::DryRun => once(config, stop).await.map(|()| Ended::Well),
    }
}

async fn once(config: Config, stop: CancellationToken) -> Result<(), RunError> {
    let shared = share(&config.registry, config.drops, Arc::default(), &stop)?;
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

async fn daemon(config: Config, mut orders: mpsc::Receiver<Order>, stop: CancellationToken) -> Result<Ended, RunError> {
    let status = Arc::new(Status::default());
    let progress = status.progress.clone();
    let started = (config.exec.clone(), config.pid_file.clone(), config.http);
    let (exec, pid_file, http) = started.clone();
    let listener = match http {
        Some(address) => Some(listen(address).await?),
        None => None,
    };
    let mut fleet = Fleet::start(config, status.clone(), &stop)?;
    let serving =
        listener.map(|at| tokio::spawn(stop.clone().run_until_cancelled_owned(monitoring::serve(at, status))));
    let _pid_file = pid_file.map(PidFile::write).transpose()?;
    let told =
        Systemd::from_environment().map(|s| tokio::spawn(systemd::follow(s, progress.subscribe(), stop.clone())));
    let (signals, forwarded) = mpsc::channel(16);
    let mut program = exec.map(|spec| tokio::spawn(supervise(spec, progress.subscribe(), forwarded, stop.clone())));
    let mut ended = Ended::Well;
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            code = ended_program(&mut program) => {
                ended = code.map_or(Ended::Well, Ended::WithProgram);
                program = None;
                break;
            }
            Some(order) = orders.recv() => match order {
                Order::Configure(config) => {
                    if (&config.exec, &config.pid_file, config.http) != (&started.0, &started.1, started.2) {
                        warn!("a change of exec, pid_file or http_addr takes effect at the next start only");
                    }
                    fleet.change(*config, &stop).await;
                }
                // A program that takes no signals is about to end.
                Order::Forward(signal) => drop(signals.try_send(signal)),
            },
        }
    }
    // The program first: it may need its files to end well.
    stop.cancel();
    if let Some(program) = program {
        let _ = program.await;
    }
    fleet.end().await;
    if let Some(told) = told {
        let _ = told.await;
    }
    if let Some(serving) = serving {
        let _ = serving.await;
    }
    Ok(ended)
}

async fn listen(address: SocketAddr) -> Result<TcpListener, RunError> {
    let failed = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    info!("health and metrics at http://{}", listener.local_addr().map_err(failed)?);
    Ok(listener)
}

/// Waits for the end of the program; for ever if there is none.
async fn ended_program(program: &mut Option<JoinHandle<Option<u8>>>) -> Option<u8> {
    match program {
        Some(program) => program.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

/// A file with our process id; gone with this value.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: PathBuf) -> Result<Self, RunError> {
        match std::fs::write(&path, format!("{}\n", std::process::id())) {
            Ok(()) => Ok(Self(path)),
            Err(source) => Err(RunError::PidFile { path, source }),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn share(
    registry: &ClientConfig,
    drops: DropPolicy,
    progress: Arc<Progress>,
    stop: &CancellationToken,
) -> Result<Shared, RunError> {
    if let Some(warning) = registry.warning() {
        warn!("{warning}");
    }
    let sources = SourceWatcher::new();
    Ok(Shared {
        watches: Watches::new(Client::new(registry)?, drops, sources.clone(), stop.child_token()),
        sources,
        docker: Arc::new(Docker::default()),
        reloads: Arc::new(Reloads::default()),
        host: Arc::new(Host::look()),
        progress,
    })
}

/// The templates at work.
struct Fleet {
    registry: ClientConfig,
    drops: DropPolicy,
    shared: Shared,
    status: Arc<Status>,
    workers: Vec<Running>,
}

struct Running {
    spec: JobSpec,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Fleet {
    /// Refuses to start if another templater has a destination, or if no template at all can be used.
    fn start(config: Config, status: Arc<Status>, stop: &CancellationToken) -> Result<Self, RunError> {
        let shared = share(&config.registry, config.drops, status.progress.clone(), stop)?;
        status.works_by(&shared.watches, &shared.reloads);
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
        Ok(Self { workers: workers.collect(), registry: config.registry, drops: config.drops, shared, status })
    }

    /// Ends what `config` no longer has, starts what is new, leaves the rest undisturbed; or does nothing at all, if
    /// something of what is new is wrong.
    async fn change(&mut self, config: Config, stop: &CancellationToken) {
        let same_registry = config.registry == self.registry && config.drops == self.drops;
        let shared = if same_registry {
            Ok(self.shared.clone())
        } else {
            share(&config.registry, config.drops, self.shared.progress.clone(), stop)
        };
        let shared = match shared {
            Ok(shared) => shared,
            Err(error) => return error!("the new configuration is not used; the old one stays\n  cause: {error}"),
        };
        // A template that is not followed is read again by being begun anew.
        let keep = |running: &Running| same_registry && running.spec.follow && config.jobs.contains(&running.spec);
        let new = config.jobs.iter().filter(|job| !self.workers.iter().any(|w| keep(w) && w.spec == **job));
        let (mut workers, mut faults) = (Vec::new(), Vec::new());
        for spec in new {
            let (worker, fault) = Worker::new(spec.clone(), shared.clone());
            workers.push((spec.clone(), worker));
            faults.extend(fault);
        }
        if !faults.is_empty() {
            error!("the new configuration is not used; the old one stays\n{}", faults.join("\n"));
            if !same_registry {
                shared.watches.close().await;
            }
            return;
        }
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.workers).into_iter().partition(keep);
        self.workers = kept;
        join(gone).await; // their destinations must be free before others take them
        let old = std::mem::replace(&mut self.shared, shared);
        self.status.works_by(&self.shared.watches, &self.shared.reloads);
        if !same_registry {
            old.watches.close().await;
            (self.registry, self.drops) = (config.registry, config.drops);
        }
        self.workers.extend(workers.into_iter().map(|(spec, worker)| Running::start(spec, worker, stop)));
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
