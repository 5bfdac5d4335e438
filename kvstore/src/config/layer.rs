//! What one source says, be it flags, the environment or a file, and how one is laid over another. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use kvstore_client::{Access, GoDuration, logging::LogFormat};
use kvstore_core::{acl::DefaultPolicy, credentials::Digest};

use super::{DnsSettings, EngineName, Fault, HttpAddr, Recursor, definitions::Found};
use crate::http::Guard;

/// What one source says; what it does not say is `None` or empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    pub(crate) node_name: Option<String>,
    pub(crate) node_id: Option<String>,
    pub(crate) datacenter: Option<String>,
    pub(crate) domain: Option<String>,
    pub(crate) alt_domain: Option<String>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) engine: Option<EngineName>,
    /// The registry to be a replica of, at any of these addresses.
    pub(crate) replica_of: Vec<String>,
    /// As whom, and trusting whom.
    pub(crate) hub: Access,
    pub(crate) bind: Option<IpAddr>,
    pub(crate) advertise: Option<IpAddr>,
    /// Addresses that HTTP and DNS are served on, with the ports below.
    pub(crate) client: Option<Vec<IpAddr>>,
    pub(crate) http_port: Option<i64>,
    pub(crate) https_port: Option<i64>,
    pub(crate) dns_port: Option<i64>,
    pub(crate) server_port: Option<u16>,
    /// Instead of `client`, for one of them.
    pub(crate) addresses_http: Option<Vec<AddressOrPath>>,
    pub(crate) addresses_https: Option<Vec<IpAddr>>,
    pub(crate) addresses_dns: Option<Vec<IpAddr>>,
    /// Whole addresses, instead of all of the above.
    pub(crate) http_addr: Vec<HttpAddr>,
    pub(crate) https_addr: Vec<SocketAddr>,
    pub(crate) dns_addr: Vec<SocketAddr>,
    pub(crate) recursors: Vec<Recursor>,
    pub(crate) aliases: BTreeMap<String, String>,
    pub(crate) routable: Vec<IpNet>,
    pub(crate) trusted_resolvers: Vec<IpNet>,
    pub(crate) dns: Option<DnsSettings>,
    pub(crate) node_meta: BTreeMap<String, String>,
    pub(crate) kv_value_bytes: Option<usize>,
    pub(crate) body_bytes: Option<usize>,
    pub(crate) snapshot_bytes: Option<usize>,
    pub(crate) snapshot_dir: Option<PathBuf>,
    pub(crate) snapshot_every: Option<GoDuration>,
    pub(crate) snapshot_keep: Option<usize>,
    pub(crate) check_output_interval: Option<GoDuration>,
    pub(crate) session_ttl_min: Option<GoDuration>,
    pub(crate) script_checks: Option<bool>,
    pub(crate) local_script_checks: Option<bool>,
    pub(crate) check_output_bytes: Option<usize>,
    pub(crate) discard_check_output: Option<bool>,
    pub(crate) tls: TlsFiles,
    /// Instead of those, for HTTPS.
    pub(crate) tls_https: TlsFiles,
    /// Whether clients of HTTPS must show a certificate.
    pub(crate) verify_incoming: Option<bool>,
    pub(crate) verify_incoming_https: Option<bool>,
    pub(crate) tls_for_checks: Option<bool>,
    pub(crate) strict_consul: Option<bool>,
    pub(crate) guard: Guard,
    pub(crate) acl: AclKeys,
    /// Files with one token a line.
    pub(crate) read_token_file: Option<PathBuf>,
    pub(crate) write_token_file: Option<PathBuf>,
    pub(crate) dev: Option<bool>,
    pub(crate) log_level: Option<String>,
    pub(crate) log_format: Option<LogFormat>,
    pub(crate) defined: Found,
    /// Accepted keys that concern only Raft, Serf, gRPC or Connect.
    pub(crate) cluster_only: Vec<String>,
    /// Other accepted keys without effect.
    pub(crate) inactive: Vec<String>,
    /// Flags that cannot be honoured.
    pub(crate) faults: Vec<Fault>,
}

