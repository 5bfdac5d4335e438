//! What a container is called in networks of the overlay, for callers on other hosts, whose Docker does not know it: an
//! instance without a port of a service for each name, `NAME.NETWORK.overlay`. The registry's DNS answers it to those in
//! that network only.

use std::collections::BTreeSet;

use kvstore_client::{
    names::{META_NETWORK, in_network, is_dns_name},
    types::ServiceRegistration,
};

use super::{
    Instance, Mapped, Policy, meta,
    ports::{address_of, service_address},
    usable,
};
use crate::{address::Family, callers, container::Container, variables::Variables};

/// Of one container in one network.
const MAX_NAMES: usize = 32;

/// Adds them to what is registered.
pub(super) fn add(container: &Container, policy: &Policy, mapped: &mut Mapped) {
    if Variables::of(container, None).flag("ignore", &mut mapped.warnings) == Some(true) {
        return;
    }
    // The one that it has as a caller: who is known by two versions has none.
    let version = callers::version(container, &mapped.instances, policy);
    for (network, attachment) in container.attachments.iter().filter(|(_, attachment)| attachment.spans_hosts) {
        let names: BTreeSet<&str> =
            attachment.aliases.iter().map(String::as_str).chain([container.name.as_str()]).collect();
        if names.len() > MAX_NAMES {
            mapped.warnings.push(format!("of its {} names in {network} only {MAX_NAMES} are registered", names.len()));
        }
        for name in names.into_iter().take(MAX_NAMES) {
            match instance(container, policy, network, name, version.as_deref()) {
                Ok(instance) => mapped.instances.extend(instance),
                Err(why) => mapped.warnings.push(format!("{name:?} is no name for {network}: {why}")),
            }
        }
    }
}

/// None as long as it has no address there.
fn instance(
    container: &Container,
    policy: &Policy,
    network: &str,
    name: &str,
    version: Option<&str>,
) -> Result<Option<Instance>, String> {
    let endpoint = container.networks.get(network).copied().unwrap_or_default();
    let Some(address) = address_of(&endpoint, policy.choices.family) else { return Ok(None) };
    let service = in_network(name, network);
    usable("name", &service)?;
    if !is_dns_name(&service) {
        return Err("DNS has none such".into());
    }
    let mut meta = meta::marks(container, policy);
    meta.insert(META_NETWORK.into(), network.to_owned());
    meta.extend(version.map(|version| (callers::VERSION.into(), version.to_owned())));
    let beside = endpoint.ipv6.filter(|_| address.is_ipv4() && policy.choices.family == Family::Both);
    let service = ServiceRegistration {
        id: format!("{}:{}:{service}", policy.host, container.name),
        name: service,
        address: address.to_string(),
        tagged_addresses: beside.map(|v6| ("lan_ipv6".into(), service_address(v6.into(), 0))).into_iter().collect(),
        meta,
        ..ServiceRegistration::default()
    };
    Ok(Some(Instance { service, follows_docker: None, id_is_generated: true }))
}
