//! Settings of the zone, and the names made of them once.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use ipnet::IpNet;

use super::{
    question::Lookup,
    records::{DnsName, below, name},
};
use crate::{names::ServiceKey, version::Callers};

/// How the registry answers DNS questions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each is a setting of its own
pub struct DnsConfig {
    /// The zone, `consul` unless changed.
    pub domain: String,
    /// A second zone with the same answers; names in them are of the zone asked for.
    pub alt_domain: Option<String>,
    /// The datacenter that may stand in a name.
    pub datacenter: String,
    /// This registry's own node: the name server of the zone.
    pub node: String,
    /// The registry's own addresses, as its users reach it.
    pub addresses: Vec<IpAddr>,
    /// For records of nodes, addresses, reverse names and the registry itself.
    pub node_ttl: Duration,
    /// For records of services.
    pub service_ttl: ServiceTtls,
    /// Leave out instances with a warning too.
    pub only_passing: bool,
    /// Add the node's metadata as TXT to answers about nodes and SRV.
    pub node_meta_txt: bool,
    /// Numbers of the SOA record.
    pub soa: Soa,
    /// Most addresses in one answer; 0: as many as there are.
    pub a_record_limit: usize,
    /// Most answers over UDP to askers without EDNS; 0: as many as fit.
    pub udp_answer_limit: usize,
    /// Say by the TC bit that answers were left out of a reply for want of space.
    pub truncate: bool,
    /// The longest reply over UDP, whatever the asker offers.
    pub max_udp_bytes: u16,
    /// Replies a second over UDP to one network (/24, /56); 0: as many as are asked for.
    pub response_rate_limit: u32,
    /// The domains about which upstream resolvers are asked, where they are not ours; `.` stands for all.
    pub recursion: Vec<String>,
    /// Who is asked on behalf of, when versions matter; none: versions never matter.
    pub callers: Option<Callers>,
    /// Resolvers that are believed when they say on whose behalf they ask.
    pub trusted_resolvers: Vec<IpNet>,
    /// Names of other domains that stand for a service: `www.example`, or `*.apps.example` for all names below.
    pub aliases: BTreeMap<String, String>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            domain: "consul".into(),
            alt_domain: None,
            datacenter: "dc1".into(),
            node: "localhost".into(),
            addresses: Vec::new(),
            node_ttl: Duration::ZERO,
            service_ttl: ServiceTtls::default(),
            only_passing: false,
            node_meta_txt: true,
            soa: Soa::default(),
            a_record_limit: 0,
            udp_answer_limit: 0,
            truncate: true,
            // What most resolvers offer at most. Fragments beyond 1232 bytes are the asker's choice.
            max_udp_bytes: 4096,
            response_rate_limit: 0,
            recursion: Vec::new(),
            callers: None,
            trusted_resolvers: Vec::new(),
            aliases: BTreeMap::new(),
        }
    }
}

/// Times to live by service: an exact name, a prefix (`web-*`), or `*` for all others. Without any, 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTtls(pub BTreeMap<String, Duration>);

impl ServiceTtls {
    /// The time of the exact name, else of the longest prefix; names in lower case.
    pub fn of(&self, service: &str) -> Duration {
        let exact = self.0.get(service);
        let by_prefix = || {
            let prefixes = self.0.iter().filter_map(|(p, ttl)| Some((p.strip_suffix('*')?, ttl)));
            let fitting = prefixes.filter(|(prefix, _)| service.starts_with(prefix));
            fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, ttl)| ttl)
        };
        exact.or_else(by_prefix).copied().unwrap_or_default()
    }
}

/// Numbers of the SOA record, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soa {
    /// When secondaries look again.
    pub refresh: u32,
    /// When they look again after a failure.
    pub retry: u32,
    /// When they give up.
    pub expire: u32,
    /// How long resolvers remember that a name does not exist: not at all, so that a new service is found at once.
    pub min_ttl: u32,
}

impl Default for Soa {
    fn default() -> Self {
        Self { refresh: 3600, retry: 600, expire: 86_400, min_ttl: 0 }
    }
}

/// A setting that no DNS name can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {value:?} cannot be part of a DNS name; use letters, digits and hyphens, 63 at most between dots")]
pub struct ConfigError {
    /// `domain`, `alt_domain`, `datacenter`, `recursors` or `aliases`.
    pub setting: &'static str,
    /// What was given.
    pub value: String,
}

/// A [`DnsConfig`] and the names made of it.
#[derive(Clone, Debug)]
pub struct Zone {
    config: DnsConfig,
    pub(super) main: Names,
    alternative: Option<Names>,
    aliases: Vec<Alias>,
    recursion: Vec<DnsName>,
}

/// Names outside of our domains that stand for a service.
#[derive(Clone, Debug)]
struct Alias {
    /// Of the name, or of the one below which all names are meant.
    names: Names,
    below: bool,
    service: ServiceKey,
}

impl Alias {
    fn has(&self, name: &DnsName) -> bool {
        if self.below { name.ends_with(&self.names.apex) } else { *name == self.names.apex }
    }
}

/// The fixed names of one domain.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) apex: DnsName,
    /// `service.consul.`
    pub(super) services: DnsName,
    /// `service.dc1.consul.`
    pub(super) local_services: DnsName,
    /// `node.dc1.consul.`
    pub(super) local_nodes: DnsName,
    /// `addr.dc1.consul.`
    pub(super) local_addresses: DnsName,
    /// `ns.consul.`
    pub(super) primary: DnsName,
    /// `hostmaster.consul.`
    pub(super) mailbox: DnsName,
}

