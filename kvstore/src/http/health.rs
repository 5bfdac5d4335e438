//! `/v1/health`.
//!
//! Who waits here waits on states, and is shown the newest outputs with them: what thousands of checks say changes at
//! every run, and would keep everybody awake. Outputs as they come are for who waits on `/v1/health/node`, or filters
//! by them.

use std::sync::Arc;

use kvstore_core::{
    State, WatchKey, filter,
    health::Status,
    names::{NodeKey, ServiceKey},
    row::{Check, Stamped},
};

use super::{
    App, Call,
    blocking::{Found, Read, required},
    catalog::{Narrow, shape},
    coordinate::Near,
    error::ApiError,
    filter::Wanted,
    json, shape as shapes,
    version::For,
};

/// Instances with hosts and checks.
pub(super) fn service(app: &App, call: &Call) -> Result<Read, ApiError> {
    let service = ServiceKey::new(required(&call.rest, "Missing service name")?)?;
    let (shape, narrow, passing) = (shape(app), Narrow::of(call), call.query.flag("passing")?);
    let near = Near::of(app, call);
    let wanted = Wanted::of(app, call, filter::ENTRY)?;
    let asked_for = For::of(app, call, &service)?;
    let alone = near.sorts() || asked_for.is_somebody();
    let mut keys = asked_for.keys(&app.state(&call.caller));
    keys.push(key_of(&service, &wanted));
    let shows = WatchKey::Service(service.clone());
    let read = Read::of(keys, move |state| {
        let rows = state
            .instances_of(&service)
            .filter(|view| narrow.takes(view))
            .filter(|view| !passing || view.status() == Status::Passing)
            .filter(|view| wanted.entry(state, *view));
        let rows = asked_for.choose(state, rows.collect());
        let rows = near.sorted(rows.into_iter(), |view| &view.instance.node).into_iter();
        Found::Json(json::compact(&rows.map(|view| shape.entry(state, &view)).collect::<Vec<_>>()))
    });
    Ok(read.shared_while([shows]).alone_if(alone))
}

/// What is waited on for the checks of a service's instances.
fn key_of(service: &ServiceKey, wanted: &Wanted) -> WatchKey {
    if wanted.reads_output() { WatchKey::Service(service.clone()) } else { WatchKey::ServiceStatus(service.clone()) }
}

fn found<'a>(state: &State, wanted: &Wanted, checks: impl Iterator<Item = &'a Arc<Stamped<Check>>>) -> Found {
    let checks = checks.filter(|check| wanted.check(state, check));
    Found::Json(json::compact(&checks.map(|check| shapes::check(state, check)).collect::<Vec<_>>()))
}

/// The checks of a service's instances, without those of their hosts.
pub(super) fn checks(app: &App, call: &Call) -> Result<Read, ApiError> {
    let service = ServiceKey::new(required(&call.rest, "Missing service name")?)?;
    let (narrow, near) = (Narrow::of(call), Near::of(app, call));
    let wanted = Wanted::of(app, call, filter::CHECK)?;
    let (waits_on, shows, sorts) = (key_of(&service, &wanted), WatchKey::Service(service.clone()), near.sorts());
    let read = Read::of([waits_on], move |state| {
        let instances = state.instances_of(&service).filter(|view| narrow.takes(view));
        let instances = near.sorted(instances, |view| &view.instance.node).into_iter();
        let checks = instances.flat_map(|view| state.checks_of(&view.instance.node, Some(&view.instance.id)));
        found(state, &wanted, checks)
    });
    Ok(read.shared_while([shows]).alone_if(sorts))
}

pub(super) fn node(app: &App, call: &Call) -> Result<Read, ApiError> {
    let node = NodeKey::new(required(&call.rest, "Missing node name")?)?;
    let wanted = Wanted::of(app, call, filter::CHECK)?;
    let keys = [WatchKey::NodeChecks(node.clone())];
    Ok(Read::of(keys, move |state| found(state, &wanted, state.checks_on(&node))).shared())
}

/// All checks in one state, or in `any`; a word that is no state finds nothing.
pub(super) fn state(app: &App, call: &Call) -> Result<Read, ApiError> {
    let near = Near::of(app, call);
    let word = required(&call.rest, "Missing check state")?.to_owned();
    let node_meta: Vec<String> = call.query.all("node-meta").map(ToOwned::to_owned).collect();
    let wanted = Wanted::of(app, call, filter::CHECK)?;
    let waits_on = if wanted.reads_output() { WatchKey::Checks } else { WatchKey::CheckStatuses };
    let (mut keys, mut shows) = (vec![waits_on], vec![WatchKey::Checks]);
    if !node_meta.is_empty() {
        keys.push(WatchKey::Nodes);
        shows.push(WatchKey::Nodes);
    }
    let sorts = near.sorts();
    let read = Read::of(keys, move |state| {
        let status = Status::parse(&word);
        let of_node =
            |check: &Check| shapes::has_meta(state.node(&check.node).and_then(|n| n.meta.as_ref()), &node_meta);
        let fits = |check: &&Arc<Stamped<Check>>| (word == "any" || status == Some(check.status)) && of_node(check);
        found(state, &wanted, near.sorted(state.checks().filter(fits), |check| &check.node).into_iter())
    });
    Ok(read.shared_while(shows).alone_if(sorts))
}
