//! Connect, config entries, intentions and peerings: honest emptiness. No mesh is run here, so what can be listed is
//! empty, and what would change something is refused.

use hyper::StatusCode;
use kvstore_core::acl::{Level, Resource};
use serde_json::{Value, json};

use super::{
    Answer, App, Call, Route, Rule,
    blocking::{Read, required},
    delete,
    error::ApiError,
    json as to_json, plain, post, put, read, text,
};

/// What stands in for Consul's endpoints for its mesh.
pub(super) static ROUTES: &[Route] = &[
    put("/v1/config", Rule::MESH_WRITE, later!(no_config_entries)),
    read("/v1/config/", Rule::Rows, config),
    delete("/v1/config/", Rule::MESH_WRITE, later!(delete_config)),
    read("/v1/catalog/connect/", Rule::Rows, instances),
    read("/v1/catalog/gateway-services/", Rule::Rows, instances),
    read("/v1/health/connect/", Rule::Rows, instances),
    read("/v1/health/ingress/", Rule::Rows, instances),
    plain("/v1/connect/ca/roots", Rule::Rows, connect_is_off),
    plain("/v1/connect/ca/configuration", Rule::Rows, connect_is_off),
    put("/v1/connect/ca/configuration", Rule::MESH_WRITE, later!(connect_stays_off)),
    plain("/v1/agent/connect/ca/roots", Rule::Rows, connect_is_off),
    plain("/v1/agent/connect/ca/leaf/", Rule::Rows, connect_is_off),
    post("/v1/agent/connect/authorize", Rule::MESH_WRITE, later!(connect_stays_off)),
    plain("/v1/discovery-chain/", Rule::Rows, connect_is_off),
    post("/v1/discovery-chain/", Rule::MESH_WRITE, later!(connect_stays_off)),
    read("/v1/connect/intentions", Rule::Rows, no_intentions),
    post("/v1/connect/intentions", Rule::MESH_WRITE, later!(no_intentions_kept)),
    plain("/v1/connect/intentions/check", Rule::Rows, intention_check),
    read("/v1/connect/intentions/match", Rule::Rows, intention_match),
    plain("/v1/connect/intentions/exact", Rule::Rows, intention),
    put("/v1/connect/intentions/exact", Rule::MESH_WRITE, later!(no_intentions_kept)),
    delete("/v1/connect/intentions/exact", Rule::MESH_WRITE, later!(no_intentions_kept)),
    plain("/v1/connect/intentions/", Rule::Rows, intention),
    put("/v1/connect/intentions/", Rule::MESH_WRITE, later!(no_intentions_kept)),
    delete("/v1/connect/intentions/", Rule::MESH_WRITE, later!(no_intentions_kept)),
    read("/v1/peerings", Rule::Rows, nothing),
    plain("/v1/peering/", Rule::Rows, peering),
    delete("/v1/peering/", Rule::Needs(Resource::Peering, Level::Write), later!(no_peerings)),
    post("/v1/peering/token", Rule::Needs(Resource::Peering, Level::Write), later!(no_peerings)),
    post("/v1/peering/establish", Rule::Needs(Resource::Peering, Level::Write), later!(no_peerings)),
];

/// The kinds of config entry that there are in Consul.
const KINDS: &[&str] = &[
    "service-defaults",
    "proxy-defaults",
    "service-router",
    "service-splitter",
    "service-resolver",
    "ingress-gateway",
    "terminating-gateway",
    "service-intentions",
    "mesh",
    "exported-services",
    "api-gateway",
    "bound-api-gateway",
    "inline-certificate",
    "http-route",
    "tcp-route",
];

fn unchanging(value: &Value) -> Read {
    Read::unchanging(super::json::compact(value))
}

fn not_here(why: &'static str) -> Answer {
    Ok(text(StatusCode::NOT_IMPLEMENTED, why))
}

fn nothing(_: &App, _: &Call) -> Result<Read, ApiError> {
    Ok(unchanging(&json!([])))
}

fn instances(_: &App, call: &Call) -> Result<Read, ApiError> {
    required(&call.rest, "Missing service name")?;
    Ok(unchanging(&json!([])))
}

fn config(_: &App, call: &Call) -> Result<Read, ApiError> {
    let (kind, name) = call.rest.split_once('/').unwrap_or((&call.rest, ""));
    if kind.is_empty() {
        return Err(ApiError::NotFound("Must provide either a kind or both kind and name".into()));
    }
    if !KINDS.contains(&kind) {
        return Err(ApiError::Rejected(format!("invalid config entry kind: {kind}")));
    }
    if !name.is_empty() {
        return Err(ApiError::NotFound(format!("Config entry not found for {kind:?} / {name:?}")));
    }
    Ok(unchanging(&json!([])))
}

async fn no_config_entries(_: &App, _: Call) -> Answer {
    not_here("config entries are not kept here: they configure a mesh, and there is none")
}

/// What is not there is deleted already.
async fn delete_config(_: &App, call: Call) -> Answer {
    if call.rest.split_once('/').is_none_or(|(kind, name)| kind.is_empty() || name.is_empty()) {
        return Err(ApiError::NotFound("Must provide both a kind and name to delete".into()));
    }
    Ok(to_json(&json!({})))
}

fn connect_is_off(_: &App, _: &Call) -> Answer {
    Err(ApiError::Rejected("Connect must be enabled in order to use this endpoint".into()))
}

async fn connect_stays_off(app: &App, call: Call) -> Answer {
    connect_is_off(app, &call)
}

fn no_intentions(app: &App, call: &Call) -> Result<Read, ApiError> {
    nothing(app, call)
}

async fn no_intentions_kept(_: &App, _: Call) -> Answer {
    not_here("intentions are not kept here: they are rules of a mesh, and there is none")
}

/// A parameter that must be there.
fn parameter<'a>(call: &'a Call, name: &str) -> Result<&'a str, ApiError> {
    let missing = || ApiError::BadRequest(format!("required query parameter '{name}' not set"));
    call.query.get(name).filter(|value| !value.is_empty()).ok_or_else(missing)
}

/// Nothing is forbidden where nothing is guarded.
fn intention_check(_: &App, call: &Call) -> Answer {
    parameter(call, "source")?;
    parameter(call, "destination")?;
    Ok(to_json(&json!({"Allowed": true})))
}

fn intention_match(_: &App, call: &Call) -> Result<Read, ApiError> {
    if !matches!(parameter(call, "by")?, "source" | "destination") {
        return Err(ApiError::BadRequest("'by' parameter must be one of 'source' or 'destination'".into()));
    }
    parameter(call, "name")?;
    let names = call.query.all("name").map(|name| (name.to_owned(), Value::Null));
    Ok(unchanging(&Value::Object(names.collect())))
}

fn intention(_: &App, _: &Call) -> Answer {
    Err(ApiError::NotFound("Intention not found".into()))
}

fn peering(_: &App, call: &Call) -> Answer {
    required(&call.rest, "Must specify a name to fetch.")?;
    Err(ApiError::NotFound(format!("Peering not found for {:?}", call.rest)))
}

async fn no_peerings(_: &App, _: Call) -> Answer {
    not_here("there are no peerings here: registries do not share services across clusters")
}
