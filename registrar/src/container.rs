//! Facts of one container, read from Docker's answer. Pure: what the facts mean for the registry is decided in
//! [`mapping`](crate::mapping).

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::Duration,
};

use bollard::models::{ContainerInspectResponse, EndpointSettings, HealthStatusEnum, PortBinding};
use nix::sys::signal::Signal;

/// What Docker gives a container to stop when nobody said otherwise.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Output of a health check beyond this is cut: it is for eyes.
const MAX_HEALTH_OUTPUT_CHARS: usize = 500;

/// A container as far as the registry is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// As given at creation: `reg.example:5000/acme/web:2.1`.
    pub image: String,
    /// `-h`, with the domain name if there is one; `None` if Docker made it up.
    pub hostname: Option<String>,
    /// `SERVICE_*` variables, in order; those of the image included.
    pub env: Vec<(String, String)>,
    /// All labels; those of the image included.
    pub labels: BTreeMap<String, String>,
    /// A process is there; paused counts, waiting for a restart does not.
    pub running: bool,
    /// Frozen by `docker pause`.
    pub paused: bool,
    /// Start of the present life, in nanoseconds since 1970 by Docker's clock; 0 if unknown.
    pub started: i64,
    /// End of the last life, likewise; 0 if there was none.
    pub finished: i64,
    /// What the last process ended with; 128 more than the signal if one ended it.
    pub exit_code: i64,
    /// The kernel ended it for want of memory.
    pub out_of_memory: bool,
    /// Only with a HEALTHCHECK.
    pub health: Option<Health>,
    /// Sent by `docker stop`.
    pub stop_signal: i32,
    /// From the stop signal to KILL.
    pub stop_timeout: Duration,
    /// Whose network it lives in.
    pub network_mode: NetworkMode,
    /// `EXPOSE` and `--expose`.
    pub exposed: BTreeSet<Port>,
    /// `-p`, lowest host port first.
    pub bindings: BTreeMap<Port, Vec<Binding>>,
    /// Attached networks by name.
    pub networks: BTreeMap<String, Endpoint>,
    /// What it is called on each of them.
    pub attachments: BTreeMap<String, Attachment>,
    /// What Docker said that cannot be used.
    pub problems: Vec<String>,
}

/// State of a HEALTHCHECK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What Docker makes of the last probes.
    pub state: HealthState,
    /// What the last probe printed.
    pub output: String,
}

/// What a HEALTHCHECK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthState {
    /// No probe has counted yet.
    Starting,
    /// The last probes succeeded.
    Healthy,
    /// Too many probes failed in a row.
    Unhealthy,
}

/// `--network`, as far as it decides about addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// The host's own.
    Host,
    /// None at all.
    None,
    /// That of another container, by id or name.
    Container(String),
    /// Bridges, overlays and the like: see [`Container::networks`].
    Networks,
}

/// The transport of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // the names say it
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// Docker's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port inside the container: `80/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Never 0.
    pub number: u16,
    /// tcp if Docker says nothing.
    pub protocol: Protocol,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol.as_str())
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = port_number(number).ok_or_else(|| format!("{text:?} is no port"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(format!("{text:?} has an unknown protocol")),
        };
        Ok(Self { number, protocol })
    }
}

fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|n| *n != 0)
}

/// Where a port is published on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// The host's port.
    pub port: u16,
    /// `0.0.0.0` or `::` for all addresses of the host.
    pub address: IpAddr,
}

/// The container's own addresses on one network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Endpoint {
    pub ipv4: Option<Ipv4Addr>,
    pub ipv6: Option<Ipv6Addr>,
}

/// Beside the addresses on a network: what the network is, and what the container is called there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attachment {
    /// Docker's id for the network.
    pub network: String,
    /// Names beside the container's own, but for the beginning of its id.
    pub aliases: BTreeSet<String>,
    /// The network is one of the overlay's, which spans hosts. Docker tells that of networks, not of containers.
    pub spans_hosts: bool,
}

impl Attachment {
    fn from_docker(container: &str, settings: &EndpointSettings) -> Self {
        let aliases = settings.aliases.iter().flatten().filter(|alias| !container.starts_with(*alias));
        let network = settings.network_id.clone().unwrap_or_default();
        Self { network, aliases: aliases.cloned().collect(), spans_hosts: false }
    }
}

