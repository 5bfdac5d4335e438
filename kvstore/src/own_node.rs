//! This host in its own catalog: its node, the service `consul`, and the check that says that its agent lives.

use std::{sync::Arc, time::Duration};

use kvstore_client::with_causes;
use kvstore_core::{
    Command, Target, WatchKey,
    health::Status,
    names::{CheckId, InstanceId, NodeKey},
    row::{Check, Instance, Meta, Node, Owner, Probe, ProbeKind, Weights},
};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    acl, config,
    reload::Reload,
    store::{Store, WriteError},
};

/// So many times in its lease an agent shows that it lives.
const BEATS: u32 = 3;

/// An agent that could not show that it lives tries again after this.
const BEAT_AGAIN: Duration = Duration::from_millis(500);

/// This node's name as a key.
pub(crate) fn key(config: &config::Agent) -> NodeKey {
    NodeKey::new(&config.node_name).expect("the configuration has a checked name")
}

/// Puts this node into the catalog, and what access control needs. With a single writer a row of that name with another id
/// is an earlier life of this host: nobody else can be alive under it. The newest incarnation takes over.
pub(crate) async fn register(config: &config::Agent, store: &Store) -> Result<(), WriteError> {
    let node = key(config);
    let earlier = store.state().node(&node).map(|row| row.id.clone());
    // Where there are other writers, a name that another host holds is refused, as long as that lives.
    let takes_over = |id: &String| !config.engine.is_shared() && !id.is_empty() && *id != config.node_id;
    if let Some(id) = earlier.filter(takes_over) {
        tracing::warn!(node = config.node_name, from = id, to = config.node_id, "this node's name is taken over");
        let target = Target::Check(alive_check(&node).id);
        store.submit(Command::Deregister { node: node.clone(), target }).await?;
    }
    store.submit(registration(config)).await?;
    if config.guard.access.acl.is_some() {
        let management = config.acl_management.map(|secret| Box::new(acl::management(secret)));
        store.submit(Command::PrepareAcl { now: acl::now(), management }).await?;
    }
    Ok(())
}

/// Puts this node into the catalog over and over, so that it stays alive to the others; at once where they took it for
/// dead while it stood still.
pub(crate) async fn show_life(
    store: Store,
    reload: Reload,
    node: NodeKey,
    lease: Duration,
    shutdown: CancellationToken,
) {
    let alive = alive_check(&node).id;
    let mut changes = store.enlist(&[WatchKey::NodeChecks(node.clone())]);
    let mut is_heard = true;
    loop {
        let next = Instant::now() + if is_heard { lease / BEATS } else { BEAT_AGAIN };
        loop {
            tokio::select! {
                () = sleep_until(next) => break,
                () = changes.touched() => {}
                () = shutdown.cancelled() => return,
            }
            if is_heard && store.state().check(&node, &alive).is_none_or(|check| check.status != Status::Passing) {
                break;
            }
        }
        let shown = reload.register_own_node().await;
        match &shown {
            Err(error) if is_heard => {
                tracing::warn!(error = with_causes(error), "the other hosts do not hear that this node lives");
            }
            Ok(()) if !is_heard => tracing::info!("the other hosts hear again that this node lives"),
            _ => {}
        }
        is_heard = shown.is_ok();
    }
}

/// This node with what every Consul server shows: the service `consul` and the check that says the agent lives.
pub(crate) fn registration(config: &config::Agent) -> Command {
    let key = key(config);
    let address = config.advertise.to_string();
    let family = if config.advertise.is_ipv4() { "ipv4" } else { "ipv6" };
    let names = ["lan".to_owned(), format!("lan_{family}"), "wan".to_owned(), format!("wan_{family}")];
    let segment = ("consul-network-segment".to_owned(), String::new());
    let node = Node {
        name: config.node_name.clone(),
        id: config.node_id.clone(),
        tagged_addresses: Some(names.into_iter().map(|name| (name, address.clone())).collect()),
        meta: Some(config.node_meta.clone().into_iter().chain([segment]).collect()),
        address,
    };
    let instance = registry_instance(&key, config.server_port);
    let mut check = alive_check(&key);
    if let Some(ttl) = config.engine.lease() {
        let kind = ProbeKind::Ttl { ttl };
        check.probe = Some(Arc::new(Probe::new(kind, Duration::ZERO, Duration::ZERO)));
    }
    Command::Register { node, keep_node: false, instance: Some(Box::new(instance)), checks: vec![check] }
}

fn registry_instance(node: &NodeKey, port: u16) -> Instance {
    Instance {
        node: node.clone(),
        id: InstanceId::new("consul").expect("a constant name"),
        service: "consul".into(),
        tags: Vec::new(),
        address: String::new(),
        port,
        socket_path: String::new(),
        tagged_addresses: std::collections::BTreeMap::new(),
        meta: Some(Meta::from([("flotilla-version".into(), env!("CARGO_PKG_VERSION").into())])),
        weights: Weights::default(),
        enable_tag_override: false,
        kind: String::new(),
        proxy: Value::Null,
        connect: Value::Null,
        owner: Owner::External,
        from_file: false,
    }
}

fn alive_check(node: &NodeKey) -> Check {
    Check {
        node: node.clone(),
        id: CheckId::new("serfHealth").expect("a constant name"),
        name: "Serf Health Status".into(),
        status: Status::Passing,
        notes: String::new(),
        output: "Agent alive and reachable".into(),
        service: None,
        kind: String::new(),
        probe: None,
        interval: String::new(),
        timeout: String::new(),
        definition: Value::Null,
        owner: Owner::External,
        from_file: false,
    }
}
