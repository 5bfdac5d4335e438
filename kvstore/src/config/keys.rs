//! The keys of a configuration file: one table, section by section, of what is read where to. Pure.

use std::{collections::BTreeMap, time::Duration};

use kvstore_client::{GoDuration, logging::LogFormat};
use kvstore_core::{acl::DefaultPolicy, credentials::Digest};

use super::{
    HttpAddr, Layer, TlsFiles, addresses, datacenter, definitions, dns_addr, document::Section, domain, http_addr,
    https_addr, ip_address, layer::AddressOrPath, log_level, network, node_name, recursor, token, uuid,
};
use crate::http::guard;

/// Concern Raft, Serf, gRPC, Connect or the RPC between servers, none of which is inside.
pub(super) const CLUSTER_ONLY: &[&str] = &[
    "advertise_addr_ipv4",
    "advertise_addr_ipv6",
    "advertise_addr_wan",
    "advertise_addr_wan_ipv4",
    "advertise_addr_wan_ipv6",
    "advertise_reconnect_timeout",
    "auto_config",
    "auto_encrypt",
    "auto_reload_config",
    "autopilot",
    "bootstrap",
    "bootstrap_expect",
    "config_entries",
    "connect",
    "disable_coordinates",
    "disable_keyring_file",
    "enable_central_service_config",
    "encrypt",
    "encrypt_verify_incoming",
    "encrypt_verify_outgoing",
    "gossip_lan",
    "gossip_wan",
    "leave_on_terminate",
    "non_voting_server",
    "peering",
    "performance",
    "primary_datacenter",
    "primary_gateways",
    "primary_gateways_interval",
    "protocol",
    "raft_boltdb",
    "raft_logstore",
    "raft_protocol",
    "raft_snapshot_interval",
    "raft_snapshot_threshold",
    "raft_trailing_logs",
    "read_replica",
    "reconnect_timeout",
    "reconnect_timeout_wan",
    "rejoin_after_leave",
    "retry_interval",
    "retry_interval_wan",
    "retry_join",
    "retry_join_wan",
    "retry_max",
    "retry_max_wan",
    "rpc",
    "segment",
    "segments",
    "serf_lan",
    "serf_lan_allowed_cidrs",
    "serf_wan",
    "serf_wan_allowed_cidrs",
    "server_name",
    "server_rejoin_age_max",
    "skip_leave_on_interrupt",
    "start_join",
    "start_join_wan",
    "tls_cipher_suites",
    "tls_min_version",
    "tls_prefer_server_cipher_suites",
    "use_streaming_backend",
    "verify_incoming_rpc",
    "verify_outgoing",
    "verify_server_hostname",
    "xds",
];

/// Harmless to accept: they tune or report, and nothing here does.
pub(super) const INACTIVE: &[&str] = &[
    "cache",
    "check_reap_interval",
    "default_query_time",
    "disable_anonymous_signature",
    "disable_host_node_id",
    "disable_http_unprintable_char_filter",
    "disable_remote_exec",
    "disable_update_check",
    "discovery_max_stale",
    "enable_debug",
    "enable_syslog",
    "log_file",
    "log_rotate_bytes",
    "log_rotate_duration",
    "log_rotate_max_files",
    "max_query_time",
    "pid_file",
    "syslog_facility",
    "telemetry",
    "translate_wan_addrs",
    "ui",
    "ui_config",
    "unix_sockets",
    "watches",
];

/// Would change what the agent does, and this version cannot do it: better said at the start than found out later.
const NOT_YET: &[&str] = &["acl_datacenter", "acl_default_policy"];

