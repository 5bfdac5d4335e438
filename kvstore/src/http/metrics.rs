//! `/v1/agent/metrics`.

use hyper::{
    Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderValue},
};
use jiff::Timestamp;

use super::{Answer, App, Body, Call, json};

/// As Prometheus reads it with `?format=prometheus`, else as Consul's JSON.
pub(super) fn show(app: &App, call: &Call) -> Answer {
    if call.query.get("format") != Some("prometheus") {
        let now = Timestamp::now().strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
        return Ok(json(&app.metrics.json(&now)));
    }
    let accepts = call.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (text, kind) = if accepts.contains("application/openmetrics-text") {
        (app.metrics.open_metrics(), "application/openmetrics-text; version=1.0.0; charset=utf-8")
    } else {
        (app.metrics.prometheus(), "text/plain; version=0.0.4; charset=utf-8")
    };
    let mut response = Response::new(Body::new(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
