//! Flags > environment > file -> [`Config`]; all faults are told at once. Nothing is opened but the files named.

use std::{collections::BTreeSet, fmt, net::IpAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use kvstore_client::{Client, ClientConfig, GoDuration};
use serde::{Deserialize, Deserializer};

use crate::{
    docker,
    mapping::NameFrom,
    registry::{Place, Registry},
};

/// For one call to the registry.
const CALL_LIMIT: Duration = Duration::from_secs(5);
const DEFAULT_REGISTRY: &str = "http://127.0.0.1:8500";
const DEFAULT_DOCKER: &str = "unix:///var/run/docker.sock";
const DEFAULT_RESYNC: Duration = Duration::from_mins(1);
const DEFAULT_NODE_TTL: Duration = Duration::from_secs(15);

/// What can be set, as text; the same keys in flags, environment and file.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // flags are
#[allow(clippy::doc_markdown)] // these are help texts
pub struct Settings {
    /// The registry: http://HOST:PORT or unix:///PATH. Several are tried in this order
    #[arg(long, env = "CONSUL_HTTP_ADDR", value_name = "URL", value_delimiter = ',', global = true)]
    #[serde(deserialize_with = "one_or_many")]
    pub registry: Vec<String>,
    /// Token for the registry; better given by --token-file or the environment
    #[arg(long, env = "CONSUL_HTTP_TOKEN", hide_env_values = true, global = true)]
    pub token: Option<String>,
    /// File with the token for the registry
    #[arg(long, env = "CONSUL_HTTP_TOKEN_FILE", value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// Docker: unix:///PATH or tcp://HOST:PORT [default: unix:///var/run/docker.sock]
    #[arg(long, env = "DOCKER_HOST", value_name = "URL", global = true)]
    pub docker: Option<String>,
    /// Address of published ports [default: this host's address on the way to the registry]
    #[arg(long, env = "REGISTRAR_IP", value_name = "ADDRESS", global = true)]
    pub ip: Option<String>,
    /// Register the containers' own addresses and ports instead of the published ones
    #[arg(long, env = "REGISTRAR_INTERNAL", global = true)]
    pub internal: bool,
    /// Register only containers that have a SERVICE_NAME
    #[arg(long, env = "REGISTRAR_EXPLICIT", global = true)]
    pub explicit: bool,
    /// With --internal: the network whose address is registered; SERVICE_NETWORK says it for one container
    #[arg(long, env = "REGISTRAR_NETWORK", value_name = "NAME", global = true)]
    pub network: Option<String>,
    /// Register in the catalog under a node of this name, and keep that node alive: for one registry that serves
    /// several hosts
    #[arg(long, env = "REGISTRAR_NODE", value_name = "NAME", global = true)]
    pub node: Option<String>,
    /// With --node: how long the node is believed alive after the last word of this registrar [default: 15s]
    #[arg(long, env = "REGISTRAR_NODE_TTL", value_name = "DURATION", global = true)]
    pub node_ttl: Option<String>,
    /// How often everything is compared though nothing happened; 0 for never [default: 1m]
    #[arg(long, env = "REGISTRAR_RESYNC", value_name = "DURATION", global = true)]
    pub resync: Option<String>,
    /// Take everything of this host out of the registry at the end
    #[arg(long, env = "REGISTRAR_DEREGISTER_ON_EXIT", global = true)]
    pub deregister_on_exit: bool,
    /// Where the name comes from without a SERVICE_NAME: image, hostname, container or compose-service [default: image]
    #[arg(long, env = "REGISTRAR_NAME_FROM", value_name = "SOURCE", global = true)]
    pub name_from: Option<String>,
    /// Tags of every instance
    #[arg(long, env = "REGISTRAR_TAGS", value_name = "TAG", value_delimiter = ',', global = true)]
    #[serde(deserialize_with = "one_or_many")]
    pub tags: Vec<String>,
    /// First part of generated ids [default: Docker's name of the host]
    #[arg(long, env = "REGISTRAR_HOST_ID", value_name = "NAME", global = true)]
    pub host_id: Option<String>,
    /// Where the identity of this registrar is kept, by which it knows its entries again [default: /var/lib/registrar,
    /// or ~/.local/state/registrar]
    #[arg(long, env = "REGISTRAR_STATE_DIR", value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// text or json [default: text]
    #[arg(long, env = "REGISTRAR_LOG_FORMAT", value_name = "FORMAT", global = true)]
    pub log_format: Option<String>,
}

/// What `run` needs, checked.
#[derive(Clone)]
pub struct Config {
    /// How to reach the registry.
    pub registry: ClientConfig,
    /// Docker's address.
    pub docker: String,
    /// This host's address, if it was given.
    pub address: Option<IpAddr>,
    /// `None` for never.
    pub resync: Option<Duration>,
    /// Take everything out at the end.
    pub deregister_on_exit: bool,
    /// The state directory, if it was given.
    pub state_dir: Option<PathBuf>,
    /// How to log.
    pub log_format: LogFormat,
    /// How containers are registered.
    pub policy: PolicySettings,
}

/// The part of a [`Policy`](crate::mapping::Policy) that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // see Policy
pub struct PolicySettings {
    pub place: Place,
    pub host_id: Option<String>,
    pub internal: bool,
    pub explicit: bool,
    pub network: Option<String>,
    pub name_from: NameFrom,
    pub tags: Vec<String>,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)] // the names say it
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\nregistrar: "))
    }
}

