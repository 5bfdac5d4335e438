//! What is asked for at the daemon's socket.

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Desk, NewLink, shown};
use crate::{
    api::{json as answer, parse},
    mesh::Refusal,
};

/// Links of a container, or of this host.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Which {
    container: String,
    at: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Released {
    address: std::net::IpAddr,
}

/// To be merged with the daemon's own.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/v1/attach", post(attach))
        .route("/v1/detach", post(detach))
        .route("/v1/expose", post(expose))
        .route("/v1/hide", post(hide))
        .route("/v1/ps", get(async |State(desk): State<Desk>| ps(&desk, None).await))
        .route(
            "/v1/ps/{container}",
            get(async |State(desk): State<Desk>, Path(name): Path<String>| ps(&desk, Some(&name)).await),
        )
        .route("/v1/ipam/release", post(release))
        .with_state(desk)
}

async fn attach(State(desk): State<Desk>, body: Bytes) -> Result<Response, Refusal> {
    let new: NewLink = parse(&body)?;
    Ok(answer(&shown(&desk.attach(&new).await?)))
}

async fn detach(State(desk): State<Desk>, body: Bytes) -> Result<Response, Refusal> {
    let which: Which = parse(&body)?;
    let gone = desk.detach(&which.container, which.at.as_deref()).await?;
    Ok(answer(&gone.iter().map(shown).collect::<Vec<_>>()))
}

async fn expose(State(desk): State<Desk>, body: Bytes) -> Result<Response, Refusal> {
    let which: Which = parse(&body)?;
    Ok(answer(&shown(&desk.expose(which.at.as_deref()).await?)))
}

async fn hide(State(desk): State<Desk>, body: Bytes) -> Result<Response, Refusal> {
    let which: Which = parse(&body)?;
    let gone = desk.hide(which.at.as_deref()).await?;
    Ok(answer(&gone.iter().map(shown).collect::<Vec<_>>()))
}

async fn ps(desk: &Desk, container: Option<&str>) -> Result<Response, Refusal> {
    Ok(answer(&desk.ps(container).await?))
}

async fn release(State(desk): State<Desk>, body: Bytes) -> Result<Response, Refusal> {
    let released: Released = parse(&body)?;
    desk.release(released.address).await?;
    Ok(answer(&json!({ "released": released.address })))
}
