//! What may pass between networks, as a table of nftables. The text is made by a pure function; the shell gives it to
//! `nft`, which takes all of it or nothing. Only our own table is touched.

use std::{collections::BTreeSet, fmt::Write, io, process::Stdio, time::Duration};

use bytes::BytesMut;
use futures_util::FutureExt;
use ipnet::{IpNet, Ipv4Net};
use netlink_sys::{AsyncSocket, AsyncSocketExt, TokioSocket, protocols::NETLINK_NETFILTER};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    sync::mpsc,
    time::{sleep, timeout},
};

use crate::network::{Block, Network};

/// Our table.
pub const TABLE: &str = "inet overlay";
/// By its number: its name is in a file, /etc/protocols, which small systems lack.
const ICMPV6: u8 = 58;
/// `nft` answers at once, unless the machine is very busy.
const LIMIT: Duration = Duration::from_secs(10);
/// The kernel's group of who wants to hear of changes of nftables (`NFNLGRP_NFTABLES`).
const CHANGES: u32 = 7;
/// Docker, where it uses nftables, makes many changes for one container: they are told as one.
const CROWD: Duration = Duration::from_secs(1);

/// What the rules follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The tunnel's interface.
    pub interface: String,
    /// All networks of this host, local ones too.
    pub networks: Vec<Network>,
    /// The blocks of this host.
    pub blocks: Vec<Block>,
    /// Subnets behind other hosts that containers may use.
    pub lans: BTreeSet<Ipv4Net>,
    /// Subnets behind this one; who is sent there comes with an address of this host.
    pub own_lans: BTreeSet<Ipv4Net>,
}

/// Why the rules do not hold; those of before do.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// There is no `nft`.
    #[error("cannot run nft, by which networks are kept apart; install the package nftables")]
    Missing(#[source] io::Error),
    /// It does not take them.
    #[error("nft refused the rules that keep networks apart: {0}")]
    Refused(String),
    /// It hangs.
    #[error("nft did not answer")]
    Slow,
}

impl Rules {
    /// The whole table, in the place of what there was.
    pub fn text(&self) -> String {
        // Named first, so that there is one to be deleted.
        let mut text = format!("table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n");
        let nets =
            |v4: bool| self.networks.iter().map(move |n| if v4 { IpNet::V4(n.subnet) } else { IpNet::V6(n.subnet6) });
        let own = |v4: bool| self.blocks.iter().map(move |b| if v4 { IpNet::V4(b.v4) } else { IpNet::V6(b.v6) });
        set(&mut text, "nets4", "ipv4_addr", nets(true));
        set(&mut text, "nets6", "ipv6_addr", nets(false));
        set(&mut text, "own4", "ipv4_addr", own(true));
        set(&mut text, "own6", "ipv6_addr", own(false));
        set(&mut text, "lan4", "ipv4_addr", self.lans.iter().chain(&self.own_lans).copied().map(IpNet::V4));
        set(&mut text, "ownlan4", "ipv4_addr", self.own_lans.iter().copied().map(IpNet::V4));
        let tun = &self.interface;
        // Sources first: an address of a network comes from where that address is, and from nowhere else.
        let _ = write!(
            text,
            "  chain sources {{
    type filter hook prerouting priority -290; policy accept;
    iifname \"lo\" accept
    ip saddr @nets4 fib saddr . iif oif missing counter drop comment \"spoofed\"
    ip6 saddr @nets6 fib saddr . iif oif missing counter drop comment \"spoofed\"
  }}
  chain within {{
"
        );
        for network in &self.networks {
            let _ = writeln!(text, "    ip saddr {0} ip daddr {0} accept", network.subnet);
            let _ = writeln!(text, "    ip6 saddr {0} ip6 daddr {0} accept", network.subnet6);
        }
        let _ = write!(
            text,
            "  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    oifname \"{tun}\" tcp flags syn tcp option maxseg size set rt mtu
    iifname \"{tun}\" tcp flags syn tcp option maxseg size set rt mtu
    jump within
    ip saddr @nets4 ip daddr @nets4 counter drop comment \"another network\"
    ip6 saddr @nets6 ip6 daddr @nets6 counter drop comment \"another network\"
    oifname \"{tun}\" ip daddr @lan4 ip saddr @nets4 accept
    oifname \"{tun}\" ct state established,related accept
    oifname \"{tun}\" ct status dnat ip daddr @nets4 accept
    oifname \"{tun}\" ct status dnat ip6 daddr @nets6 accept
    oifname \"{tun}\" counter drop comment \"not of a network\"
    iifname \"{tun}\" ip daddr @lan4 ip saddr @nets4 accept
    iifname \"{tun}\" ct state established,related accept
    iifname \"{tun}\" counter drop comment \"not of a network\"
    ip daddr @nets4 ip daddr != @own4 counter drop comment \"in clear\"
    ip6 daddr @nets6 ip6 daddr != @own6 counter drop comment \"in clear\"
  }}
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname \"{tun}\" meta l4proto {ICMPV6} accept
    iifname \"{tun}\" jump within
    iifname \"{tun}\" ct state established,related accept
    iifname \"{tun}\" counter drop comment \"not of a network\"
    jump within
    ip saddr @nets4 ip daddr @nets4 counter drop comment \"another network\"
    ip6 saddr @nets6 ip6 daddr @nets6 counter drop comment \"another network\"
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname != \"{tun}\" ip saddr @nets4 ip daddr @ownlan4 masquerade
  }}
  chain output {{
    type filter hook output priority -10; policy accept;
    oifname {{ \"lo\", \"{tun}\" }} accept
    ip daddr @nets4 ip daddr != @own4 counter drop comment \"in clear\"
    ip6 daddr @nets6 ip6 daddr != @own6 counter drop comment \"in clear\"
  }}
}}
"
        );
        text
    }

    /// Has them hold.
    ///
    /// # Errors
    /// [`FirewallError`]
    pub async fn apply(&self) -> Result<(), FirewallError> {
        nft(&["-f", "-"], &self.text()).await.map(drop)
    }
}

