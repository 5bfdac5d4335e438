//! What to do about an address that cannot be served.

use std::io;

/// `option` takes another one, such as `example`.
pub(crate) fn remedy(error: &io::Error, option: &str, example: &str) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need root or CAP_NET_BIND_SERVICE; {option} takes another address, such as {example}"
        ),
        io::ErrorKind::AddrInUse => format!(
            "another program has it (`ss -lntup` tells which); stop that one, or give another address with {option}"
        ),
        io::ErrorKind::AddrNotAvailable => format!("this host has no such address; {option} takes another"),
        _ => format!("{option} takes another address"),
    }
}
