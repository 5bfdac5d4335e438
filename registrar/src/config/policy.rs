//! How containers are registered, as far as that is configured.

use crate::{
    address::{Family, HostAddress},
    docker::Identity,
    mapping::{NameFrom, Policy, TagTemplates},
    plan::Mark,
    registry::Place,
};

/// The part of a [`Policy`] that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, clippy::struct_excessive_bools)] // see Policy
pub struct PolicySettings {
    pub place: Place,
    pub host_id: Option<String>,
    pub internal: bool,
    pub explicit: bool,
    pub network: Option<String>,
    pub family: Family,
    pub ip_label: Option<String>,
    pub name_from: NameFrom,
    pub port_suffix: bool,
    pub version_from_tag: bool,
    pub script_checks: bool,
    pub tags: TagTemplates,
}

impl PolicySettings {
    /// What follows for a certain Docker and address.
    pub fn policy(&self, identity: &Identity, address: HostAddress, address_is_forced: bool, mark: Mark) -> Policy {
        let host = self.host_id.clone().unwrap_or_else(|| identity.host.clone());
        Policy {
            host: if host.is_empty() { "localhost".into() } else { host },
            address: address.main,
            other_address: address.other,
            address_is_forced,
            internal: self.internal,
            explicit: self.explicit,
            network: self.network.clone(),
            family: self.family,
            ip_label: self.ip_label.clone(),
            name_from: self.name_from,
            port_suffix: self.port_suffix,
            version_from_tag: self.version_from_tag,
            tags: self.tags.clone(),
            script_checks: self.script_checks,
            probes_are_run: matches!(self.place, Place::Agent),
            boot: identity.boot.clone(),
            mark,
        }
    }
}
