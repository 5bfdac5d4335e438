//! Real dnsmasq and unbound in front of a registry, with the configurations of `examples/resolvers`.

use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    dig::dig_at,
    eventually,
    namespace::Namespace,
    program::{Launch, Program},
    workspace,
};

/// A resolver that does not answer by then does not start.
const START_LIMIT: Duration = Duration::from_secs(15);

/// A file of `examples/resolvers`, with some things in it replaced that another installation would replace.
///
/// # Panics
/// If it is not there, or one of those things is not in it exactly once.
pub fn example(name: &str, replaced: &[(&str, &str)]) -> String {
    let path = workspace().join("examples/resolvers").join(name);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for (old, new) in replaced {
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {}", path.display());
        text = text.replace(old, new);
    }
    text
}

/// A running resolver.
pub struct Resolver {
    /// Where it answers.
    pub address: SocketAddr,
    /// Its process.
    pub program: Program,
    _dir: TempDir,
}

impl Resolver {
    /// A dnsmasq that says no more than this: for other domains than the registry's.
    pub async fn for_others(address: SocketAddr, lines: &str) -> Self {
        Self::dnsmasq(address, lines, None).await
    }

    /// The example's dnsmasq in front of a registry that answers there; in another network namespace, if one is named.
    pub async fn example_dnsmasq(address: SocketAddr, registry: SocketAddr, namespace: Option<&Namespace>) -> Self {
        let server = format!("{}#{}", registry.ip(), registry.port());
        Self::dnsmasq(address, &example("dnsmasq.conf", &[("127.0.0.1#8600", &server)]), namespace).await
    }

    async fn dnsmasq(address: SocketAddr, config: &str, namespace: Option<&Namespace>) -> Self {
        // What the machine's own resolver says must not reach a story.
        let alone = "bind-interfaces\nno-resolv\nno-hosts\npid-file=\nuser=root\n";
        let own = format!(
            "listen-address={}\nport={}\n{alone}address=/elsewhere.test/192.0.2.7\n",
            address.ip(),
            address.port()
        );
        let dir = directory("dnsmasq.conf", &(own + config));
        let args = ["--keep-in-foreground", "--log-facility=-", "--conf-file=dnsmasq.conf"];
        let launch = Launch::new("dnsmasq").args(args).dir(dir.path());
        let program = match namespace {
            None => launch.start(),
            Some(namespace) => launch.inside(namespace).start(),
        };
        let mut resolver = Self { address, program, _dir: dir };
        if namespace.is_none() {
            resolver.ready("dnsmasq").await;
        }
        resolver
    }

    /// The example's unbound in front of a registry that answers there; strict about asking for no more than it must.
    pub async fn example_unbound(address: SocketAddr, registry: SocketAddr) -> Self {
        let stub = format!("{}@{}", registry.ip(), registry.port());
        let example = example("unbound.conf", &[("127.0.0.1@8600", &stub)]);
        let (ip, port) = (address.ip(), address.port());
        let own = format!(
            "server:\n chroot: \"\"\n username: \"\"\n directory: \".\"\n pidfile: \"\"\n use-syslog: no\n logfile: \"\"\n \
             interface: {ip}@{port}\n access-control: 10.0.0.0/8 allow\n access-control: 172.16.0.0/12 allow\n \
             access-control: 192.168.0.0/16 allow\n qname-minimisation: yes\n qname-minimisation-strict: yes\n\
             remote-control:\n control-enable: no\n"
        );
        let dir = directory("unbound.conf", &(own + &example));
        let program = Launch::new("unbound").args(["-d", "-c", "unbound.conf"]).dir(dir.path()).start();
        let mut resolver = Self { address, program, _dir: dir };
        resolver.ready("unbound").await;
        resolver
    }

    /// Any answer will do.
    async fn ready(&mut self, name: &str) {
        eventually!(format!("{name} answers"), START_LIMIT, async {
            assert!(self.program.is_running(), "{name} ended at once:\n{}", self.program.log());
            dig_at(self.address, "localhost", "A", &[]).await
        });
    }
}

fn directory(file: &str, text: &str) -> TempDir {
    let dir =
        tempfile::Builder::new().prefix("flotilla-resolver-").tempdir().expect("a temporary directory can be made");
    write(&dir.path().join(file), text);
    dir
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("our own directory");
}

/// Port 53, the only one that containers ask, of an address.
///
/// # Panics
/// If that is none.
pub fn port_53(ip: &str) -> SocketAddr {
    let ip: IpAddr = ip.parse().unwrap_or_else(|e| panic!("{ip:?}: {e}"));
    (ip, 53).into()
}
