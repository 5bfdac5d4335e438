//! `/v1/coordinate`, and `near=`, which sorts by it.

use std::sync::Arc;

use hyper::{Response, StatusCode};
use kvstore_client::types::Coordinate;
use kvstore_core::{
    acl::{Level, Resource},
    names::NodeKey,
    near,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep_until;

use super::{
    Answer, App, Body, Call,
    blocking::{self, required},
    empty,
    error::ApiError,
    json as to_json,
    query::same_datacenter,
};
use crate::coordinates::{self, Coordinates};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Update {
    datacenter: String,
    node: String,
    segment: String,
    partition: String,
    coord: Coordinate,
}

pub(super) async fn update(app: &App, call: Call) -> Answer {
    let body: Update = super::json::decode(&call.body)?;
    same_datacenter(&body.datacenter, &app.about.datacenter)?;
    if !matches!(body.partition.as_str(), "" | "default") {
        return Err(ApiError::BadRequest("Partitions are a Consul Enterprise feature".into()));
    }
    coordinates::check(&body.coord).map_err(|why| ApiError::Rejected(why.to_string()))?;
    call.caller.require(Resource::Node, &body.node, Level::Write)?;
    let (node, state) = (NodeKey::new(&body.node)?, app.registry.whole());
    // Of a host that is not in the catalog nothing is kept, and nothing said, as with Consul.
    if state.node(&node).is_some() {
        let is_there = |node: &NodeKey| state.node(node).is_some();
        let kept = app.coordinates.put(node, body.segment, body.coord, is_there);
        kept.map_err(|why| ApiError::Rejected(why.to_string()))?;
    }
    Ok(empty())
}

pub(super) async fn nodes(app: &App, call: Call) -> Answer {
    let segment = call.query.get("segment");
    list(app, &call, |_, own| segment.is_none_or(|segment| segment == own)).await
}

pub(super) async fn node(app: &App, call: Call) -> Answer {
    let wanted = NodeKey::new(required(&call.rest, "Missing node name")?)?;
    let segment = call.query.get("segment");
    let mut response =
        list(app, &call, |node, own| *node == wanted && segment.is_none_or(|segment| segment == own)).await?;
    if response.body().whole().is_some_and(|bytes| bytes == "[]") {
        *response.status_mut() = StatusCode::NOT_FOUND;
        *response.body_mut() = Body::default();
        response.headers_mut().remove(hyper::header::CONTENT_TYPE);
    }
    Ok(response)
}

/// The coordinates that `takes` chooses; with `?index=` once there are newer ones.
async fn list(app: &App, call: &Call, takes: impl Fn(&NodeKey, &str) -> bool) -> Answer {
    call.query.consistency()?;
    let Some(waiting) = call.query.waiting()? else { return Ok(listed(app, call, &takes).1) };
    let until = blocking::end_of(waiting.wait);
    let mut changed = app.coordinates.watch();
    loop {
        let (index, response) = listed(app, call, &takes);
        if index != waiting.index {
            return Ok(response);
        }
        tokio::select! {
            // The sender lives as long as the app.
            _ = changed.changed() => {}
            () = sleep_until(until) => return Ok(response),
            () = app.shutdown.cancelled() => return Ok(response),
        }
    }
}

fn listed(app: &App, call: &Call, takes: impl Fn(&NodeKey, &str) -> bool) -> (u64, Response<Body>) {
    let state = app.state(&call.caller);
    let (index, entries) = app.coordinates.read(|node, segment, point| {
        let row = state.node(node).filter(|_| takes(node, segment))?;
        Some(json!({"Node": row.name, "Segment": segment, "Coord": point}))
    });
    let mut response = to_json(&entries);
    blocking::describe(response.headers_mut(), kvstore_core::Index(index), None);
    (index, response)
}

/// This datacenter, if the place of this host is known.
pub(super) fn datacenters(app: &App, call: &Call) -> Answer {
    let (about, state) = (&app.about, app.state(&call.caller));
    let name = format!("{}.{}", about.node_name, about.datacenter);
    let (_, own) = app.coordinates.read(|node, segment, point| {
        let is_own = *node == about.node && segment.is_empty() && state.node(node).is_some();
        is_own.then(|| json!({"Node": name, "Segment": "", "Coord": point}))
    });
    let area = |own: Vec<Value>| json!([{"Datacenter": about.datacenter, "AreaID": "wan", "Coordinates": own}]);
    Ok(to_json(&if own.is_empty() { json!([]) } else { area(own) }))
}

/// What `near=` sorts rows by.
pub(super) struct Near(Option<(Arc<Coordinates>, NodeKey)>);

impl Near {
    /// Of a request: a host's name, or `_agent` for this one.
    pub(super) fn of(app: &App, call: &Call) -> Self {
        let from = match call.query.get("near").unwrap_or_default() {
            "" | "_ip" => None,
            "_agent" => Some(app.about.node.clone()),
            name => NodeKey::new(name).ok(),
        };
        Self(from.map(|from| (app.coordinates.clone(), from)))
    }

    /// Whether an order was asked for; distances change without a change of any row.
    pub(super) fn sorts(&self) -> bool {
        self.0.is_some()
    }

    /// `rows`, those of the nearest hosts first if that was asked for.
    pub(super) fn sorted<T>(&self, rows: impl Iterator<Item = T>, node_of: impl Fn(&T) -> &NodeKey) -> Vec<T> {
        let mut rows = rows.collect();
        if let Some((coordinates, from)) = &self.0 {
            near::sort(&**coordinates, from, &mut rows, node_of);
        }
        rows
    }
}
