//! Ports of the host that lead to containers, and the way out of their networks, as rules of nftables in a table of our
//! own: replaced as a whole, in one step.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    process::{Command, Stdio},
};

use ipnet::IpNet;

use super::protocol::Published;
use crate::link::{LinkError, Namespace};

const TABLE: &str = "overlay_nat";

/// What is to be translated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Nat {
    /// The interface that leads to other hosts.
    pub(super) tunnel: String,
    /// Ports of the host, and the container that each leads to.
    pub(super) ports: Vec<(Published, IpAddr)>,
    /// Networks whose containers reach the world, under an address of the host's.
    pub(super) leaving: BTreeSet<IpNet>,
    /// Networks that this host is exposed in, and its address there: by it come to other hosts who were sent there from outside,
    /// by a rule of the host's own.
    pub(super) exposed: BTreeSet<(IpNet, IpAddr)>,
}

impl Nat {
    /// As rules, for `nft -f`.
    pub(super) fn ruleset(&self) -> String {
        // Named twice: what is not there cannot be deleted.
        let mut text = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
        let arriving: Vec<String> = self.ports.iter().filter_map(|(port, to)| arriving(port, *to)).collect();
        let sent = self.exposed.iter().map(|(net, ip)| sent(net, *ip, &self.tunnel));
        let leaving: Vec<String> = sent.chain(self.leaving.iter().map(|net| leaving(net, &self.tunnel))).collect();
        if arriving.is_empty() && leaving.is_empty() {
            return text;
        }
        let _ = writeln!(text, "table inet {TABLE} {{");
        // What comes from elsewhere, and what this host sends itself.
        chain(&mut text, "arriving", "prerouting priority dstnat", &arriving);
        // The same number; nft knows its name only where packets arrive.
        chain(&mut text, "own", "output priority -100", &arriving);
        chain(&mut text, "leaving", "postrouting priority srcnat", &leaving);
        text += "}\n";
        text
    }
}

fn chain(text: &mut String, name: &str, hook: &str, rules: &[String]) {
    let _ = writeln!(text, "  chain {name} {{\n    type nat hook {hook}; policy accept;");
    for rule in rules {
        let _ = writeln!(text, "    {rule}");
    }
    *text += "  }\n";
}

/// What stays in the network, or goes through the tunnel to another one, keeps its own address.
fn leaving(net: &IpNet, tunnel: &str) -> String {
    let family = if net.addr().is_ipv4() { "ip" } else { "ip6" };
    format!("{family} saddr {net} {family} daddr != {net} oifname != \"{tunnel}\" masquerade")
}

/// Other hosts take nothing from addresses that are not of the network.
fn sent(net: &IpNet, ip: IpAddr, tunnel: &str) -> String {
    let family = if net.addr().is_ipv4() { "ip" } else { "ip6" };
    let from_outside = format!("{family} saddr != {net} {family} daddr {net} ct status dnat");
    format!("oifname \"{tunnel}\" {from_outside} snat {family} to {ip}")
}

/// None for what NAT cannot do: from one family to the other.
fn arriving(port: &Published, to: IpAddr) -> Option<String> {
    let protocol = match port.protocol {
        6 => "tcp",
        17 => "udp",
        132 => "sctp",
        _ => return None,
    };
    let (at, family) = match (port.host_ip, to) {
        (None, IpAddr::V4(_)) => ("meta nfproto ipv4 fib daddr type local".to_owned(), "ip"),
        (Some(IpAddr::V4(ip)), IpAddr::V4(_)) => (format!("ip daddr {ip}"), "ip"),
        (None, IpAddr::V6(_)) => ("meta nfproto ipv6 fib daddr type local".to_owned(), "ip6"),
        (Some(IpAddr::V6(ip)), IpAddr::V6(_)) => (format!("ip6 daddr {ip}"), "ip6"),
        _ => return None,
    };
    let to = match to {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Some(format!("{at} {protocol} dport {} dnat {family} to {to}:{}", port.host_port, port.port))
}

/// Has the kernel take the rules.
pub(super) async fn apply(namespace: &Namespace, ruleset: &str) -> Result<(), LinkError> {
    let (namespace, ruleset) = (namespace.clone(), ruleset.to_owned());
    let work = move || namespace.enter(|| nft(&ruleset)).flatten();
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    done.map_err(|source| LinkError::Refused { what: "translate addresses by nftables".into(), source })
}

fn nft(ruleset: &str) -> io::Result<()> {
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|e| io::Error::new(e.kind(), format!("cannot run nft: {e}; install nftables")))?;
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(ruleset.as_bytes())?;
    drop(stdin);
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_port_leads_to_its_container_and_none_leaves_no_table() {
        let port = |host_ip: Option<&str>, protocol, host_port| {
            let host_ip = host_ip.map(|ip| ip.parse().unwrap());
            (Published { protocol, host_ip, host_port, port: 80 }, "10.1.7.2".parse().unwrap())
        };
        let ports = vec![port(None, 6, 8080), port(Some("192.0.2.1"), 17, 53), port(Some("2001:db8::1"), 6, 1)];
        let leaving = ["10.1.0.0/16".parse().unwrap(), "fd00::/48".parse().unwrap()].into();
        let exposed = [("10.1.0.0/16".parse().unwrap(), "10.1.7.9".parse().unwrap())].into();
        let text = Nat { tunnel: "wg7".into(), ports, leaving, exposed }.ruleset();
        for rule in [
            "fib daddr type local tcp dport 8080 dnat ip to 10.1.7.2:80\n",
            "ip daddr 192.0.2.1 udp dport 53 dnat ip to 10.1.7.2:80\n",
            "    ip saddr 10.1.0.0/16 ip daddr != 10.1.0.0/16 oifname != \"wg7\" masquerade\n",
            "oifname \"wg7\" ip saddr != 10.1.0.0/16 ip daddr 10.1.0.0/16 ct status dnat snat ip to 10.1.7.9\n",
            "    ip6 saddr fd00::/48 ip6 daddr != fd00::/48 oifname != \"wg7\" masquerade\n",
        ] {
            assert!(text.contains(rule), "{rule} in {text}");
        }
        assert!(!text.contains("2001"), "{text}");
        assert_eq!(Nat::default().ruleset(), "table inet overlay_nat\ndelete table inet overlay_nat\n");
    }
}
