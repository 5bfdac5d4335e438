//! Flags > environment > file -> [`Config`]; all faults are told at once. Nothing is opened but the files named.

mod settings;

use std::{
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

pub use settings::Settings;

use crate::{
    docker::{Address, DockerError},
    plugin::DEFAULT_SOCKET,
    state::DEFAULT_DIR,
};

/// For one call to the registry.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const DEFAULT_SECRET: &str = "/etc/overlay/secret";
const DEFAULT_PORT: u16 = 51820;
const DEFAULT_INTERFACE: &str = "ovl0";
/// What WireGuard adds, with IPv6 around it, are 80 bytes.
const DEFAULT_MTU: u16 = 1420;
const DEFAULT_GRACE: Duration = Duration::from_hours(24);
/// Shorter, and a registry that is restarted would cost hosts their addresses.
const MIN_GRACE: Duration = Duration::from_mins(1);
const DEFAULT_REGISTRY_PORT: u16 = 8500;
const DEFAULT_REGISTRY: &str = "http://127.0.0.1:8500";
/// A name travels in records and stands in tables.
const MAX_NAME_BYTES: usize = 64;

/// What the daemon needs, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// How to reach the registry.
    pub registry: ClientConfig,
    /// The registries were not said, but are those of a member.
    pub joining: bool,
    /// Members to be asked for registries: HOST:PORT of their tunnels.
    pub members: Vec<String>,
    /// What this host is called.
    pub name: String,
    /// Where the mesh's secret is.
    pub secret_file: PathBuf,
    /// UDP port of the tunnel.
    pub port: u16,
    /// Name of the tunnel's interface.
    pub interface: String,
    /// Where others reach this host, as its operator says.
    pub endpoints: Vec<SocketAddr>,
    /// Largest packet in the tunnel, in bytes.
    pub mtu: u16,
    /// It passes on what others send each other.
    pub relay: bool,
    /// How long a host may be away and keep what it holds.
    pub grace: Duration,
    /// Where health and metrics are told, if anywhere.
    pub http: Option<SocketAddr>,
    /// Where key, secrets and state are kept.
    pub state_dir: PathBuf,
    /// Docker, if there is any.
    pub docker: Option<Address>,
    /// Where it looks for the driver.
    pub plugin_socket: PathBuf,
    /// How to log.
    pub log_format: LogFormat,
}

impl Config {
    /// From flags and environment, and the text of a file for what they leave open; `host` is what the system calls it.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn new(flags: Settings, file: Option<(&str, &str)>, host: &str) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let file = file.map(|(name, text)| shared::read(name, text, &mut faults)).unwrap_or_default();
        let config = check(flags.over(file), host, &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
    }

    /// The registries that were given, then those that were `learned` from other members.
    pub fn registry_and(&self, learned: &[String]) -> ClientConfig {
        let mut config = self.registry.clone();
        for address in learned {
            let one = ClientConfig { addresses: vec![address.clone()], ..config.clone() };
            if !config.addresses.contains(address) && Client::new(&one).is_ok() {
                config.addresses.push(address.clone());
            }
        }
        config
    }
}

fn check(settings: Settings, host: &str, faults: &mut Vec<String>) -> Config {
    let joining = settings.registry.is_empty() && !settings.join.is_empty();
    let port = settings.port.unwrap_or(DEFAULT_PORT);
    let registries = settings.registry.into_iter().chain(settings.join.iter().map(|host| member(host)));
    let grace = settings.grace.and_then(|text| {
        let parsed = text.parse::<GoDuration>().map_err(|why| format!("grace: {why}"));
        or_fault(parsed, faults).map(|grace| grace.0)
    });
    if grace.is_some_and(|grace| grace < MIN_GRACE) {
        faults.push(format!(
            "grace: less than {} would cost hosts their addresses while they restart",
            GoDuration(MIN_GRACE)
        ));
    }
    let mtu = settings.mtu.unwrap_or(DEFAULT_MTU);
    if !(1280..=9000).contains(&mtu) {
        faults.push(format!("mtu: {mtu} is not within 1280, which IPv6 needs, and 9000"));
    }
    let http = settings
        .http_addr
        .and_then(|text| or_fault(text.parse().map_err(|_| format!("http-addr: {text:?} is no IP:PORT")), faults));
    Config {
        registry: registry(registries.collect(), settings.access, faults),
        joining,
        members: settings.join.iter().map(|host| asked(host, port)).collect(),
        secret_file: settings.secret_file.unwrap_or_else(|| DEFAULT_SECRET.into()),
        port,
        interface: interface(settings.interface, faults),
        endpoints: settings.endpoint.iter().filter_map(|text| or_fault(endpoint(text, port), faults)).collect(),
        mtu,
        relay: !settings.no_relay,
        grace: grace.unwrap_or(DEFAULT_GRACE),
        http,
        name: name(settings.name.as_deref().unwrap_or(host), faults),
        state_dir: settings.state_dir.unwrap_or_else(|| DEFAULT_DIR.into()),
        docker: docker(settings.docker.as_deref().unwrap_or("none"), faults),
        plugin_socket: settings.plugin_socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
        log_format: choice("log-format", settings.log_format, faults),
    }
}

