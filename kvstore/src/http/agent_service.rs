//! `GET /v1/agent/service/ID`: one instance of the agent's own, and the wait until its content has another hash.

use hyper::{Response, header::HeaderValue};
use kvstore_client::types::AgentService;
use kvstore_core::{State, WatchKey, names::InstanceId};
use tokio::time::sleep_until;

use super::{Answer, App, Body, Call, agent::own_instances, blocking, catalog, error::ApiError, json};

/// With `?hash=` the answer comes once the hash is another one, or when `wait` ends.
pub(super) async fn get(app: &App, call: Call) -> Answer {
    let id = InstanceId::new(&call.rest).map_err(|_| unknown(&call.rest))?;
    let known = call.query.get("hash").filter(|hash| !hash.is_empty());
    let Some(known) = known else { return shown(app, &app.state(&call.caller), &id).map(|(_, response)| response) };

    let until = blocking::end_of(call.query.wait()?);
    let mut enlisted = app.registry.enlist(&[WatchKey::Node(app.about.node.clone())]);
    loop {
        let (hash, response) = shown(app, &app.state(&call.caller), &id)?;
        if hash != known {
            return Ok(response);
        }
        tokio::select! {
            () = enlisted.touched() => {}
            () = sleep_until(until) => return Ok(response),
            () = app.shutdown.cancelled() => return Ok(response),
        }
    }
}

fn unknown(id: &str) -> ApiError {
    ApiError::NotFound(format!("unknown service ID: {id}"))
}

/// The instance with its hash, and the hash.
fn shown(app: &App, state: &State, id: &InstanceId) -> Result<(String, Response<Body>), ApiError> {
    let instance = own_instances(app, state).find(|i| i.id == *id).ok_or_else(|| unknown(id.as_str()))?;
    let service = catalog::shape(app).agent_service(instance);
    let hash = content_hash(&service);
    let mut response = json(&AgentService { content_hash: hash.clone(), ..service });
    let value = HeaderValue::from_str(&hash).expect("hexadecimal digits");
    response.headers_mut().insert("x-consul-contenthash", value);
    Ok((hash, response))
}

/// FNV-1a of the JSON: the same content has the same hash after a restart too.
fn content_hash(service: &AgentService) -> String {
    let bytes = super::json::compact(service);
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    format!("{hash:016x}")
}