/// Reads every key of a file into `layer`: single values replace earlier ones, lists are added to.
pub(super) fn read(mut top: Section<'_>, layer: &mut Layer) {
    top.parse("node", &mut layer.node_name, node_name);
    top.parse("node_name", &mut layer.node_name, node_name);
    top.parse("node_id", &mut layer.node_id, uuid);
    top.parse("datacenter", &mut layer.datacenter, datacenter);
    top.parse("domain", &mut layer.domain, domain);
    top.parse("alt_domain", &mut layer.alt_domain, domain);
    top.take("data_dir", &mut layer.data_dir);
    top.parse("engine", &mut layer.engine, str::parse);
    top.parse_list("replica_of", &mut layer.replica_of, |text| Ok::<_, String>(text.to_owned()));
    top.section("hub", |hub| read_hub(hub, layer));
    top.parse("bind", &mut layer.bind, ip_address);
    top.parse("bind_addr", &mut layer.bind, ip_address);
    top.parse("advertise", &mut layer.advertise, ip_address);
    top.parse("advertise_addr", &mut layer.advertise, ip_address);
    top.parse("client_addr", &mut layer.client, |text| addresses(text, ip_address));
    top.parse_list("http_addr", &mut layer.http_addr, http_addr);
    top.parse_list("https_addr", &mut layer.https_addr, https_addr);
    top.parse_list("dns_addr", &mut layer.dns_addr, dns_addr);
    top.parse_list("recursor", &mut layer.recursors, recursor);
    top.parse_list("recursors", &mut layer.recursors, recursor);
    let mut aliases: Option<BTreeMap<String, String>> = None;
    top.take("aliases", &mut aliases);
    layer.aliases.extend(aliases.unwrap_or_default());
    top.parse_list("routable", &mut layer.routable, network);
    top.parse_list("trusted_resolvers", &mut layer.trusted_resolvers, network);
    top.take("check_update_interval", &mut layer.check_output_interval);
    top.take("session_ttl_min", &mut layer.session_ttl_min);
    top.take("enable_script_checks", &mut layer.script_checks);
    top.take("enable_local_script_checks", &mut layer.local_script_checks);
    top.take("check_output_max_size", &mut layer.check_output_bytes);
    if layer.check_output_bytes == Some(0) {
        top.fault("check_output_max_size", "it must be positive; discard_check_output keeps nothing");
    }
    top.take("discard_check_output", &mut layer.discard_check_output);
    top.take("enable_agent_tls_for_checks", &mut layer.tls_for_checks);
    read_tls_files(&mut top, &mut layer.tls);
    top.take("verify_incoming", &mut layer.verify_incoming);
    top.take("verify_incoming_https", &mut layer.verify_incoming_https);
    top.take("strict_consul", &mut layer.strict_consul);
    top.take("dev", &mut layer.dev);
    top.parse("log_level", &mut layer.log_level, log_level);
    top.parse("log_format", &mut layer.log_format, |text| clap::ValueEnum::from_str(text, false));
    let mut json = None;
    top.take("log_json", &mut json);
    if json == Some(true) {
        layer.log_format = Some(LogFormat::Json);
    }
    let mut meta = None;
    top.take("node_meta", &mut meta);
    layer.node_meta.extend(meta.into_iter().flat_map(|meta: BTreeMap<String, String>| meta));

    definitions::take(&mut top, &mut layer.defined);
    top.section("ports", |ports| read_ports(ports, layer));
    top.section("addresses", |addresses| read_addresses(addresses, layer));
    top.section("dns_config", |dns| read_dns(dns, layer));
    top.section("limits", |limits| read_limits(limits, layer));
    top.section("snapshots", |snapshots| {
        snapshots.take("directory", &mut layer.snapshot_dir);
        snapshots.take("every", &mut layer.snapshot_every);
        snapshots.take("keep", &mut layer.snapshot_keep);
    });
    top.section("http_config", |http| read_http(http, layer));
    top.section("access", |access| read_access(access, layer));
    top.section("tls", |tls| read_tls(tls, layer));
    top.section("acl", |acl| read_acl(acl, layer));

    let mut server = None;
    top.take("server", &mut server);
    if server == Some(false) {
        layer.cluster_only.push("server = false".into());
    }
    top.ignore(CLUSTER_ONLY, &mut layer.cluster_only);
    top.ignore(INACTIVE, &mut layer.inactive);
    for key in NOT_YET {
        not_yet(&mut top, key);
    }
    top.finish();
}

fn not_yet(section: &mut Section<'_>, key: &'static str) {
    let mut found = Vec::new();
    section.ignore(&[key], &mut found);
    if !found.is_empty() {
        section.fault(key, "not supported by this version");
    }
}

/// The options that all programs have for the registry they talk to.
fn read_hub(hub: &mut Section<'_>, layer: &mut Layer) {
    let access = &mut layer.hub;
    hub.take("token", &mut access.token);
    hub.take("token_file", &mut access.token_file);
    hub.take("ssl_verify", &mut access.ssl_verify);
    hub.take("ca_file", &mut access.ca_file);
    hub.take("ca_path", &mut access.ca_path);
    hub.take("client_cert", &mut access.client_cert);
    hub.take("client_key", &mut access.client_key);
    hub.take("tls_server_name", &mut access.tls_server_name);
}

