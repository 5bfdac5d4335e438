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
pub(crate) mod reference;
mod register;
mod replication;
mod request_id;
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
pub use body::Body;
pub use guard::{Guard, LiveGuard};
pub use serve::{BindError, Listener, serve};
pub use tls::{ServerTls, TlsError};

use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, LazyLock},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, VARY},
};
use kvstore_core::{
    acl::{Level, Resource},
    credentials::Digest,
    names::NodeKey,
    near::Distances,
    version::Callers,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::{
    blocking::Read,
    caller::{Caller, Registry, Rule},
    error::ApiError,
    pass_on::Passing,
    query::Query,
    request_id::{RequestId, X_REQUEST_ID},
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
pub struct App {
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
pub struct About {
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

/// Any other body has at most this many bytes: a registration with all its metadata is far below.
const MAX_BODY_BYTES: usize = 4 << 20;

/// The time a client may take to send a body.
const BODY_DEADLINE: std::time::Duration = std::time::Duration::from_mins(1);

/// Of a body that is refused, this much is waited for, and so long.
const DISCARDED_BYTES: usize = 8 << 20;
const DISCARD_DEADLINE: std::time::Duration = std::time::Duration::from_secs(2);

/// The body of a request: from a connection, or at hand.
type Received = Either<Incoming, Full<Bytes>>;

type Answer = Result<Response<Body>, ApiError>;
type Later<'a> = Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

/// A request, as handlers see it.
#[derive(Clone, Debug)]
pub struct Call {
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

/// How an endpoint is carried out.
enum Handler {
    /// What to read, and what to wait on.
    Read(fn(&App, &Call) -> Result<Read, ApiError>),
    /// An answer from what is at hand.
    Plain(fn(&App, &Call) -> Answer),
    /// An answer that waits for something by its own rules.
    Later(for<'a> fn(&'a App, Call) -> Later<'a>),
    /// A change.
    Write(for<'a> fn(&'a App, Call) -> Later<'a>),
    /// A change whose body has limits of its own.
    Upload(for<'a> fn(&'a App, Call, Received) -> Later<'a>),
}

/// One endpoint with one method.
struct Route {
    method: Method,
    /// Ends in `/` if something follows, which may stand as `*` inside too; else the whole path.
    path: &'static str,
    /// What its caller needs.
    rule: Rule,
    handler: Handler,
}

impl Route {
    /// Whether who writes must be known. A snapshot holds all there is, tokens in definitions too, and so do changes.
    fn writes(&self) -> bool {
        matches!(self.handler, Handler::Write(_) | Handler::Upload(_)) || WHOLE.contains(&self.path)
    }

    /// The most bytes of a body that a write takes.
    fn max_bytes(&self, app: &App) -> usize {
        match self.path {
            "/v1/kv/" => app.about.max_value_bytes,
            "/v1/txn" => app.about.max_txn_bytes,
            _ => MAX_BODY_BYTES,
        }
    }

    /// Whether it is an old client's GET where PUT is meant.
    fn is_get_as_put(&self) -> bool {
        self.method == Method::GET && matches!(self.handler, Handler::Write(_))
    }
}

const fn read(path: &'static str, rule: Rule, handler: fn(&App, &Call) -> Result<Read, ApiError>) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Read(handler) }
}

const fn plain(path: &'static str, rule: Rule, handler: fn(&App, &Call) -> Answer) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Plain(handler) }
}

const fn later(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Later(handler) }
}

const fn put(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::PUT, path, rule, handler: Handler::Write(handler) }
}

const fn upload(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call, Received) -> Later<'a>) -> Route {
    Route { method: Method::PUT, path, rule, handler: Handler::Upload(handler) }
}

const fn post(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::POST, path, rule, handler: Handler::Write(handler) }
}

const fn delete(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::DELETE, path, rule, handler: Handler::Write(handler) }
}

/// A handler of an old client's GET where PUT is meant; not with `--strict-consul`.
const fn get_as_put(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Write(handler) }
}

/// Reads that show every row, whatever it is.
const WHOLE: &[&str] = &["/v1/snapshot", CHANGES];

/// Of replicas alone, and not in Consul.
const CHANGES: &str = "/v1/internal/flotilla/changes";

