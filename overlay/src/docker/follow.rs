//! Keeps Docker's networks and the mesh's alike: looks again whenever either tells that something happened.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ipnet::IpNet;
use kvstore_client::with_causes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Action, Address, Docker, DockerError, LABEL, Network, bridge, forward::Forward, plan};
use crate::{
    link::Links,
    mesh::{Mesh, Refusal, Request},
    network::NetworkName,
    news::{self, AWAY, Found, Look, Told, Why},
    plugin::{Made, Plugin, protocol},
    state::{Held, HeldNetwork},
};

/// A network of the book that Docker does not have for that long it has no more.
const GONE: Duration = Duration::from_secs(20);

/// Until `shutdown`.
pub async fn follow(docker: Address, links: Links, mesh: Mesh, plugin: Plugin, shutdown: CancellationToken) {
    let (mut told, mut away) = (Told::default(), false);
    let work = async {
        loop {
            match life(&docker, &links, &mesh, &plugin, &mut told, &mut away).await {
                Err(error) if !away => warn!("{}; its networks are looked at when it answers", with_causes(&error)),
                _ => {}
            }
            away = true;
            sleep(AWAY).await;
        }
    };
    shutdown.run_until_cancelled(work).await;
}

/// One life of Docker's, from its first answer to its last.
async fn life(
    docker: &Address,
    links: &Links,
    mesh: &Mesh,
    plugin: &Plugin,
    told: &mut Told,
    away: &mut bool,
) -> Result<(), DockerError> {
    let docker = &Docker::connect(docker).await?;
    // Before the first look, so that nothing happens in between unseen.
    let (events, changes) = (docker.events(), mesh.changes());
    start_failed(docker).await?;
    let mut keeper = Keeper { docker, links, mesh, plugin, away, missing: Missing::default(), let_through: None };
    news::watch(changes, events, told, &mut keeper).await
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

/// Who compares, and does what is to be done, in one life of Docker's.
struct Keeper<'a> {
    docker: &'a Docker,
    links: &'a Links,
    mesh: &'a Mesh,
    plugin: &'a Plugin,
    /// Until it was looked at everything once.
    away: &'a mut bool,
    missing: Missing,
    /// What Docker's firewall was told last.
    let_through: Option<Forward>,
}

impl Look for Keeper<'_> {
    /// That Docker is away.
    type Error = DockerError;

    /// What cannot be done for one network keeps none of the others from being looked after.
    async fn look(&mut self, why: Why) -> Result<Found, DockerError> {
        // The book first: what is entered meanwhile Docker lists only afterwards.
        let made = self.plugin.made().await;
        let networks = self.docker.networks().await?;
        let mut found = Found::default();
        found.failed(networks.iter().filter_map(|network| network.trouble.clone()));
        // Who makes the host's firewall anew takes our rules with it, and does not tell.
        if why == Why::Time {
            self.let_through = None;
        }
        found.failed(self.open_firewall(&networks).await);
        let gone = self.missing.gone(&made, &networks, Instant::now());
        self.plugin.forget(&gone).await;
        let withdrawn = withdraw(self.mesh, self.plugin, &mut found).await;
        let held = self.mesh.held();
        for there in held.networks.iter().filter(|held| is_there(held, &networks)) {
            if let Err(error) = bridge::have(self.links, there).await {
                found.failed([format!("network {}: {}", there.network.name, with_causes(&error))]);
            }
        }
        if !held.networks.is_empty()
            && let Err(error) = bridge::forward_ipv6(self.links).await
        {
            let why = with_causes(&error);
            found
                .wrong
                .insert(format!("networks have IPv4 only: {why}; set net.ipv6.conf.all.forwarding to 1 on the host"));
        }
        for action in plan(&held, &networks, &made) {
            match self.carry_out(action, &held, &withdrawn).await {
                Ok(wrong) => found.failed(wrong),
                Err(error) if error.is_away() => return Err(error),
                Err(error) => found.failed([with_causes(&error)]),
            }
        }
        *self.away = false;
        Ok(found)
    }
}

