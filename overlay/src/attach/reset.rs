//! Leaves nothing of the overlay on this host: in containers, in Docker, in the kernel.

use std::{collections::BTreeSet, time::Duration};

use ipnet::IpNet;
use kvstore_client::with_causes;
use tokio::time::timeout;
use tracing::{info, warn};

use super::Desk;
use crate::{
    docker::{self, Docker, LABEL, Network},
    mesh::Refusal,
    plugin::Holder,
};

/// By then the daemon has told that this host has no networks.
const LIMIT: Duration = Duration::from_secs(5);

impl Desk {
    /// Removes all that was made for containers and this host. The daemon has left the mesh before.
    ///
    /// # Errors
    /// What could not be removed; the rest is.
    pub async fn reset(&self) -> Result<(), Refusal> {
        self.without_networks().await;
        let _turn = self.0.turn.lock().await;
        let mut left = Vec::new();
        let docker = match &self.0.docker {
            Some(_) => self.docker().await.map_err(|refusal| left.push(refusal.to_string())).ok(),
            None => None,
        };
        for attachment in self.0.plugin.attachments().await {
            let pid = match (&docker, &attachment.holder) {
                (Some(docker), Holder::Container { id, .. }) => {
                    docker.container(id).await.ok().flatten().and_then(|c| c.pid)
                }
                _ => None,
            };
            if let Err(refusal) = self.take(&attachment, pid).await {
                left.push(refusal.to_string());
            }
        }
        if let Some(docker) = &docker {
            left.extend(self.empty(docker).await);
        }
        if docker.is_some() {
            docker::close_firewall().await;
        }
        if let Err(error) = self.0.plugin.reset().await {
            left.push(error.to_string());
        }
        match self.0.links.reset().await {
            Ok(removed) => info!("{} interfaces are removed: {}", removed.len(), removed.join(", ")),
            Err(error) => left.push(with_causes(&error)),
        }
        if left.is_empty() { Ok(()) } else { Err(Refusal::Away(format!("something is left: {}", left.join("; ")))) }
    }

    /// Until nobody makes anew what is removed here.
    async fn without_networks(&self) {
        let mut changes = self.0.mesh.changes();
        let gone = changes.wait_for(|held| held.networks.is_empty());
        if !matches!(timeout(LIMIT, gone).await, Ok(Ok(_))) {
            warn!("this host still has networks");
        }
    }

    /// Removes our networks from Docker, whoever is in them; what could not be removed.
    async fn empty(&self, docker: &Docker) -> Vec<String> {
        let (networks, members) = match (docker.networks().await, docker.members().await) {
            (Ok(networks), Ok(members)) => (networks, members),
            (Err(error), _) | (_, Err(error)) => return vec![with_causes(&error)],
        };
        let (made, pools) = (self.0.plugin.made().await, self.0.plugin.pools().await);
        let ours = |network: &&Network| {
            let driven = made.iter().any(|made| made.id.as_str() == network.id);
            driven || network.labels.contains_key(LABEL) || has(&pools, network)
        };
        let mut left = Vec::new();
        for network in networks.iter().filter(ours) {
            for member in
                members.iter().filter(|member| member.networks.iter().any(|there| there.network == network.id))
            {
                if let Err(error) = docker.disconnect(&network.id, &member.id).await {
                    left.push(format!("{}: {}", member.name, with_causes(&error)));
                }
            }
            match docker.remove(&network.id, &network.name).await {
                Ok(()) => info!("Docker has the network {} no more", network.name),
                Err(error) => left.push(with_causes(&error)),
            }
        }
        left
    }
}

/// Its addresses are given by us, whoever its driver is.
fn has(pools: &BTreeSet<IpNet>, network: &Network) -> bool {
    network.subnets.iter().any(|subnet| pools.contains(subnet))
}
