//! `/v1/operator`: stand-ins for what people look at to see whether a cluster is well. There is no Raft here.

use hyper::StatusCode;
use kvstore_core::{
    State,
    acl::{Level, Resource},
};
use serde_json::{Value, json};

use super::{
    Answer, App, Call, Route, Rule,
    agent::VERSION,
    delete, json as to_json,
    members::{self, Life},
    plain, post, put, text,
};

/// What stands in for Consul's endpoints for operators.
pub(super) static ROUTES: &[Route] = &[
    plain("/v1/operator/raft/configuration", Rule::OPERATOR_READ, raft_configuration),
    delete("/v1/operator/raft/peer", Rule::OPERATOR_WRITE, later!(no_peers)),
    post("/v1/operator/raft/transfer-leader", Rule::OPERATOR_WRITE, later!(no_leader)),
    put("/v1/operator/raft/transfer-leader", Rule::OPERATOR_WRITE, later!(no_leader)),
    plain("/v1/operator/autopilot/health", Rule::OPERATOR_READ, autopilot_health),
    plain("/v1/operator/autopilot/state", Rule::OPERATOR_READ, no_autopilot),
    plain("/v1/operator/autopilot/configuration", Rule::OPERATOR_READ, no_autopilot),
    put("/v1/operator/autopilot/configuration", Rule::OPERATOR_WRITE, later!(no_autopilot_settings)),
    plain("/v1/operator/keyring", Rule::Needs(Resource::Keyring, Level::Read), no_keyring),
    post("/v1/operator/keyring", Rule::Needs(Resource::Keyring, Level::Write), later!(no_keyring_change)),
    put("/v1/operator/keyring", Rule::Needs(Resource::Keyring, Level::Write), later!(no_keyring_change)),
    delete("/v1/operator/keyring", Rule::Needs(Resource::Keyring, Level::Write), later!(no_keyring_change)),
];

fn raft_address(app: &App, address: &str) -> String {
    let port = app.about.server_port;
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// Each member as a voter, this one as the leader.
fn servers(app: &App, state: &State, one: impl Fn(&str, &str, String, bool, Life) -> Value) -> Vec<Value> {
    let listed = members::all(state).map(|(node, life)| {
        let is_own = node.key() == app.about.node;
        one(&node.id, &node.name, raft_address(app, &node.address), is_own, life)
    });
    listed.collect()
}

fn raft_configuration(app: &App, call: &Call) -> Answer {
    let server = |id: &str, name: &str, address: String, is_own: bool, _: Life| json!({"ID": id, "Node": name, "Address": address, "Leader": is_own, "ProtocolVersion": "3", "Voter": true});
    Ok(to_json(&json!({"Servers": servers(app, &app.state(&call.caller), server), "Index": 0})))
}

fn autopilot_health(app: &App, call: &Call) -> Answer {
    let state = app.state(&call.caller);
    let index = state.index().0;
    let server = |id: &str, name: &str, address: String, is_own: bool, life: Life| {
        let is_alive = life == Life::Alive;
        json!({
            "ID": id, "Name": name, "Address": address, "SerfStatus": if is_alive { "alive" } else { "failed" },
            "Version": VERSION, "Leader": is_own, "LastContact": "0s", "LastTerm": 1, "LastIndex": index,
            "Healthy": is_alive, "Voter": true, "StableSince": "1970-01-01T00:00:00Z",
        })
    };
    let others = members::all(&state).filter(|(_, life)| *life == Life::Alive).count().saturating_sub(1);
    let servers = servers(app, &state, server);
    let healthy = servers.iter().all(|server| server["Healthy"] == true);
    // Each member serves by itself, so all but one may fail.
    let answer = json!({"Healthy": healthy, "FailureTolerance": others, "Servers": servers});
    let mut response = to_json(&answer);
    if !healthy {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    }
    Ok(response)
}

fn not_here(why: &'static str) -> Answer {
    Ok(text(StatusCode::NOT_IMPLEMENTED, why))
}

const NO_AUTOPILOT: &str =
    "there is no Raft here, so autopilot has nothing to do; /v1/agent/members shows who is alive";
const NO_KEYRING: &str = "there is no gossip here, so there are no keys to encrypt it with";

async fn no_peers(_: &App, _: Call) -> Answer {
    not_here("there are no Raft peers here; /v1/agent/force-leave/NAME takes a host out of the catalog that is gone")
}

async fn no_leader(_: &App, _: Call) -> Answer {
    not_here("there is no leader here that could hand over; every registry serves by itself")
}

fn no_autopilot(_: &App, _: &Call) -> Answer {
    not_here(NO_AUTOPILOT)
}

async fn no_autopilot_settings(_: &App, _: Call) -> Answer {
    not_here(NO_AUTOPILOT)
}

fn no_keyring(_: &App, _: &Call) -> Answer {
    not_here(NO_KEYRING)
}

async fn no_keyring_change(_: &App, _: Call) -> Answer {
    not_here(NO_KEYRING)
}
