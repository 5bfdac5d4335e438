//! Puts together what was said, what the host says and the defaults. Pure.

mod addresses;

use std::time::Duration;

use kvstore_client::{ClientConfig, tls::Identity};
use kvstore_core::{acl::DefaultPolicy, names::NodeKey};

use super::{
    Agent, Engine, EngineName, Fault, HttpAddr, Layer, Limits, Log, Recursor, Snapshots,
    definitions::Placed,
    host::Facts,
    layer::{AclKeys, TlsFiles},
};
use crate::{
    agent::{
        Definitions, Outputs, Programs, Trust,
        registration::{self, StandaloneCheck},
    },
    http::{Acl, AgentTokens, Guard, ServerTls},
};

const DOMAIN: &str = "consul";
const SERVER_PORT: u16 = 8300;

/// The shortest TTL of a session.
const SESSION_TTL_MIN: Duration = Duration::from_secs(10);

/// A watcher of a check's output sees it at most this much later.
const CHECK_OUTPUT_INTERVAL: Duration = Duration::from_secs(30);

/// A day of snapshots, one an hour.
const SNAPSHOTS_EVERY: Duration = Duration::from_hours(1);
const SNAPSHOTS_KEPT: usize = 24;

/// The whole of it; `None` if something needed can be found nowhere. What is wrong is added to `faults`.
pub(super) fn resolve(mut layer: Layer, facts: &Facts, faults: &mut Vec<Fault>) -> Option<Agent> {
    faults.append(&mut layer.faults);
    let mut remarks = Remarks { faults, notes: Vec::new(), warnings: Vec::new() };
    let node_name = node_name(&layer, facts, &mut remarks);
    let engine = engine(&layer, facts, &mut remarks);
    let replica_of = replica_of(&mut layer, &mut remarks);
    let advertise = addresses::advertise(&layer, facts, &mut remarks);
    let (http, dns) = (addresses::http(&layer, &mut remarks), addresses::dns(&layer, &mut remarks));
    let tls = server_tls(&layer, &http, &mut remarks);
    check_recursors(&layer, &mut remarks);
    if let Err(why) = registration::check_meta(&layer.node_meta) {
        remarks.fault("node_meta", why);
    }
    if layer.guard.access.writers.is_empty()
        && !layer.guard.access.readers.is_empty()
        && layer.acl.enabled != Some(true)
    {
        remarks.fault("access", "with read tokens alone nobody could write; add write_tokens or write_token_file");
    }
    let acl_management = layer.acl.initial_management;
    layer.guard.access.acl = acl(&layer.acl);
    remarks.warnings.extend(open_to_others(&layer, &http));
    let check_trust = check_trust(&mut layer, tls.is_some(), &mut remarks);
    if !layer.cluster_only.is_empty() {
        let keys = layer.cluster_only.join(", ");
        remarks.warn(format!("without effect, because there is no Raft, Serf, gRPC or Connect here: {keys}"));
    }
    if !layer.inactive.is_empty() {
        remarks.warn(format!("without effect in this version: {}", layer.inactive.join(", ")));
    }
    let programs = programs(&layer);
    let definitions = definitions(&mut layer, node_name.as_deref(), programs, &mut remarks);
    let snapshots = snapshots(&layer, &mut remarks);
    let limits = Limits::default();
    let outputs = Outputs::default();
    let check_outputs = Outputs {
        max_bytes: layer.check_output_bytes.unwrap_or(outputs.max_bytes),
        discard: layer.discard_check_output.unwrap_or(outputs.discard),
    };
    Some(Agent {
        node_name: node_name?,
        node_id: layer.node_id.unwrap_or_default(),
        datacenter: layer.datacenter.unwrap_or_else(|| "dc1".into()),
        domain: layer.domain.unwrap_or_else(|| DOMAIN.into()),
        alt_domain: layer.alt_domain,
        advertise,
        http,
        tls,
        dns,
        recursors: layer.recursors,
        aliases: layer.aliases,
        routable: layer.routable,
        trusted_resolvers: layer.trusted_resolvers,
        dns_settings: layer.dns.unwrap_or_default(),
        engine: engine?,
        replica_of,
        node_meta: layer.node_meta,
        server_port: layer.server_port.unwrap_or(SERVER_PORT),
        limits: Limits {
            kv_value_bytes: layer.kv_value_bytes.unwrap_or(limits.kv_value_bytes),
            body_bytes: layer.body_bytes.unwrap_or(limits.body_bytes),
            snapshot_bytes: layer.snapshot_bytes.unwrap_or(limits.snapshot_bytes),
        },
        snapshots,
        session_ttl_min: layer.session_ttl_min.map_or(SESSION_TTL_MIN, |d| d.0),
        check_output_interval: layer.check_output_interval.map_or(CHECK_OUTPUT_INTERVAL, |d| d.0),
        programs,
        check_outputs,
        check_trust,
        definitions,
        strict_consul: layer.strict_consul.unwrap_or(false),
        guard: layer.guard,
        acl_management,
        dev: layer.dev.unwrap_or(false),
        log: Log { level: layer.log_level, format: layer.log_format.unwrap_or_default() },
        notes: remarks.notes,
        warnings: remarks.warnings,
    })
}