impl Endpoint {
    /// Both, where there are two.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    /// Docker's spelling, where an empty text is no address.
    pub fn from_docker(settings: &EndpointSettings) -> Self {
        Self { ipv4: address(settings.ip_address.as_deref()), ipv6: address(settings.global_ipv6_address.as_deref()) }
    }
}

fn address<A: FromStr>(text: Option<&str>) -> Option<A> {
    text.and_then(|t| t.parse().ok())
}

impl Container {
    /// Reads Docker's answer; whatever is missing counts as empty, whatever is wrong is listed in
    /// [`Container::problems`].
    ///
    /// # Errors
    /// If the answer has no id or no name: then it cannot be told which container it is about.
    pub fn from_docker(answer: ContainerInspectResponse) -> Result<Self, &'static str> {
        let id = answer.id.filter(|id| !id.is_empty()).ok_or("it has no Id")?;
        let name = answer.name.unwrap_or_default().trim_start_matches('/').to_owned();
        if name.is_empty() {
            return Err("it has no Name");
        }
        let config = answer.config.unwrap_or_default();
        let state = answer.state.unwrap_or_default();
        let network = answer.network_settings.unwrap_or_default();
        let mode = answer.host_config.and_then(|h| h.network_mode).unwrap_or_default();
        let mut problems = Vec::new();
        let exposed = config.exposed_ports.unwrap_or_default();
        let exposed = exposed.iter().filter_map(|p| or_note(p.parse(), &mut problems)).collect();
        let mut bindings = BTreeMap::new();
        for (port, published) in network.ports.unwrap_or_default() {
            let Some(port) = or_note(port.parse(), &mut problems) else { continue };
            let published = published.unwrap_or_default();
            let mut list: Vec<_> = published.iter().filter_map(|b| or_note(binding(b), &mut problems)).collect();
            list.sort_unstable();
            list.dedup();
            bindings.insert(port, list);
        }
        let networks = network.networks.unwrap_or_default();
        let flag = |value: Option<bool>| value.unwrap_or(false);
        Ok(Self {
            hostname: hostname(&id, config.hostname.as_deref(), config.domainname.as_deref()),
            image: config.image.unwrap_or_default(),
            env: config.env.unwrap_or_default().iter().filter_map(|e| variable(e)).collect(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            running: flag(state.running) && !flag(state.restarting) && !flag(state.dead),
            paused: flag(state.paused),
            started: state.started_at.as_deref().map_or(0, nanoseconds),
            finished: state.finished_at.as_deref().map_or(0, nanoseconds),
            exit_code: state.exit_code.unwrap_or(0),
            out_of_memory: flag(state.oom_killed),
            health: state.health.and_then(health),
            stop_signal: config.stop_signal.as_deref().and_then(signal).unwrap_or(Signal::SIGTERM as i32),
            stop_timeout: config
                .stop_timeout
                .and_then(|s| u64::try_from(s).ok())
                .map_or(DEFAULT_STOP_TIMEOUT, Duration::from_secs),
            network_mode: network_mode(&mode),
            exposed,
            bindings,
            networks: networks.iter().map(|(n, e)| (n.clone(), Endpoint::from_docker(e))).collect(),
            attachments: networks.iter().map(|(n, e)| (n.clone(), Attachment::from_docker(&id, e))).collect(),
            id,
            name,
            problems,
        })
    }

    /// As `docker ps` shows it.
    pub fn short_id(&self) -> &str {
        short_id(&self.id)
    }
}

