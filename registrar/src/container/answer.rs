//! A container out of Docker's answer: what is missing counts as empty, what is wrong is noted, and the rest is used.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use bollard::models::{ContainerInspectResponse, EndpointSettings, HealthStatusEnum, PortBinding};
use nix::sys::signal::Signal;

use super::{Attachment, Binding, Container, Endpoint, Health, HealthState, NetworkMode, port_number};

/// What Docker gives a container to stop when nobody said otherwise.
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Output of a health check beyond this is cut: it is for eyes.
const MAX_HEALTH_OUTPUT_CHARS: usize = 500;

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
}

impl Attachment {
    /// `container` is the id of the one that is attached.
    fn from_docker(container: &str, settings: &EndpointSettings) -> Self {
        let aliases = settings.aliases.iter().flatten().filter(|alias| !container.starts_with(*alias));
        let network = settings.network_id.clone().unwrap_or_default();
        Self { network, aliases: aliases.cloned().collect(), spans_hosts: false }
    }
}

impl Endpoint {
    /// Docker's spelling, where an empty text is no address.
    pub fn from_docker(settings: &EndpointSettings) -> Self {
        Self { ipv4: address(settings.ip_address.as_deref()), ipv6: address(settings.global_ipv6_address.as_deref()) }
    }
}

fn address<A: FromStr>(text: Option<&str>) -> Option<A> {
    text.and_then(|t| t.parse().ok())
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