/// What is said on the way.
struct Remarks<'a> {
    faults: &'a mut Vec<Fault>,
    notes: Vec<String>,
    warnings: Vec<String>,
}

impl Remarks<'_> {
    /// Of the whole, that no single line is to blame for.
    fn fault(&mut self, key: &str, why: impl Into<String>) {
        self.faults.push(Fault { place: "configuration".into(), key: key.into(), why: why.into() });
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

fn snapshots(layer: &Layer, remarks: &mut Remarks<'_>) -> Option<Snapshots> {
    let every = layer.snapshot_every.map_or(SNAPSHOTS_EVERY, |every| every.0);
    let keep = layer.snapshot_keep.unwrap_or(SNAPSHOTS_KEPT);
    let Some(directory) = layer.snapshot_dir.clone() else {
        if layer.snapshot_every.is_some() || layer.snapshot_keep.is_some() {
            remarks.fault(
                "snapshots.directory",
                "snapshots are to be taken, but nowhere; name it, or give --snapshot-dir",
            );
        }
        return None;
    };
    // The names of the files tell seconds.
    if every < Duration::from_secs(1) {
        remarks.fault("snapshots.every", "it must be a second at least");
    }
    if keep == 0 {
        remarks.fault("snapshots.keep", "it must be 1 at least: the newest one is always kept");
    }
    Some(Snapshots { directory, every, keep })
}

fn node_name(layer: &Layer, facts: &Facts, remarks: &mut Remarks<'_>) -> Option<String> {
    let Some(name) = layer.node_name.clone().or_else(|| facts.hostname.clone().filter(|name| !name.is_empty())) else {
        remarks.fault("node_name", "the host has no name; give one with --node");
        return None;
    };
    let in_dns = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'.';
    if !name.bytes().all(in_dns) {
        remarks.warn(format!("the node name {name:?} has characters that DNS does not; DNS will not find it"));
    }
    Some(name)
}

fn engine(layer: &Layer, facts: &Facts, remarks: &mut Remarks<'_>) -> Option<Engine> {
    let dev = layer.dev == Some(true);
    let name = layer.engine.clone().unwrap_or(if dev { EngineName::Memory } else { EngineName::Embedded });
    if name == EngineName::Memory {
        return Some(Engine::Memory);
    }
    let Some(data_dir) = layer.data_dir.clone().or_else(|| facts.default_data_dir.clone()) else {
        remarks.fault("data_dir", "there is no home to keep the state in; name a directory with --data-dir");
        return None;
    };
    if layer.data_dir.is_none() {
        let what = if !layer.replica_of.is_empty() {
            "the replica's copy"
        } else if name == EngineName::Embedded {
            "the state"
        } else {
            "this node's id"
        };
        remarks.note(format!("{what} is kept in {}, since no data directory was named", data_dir.display()));
    }
    #[cfg(feature = "etcd")]
    if let EngineName::Etcd(address) = name {
        return Some(Engine::Etcd { address, data_dir });
    }
    Some(Engine::Embedded { data_dir })
}

/// Whom this is a replica of, and what such a one cannot have of its own.
fn replica_of(layer: &mut Layer, remarks: &mut Remarks<'_>) -> Option<ClientConfig> {
    let addresses: Vec<_> = std::mem::take(&mut layer.replica_of);
    if addresses.is_empty() {
        return None;
    }
    if layer.engine.is_some() {
        let why = "a replica has the state of its hub and keeps a copy in the data directory; leave out the engine";
        remarks.fault("engine", why);
    }
    if !layer.defined.services.is_empty() || !layer.defined.checks.is_empty() {
        let why = "a replica runs no checks and registers nothing by itself; define services at the hub, or have a \
                   registrar register them";
        remarks.fault("services", why);
    }
    let hub = std::mem::take(&mut layer.hub).config(addresses).map_err(|error| remarks.fault("hub", error.to_string()));
    remarks.warnings.extend(hub.as_ref().ok().and_then(ClientConfig::warning).map(String::from));
    hub.ok()
}

/// What files define, as rows of this host. Of two with one id the later counts.
fn definitions(layer: &mut Layer, node: Option<&str>, programs: Programs, remarks: &mut Remarks<'_>) -> Definitions {
    let found = std::mem::take(&mut layer.defined);
    let Some(node) = node.and_then(|name| NodeKey::new(name).ok()) else { return Definitions::default() };
    let agent = registration::Agent { node: &node, scripts: programs != Programs::No };
    let mut definitions = Definitions::default();
    for Placed { place, key, body } in found.services {
        match registration::service(agent, body) {
            Ok(service) => {
                remarks.warnings.extend(service.warnings.iter().map(|warning| format!("{place}  {key}: {warning}")));
                let id = service.instance.id.clone();
                if replaced(&mut definitions.services, |other| other.instance.id == id) {
                    remarks.warn(format!(
                        "{place}  {key}: the service {:?} is defined twice; this one counts",
                        id.as_str()
                    ));
                }
                definitions.services.push(service);
            }
            Err(error) => remarks.faults.push(Fault { place, key, why: error.to_string() }),
        }
    }
    for Placed { place, key, body } in found.checks {
        match registration::check(agent, body) {
            Ok(StandaloneCheck { check, warnings: own }) => {
                remarks.warnings.extend(own.iter().map(|warning| format!("{place}  {key}: {warning}")));
                if replaced(&mut definitions.checks, |other| other.id == check.id) {
                    remarks.warn(format!(
                        "{place}  {key}: the check {:?} is defined twice; this one counts",
                        check.id.as_str()
                    ));
                }
                definitions.checks.push(check);
            }
            Err(error) => remarks.faults.push(Fault { place, key, why: error.to_string() }),
        }
    }
    definitions
}

/// Takes out what is the same; whether there was any.
fn replaced<T>(list: &mut Vec<T>, same: impl Fn(&T) -> bool) -> bool {
    let before = list.len();
    list.retain(|item| !same(item));
    list.len() < before
}

fn programs(layer: &Layer) -> Programs {
    match (layer.script_checks, layer.local_script_checks) {
        (Some(true), _) => Programs::All,
        (_, Some(true)) => Programs::OfFiles,
        _ => Programs::No,
    }
}

/// Access control by tokens and policies, where it is switched on. As in Consul, what no policy is about is allowed unless
/// the default is to deny.
fn acl(keys: &AclKeys) -> Option<Acl> {
    let &AclKeys { default_policy, default_token, dns_token, .. } = keys;
    let tokens = AgentTokens { default: default_token, dns: dns_token };
    let default_policy = default_policy.unwrap_or(DefaultPolicy::Allow);
    (keys.enabled == Some(true)).then_some(Acl { default_policy, tokens })
}

/// The files of TLS concern checks only where that is asked for.
fn check_trust(layer: &mut Layer, served: bool, remarks: &mut Remarks<'_>) -> Trust {
    if layer.tls_for_checks != Some(true) {
        if !served {
            layer.cluster_only.extend(layer.tls.given().map(String::from));
        }
        return Trust::default();
    }
    let files = layer.tls.clone();
    let identity = identity(&files, remarks);
    Trust { authorities: files.ca_file.into_iter().chain(files.ca_path).collect(), identity }
}

/// Certificates and their key: both, or none.
fn identity(files: &TlsFiles, remarks: &mut Remarks<'_>) -> Option<Identity> {
    let (certificates, key) = (files.cert_file.clone(), files.key_file.clone());
    if certificates.is_some() != key.is_some() {
        remarks.fault("tls", "cert_file and key_file are of use only together");
    }
    certificates.zip(key).map(|(certificates, key)| Identity { certificates, key })
}

/// What HTTPS is served with, if it is.
fn server_tls(layer: &Layer, http: &[HttpAddr], remarks: &mut Remarks<'_>) -> Option<ServerTls> {
    if !http.iter().any(|address| matches!(address, HttpAddr::Tls(_))) {
        return None;
    }
    let mut files = layer.tls.clone();
    files.overlay(layer.tls_https.clone());
    let wants = layer.verify_incoming_https.or(layer.verify_incoming) == Some(true);
    let clients: Vec<_> = files.ca_file.clone().into_iter().chain(files.ca_path.clone()).filter(|_| wants).collect();
    if wants && clients.is_empty() {
        remarks.fault("tls", "verify_incoming needs a ca_file or ca_path: who vouches for clients");
    }
    let before = remarks.faults.len();
    let Some(identity) = identity(&files, remarks) else {
        if remarks.faults.len() == before {
            let how = "HTTPS needs a certificate: name cert_file and key_file; `kvstore tls create` makes them";
            remarks.fault("tls", how);
        }
        return None;
    };
    Some(ServerTls { identity, clients })
}

/// Who reaches plain HTTP may do everything; worth a word where that is not this host alone.
fn open_to_others(layer: &Layer, http: &[HttpAddr]) -> Option<String> {
    let open = |address: &&HttpAddr| matches!(address, HttpAddr::Tcp(at) if !at.ip().to_canonical().is_loopback());
    let Guard { access, writers, .. } = &layer.guard;
    let address = http.iter().find(open).filter(|_| writers.is_empty() && access.is_open())?;
    Some(format!(
        "whoever reaches {address} may read and write everything; access.write_tokens, acl.default_policy deny or http_config.allow_write_http_from \
         say who may write, and https_addr with verify_incoming asks clients for certificates"
    ))
}

/// Nobody else is asked about names that are answered here.
fn check_recursors(layer: &Layer, remarks: &mut Remarks<'_>) {
    let own = [layer.domain.as_deref().or(Some(DOMAIN)), layer.alt_domain.as_deref()].into_iter().flatten();
    for own in own {
        for recursor in &layer.recursors {
            let Recursor::For { domain, .. } = recursor else { continue };
            if domain.strip_suffix(own).is_some_and(|left| left.is_empty() || left.ends_with('.')) {
                let why = format!("names in {domain} are answered here, since {own} is ours: nobody else is asked");
                remarks.fault("recursors", why);
            }
        }
    }
}

#[cfg(test)]
mod tests;