impl Zone {
    /// The zone that `config` describes.
    ///
    /// # Errors
    /// [`ConfigError`] if a domain or the datacenter does not fit into a DNS name.
    pub fn new(config: DnsConfig) -> Result<Self, ConfigError> {
        let main = Names::new("domain", &config.domain, &config.datacenter)?;
        let alternative = config.alt_domain.as_deref();
        let alternative = alternative.map(|domain| Names::new("alt_domain", domain, &config.datacenter));
        let aliases = config.aliases.iter().map(|(name, service)| {
            let (domain, below) = name.strip_prefix("*.").map_or((name.as_str(), false), |domain| (domain, true));
            let wrong = || ConfigError { setting: "aliases", value: service.clone() };
            let service = ServiceKey::new(service).map_err(|_| wrong())?;
            Ok(Alias { names: Names::new("aliases", domain, &config.datacenter)?, below, service })
        });
        let aliases = aliases.collect::<Result<_, _>>()?;
        let recursion = config.recursion.iter().map(|domain| recursion_domain(domain)).collect::<Result<_, _>>()?;
        Ok(Self { main, alternative: alternative.transpose()?, aliases, recursion, config })
    }

    /// What it was made of.
    pub fn config(&self) -> &DnsConfig {
        &self.config
    }

    /// Whether upstream resolvers are asked about anything at all.
    pub(super) fn has_recursion(&self) -> bool {
        !self.recursion.is_empty()
    }

    /// Whether they are asked about `name`, unless it is ours.
    pub(super) fn recurses(&self, name: &DnsName) -> bool {
        self.recursion.iter().any(|domain| name.ends_with(domain))
    }

    /// The domain of ours that `name` is in; if one is inside the other, the inner one.
    pub(super) fn domain_of(&self, name: &DnsName) -> Option<&Names> {
        let both = [Some(&self.main), self.alternative.as_ref()].into_iter().flatten();
        let fitting = both.filter(|names| name.ends_with(&names.apex));
        fitting.max_by_key(|names| names.apex.label_count())
    }

    /// The domain that answers for `name`, be it ours or one with an alias.
    pub(super) fn answers_for(&self, name: &DnsName) -> Option<&Names> {
        self.domain_of(name).or_else(|| self.alias_of(name).map(|alias| &alias.names))
    }

    /// What `name` stands for if it is an alias, or the name below which aliases are.
    pub(super) fn stands_for(&self, name: &DnsName) -> Option<Lookup> {
        let alias = self.alias_of(name)?;
        let leads_on = alias.below && *name == alias.names.apex;
        Some(if leads_on { Lookup::Step } else { Lookup::Alias(alias.service.clone()) })
    }

    /// The most exact one.
    fn alias_of(&self, name: &DnsName) -> Option<&Alias> {
        let fitting = self.aliases.iter().filter(|alias| alias.has(name));
        fitting.max_by_key(|alias| (alias.names.apex.label_count(), !alias.below))
    }
}

fn recursion_domain(domain: &str) -> Result<DnsName, ConfigError> {
    let found = if domain == "." { Some(DnsName::root_bytes()) } else { name(domain) };
    found.ok_or_else(|| ConfigError { setting: "recursors", value: domain.into() })
}

impl Names {
    fn new(setting: &'static str, domain: &str, datacenter: &str) -> Result<Self, ConfigError> {
        let wrong = |setting, value: &str| ConfigError { setting, value: value.into() };
        let apex = name(domain).ok_or_else(|| wrong(setting, domain))?;
        let in_zone = |label: &str| below(label, &apex).ok_or_else(|| wrong(setting, domain));
        let local = |kind: &str| {
            let found = below(&format!("{kind}.{datacenter}"), &apex).filter(|_| !datacenter.contains('.'));
            found.ok_or_else(|| wrong("datacenter", datacenter))
        };
        Ok(Self {
            services: in_zone("service")?,
            local_services: local("service")?,
            local_nodes: local("node")?,
            local_addresses: local("addr")?,
            primary: in_zone("ns")?,
            mailbox: in_zone("hostmaster")?,
            apex,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_ttl_wins() {
        let seconds = |pairs: &[(&str, u64)]| {
            let all = pairs.iter().map(|(p, s)| ((*p).to_owned(), Duration::from_secs(*s)));
            ServiceTtls(all.collect())
        };
        let ttls = seconds(&[("web", 1), ("web-*", 2), ("web-a*", 3), ("*", 4)]);
        for (service, want) in [("web", 1), ("web-b", 2), ("web-api", 3), ("webs", 4)] {
            assert_eq!(ttls.of(service).as_secs(), want, "{service}");
        }
        assert_eq!(seconds(&[("web", 1)]).of("api"), Duration::ZERO);
    }

    #[test]
    fn settings_that_are_no_names_are_told() {
        let of = |domain: &str, datacenter: &str| {
            let config = DnsConfig { domain: domain.into(), datacenter: datacenter.into(), ..DnsConfig::default() };
            Zone::new(config).map(|zone| zone.main.apex.to_string()).map_err(|e| e.setting)
        };
        assert_eq!(of("consul", "dc1"), Ok("consul".into()));
        assert_eq!(of("svc.example.com.", "dc1"), Ok("svc.example.com".into()));
        assert_eq!(of("a..b", "dc1"), Err("domain"));
        assert_eq!(of("", "dc1"), Err("domain"));
        assert_eq!(of("consul", "dc.1"), Err("datacenter"));
        assert_eq!(of("consul", &"x".repeat(64)), Err("datacenter"));
    }
}
