//! The whole overlay: hosts that are network namespaces on one switch, a real registry, real packets.

mod apart;
mod bed;
mod clients;
mod hostile;
mod lan;
mod traffic;

use std::{
    process::{Child, Command, ExitCode},
    time::{Duration, Instant},
};

use bed::Bed;
use flotilla_tests::{
    needs::Need,
    story::{Story, run},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

const NEEDS: [Need; 5] = [Need::Root, Need::Tun, Need::Program("ip"), Need::Program("nft"), Need::Program("ping")];

fn main() -> ExitCode {
    let story = |name, tell: fn()| Story::new(name, NEEDS, move || async move { tell() });
    let with = |name, programs: &[&'static str], tell: fn()| {
        let needs = NEEDS.into_iter().chain(programs.iter().copied().map(Need::Program));
        Story::new(name, needs, move || async move { tell() })
    };
    run(vec![
        story("mesh_pairs", pairs),
        story("mesh_registry_away", registry_away),
        story("mesh_guarded_registry", guarded_registry),
        story("mesh_evict", evict),
        story("mesh_wrong_secret", wrong_secret),
        story("mesh_moved", moved),
        story("mesh_no_tunnel", no_tunnel),
        story("mesh_relay", relay),
        story("mesh_reset", reset),
        with("mesh_docker_s_subnets", &["curl"], docker_s_subnets),
        Story::new("mesh_lan", lan_needs(), || async { lan::lan() }),
        story("mesh_lan_two_ways", lan::two_ways),
        story("mesh_nat", apart::nat),
        story("mesh_router", apart::router),
        story("mesh_chain", apart::chain),
        story("mesh_loss", apart::loss),
        story("mesh_black_hole", apart::black_hole),
        story("mesh_overheard", hostile::overheard),
        story("mesh_spoofed", hostile::spoofed),
        story("mesh_meddled", hostile::meddled),
        story("mesh_one_block", hostile::one_block),
        story("mesh_join", hostile::join),
        with("mesh_client", &["wireguard-go", "wg", "wg-quick", "dig"], clients::client),
        story("mesh_rotate", hostile::rotate),
        story("mesh_evicted_at_once", hostile::evicted_at_once),
    ])
}

fn lan_needs() -> Vec<Need> {
    [&NEEDS[..], &[Need::Program("dig")]].concat()
}

/// Three hosts that start at once; each has a block, and every pair reaches each other.
fn pairs() {
    let bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    let ipam = bed.status(2)["ipam"].as_array().unwrap().len();
    assert_eq!(ipam, 3, "each has one block");
    // Another network, which is not reached from the first one.
    bed.overlay(2, &["network", "create", "other"]).unwrap();
    bed.until("the other one has addresses", |bed| (1..=3).all(|n| bed.address(n, "other").is_some()));
    let (source, there) = (bed.address(1, "app").unwrap(), bed.address(3, "other").unwrap());
    let mut ping = bed.switch.command(1, "ping");
    ping.args(["-c", "2", "-i", "0.2", "-W", "1", "-I", &source, &there]);
    assert!(!ping.output().unwrap().status.success(), "one network is not reached from another");
    // What is there already is refused, and something free proposed.
    let used = format!("{}.0/24", source.strip_suffix(".1").unwrap());
    let refused = bed.overlay(3, &["network", "create", "third", "--subnet", &used]).unwrap_err();
    assert!(refused.contains("overlaps with") && refused.contains("is free"), "{refused}");
    let lan = bed.overlay(3, &["network", "create", "third", "--subnet", "10.216.0.0/16"]).unwrap_err();
    assert!(lan.contains("overlaps with 10.216.0.0/24"), "{lan}");
}

/// What Docker has got from the driver is in the way of new networks at once: Docker lists a network, and the mesh can be
/// told of it, only later. This Docker never answers.
fn docker_s_subnets() {
    let mut bed = Bed::idle(1);
    let (docker, driver) = (bed.path("docker").display().to_string(), bed.path("driver").display().to_string());
    let options = ["--docker".to_owned(), format!("unix://{docker}"), "--plugin-socket".to_owned(), driver.clone()];
    bed.registry_is.extend(options);
    bed.start(1);
    bed.until("it is ready", |bed| bed.overlay(1, &["wait", "--timeout", "1s"]).is_ok());
    let call = |method: &str, body: serde_json::Value| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--fail", "--unix-socket", &driver, "--data", &body.to_string()]);
        let output = curl.arg(format!("http://driver/IpamDriver.{method}")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    // All from which a subnet is chosen where nobody says which.
    let pool = call("RequestPool", json!({"AddressSpace": "flotilla", "Pool": "10.128.0.0/9", "V6": false}));
    let refused = bed.overlay(1, &["network", "create", "app"]).unwrap_err();
    assert!(refused.contains("no subnet is free"), "{refused}");
    let inside = bed.overlay(1, &["network", "create", "app", "--subnet", "10.210.0.0/16"]).unwrap_err();
    assert!(inside.contains("overlaps with 10.128.0.0/9"), "{inside}");
    // The same after a restart, from what is on the disk.
    bed.kill(1);
    bed.start(1);
    bed.until("it is ready again", |bed| bed.overlay(1, &["wait", "--timeout", "1s"]).is_ok());
    assert_eq!(bed.overlay(1, &["network", "create", "app"]).unwrap_err(), refused);
    call("ReleasePool", json!({"PoolID": pool["PoolID"]}));
    bed.overlay(1, &["network", "create", "app"]).unwrap();
}

/// Sent and received by a ping that ends now.
fn end(mut stream: Child) -> (u32, u32) {
    kill(Pid::from_raw(i32::try_from(stream.id()).unwrap()), Signal::SIGINT).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stream.stdout.take().unwrap(), &mut said).unwrap();
    stream.wait().unwrap();
    let line = said.lines().find(|line| line.contains("packets transmitted")).unwrap_or_else(|| panic!("{said}"));
    let mut numbers = line.split(' ').filter_map(|word| word.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// The registry goes in the middle of traffic and comes back empty: no packet is lost, and it has everything again.
fn registry_away() {
    let mut bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    let holders = |bed: &Bed| {
        let ipam = bed.status(3)["ipam"].clone();
        let holder = |block: &serde_json::Value| [block["block"].to_string(), block["host"].to_string()];
        ipam.as_array().map(|all| all.iter().map(holder).collect::<Vec<_>>())
    };
    let before = holders(&bed);
    let stream = bed.stream(2, 3);
    bed.kill_registry();
    bed.until("the registry is missed", |bed| bed.status(2)["registry"]["away"].is_string());
    // A host that starts meanwhile knows its peers.
    bed.kill(1);
    bed.start(1);
    bed.pairs(&[1, 2]);
    bed.start_registry();
    bed.until("it is there again", |bed| (1..=3).all(|n| bed.status(n)["registry"]["away"].is_null()));
    std::thread::sleep(Duration::from_secs(3));
    bed.pairs(&[1, 2, 3]);
    let (sent, received) = end(stream);
    println!("{received} of {sent} packets came through while the registry was killed and came back empty");
    assert!(sent > 100 && sent - received <= 1, "{received} of {sent}: the last one may be on its way");
    assert_eq!(holders(&bed), before, "the same blocks");
    // What the registry has again is enough for a host that knows nothing.
    bed.kill(3);
    std::fs::remove_file(bed.path("state3").join("state.json")).unwrap();
    bed.start(3);
    bed.until("the network is known", |bed| bed.address(3, "app").is_some());
    bed.pairs(&[1, 3]);
}

/// A registry that speaks TLS and asks for a token: the rules of docs/overlay.md are enough; a host is told why it is not
/// let in, and comes in once its files are right.
fn guarded_registry() {
    let guide = std::fs::read_to_string(flotilla_tests::workspace().join("docs/overlay.md")).unwrap();
    let rules = guide.split("```hcl\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has rules");
    let mut bed = Bed::idle(3);
    bed.guard_registry(rules);
    bed.start(1);
    bed.start(2);
    bed.network(&[1, 2]);
    bed.until("both say that they live", |bed| {
        let sessions = bed.ask_registry(&["session", "list"]).stdout;
        String::from_utf8_lossy(&sessions).matches("overlay ").count() == 2
    });

    let (authority, token) = (bed.path("tls/ca.pem"), bed.path("token"));
    let (others, nobodys) = (bed.path("others.pem"), bed.path("nobodys"));
    let another = flotilla_tests::tls::Authority::new("another");
    std::fs::copy(another.file("ca.pem"), &others).unwrap();
    std::fs::write(&nobodys, "99999999-2222-4333-8444-555555555555").unwrap();
    let name = |path: &std::path::PathBuf| path.display().to_string();
    for word in &mut bed.registry_is {
        *word = word.replace(&name(&authority), &name(&others)).replace(&name(&token), &name(&nobodys));
    }
    bed.start(3);
    let away = |bed: &Bed| bed.status(3)["registry"]["away"].as_str().unwrap_or_default().to_owned();
    bed.until("it does not trust the registry", |bed| away(bed).contains("certificate"));
    println!("with another authority: {}", away(&bed));
    std::fs::copy(&authority, &others).unwrap();
    bed.until("it is not let in", |bed| away(bed).contains("ACL not found"));
    println!("with a token of nobody: {}", away(&bed));
    std::fs::copy(&token, &nobodys).unwrap();
    bed.pairs(&[1, 3]);
    let secret = std::fs::read_to_string(&token).unwrap();
    assert!((1..=3).all(|n| !bed.log(n).contains(&secret)), "no token is told");
}

/// An evicted host is dropped by all at once, and stays out with its old key and secret.
fn evict() {
    let mut bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    let there = bed.address(3, "app").unwrap();
    let knows =
        |bed: &Bed, n| bed.status(n)["peers"].as_array().is_some_and(|all| all.iter().any(|p| p["name"] == "h3"));
    let before = Instant::now();
    let evicting = bed.overlay(1, &["evict", "h3"]).unwrap();
    bed.until("the others dropped it", |bed| !knows(bed, 1) && !knows(bed, 2));
    let took = before.elapsed();
    println!("evicted and dropped by all after {took:?}: {evicting}");
    assert!(took < Duration::from_secs(5), "{took:?}, on a busy machine");
    let silent = |bed: &Bed| {
        [1, 2].into_iter().all(|n| {
            let mut ping = bed.switch.command(n, "ping");
            !ping.args(["-c", "1", "-W", "1", &there]).output().unwrap().status.success()
        })
    };
    assert!(silent(&bed));
    bed.until("it knows", |bed| bed.status(3)["state"] == "evicted");
    bed.kill(3);
    std::fs::remove_file(bed.path("state3").join("state.json")).unwrap();
    bed.start(3);
    bed.until("it has no part in it", |bed| bed.status(3)["state"] == "shut out");
    assert!(silent(&bed) && !knows(&bed, 1) && !knows(&bed, 2));
    bed.pairs(&[1, 2]);
    bed.until("the two have a new secret", |bed| [1, 2].into_iter().all(|n| bed.status(n)["epoch"] == 2));
    assert_eq!(bed.status(3)["epoch"], 1, "and the evicted one does not");
    bed.pairs(&[1, 2]);
}

/// A host with another secret is nobody to the others, and they are told.
fn wrong_secret() {
    let mut bed = Bed::idle(3);
    bed.make_secret("another");
    bed.start(1);
    bed.start(2);
    bed.start_with(3, "another");
    bed.network(&[1, 2]);
    bed.until("it is told", |bed| bed.log(1).contains("was not written with this mesh's secret"));
    for n in [1, 2] {
        let peers = bed.status(n)["peers"].clone();
        assert!(peers.as_array().unwrap().iter().all(|peer| peer["name"] != "h3"), "{peers}");
    }
    assert_eq!(bed.status(3)["networks"].as_array().map(Vec::len), Some(0));
    let troubles = |bed: &Bed, n| bed.status(n)["troubles"].to_string();
    bed.until("it knows why", |bed| troubles(bed, 3).contains("has another secret"));
    assert_eq!([troubles(&bed, 1), troubles(&bed, 2)], ["[]", "[]"], "theirs is good");
    // It is given the right one in the place of that.
    bed.kill(3);
    std::fs::copy(bed.path("secret"), bed.path("another")).unwrap();
    bed.start_with(3, "another");
    bed.pairs(&[1, 2, 3]);
    assert_eq!(troubles(&bed, 3), "[]");
}

/// A host that is killed comes back with another address, and the same block.
fn moved() {
    let mut bed = Bed::new(2);
    bed.network(&[1, 2]);
    let block = bed.address(2, "app");
    bed.kill(2);
    bed.switch.ip(2, "address flush dev up0");
    bed.switch.ip(2, "address add 10.216.0.77/24 dev up0");
    bed.start(2);
    bed.until("it has its block again", |bed| bed.address(2, "app") == block);
    bed.pairs(&[1, 2]);
}

/// Why there is no tunnel is told once, and shown until there is one.
fn no_tunnel() {
    let mut bed = Bed::idle(1);
    bed.switch.ip(1, "link add ovl0 type bridge");
    bed.start(1);
    let shown = |bed: &Bed| bed.status(1)["troubles"].to_string().contains("an interface of this name already");
    bed.until("it is shown", shown);
    bed.until("there are networks", |bed| bed.overlay(1, &["network", "create", "app"]).is_ok());
    let tries = Instant::now();
    while tries.elapsed() < Duration::from_secs(4) {
        assert!(shown(&bed), "{}", bed.log(1));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(bed.log(1).matches("an interface of this name already").count(), 1, "{}", bed.log(1));
    bed.switch.ip(1, "link delete ovl0");
    bed.until("there is a tunnel", |bed| bed.status(1)["plane"].is_string() && !shown(bed));
}

/// Two hosts that do not see each other go through the third one, and directly again as soon as they can.
fn relay() {
    let bed = Bed::new(3);
    bed.network(&[1, 2, 3]);
    let cut = |n: u8, other: u8, there: bool| {
        let address = flotilla_tests::switch::Switch::address(other);
        let verb = if there { "add" } else { "del" };
        bed.switch.ip(n, &format!("route {verb} blackhole {address}"));
    };
    let path = |bed: &Bed| {
        let peers = bed.status(2)["peers"].clone();
        let peer = peers.as_array().and_then(|all| all.iter().find(|peer| peer["name"] == "h3").cloned());
        peer.map_or(String::new(), |peer| peer["path"].as_str().unwrap_or_default().to_owned())
    };
    bed.until("all is direct", |bed| path(bed) == "direct");
    cut(2, 3, true);
    cut(3, 2, true);
    let started = Instant::now();
    bed.until("it goes through the first host", |bed| path(bed) == "through h1" && bed.reaches(2, 3));
    let replaced = started.elapsed();
    cut(2, 3, false);
    cut(3, 2, false);
    let started = Instant::now();
    bed.until("it goes directly again", |bed| path(bed) == "direct" && bed.reaches(2, 3));
    println!("a cut way is replaced after {replaced:?}, and taken back after {:?}", started.elapsed());
    assert!(replaced < Duration::from_secs(20) && started.elapsed() < Duration::from_secs(40), "on a busy machine");
}

/// After a reset the host is as it was.
fn reset() {
    let bed = Bed::new(2);
    let all = |bed: &Bed| {
        let shown = |program: &str, arguments: &[&str]| {
            let output = bed.switch.command(2, program).args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        [
            shown("ip", &["-br", "link"]),
            shown("ip", &["-4", "route", "show", "table", "all"]),
            shown("ip", &["rule"]),
            shown("nft", &["list", "ruleset"]),
        ]
    };
    let without = {
        let other = Bed::idle(2);
        all(&other)
    };
    bed.network(&[1, 2]);
    assert_ne!(all(&bed)[1..], without[1..], "it has done something");
    bed.overlay(2, &["reset"]).unwrap();
    let after = all(&bed);
    // Names of links carry numbers of their own.
    assert_eq!(after[0].lines().count(), without[0].lines().count(), "{}", after[0]);
    assert_eq!(after[1..], without[1..]);
    bed.until("the other one knows", |bed| bed.status(1)["peers"].as_array().is_some_and(Vec::is_empty));
}
