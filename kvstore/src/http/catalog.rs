//! `/v1/catalog`.

use std::collections::BTreeMap;

use kvstore_client::types::{
    CatalogDeregistration, CatalogNode, CatalogRegistration, CatalogServices, HealthCheck, Node, NodeService,
};
use kvstore_core::{
    Command, InstanceView, State, Target, WatchKey, filter,
    names::{CheckId, InstanceId, NodeKey, ServiceKey},
};

use serde::Serialize;

use crate::agent::registration::is_default;

use super::{
    Answer, App, Call,
    blocking::{Found, Read, required},
    coordinate::Near,
    error::ApiError,
    filter::Wanted,
    json,
    query::same_datacenter,
    register,
    shape::{self, Shape},
    strict,
};

fn json_found(value: &impl serde::Serialize) -> Found {
    Found::Json(super::json::compact(value))
}

pub(super) fn shape(app: &App) -> Shape {
    Shape { datacenter: app.about.datacenter.clone() }
}

/// What a list of instances is narrowed by: `tag=` (all of them, any case) and `node-meta=`.
pub(super) struct Narrow {
    tags: Vec<String>,
    node_meta: Vec<String>,
}

impl Narrow {
    pub(super) fn of(call: &Call) -> Self {
        let all = |name| call.query.all(name).map(ToOwned::to_owned).collect();
        Self { tags: all("tag"), node_meta: all("node-meta") }
    }

    pub(super) fn takes(&self, view: &InstanceView<'_>) -> bool {
        let has = |tag: &String| view.instance.tags.iter().any(|own| own.to_lowercase() == tag.to_lowercase());
        self.tags.iter().all(has) && shape::has_meta(view.node.meta.as_ref(), &self.node_meta)
    }
}

pub(super) fn datacenters(app: &App, _: &Call) -> Answer {
    Ok(json(&[&app.about.datacenter]))
}

pub(super) fn nodes(app: &App, call: &Call) -> Result<Read, ApiError> {
    let (shape, narrow, near) = (shape(app), Narrow::of(call), Near::of(app, call));
    let wanted = Wanted::of(app, call, filter::NODE)?;
    let sorts = near.sorts();
    let read = Read::of([WatchKey::Nodes], move |state| {
        let fitting = state.nodes().filter(|(_, node)| shape::has_meta(node.meta.as_ref(), &narrow.node_meta));
        let fitting = fitting.filter(|(_, node)| wanted.node(node));
        let fitting = near.sorted(fitting, |(key, _)| key).into_iter();
        json_found(&fitting.map(|(_, node)| shape.node(node)).collect::<Vec<_>>())
    });
    Ok(read.shared().alone_if(sorts))
}

pub(super) fn services(app: &App, call: &Call) -> Result<Read, ApiError> {
    let narrow = Narrow::of(call);
    let wanted = Wanted::of(app, call, filter::CATALOG)?;
    let mut keys = wanted.watched(&app.state(&call.caller));
    keys.push(WatchKey::Services);
    if !narrow.node_meta.is_empty() {
        keys.push(WatchKey::Nodes);
    }
    // Who filters waits on each host that is there now: it must wait anew as soon as another one is.
    let narrows = wanted.narrows();
    let read = Read::of(keys, move |state| {
        let mut listed = CatalogServices::new();
        for service in state.services() {
            let fits = |view: &InstanceView<'_>| narrow.takes(view) && wanted.listed(view);
            let mut instances = state.instances_of(service).filter(fits).peekable();
            if let Some(first) = instances.peek() {
                let name = first.instance.service.clone();
                listed.insert(name, shape::service_tags(instances));
            }
        }
        json_found(&listed)
    });
    Ok(read.shared().alone_if(narrows))
}

pub(super) fn service(app: &App, call: &Call) -> Result<Read, ApiError> {
    let service = ServiceKey::new(required(&call.rest, "Missing service name")?)?;
    let (shape, narrow, near) = (shape(app), Narrow::of(call), Near::of(app, call));
    let wanted = Wanted::of(app, call, filter::CATALOG)?;
    let sorts = near.sorts();
    let read = Read::of([WatchKey::ServiceStatus(service.clone())], move |state| {
        let rows = state.instances_of(&service).filter(|view| narrow.takes(view) && wanted.listed(view));
        let rows = near.sorted(rows, |view| &view.instance.node).into_iter();
        json_found(&rows.map(|view| shape.catalog_service(&view)).collect::<Vec<_>>())
    });
    Ok(read.shared().alone_if(sorts))
}