/// Every endpoint: these, and those of whole areas. Methods of one path stand together.
static TABLES: &[&[Route]] = &[ROUTES, prepared_query::ROUTES, operator::ROUTES, acl::ROUTES, mesh::ROUTES];

static ROUTES: &[Route] = &[
    read("/v1/kv/", Rule::Rows, kv::get),
    put("/v1/kv/", Rule::Rows, later!(kv::put)),
    delete("/v1/kv/", Rule::Rows, later!(kv::delete)),
    read("/v1/health/service/", Rule::Rows, health::service),
    read("/v1/health/checks/", Rule::Rows, health::checks),
    read("/v1/health/node/", Rule::Rows, health::node),
    read("/v1/health/state/", Rule::Rows, health::state),
    put("/v1/catalog/register", Rule::Rows, later!(catalog::register)),
    put("/v1/catalog/deregister", Rule::Rows, later!(catalog::deregister)),
    plain("/v1/catalog/datacenters", Rule::Rows, catalog::datacenters),
    read("/v1/catalog/nodes", Rule::Rows, catalog::nodes),
    read("/v1/catalog/services", Rule::Rows, catalog::services),
    read("/v1/catalog/service/", Rule::Rows, catalog::service),
    read("/v1/catalog/node/", Rule::Rows, catalog::node),
    read("/v1/catalog/node-services/", Rule::Rows, catalog::node_services),
    read("/v1/internal/ui/nodes", Rule::Rows, catalog::overview),
    plain("/v1/agent/self", Rule::AGENT_READ, agent::about),
    plain("/v1/agent/services", Rule::Rows, agent::services),
    plain("/v1/agent/checks", Rule::Rows, agent::checks),
    put("/v1/agent/service/register", Rule::Rows, later!(agent::register_service)),
    put("/v1/agent/service/deregister/", Rule::Rows, later!(agent::deregister_service)),
    later("/v1/agent/service/", Rule::Rows, later!(agent_service::get)),
    plain("/v1/agent/health/service/id/", Rule::Rows, agent_health::by_id),
    plain("/v1/agent/health/service/name/", Rule::Rows, agent_health::by_name),
    put("/v1/agent/service/maintenance/", Rule::Rows, later!(maintenance::of_instance)),
    put("/v1/agent/maintenance", Rule::Rows, later!(maintenance::of_node)),
    put("/v1/agent/check/register", Rule::Rows, later!(agent::register_check)),
    put("/v1/agent/check/deregister/", Rule::Rows, later!(agent::deregister_check)),
    put("/v1/agent/check/pass/", Rule::Rows, later!(agent::pass_check)),
    get_as_put("/v1/agent/check/pass/", Rule::Rows, later!(agent::pass_check)),
    put("/v1/agent/check/warn/", Rule::Rows, later!(agent::warn_check)),
    get_as_put("/v1/agent/check/warn/", Rule::Rows, later!(agent::warn_check)),
    put("/v1/agent/check/fail/", Rule::Rows, later!(agent::fail_check)),
    get_as_put("/v1/agent/check/fail/", Rule::Rows, later!(agent::fail_check)),
    put("/v1/agent/check/update/", Rule::Rows, later!(agent::update_check)),
    plain("/v1/agent/members", Rule::Rows, members::list),
    put("/v1/agent/join/", Rule::AGENT_WRITE, later!(members::join)),
    put("/v1/agent/leave", Rule::AGENT_WRITE, later!(members::leave)),
    put("/v1/agent/force-leave/", Rule::OPERATOR_WRITE, later!(members::force_leave)),
    put("/v1/agent/reload", Rule::AGENT_WRITE, later!(members::reload)),
    plain("/v1/agent/host", Rule::OPERATOR_READ, host::facts),
    plain("/v1/agent/version", Rule::AGENT_READ, host::version),
    plain("/v1/agent/metrics", Rule::AGENT_READ, metrics::show),
    plain("/v1/agent/monitor", Rule::AGENT_READ, monitor::follow),
    put("/v1/session/create", Rule::Rows, later!(session::create)),
    put("/v1/session/destroy/", Rule::Rows, later!(session::destroy)),
    put("/v1/session/renew/", Rule::Rows, later!(session::renew)),
    read("/v1/session/info/", Rule::Rows, session::info),
    read("/v1/session/node/", Rule::Rows, session::node),
    read("/v1/session/list", Rule::Rows, session::list),
    put("/v1/txn", Rule::Rows, later!(txn::run)),
    put("/v1/event/fire/", Rule::Named(Resource::Event, Level::Write), later!(event::fire)),
    later("/v1/event/list", Rule::Rows, later!(event::list)),
    put("/v1/coordinate/update", Rule::Rows, later!(coordinate::update)),
    later("/v1/coordinate/nodes", Rule::Rows, later!(coordinate::nodes)),
    later("/v1/coordinate/node/", Rule::Rows, later!(coordinate::node)),
    plain("/v1/coordinate/datacenters", Rule::Rows, coordinate::datacenters),
    plain("/v1/snapshot", Rule::ACL_WRITE, snapshot::save),
    upload("/v1/snapshot", Rule::ACL_WRITE, |app, call, body| Box::pin(snapshot::restore(app, call, body))),
    later(CHANGES, Rule::ACL_WRITE, later!(replication::changes)),
    plain("/v1/status/leader", Rule::Open, status::leader),
    plain("/v1/status/peers", Rule::Open, status::peers),
];

