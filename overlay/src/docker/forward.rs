//! What Docker's own firewall lets through: where it lets nothing pass that it does not know (its chain `FORWARD` drops by
//! policy), packets of our networks have to be accepted in that chain, since no other table can overrule it. Docker keeps
//! `DOCKER-USER` for that; we have a chain of our own there, for `iptables`, as Docker itself uses it. What may not pass
//! has been dropped before, in our own table.

use std::{collections::BTreeSet, io, process::Stdio, time::Duration};

use ipnet::IpNet;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::Network;
use crate::plugin::Bridged;

/// Docker's chain for what others want.
const DOCKERS: &str = "DOCKER-USER";
/// Ours.
const CHAIN: &str = "OVERLAY";
/// Somebody else may hold the lock of all tables for a while.
const LIMIT: Duration = Duration::from_secs(10);

/// What they end with where there is no such chain, or no rule like that.
const NO_SUCH_CHAIN: i32 = 1;

/// The programs, one for each family.
const FAMILIES: [(&str, bool); 2] = [("iptables", true), ("ip6tables", false)];

/// What is to be let through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Forward {
    /// What leads to other hosts.
    pub(super) tunnel: String,
    /// Whose addresses reach each other, on whatever host.
    pub(super) networks: BTreeSet<IpNet>,
    /// Bridges of the driver, whose containers reach the world, and are reached at published ports.
    pub(super) bridges: BTreeSet<String>,
    /// Docker's own bridges, which others' containers do not get at by that.
    pub(super) others: BTreeSet<String>,
}

impl Forward {
    /// For the networks that there are.
    pub(super) fn of(
        tunnel: &str,
        bridged: Vec<Bridged>,
        mesh: impl Iterator<Item = IpNet>,
        docker: &[Network],
    ) -> Self {
        let networks = bridged.iter().flat_map(|bridged| bridged.pools.clone()).chain(mesh).collect();
        let bridges = bridged.into_iter().filter(|bridged| !bridged.internal).map(|bridged| bridged.bridge).collect();
        let others = docker.iter().filter(|network| network.driver == "bridge").filter_map(Network::bridge);
        Self { tunnel: tunnel.to_owned(), networks, bridges, others: others.collect() }
    }

    /// Our chain of one family, for `iptables-restore --noflush`: in the place of what it held.
    fn chain(&self, v4: bool) -> String {
        let mut text = format!("*filter\n:{CHAIN} - [0:0]\n");
        let mut rule = |rule: &str| text.extend(["-A ", CHAIN, " ", rule, "\n"]);
        for net in self.networks.iter().filter(|net| net.addr().is_ipv4() == v4) {
            rule(&format!("-s {net} -d {net} -j ACCEPT"));
        }
        // Who is sent to other hosts from outside, by a rule of the host's own.
        rule(&format!("-o {} -m conntrack --ctstate DNAT -j ACCEPT", self.tunnel));
        rule(&format!("-i {} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", self.tunnel));
        for bridge in &self.bridges {
            rule(&format!("-o {bridge} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"));
            rule(&format!("-o {bridge} -m conntrack --ctstate DNAT -j ACCEPT"));
            for other in &self.others {
                rule(&format!("-i {bridge} -o {other} -j RETURN"));
            }
            rule(&format!("-i {bridge} -j ACCEPT"));
        }
        text + "COMMIT\n"
    }

    /// Has it let through, where Docker has such a chain; what is wrong with that.
    pub(super) async fn apply(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.networks.is_empty() && self.bridges.is_empty() {
            // Also while all that is ours is being removed: a chain that lets nothing through would be left behind.
            close_firewall().await;
            return wrong;
        }
        for (program, v4) in FAMILIES {
            if let Err(error) = self.apply_to(program, v4).await {
                wrong.push(format!("packets between hosts may not get through Docker's firewall: {error}"));
            }
        }
        wrong
    }

    async fn apply_to(&self, program: &str, v4: bool) -> io::Result<()> {
        match run(program, &["--wait", "-n", "-L", DOCKERS], "").await {
            Ok(0) => {}
            Ok(NO_SUCH_CHAIN) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => return expect_done(program, other?),
        }
        let restore = format!("{program}-restore");
        expect_done(&restore, run(&restore, &["--wait", "--noflush"], &self.chain(v4)).await?)?;
        // First in Docker's chain: behind the rule that ends it nothing counts.
        match run(program, &["--wait", "-C", DOCKERS, "-j", CHAIN], "").await? {
            0 => Ok(()),
            _ => expect_done(program, run(program, &["--wait", "-I", DOCKERS, "-j", CHAIN], "").await?),
        }
    }
}

fn expect_done(program: &str, code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::other(format!("{program} ended with {code}"))) }
}

/// Takes away what Docker's firewall was told.
pub async fn close_firewall() {
    for (program, _) in FAMILIES {
        for args in [&["-D", DOCKERS, "-j", CHAIN][..], &["-F", CHAIN], &["-X", CHAIN]] {
            // It may not be there; and where there is no such program, neither is the chain.
            let _ = run(program, &[&["--wait"], args].concat(), "").await;
        }
    }
}

/// What the program ends with; 0 if it did what it was told.
async fn run(program: &str, args: &[&str], input: &str) -> io::Result<i32> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let work = async {
        // One that does not read it says so by its end.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        child.wait().await
    };
    Ok(timeout(LIMIT, work).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.code().unwrap_or(-1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_through() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let bridged = |bridge: &str, internal, pools: &[&str]| Bridged {
            bridge: bridge.into(),
            internal,
            pools: pools.iter().map(|text| net(text)).collect(),
        };
        let docker = |name: &str, driver: &str, id: &str| Network {
            id: id.repeat(12),
            name: name.into(),
            driver: driver.into(),
            ..Network::default()
        };
        let driver = vec![
            bridged("ovb-a", false, &["10.1.0.0/16", "fd00:1::/48"]),
            bridged("ovb-inside", true, &["10.2.0.0/16"]),
        ];
        let mesh = [net("10.1.0.0/16"), net("10.3.0.0/16")].into_iter();
        let docker = [docker("bridge", "bridge", "0"), docker("own", "bridge", "a"), docker("app", "flotilla", "b")];
        let forward = Forward::of("wg7", driver, mesh, &docker);
        assert_eq!(
            forward.chain(true).lines().collect::<Vec<_>>(),
            [
                "*filter",
                ":OVERLAY - [0:0]",
                "-A OVERLAY -s 10.1.0.0/16 -d 10.1.0.0/16 -j ACCEPT",
                "-A OVERLAY -s 10.2.0.0/16 -d 10.2.0.0/16 -j ACCEPT",
                "-A OVERLAY -s 10.3.0.0/16 -d 10.3.0.0/16 -j ACCEPT",
                "-A OVERLAY -o wg7 -m conntrack --ctstate DNAT -j ACCEPT",
                "-A OVERLAY -i wg7 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-A OVERLAY -o ovb-a -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "-A OVERLAY -o ovb-a -m conntrack --ctstate DNAT -j ACCEPT",
                "-A OVERLAY -i ovb-a -o br-aaaaaaaaaaaa -j RETURN",
                "-A OVERLAY -i ovb-a -o docker0 -j RETURN",
                "-A OVERLAY -i ovb-a -j ACCEPT",
                "COMMIT",
            ]
        );
        assert!(
            forward.chain(false).contains("-s fd00:1::/48 -d fd00:1::/48") && !forward.chain(false).contains("10.")
        );
    }
}
