//! Keeps links as they were asked for, while containers, Docker, the mesh and this program come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use futures_util::{StreamExt, future::Either, stream};
use kvstore_client::with_causes;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{Desk, listed, namespace};
use crate::{
    docker::Docker,
    mesh::Refusal,
    names::Name,
    network::NetworkId,
    news::{self, AWAY, Found, Look, Told, Why},
    plugin::{AttachedWay, Attachment, Holder},
};

/// A container that has ended keeps its addresses that long, as in Weave: it may be just restarting.
const ENDED: Duration = Duration::from_secs(30);
/// A network that is missing for that long is gone.
const GONE: Duration = Duration::from_secs(20);

/// What was seen, and since when.
#[derive(Default)]
struct Since {
    /// Containers that do not run.
    ended: BTreeMap<String, Instant>,
    /// Networks that the mesh does not have.
    gone: BTreeMap<NetworkId, Instant>,
    /// Who runs, and is in a network of several hosts.
    names: BTreeSet<Name>,
}

impl Desk {
    /// Until `shutdown`.
    pub async fn follow(&self, shutdown: CancellationToken) {
        let (mut since, mut told) = (Since::default(), Told::default());
        let work = async {
            loop {
                // Docker that is away is told of by those who keep its networks.
                let _ = self.life(&mut since, &mut told).await;
                sleep(AWAY).await;
            }
        };
        shutdown.run_until_cancelled(work).await;
    }

    /// One life of Docker's; or of the mesh alone, where there is no Docker.
    async fn life(&self, since: &mut Since, told: &mut Told) -> Result<(), Refusal> {
        let changes = self.0.mesh.changes();
        let docker = match &self.0.docker {
            Some(_) => match self.docker().await {
                Ok(docker) => Some(docker),
                Err(refusal) => {
                    // This host's own addresses need no Docker.
                    told.tell(self.look(None, since).await.wrong);
                    return Err(refusal);
                }
            },
            None => None,
        };
        let dockers = docker.as_ref().map_or(Either::Right(stream::pending()), |docker| Either::Left(docker.events()));
        // Its end is an end, whatever else there is to hear of.
        let dockers = dockers.map(|event| event.map(drop).map_err(drop)).chain(stream::once(async { Err(()) }));
        let own = stream::unfold(&self.0.changed, |changed| async move {
            changed.notified().await;
            Some((Ok(()), changed))
        });
        let events = stream::select(dockers, own);
        news::watch(changes, events, told, &mut Keeper { desk: self, docker: docker.as_ref(), since }).await
    }

    async fn look(&self, docker: Option<&Docker>, since: &mut Since) -> Found {
        let _turn = self.0.turn.lock().await;
        let all = self.0.plugin.attachments().await;
        since.only(&all);
        let (mut found, mut names) = (Found::default(), BTreeSet::new());
        for attachment in &all {
            let looked = match self.without_network(attachment, since) {
                Some(true) => self.take(attachment, None).await.map(|()| None),
                Some(false) => Ok(None),
                None => self.look_at(attachment, docker, since).await,
            };
            match looked {
                Ok(name) => names.extend(name),
                Err(refusal) => {
                    found.failed([format!("{} is not as it should be: {refusal}", listed(attachment))]);
                    // As far as is known it goes on as before.
                    names.extend(since.names.iter().filter(|there| there.addresses == ips(attachment)).cloned());
                }
            }
        }
        // Of a Docker that is away nothing is known.
        if docker.is_some() || self.0.docker.is_none() {
            since.names.clone_from(&names);
            self.0.mesh.tell_attached(names);
        }
        found.within = since.next().map(|then| then.saturating_duration_since(Instant::now()));
        found
    }

    /// Whether the network of a link is missing: gone for good, or perhaps not told of yet.
    fn without_network(&self, attachment: &Attachment, since: &mut Since) -> Option<bool> {
        let id = attachment.network()?;
        if self.0.mesh.held().network(id).is_some() {
            since.gone.remove(&id);
            return None;
        }
        let then = *since.gone.entry(id).or_insert_with(Instant::now);
        Some(then.elapsed() >= GONE)
    }

