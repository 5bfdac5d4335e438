//! `/v1/agent/members`, and joining and leaving: who else runs a registry that shares this state.
//!
//! A member is a host with the check by which an agent shows that it lives. Nobody joins by gossip: members are those
//! who write into the same state.

use std::net::{IpAddr, SocketAddr};

use hyper::header::HeaderValue;
use kvstore_core::{
    Command, State, Target,
    health::Status,
    names::{CheckId, NodeKey},
    row::{Node, Stamped},
};
use serde_json::{Value, json};

use super::{Answer, App, Call, agent::VERSION, empty, error::ApiError, json as to_json};

/// The port that members show; nothing listens there.
pub(super) const GOSSIP_PORT: u16 = 8301;

/// The check by which an agent shows that it lives.
const ALIVE: &str = "serfHealth";

/// How a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    Failed,
}

/// The hosts that run a registry on this state.
pub(super) fn all(state: &State) -> impl Iterator<Item = (&Stamped<Node>, Life)> {
    let alive = CheckId::new(ALIVE).expect("a constant name");
    state.nodes().filter_map(move |(key, node)| {
        let check = state.check(key, &alive)?;
        Some((&**node, if check.status == Status::Critical { Life::Failed } else { Life::Alive }))
    })
}

/// This host as a member.
pub(super) fn own(app: &App) -> Value {
    let about = &app.about;
    member(app, &about.node_name, &about.advertise.to_string(), &about.node_id, Life::Alive)
}

fn member(app: &App, name: &str, address: &str, id: &str, life: Life) -> Value {
    let about = &app.about;
    json!({
        "Name": name, "Addr": address, "Port": GOSSIP_PORT,
        "Tags": {"role": "consul", "dc": about.datacenter, "id": id, "build": VERSION, "vsn": "2", "segment": "",
                 "acls": "0", "port": about.server_port.to_string()},
        "Status": match life { Life::Alive => 1, Life::Failed => 4 },
        "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2, "DelegateMin": 2, "DelegateMax": 5, "DelegateCur": 4,
    })
}

pub(super) fn list(app: &App, call: &Call) -> Answer {
    let wide = call.query.flag("wan")?;
    match call.query.get("segment").unwrap_or_default() {
        "" | "_all" => {}
        _ if wide => return Err(ApiError::BadRequest("Cannot provide a segment with wan=true".into())),
        _ => {
            let why = "Network segments are not supported in this version of Consul";
            return Err(ApiError::Rejected(why.into()));
        }
    }
    let name = |node: &Node| if wide { format!("{}.{}", node.name, app.about.datacenter) } else { node.name.clone() };
    let state = app.state(&call.caller);
    let listed = all(&state).map(|(node, life)| member(app, &name(node), &node.address, &node.id, life));
    Ok(to_json(&listed.collect::<Vec<_>>()))
}

/// Who is a member already is joined; nobody else can be.
pub(super) async fn join(app: &App, call: Call) -> Answer {
    let wanted = call.rest.as_str();
    let host = match wanted.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_string(),
        Err(_) => wanted.rsplit_once(':').filter(|(host, _)| !host.contains(':')).map_or(wanted, |(h, _)| h).to_owned(),
    };
    let is_here = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == app.about.advertise);
    let state = app.state(&call.caller);
    if is_here || all(&state).any(|(node, _)| node.address == host || node.name.eq_ignore_ascii_case(&host)) {
        return Ok(empty());
    }
    Err(ApiError::Rejected(format!(
        "Failed to join {wanted}: it is no member, and registries here do not join each other by gossip; those that \
         share one state are members of themselves"
    )))
}

/// Stops this agent in order, once the answer is on its way.
pub(super) async fn leave(app: &App, call: Call) -> Answer {
    tracing::info!(request = %call.id, "a client has told this agent to leave");
    app.shutdown.cancel();
    Ok(empty())
}

/// Takes a host that is gone out of the catalog, with all that was on it. A living one stays: it would come back.
pub(super) async fn force_leave(app: &App, call: Call) -> Answer {
    let unknown = || ApiError::Rejected(format!("agent: No node found with name '{}'", call.rest));
    let node = NodeKey::new(&call.rest).map_err(|_| unknown())?;
    let states: Vec<_> = app.state(&call.caller).node_level_checks(&node).map(|check| check.status).collect();
    if states.is_empty() {
        return Err(unknown());
    }
    let mut response = empty();
    if Status::worst(states) == Status::Critical && node != app.about.node {
        tracing::info!(%node, request = %call.id, "a client has told that a host is gone for good");
        app.submit(&call.caller, Command::Deregister { node, target: Target::Node }).await?;
    } else {
        let why = "the host is alive and stays; stop what runs there first";
        response.headers_mut().insert("x-consul-reason", HeaderValue::from_static(why));
    }
    Ok(response)
}

/// Reads the configuration again.
pub(super) async fn reload(app: &App, _: Call) -> Answer {
    app.reload.run().await.map_err(|error| ApiError::Rejected(kvstore_client::with_causes(&error)))?;
    Ok(empty())
}
