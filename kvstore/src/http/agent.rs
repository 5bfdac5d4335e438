//! `/v1/agent`: the node whose agent this is.

use std::{collections::BTreeMap, net::SocketAddr};

use kvstore_client::types::{CheckUpdate, HealthCheck, ServiceRegistration};
use kvstore_core::{
    Command, State, Target, filter,
    health::Status,
    names::{CheckId, InstanceId},
    row::{Instance, Owner, Stamped},
};
use serde_json::{Value, json};

use super::{
    Answer, App, Call, catalog, empty, error::ApiError, filter::Wanted, json as to_json, members, shape, strict,
};
use crate::{
    agent::{Programs, registration},
    replica::Hub,
};

/// What `Version` says: the API level we answer at, then our own version, in the form clients parse.
pub(super) const VERSION: &str = concat!("1.15.0+flotilla-", env!("CARGO_PKG_VERSION"));

pub(super) fn about(app: &App, call: &Call) -> Answer {
    let about = &app.about;
    let state = app.state(&call.caller);
    let node = state.node(&about.node);
    let (is_server, role) = if app.hub.is_none() { ("true", "Leader") } else { ("false", "Follower") };
    // Clients that try out joining join this.
    let gossip = SocketAddr::new(about.advertise, members::GOSSIP_PORT);
    let mut facts = json!({
        "Config": {
            "Datacenter": about.datacenter, "PrimaryDatacenter": about.datacenter, "NodeName": about.node_name,
            "NodeID": about.node_id, "Revision": "", "Server": app.hub.is_none(), "Version": VERSION, "BuildDate": "",
        },
        "DebugConfig": {"Datacenter": about.datacenter, "NodeName": about.node_name, "NodeID": about.node_id,
                        "SerfAdvertiseAddrLAN": format!("tcp://{gossip}")},
        "Coord": {"Vec": [0, 0, 0, 0, 0, 0, 0, 0], "Error": 1.5, "Adjustment": 0, "Height": 1e-5},
        "Member": members::own(app),
        "Stats": {
            "agent": {
                "check_monitors": "0",
                "checks": state.checks_on(&about.node).filter(|c| c.owner == Owner::Agent).count().to_string(),
                "services": own_instances(app, &state).count().to_string(),
            },
            "build": {"version": VERSION},
            "consul": {"server": is_server, "leader": is_server, "known_servers": "1"},
            "raft": {"applied_index": state.index().to_string(), "state": role},
            "runtime": {"os": std::env::consts::OS, "arch": std::env::consts::ARCH},
        },
        "Meta": node.and_then(|n| n.meta.clone()).unwrap_or_default(),
    });
    if let Some(hub) = &app.hub {
        facts["Stats"]["replica"] = replica(hub);
    }
    Ok(to_json(&facts))
}

/// How a replica stands. Its hubs' addresses have no secrets in them.
fn replica(hub: &Hub) -> Value {
    let contact = hub.contact();
    let all: Vec<_> = hub.upstreams.iter().map(|upstream| upstream.address.as_str()).collect();
    json!({
        "of": all.join(","),
        "contact": contact.with.is_some().to_string(),
        "follows": contact.with.unwrap_or_default(),
        "last_contact": format!("{}ms", contact.silent.as_millis()),
    })
}

pub(super) fn own_instances<'a>(
    app: &App,
    state: &'a State,
) -> impl Iterator<Item = &'a std::sync::Arc<Stamped<Instance>>> {
    state.instances_on(&app.about.node).filter(|instance| instance.owner == Owner::Agent)
}

pub(super) fn services(app: &App, call: &Call) -> Answer {
    let wanted = Wanted::of(app, call, filter::SERVICE)?;
    let shape = catalog::shape(app);
    let state = app.state(&call.caller);
    let listed = own_instances(app, &state).filter(|i| wanted.instance(i));
    let listed = listed.map(|i| (i.id.to_string(), shape.agent_service(i)));
    Ok(to_json(&listed.collect::<BTreeMap<_, _>>()))
}

