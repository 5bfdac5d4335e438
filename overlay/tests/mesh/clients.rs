//! A machine that has only WireGuard, and no part of ours.

use std::{
    io::Write,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use flotilla_tests::switch::Switch;

use crate::{
    bed::Bed,
    traffic::{count, shout, transfer, udp},
};

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Configures `interface` of the `n`th host as the file says, as wg-quick would.
fn configure(bed: &Bed, n: u8, interface: &str, file: &str) {
    let text = std::fs::read_to_string(bed.path(file)).unwrap();
    let stripped = bed.switch.command(n, "wg-quick").arg("strip").arg(bed.path(file)).output().unwrap();
    assert!(stripped.status.success(), "{}", String::from_utf8_lossy(&stripped.stderr));
    let set = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(100));
        let mut wg = bed.switch.command(n, "wg");
        let mut wg = wg.args(["setconf", interface, "/dev/stdin"]).stdin(Stdio::piped()).spawn().unwrap();
        wg.stdin.take().unwrap().write_all(&stripped.stdout).unwrap();
        wg.wait().unwrap().success()
    });
    assert!(set, "wg takes it");
    let value =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = ")).unwrap().to_owned();
    for address in value("Address").split(", ") {
        bed.switch.ip(n, &format!("address add {address} dev {interface}"));
    }
    bed.switch.ip(n, &format!("link set {interface} mtu {} up", value("MTU")));
    for net in value("AllowedIPs").split(", ") {
        bed.switch.ip(n, &format!("route add {net} dev {interface}"));
    }
}

/// It reaches all hosts of its network, and they it, and nobody else; until it is removed.
pub(crate) fn client() {
    let mut bed = Bed::idle(3);
    bed.start(1);
    bed.start(2);
    bed.network(&[1, 2]);
    bed.overlay(1, &["network", "create", "other"]).unwrap();
    bed.until("all have addresses", |bed| [1, 2].iter().all(|n| bed.address(*n, "other").is_some()));
    let place = Switch::address(2).to_string();
    let add = ["client", "add", "laptop", "--network", "app", "--endpoint", &place];
    let text = bed.overlay(2, &add).unwrap();
    // An interface is found by its name on the whole machine.
    let interface = format!("c{}", std::process::id());
    let file = format!("{interface}.conf");
    std::fs::write(bed.path(&file), &text).unwrap();
    let go = bed.switch.command(3, "wireguard-go").args(["-f", &interface]).env("LOG_LEVEL", "error").spawn().unwrap();
    let _go = Ended(go);
    configure(&bed, 3, &interface, &file);
    let mine = text.lines().find_map(|line| line.strip_prefix("Address = ")?.split('/').next()).unwrap().to_owned();
    let ping = |bed: &Bed, from: u8, to: &str| {
        let mut ping = bed.switch.command(from, "ping");
        ping.args(["-c", "1", "-W", "1", to]).output().unwrap().status.success()
    };
    for n in [1, 2] {
        let there = bed.address(n, "app").unwrap();
        bed.until("the client reaches it", |bed| ping(bed, 3, &there));
        bed.until("it reaches the client", |bed| ping(bed, n, &mine));
        for (from, to) in [((3, &*mine), (n, &*there)), ((n, &*there), (3, &*mine))] {
            println!("4 MiB from {} to {} took {:?}", from.1, to.1, transfer(&bed.switch, from, to, 4 << 20));
        }
    }
    // Another network is not for it, whatever its own routes say.
    let other = bed.address(1, "other").unwrap();
    bed.switch.ip(3, &format!("route add {other} dev {interface}"));
    let mut wg = bed.switch.command(3, "wg");
    let key = text.lines().find_map(|line| line.strip_prefix("PublicKey = ")).unwrap();
    assert!(wg.args(["set", &interface, "peer", key, "allowed-ips", "0.0.0.0/0"]).status().unwrap().success());
    let to = udp(&bed.switch, 1, &other);
    let (address, arrived) = (to.local_addr().unwrap(), count(to, b"not for it"));
    let sent = shout(udp(&bed.switch, 3, &mine), address, b"not for it");
    thread::sleep(Duration::from_secs(1));
    let (sent, arrived) = (sent.end(), arrived.end());
    println!("{sent} packets of the client to another network: {arrived} arrived");
    assert!(sent > 100 && arrived == 0);
    // It is there again after a restart of its host, and its secret key is not.
    let listed = bed.overlay(2, &["client", "list"]).unwrap();
    assert!(listed.contains("laptop") && listed.contains(&mine), "{listed}");
    bed.kill(2);
    bed.start(2);
    let there = bed.address(1, "app").unwrap();
    bed.until("the client reaches it again", |bed| ping(bed, 3, &there));
    let secret = text.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).unwrap();
    let kept = std::fs::read_to_string(bed.path("state2").join("state.json")).unwrap();
    assert!(!kept.contains(secret) && secret.len() == 44);
    assert!(bed.overlay(2, &add).unwrap_err().contains("there is a client laptop already"));
    // Its address is no container's: the two blocks are not the same.
    let block = bed.address(2, "app").unwrap();
    assert_ne!(block.rsplit_once('.').unwrap().0, mine.rsplit_once('.').unwrap().0);
    // A key that was made elsewhere.
    let public = text.lines().find_map(|line| line.strip_prefix("PublicKey = ")).unwrap();
    let refused = bed.overlay(2, &["client", "add", "box", "--network", "app", "--public-key", public]).unwrap_err();
    assert!(refused.contains("the key of a member"), "{refused}");
    bed.until("the DNS knows it", |bed| named(bed) == mine);
    bed.overlay(2, &["client", "rm", "laptop"]).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(!ping(&bed, 3, &there) && !ping(&bed, 1, &mine), "it is out");
    bed.until("nor does the DNS know it", |bed| named(bed).is_empty());
}

/// What the registry's DNS says of it to the first host, as one that is in its network.
fn named(bed: &Bed) -> String {
    let (source, registry) = (bed.address(1, "app").unwrap(), format!("@{}", Switch::address(1)));
    let mut dig = bed.switch.command(1, "dig");
    dig.args(["+short", "+time=2", "+tries=1", "-b", &source, &registry, "-p", "8600", "laptop", "A"]);
    String::from_utf8_lossy(&dig.output().unwrap().stdout).trim().to_owned()
}
