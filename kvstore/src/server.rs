//! Builds the agent's parts, says where they listen, and stops them in order.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use kvstore_client::with_causes;
use kvstore_core::{Index, names::NodeKey};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    acl::AccessControl,
    agent,
    config::{self, HttpAddr},
    dns,
    engine::{Embedded, Engine, EngineError, Memory},
    http::{self, About, App, Listener, LiveGuard},
    metrics::CheckMetrics,
    own_node,
    reload::{Reload, Reread},
    replica::{Hub, Replica},
    snapshot::Regular,
    store::{Store, WriteError, Writer},
};

pub use crate::logging::Logs;

/// What the agent gets from the program around it, if it has one.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The log that clients follow.
    pub logs: Logs,
    /// Where the configuration is read again.
    pub reread: Option<Reread>,
}

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The store cannot be opened.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The API cannot be served at that address.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: HttpAddr,
        /// What is wrong.
        #[source]
        source: http::BindError,
    },
    /// The hub cannot be one.
    #[error(transparent)]
    Hub(#[from] kvstore_client::Error),
    /// Its own node cannot be put into the catalog.
    #[error("cannot register this node as {node:?}")]
    Register {
        /// The name.
        node: String,
        /// The store's word.
        #[source]
        source: WriteError,
    },
}

/// An agent that runs. [`Running::wait`] must be awaited for an orderly end.
#[derive(Debug)]
pub struct Running {
    /// Where the API listens, ports as taken.
    pub http: Vec<HttpAddr>,
    /// Where DNS is answered, ports as taken.
    pub dns: Vec<SocketAddr>,
    /// Reads the configuration again.
    pub reload: Reload,
    parts: JoinSet<()>,
    writer: Writer,
    shutdown: CancellationToken,
}

/// Runs the agent until `shutdown`; returns once all is written and closed.
///
/// # Errors
/// [`ServerError`] if it cannot start.
pub async fn run(config: config::Agent, shutdown: CancellationToken) -> Result<(), ServerError> {
    start(config, shutdown).await?.wait().await;
    Ok(())
}

/// Starts the agent by itself.
///
/// # Errors
/// As [`start_in`].
pub async fn start(config: config::Agent, shutdown: CancellationToken) -> Result<Running, ServerError> {
    start_in(Surroundings::default(), config, shutdown).await
}

/// Starts the agent; it is reachable on return. DNS that cannot listen is logged and does not stop the rest.
///
/// # Errors
/// [`ServerError`]; nothing runs then.
pub async fn start_in(
    surroundings: Surroundings,
    config: config::Agent,
    shutdown: CancellationToken,
) -> Result<Running, ServerError> {
    let (engine, replica) = match &config.replica_of {
        None => (open_engine(&config)?, None),
        Some(hub) => {
            let (inbox, replica) = Replica::open(Arc::new(Hub::new(hub)?), config.engine.data_dir())?;
            (Box::new(inbox) as Box<dyn Engine>, Some(replica))
        }
    };
    let (store, writer) = Store::start(engine)?;
    let Surroundings { logs, reread } = surroundings;
    let reload = Reload::new(config.clone(), reread, store.clone(), logs.clone());
    match start_on(&config, &store, replica, &shutdown, logs, reload.clone()).await {
        Ok((http, dns, parts)) => Ok(Running { http, dns, reload, parts, writer, shutdown }),
        Err(error) => {
            shutdown.cancel();
            stop_writer(writer).await;
            Err(error)
        }
    }
}

impl Running {
    /// Waits for the shutdown, then for every part to end in order: no more requests, waiting readers answered, the
    /// queue of writes worked off, the store closed.
    pub async fn wait(mut self) {
        self.shutdown.cancelled().await;
        tracing::info!("stopping");
        while let Some(ended) = self.parts.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a part ended badly");
            }
        }
        stop_writer(self.writer).await;
    }
}