/// The files of Consul's TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) ca_path: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
}

impl TlsFiles {
    /// The keys, each with its place.
    pub(super) fn slots(&mut self) -> [(&'static str, &mut Option<PathBuf>); 4] {
        let Self { ca_file, ca_path, cert_file, key_file } = self;
        [("ca_file", ca_file), ("ca_path", ca_path), ("cert_file", cert_file), ("key_file", key_file)]
    }

    pub(crate) fn overlay(&mut self, mut over: Self) {
        for ((_, own), (_, over)) in self.slots().into_iter().zip(over.slots()) {
            *own = over.take().or_else(|| own.take());
        }
    }

    /// The keys that have a value.
    pub(crate) fn given(&mut self) -> impl Iterator<Item = &'static str> {
        self.slots().into_iter().filter(|(_, slot)| slot.is_some()).map(|(key, _)| key)
    }
}

/// Consul's `acl`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AclKeys {
    pub(crate) enabled: Option<bool>,
    pub(crate) default_policy: Option<DefaultPolicy>,
    pub(crate) initial_management: Option<Digest>,
    pub(crate) default_token: Option<Digest>,
    pub(crate) dns_token: Option<Digest>,
}

impl AclKeys {
    fn overlay(&mut self, over: &Self) {
        let &Self { enabled, default_policy, initial_management, default_token, dns_token } = over;
        self.enabled = enabled.or(self.enabled);
        self.default_policy = default_policy.or(self.default_policy);
        self.initial_management = initial_management.or(self.initial_management);
        self.default_token = default_token.or(self.default_token);
        self.dns_token = dns_token.or(self.dns_token);
    }
}

/// A listening address before its port is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AddressOrPath {
    Ip(IpAddr),
    Unix(PathBuf),
}

/// Lays a layer over another; the compiler sees that no field is left out.
macro_rules! lay_over {
    (
        $over:ident over $own:ident,
        one replaces the other: $($option:ident)*,
        a list does unless it is empty: $($list:ident)*,
        both are kept: $($both:ident)*,
        as they say themselves: $($rest:ident)*
    ) => {
        let Self { $($option,)* $($list,)* $($both,)* $($rest,)* } = $over;
        $( if $option.is_some() { $own.$option = $option; } )*
        $( if !$list.is_empty() { $own.$list = $list; } )*
        $( $own.$both.extend($both); )*
    };
}

impl Layer {
    /// Lets `over` win wherever it says something; its metadata is added.
    pub(crate) fn overlay(&mut self, over: Self) {
        if over.client.is_some() {
            (self.http_addr, self.https_addr, self.dns_addr) = Default::default();
            (self.addresses_http, self.addresses_https, self.addresses_dns) = (None, None, None);
        }
        lay_over! {
            over over self,
            one replaces the other: node_name node_id datacenter domain alt_domain data_dir engine bind advertise client
                http_port https_port dns_port server_port addresses_http addresses_https addresses_dns dns
                kv_value_bytes body_bytes snapshot_bytes snapshot_dir snapshot_every snapshot_keep
                check_output_interval session_ttl_min script_checks local_script_checks check_output_bytes
                discard_check_output verify_incoming verify_incoming_https tls_for_checks strict_consul
                read_token_file write_token_file dev log_level log_format,
            a list does unless it is empty: replica_of http_addr https_addr dns_addr recursors routable trusted_resolvers,
            both are kept: aliases node_meta cluster_only inactive faults,
            as they say themselves: hub tls tls_https guard acl defined
        }
        self.hub = hub.over(std::mem::take(&mut self.hub));
        self.tls.overlay(tls);
        self.tls_https.overlay(tls_https);
        self.acl.overlay(&acl);
        self.guard.blocked.extend(guard.blocked);
        self.guard.writers.extend(guard.writers);
        self.guard.headers.extend(guard.headers);
        self.guard.access.readers.extend(guard.access.readers);
        self.guard.access.writers.extend(guard.access.writers);
        self.defined.services.extend(defined.services);
        self.defined.checks.extend(defined.checks);
    }
}
