//! What a client asks the agent to register, made into rows: every rule of those bodies, and nothing else.
//!
//! Pure. The texts of [`InvalidRegistration`] are the API's: clients match on them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use kvstore_client::types::{CheckRegistration, Meta, ServiceAddress, ServicePort, ServiceRegistration};
use kvstore_core::{
    health::Status,
    names::{CheckId, InstanceId, NameError, NodeKey, ServiceKey},
    row::{Check, Instance, Owner, ProbeKind, TaggedAddress, Weights},
};
use serde_json::Value;

use super::{
    checks::SCRIPTS_DISABLED,
    definition::{self, Parsed},
};

/// The most pairs of metadata, and the longest key and value in characters.
const MAX_META: (usize, usize, usize) = (64, 128, 512);

/// Keys that begin so are the registry's own.
const RESERVED_META: &str = "consul-";

/// A service as its rows, and what of the body was taken otherwise than written.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// The instance, owned by the agent of `node`.
    pub instance: Instance,
    /// Its checks; no two have the same id.
    pub checks: Vec<Check>,
    /// For the log: what was raised, ignored or replaced.
    pub warnings: Vec<String>,
}

/// A check that was registered by itself, as its row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StandaloneCheck {
    /// The row, owned by the agent of `node`.
    pub check: Check,
    /// For the log.
    pub warnings: Vec<String>,
}

/// Why a body is refused; nothing was changed. The client's mistake: HTTP 400, with this text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidRegistration {
    /// `Name` is empty.
    #[error("Missing service name")]
    MissingServiceName,
    /// `0.0.0.0` or `::` is nobody's address.
    #[error("Invalid service address")]
    ServiceAddress,
    /// `Passing` is 0: nobody would ever be sent there.
    #[error("Invalid Weights: Passing must be greater than 0")]
    Weights,
    /// A pair that is too long, blank, reserved, or one too many.
    #[error("Invalid Service Meta: {0}")]
    Meta(String),
    /// `lan_ipv6` with an IPv4 address, for instance.
    #[error("Service tagged address {name:?} must be a valid {family} address")]
    TaggedAddress {
        /// Its name.
        name: String,
        /// `ipv4` or `ipv6`.
        family: &'static str,
    },
    /// What the agent is to do is not said, said twice, or not to be had.
    #[error("Invalid check: {0}")]
    Check(String),
    /// A program as a check, where that is not allowed.
    #[error("{SCRIPTS_DISABLED}")]
    ScriptsDisabled,
    /// The status of a check within a service.
    #[error("Status for checks must 'passing', 'warning', 'critical'")]
    StatusOfServiceCheck,
    /// A check by itself without a name.
    #[error("Missing check name")]
    MissingCheckName,
    /// The status of a check by itself.
    #[error("Bad check status")]
    BadCheckStatus,
    /// A name with control characters, or too long.
    #[error("Invalid name: {0}")]
    Name(#[from] NameError),
    /// Namespaces and partitions, which this registry does not have.
    #[error("Invalid {field}: {value:?} - there is only \"default\" here")]
    Namespace {
        /// Which field.
        field: &'static str,
        /// What it says.
        value: String,
    },
}

/// Whose agent takes the registrations, and what it allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agent<'a> {
    /// Its node.
    pub node: &'a NodeKey,
    /// Whether programs may be registered as checks.
    pub scripts: bool,
}

impl Agent<'_> {
    fn parse(self, body: &CheckRegistration) -> Result<Parsed, InvalidRegistration> {
        let parsed = definition::parse(self.node, body).map_err(InvalidRegistration::Check)?;
        match parsed.probe.kind {
            ProbeKind::Script { .. } | ProbeKind::Docker { .. } if !self.scripts => {
                Err(InvalidRegistration::ScriptsDisabled)
            }
            _ => Ok(parsed),
        }
    }
}

