//! Flags > environment > file -> [`Config`]; all faults are told at once. Nothing is opened but the files named.

mod policy;
mod settings;

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use kvstore_client::{
    Access, Client, ClientConfig, GoDuration,
    logging::LogFormat,
    settings::{self as shared, Faults, choice, or_fault},
    with_causes,
};

pub use policy::PolicySettings;
pub use settings::Settings;

use crate::{
    address::{Family, HostAddress, Source},
    docker,
    mapping::{Choices, TagTemplates},
    registry::{Place, Registry},
    world::{DEFAULT_REAP, Lives},
};

/// For one call to the registry.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const DEFAULT_REGISTRY: &str = "http://127.0.0.1:8500";
const DEFAULT_DOCKER: &str = "unix:///var/run/docker.sock";
const DEFAULT_RESYNC: Duration = Duration::from_mins(1);
const DEFAULT_NODE_TTL: Duration = Duration::from_secs(15);

/// What `run` needs, checked.
#[derive(Clone)]
pub struct Config {
    /// How to reach the registry.
    pub registry: ClientConfig,
    /// Where Docker is.
    pub docker: docker::Target,
    /// Where this host's address comes from.
    pub address: Source,
    /// `None` for never.
    pub resync: Option<Duration>,
    /// When containers take work, and how long their entries stay.
    pub lives: Lives,
    /// Take everything out at the end.
    pub deregister_on_exit: bool,
    /// The state directory, if it was given.
    pub state_dir: Option<PathBuf>,
    /// Where health and metrics are told, if anywhere.
    pub http: Option<SocketAddr>,
    /// How to log.
    pub log_format: LogFormat,
    /// How containers are registered.
    pub policy: PolicySettings,
}

impl Config {
    /// From flags and environment, and the text of a file for what they leave open.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn new(flags: Settings, file: Option<(&str, &str)>) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let file = file.map(|(name, text)| shared::read(name, text, &mut faults)).unwrap_or_default();
        let config = check(flags.over(file), &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
    }

    /// The registry, not yet spoken to.
    ///
    /// # Errors
    /// For an address that cannot be used.
    pub fn registry(&self) -> Result<Registry, kvstore_client::Error> {
        Ok(Registry::new(
            Client::new(&self.registry)?,
            self.policy.place.clone(),
            self.address.clone(),
            self.policy.choices.family,
        ))
    }
}

fn check(settings: Settings, faults: &mut Vec<String>) -> Config {
    let registry = registry(settings.registry, settings.access, faults);
    let docker = docker(settings.docker, settings.docker_tls, settings.docker_cert_path, faults);
    let family = choice("family", settings.family, faults);
    let address = source(&settings.ip, settings.ip_from_interface, family, faults);
    let ttl = duration("node-ttl", settings.node_ttl, faults).unwrap_or(DEFAULT_NODE_TTL);
    if ttl < Duration::from_secs(1) {
        faults.push("node-ttl: less than 1s would lapse between two words of the registrar".into());
    }
    let place = settings.node.map_or(Place::Agent, |name| Place::Node { name, ttl });
    if let Place::Node { name, .. } = &place
        && (name.is_empty() || name.contains(|c: char| c.is_control() || c == '/'))
    {
        faults.push(format!("node: {name:?} is no name of a node"));
    }
    let resync = duration("resync", settings.resync, faults).unwrap_or(DEFAULT_RESYNC);
    Config {
        registry,
        docker,
        address,
        resync: Some(resync).filter(|every| !every.is_zero()),
        lives: Lives {
            min_uptime: duration("min-uptime", settings.min_uptime, faults).unwrap_or_default(),
            deregister: choice("deregister", settings.deregister, faults),
            reap: duration("reap", settings.reap, faults).unwrap_or(DEFAULT_REAP),
        },
        deregister_on_exit: settings.deregister_on_exit,
        state_dir: settings.state_dir,
        http: settings
            .http_addr
            .and_then(|text| or_fault(text.parse().map_err(|_| format!("http-addr: {text:?} is no IP:PORT")), faults)),
        log_format: choice("log-format", settings.log_format, faults),
        policy: PolicySettings {
            place,
            host_id: settings.host_id,
            choices: Choices {
                internal: settings.internal,
                explicit: settings.explicit,
                network: settings.network,
                family,
                ip_label: settings.ip_from_label,
                name_from: choice("name-from", settings.name_from, faults),
                no_port_suffix: settings.no_port_suffix,
                version_from_tag: settings.version_from_tag,
                script_checks: settings.script_checks,
                tags: or_fault(TagTemplates::new(settings.tags).map_err(|why| format!("tags: {why}")), faults)
                    .unwrap_or_default(),
            },
        },
    }
}

