//! A connection to Docker: who it is, list, inspect, events. [`follow`] keeps one up for ever.

pub mod follow;

use std::{
    collections::HashMap,
    future::Future,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    models::{ContainerSummary, EventMessage, NetworkInspect, SystemVersion},
    query_parameters::{
        EventsOptionsBuilder, InspectContainerOptions, InspectNetworkOptions, ListContainersOptionsBuilder,
    },
};
use futures_util::Stream;
use kvstore_client::names::{NETWORK_DRIVER, NETWORK_LABEL};
use tokio::time::timeout;

use crate::{
    boot,
    container::{Container, nanoseconds},
    plan::Mark,
};

/// Until the head of an answer, and for a whole answer.
const CALL_SECONDS: u64 = 10;
const CALL_LIMIT: Duration = Duration::from_secs(15);
/// Docker's own networks, of one host each.
const ITS_OWN: [&str; 4] = ["bridge", "host", "none", "ingress"];

/// Why Docker could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured address cannot be used.
    #[error("{address:?} is no address of Docker: {why}; use unix:///PATH, tcp://HOST:PORT or https://HOST:PORT")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// The certificates for TLS cannot be used.
    #[error("cannot use ca.pem, cert.pem and key.pem in {} for Docker; give their directory by --docker-cert-path", dir.display())]
    Certificates {
        /// Where they should be.
        dir: PathBuf,
        /// The cause.
        #[source]
        source: bollard::errors::Error,
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
    /// The socket is not for this user.
    #[error(
        "Docker at {address}: this user may not use the socket; give it the socket's group (docker run --group-add)"
    )]
    Denied {
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
    /// Its own ID; empty if it keeps none.
    pub id: String,
    /// Its host's name.
    pub host: String,
    /// Its clock, in nanoseconds since 1970.
    pub time: i64,
    /// The boot of its host, if that is known.
    pub boot: Option<String>,
}

impl Identity {
    /// The mark of what is registered for this Docker by the registrar whose own state is `state`.
    pub fn mark(&self, state: &str) -> Mark {
        let docker = if self.id.is_empty() { &self.host } else { &self.id };
        Mark { docker: docker.clone(), state: state.to_owned() }
    }
}

/// Where Docker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `unix:///PATH`, `tcp://HOST:PORT` or `https://HOST:PORT`.
    pub address: String,
    /// TLS is spoken, with `ca.pem`, `cert.pem` and `key.pem` from here.
    pub certificates: Option<PathBuf>,
}

/// A Docker at an address.
pub struct Connection {
    docker: Docker,
    address: String,
    engine: String,
    /// Whether networks span hosts, by their ids; that never changes.
    span_hosts: Mutex<HashMap<String, bool>>,
}

impl Connection {
    /// Connects, agrees on a version of the API, and asks who is there.
    ///
    /// # Errors
    /// [`Error`], if that does not work just now or never will.
    pub async fn open(target: &Target) -> Result<(Self, Identity), Error> {
        let docker = client(target)?;
        let address = target.address.clone();
        let mut connection =
            Self { docker: docker.clone(), address, engine: String::new(), span_hosts: Mutex::default() };
        connection.docker = connection.limited("agree on a version", docker.negotiate_version()).await?;
        let version = connection.limited("ask for its version", connection.docker.version()).await?;
        connection.engine = engine(&version, &connection.docker.client_version().to_string());
        let info = connection.limited("ask who it is", connection.docker.info()).await?;
        let identity = Identity {
            id: info.id.filter(|_| !is_podman(&version)).unwrap_or_default(),
            host: info.name.unwrap_or_default(),
            time: info.system_time.as_deref().map_or(0, nanoseconds),
            boot: boot::of_docker(target),
        };
        Ok((connection, identity))
    }

    /// What answers, its version, and that of the API that is spoken.
    pub fn engine(&self) -> &str {
        &self.engine
    }

    async fn limited<T>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, Error> {
        let address = self.address.clone();
        match timeout(CALL_LIMIT, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if is_denied(&source) => Err(Error::Denied { address, source }),
            Ok(Err(source)) => Err(Error::Call { what, address, source }),
            Err(_) => Err(Error::Timeout { what, address }),
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

    /// One container, or why nothing can be read out of what Docker says of it; `None` if there is no such.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn inspect(&self, id: &str) -> Result<Option<Result<Container, &'static str>>, Error> {
        let call = self.docker.inspect_container(id, None::<InspectContainerOptions>);
        let answer = match self.limited("inspect a container", call).await {
            Ok(answer) => answer,
            Err(Error::Call { source, .. }) if status(&source) == Some(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut container = match Container::from_docker(answer) {
            Ok(container) => container,
            Err(why) => return Ok(Some(Err(why))),
        };
        for (name, attachment) in &mut container.attachments {
            attachment.spans_hosts = !ITS_OWN.contains(&name.as_str()) && self.spans_hosts(&attachment.network).await?;
        }
        Ok(Some(Ok(container)))
    }

    async fn spans_hosts(&self, network: &str) -> Result<bool, Error> {
        let known = || self.span_hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if network.is_empty() {
            return Ok(false);
        }
        if let Some(known) = known().get(network) {
            return Ok(*known);
        }
        let call = self.docker.inspect_network(network, None::<InspectNetworkOptions>);
        let spans = match self.limited("inspect a network", call).await {
            Ok(found) => spans_hosts(&found),
            // Gone, or no network that Docker would show.
            Err(Error::Call { source, .. }) if status(&source).is_some() => return Ok(false),
            Err(error) => return Err(error),
        };
        known().insert(network.to_owned(), spans);
        Ok(spans)
    }

    /// All containers that can be read, as [`Connection::list`] says.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn containers(&self, ended: bool) -> Result<Vec<Container>, Error> {
        let mut all = Vec::new();
        for id in self.list(ended).await?.into_iter().filter_map(|listed| listed.id) {
            all.extend(self.inspect(&id).await?.and_then(Result::ok));
        }
        Ok(all)
    }

    /// The running container that is called `name`, or whose id begins with it.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn find(&self, name: &str) -> Result<Option<Container>, Error> {
        let answer = if name.is_empty() { None } else { self.inspect(name).await? };
        Ok(answer.and_then(Result::ok).filter(|container| container.running))
    }

    fn events(&self, since: i64) -> impl Stream<Item = Result<EventMessage, bollard::errors::Error>> {
        // Podman tells of `die` only who asks for `died`.
        let actions = "start die died kill pause unpause rename destroy remove health_status connect disconnect";
        let filters = HashMap::from([("type", vec!["container", "network"]), ("event", actions.split(' ').collect())]);
        let mut options = EventsOptionsBuilder::default().filters(&filters);
        if since > 0 {
            options = options.since(&format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000));
        }
        self.docker.events(Some(options.build()))
    }
}

