//! Which text of strangers may be printed. Names, ids and addresses come from whoever may start a container and end up in
//! files owned by root, so what could break out of a configuration line never gets past here.

use std::net::IpAddr;

use kvstore_client::types::Meta;

use super::shapes::{Instance, NodeInstance};

/// Whether `name` stays one word in nginx's, HAProxy's and a shell's eyes: no white space, quote, comment, brace,
/// semicolon, variable or control character.
pub(super) fn is_safe_name(name: &str) -> bool {
    !name.chars().any(|c| c.is_control() || c.is_whitespace() || ";{}\"'`#$\\<>|&".contains(c))
}

/// Whether `address` is an IP address or looks like a host name.
pub(super) fn is_safe_address(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok()
        || address.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
        || is_socket_path(address)
}

/// An instance may listen on a Unix socket instead of an address.
fn is_socket_path(address: &str) -> bool {
    address.starts_with('/') && is_safe_name(address)
}

impl Instance {
    pub(super) fn is_safe(&self) -> bool {
        let mut tagged = self.tagged_addresses.values();
        is_safe_name(&self.id)
            && is_safe_name(&self.name)
            && is_safe_name(&self.node.name)
            && is_safe_address(&self.address)
            && is_safe_address(&self.node.address)
            && tagged.all(|t| is_safe_address(&t.address))
    }
}

impl NodeInstance {
    pub(super) fn is_safe(&self) -> bool {
        is_safe_name(&self.id) && is_safe_name(&self.name) && is_safe_address(&self.address)
    }
}

/// Sorted, so that the same set prints the same text; a tag with control characters is left out.
pub(super) fn sorted_tags(mut tags: Vec<String>) -> Vec<String> {
    tags.retain(|t| !t.contains(char::is_control));
    tags.sort_unstable();
    tags.dedup();
    tags
}

/// Without the entries that have control characters: a newline would end the line of any configuration.
pub(super) fn safe_meta(mut meta: Meta) -> Meta {
    meta.retain(|k, v| !k.contains(char::is_control) && !v.contains(char::is_control));
    meta
}