    /// Has a link be as it should; what its container is called, if it runs.
    async fn look_at(
        &self,
        attachment: &Attachment,
        docker: Option<&Docker>,
        since: &mut Since,
    ) -> Result<Option<Name>, Refusal> {
        let away = |e: &dyn std::error::Error| Refusal::Away(with_causes(e));
        let Holder::Container { id, name, .. } = &attachment.holder else {
            let mesh = self.0.mesh.held();
            // Without a block there is nowhere to have it yet.
            let held = attachment.network().and_then(|id| mesh.network(id)).filter(|held| !held.blocks.is_empty());
            let Some(held) = held else { return Ok(None) };
            return self.0.plugin.bridge_to(held).await.map(|_| None).map_err(|e| away(&e));
        };
        let Some(docker) = docker else { return Ok(None) };
        let Some(container) = docker.container(id).await.map_err(|e| away(&e))? else {
            info!("container {name} is gone, and with it {}", listed(attachment));
            return self.take(attachment, None).await.map(|()| None);
        };
        let Some(pid) = container.pid else {
            let then = attachment.kept.then(|| *since.ended.entry(id.clone()).or_insert_with(Instant::now));
            if then.is_some_and(|then| then.elapsed() >= ENDED) {
                info!("container {name} has ended; others may have {}", listed(attachment));
                self.0.plugin.let_go(attachment).await?;
            }
            return Ok(None);
        };
        since.ended.remove(id);
        let attachment = if attachment.kept {
            attachment.clone()
        } else {
            let next = self.0.plugin.resume(attachment).await?;
            info!("container {name} runs again, and has {}", listed(&next));
            next
        };
        self.have(&attachment, &namespace(pid, name)?).await.map_err(|e| away(&e))?;
        Ok(self.name(container.name, &attachment))
    }

    /// What a container is called in the network of a link, where that is one of several hosts.
    fn name(&self, container: String, attachment: &Attachment) -> Option<Name> {
        let AttachedWay::Network { id, .. } = &attachment.way else { return None };
        let held = self.0.mesh.held();
        let network = &held.network(*id).filter(|held| !held.network.local)?.network;
        Some(Name { name: container, network: network.name.clone(), addresses: ips(attachment) })
    }
}

fn ips(attachment: &Attachment) -> BTreeSet<IpAddr> {
    attachment.addresses.iter().map(ipnet::IpNet::addr).collect()
}

/// Who keeps the links in one life of Docker's.
struct Keeper<'a> {
    desk: &'a Desk,
    docker: Option<&'a Docker>,
    since: &'a mut Since,
}

impl Look for Keeper<'_> {
    type Error = Refusal;

    async fn look(&mut self, _: Why) -> Result<Found, Refusal> {
        Ok(self.desk.look(self.docker, self.since).await)
    }
}

impl Since {
    /// When somebody has waited for long enough.
    fn next(&self) -> Option<Instant> {
        self.ended.values().map(|then| *then + ENDED).chain(self.gone.values().map(|then| *then + GONE)).min()
    }

    /// Forgets what nothing is asked for any more; of what has been let go nobody waits for the end.
    fn only(&mut self, all: &[Attachment]) {
        let is = |there: &Attachment, wanted: &String| {
            there.kept && matches!(&there.holder, Holder::Container { id, .. } if id == wanted)
        };
        self.ended.retain(|id, _| all.iter().any(|there| is(there, id)));
        self.gone.retain(|id, _| all.iter().any(|there| there.network() == Some(*id)));
    }
}

#[cfg(test)]
mod tests {
    use flotilla_tests::fake_docker::{FakeDocker, id};
    use serde_json::Value;

    use super::*;
    use crate::{
        link::Links,
        mesh::Mesh,
        network::NodeId,
        plugin::{Asked, AttachedWay, Place, Plugin},
        state::Held,
    };

    #[tokio::test]
    async fn what_fails_for_one_link_keeps_none_of_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeDocker::start(dir.path());
        let nothing = Held { node: NodeId([1; 16]), host: "h".into(), tunnel: "wg7".into(), networks: Vec::new() };
        let ((mesh, _ends), links) = (Mesh::new(nothing), Links::here().unwrap());
        let plugin = Plugin::new(dir.path().join("book"), links.clone(), mesh.clone()).unwrap();
        for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
            let way = AttachedWay::Bridge("nosuch".into());
            let place = Place::Outside(format!("192.0.2.{}/24", n + 1).parse().unwrap(), way);
            let holder = Holder::Container { id: id(name), name: name.into(), number: 0 };
            plugin.attach(&Asked { holder, place, gateway: None, mac: None }).await.unwrap();
        }
        // Of the second one Docker says nothing that can be read; the others are gone.
        fake.run("b", 80, &Value::Null);
        fake.go_mad_about("b", "{");
        let desk = Desk::new(plugin.clone(), Some(fake.address().parse().unwrap()), links, mesh);
        let (docker, mut since) = (desk.docker().await.unwrap(), Since::default());
        let found = desk.look(Some(&docker), &mut since).await;
        let left: Vec<_> = plugin.attachments().await.iter().map(listed).collect();
        assert_eq!(left, ["192.0.2.2"]);
        let [wrong] = &found.wrong.iter().collect::<Vec<_>>()[..] else { panic!("{found:?}") };
        assert!(wrong.starts_with("192.0.2.2 is not as it should be: Docker at "), "{wrong}");
        assert!(found.again && found.within.is_none(), "it is tried again soon");
        assert_eq!(desk.look(Some(&docker), &mut since).await, found, "the same, which is not told twice");
    }
}