/// The routes of each path. Whether something follows is part of the key: `/v1/acl/token` and `/v1/acl/token/` differ.
static PATHS: LazyLock<HashMap<(&'static str, bool), Group>> = LazyLock::new(|| {
    let key = |path: &'static str| path.strip_suffix('/').map_or((path, false), |own| (own, true));
    let plain = groups().filter(|group| !group.routes[0].path.contains('*'));
    plain.map(|group| (key(group.routes[0].path), group)).collect()
});

static KEYS: LazyLock<Group> = LazyLock::new(|| PATHS[&("/v1/kv", true)]);

/// The routes of each path with a `*`, by what is before and after it.
static STARRED: LazyLock<Vec<(&'static str, &'static str, Group)>> = LazyLock::new(|| {
    let split = |group: Group| group.routes[0].path.split_once('*').map(|(before, after)| (before, after, group));
    groups().filter_map(split).collect()
});

fn groups() -> impl Iterator<Item = Group> {
    let paths = TABLES.iter().flat_map(|table| table.chunk_by(|a, b| a.path == b.path));
    paths.scan(0, |first, routes| {
        let group = Group { first: *first, routes };
        *first += routes.len();
        Some(group)
    })
}

/// The routes of one path, and the number of the first among all.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    routes: &'static [Route],
}

/// No route has more parts than this; what comes after belongs to a name.
const MAX_PARTS: usize = 8;

/// The routes of the path that fits best, all methods, and what comes after the route's own part.
fn find(path: &str) -> Option<(Group, &str)> {
    // Most requests; whatever follows is a key.
    if let Some(key) = path.strip_prefix(path::KEYS) {
        return Some((*KEYS, key));
    }
    if let Some(group) = PATHS.get(&(path, false)) {
        return Some((*group, ""));
    }
    let inside = |(before, after, _): &&(&str, &str, _)| {
        path.strip_prefix(before).is_some_and(|rest| rest.len() >= after.len() && rest.ends_with(after))
    };
    if let Some((before, after, group)) = STARRED.iter().find(inside) {
        return Some((*group, &path[before.len()..path.len() - after.len()]));
    }
    // `/v1/kv` is the same as `/v1/kv/`: nothing follows.
    let parts = path.match_indices('/').nth(MAX_PARTS).map_or(path, |(end, _)| &path[..end]);
    let mut ends = [path.len()].into_iter().chain(parts.rmatch_indices('/').map(|(end, _)| end));
    let found = ends.find_map(|end| Some((end, PATHS.get(&(&path[..end], true))?)));
    found.map(|(end, group)| (*group, path.get(end + 1..).unwrap_or_default()))
}

