//! The HTTP API: a table of routes, one line an endpoint, and what happens between a request and its handler.
//!
//! A *read* says what it depends on and how to render it from a state; `blocking` does the waiting. A *write* makes
//! a command and answers what the store says. Nothing here decides anything about the registry's data.

#![allow(clippy::unnecessary_wraps)] // handlers have one signature, whether they can fail or not

/// Makes an async function a plain function pointer: `later!(kv::put)`.
macro_rules! later {
    ($handler:path) => {
        |app, call| Box::pin($handler(app, call))
    };
}

mod access;
mod acl;
mod agent;
mod agent_health;
mod agent_service;
mod answer;
mod blocking;
mod body;
mod cached;
mod caller;
mod catalog;
mod compress;
mod coordinate;
mod error;
mod event;
mod filter;
pub(crate) mod guard;
#[cfg(any(test, fuzzing))]
pub mod harness;
mod health;
mod host;
#[cfg(test)]
mod hostile;
mod json;
mod kv;
mod maintenance;
mod members;
mod mesh;
mod metrics;
mod monitor;
mod operator;
mod pass_on;
mod path;
mod prepared_query;
mod query;
mod receive;
pub(crate) mod reference;
mod register;
mod replication;
mod reply;
mod request_id;
mod routes;
mod serve;
mod session;
mod shape;
mod shared;
mod snapshot;
mod status;
mod strict;
mod tls;
mod txn;
mod ui;
mod version;

pub use access::{Access, Acl, AgentTokens, digest};
pub(crate) use answer::answer;
pub(crate) use body::Body;
pub use guard::Guard;
pub(crate) use guard::LiveGuard;
pub use serve::BindError;
pub(crate) use serve::{Listener, serve};
pub use tls::{ServerTls, TlsError};

use std::{future::Future, net::IpAddr, path::PathBuf, pin::Pin, sync::Arc};

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::{Response, body::Incoming, header::HeaderMap};
use kvstore_core::{names::NodeKey, near::Distances, version::Callers};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{
    caller::{Caller, Registry, Rule},
    error::ApiError,
    query::Query,
    receive::{BODY_DEADLINE, read_body},
    reply::{empty, json, json_body, text},
    request_id::RequestId,
    routes::{Handler, Route, TABLES, delete, later, plain, post, put, read},
};
use crate::{
    acl::AccessControl,
    agent::{Outputs, Programs},
    connections::Connections,
    coordinates::Coordinates,
    events::Events,
    logging::Logs,
    metrics::{CheckMetrics, DnsMetrics, Metrics, SnapshotMetrics},
    open_files,
    reload::Reload,
    replica::Hub,
    store::Store,
};

/// What every handler works with.
#[derive(Debug)]
pub(crate) struct App {
    registry: Registry,
    /// Facts about this agent.
    pub about: About,
    /// Ends blocking queries.
    pub shutdown: CancellationToken,
    answers: shared::Answers,
    asked: cached::Asked,
    connections: Arc<Connections>,
    coordinates: Arc<Coordinates>,
    events: Events,
    logs: Logs,
    /// Whom this is a replica of, if it is one.
    pub(crate) hub: Option<Arc<Hub>>,
    metrics: Metrics,
    reload: Reload,
    saves: Arc<Semaphore>,
    restores: Semaphore,
}

impl App {
    /// An app that knows `store` and has heard of nothing else yet.
    pub(crate) fn new(
        store: Store,
        control: Arc<AccessControl>,
        about: About,
        shutdown: CancellationToken,
        logs: Logs,
        reload: Reload,
    ) -> Self {
        let endpoints = TABLES.iter().copied().flatten().map(|route| (route.method.as_str(), route.path));
        let metrics = Metrics::new(&store, endpoints);
        let (answers, asked, events) = <(shared::Answers, cached::Asked, Events)>::default();
        let (saves, restores) = (Arc::new(Semaphore::new(snapshot::MAX_SAVES)), Semaphore::new(1));
        let (connections, coordinates) =
            (Connections::new(serve::max_connections(open_files::limit())), Arc::default());
        let registry = Registry::new(store, control);
        Self {
            registry,
            about,
            shutdown,
            answers,
            asked,
            connections,
            coordinates,
            events,
            logs,
            hub: None,
            metrics,
            reload,
            saves,
            restores,
        }
    }

    /// The same for a replica of `hub`.
    pub(crate) fn following(self, hub: Option<Arc<Hub>>) -> Self {
        Self { hub, ..self }
    }

    /// How far hosts are from each other.
    pub(crate) fn distances(&self) -> Arc<dyn Distances> {
        self.coordinates.clone()
    }

    /// Where the agent counts its probes.
    pub(crate) fn check_metrics(&self) -> &CheckMetrics {
        &self.metrics.checks
    }

    /// Where snapshots taken on schedule are counted.
    pub(crate) fn snapshot_metrics(&self) -> &SnapshotMetrics {
        &self.metrics.snapshots
    }

    /// Where DNS counts its questions, to be shown with the rest.
    pub(crate) fn dns_metrics(&self) -> &DnsMetrics {
        &self.metrics.dns
    }
}

/// Facts about this agent, and limits.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// The node whose agent this is.
    pub node: NodeKey,
    /// Its name as configured.
    pub node_name: String,
    /// Its UUID.
    pub node_id: String,
    /// The only datacenter we know.
    pub datacenter: String,
    /// Where others reach this node.
    pub advertise: IpAddr,
    /// The port shown where Consul shows its server port.
    pub server_port: u16,
    /// A key's value has at most this many bytes.
    pub max_value_bytes: usize,
    /// A snapshot to be restored has at most this many bytes, packed or unpacked.
    pub max_snapshot_bytes: usize,
    /// The body of a transaction has at most this many bytes.
    pub max_txn_bytes: usize,
    /// The shortest TTL of a session.
    pub session_ttl_min: std::time::Duration,
    /// Which programs may be registered as checks.
    pub programs: Programs,
    /// What is kept of what checks say.
    pub outputs: Outputs,
    /// Whether what Consul does not have is refused.
    pub strict_consul: bool,
    /// What is closed to whom.
    pub guard: LiveGuard,
    /// The file by which an operator who has lost every token lets a first one be made again.
    pub bootstrap_reset: Option<PathBuf>,
    /// Where callers are looked for, whose version matters.
    pub callers: Option<Callers>,
}

/// The body of a request: from a connection, or at hand.
type Received = Either<Incoming, Full<Bytes>>;

type Answer = Result<Response<Body>, ApiError>;
type Later<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// A request, as handlers see it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// What of the path comes after the route's own part, decoded.
    rest: String,
    query: Query,
    headers: HeaderMap,
    body: Bytes,
    /// Whose connection it is; none over a unix socket.
    from: Option<IpAddr>,
    /// For the log.
    id: RequestId,
    caller: Caller,
}