impl Config {
    /// From flags and environment, and the text of a file for what they leave open.
    ///
    /// # Errors
    /// [`Faults`], all of them.
    pub fn new(flags: Settings, file: Option<(&str, &str)>) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let file = file.map(|(name, text)| read_file(name, text, &mut faults)).unwrap_or_default();
        let config = check(flags.over(file), &mut faults);
        if faults.is_empty() { Ok(config) } else { Err(Faults(faults)) }
    }

    /// The registry, not yet spoken to.
    ///
    /// # Errors
    /// For an address that cannot be used.
    pub fn registry(&self) -> Result<Registry, kvstore_client::Error> {
        Ok(Registry::new(Client::new(&self.registry)?, self.policy.place.clone(), self.address))
    }
}

impl Settings {
    /// These, and from `file` what they leave open.
    fn over(self, file: Self) -> Self {
        let list = |mine: Vec<String>, file: Vec<String>| if mine.is_empty() { file } else { mine };
        let (token, token_file) = if self.token.is_some() || self.token_file.is_some() {
            (self.token, self.token_file)
        } else {
            (file.token, file.token_file)
        };
        Self {
            registry: list(self.registry, file.registry),
            token,
            token_file,
            docker: self.docker.or(file.docker),
            ip: self.ip.or(file.ip),
            internal: self.internal || file.internal,
            explicit: self.explicit || file.explicit,
            network: self.network.or(file.network),
            node: self.node.or(file.node),
            node_ttl: self.node_ttl.or(file.node_ttl),
            resync: self.resync.or(file.resync),
            deregister_on_exit: self.deregister_on_exit || file.deregister_on_exit,
            name_from: self.name_from.or(file.name_from),
            tags: list(self.tags, file.tags),
            host_id: self.host_id.or(file.host_id),
            state_dir: self.state_dir.or(file.state_dir),
            log_format: self.log_format.or(file.log_format),
        }
    }
}

/// A list of one may be written without its brackets.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a text or a list of texts")]
    enum Either {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::One(one) => vec![one],
        Either::Many(many) => many,
    })
}

/// Key by key, so that one fault does not hide another.
fn read_file(name: &str, text: &str, faults: &mut Vec<String>) -> Settings {
    let all: serde_yaml::Value = match serde_yaml::from_str(text) {
        Ok(all) => all,
        Err(error) => {
            let line = error.location().map_or(String::new(), |at| format!(":{}", at.line()));
            faults.push(format!("{name}{line}: this is no YAML or JSON: {error}"));
            return Settings::default();
        }
    };
    let keys = match all {
        serde_yaml::Value::Mapping(keys) => keys,
        serde_yaml::Value::Null => return Settings::default(),
        _ => {
            faults.push(format!("{name}: it is no list of keys and values"));
            return Settings::default();
        }
    };
    let mut settings = Settings::default();
    for (key, value) in keys {
        let key = key.as_str().unwrap_or_default().to_owned();
        let one = serde_yaml::Mapping::from_iter([(key.clone().into(), value)]);
        match serde_yaml::from_value::<Settings>(one.into()) {
            Ok(one) => settings = settings.over(one),
            Err(error) => {
                let error = error.to_string();
                let why = error.strip_prefix(&format!("{key}: ")).unwrap_or(&error);
                faults.push(format!("{name}{}: {key}: {why}", line_of(text, &key)));
            }
        }
    }
    settings
}