fn read_ports(ports: &mut Section<'_>, layer: &mut Layer) {
    ports.take("http", &mut layer.http_port);
    ports.take("dns", &mut layer.dns_port);
    ports.take("server", &mut layer.server_port);
    ports.take("https", &mut layer.https_port);
    let others = ["serf_lan", "serf_wan", "grpc", "grpc_tls", "sidecar_min_port", "sidecar_max_port"];
    ports.ignore(&others, &mut layer.cluster_only);
    ports.ignore(&["expose_min_port", "expose_max_port", "proxy_min_port", "proxy_max_port"], &mut layer.cluster_only);
}

fn read_addresses(section: &mut Section<'_>, layer: &mut Layer) {
    let path_or_ip = |text: &str| match http_addr(text) {
        Ok(HttpAddr::Unix(path)) => Ok(AddressOrPath::Unix(path)),
        _ => ip_address(text).map(AddressOrPath::Ip),
    };
    section.parse("http", &mut layer.addresses_http, |text| addresses(text, path_or_ip));
    section.parse("https", &mut layer.addresses_https, |text| addresses(text, ip_address));
    section.parse("dns", &mut layer.addresses_dns, |text| addresses(text, ip_address));
    section.ignore(&["grpc", "grpc_tls"], &mut layer.cluster_only);
}

fn read_dns(dns: &mut Section<'_>, layer: &mut Layer) {
    fn duration(section: &mut Section<'_>, key: &'static str, slot: &mut Duration) {
        let mut given: Option<GoDuration> = None;
        section.take(key, &mut given);
        *slot = given.map_or(*slot, |d| d.0);
    }
    /// SOA times are plain seconds in Consul's files.
    fn seconds(section: &mut Section<'_>, key: &'static str, slot: &mut Duration) {
        let mut given: Option<u32> = None;
        section.take(key, &mut given);
        *slot = given.map_or(*slot, |s| Duration::from_secs(s.into()));
    }
    fn plain<T: serde::de::DeserializeOwned>(section: &mut Section<'_>, key: &'static str, slot: &mut T) {
        let mut given = None;
        section.take(key, &mut given);
        if let Some(value) = given {
            *slot = value;
        }
    }
    let mut settings = layer.dns.take().unwrap_or_default();
    duration(dns, "node_ttl", &mut settings.node_ttl);
    duration(dns, "recursor_timeout", &mut settings.recursor_timeout);
    if settings.recursor_timeout.is_zero() {
        dns.fault("recursor_timeout", "it must be positive");
    }
    let mut ttls: Option<BTreeMap<String, GoDuration>> = None;
    dns.take("service_ttl", &mut ttls);
    let ttls = ttls.unwrap_or_default().into_iter().map(|(name, ttl)| (name.to_lowercase(), ttl.0));
    settings.service_ttl.extend(ttls);
    plain(dns, "only_passing", &mut settings.only_passing);
    plain(dns, "a_record_limit", &mut settings.a_record_limit);
    plain(dns, "udp_answer_limit", &mut settings.udp_answer_limit);
    plain(dns, "enable_truncate", &mut settings.truncate);
    plain(dns, "max_udp_bytes", &mut settings.max_udp_bytes);
    plain(dns, "response_rate_limit", &mut settings.response_rate_limit);
    plain(dns, "enable_additional_node_meta_txt", &mut settings.node_meta_txt);
    dns.parse("recursor_strategy", &mut None::<()>, |word| {
        settings.random_recursor = match word {
            "random" => true,
            "sequential" => false,
            _ => return Err(format!("{word:?} is no strategy; use sequential or random")),
        };
        Ok(())
    });
    dns.section("soa", |soa| {
        seconds(soa, "refresh", &mut settings.soa.refresh);
        seconds(soa, "retry", &mut settings.soa.retry);
        seconds(soa, "expire", &mut settings.soa.expire);
        seconds(soa, "min_ttl", &mut settings.soa.min_ttl);
    });
    let others = ["allow_stale", "max_stale", "use_cache", "cache_max_age", "disable_compression", "prefer_namespace"];
    dns.ignore(&others, &mut layer.inactive);
    layer.dns = Some(settings);
}

