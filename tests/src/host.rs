//! Another host for Docker: a network namespace with a bridge for its containers, linked to this machine, where the story
//! and its registry are. For hosts that have all of that themselves see [`crate::bed`].

use std::process::{self, Command};

use crate::{namespace::Namespace, program::find};

/// A host of a story's own; dropping it takes its network down, so what runs there goes first.
pub struct DockerHost {
    /// Its bridge, whose network is the same on every such host.
    pub bridge: String,
    /// Its address for us.
    pub address: String,
    /// Ours for it.
    pub ours: String,
    /// Our end of the link to it.
    link: String,
    /// Where its programs run.
    pub namespace: Namespace,
}

impl DockerHost {
    /// The address of each such host for its own containers.
    pub const GATEWAY: &str = "172.30.0.1";

    /// The `n`th host of a story; up to 63.
    ///
    /// # Panics
    /// If this is not root, or may not change the network.
    pub fn new(n: u8) -> Self {
        let (pid, net) = (process::id(), process::id() % 250);
        let host = Self {
            bridge: format!("fb{pid}-{n}"),
            address: format!("10.214.{net}.{}", 4 * n + 2),
            ours: format!("10.214.{net}.{}", 4 * n + 1),
            link: format!("fl{pid}-{n}"),
            namespace: Namespace::new(),
        };
        let (namespace, link, bridge) = (&host.namespace, &host.link, &host.bridge);
        ip(&format!("link add {link} type veth peer name up0 netns {}", namespace.pid()));
        ip(&format!("address add {}/30 dev {link}", host.ours));
        ip(&format!("link set {link} up"));
        namespace.ip(&format!("address add {}/30 dev up0", host.address));
        // With an address of its own, or it would change with the containers.
        namespace.ip(&format!("link add {bridge} address 02:42:ac:1e:00:01 type bridge"));
        namespace.ip(&format!("address add {}/24 dev {bridge}", Self::GATEWAY));
        for device in ["up0", bridge] {
            namespace.ip(&format!("link set {device} up"));
        }
        namespace.ip(&format!("route add default via {}", host.ours));
        host
    }

    /// Lets the two reach each other, by a link of their own; their addresses on it.
    ///
    /// # Panics
    /// As [`DockerHost::new`].
    pub fn link(&self, other: &Self) -> [String; 2] {
        let addresses = [1, 2].map(|n| format!("10.215.{}.{n}", process::id() % 250));
        let (mine, theirs) = (&self.namespace, &other.namespace);
        mine.ip(&format!("link add peer0 type veth peer name peer0 netns {}", theirs.pid()));
        for (namespace, address) in [mine, theirs].into_iter().zip(&addresses) {
            namespace.ip(&format!("address add {address}/24 dev peer0"));
            namespace.ip("link set peer0 up");
        }
        addresses
    }
}

fn ip(command: &str) {
    let output = Command::new(find("ip".as_ref())).args(command.split(' ')).output().expect("ip can be run");
    assert!(output.status.success(), "ip {command}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for DockerHost {
    fn drop(&mut self) {
        // The link at once, for the next story's; the rest with the namespace, when the kernel comes to it.
        let _ = Command::new(find("ip".as_ref())).args(["link", "delete", &self.link]).output();
    }
}