/// The rows of `body`, registered with `agent`.
///
/// # Errors
/// [`InvalidRegistration`], for the first thing that is wrong, in the order in which Consul looks.
pub(crate) fn service(agent: Agent<'_>, body: ServiceRegistration) -> Result<Service, InvalidRegistration> {
    if body.name.is_empty() {
        return Err(InvalidRegistration::MissingServiceName);
    }
    ServiceKey::new(&body.name)?;
    only_default("Namespace", &body.namespace)?;
    only_default("Partition", &body.partition)?;
    if is_any(&body.address) {
        return Err(InvalidRegistration::ServiceAddress);
    }
    if body.weights.is_some_and(|w| w.passing == 0) {
        return Err(InvalidRegistration::Weights);
    }
    check_meta(&body.meta).map_err(InvalidRegistration::Meta)?;
    check_tagged(&body.tagged_addresses)?;

    let id = InstanceId::new(if body.id.is_empty() { &body.name } else { &body.id })?;
    let mut warnings = Vec::new();
    let checks = service_checks(agent, &id, &body, &mut warnings)?;
    let port = port(&body, &mut warnings);
    let connect = without_sidecar(body.connect, &mut warnings);
    let tagged_addresses = with_own_address(body.tagged_addresses, &body.address, port);
    let instance = Instance {
        node: agent.node.clone(),
        id,
        service: body.name,
        tags: body.tags,
        address: body.address,
        port,
        socket_path: body.socket_path,
        tagged_addresses,
        meta: (!body.meta.is_empty()).then_some(body.meta),
        weights: body.weights.map_or_else(Weights::default, |w| Weights { passing: w.passing, warning: w.warning }),
        enable_tag_override: body.enable_tag_override,
        kind: body.kind,
        proxy: body.proxy,
        connect,
        owner: Owner::Agent,
        from_file: false,
    };
    Ok(Service { instance, checks, warnings })
}

/// The row of `body`, a check of the node of `agent` or of one of its instances. Whether the instance exists is for the core to say.
///
/// # Errors
/// [`InvalidRegistration`], for the first thing that is wrong, in the order in which Consul looks.
pub(crate) fn check(agent: Agent<'_>, body: CheckRegistration) -> Result<StandaloneCheck, InvalidRegistration> {
    if body.name.is_empty() {
        return Err(InvalidRegistration::MissingCheckName);
    }
    let status = status(&body).ok_or(InvalidRegistration::BadCheckStatus)?;
    only_default("Namespace", &body.namespace)?;
    only_default("Partition", &body.partition)?;
    let mut parsed = agent.parse(&body)?;
    let id = CheckId::new(own_id(&body).unwrap_or(&body.name))?;
    let of = if body.service_id.is_empty() { None } else { Some(InstanceId::new(&body.service_id)?) };
    let warnings = name_them(&id, &mut parsed);
    let mut check = row(agent.node, id, of, body.name, status, body.notes, parsed);
    // Only checks by themselves show these two, as Consul does.
    check.interval = body.interval.unwrap_or_default().to_string();
    check.timeout = body.timeout.unwrap_or_default().to_string();
    Ok(StandaloneCheck { check, warnings })
}

/// `Check` counts before `Checks`; without an id of its own a check is `service:ID`, or `service:ID:N` among several.
fn service_checks(
    agent: Agent<'_>,
    instance: &InstanceId,
    body: &ServiceRegistration,
    warnings: &mut Vec<String>,
) -> Result<Vec<Check>, InvalidRegistration> {
    let single = body.check.iter().filter(|check| **check != CheckRegistration::default());
    let bodies: Vec<_> = single.chain(&body.checks).collect();
    let parsed = bodies.iter().map(|check| agent.parse(check));
    let parsed = parsed.collect::<Result<Vec<_>, _>>()?;

    let mut checks: Vec<Check> = Vec::with_capacity(bodies.len());
    for (n, (check, mut parsed)) in bodies.iter().zip(parsed).enumerate() {
        let status = status(check).ok_or(InvalidRegistration::StatusOfServiceCheck)?;
        let id = match own_id(check) {
            Some(id) => id.to_owned(),
            None if bodies.len() > 1 => format!("service:{instance}:{}", n + 1),
            None => format!("service:{instance}"),
        };
        let id = CheckId::new(&id)?;
        let name = if check.name.is_empty() { format!("Service '{}' check", body.name) } else { check.name.clone() };
        warnings.append(&mut name_them(&id, &mut parsed));
        if checks.iter().any(|other| other.id == id) {
            warnings.push(format!("check {id:?} is given twice; the later one counts"));
            checks.retain(|other| other.id != id);
        }
        checks.push(row(agent.node, id, Some(instance.clone()), name, status, check.notes.clone(), parsed));
    }
    Ok(checks)
}

fn row(
    node: &NodeKey,
    id: CheckId,
    service: Option<InstanceId>,
    name: String,
    status: Status,
    notes: String,
    parsed: Parsed,
) -> Check {
    Check {
        node: node.clone(),
        id,
        name,
        status,
        notes,
        output: String::new(),
        service,
        kind: parsed.probe.kind.name().into(),
        probe: Some(parsed.probe.into()),
        interval: String::new(),
        timeout: String::new(),
        definition: Value::Null,
        owner: Owner::Agent,
        from_file: false,
    }
}

