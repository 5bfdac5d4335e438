//! `/v1/event`.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Response, header::HeaderValue};
use kvstore_core::{
    State,
    acl::{Level, Resource},
};
use serde_json::{Value, json};
use tokio::time::sleep_until;
use uuid::Uuid;

use super::{Answer, App, Body, Call, blocking, error::ApiError, json as to_json};
use crate::events::{Event, Filters, Place, index_of};

fn shown(event: &Event) -> Value {
    let payload = if event.payload.is_empty() { Value::Null } else { STANDARD.encode(&event.payload).into() };
    json!({
        "ID": event.id, "Name": event.name, "Payload": payload, "NodeFilter": event.node_filter,
        "ServiceFilter": event.service_filter, "TagFilter": event.tag_filter, "Version": 1, "LTime": event.time,
    })
}

pub(super) async fn fire(app: &App, call: Call) -> Answer {
    if call.rest.is_empty() {
        return Err(ApiError::BadRequest("Missing name".into()));
    }
    let filter = |name| call.query.get(name).unwrap_or_default().to_owned();
    let event = Event {
        id: Uuid::new_v4(),
        node_filter: filter("node"),
        service_filter: filter("service"),
        tag_filter: filter("tag"),
        // By itself: a slice would keep the connection's whole buffer.
        payload: bytes::Bytes::copy_from_slice(&call.body),
        name: call.rest,
        time: 0,
    };
    let filters = Filters::of(&event).map_err(|why| ApiError::Rejected(why.to_string()))?;
    let answer = to_json(&shown(&event));
    // Whether it is for this host does not hang on what its sender may see.
    if filters.take(&place(app, &app.registry.whole())) {
        app.events.add(event);
    }
    Ok(answer)
}

/// This node with its services.
fn place<'a>(app: &'a App, state: &'a State) -> Place<'a> {
    let services = state.instances_on(&app.about.node).map(|i| (i.service.as_str(), &i.tags[..])).collect();
    Place { node: &app.about.node_name, services }
}

/// The list; with `?index=` once its index is another one.
pub(super) async fn list(app: &App, call: Call) -> Answer {
    let name = call.query.get("name").filter(|name| !name.is_empty());
    let known = || {
        let mut events = app.events.named(name);
        events.retain(|event| call.caller.may(Resource::Event, &event.name, Level::Read));
        events
    };
    let Some(waiting) = call.query.waiting()? else { return Ok(listed(&known())) };
    let until = blocking::end_of(waiting.wait);
    let mut fired = app.events.watch();
    loop {
        let events = known();
        if index_of(events.last().map(AsRef::as_ref)) != waiting.index {
            return Ok(listed(&events));
        }
        tokio::select! {
            // The sender lives as long as the app.
            _ = fired.changed() => {}
            () = sleep_until(until) => return Ok(listed(&events)),
            () = app.shutdown.cancelled() => return Ok(listed(&events)),
        }
    }
}

fn listed(events: &[Arc<Event>]) -> Response<Body> {
    let mut response = to_json(&events.iter().map(|event| shown(event)).collect::<Vec<_>>());
    let index = index_of(events.last().map(AsRef::as_ref)).max(1);
    response.headers_mut().insert("x-consul-index", HeaderValue::from(index));
    response
}