/// The beginning of an id, as `docker ps` shows it.
pub fn short_id(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn or_note<T>(read: Result<T, String>, problems: &mut Vec<String>) -> Option<T> {
    read.map_err(|problem| problems.push(problem)).ok()
}

fn binding(published: &PortBinding) -> Result<Binding, String> {
    let port = published.host_port.as_deref().unwrap_or_default();
    let ip = published.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
    Ok(Binding {
        port: port_number(port).ok_or_else(|| format!("{port:?} is no host port"))?,
        address: ip.parse().map_err(|_| format!("{ip:?} is no host address"))?,
    })
}

/// `SERVICE_X=y`; everything else in the environment is none of our business and not kept.
fn variable(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    key.starts_with("SERVICE_").then(|| (key.to_owned(), value.to_owned()))
}

/// Docker names a host after the container's id unless told otherwise.
fn hostname(id: &str, host: Option<&str>, domain: Option<&str>) -> Option<String> {
    let host = host.filter(|h| !h.is_empty() && !id.starts_with(h))?;
    Some(match domain.filter(|d| !d.is_empty()) {
        Some(domain) => format!("{host}.{domain}"),
        None => host.to_owned(),
    })
}

fn network_mode(mode: &str) -> NetworkMode {
    match mode.split_once(':') {
        Some(("container", other)) => NetworkMode::Container(other.to_owned()),
        _ if mode == "host" => NetworkMode::Host,
        _ if mode == "none" => NetworkMode::None,
        _ => NetworkMode::Networks,
    }
}

fn health(health: bollard::models::Health) -> Option<Health> {
    let state = match health.status? {
        HealthStatusEnum::STARTING => HealthState::Starting,
        HealthStatusEnum::HEALTHY => HealthState::Healthy,
        HealthStatusEnum::UNHEALTHY => HealthState::Unhealthy,
        HealthStatusEnum::NONE | HealthStatusEnum::EMPTY => return None,
    };
    let last = health.log.unwrap_or_default().pop().and_then(|probe| probe.output);
    let output = last.unwrap_or_default().trim().chars().take(MAX_HEALTH_OUTPUT_CHARS).collect();
    Some(Health { state, output })
}

/// A signal as Docker writes it: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`.
pub fn signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (number > 0).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return Some(34 + offset); // Docker's SIGRTMIN, glibc's too
    }
    Signal::from_str(&format!("SIG{name}")).ok().map(|s| s as i32)
}

