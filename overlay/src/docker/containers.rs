//! Which containers are in which networks.

use std::collections::HashMap;

use bollard::{models::ContainerSummary, query_parameters::ListContainersOptionsBuilder};

use super::{Docker, DockerError};

/// A running container, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// All 64 digits.
    pub id: String,
    /// Without the slash in front.
    pub name: String,
    #[allow(missing_docs)]
    pub networks: Vec<Membership>,
}

/// A container's part of a network of Docker's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Docker's id for the network.
    pub network: String,
    /// What it is called.
    pub name: String,
    /// Without what is around them.
    pub addresses: Vec<String>,
    /// The hardware address.
    pub mac: String,
}

impl Docker {
    /// All running containers.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn members(&self) -> Result<Vec<Member>, DockerError> {
        let filters: HashMap<&str, Vec<&str>> = [("status", vec!["running", "paused"])].into();
        let options = ListContainersOptionsBuilder::default().filters(&filters).build();
        let listed = self.limited("list its containers", self.api.list_containers(Some(options))).await?;
        Ok(listed.into_iter().map(member).collect())
    }

    /// Takes a container out of a network, whatever it says.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn disconnect(&self, network: &str, container: &str) -> Result<(), DockerError> {
        let request = bollard::models::NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
        self.limited("take a container out of a network", self.api.disconnect_network(network, request)).await
    }
}

fn member(found: ContainerSummary) -> Member {
    let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let membership = |(name, end): (String, bollard::models::EndpointSettings)| Membership {
        network: end.network_id.unwrap_or_default(),
        name,
        addresses: [end.ip_address, end.global_ipv6_address]
            .into_iter()
            .flatten()
            .filter(|ip| !ip.is_empty())
            .collect(),
        mac: end.mac_address.unwrap_or_default(),
    };
    let name = found.names.unwrap_or_default().into_iter().next().unwrap_or_default();
    Member {
        id: found.id.unwrap_or_default(),
        name: name.trim_start_matches('/').to_owned(),
        networks: networks.into_iter().map(membership).collect(),
    }
}