/// `:LINE` of a key at the top level; nothing if it is written in a way that we do not find.
fn line_of(text: &str, key: &str) -> String {
    let starts = |line: &str| {
        let line = line.trim_start_matches([' ', '{', '\t', '"', '\'', ',']);
        line.strip_prefix(key).is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    };
    text.lines().position(starts).map_or(String::new(), |at| format!(":{}", at + 1))
}

fn check(settings: Settings, faults: &mut Vec<String>) -> Config {
    let registry = ClientConfig {
        addresses: registries(settings.registry, faults),
        token: token(settings.token, settings.token_file, faults),
        timeout: CALL_LIMIT,
        ..ClientConfig::default()
    };
    let docker = settings.docker.unwrap_or_else(|| DEFAULT_DOCKER.into());
    if let Err(error) = docker::check_address(&docker) {
        faults.push(format!("docker: {error}"));
    }
    let address = settings.ip.and_then(|ip| {
        let parsed = ip.parse::<IpAddr>().ok().filter(|ip| !ip.is_unspecified());
        or_fault(parsed.ok_or_else(|| format!("ip: {ip:?} is no address of this host")), faults)
    });
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
        deregister_on_exit: settings.deregister_on_exit,
        state_dir: settings.state_dir,
        log_format: choice("log-format", settings.log_format, faults),
        policy: PolicySettings {
            place,
            host_id: settings.host_id,
            internal: settings.internal,
            explicit: settings.explicit,
            network: settings.network,
            name_from: choice("name-from", settings.name_from, faults),
            tags: settings.tags,
        },
    }
}

/// Registrator's spellings are understood, too.
fn registries(given: Vec<String>, faults: &mut Vec<String>) -> Vec<String> {
    let given = if given.is_empty() { vec![DEFAULT_REGISTRY.to_owned()] } else { given };
    let modern = |address: String| match address.split_once("://") {
        Some(("consul", rest)) => format!("http://{rest}"),
        Some(("consul-unix", rest)) => format!("unix://{rest}"),
        _ => address,
    };
    let mut seen = BTreeSet::new();
    let addresses: Vec<_> = given.into_iter().map(modern).filter(|address| seen.insert(address.clone())).collect();
    for address in &addresses {
        let one = ClientConfig { addresses: vec![address.clone()], ..ClientConfig::default() };
        if let Err(error) = Client::new(&one) {
            faults.push(format!("registry: {error}"));
        }
    }
    addresses
}

fn token(token: Option<String>, file: Option<PathBuf>, faults: &mut Vec<String>) -> Option<String> {
    let text = match (token, file) {
        (Some(token), _) => Some(token),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(&path);
            or_fault(read.map_err(|e| format!("token-file: {} cannot be read: {e}", path.display())), faults)
        }
        (None, None) => None,
    };
    text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn duration(key: &str, text: Option<String>, faults: &mut Vec<String>) -> Option<Duration> {
    let parsed = text?.parse::<GoDuration>();
    or_fault(parsed.map(|duration| duration.0).map_err(|why| format!("{key}: {why}")), faults)
}

fn choice<T: ValueEnum + Default>(key: &str, text: Option<String>, faults: &mut Vec<String>) -> T {
    let Some(text) = text else { return T::default() };
    let parsed = T::from_str(&text, false).map_err(|_| {
        let all: Vec<_> =
            T::value_variants().iter().filter_map(|v| Some(v.to_possible_value()?.get_name().to_owned())).collect();
        format!("{key}: {text:?} is none of {}", all.join(", "))
    });
    or_fault(parsed, faults).unwrap_or_default()
}

