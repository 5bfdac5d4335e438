//! Docker itself: which networks and containers it has, and what it tells of them. Called when there is something to do,
//! and never from the driver's answers, which Docker may be waiting for.

mod bridge;
mod containers;
mod follow;
mod forward;
mod plan;

use std::{collections::HashMap, str::FromStr, time::Duration};

use bollard::{
    API_DEFAULT_VERSION,
    models::{
        ContainerInspectResponse, EventMessage, Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect,
        RestartPolicyNameEnum,
    },
    query_parameters::{
        EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, ListContainersOptionsBuilder,
        ListNetworksOptions, StartContainerOptions,
    },
};
use futures_util::Stream;
use kvstore_client::with_causes;
use tokio::time::timeout;
use tracing::warn;

pub(crate) use self::bridge::have as have_bridge;
pub use self::{
    containers::{Member, Membership},
    follow::follow,
    forward::close_firewall,
    plan::{Action, BRIDGES, LABEL, Network, Range, Wanted, beside, bridge_name, plan},
};

/// Until the head of an answer, and for a whole answer.
const CALL_SECONDS: u64 = 10;
const CALL_LIMIT: Duration = Duration::from_secs(15);

/// What Docker says of a start that failed for the want of a driver, or of its answer.
const DRIVER_ERRORS: [&str; 3] = ["plugin", "NetworkDriver.", "IpamDriver."];

/// Why Docker did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// The address is none.
    #[error("{0:?} is no address of Docker; use unix:///PATH or tcp://HOST:PORT")]
    Address(String),
    /// It refused, or is not there.
    #[error("Docker at {address}: cannot {what}")]
    Call {
        /// Where.
        address: String,
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: bollard::errors::Error,
    },
    /// The host's network is not as Docker is to find it.
    #[error(transparent)]
    Link(#[from] crate::link::LinkError),
    /// It does not answer.
    #[error("Docker at {address}: cannot {what}, no answer within {CALL_LIMIT:?}")]
    Timeout {
        /// Where.
        address: String,
        /// What was tried.
        what: String,
    },
}

/// Where Docker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

/// A connection to Docker.
#[derive(Clone, Debug)]
pub struct Docker {
    api: bollard::Docker,
    address: Address,
}

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// All 64 digits.
    pub id: String,
    /// Without the slash in front.
    pub name: String,
    /// Its first process; none if it does not run.
    pub pid: Option<u32>,
}

impl FromStr for Address {
    type Err = DockerError;

    fn from_str(text: &str) -> Result<Self, DockerError> {
        let good = match text.split_once("://") {
            Some(("unix", path)) => path.starts_with('/'),
            Some(("tcp" | "http", place)) => !place.is_empty(),
            _ => false,
        };
        if good { Ok(Self(text.to_owned())) } else { Err(DockerError::Address(text.to_owned())) }
    }
}

impl Docker {
    /// Connects, and agrees on a version of the API.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn connect(address: &Address) -> Result<Self, DockerError> {
        let opened = match address.0.split_once("://") {
            Some(("unix", path)) => bollard::Docker::connect_with_unix(path, CALL_SECONDS, API_DEFAULT_VERSION),
            Some((_, place)) => bollard::Docker::connect_with_http(place, CALL_SECONDS, API_DEFAULT_VERSION),
            None => return Err(DockerError::Address(address.0.clone())),
        };
        let failed = |source| DockerError::Call { address: address.0.clone(), what: "open its socket".into(), source };
        let mut docker = Self { api: opened.map_err(failed)?, address: address.clone() };
        docker.api = docker.limited("agree on a version", docker.api.clone().negotiate_version()).await?;
        Ok(docker)
    }

    /// All networks.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn networks(&self) -> Result<Vec<Network>, DockerError> {
        let listed = self.limited("list its networks", self.api.list_networks(None::<ListNetworksOptions>)).await?;
        let mut networks = Vec::new();
        for listed in listed {
            // Only then it tells who is in it.
            let (id, name) = (listed.id.as_deref().unwrap_or_default(), listed.name.as_deref().unwrap_or_default());
            let call = self.api.inspect_network(id, None::<InspectNetworkOptions>);
            match self.limited(&format!("look at the network {name}"), call).await {
                Ok(found) => networks.push(network(found)),
                // Gone in between.
                Err(error) if error.status() == Some(404) => {}
                Err(error) if error.is_away() => return Err(error),
                Err(error) => networks.push(known_by_list(listed, &error)),
            }
        }
        Ok(networks)
    }

    /// Makes a network.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn create(&self, wanted: &Wanted) -> Result<(), DockerError> {
        let config = |range: &Range| IpamConfig {
            subnet: Some(range.subnet.to_string()),
            ip_range: Some(range.given.to_string()),
            gateway: Some(range.gateway.to_string()),
            auxiliary_addresses: None,
        };
        let request = NetworkCreateRequest {
            name: wanted.name.clone(),
            driver: Some("bridge".to_owned()),
            attachable: Some(true),
            enable_ipv6: Some(wanted.ranges.iter().any(|range| range.gateway.is_ipv6())),
            ipam: Some(Ipam { config: Some(wanted.ranges.iter().map(config).collect()), ..Ipam::default() }),
            options: Some(wanted.options.clone().into_iter().collect()),
            labels: Some(wanted.labels.clone().into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        self.limited(&format!("make the network {}", wanted.name), self.api.create_network(request)).await.map(|_| ())
    }

    /// Removes a network; nothing changes if it is gone.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn remove(&self, id: &str, name: &str) -> Result<(), DockerError> {
        match self.limited(&format!("remove the network {name}"), self.api.remove_network(id)).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            other => other,
        }
    }

    /// The container of this name, or whose id begins with it.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn container(&self, name: &str) -> Result<Option<Container>, DockerError> {
        let call = self.api.inspect_container(name, None::<InspectContainerOptions>);
        let found = match self.limited(&format!("look at the container {name}"), call).await {
            Err(error) if error.status() == Some(404) => return Ok(None),
            other => other?,
        };
        Ok(Some(container(found)))
    }

    /// The containers that Docker would keep running, but could not start because of a driver. It does not try again.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn failed_starts(&self) -> Result<Vec<Container>, DockerError> {
        let filters: HashMap<&str, Vec<&str>> = [("status", vec!["created", "exited", "dead"])].into();
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
        let listed = self.limited("list its containers", self.api.list_containers(Some(options))).await?;
        let mut failed = Vec::new();
        for id in listed.into_iter().filter_map(|container| container.id) {
            let call = self.api.inspect_container(&id, None::<InspectContainerOptions>);
            match self.limited("look at a container", call).await {
                Ok(found) => failed.extend(failed_start(&found).then(|| container(found))),
                Err(error) if error.status() == Some(404) => {}
                Err(error) if error.is_away() => return Err(error),
                Err(error) => warn!("whether a container is to be started is not known: {}", with_causes(&error)),
            }
        }
        Ok(failed)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// [`DockerError`]
    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        let call = self.api.start_container(id, None::<StartContainerOptions>);
        self.limited("start a container", call).await
    }

    /// What happens to networks and containers from now on. Docker is asked only when the stream is first polled, and tells
    /// then what has happened since this call.
    pub(crate) fn events(&self) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> + use<> {
        let filters: HashMap<&str, Vec<&str>> = [
            ("type", vec!["network", "container"]),
            ("event", vec!["create", "destroy", "start", "die", "connect", "disconnect"]),
        ]
        .into();
        // Docker is on this host, so its clock is ours; a second more in case that was set back.
        let since = crate::now_ms().saturating_sub(1000);
        let since = format!("{}.{:03}000000", since / 1000, since % 1000);
        self.api.events(Some(EventsOptionsBuilder::default().filters(&filters).since(&since).build()))
    }

    async fn limited<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, DockerError> {
        let address = || self.address.0.clone();
        match timeout(CALL_LIMIT, call).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(source)) => Err(DockerError::Call { address: address(), what: what.to_owned(), source }),
            Err(_) => Err(DockerError::Timeout { address: address(), what: what.to_owned() }),
        }
    }
}

