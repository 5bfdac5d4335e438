//! Keeps Docker's networks and the mesh's alike: looks again whenever either tells that something happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::StreamExt;
use ipnet::IpNet;
use kvstore_client::{Backoff, with_causes};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Action, Address, Docker, DockerError, LABEL, Network, bridge, forward::Forward, plan};
use crate::{
    link::Links,
    mesh::{Mesh, Refusal, Request},
    network::NetworkName,
    plugin::{Made, Plugin, protocol},
    state::HeldNetwork,
};

/// A Docker that is away is asked again after that.
const AWAY: Duration = Duration::from_secs(1);
/// Without news everything is looked at that often.
const RESYNC: Duration = Duration::from_mins(1);
/// Events come in groups; the whole group is looked at once.
const GATHER: Duration = Duration::from_millis(100);
/// A network of the book that Docker does not have for that long it has no more.
const GONE: Duration = Duration::from_secs(20);

/// Until `shutdown`.
pub async fn follow(docker: Address, links: Links, mesh: Mesh, plugin: Plugin, shutdown: CancellationToken) {
    let mut told = BTreeSet::new();
    let work = async {
        let mut away = false;
        loop {
            match life(&docker, &links, &mesh, &plugin, &mut told, &mut away).await {
                Err(error) if !away => warn!("{}; its networks are looked at when it answers", with_causes(&error)),
                _ => {}
            }
            away = true;
            sleep(AWAY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// One life of Docker's, from its first answer to its last.
async fn life(
    docker: &Address,
    links: &Links,
    mesh: &Mesh,
    plugin: &Plugin,
    told: &mut BTreeSet<String>,
    away: &mut bool,
) -> Result<(), DockerError> {
    let docker = Docker::connect(docker).await?;
    // Before the first look, so that nothing happens in between unseen.
    let mut events = std::pin::pin!(docker.events());
    let mut changes = mesh.changes();
    let mut missing = Missing::default();
    let mut let_through: Option<Forward> = None;
    let mut again = Backoff::between(AWAY, RESYNC);
    start_failed(&docker).await?;
    loop {
        changes.mark_unchanged();
        let wanted = forward(&docker, mesh, plugin).await?;
        if let_through.as_ref() != Some(&wanted) {
            let_through = wanted.apply().await.then_some(wanted);
        }
        let refused = look(&docker, links, mesh, plugin, told, &mut missing).await?;
        *away = false;
        // Nobody tells when what was in the way is gone, such as somebody else at the rules, or a route.
        let pause = if refused || let_through.is_none() { again.delay() } else { RESYNC };
        tokio::select! {
            () = sleep(pause) => {
                // Who makes the host's firewall anew takes our rules with it.
                let_through = None;
                continue;
            }
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
            event = events.next() => match event {
                Some(Ok(_)) => sleep(GATHER).await,
                Some(Err(_)) | None => return Ok(()),
            },
        }
        again.reset();
    }
}

/// What Docker's firewall is to let through.
async fn forward(docker: &Docker, mesh: &Mesh, plugin: &Plugin) -> Result<Forward, DockerError> {
    let held = mesh.held();
    let networks = held.networks.iter().map(|held| &held.network);
    let subnets = networks.flat_map(|network| [IpNet::V4(network.subnet), IpNet::V6(network.subnet6)]);
    Ok(Forward::of(plugin.bridged().await, subnets, &docker.networks().await?))
}

/// Starts what Docker could not start while the driver was away; each once in a life of Docker's.
async fn start_failed(docker: &Docker) -> Result<(), DockerError> {
    for container in docker.failed_starts().await? {
        match docker.start(&container.id).await {
            Ok(()) => info!("container {} is started: Docker could not, without its driver", container.name),
            Err(error) => warn!("container {} cannot be started: {}", container.name, with_causes(&error)),
        }
    }
    Ok(())
}

/// Compares, and does what is to be done; whether the mesh has refused some of it.
async fn look(
    docker: &Docker,
    links: &Links,
    mesh: &Mesh,
    plugin: &Plugin,
    told: &mut BTreeSet<String>,
    missing: &mut Missing,
) -> Result<bool, DockerError> {
    // The book first: what is entered meanwhile Docker lists only afterwards.
    let made = plugin.made().await;
    let networks = docker.networks().await?;
    let gone = missing.gone(&made, &networks, Instant::now());
    plugin.forget(&gone).await;
    let mut warned = BTreeSet::new();
    let withdrawn = withdraw(mesh, plugin, &mut warned).await;
    let mut refused = !warned.is_empty();
    let held = mesh.held();
    for there in held.networks.iter().filter(|held| is_there(held, &networks)) {
        bridge::have(links, there).await?;
    }
    if !held.networks.is_empty()
        && let Err(error) = bridge::forward_ipv6(links).await
    {
        let why = with_causes(&error);
        warned.insert(format!("networks have IPv4 only: {why}; set net.ipv6.conf.all.forwarding to 1 on the host"));
    }
    for action in plan(&held, &networks, &made) {
        match action {
            // Docker has just removed it.
            Action::Create { wanted, .. } if withdrawn.iter().any(|name| name.as_str() == wanted.name) => {}
            Action::Create { network, wanted } => {
                if let Some(held) = held.network(network) {
                    bridge::have(links, held).await?;
                }
                docker.create(&wanted).await?;
                info!("Docker has the network {}", wanted.name);
            }
            Action::Remove { id, name, bridge } => {
                docker.remove(&id, &name).await?;
                if let Some(bridge) = bridge {
                    bridge::remove(links, &bridge).await?;
                }
                info!("Docker has the network {name} no more");
            }
            Action::Announce { id, network } => {
                let name = network.name.clone();
                match mesh.create_network(*network).await {
                    Ok(_) => {
                        plugin.announced(&id, &name).await;
                        info!("the network {name}, made in Docker ({}), is the mesh's", id.short());
                    }
                    Err(refusal) => {
                        refused = true;
                        warned.insert(format!("network {name} of Docker is not the mesh's: {refusal}"));
                    }
                }
            }
            Action::Warn(text) => _ = warned.insert(text),
        }
    }
    for text in warned.difference(told) {
        warn!("{text}");
    }
    *told = warned;
    Ok(refused)
}

/// Has the mesh remove what it has from this Docker, and this Docker has removed; what is still to be removed.
async fn withdraw(mesh: &Mesh, plugin: &Plugin, warned: &mut BTreeSet<String>) -> BTreeSet<NetworkName> {
    let withdrawn = plugin.withdrawn().await;
    for name in &withdrawn {
        match mesh.ask(Request::RemoveNetwork(name.clone())).await {
            Ok(_) => info!("the network {name}, removed from Docker, is the mesh's no more"),
            Err(Refusal::Unknown(_)) => {}
            Err(refusal) => {
                warned.insert(format!("the network {name}, removed from Docker, is still the mesh's: {refusal}"));
                continue;
            }
        }
        plugin.is_withdrawn(name).await;
    }
    withdrawn
}

fn is_there(held: &HeldNetwork, networks: &[Network]) -> bool {
    let id = held.network.id.to_string();
    networks.iter().any(|network| network.labels.get(LABEL) == Some(&id))
}

/// Networks of the book that Docker does not have.
#[derive(Default)]
struct Missing(BTreeMap<protocol::Id, Instant>);

impl Missing {
    /// Those that are missing for so long that they are not just being made: the driver is told before Docker lists one.
    fn gone(&mut self, made: &[Made], networks: &[Network], now: Instant) -> BTreeSet<protocol::Id> {
        let there: BTreeSet<&str> = networks.iter().map(|network| network.id.as_str()).collect();
        let missing = made.iter().map(|made| &made.id).filter(|id| !there.contains(id.as_str()));
        let since = |id: &protocol::Id| (id.clone(), self.0.get(id).copied().unwrap_or(now));
        self.0 = missing.map(since).collect();
        self.0.iter().filter(|(_, since)| now.duration_since(**since) >= GONE).map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_gone_when_it_was_missing_for_long() {
        let id = protocol::Id::try_from("a".repeat(64)).unwrap();
        let made = [Made { id: id.clone(), subnet: "10.1.0.0/16".parse().unwrap(), subnet6: None, local: false }];
        let there = [Network { id: "a".repeat(64), ..Network::default() }];
        let (mut missing, begin) = (Missing::default(), Instant::now());
        assert!(missing.gone(&made, &[], begin).is_empty());
        assert!(missing.gone(&made, &there, begin + GONE).is_empty(), "it was being made");
        assert!(missing.gone(&made, &[], begin + 2 * GONE).is_empty());
        assert_eq!(missing.gone(&made, &[], begin + 3 * GONE), [id].into());
    }
}