/// A set of subnets. Those within another are left out, which `nft` would refuse.
fn set(text: &mut String, name: &str, kind: &str, nets: impl Iterator<Item = IpNet>) {
    let elements: Vec<_> = IpNet::aggregate(&nets.collect()).iter().map(ToString::to_string).collect();
    let elements =
        if elements.is_empty() { String::new() } else { format!(" elements = {{ {} }};", elements.join(", ")) };
    let _ = writeln!(text, "  set {name} {{ type {kind}; flags interval;{elements} }}");
}

/// Takes our table away.
///
/// # Errors
/// [`FirewallError`]
pub async fn remove() -> Result<(), FirewallError> {
    nft(&["-f", "-"], &format!("table {TABLE} {{}}\ndelete table {TABLE}\n")).await.map(drop)
}

/// What the kernel has of our table, without what it has counted; `None` if there is no such table.
///
/// # Errors
/// [`FirewallError`]
pub async fn standing() -> Result<Option<String>, FirewallError> {
    match nft(&["--stateless", "list", "table", "inet", "overlay"], "").await {
        Ok(text) => Ok(Some(text)),
        Err(FirewallError::Refused(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tells whenever rules of nftables are changed on this host, whoever changes them: at once, and then once for each crowd
/// of changes. Ends with its listener.
///
/// # Errors
/// If the kernel does not let us hear of it.
pub async fn listen(tell: mpsc::Sender<()>) -> io::Result<()> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind_auto()?;
    socket.socket_mut().add_membership(CHANGES)?;
    // What has changed is not read: our own table is compared. Nor does it matter that there was too much to be told.
    let mut message = BytesMut::with_capacity(4096);
    while !tell.is_closed() {
        let _ = socket.recv(&mut message).await;
        message.clear();
        // One is enough for all that have happened by now; what happens later is told later.
        while let Some(Ok(())) = socket.recv(&mut message).now_or_never() {
            message.clear();
        }
        let _ = tell.try_send(());
        sleep(CROWD).await;
    }
    Ok(())
}

async fn nft(args: &[&str], text: &str) -> Result<String, FirewallError> {
    let mut command = Command::new("nft");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(FirewallError::Missing)?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let run = async {
        // It may have gone already; what it said then counts.
        let _ = stdin.write_all(text.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = timeout(LIMIT, run).await.map_err(|_| FirewallError::Slow)?.map_err(FirewallError::Missing)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(FirewallError::Refused(said.lines().take(3).collect::<Vec<_>>().join(" ").chars().take(400).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tests::web;

    #[test]
    fn the_table_names_what_it_follows_from() {
        let lans = ["192.168.7.0/24".parse().unwrap()].into();
        let rules = Rules {
            interface: "ovl0".into(),
            networks: vec![web()],
            blocks: vec![web().block(7), web().block(8)],
            lans,
            own_lans: ["192.168.9.0/24".parse().unwrap()].into(),
        };
        let text = rules.text();
        for part in [
            "set nets4 { type ipv4_addr; flags interval; elements = { 10.210.0.0/16 }; }",
            "set own4 { type ipv4_addr; flags interval; elements = { 10.210.7.0/24, 10.210.8.0/24 }; }",
            "set lan4 { type ipv4_addr; flags interval; elements = { 192.168.7.0/24, 192.168.9.0/24 }; }",
            "set ownlan4 { type ipv4_addr; flags interval; elements = { 192.168.9.0/24 }; }",
            "ip saddr 10.210.0.0/16 ip daddr 10.210.0.0/16 accept",
            "oifname \"ovl0\" tcp flags syn",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let none = Rules { interface: "ovl0".into(), ..Rules::default() }.text();
        assert!(none.contains("set nets4 { type ipv4_addr; flags interval; }"), "{none}");
    }
}