fn or_fault<T>(result: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    result.map_err(|fault| faults.push(fault)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Config, Faults> {
        Config::new(Settings::default(), Some(("r.yaml", text)))
    }

    #[test]
    fn defaults() {
        let config = Config::new(Settings::default(), None).unwrap();
        assert_eq!(config.registry.addresses, [DEFAULT_REGISTRY]);
        assert_eq!((config.docker.as_str(), config.resync), (DEFAULT_DOCKER, Some(DEFAULT_RESYNC)));
        assert_eq!(config.policy.place, Place::Agent);
        assert!(file("").is_ok() && file("{}").is_ok());
    }

    #[test]
    fn flags_win_over_the_file() {
        let text =
            "registry: [http://a:1, 'unix:///b']\nresync: 5s\nip: 10.0.0.9\ntoken: secret\nnode: box\ninternal: true\n";
        let config = file(text).unwrap();
        assert_eq!(config.registry.addresses, ["http://a:1", "unix:///b"]);
        assert_eq!((config.resync, config.address), (Some(Duration::from_secs(5)), "10.0.0.9".parse().ok()));
        assert_eq!(config.registry.token.as_deref(), Some("secret"));
        let flags = Settings {
            registry: vec!["consul://c:8500".into()],
            resync: Some("0".into()),
            token_file: Some("/dev/null".into()),
            ..Settings::default()
        };
        let config = Config::new(flags, Some(("r.yaml", text))).unwrap();
        assert_eq!(config.registry.addresses, ["http://c:8500"]);
        assert_eq!((config.resync, config.registry.token.as_deref()), (None, None));
        assert!(config.policy.internal && matches!(config.policy.place, Place::Node { .. }));
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let text = "# comment\nresinc: 5s\nresync: often\ninternal: maybe\nregistry: [ftp://x]\nname-from: moon\nip: 0.0.0.0\n";
        let Faults(faults) = file(text).err().unwrap();
        assert_eq!(faults.len(), 6, "{faults:#?}");
        assert!(faults[0].starts_with("r.yaml:2: resinc: unknown field"), "{}", faults[0]);
        assert!(faults[1].starts_with("r.yaml:4: internal: "), "{}", faults[1]);
        for (fault, key) in faults[2..].iter().zip(["registry", "ip", "resync", "name-from"]) {
            assert!(fault.starts_with(&format!("{key}: ")), "{fault}");
        }
    }

    #[test]
    fn json_is_read_as_well() {
        let Faults(faults) = file("{\n \"ip\": \"10.0.0.1\",\n \"nosuch\": 1\n}").err().unwrap();
        assert!(faults[0].starts_with("r.yaml:3: nosuch: unknown field"), "{}", faults[0]);
        assert_eq!(file("{\"tags\": [\"a\"]}").unwrap().policy.tags, ["a"]);
        assert_eq!(file("tags: a").unwrap().policy.tags, ["a"]);
        let Faults(faults) = file("tags: {a: b}").err().unwrap();
        assert_eq!(faults, ["r.yaml:1: tags: a text or a list of texts"]);
    }

    #[test]
    fn what_is_no_configuration_is_named() {
        for (text, word) in [("a: [1", "r.yaml:"), ("- a", "no list of keys"), ("a b", "no list of keys")] {
            let Faults(faults) = file(text).err().unwrap();
            assert!(faults.len() == 1 && faults[0].contains(word), "{faults:?}");
        }
    }

    #[test]
    fn single_settings() {
        let with = |change: fn(&mut Settings)| {
            let mut settings = Settings::default();
            change(&mut settings);
            Config::new(settings, None)
        };
        for (change, word) in [
            ((|s| s.docker = Some("ssh://x".into())) as fn(&mut Settings), "docker: "),
            (|s| s.node = Some(String::new()), "node: "),
            (|s| (s.node, s.node_ttl) = (Some("n".into()), Some("10ms".into())), "node-ttl: "),
            (|s| s.token_file = Some("/nonexistent/token".into()), "token-file: "),
            (|s| s.log_format = Some("xml".into()), "log-format: "),
        ] {
            let Faults(faults) = with(change).err().unwrap();
            assert!(faults.len() == 1 && faults[0].starts_with(word), "{faults:?}");
        }
    }
}