async fn start_on(
    config: &config::Agent,
    store: &Store,
    replica: Option<Replica>,
    shutdown: &CancellationToken,
    logs: Logs,
    reload: Reload,
) -> Result<(Vec<HttpAddr>, Vec<SocketAddr>, JoinSet<()>), ServerError> {
    let node = own_node::key(config);
    let mut parts = JoinSet::new();
    let hub = replica.as_ref().map(Replica::hub);
    if let Some(replica) = replica {
        replica.follow(config, store, shutdown, &mut parts).await;
    } else {
        let source = |source| ServerError::Register { node: config.node_name.clone(), source };
        own_node::register(config, store).await.map_err(source)?;
        for failed in config.definitions.apply(store, &node).await {
            tracing::error!("not registered: {failed}");
        }
    }

    let mut listeners = Vec::new();
    for address in &config.http {
        let bound = Listener::bind(address, config.tls.as_ref());
        listeners.push(bound.map_err(|source| ServerError::Bind { address: address.clone(), source })?);
    }
    let addresses: Vec<HttpAddr> = listeners.iter().map(|listener| listener.address.clone()).collect();

    let about = about(config, node.clone(), reload.guard());
    let control = Arc::<AccessControl>::default();
    let is_replica = hub.is_some();
    let app = App::new(store.clone(), control.clone(), about, shutdown.clone(), logs, reload.clone());
    let app = Arc::new(app.following(hub));
    for listener in listeners {
        tracing::info!(address = %listener.address, "http is listening");
        parts.spawn(http::serve(listener, app.clone()));
    }
    // Whether there is access control does not change while the agent runs.
    let asker = config.guard.access.acl.is_some().then(|| dns::Asker::new(reload.guard(), control));
    let (snapshots, metrics, distances) = (store.snapshots(), app.dns_metrics(), app.distances());
    let served = dns::start(config, &snapshots, asker, metrics, distances, shutdown);
    for error in &served.failed {
        tracing::error!(error = with_causes(error), "DNS is not served as configured; all else runs");
    }
    let dns = served.listening.iter().map(|listening| listening.address).collect();
    for listening in served.listening {
        tracing::info!(address = %listening.address, "dns is listening");
        parts.spawn(listening.stopped());
    }
    if let Some(live) = served.live {
        reload.reaches(live.clone());
        parts.spawn(live.watch_recursors(shutdown.clone()));
    }
    if let Some(lease) = config.engine.lease() {
        parts.spawn(own_node::show_life(store.clone(), reload.clone(), node.clone(), lease, shutdown.clone()));
    }
    // What ends by itself, and whose checks are run, is the hub's business.
    if !is_replica {
        spawn_agent(config, store, node, app.check_metrics(), shutdown, &mut parts);
    }
    if let Some(settings) = config.snapshots.clone() {
        let regular = Regular::new(settings, store.clone(), config, app.snapshot_metrics().clone());
        parts.spawn(regular.run(jiff::Timestamp::now, shutdown.clone()));
    }
    tracing::info!(node = config.node_name, datacenter = config.datacenter, index = %store.state().index(), "ready");
    Ok((addresses, dns, parts))
}

/// Has deadlines kept and this node's checks run.
fn spawn_agent(
    config: &config::Agent,
    store: &Store,
    node: NodeKey,
    runs: &CheckMetrics,
    shutdown: &CancellationToken,
    parts: &mut JoinSet<()>,
) {
    let (timer, stop) = (store.clone(), shutdown.clone());
    parts.spawn(async move { timer.keep_deadlines(stop).await });
    let settings = agent::Settings {
        output_every: config.check_output_interval,
        programs: config.programs,
        outputs: config.check_outputs,
        trust: config.check_trust.clone(),
        runs: runs.clone(),
    };
    let checks = agent::run_apart(store.clone(), node, settings, shutdown.clone());
    parts.spawn(async move {
        if let Err(error) = checks.await {
            tracing::error!(error = with_causes(&error), "this node's health checks are not run");
        }
    });
}

pub(crate) fn about(config: &config::Agent, node: NodeKey, guard: LiveGuard) -> About {
    About {
        node,
        node_name: config.node_name.clone(),
        node_id: config.node_id.clone(),
        datacenter: config.datacenter.clone(),
        advertise: config.advertise,
        server_port: config.server_port,
        max_value_bytes: config.limits.kv_value_bytes,
        max_snapshot_bytes: config.limits.snapshot_bytes,
        max_txn_bytes: config.limits.body_bytes,
        session_ttl_min: config.session_ttl_min,
        programs: config.programs,
        outputs: config.check_outputs,
        strict_consul: config.strict_consul,
        guard,
        bootstrap_reset: config.engine.data_dir().map(|data_dir| data_dir.join("acl-bootstrap-reset")),
        callers: config.callers(),
    }
}

fn open_engine(config: &config::Agent) -> Result<Box<dyn Engine>, EngineError> {
    // The clock only makes the first index of a fresh store unlike that of any earlier life.
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_millis());
    let fresh = Index(u64::try_from(millis).unwrap_or(1).max(1));
    Ok(match &config.engine {
        config::Engine::Memory => Box::new(Memory::new(fresh)),
        config::Engine::Embedded { data_dir } => Box::new(Embedded::open(data_dir, fresh)?),
        #[cfg(feature = "etcd")]
        config::Engine::Etcd { address, data_dir } => {
            Box::new(crate::engine::Etcd::start((**address).clone(), &config.node_id, data_dir, fresh)?)
        }
    })
}

/// Joining a thread blocks, so it is done where that is allowed.
async fn stop_writer(writer: Writer) {
    if let Err(error) = tokio::task::spawn_blocking(move || writer.stop()).await {
        tracing::error!(%error, "the writer was not stopped in order");
    }
}
