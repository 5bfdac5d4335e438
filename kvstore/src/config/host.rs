//! What the host says where nobody else does: its name, its address, its identity.

use std::{
    env, fs, io,
    net::{IpAddr, UdpSocket},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{Engine, Fault, Layer, values};
use crate::whole_file;

/// What [`super::resolve`] may choose from.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub(super) hostname: Option<String>,
    /// The address that packets to the world leave from.
    pub(super) route_address: Option<IpAddr>,
    /// Where a state directory belongs that nobody named.
    pub(super) default_data_dir: Option<PathBuf>,
}

/// The file in the data directory with this host's UUID; Consul's name for it.
const NODE_ID_FILE: &str = "node-id";

pub(super) fn facts() -> Facts {
    let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Facts { hostname, route_address: route_address(), default_data_dir: default_data_dir() }
}

/// Asks the kernel which address it would send from; connecting a UDP socket sends nothing.
fn route_address() -> Option<IpAddr> {
    // Addresses for documentation (RFC 5737, RFC 3849): only the default route leads there.
    [("0.0.0.0:0", "192.0.2.1:9"), ("[::]:0", "[2001:db8::1]:9")].into_iter().find_map(|(from, to)| {
        let socket = UdpSocket::bind(from).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
    })
}

/// `/var/lib/flotilla/kvstore` for root, else below `$XDG_STATE_HOME` or `~/.local/state`.
fn default_data_dir() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some("/var/lib/flotilla/kvstore".into());
    }
    let absolute = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("flotilla/kvstore"))
}

/// What the variables of Consul's image say: interfaces instead of addresses.
pub(super) fn environment(faults: &mut Vec<Fault>) -> Layer {
    let mut address_of = |variable: &str| {
        let interface = env::var(variable).ok().filter(|name| !name.is_empty())?;
        let address = interface_address(&interface);
        if address.is_none() {
            let why = format!("no address on an interface {interface:?}");
            faults.push(Fault { place: format!("${variable}"), key: String::new(), why });
        }
        address
    };
    let bind = address_of("CONSUL_BIND_INTERFACE");
    let client = address_of("CONSUL_CLIENT_INTERFACE").map(|address| vec![address]);
    Layer { bind, client, ..Layer::default() }
}

/// Adds the tokens of files, one a line, to those of the configuration.
pub(super) fn read_tokens(layer: &mut Layer, faults: &mut Vec<Fault>) {
    let access = &mut layer.guard.access;
    let files = [
        ("access.read_token_file", layer.read_token_file.take(), &mut access.readers),
        ("access.write_token_file", layer.write_token_file.take(), &mut access.writers),
    ];
    for (key, file, tokens) in files {
        let Some(file) = file else { continue };
        let lines = fs::read_to_string(&file).map_err(|e| e.to_string());
        let read = lines.and_then(|text| {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(values::token).collect::<Result<Vec<_>, _>>()
        });
        match read {
            Ok(read) if read.is_empty() => faults.push(fault(&file, key, "there is no token in it".into())),
            Ok(read) => tokens.extend(read),
            Err(why) => faults.push(fault(&file, key, why)),
        }
    }
}

fn fault(file: &Path, key: &str, why: String) -> Fault {
    Fault { place: file.display().to_string(), key: key.into(), why }
}

/// The first address of an interface, IPv4 before IPv6.
fn interface_address(name: &str) -> Option<IpAddr> {
    let all = nix::ifaddrs::getifaddrs().ok()?.filter(|i| i.interface_name == name);
    let ips = all.filter_map(|i| {
        let address = i.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
    });
    ips.min_by_key(IpAddr::is_ipv6)
}

/// This host's UUID: kept beside the state, or a new one for each start where nothing is kept.
pub(super) fn node_id(engine: &Engine) -> Result<String, Fault> {
    let new = || uuid::Uuid::new_v4().hyphenated().to_string();
    let Some(data_dir) = engine.data_dir() else { return Ok(new()) };
    let fault = |path: &Path, why: String| Fault { place: path.display().to_string(), key: String::new(), why };
    let mut builder = fs::DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(data_dir);
    made.map_err(|e| fault(data_dir, format!("cannot make the data directory: {e}; name another with --data-dir")))?;

    let path = data_dir.join(NODE_ID_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => values::uuid(&text).map_err(|why| fault(&path, format!("{why}; remove the file for a new one"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = new();
            whole_file::write(&path, &id, 0o600).map_err(|e| fault(&path, format!("cannot write the node id: {e}")))?;
            Ok(id)
        }
        Err(error) => Err(fault(&path, format!("cannot read the node id: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("a/b");
        let engine = Engine::Embedded { data_dir: data_dir.clone() };
        let first = node_id(&engine).unwrap();
        assert_eq!(node_id(&engine).as_ref(), Ok(&first));
        assert_ne!(node_id(&Engine::Memory), node_id(&Engine::Memory));

        fs::write(data_dir.join(NODE_ID_FILE), "junk").unwrap();
        let fault = node_id(&engine).unwrap_err();
        assert!(fault.place.ends_with("a/b/node-id") && fault.why.contains("remove the file"), "{fault}");
    }

    #[test]
    fn a_data_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let engine = Engine::Embedded { data_dir: file.path().join("x") };
        assert!(node_id(&engine).unwrap_err().why.contains("--data-dir"));
    }

    #[test]
    fn interfaces_have_addresses() {
        assert_eq!(interface_address("lo"), Some([127, 0, 0, 1].into()));
        assert_eq!(interface_address("no-such-interface"), None);
    }
}