/// The files of one section; an empty name is as good as none.
fn read_tls_files(section: &mut Section<'_>, files: &mut TlsFiles) {
    for (key, slot) in files.slots() {
        section.take(key, slot);
        slot.take_if(|path| path.as_os_str().is_empty());
    }
}

fn read_tls(tls: &mut Section<'_>, layer: &mut Layer) {
    let others = ["tls_min_version", "tls_cipher_suites", "verify_outgoing"];
    tls.section("defaults", |defaults| {
        read_tls_files(defaults, &mut layer.tls);
        defaults.take("verify_incoming", &mut layer.verify_incoming);
        defaults.ignore(&others, &mut layer.cluster_only);
    });
    tls.section("https", |https| {
        read_tls_files(https, &mut layer.tls_https);
        https.take("verify_incoming", &mut layer.verify_incoming_https);
        https.ignore(&others, &mut layer.cluster_only);
    });
    tls.ignore(&["grpc", "internal_rpc"], &mut layer.cluster_only);
}

fn read_limits(limits: &mut Section<'_>, layer: &mut Layer) {
    limits.take("kv_max_value_size", &mut layer.kv_value_bytes);
    limits.take("txn_max_req_len", &mut layer.body_bytes);
    limits.take("snapshot_max_size", &mut layer.snapshot_bytes);
    let others = ["rpc_handshake_timeout", "rpc_client_timeout", "rpc_max_conns_per_client", "rpc_rate"];
    limits.ignore(&others, &mut layer.cluster_only);
    limits.ignore(&["rpc_max_burst", "request_limits"], &mut layer.cluster_only);
    limits.ignore(&["http_max_conns_per_client", "https_handshake_timeout"], &mut layer.inactive);
}

fn read_http(http: &mut Section<'_>, layer: &mut Layer) {
    http.parse_list("block_endpoints", &mut layer.guard.blocked, guard::path_prefix);
    http.parse_list("allow_write_http_from", &mut layer.guard.writers, network);
    let mut headers: Option<BTreeMap<String, String>> = None;
    http.take("response_headers", &mut headers);
    for (name, value) in headers.into_iter().flatten() {
        match guard::header(&name, &value) {
            Ok((name, value)) => drop(layer.guard.headers.insert(name, value)),
            Err(why) => http.fault("response_headers", why),
        }
    }
    http.ignore(&["use_cache", "max_header_bytes"], &mut layer.inactive);
}

fn read_access(access: &mut Section<'_>, layer: &mut Layer) {
    access.parse_list("read_tokens", &mut layer.guard.access.readers, token);
    access.parse_list("write_tokens", &mut layer.guard.access.writers, token);
    access.take("read_token_file", &mut layer.read_token_file);
    access.take("write_token_file", &mut layer.write_token_file);
}

fn read_acl(acl: &mut Section<'_>, layer: &mut Layer) {
    acl.take("enabled", &mut layer.acl.enabled);
    acl.parse("default_policy", &mut layer.acl.default_policy, |word| match word {
        "allow" => Ok(DefaultPolicy::Allow),
        "deny" => Ok(DefaultPolicy::Deny),
        _ => Err(format!("{word:?} is no policy; use allow or deny")),
    });
    acl.section("tokens", |tokens| {
        secret(tokens, "master", &mut layer.acl.initial_management);
        secret(tokens, "initial_management", &mut layer.acl.initial_management);
        secret(tokens, "default", &mut layer.acl.default_token);
        secret(tokens, "dns", &mut layer.acl.dns_token);
        let others = ["agent", "agent_master", "agent_recovery", "config_file_service_registration", "replication"];
        tokens.ignore(&others, &mut layer.inactive);
    });
    let others = [
        "down_policy",
        "enable_key_list_policy",
        "enable_token_persistence",
        "enable_token_replication",
        "policy_ttl",
        "role_ttl",
        "token_ttl",
    ];
    acl.ignore(&others, &mut layer.inactive);
}

/// A token; what is wrong with it is said without it.
fn secret(section: &mut Section<'_>, key: &'static str, slot: &mut Option<Digest>) {
    let mut given = Vec::new();
    section.parse_list(key, &mut given, token);
    *slot = given.pop().or(*slot);
}