impl Keeper<'_> {
    /// Has Docker's firewall let through what is ours; what is wrong with that.
    async fn open_firewall(&mut self, networks: &[Network]) -> Vec<String> {
        let held = self.mesh.held();
        let subnets = held.networks.iter().map(|held| &held.network);
        let subnets = subnets.flat_map(|network| [IpNet::V4(network.subnet), IpNet::V6(network.subnet6)]);
        let wanted = Forward::of(&held.tunnel, self.plugin.bridged().await, subnets, networks);
        if self.let_through.as_ref() == Some(&wanted) {
            return Vec::new();
        }
        let wrong = wanted.apply().await;
        self.let_through = wrong.is_empty().then_some(wanted);
        wrong
    }

    /// Takes a step; what it says to be wrong.
    async fn carry_out(
        &self,
        action: Action,
        held: &Held,
        withdrawn: &BTreeSet<NetworkName>,
    ) -> Result<Option<String>, DockerError> {
        match action {
            // Docker has just removed it.
            Action::Create { wanted, .. } if withdrawn.iter().any(|name| name.as_str() == wanted.name) => {}
            Action::Create { network, wanted } => {
                if let Some(held) = held.network(network) {
                    bridge::have(self.links, held).await?;
                }
                self.docker.create(&wanted).await?;
                info!("Docker has the network {}", wanted.name);
            }
            Action::Remove { id, name, bridge } => {
                self.docker.remove(&id, &name).await?;
                if let Some(bridge) = bridge {
                    bridge::remove(self.links, &bridge).await?;
                }
                info!("Docker has the network {name} no more");
            }
            Action::Announce { id, network } => {
                let name = network.name.clone();
                if let Err(refusal) = self.mesh.create_network(*network).await {
                    return Ok(Some(format!("network {name} of Docker is not the mesh's: {refusal}")));
                }
                self.plugin.announced(&id, &name).await;
                info!("the network {name}, made in Docker ({}), is the mesh's", id.short());
            }
            Action::Warn(text) => return Ok(Some(text)),
        }
        Ok(None)
    }
}

/// Has the mesh remove what it has from this Docker, and this Docker has removed; what is still to be removed.
async fn withdraw(mesh: &Mesh, plugin: &Plugin, found: &mut Found) -> BTreeSet<NetworkName> {
    let withdrawn = plugin.withdrawn().await;
    for name in &withdrawn {
        match mesh.ask(Request::RemoveNetwork(name.clone())).await {
            Ok(_) => info!("the network {name}, removed from Docker, is the mesh's no more"),
            Err(Refusal::Unknown(_)) => {}
            Err(refusal) => {
                found.failed([format!("the network {name}, removed from Docker, is still the mesh's: {refusal}")]);
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
    use flotilla_tests::fake_docker::{FakeDocker, id};
    use serde_json::json;

    use super::*;
    use crate::network::NodeId;

    #[tokio::test]
    async fn what_fails_for_one_network_keeps_none_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeDocker::start(dir.path());
        for name in ["a", "b", "c", "d"] {
            fake.make_network(name, &json!({ LABEL: name }));
        }
        // The mesh has none of them any more; one is not removed, and one not even shown.
        fake.hold_network("b");
        fake.go_mad_about("c", "{");
        let docker = &Docker::connect(&fake.address().parse().unwrap()).await.unwrap();
        let nothing = Held { node: NodeId([1; 16]), host: "h".into(), tunnel: "wg7".into(), networks: Vec::new() };
        let ((mesh, _ends), links) = (Mesh::new(nothing), Links::here().unwrap());
        let plugin = Plugin::new(dir.path().join("book"), links.clone(), mesh.clone()).unwrap();
        // As it is without any network: nothing of this machine's firewall is changed.
        let others = ["a", "b", "c", "d"].map(|name| format!("br-{}", &id(name)[..12])).into();
        let let_through = Some(Forward { others, ..Forward::default() });
        let (missing, mesh, plugin, links, away) = (Missing::default(), &mesh, &plugin, &links, &mut false);
        let mut keeper = Keeper { docker, links, mesh, plugin, away, missing, let_through };
        let found = keeper.look(Why::News).await.unwrap();
        assert_eq!(fake.network_names(), ["b", "c"].map(str::to_owned).into());
        let wrong: Vec<_> = found.wrong.iter().collect();
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong.iter().any(|text| text.contains("remove the network b") && text.contains("active endpoints")));
        assert!(wrong.iter().any(|text| text.contains("look at the network c")), "{wrong:?}");
        assert!(wrong.iter().any(|text| text.contains("network c") && text.contains("is in use")), "{wrong:?}");
        assert!(found.again, "it is tried again");
        keeper
            .let_through
            .as_mut()
            .unwrap()
            .others
            .retain(|bridge| !["a", "d"].iter().any(|n| bridge.contains(&id(n)[..12])));
        assert_eq!(keeper.look(Why::News).await.unwrap(), found, "the same, which is not told twice");
        drop(fake);
        assert!(keeper.look(Why::News).await.unwrap_err().is_away());
    }

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