/// Where the registry of a member would be.
fn member(host: &str) -> String {
    match host {
        _ if host.contains("://") => host.to_owned(),
        _ if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("http://[{host}]:{DEFAULT_REGISTRY_PORT}"),
        _ if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => format!("http://{host}"),
        _ => format!("http://{host}:{DEFAULT_REGISTRY_PORT}"),
    }
}

/// Where a member is asked for registries: at the port of its tunnel, which is the same on all unless it says otherwise.
fn asked(host: &str, port: u16) -> String {
    let host = host.split_once("://").map_or(host, |(_, rest)| rest).trim_end_matches('/');
    match host {
        _ if host.parse::<std::net::Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
        _ => match host.rsplit_once(':') {
            // The port that was given is that of a registry.
            Some((name, last)) if last.parse::<u16>().is_ok() => format!("{name}:{port}"),
            _ => format!("{host}:{port}"),
        },
    }
}

fn endpoint(text: &str, port: u16) -> Result<SocketAddr, String> {
    let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    alone.or_else(|_| text.parse()).map_err(|_| format!("endpoint: {text:?} is neither IP nor IP:PORT"))
}

fn interface(given: Option<String>, faults: &mut Vec<String>) -> String {
    let name = given.unwrap_or_else(|| DEFAULT_INTERFACE.into());
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > 15 || !name.chars().all(good) {
        faults.push(format!("interface: {name:?} is no name of an interface: letters, digits, _ . and -, 15 at most"));
    }
    name
}

fn name(text: &str, faults: &mut Vec<String>) -> String {
    let good = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.chars().all(good) {
        faults
            .push(format!("name: {text:?} is no name of a host: letters, digits, _ . and -, {MAX_NAME_BYTES} at most"));
    }
    text.to_owned()
}

fn docker(address: &str, faults: &mut Vec<String>) -> Option<Address> {
    if matches!(address, "" | "none") {
        return None;
    }
    or_fault(address.parse().map_err(|error: DockerError| format!("docker: {error}")), faults)
}

/// What is empty, such as a variable that is set to nothing, says nothing.
fn registry(given: Vec<String>, access: Access, faults: &mut Vec<String>) -> ClientConfig {
    let mut addresses: Vec<_> = given.into_iter().filter(|address| !address.trim().is_empty()).collect();
    if addresses.is_empty() {
        addresses.push(DEFAULT_REGISTRY.to_owned());
    }
    let config = or_fault(access.config(addresses).map_err(|error| error.to_string()), faults).unwrap_or_default();
    let config = ClientConfig { timeout: CALL_LIMIT, ..config };
    if let Err(error) = Client::new(&config) {
        faults.push(format!("registry: {}", with_causes(&error)));
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        Config::new(Settings::default(), Some(("o.yaml", text)), "h1").unwrap_err().0
    }

    #[test]
    fn what_is_given_wins_over_the_file_and_that_over_the_defaults() {
        let none = Config::new(Settings::default(), None, "h1").unwrap();
        assert_eq!(
            (none.name.as_str(), none.registry.addresses.as_slice()),
            ("h1", &[DEFAULT_REGISTRY.to_owned()][..])
        );
        let file = "name: fromfile\nregistry: [http://a:1, 'unix:///b']\nstate-dir: /x\n";
        let flags = Settings { name: Some("flag".into()), ..Settings::default() };
        let both = Config::new(flags, Some(("o.yaml", file)), "h1").unwrap();
        assert_eq!((both.name.as_str(), both.state_dir.to_str()), ("flag", Some("/x")));
        assert_eq!(both.registry.addresses, ["http://a:1", "unix:///b"]);
    }

    #[test]
    fn a_member_s_registry_is_where_registries_are() {
        for (host, wanted) in [
            ("10.0.0.1", "http://10.0.0.1:8500"),
            ("h1:9500", "http://h1:9500"),
            ("fd00::1", "http://[fd00::1]:8500"),
            ("https://h1:8501", "https://h1:8501"),
        ] {
            let flags = Settings { join: vec![host.into()], ..Settings::default() };
            let config = Config::new(flags, None, "h1").unwrap();
            assert_eq!((config.registry.addresses, config.joining), (vec![wanted.to_owned()], true));
            let asked = wanted.split_once("://").unwrap().1.rsplit_once(':').unwrap().0;
            assert_eq!(config.members, [format!("{asked}:51820")]);
        }
    }

    #[test]
    fn all_faults_are_told_at_once_with_their_lines() {
        let told = faults(
            "mtu: 100\ngrace: 5s\ninterface: a/b\nendpoint: x\nhttp-addr: y\nregistry: ftp://x\nname: a b\nlog-format: xml\nnosuch: 1\ndocker: ftp://y\n",
        );
        for part in [
            "docker: \"ftp://y\"",
            "o.yaml:9: nosuch",
            "mtu: 100",
            "grace: less",
            "interface: \"a/b\"",
            "endpoint: \"x\"",
            "http-addr: \"y\"",
            "registry: \"ftp://x\"",
            "name: \"a b\"",
            "log-format: \"xml\"",
        ] {
            assert!(told.iter().any(|fault| fault.starts_with(part)), "{part} in {told:?}");
        }
    }
}