fn own_id(body: &CheckRegistration) -> Option<&str> {
    [&body.check_id, &body.id].into_iter().map(String::as_str).find(|id| !id.is_empty())
}

/// The initial status: critical unless given; `None` if it is no status.
fn status(body: &CheckRegistration) -> Option<Status> {
    match body.status.as_deref() {
        None | Some("") => Some(Status::Critical),
        Some(word) => Status::parse(word),
    }
}

fn name_them(id: &CheckId, parsed: &mut Parsed) -> Vec<String> {
    parsed.warnings.drain(..).map(|warning| format!("check {id:?}: {warning}")).collect()
}

/// Whether `value` is the only namespace or partition that there is.
pub(crate) fn is_default(value: &str) -> bool {
    value.is_empty() || value == "default"
}

fn only_default(field: &'static str, value: &str) -> Result<(), InvalidRegistration> {
    if is_default(value) {
        return Ok(());
    }
    Err(InvalidRegistration::Namespace { field, value: value.into() })
}

fn is_any(address: &str) -> bool {
    matches!(address.parse(), Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED) | IpAddr::V6(Ipv6Addr::UNSPECIFIED)))
}

/// Consul's rules for service metadata, in its words.
pub(crate) fn check_meta(meta: &Meta) -> Result<(), String> {
    let (pairs, key_chars, value_chars) = MAX_META;
    if meta.len() > pairs {
        return Err(format!("Node metadata cannot contain more than {pairs} key/value pairs"));
    }
    for (key, value) in meta {
        let why = if key.is_empty() {
            "Key cannot be blank".to_owned()
        } else if !key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b'-') {
            "Key contains invalid characters".to_owned()
        } else if key.len() > key_chars {
            format!("Key is too long (limit: {key_chars} characters)")
        } else if key.starts_with(RESERVED_META) {
            format!("Key prefix '{RESERVED_META}' is reserved for internal use")
        } else if value.len() > value_chars {
            format!("Value is too long (limit: {value_chars} characters)")
        } else {
            continue;
        };
        return Err(format!("Couldn't load metadata pair ('{key}', '{value}'): {why}"));
    }
    Ok(())
}

type Addresses = BTreeMap<String, ServiceAddress>;

fn check_tagged(addresses: &Addresses) -> Result<(), InvalidRegistration> {
    for (name, address) in addresses {
        let ip = address.address.parse::<IpAddr>();
        let (family, ok) = match name.as_str() {
            "lan_ipv4" | "wan_ipv4" => ("ipv4", ip.is_ok_and(|ip| ip.is_ipv4())),
            "lan_ipv6" | "wan_ipv6" => ("ipv6", ip.is_ok_and(|ip| ip.is_ipv6())),
            _ => continue,
        };
        if !ok {
            return Err(InvalidRegistration::TaggedAddress { name: name.clone(), family });
        }
    }
    Ok(())
}

/// An IP address of the instance stands also under its family's two names, unless something else does.
fn with_own_address(mut given: Addresses, address: &str, port: u16) -> BTreeMap<String, TaggedAddress> {
    let names = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => &["lan_ipv4", "wan_ipv4"][..],
        Ok(IpAddr::V6(_)) => &["lan_ipv6", "wan_ipv6"][..],
        Err(_) => &[],
    };
    for name in names {
        let own = || ServiceAddress { address: address.into(), port };
        given.entry((*name).into()).or_insert_with(own);
    }
    let row = |a: ServiceAddress| TaggedAddress { address: a.address, port: a.port };
    given.into_iter().map(|(name, address)| (name, row(address))).collect()
}

/// Of several ports the default one, else the first.
pub(crate) fn chosen_port(port: u16, ports: &[ServicePort]) -> u16 {
    let chosen = ports.iter().find(|port| port.default).or(ports.first()).map_or(0, |port| port.port);
    if port == 0 { chosen } else { port }
}

fn port(body: &ServiceRegistration, warnings: &mut Vec<String>) -> u16 {
    let port = chosen_port(body.port, &body.ports);
    if body.ports.iter().any(|other| other.port != port) {
        warnings.push(format!("of several Ports {port} is taken: an instance has one port here"));
    }
    port
}

fn without_sidecar(mut connect: Value, warnings: &mut Vec<String>) -> Value {
    let sidecar = connect.as_object_mut().and_then(|c| c.remove("SidecarService"));
    if sidecar.is_some_and(|sidecar| !sidecar.is_null()) {
        warnings.push("Connect.SidecarService is ignored: no mesh is run here".into());
    }
    connect
}

#[cfg(test)]
mod tests;
