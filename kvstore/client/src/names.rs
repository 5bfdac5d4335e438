//! What programs have to call alike: names that DNS can have, and networks that span hosts, with the names in them. The
//! registry reads the latter by itself (`kvstore/core/src/overlay.rs`).

/// Docker's driver of networks that span hosts: `docker network create --driver flotilla`.
pub const NETWORK_DRIVER: &str = "flotilla";
/// The label of Docker's own networks that are part of one; its value is that network's id.
pub const NETWORK_LABEL: &str = "flotilla.overlay";
/// Metadata of a service that stands for a name in a network: which network.
pub const META_NETWORK: &str = "overlay-network";

/// The service that stands for `name` in a network that spans hosts; the registry's DNS answers it in that network only.
pub fn in_network(name: &str, network: &str) -> String {
    format!("{name}.{network}.overlay")
}

/// Whether DNS can have this name: labels of 1 to 63 letters, digits, hyphens and underscores.
pub fn is_dns_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.split('.').all(|label| (1..=63).contains(&label.len()) && label.bytes().all(good))
}