/// Docker's time as nanoseconds since 1970; 0 for "never" and for what is no time.
pub fn nanoseconds(time: &str) -> i64 {
    let time = time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_nanosecond);
    i64::try_from(time).unwrap_or(0).max(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// What Docker 20.10 (API 1.41) answers, cut to what is read, with `patch` merged over it.
    pub(crate) fn inspect(patch: &serde_json::Value) -> ContainerInspectResponse {
        let mut answer = json!({
            "Id": "4f1c2b3a4d5e60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9",
            "Created": "2025-11-21T10:00:00.000000001Z",
            "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false,
                "Dead": false, "Pid": 4242, "ExitCode": 0, "Error": "", "StartedAt": "2025-11-21T10:00:01.000000002Z",
                "FinishedAt": "0001-01-01T00:00:00Z"},
            "Image": "sha256:0d1e", "Name": "/web", "RestartCount": 0, "Driver": "overlay2", "Platform": "linux",
            "HostConfig": {"NetworkMode": "default", "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "18080"}]}},
            "Config": {"Hostname": "4f1c2b3a4d5e", "Domainname": "", "Env": ["PATH=/bin"],
                "ExposedPorts": {"80/tcp": {}}, "Image": "acme/hello:1", "Labels": {}},
            "NetworkSettings": {"SandboxID": "a1", "SandboxKey": "/var/run/docker/netns/a1",
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}, {"HostIp": "::", "HostPort": "18080"}]},
                "Networks": {"bridge": {"NetworkID": "b1", "EndpointID": "e1", "Gateway": "172.17.0.1",
                    "IPAddress": "172.17.0.2", "IPPrefixLen": 16, "IPv6Gateway": "", "GlobalIPv6Address": "",
                    "MacAddress": "02:42:ac:11:00:02"}}}
        });
        merge(&mut answer, patch);
        serde_json::from_value(answer).unwrap()
    }

    /// JSON merge patch, RFC 7396.
    pub(crate) fn merge(target: &mut serde_json::Value, patch: &serde_json::Value) {
        let serde_json::Value::Object(patch) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let object = target.as_object_mut().unwrap();
        for (key, value) in patch {
            if value.is_null() {
                object.remove(key);
            } else {
                merge(object.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
    }

    pub(crate) fn container(patch: &serde_json::Value) -> Container {
        Container::from_docker(inspect(patch)).unwrap()
    }

    #[test]
    fn reads_the_usual_container() {
        let got = container(&json!({}));
        assert_eq!((got.name.as_str(), got.short_id()), ("web", "4f1c2b3a4d5e"));
        assert_eq!(got.image, "acme/hello:1");
        assert_eq!(got.hostname, None, "Docker's own choice of a hostname is no name");
        assert!(got.running && !got.paused);
        assert_eq!(got.started, 1_763_719_201_000_000_002);
        assert_eq!((got.stop_signal, got.stop_timeout), (15, Duration::from_secs(10)));
        assert_eq!(got.network_mode, NetworkMode::Networks);
        let port: Port = "80/tcp".parse().unwrap();
        assert_eq!(got.exposed, BTreeSet::from([port]));
        let text: Vec<_> = got.bindings[&port].iter().map(|b| format!("{} {}", b.port, b.address)).collect();
        assert_eq!(text, ["18080 0.0.0.0", "18080 ::"]);
        assert_eq!(got.networks["bridge"].ipv4, Some("172.17.0.2".parse().unwrap()));
        assert!(got.env.is_empty() && got.problems.is_empty());
    }

    #[test]
    fn a_restarting_or_dead_container_does_not_run() {
        for (patch, runs) in [
            (json!({"State": {"Running": true, "Restarting": true}}), false),
            (json!({"State": {"Running": false}}), false),
            (json!({"State": {"Dead": true}}), false),
            (json!({"State": {"Paused": true}}), true),
            (json!({"State": null}), false),
        ] {
            assert_eq!(container(&patch).running, runs, "{patch}");
        }
    }

    #[test]
    fn bad_ports_and_addresses_are_named_and_the_rest_is_used() {
        let got = container(&json!({
            "Config": {"ExposedPorts": {"70000/tcp": {}, "0/tcp": {}, "x": {}, "9/ipx": {}}},
            "NetworkSettings": {"Ports": {"81/tcp": [{"HostIp": "nowhere", "HostPort": "1"},
                {"HostIp": "", "HostPort": "99999"}, {"HostIp": "", "HostPort": "81"}]},
                "Networks": {"odd": {"IPAddress": "not an address"}}}}));
        assert_eq!(got.problems.len(), 6, "{:?}", got.problems);
        assert_eq!(got.exposed.len(), 1);
        assert_eq!(got.bindings[&"81".parse().unwrap()].len(), 1);
        assert_eq!(got.networks["odd"], Endpoint::default());
    }

    #[test]
    fn an_answer_without_id_or_name_is_refused() {
        for patch in [json!({"Id": null}), json!({"Name": null}), json!({"Name": "/"})] {
            assert!(Container::from_docker(inspect(&patch)).is_err(), "{patch}");
        }
    }

    #[test]
    fn signals_in_every_spelling() {
        for (text, number) in [
            ("SIGTERM", Some(15)),
            ("quit", Some(3)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMIN", Some(34)),
            ("SIGRTMIN-3", None),
            ("", None),
            ("0", None),
            ("NOSUCH", None),
        ] {
            assert_eq!(signal(text), number, "{text}");
        }
    }

    #[test]
    fn hostname_network_and_health() {
        let got = container(&json!({
            "Config": {"Hostname": "db", "Domainname": "example.org", "StopSignal": "SIGQUIT", "StopTimeout": 60,
                "Env": ["SERVICE_NAME=db", "SERVICE_EMPTY=", "NOISE"]},
            "HostConfig": {"NetworkMode": "container:abc"},
            "State": {"Health": {"Status": "unhealthy", "FailingStreak": 3,
                "Log": [{"ExitCode": 0, "Output": "old"}, {"ExitCode": 1, "Output": " refused\n"}]}}}));
        assert_eq!(got.hostname.as_deref(), Some("db.example.org"));
        assert_eq!((got.stop_signal, got.stop_timeout), (3, Duration::from_mins(1)));
        assert_eq!(got.network_mode, NetworkMode::Container("abc".into()));
        assert_eq!(got.env, [("SERVICE_NAME".into(), "db".into()), ("SERVICE_EMPTY".into(), String::new())]);
        let health = got.health.unwrap();
        assert_eq!((health.state, health.output.as_str()), (HealthState::Unhealthy, "refused"));
        assert_eq!(container(&json!({"State": {"Health": {"Status": "none"}}})).health, None);
    }

    #[test]
    fn times() {
        assert_eq!(nanoseconds("1970-01-01T00:00:01.5Z"), 1_500_000_000);
        assert_eq!(nanoseconds("1970-01-01T01:00:01+01:00"), 1_000_000_000);
        assert_eq!(nanoseconds("0001-01-01T00:00:00Z"), 0);
        assert_eq!(nanoseconds("yesterday"), 0);
    }
}