/// Checks as the agent shows them: without indexes.
pub(super) fn agent_check(check: HealthCheck) -> HealthCheck {
    HealthCheck { create_index: 0, modify_index: 0, ..check }
}

pub(super) fn checks(app: &App, call: &Call) -> Answer {
    let wanted = Wanted::of(app, call, filter::CHECK)?;
    let state = app.state(&call.caller);
    let own = state.checks_on(&app.about.node).filter(|check| check.owner == Owner::Agent);
    let own = own.filter(|check| wanted.check(&state, check));
    let listed = own.map(|check| (check.id.to_string(), agent_check(shape::check(&state, check))));
    Ok(to_json(&listed.collect::<BTreeMap<_, _>>()))
}

/// What registrations are measured by.
fn taking(app: &App) -> registration::Agent<'_> {
    registration::Agent { node: &app.about.node, scripts: app.about.programs == Programs::All }
}

pub(super) async fn register_service(app: &App, call: Call) -> Answer {
    let mut body: ServiceRegistration = super::json::decode(&call.body)?;
    if app.about.strict_consul {
        body.checks.iter_mut().chain(&mut body.check).for_each(strict::raise);
    }
    let replace_checks = call.query.flag("replace-existing-checks")?;
    let registration::Service { instance, checks, warnings } = registration::service(taking(app), body)?;
    for warning in warnings {
        tracing::warn!(service = %instance.id, request = %call.id, "{warning}");
    }
    app.submit(&call.caller, Command::RegisterInstance { instance: Box::new(instance), checks, replace_checks })
        .await?;
    Ok(empty())
}

pub(super) async fn deregister_service(app: &App, call: Call) -> Answer {
    let target = Target::Instance(InstanceId::new(&call.rest)?);
    app.submit(&call.caller, Command::DeregisterOwn { node: app.about.node.clone(), target }).await?;
    Ok(empty())
}

pub(super) async fn register_check(app: &App, call: Call) -> Answer {
    let mut body = super::json::decode(&call.body)?;
    if app.about.strict_consul {
        strict::raise(&mut body);
    }
    let registration::StandaloneCheck { check, warnings } = registration::check(taking(app), body)?;
    for warning in warnings {
        tracing::warn!(check = %check.id, request = %call.id, "{warning}");
    }
    app.submit(&call.caller, Command::RegisterCheck { check: Box::new(check) }).await?;
    Ok(empty())
}

pub(super) async fn deregister_check(app: &App, call: Call) -> Answer {
    let target = Target::Check(CheckId::new(&call.rest)?);
    app.submit(&call.caller, Command::DeregisterOwn { node: app.about.node.clone(), target }).await?;
    Ok(empty())
}

async fn report(app: &App, call: &Call, status: Status, output: String) -> Answer {
    let (node, check) = (app.about.node.clone(), CheckId::new(&call.rest)?);
    let state = app.state(&call.caller);
    let probe = state.check(&node, &check).and_then(|row| row.probe.as_deref());
    let output = app.about.outputs.of_report(probe, output);
    drop(state);
    app.submit(&call.caller, Command::ReportTtl { node, check, status, output }).await?;
    Ok(empty())
}

fn note(call: &Call) -> String {
    call.query.get("note").unwrap_or_default().to_owned()
}

pub(super) async fn pass_check(app: &App, call: Call) -> Answer {
    report(app, &call, Status::Passing, note(&call)).await
}

pub(super) async fn warn_check(app: &App, call: Call) -> Answer {
    report(app, &call, Status::Warning, note(&call)).await
}

pub(super) async fn fail_check(app: &App, call: Call) -> Answer {
    report(app, &call, Status::Critical, note(&call)).await
}

pub(super) async fn update_check(app: &App, call: Call) -> Answer {
    let update: CheckUpdate = super::json::decode(&call.body)?;
    // Consul takes a missing status for passing.
    let word = if update.status.is_empty() { "passing" } else { &update.status };
    let status = Status::parse(word)
        .ok_or_else(|| ApiError::BadRequest(format!("Invalid check status: '{}'", update.status)))?;
    report(app, &call, status, update.output).await
}
