//! Which endpoints there are: the table, and how a path finds its place there.

use std::{collections::HashMap, sync::LazyLock};

use hyper::Method;
use kvstore_core::acl::{Level, Resource};

use super::{
    Answer, App, Call, Later, Received, acl, agent, agent_health, agent_service, blocking::Read, caller::Rule, catalog,
    coordinate, error::ApiError, event, health, host, kv, maintenance, members, mesh, metrics, monitor, operator, path,
    prepared_query, receive::MAX_BODY_BYTES, replication, session, snapshot, status, txn,
};

/// How an endpoint is carried out.
pub(super) enum Handler {
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
pub(super) struct Route {
    pub(super) method: Method,
    /// Ends in `/` if something follows, which may stand as `*` inside too; else the whole path.
    pub(super) path: &'static str,
    /// What its caller needs.
    pub(super) rule: Rule,
    pub(super) handler: Handler,
}

impl Route {
    /// Whether who writes must be known. A snapshot holds all there is, tokens in definitions too, and so do changes.
    pub(super) fn writes(&self) -> bool {
        matches!(self.handler, Handler::Write(_) | Handler::Upload(_)) || WHOLE.contains(&self.path)
    }

    /// The most bytes of a body that a write takes.
    pub(super) fn max_bytes(&self, app: &App) -> usize {
        match self.path {
            "/v1/kv/" => app.about.max_value_bytes,
            "/v1/txn" => app.about.max_txn_bytes,
            _ => MAX_BODY_BYTES,
        }
    }

    /// Whether it is an old client's GET where PUT is meant.
    pub(super) fn is_get_as_put(&self) -> bool {
        self.method == Method::GET && matches!(self.handler, Handler::Write(_))
    }
}

pub(super) const fn read(path: &'static str, rule: Rule, handler: fn(&App, &Call) -> Result<Read, ApiError>) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Read(handler) }
}

pub(super) const fn plain(path: &'static str, rule: Rule, handler: fn(&App, &Call) -> Answer) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Plain(handler) }
}

pub(super) const fn later(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Later(handler) }
}

pub(super) const fn put(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::PUT, path, rule, handler: Handler::Write(handler) }
}

const fn upload(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call, Received) -> Later<'a>) -> Route {
    Route { method: Method::PUT, path, rule, handler: Handler::Upload(handler) }
}

pub(super) const fn post(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::POST, path, rule, handler: Handler::Write(handler) }
}

pub(super) const fn delete(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::DELETE, path, rule, handler: Handler::Write(handler) }
}

/// A handler of an old client's GET where PUT is meant; not with `--strict-consul`.
const fn get_as_put(path: &'static str, rule: Rule, handler: for<'a> fn(&'a App, Call) -> Later<'a>) -> Route {
    Route { method: Method::GET, path, rule, handler: Handler::Write(handler) }
}

/// Reads that show every row, whatever it is.
pub(super) const WHOLE: &[&str] = &["/v1/snapshot", CHANGES];

/// Of replicas alone, and not in Consul.
pub(super) const CHANGES: &str = "/v1/internal/flotilla/changes";

/// Every endpoint: these, and those of whole areas. Methods of one path stand together.
pub(super) static TABLES: &[&[Route]] = &[ROUTES, prepared_query::ROUTES, operator::ROUTES, acl::ROUTES, mesh::ROUTES];

pub(super) static ROUTES: &[Route] = &[
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
pub(super) struct Group {
    pub(super) first: usize,
    pub(super) routes: &'static [Route],
}

/// No route has more parts than this; what comes after belongs to a name.
const MAX_PARTS: usize = 8;

/// The routes of the path that fits best, all methods, and what comes after the route's own part.
pub(super) fn find(path: &str) -> Option<(Group, &str)> {
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