/// The node's row and instances; `None` if there is no such node.
fn node_read(
    app: &App,
    call: &Call,
    render: fn(&State, &Shape, &Wanted, Option<&NodeKey>) -> Found,
) -> Result<Read, ApiError> {
    let node = NodeKey::new(required(&call.rest, "Missing node name")?)?;
    let (shape, wanted) = (shape(app), Wanted::of(app, call, filter::SERVICE)?);
    let read = Read::of([WatchKey::Node(node.clone())], move |state| {
        render(state, &shape, &wanted, state.node(&node).is_some().then_some(&node))
    });
    Ok(read.shared())
}

pub(super) fn node(app: &App, call: &Call) -> Result<Read, ApiError> {
    node_read(app, call, |state, shape, wanted, node| {
        json_found(&node.and_then(|key| {
            let services = state.instances_on(key).filter(|i| wanted.instance(i));
            let services = services.map(|i| (i.id.to_string(), shape::node_service(i)));
            Some(CatalogNode { node: shape.node(state.node(key)?), services: services.collect::<BTreeMap<_, _>>() })
        }))
    })
}

pub(super) fn node_services(app: &App, call: &Call) -> Result<Read, ApiError> {
    node_read(app, call, |state, shape, wanted, node| {
        let row = node.and_then(|key| state.node(key)).map(|node| shape.node(node));
        let instances = |key| state.instances_on(key).filter(|i| wanted.instance(i));
        let services = node.map(|key| instances(key).map(|i| shape::node_service(i)).collect::<Vec<_>>());
        json_found(&serde_json::json!({"Node": row, "Services": services}))
    })
}

/// A host with all that is on it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Host {
    #[serde(flatten)]
    node: Node,
    services: Vec<NodeService>,
    checks: Vec<HealthCheck>,
}

/// The whole catalog: one wait tells of everything in it.
pub(super) fn overview(app: &App, call: &Call) -> Result<Read, ApiError> {
    let shape = shape(app);
    // Each host that is there now; of another one the list of hosts tells.
    let mut shows = vec![WatchKey::Nodes];
    shows.extend(app.state(&call.caller).nodes().map(|(key, _)| WatchKey::Node(key.clone())));
    let mut keys = shows.clone();
    keys.push(WatchKey::CheckStatuses);
    shows.push(WatchKey::Checks);
    let read = Read::of(keys, move |state| {
        let hosts = state.nodes().map(|(key, node)| Host {
            node: shape.node(node),
            services: state.instances_on(key).map(|instance| shape::node_service(instance)).collect(),
            checks: state.checks_on(key).map(|check| shape::check(state, check)).collect(),
        });
        json_found(&hosts.collect::<Vec<_>>())
    });
    Ok(read.shared_while(shows))
}

pub(super) async fn register(app: &App, call: Call) -> Answer {
    let body: CatalogRegistration = super::json::decode(&call.body)?;
    same_datacenter(&body.datacenter, &app.about.datacenter)?;
    if app.about.strict_consul
        && let Some(extension) = strict::by_checks(body.checks.iter().chain(&body.check))
    {
        return Err(extension.refused());
    }
    let mut command = register::command(body).map_err(|why| ApiError::Rejected(why.to_string()))?;
    if app.about.strict_consul {
        register::only_echo(&mut command);
    }
    app.submit(&call.caller, command).await?;
    Ok(json(&true))
}

pub(super) async fn deregister(app: &App, call: Call) -> Answer {
    let body: CatalogDeregistration = super::json::decode(&call.body)?;
    same_datacenter(&body.datacenter, &app.about.datacenter)?;
    if body.node.is_empty() {
        return Err(ApiError::Rejected("Must provide node".into()));
    }
    if !is_default(&body.namespace) || !is_default(&body.partition) {
        return Err(ApiError::Rejected(register::InvalidRegistration::Namespace(body.namespace).to_string()));
    }
    let target = if !body.service_id.is_empty() {
        Target::Instance(InstanceId::new(&body.service_id)?)
    } else if !body.check_id.is_empty() {
        Target::Check(CheckId::new(&body.check_id)?)
    } else {
        Target::Node
    };
    app.submit(&call.caller, Command::Deregister { node: NodeKey::new(&body.node)?, target }).await?;
    Ok(json(&true))
}