/// Answers one request; never fails: what goes wrong is an answer too.
pub(crate) async fn answer(app: &Arc<App>, request: Request<Received>, from: Option<IpAddr>) -> Response<Body> {
    let api = request.uri().path().starts_with("/v1/");
    let gzip = compress::accepted(request.headers());
    // The path only: a parameter may be a token.
    let logged =
        tracing::enabled!(tracing::Level::DEBUG).then(|| (request.method().clone(), request.uri().path().to_owned()));
    let id = RequestId::of(request.headers());
    let (started, mut seen) = (Instant::now(), Seen::default());
    let mut response = route(app, request, from, &id, &mut seen).await.unwrap_or_else(ApiError::into_response);
    if gzip {
        response = compress::worth_it(response).await;
    }
    let status = response.status().as_u16();
    app.metrics.requests.answered(seen.route, seen.waited, status, started);
    if let Some((method, path)) = logged {
        tracing::debug!(%method, path, status, took = ?started.elapsed(), request = %id, "request");
    }
    let guard = app.about.guard.now();
    if api {
        const ACL_POLICY: HeaderName = HeaderName::from_static("x-consul-default-acl-policy");
        let headers = response.headers_mut();
        let policy = guard.access.default_policy();
        headers.insert(ACL_POLICY, HeaderValue::from_static(policy));
        headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    for (name, value) in &guard.headers {
        response.headers_mut().insert(name, value.clone());
    }
    // Who has none of its own does not look for ours.
    if let RequestId::Given(given) = id
        && !app.about.strict_consul
    {
        response.headers_mut().insert(X_REQUEST_ID, given);
    }
    response
}

/// What a request turned out to be, for who counts them.
#[derive(Debug, Default)]
struct Seen {
    route: Option<usize>,
    waited: bool,
}

async fn route(app: &App, request: Request<Received>, from: Option<IpAddr>, id: &RequestId, seen: &mut Seen) -> Answer {
    let (head, incoming) = request.into_parts();
    let strict = app.about.strict_consul;
    let method = if head.method == Method::HEAD && !strict { Method::GET } else { head.method.clone() };
    let Some(path) = path::canonical(head.uri.path(), &method, strict, |path| find(path).is_some()) else {
        return path::redirect(&head.uri);
    };
    let guard = app.about.guard.now();
    guard.check(&path, guard::writes(&head.method), from)?;
    if let Some(file) = ui::answer(&method, &path) {
        return Ok(file);
    }
    let Some((group, rest)) = find(&path) else { return Err(ApiError::no_such_path(&path)) };
    if method == Method::OPTIONS {
        return Ok(options(strict, group.routes));
    }
    if strict && group.routes[0].path == CHANGES {
        return Err(ApiError::no_such_path(&path));
    }
    let taken = |route: &Route| route.method == method && !(strict && route.is_get_as_put());
    let Some(at) = group.routes.iter().position(taken) else {
        let body = format!("method {} not allowed", head.method);
        return Ok(allow(StatusCode::METHOD_NOT_ALLOWED, strict, group.routes, body.into()));
    };
    let route = &group.routes[at];
    if route.is_get_as_put() {
        guard.check(&path, true, from)?;
    }
    if route.writes() && guard::is_cross_site(&head.headers) {
        return Err(ApiError::Forbidden("Pages of other sites may not write"));
    }
    seen.route = Some(group.first + at);
    let rest = query::decode(rest).filter(|rest| !rest.contains(char::is_control)).ok_or(ApiError::BadPath)?;
    let query = Query::parse(head.uri.query())?;
    if let Some(hub) = app.hub.as_deref().filter(|_| pass_on::is_passed_on(route, &query)) {
        let asked = Passing { method: &head.method, uri: &head.uri, headers: &head.headers, id, query: &query };
        return pass_on::pass_on(app, hub, route, asked, incoming).await;
    }
    let caller = admitted(app, &guard.access, route, &rest, guard.access.shown(&head.headers, &query))?;
    query.same_place(&app.about.datacenter)?;
    if strict && let Some(extension) = strict::by_parameters(&method, route.path, &query) {
        return Err(extension.refused());
    }
    let passed_on = pass_on::was_passed_on(&head.headers) && !strict;
    let mut call = Call { rest, query, headers: head.headers, body: Bytes::new(), from, id: id.clone(), caller };
    seen.waited = ["index", "hash"].into_iter().any(|name| call.query.get(name).is_some_and(|v| !v.is_empty()));
    let pretty = call.query.has("pretty");
    let cached = cached::asked(app, route, &call)?;
    let mut response = match &route.handler {
        Handler::Plain(handler) => handler(app, &call)?,
        Handler::Read(_) | Handler::Later(_) if seen.waited && guard.access.is_guarded() => {
            while_admitted(app, group.first + at, route, call).await?
        }
        Handler::Read(handler) => read_once(app, group.first + at, call, *handler).await?,
        Handler::Later(handler) => handler(app, call).await?,
        Handler::Write(handler) => {
            call.body = read_body(incoming, route.max_bytes(app), BODY_DEADLINE).await?;
            handler(app, call).await?
        }
        Handler::Upload(handler) => handler(app, call, incoming).await?,
    };
    blocking::tell_age(app, response.headers_mut());
    if passed_on {
        pass_on::tell_index(app, response.headers_mut());
    }
    cached::tell(cached, &mut response);
    Ok(if pretty { prettied(response) } else { response })
}

/// Who shows this token, if they may ask this of that route.
fn admitted(app: &App, access: &Access, route: &Route, rest: &str, shown: Option<Digest>) -> Result<Caller, ApiError> {
    if route.rule == Rule::Open {
        return Ok(Caller::default());
    }
    let caller = app.registry.caller(access, shown)?;
    caller.admit(route.writes())?;
    // Without access control there is nothing of it to be guarded, which is what the handler says.
    if access.acl.is_some() || !matches!(route.rule, Rule::Needs(Resource::Acl, _)) {
        route.rule.check(&caller, &app.about.node_name, rest)?;
    }
    Ok(caller)
}

async fn read_once(app: &App, number: usize, call: Call, handler: fn(&App, &Call) -> Result<Read, ApiError>) -> Answer {
    let read = handler(app, &call)?;
    blocking::answer(app, number, call, read).await
}

/// Answers who waits: anew once their token lets them do other things than when the wait began, and not at all once it
/// lets them in no more.
async fn while_admitted(app: &App, number: usize, route: &Route, mut call: Call) -> Answer {
    loop {
        let once: Later<'_> = match &route.handler {
            Handler::Later(handler) => handler(app, call.clone()),
            Handler::Read(handler) => Box::pin(read_once(app, number, call.clone(), *handler)),
            _ => unreachable!("nobody waits for another kind of answer"),
        };
        let answer = tokio::select! {
            answer = once => Some(answer),
            () = app.registry.changed(&call.caller, &app.about.guard) => None,
        };
        call.caller = admitted(app, &app.about.guard.now().access, route, &call.rest, call.caller.shown())?;
        if let Some(answer) = answer {
            return answer;
        }
    }
}

