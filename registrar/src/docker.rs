//! A connection to Docker: who it is, list, inspect, events. [`follow`] keeps one up for ever.

pub mod follow;

use std::{collections::HashMap, future::Future, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerInspectResponse, ContainerSummary, EventMessage},
    query_parameters::{EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder},
};
use futures_util::Stream;
use tokio::time::timeout;

use crate::container::nanoseconds;

/// Until the head of an answer, and for a whole answer.
const CALL_SECONDS: u64 = 10;
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Why Docker could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured address cannot be used.
    #[error("{address:?} is no address of Docker: {why}; use unix:///PATH or tcp://HOST:PORT")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A call failed.
    #[error("Docker at {address}: cannot {what}")]
    Call {
        /// What was tried.
        what: &'static str,
        /// Docker's address.
        address: String,
        /// The cause.
        #[source]
        source: bollard::errors::Error,
    },
    /// No answer in time.
    #[error("Docker at {address}: cannot {what}, no answer within {CALL_LIMIT:?}")]
    Timeout {
        /// What was tried.
        what: &'static str,
        /// Docker's address.
        address: String,
    },
    /// The stream of events ended.
    #[error("Docker at {address}: the stream of events ended")]
    Ended {
        /// Docker's address.
        address: String,
    },
}

/// Which Docker this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its own ID.
    pub id: String,
    /// Its host's name.
    pub host: String,
    /// Its clock, in nanoseconds since 1970.
    pub time: i64,
}

/// A Docker at an address.
pub struct Connection {
    docker: Docker,
    address: String,
}

impl Connection {
    /// Connects, agrees on a version of the API, and asks who is there.
    ///
    /// # Errors
    /// [`Error`], if that does not work just now or never will.
    pub async fn open(address: &str) -> Result<(Self, Identity), Error> {
        let docker = client(address)?;
        let connection = |docker| Self { docker, address: address.to_owned() };
        let asking = connection(docker.clone());
        let docker = asking.limited("agree on a version", docker.negotiate_version()).await?;
        let connection = connection(docker);
        let info = connection.limited("ask who it is", connection.docker.info()).await?;
        let identity = Identity {
            id: info.id.unwrap_or_default(),
            host: info.name.unwrap_or_default(),
            time: info.system_time.as_deref().map_or(0, nanoseconds),
        };
        Ok((connection, identity))
    }

    async fn limited<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        let address = || self.address.clone();
        match timeout(CALL_LIMIT, call).await {
            Ok(answer) => answer.map_err(|source| Error::Call { what, address: address(), source }),
            Err(_) => Err(Error::Timeout { what, address: address() }),
        }
    }

    /// Running containers, the paused and the restarting among them; with `ended` those that do not run any more, too.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn list(&self, ended: bool) -> Result<Vec<ContainerSummary>, Error> {
        let call = self.docker.list_containers(Some(ListContainersOptionsBuilder::default().all(ended).build()));
        self.limited("list the containers", call).await
    }

    /// One container; `None` if there is no such.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn inspect(&self, id: &str) -> Result<Option<ContainerInspectResponse>, Error> {
        let call = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        match self.limited("inspect a container", call).await {
            Ok(answer) => Ok(Some(answer)),
            Err(Error::Call { source, .. }) if status(&source) == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn events(&self, since: i64) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> {
        let actions =
            ["start", "die", "kill", "pause", "unpause", "rename", "destroy", "health_status", "connect", "disconnect"];
        let filters = HashMap::from([("type", vec!["container", "network"]), ("event", actions.to_vec())]);
        let mut options = EventsOptionsBuilder::default().filters(&filters);
        if since > 0 {
            options = options.since(&format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000));
        }
        self.docker.events(Some(options.build()))
    }
}

/// Checks an address without connecting.
///
/// # Errors
/// [`Error::Address`]
pub fn check_address(address: &str) -> Result<(), Error> {
    match client(address) {
        Err(error @ Error::Address { .. }) => Err(error),
        _ => Ok(()),
    }
}

fn client(address: &str) -> Result<Docker, Error> {
    let bad = |why: &str| Error::Address { address: address.to_owned(), why: why.to_owned() };
    let built = match address.split_once("://") {
        Some(("unix", path)) if path.starts_with('/') => {
            Docker::connect_with_unix(path, CALL_SECONDS, API_DEFAULT_VERSION)
        }
        Some(("unix", _)) => return Err(bad("the path is not absolute")),
        Some(("tcp" | "http", place)) if !place.is_empty() => {
            Docker::connect_with_http(place, CALL_SECONDS, API_DEFAULT_VERSION)
        }
        Some(("https", _)) => return Err(bad("TLS is not spoken")),
        _ => return Err(bad("it has no scheme that is known")),
    };
    built.map_err(|source| Error::Call { what: "open the socket", address: address.to_owned(), source })
}

fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The answer came, but is not what Docker promises.
fn is_nonsense(error: &Error) -> bool {
    use bollard::errors::Error as Source;
    let Error::Call { source, .. } = error else { return false };
    matches!(source, Source::JsonDataError { .. } | Source::JsonSerdeError { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (address, good) in [
            ("unix:///var/run/docker.sock", true),
            ("tcp://10.0.0.1:2375", true),
            ("http://h:1", true),
            ("unix://relative", false),
            ("https://h:1", false),
            ("ssh://h", false),
            ("/var/run/docker.sock", false),
            ("tcp://", false),
            ("", false),
        ] {
            assert_eq!(check_address(address).is_ok(), good, "{address}");
        }
    }
}