/// As Docker's own client has it: TLS for `tcp://` has to be asked for, and its files are at home unless told otherwise.
fn docker(address: Option<String>, tls: bool, dir: Option<PathBuf>, faults: &mut Vec<String>) -> docker::Target {
    let address = address.filter(|address| !address.is_empty()).unwrap_or_else(|| DEFAULT_DOCKER.into());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker"));
    let secure = tls || address.starts_with("https://");
    let target = docker::Target { certificates: if secure { dir.or_else(home) } else { None }, address };
    if let Err(error) = docker::check(&target) {
        faults.push(format!("docker: {}", with_causes(&error)));
    }
    target
}

fn source(given: &[String], interface: Option<String>, family: Family, faults: &mut Vec<String>) -> Source {
    let parse = |ip: &String| {
        let parsed = ip.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
        parsed.ok_or_else(|| format!("ip: {ip:?} is no address of this host"))
    };
    let addresses: Vec<_> = given.iter().filter_map(|ip| or_fault(parse(ip), faults)).collect();
    match (HostAddress::of(&addresses, family), interface) {
        (Some(address), None) => Source::Given(address),
        (None, Some(name)) if given.is_empty() => Source::Interface(name),
        (_, Some(_)) => {
            faults.push("ip and ip-from-interface: give one of them".into());
            Source::Route
        }
        (None, None) => {
            if !addresses.is_empty() {
                faults.push("ip: none of the addresses is of the family that is asked for".into());
            }
            Source::Route
        }
    }
}

/// Registrator's spellings are understood, too. What is empty, such as a variable that is set to nothing, says nothing.
fn registry(given: Vec<String>, access: Access, faults: &mut Vec<String>) -> ClientConfig {
    let mut given: Vec<_> = given.into_iter().filter(|address| !address.trim().is_empty()).collect();
    if given.is_empty() {
        given.push(DEFAULT_REGISTRY.to_owned());
    }
    let modern = |address: String| match address.split_once("://") {
        Some(("consul", rest)) => format!("http://{rest}"),
        Some(("consul-tls", rest)) => format!("https://{rest}"),
        Some(("consul-unix", rest)) => format!("unix://{rest}"),
        _ => address,
    };
    let mut seen = BTreeSet::new();
    let addresses = given.into_iter().map(modern).filter(|address| seen.insert(address.clone())).collect();
    let config = or_fault(access.config(addresses).map_err(|error| error.to_string()), faults).unwrap_or_default();
    let config = ClientConfig { timeout: CALL_LIMIT, ..config };
    for address in &config.addresses {
        let one = ClientConfig { addresses: vec![address.clone()], ..config.clone() };
        if let Err(error) = Client::new(&one) {
            let fault = format!("registry: {}", with_causes(&error));
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
    }
    config
}

fn duration(key: &str, text: Option<String>, faults: &mut Vec<String>) -> Option<Duration> {
    let parsed = text?.parse::<GoDuration>();
    or_fault(parsed.map(|duration| duration.0).map_err(|why| format!("{key}: {why}")), faults)
}

#[cfg(test)]
mod tests;