fn network(found: NetworkInspect) -> Network {
    let configs = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    Network {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default(),
        driver: found.driver.unwrap_or_default(),
        labels: found.labels.unwrap_or_default().into_iter().collect(),
        options: found.options.unwrap_or_default().into_iter().collect(),
        subnets: configs.iter().filter_map(|config| config.subnet.as_deref()?.parse().ok()).collect(),
        in_use: found.containers.is_some_and(|containers| !containers.is_empty()),
        trouble: None,
    }
}

/// One that Docker lists, and does not show.
fn known_by_list(listed: bollard::models::Network, why: &DockerError) -> Network {
    let bollard::models::Network { id, name, driver, labels, options, ipam, .. } = listed;
    let found = NetworkInspect { id, name, driver, labels, options, ipam, ..NetworkInspect::default() };
    // Somebody may be in it.
    Network { in_use: true, trouble: Some(with_causes(why)), ..network(found) }
}

fn container(found: ContainerInspectResponse) -> Container {
    let pid = found.state.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok());
    Container {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        pid: pid.filter(|pid| *pid != 0),
    }
}

/// Whoever has stopped a container has left no error in it.
fn failed_start(found: &ContainerInspectResponse) -> bool {
    let policy = found.host_config.as_ref().and_then(|host| host.restart_policy.as_ref()?.name);
    let kept = matches!(
        policy,
        Some(RestartPolicyNameEnum::ALWAYS | RestartPolicyNameEnum::UNLESS_STOPPED | RestartPolicyNameEnum::ON_FAILURE)
    );
    let error = found.state.as_ref().and_then(|state| state.error.as_deref()).unwrap_or_default();
    kept && DRIVER_ERRORS.iter().any(|part| error.contains(part))
}

impl DockerError {
    /// What it answered, if it did.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Call { source: bollard::errors::Error::DockerResponseServerError { status_code, .. }, .. } => {
                Some(*status_code)
            }
            _ => None,
        }
    }

    /// Whether it is about all of Docker, and not only about what was asked for: who answers, or is slow just now, may do
    /// something else all the same.
    fn is_away(&self) -> bool {
        use bollard::errors::Error;
        let Self::Call { source, .. } = self else { return false };
        !matches!(
            source,
            Error::DockerResponseServerError { .. }
                | Error::JsonDataError { .. }
                | Error::JsonSerdeError { .. }
                | Error::RequestTimeoutError
        )
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use flotilla_tests::fake_docker::FakeDocker;

    use super::*;

    #[tokio::test]
    async fn what_happens_before_events_are_first_asked_for_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let fake = FakeDocker::start(dir.path());
        let docker = Docker::connect(&fake.address().parse().unwrap()).await.unwrap();
        let mut events = std::pin::pin!(docker.events());
        fake.run("web", 8080, &serde_json::Value::Null);
        let told = timeout(CALL_LIMIT, events.next()).await.expect("it is told").expect("the stream goes on");
        assert_eq!(told.unwrap().action.as_deref(), Some("connect"));
    }
}