/// The whole body, if it comes in time and is not too long; chunked ones are measured too.
async fn read_body(mut body: Received, max_bytes: usize, deadline: std::time::Duration) -> Result<Bytes, ApiError> {
    let declared = hyper::body::Body::size_hint(&body).lower();
    let too_large = |bytes: Option<u64>| ApiError::BodyTooLarge { bytes, max_bytes };
    if declared > max_bytes as u64 {
        discard(&mut body).await;
        return Err(too_large(Some(declared)));
    }
    let collect = Limited::new(&mut body, max_bytes).collect();
    match tokio::time::timeout(deadline, collect).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(&mut body).await;
            Err(too_large(None))
        }
        Ok(Err(error)) => Err(ApiError::BrokenBody(error.to_string())),
        Err(_) => Err(ApiError::SlowBody),
    }
}

/// Takes what is left of a refused body, within bounds. Most clients listen only once they have sent all, and a connection
/// that is closed before that takes the refusal with it.
async fn discard(body: &mut Received) {
    let all = async {
        let mut left = DISCARDED_BYTES;
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    let _ = tokio::time::timeout(DISCARD_DEADLINE, all).await;
}

/// The methods of a path; for one query with a body, as Consul has it.
fn options(strict: bool, routes: &[Route]) -> Response<Body> {
    let is_query = routes.iter().any(|route| route.path.starts_with("/v1/query/"));
    let body = if is_query { Bytes::from_static(b"{}") } else { Bytes::new() };
    let mut response = allow(StatusCode::OK, strict, routes, body);
    if is_query {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    response
}

/// An answer that says which methods the path takes.
fn allow(status: StatusCode, strict: bool, routes: &[Route], body: Bytes) -> Response<Body> {
    let taken = routes.iter().filter(|route| !(strict && route.is_get_as_put()));
    let methods = taken.fold("OPTIONS".to_owned(), |list, route| format!("{list},{}", route.method));
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(ALLOW, HeaderValue::from_str(&methods).expect("methods are plain ASCII"));
    response
}

/// A text for people.
fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A success without a body.
fn empty() -> Response<Body> {
    Response::new(Body::default())
}

/// An answer of JSON, compact; see [`prettied`].
fn json(value: &impl serde::Serialize) -> Response<Body> {
    json_bytes(json::compact(value))
}

fn json_bytes(bytes: Bytes) -> Response<Body> {
    json_body(Body::new(bytes))
}

fn json_body(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    // All that a read adds; else they would move once on the way.
    response.headers_mut().reserve(12);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// `?pretty`: JSON with four spaces and a line end; anything else as it is.
fn prettied(response: Response<Body>) -> Response<Body> {
    if response.headers().get(CONTENT_TYPE).is_none_or(|t| t != "application/json") {
        return response;
    }
    response.map(|body| body.whole().map(|bytes| Body::new(json::pretty(bytes))).unwrap_or(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_routes_and_what_follows() {
        let own = |path: &str| find(path).map(|(group, rest)| (group.routes[0].path, rest.to_owned()));
        for (path, route, rest) in [
            ("/v1/kv/a/b", "/v1/kv/", "a/b"),
            ("/v1/kv/", "/v1/kv/", ""),
            ("/v1/kv", "/v1/kv/", ""),
            ("/v1/kv//x", "/v1/kv/", "/x"),
            ("/v1/agent/service/register", "/v1/agent/service/register", ""),
            ("/v1/agent/service/deregister/a/b", "/v1/agent/service/deregister/", "a/b"),
            ("/v1/agent/service/web", "/v1/agent/service/", "web"),
            ("/v1/agent/service/a/b/c/d/e/f/g", "/v1/agent/service/", "a/b/c/d/e/f/g"),
            ("/v1/agent/services", "/v1/agent/services", ""),
            ("/v1/catalog/services", "/v1/catalog/services", ""),
            ("/v1/catalog/service/web", "/v1/catalog/service/", "web"),
            ("/v1/query", "/v1/query", ""),
            ("/v1/query/", "/v1/query/", ""),
            ("/v1/query/web", "/v1/query/", "web"),
            ("/v1/query/web/execute", "/v1/query/*/execute", "web"),
            ("/v1/query/a/b/explain", "/v1/query/*/explain", "a/b"),
            ("/v1/query/*/execute", "/v1/query/*/execute", "*"),
            ("/v1/query//execute", "/v1/query/*/execute", ""),
            ("/v1/query/execute", "/v1/query/", "execute"),
        ] {
            assert_eq!(own(path), Some((route, rest.to_owned())), "{path}");
        }
        for path in ["/", "/v1", "/v1/nope", "/v1/kvx", "/v2/kv/a", "/v1/catalog/nodes/x"] {
            assert_eq!(own(path), None, "{path}");
        }
    }

    #[test]
    fn every_route_is_found_by_its_own_path() {
        for route in TABLES.iter().copied().flatten() {
            let (group, rest) = find(route.path).unwrap();
            let rest_fits = if route.path.contains('*') { rest == "*" } else { rest.is_empty() };
            assert!(group.routes.iter().any(|r| std::ptr::eq(r, route)) && rest_fits, "{} is hidden", route.path);
            let same = |other: &&Route| other.path == route.path && other.method == route.method;
            assert_eq!(TABLES.iter().copied().flatten().filter(same).count(), 1, "{} is there twice", route.path);
            assert!(route.path.matches('/').count() <= MAX_PARTS, "{} is never looked for", route.path);
        }
    }
}
