//! `/v1/agent/health/service`: what an instance's checks come to, as a status code for load balancers.

use std::sync::Arc;

use hyper::{
    Response, StatusCode,
    header::{ACCEPT, HeaderValue},
};
use kvstore_core::{
    InstanceView, State,
    health::Status,
    names::{InstanceId, ServiceKey},
    row::{Check, Owner, Stamped},
};
use serde_json::{Value, json};

use super::{
    Answer, App, Body, Call,
    agent::agent_check,
    catalog,
    error::ApiError,
    json as to_json,
    maintenance::{self, is_maintenance},
    shape, text,
};

/// What an instance's checks come to; the order is the severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Is(Status),
    Maintenance,
}

impl Verdict {
    fn of<'a>(checks: impl Iterator<Item = &'a Arc<Stamped<Check>>>) -> Self {
        let one = |check: &'a Arc<Stamped<Check>>| {
            if is_maintenance(check) { Self::Maintenance } else { Self::Is(check.status) }
        };
        checks.map(one).max().unwrap_or(Self::Is(Status::Passing))
    }

    fn word(self) -> &'static str {
        match self {
            Self::Is(status) => status.as_str(),
            Self::Maintenance => maintenance::WORD,
        }
    }

    fn code(self) -> StatusCode {
        match self {
            Self::Is(Status::Passing) => StatusCode::OK,
            Self::Is(Status::Warning) => StatusCode::TOO_MANY_REQUESTS,
            Self::Is(Status::Critical) | Self::Maintenance => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// The checks that the agent itself knows of: those of the instance and of the node.
fn known_checks<'a>(view: &InstanceView<'a>) -> impl Iterator<Item = &'a Arc<Stamped<Check>>> + use<'a> {
    view.checks().filter(|check| check.owner == Owner::Agent)
}

fn details(app: &App, state: &State, view: &InstanceView<'_>) -> Value {
    json!({
        "AggregatedStatus": Verdict::of(known_checks(view)).word(),
        "Service": catalog::shape(app).agent_service(view.instance),
        "Checks": known_checks(view).map(|check| agent_check(shape::check(state, check))).collect::<Vec<_>>(),
    })
}

/// A status word as text, or the details, with the status code that goes with them. Without a verdict, `missing` says
/// what there is not.
fn answer(call: &Call, verdict: Option<Verdict>, missing: String, details: &Value) -> Response<Body> {
    let code = verdict.map_or(StatusCode::NOT_FOUND, Verdict::code);
    let reason = verdict.map_or(missing, |verdict| verdict.word().to_owned());
    let accepts_text = call.headers.get(ACCEPT).is_some_and(|value| value == "text/plain");
    let as_text = accepts_text || call.query.get("format") == Some("text");
    let mut response = if as_text { text(code, reason.clone()) } else { to_json(details) };
    *response.status_mut() = code;
    if let Ok(value) = HeaderValue::from_str(&reason) {
        response.headers_mut().insert("x-consul-reason", value);
    }
    response
}

pub(super) fn by_id(app: &App, call: &Call) -> Answer {
    if call.rest.is_empty() {
        return Err(ApiError::BadRequest("Missing serviceID".into()));
    }
    let state = app.state(&call.caller);
    let id = InstanceId::new(&call.rest)?;
    let view = state.instance_view(&app.about.node, &id).filter(|view| view.instance.owner == Owner::Agent);
    let details = view.as_ref().map_or_else(
        || json!({"AggregatedStatus": "critical", "Service": null, "Checks": null}),
        |view| details(app, &state, view),
    );
    let verdict = view.map(|view| Verdict::of(known_checks(&view)));
    Ok(answer(call, verdict, format!("ServiceId {id} not found"), &details))
}

pub(super) fn by_name(app: &App, call: &Call) -> Answer {
    if call.rest.is_empty() {
        return Err(ApiError::BadRequest("Missing service Name".into()));
    }
    let state = app.state(&call.caller);
    let name = ServiceKey::new(&call.rest)?;
    let is_own = |view: &InstanceView<'_>| view.instance.node == app.about.node && view.instance.owner == Owner::Agent;
    let own: Vec<_> = state.instances_of(&name).filter(is_own).collect();
    let verdict = own.iter().map(|view| Verdict::of(known_checks(view))).max();
    let details: Vec<_> = own.iter().map(|view| details(app, &state, view)).collect();
    Ok(answer(call, verdict, format!("ServiceName {} Not Found", call.rest), &details.into()))
}