/// Checks an address, and the certificates if there are any, without connecting.
///
/// # Errors
/// [`Error::Address`], [`Error::Certificates`]
pub fn check(target: &Target) -> Result<(), Error> {
    match client(target) {
        Err(error @ (Error::Address { .. } | Error::Certificates { .. })) => Err(error),
        _ => Ok(()),
    }
}

fn client(target: &Target) -> Result<Docker, Error> {
    let address = &target.address;
    let bad = |why: &str| Error::Address { address: address.clone(), why: why.to_owned() };
    let built = match (address.split_once("://"), &target.certificates) {
        (Some(("unix", path)), _) if path.starts_with('/') => {
            Docker::connect_with_unix(path, CALL_SECONDS, API_DEFAULT_VERSION)
        }
        (Some(("unix", _)), _) => return Err(bad("the path is not absolute")),
        (Some((_, "")), _) => return Err(bad("it names no host")),
        (Some(("tcp" | "https", place)), Some(dir)) => return over_tls(place, dir),
        (Some(("https", _)), None) => return Err(bad("certificates are needed for it: --docker-cert-path")),
        (Some(("tcp" | "http", place)), _) => Docker::connect_with_http(place, CALL_SECONDS, API_DEFAULT_VERSION),
        _ => return Err(bad("it has no scheme that is known")),
    };
    built.map_err(|source| Error::Call { what: "open the socket", address: address.clone(), source })
}

/// Whether it is one of the overlay's, and not for this host alone.
fn spans_hosts(network: &NetworkInspect) -> bool {
    let made_by_it = network.driver.as_deref() == Some(NETWORK_DRIVER);
    let marked = network.labels.as_ref().is_some_and(|labels| labels.contains_key(NETWORK_LABEL));
    let local = network.options.as_ref().and_then(|options| options.get("local"));
    (made_by_it && local.is_none_or(|local| local == "false")) || marked
}

fn engine(version: &SystemVersion, api: &str) -> String {
    let name = if is_podman(version) { "Podman" } else { "Docker" };
    format!("{name} {}, API {api}", version.version.as_deref().unwrap_or("of no version"))
}

/// Podman answers as Docker does, but makes up another ID for each answer.
fn is_podman(version: &SystemVersion) -> bool {
    version.components.iter().flatten().any(|component| component.name == "Podman Engine")
}

fn over_tls(place: &str, dir: &Path) -> Result<Docker, Error> {
    let [key, cert, ca] = ["key.pem", "cert.pem", "ca.pem"].map(|name| dir.join(name));
    let built = Docker::connect_with_ssl(place, &key, &cert, &ca, CALL_SECONDS, API_DEFAULT_VERSION);
    built.map_err(|source| Error::Certificates { dir: dir.to_owned(), source })
}

fn status(error: &bollard::errors::Error) -> Option<u16> {
    match error {
        bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// The system does not let us connect.
fn is_denied(error: &bollard::errors::Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let io = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.into_iter().any(|cause| cause.kind() == std::io::ErrorKind::PermissionDenied)
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

    fn at(address: &str, certificates: Option<&Path>) -> Target {
        Target { address: address.to_owned(), certificates: certificates.map(Path::to_owned) }
    }

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
            assert_eq!(check(&at(address, None)).is_ok(), good, "{address}");
        }
    }

    #[test]
    fn certificates_are_read_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let error = check(&at("tcp://h:2376", Some(dir.path()))).unwrap_err();
        assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
        let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(vec!["h".into()]).unwrap();
        for name in ["ca.pem", "cert.pem"] {
            std::fs::write(dir.path().join(name), cert.pem()).unwrap();
        }
        std::fs::write(dir.path().join("key.pem"), signing_key.serialize_pem()).unwrap();
        for address in ["tcp://h:2376", "https://h:2376"] {
            check(&at(address, Some(dir.path()))).unwrap();
        }
    }
}
