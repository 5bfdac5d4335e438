//! Networks across hosts: each with a Docker, a registry, a registrar and an overlay of its own, behind a firewall that
//! lets nothing through that is not allowed. Docker's driver and ordinary networks, and names in both.

mod names;
mod site;

use std::time::{Duration, Instant};

use flotilla_tests::{
    bed::Bed,
    docker::{CALLER, Container, HELLO_WEB},
    eventually,
    needs::Need,
    program::Launch,
};
use nix::sys::signal::Signal;
use site::{Docked, LIMIT, Site};

pub(crate) use names::story as names;

/// The story makes two Dockers.
pub(crate) const STORY_LIMIT: Duration = Duration::from_mins(10);

pub(crate) fn needs() -> Vec<Need> {
    let programs = ["nft", "iptables", "curl", "getent", "dig", "ping"].map(Need::Program);
    [&Bed::NEEDS[..], &Need::DOCKER, &[Need::Tun], &programs].concat()
}

/// `docker network create` with our drivers.
async fn create(host: &Docked, args: &[&str]) -> Result<String, String> {
    let make = ["network", "create", "--driver", "flotilla", "--ipam-driver", "flotilla"];
    host.docker.try_docker(&[&make[..], args].concat()).await.ok()
}

async fn reaches(caller: &Container<'_>, host: &str) -> Result<(), String> {
    caller.curl(&format!("http://{host}:8080/")).await.map(drop)
}

pub(crate) async fn driver() {
    let mut site = Site::start().await;
    let [a, b] = &site.docked[..] else { unreachable!("there are two") };
    appear_and_go(a, b).await;
    reach(&site, a, b).await;
    gateways_and_ranges(a, b).await;
    refused_at_first(&site, a, b).await;
    both_families(a, b).await;
    some_hosts(&site, a, b).await;
    isolated(&mut site).await;
    killed(&mut site).await;
    reset(&site).await;
}

/// What is made on one host is there on the other, unless it is local.
async fn appear_and_go(a: &Docked, b: &Docked) {
    create(a, &["--opt", "local=true", "--subnet", "10.190.0.0/24", "here"]).await.expect("it is made");
    create(a, &["--subnet", "10.210.0.0/16", "app"]).await.expect("it is made");
    println!("  a network of the driver is at the other host's Docker after {:?}", b.until("app", true).await);
    assert!(!b.networks().await.contains(&"here".to_owned()), "a local network stays where it is");
    // Its own bridge, which was there first, is not in its way.
    let known = async || match a.overlay.run(&["status", "networks", "--json"]).await {
        text if text.contains("\"here\"") => Ok(()),
        text => Err(text),
    };
    eventually!("the overlay takes the local network", LIMIT / 2, known());
    a.docker.docker(&["network", "rm", "here"]).await;

    create(a, &["--subnet", "10.209.0.0/16", "short"]).await.expect("it is made");
    b.until("short", true).await;
    a.docker.docker(&["network", "rm", "short"]).await;
    println!("  one that is removed has gone there after {:?}", b.until("short", false).await);
}

/// By the driver and by ordinary networks, to and fro; what is on one host does not leave it.
async fn reach(site: &Site, a: &Docked, b: &Docked) {
    a.overlay.run(&["network", "create", "plain", "--subnet", "10.208.0.0/16"]).await;
    for host in [a, b] {
        host.until("plain", true).await;
    }
    for network in ["app", "plain"] {
        let mut there = Vec::new();
        for host in [a, b] {
            let web = host.web(&["--network", network]).await;
            let address = host.address(&web, network).await;
            there.push((host.caller(&["--network", network]).await, address, web));
        }
        let crossed = || crossed(site, a.number, network);
        // From now on it is counted.
        crossed().await;
        for (from, to) in [(0, 1), (1, 0)] {
            eventually!(
                format!("host {} reaches {} in {network}", from + 1, to + 1),
                LIMIT,
                reaches(&there[from].0, &there[to].1)
            );
        }
        assert!(crossed().await > 0, "what goes to another host is counted");
        // The last words of a connection to the other host may be on their way still.
        let stays = async || {
            let before = crossed().await;
            reaches(&there[0].0, &there[0].1).await?;
            let more = crossed().await - before;
            if more == 0 { Ok(()) } else { Err(format!("{more} packets")) }
        };
        eventually!("what stays on one host does not go through the tunnel", LIMIT, stays());
    }

    // Connected later, and at an address of the caller's choice.
    let late = b.web(&[]).await;
    b.docker.docker(&["network", "connect", "--alias", "late", "app", &late.id]).await;
    let caller = a.caller(&["--network", "app"]).await;
    let at = b.address(&late, "app").await;
    eventually!("it was connected", LIMIT, reaches(&caller, &at));
    let shown = b.docker.docker(&["network", "inspect", "--format", "{{json .Containers}}", "app"]).await;
    assert!(shown.contains(&at), "{shown}");
    b.docker.docker(&["network", "disconnect", "app", &late.id]).await;
    reaches(&caller, &at).await.expect_err("it was disconnected");
    let near = a.address(&caller, "app").await;
    let fixed = format!("{}.77", near.rsplit_once('.').expect("an address of IPv4").0);
    let web = a.web(&["--network", "app", "--ip", &fixed]).await;
    let far = b.caller(&["--network", "app"]).await;
    eventually!("an address that was chosen", LIMIT, reaches(&far, &fixed));
    web.remove().await;
    let elsewhere = b.address(&far, "app").await;
    let free = format!("{}.99", elsewhere.rsplit_once('.').expect("an address of IPv4").0);
    let foreign = ["run", "--rm", "--network", "app", "--ip", &free, HELLO_WEB];
    let refused = a.docker.try_docker(&foreign).await.ok().expect_err("the address is the other host's");
    assert!(refused.contains("block of another host"), "{refused}");
}

/// A gateway of the user's own, which is in no block; a range within this host's block.
async fn gateways_and_ranges(a: &Docked, b: &Docked) {
    create(a, &["--subnet", "10.207.0.0/16", "--gateway", "10.207.255.1", "odd"]).await.expect("it is made");
    b.until("odd", true).await;
    let (web, caller) = (b.web(&["--network", "odd"]).await, a.caller(&["--network", "odd"]).await);
    let (near, far) = (a.address(&caller, "odd").await, b.address(&web, "odd").await);
    eventually!("by a gateway of its own", LIMIT, reaches(&caller, &far));
    drop((web, caller));
    let block = near.rsplit_once('.').expect("an address of IPv4").0;
    a.docker.docker(&["network", "rm", "odd"]).await;
    b.until("odd", false).await;

    // A new network of the same addresses has the same block as a rule, and may have another one.
    let range = format!("{block}.128/28");
    create(a, &["--subnet", "10.207.0.0/16", "--ip-range", &range, "ranged"]).await.expect("it is made");
    b.until("ranged", true).await;
    match a.docker.try_docker(&["run", "--detach", "--network", "ranged", HELLO_WEB]).await.ok() {
        Ok(id) => {
            let format = "{{.NetworkSettings.Networks.ranged.IPAddress}}";
            let address = a.docker.docker(&["inspect", "--format", format, id.trim()]).await;
            let last: u8 = address.rsplit('.').next().and_then(|last| last.parse().ok()).expect("an address");
            assert!(address.starts_with(block) && (128..144).contains(&last), "{address} is not in {range}");
            a.docker.docker(&["rm", "--force", id.trim()]).await;
        }
        Err(why) => assert!(why.contains("in none of this host's blocks"), "{why}"),
    }
    a.docker.docker(&["network", "rm", "ranged"]).await;
}

/// A network that the mesh does not take is offered again soon, though nobody tells when nothing is in its way any more.
async fn refused_at_first(site: &Site, a: &Docked, b: &Docked) {
    let host = site.bed.host(a.number);
    host.call("ip", "route add 10.205.7.0/24 dev lo", "");
    create(a, &["--subnet", "10.205.0.0/16", "late"]).await.expect("it is made");
    let refused = async || {
        let log = a.overlay.log();
        if log.contains("network late of Docker is not the mesh's") { Ok(()) } else { Err(log) }
    };
    eventually!("the mesh refuses it", LIMIT, refused());
    // What Docker told before has all been looked at by then.
    tokio::time::sleep(Duration::from_secs(4)).await;
    host.call("ip", "route del 10.205.7.0/24 dev lo", "");
    let took = b.until("late", true).await;
    println!("  one that was refused is at the other host's Docker {took:?} after nothing was in its way");
    // Everything is looked at every minute in any case.
    assert!(took < LIMIT / 2, "{took:?}");
    a.docker.docker(&["network", "rm", "late"]).await;
    b.until("late", false).await;
}

/// A network with addresses of IPv6, too.
async fn both_families(a: &Docked, b: &Docked) {
    let subnets = ["--ipv6", "--subnet", "10.206.0.0/16", "--subnet", "fd12:3456:789a::/48", "six"];
    create(a, &subnets).await.expect("it is made");
    b.until("six", true).await;
    let mut there = Vec::new();
    for host in [a, b] {
        let caller = host.caller(&["--network", "six"]).await;
        let format = "{{.State.Pid}} {{.NetworkSettings.Networks.six.GlobalIPv6Address}}";
        let shown = host.docker.docker(&["inspect", "--format", format, &caller.id]).await;
        let (pid, address) = shown.split_once(' ').expect("both");
        assert!(address.starts_with("fd12:3456:789a:"), "{address}");
        there.push((pid.to_owned(), address.to_owned(), caller));
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let ping = async || {
            let inside = ["--target", &there[from].0, "--net", "ping", "-6", "-c", "1", "-W", "1", &there[to].1];
            Launch::new("nsenter").args(inside).run(LIMIT).await.ok()
        };
        eventually!(format!("host {} reaches {} by IPv6", from + 1, to + 1), LIMIT, ping());
    }
    drop(there);
    a.docker.docker(&["network", "rm", "six"]).await;
    b.until("six", false).await;
}

/// Nothing goes from one network to another, on one host or between two. The sender's rules see to that; where it has none,
/// the receiver's.
async fn isolated(site: &mut Site) {
    let mut sites = Vec::new();
    for (host, network, command) in
        [(0, "app", &[CALLER, "sleep", "3600"][..]), (0, "plain", &[HELLO_WEB]), (1, "plain", &[HELLO_WEB])]
    {
        let docker = &site.docked[host].docker;
        let id = docker.docker(&[&["run", "--detach", "--network", network], command].concat()).await;
        let format = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
        let address = docker.docker(&["inspect", "--format", &format, id.trim()]).await;
        sites.push((id.trim().to_owned(), address.trim().to_owned()));
    }
    let [(caller, _), (near, near_at), (far, far_at)] = &sites[..] else { unreachable!("there are three") };
    let ask = async |site: &Site, address: &str| {
        let url = format!("http://{address}:8080/");
        let ask = ["exec", caller, "curl", "--silent", "--show-error", "--fail", "--max-time", "2", &url];
        site.docked[0].docker.try_docker(&ask).await.ok()
    };
    watch(site, 1, "10.210.0.0/16", "10.208.0.0/16");
    ask(site, far_at).await.expect_err("of another network, on another host");
    ask(site, near_at).await.expect_err("of another network, on the same host");
    assert_eq!(watched(site, 1).await, 0, "packets have crossed from one network to the other");

    site.start_lawless(0).await;
    let crossed = async |site: &Site| {
        ask(site, far_at).await.expect_err("the other host has rules");
        let crossed = watched(site, 1).await;
        if crossed > 0 { Ok(crossed) } else { Err("none".to_owned()) }
    };
    let crossed = eventually!("without rules, packets are on their way to another network", LIMIT, crossed(site));
    println!("  {crossed} packets have come from a host without rules, and went no further");
    site.docked[0].overlay.program().kill();
    site.start_again(0).await;
    let stays = async |site: &Site| {
        let before = watched(site, 1).await;
        ask(site, far_at).await.expect_err("of another network, on another host");
        let more = watched(site, 1).await - before;
        if more == 0 { Ok(()) } else { Err(format!("{more} packets")) }
    };
    eventually!("with rules, none is", LIMIT, stays(site));
    for (host, id) in [(0, caller), (0, near), (1, far)] {
        site.docked[host].docker.docker(&["rm", "--force", id]).await;
    }
}

/// A network of some hosts is not on others.
async fn some_hosts(site: &Site, a: &Docked, b: &Docked) {
    a.overlay.run(&["network", "create", "two", "--hosts", "h1,h2"]).await;
    a.overlay.run(&["network", "create", "one", "--hosts", "h2"]).await;
    for (host, network) in [(a, "two"), (b, "two"), (b, "one")] {
        host.until(network, true).await;
    }
    assert!(!a.networks().await.contains(&"one".to_owned()), "it is not for this host");
    let third = site.third.run(&["status", "networks", "--json"]).await;
    assert!(third.contains("\"app\"") && !third.contains("\"two\""), "{third}");
    for network in ["one", "two"] {
        a.overlay.run(&["network", "rm", network]).await;
    }
    b.until("two", false).await;
}

/// Docker and the overlay of a host are killed, both at once: its containers keep their links, or get them back.
async fn killed(site: &mut Site) {
    for number in [0, 1] {
        let run = async |host: &Docked, args: &[&str]| {
            let args = [&["run", "--detach", "--network", "app"], args].concat();
            host.docker.docker(&args).await
        };
        let web = run(&site.docked[number], &["--restart", "always", HELLO_WEB]).await;
        let caller = run(&site.docked[1 - number], &[CALLER, "sleep", "3600"]).await;
        let reached = async |site: &Site| {
            let format = "{{.NetworkSettings.Networks.app.IPAddress}}";
            let asked = ["inspect", "--format", format, &web];
            let url = format!("http://{}:8080/", site.docked[number].docker.try_docker(&asked).await.ok()?.trim());
            let ask = ["exec", &caller, "curl", "--silent", "--show-error", "--fail", "--max-time", "2", &url];
            site.docked[1 - number].docker.try_docker(&ask).await.ok()
        };
        eventually!("before", LIMIT, reached(site));
        site.docked[number].overlay.program().kill();
        site.docked[number].docker.halt(Signal::SIGKILL);
        site.start_again(number).await;
        site.docked[number].docker.start_again();
        let began = Instant::now();
        eventually!("after Docker and the overlay were killed", LIMIT, reached(site));
        println!("  host {} is reached again {:?} after both were killed and started", number + 1, began.elapsed());
    }
}

/// All that is ours goes, on this host alone.
async fn reset(site: &Site) {
    let [a, b] = &site.docked[..] else { unreachable!("there are two") };
    for host in [a, b] {
        let ids = host.docker.docker(&["ps", "--all", "--quiet"]).await;
        for id in ids.lines() {
            host.docker.docker(&["rm", "--force", id]).await;
        }
    }
    b.overlay.run(&["reset"]).await;
    let left = b.networks().await;
    assert!(["app", "plain"].iter().all(|network| !left.contains(&(*network).to_owned())), "{left:?}");
    for (program, args) in
        [("nft", "list tables"), ("ip", "-o link"), ("ip", "route show table all"), ("iptables", "-S")]
    {
        let text = output(site, b.number, program, args).await;
        let ours = ["overlay", "ovb-", "ovp-", "ovl0", "OVERLAY", "proto 111", "proto 112"];
        assert!(ours.iter().all(|ours| !text.contains(ours)), "{program} {args}: {text}");
    }
}

async fn output(site: &Site, host: usize, program: &str, args: &str) -> String {
    let launch = site.bed.host(host).launch(Launch::new(program).args(args.split(' ')));
    launch.run(LIMIT).await.ok().unwrap_or_else(|e| panic!("{program} {args}: {e}"))
}

/// Counts what comes from one subnet to another, on a table of the story's own.
fn watch(site: &Site, host: usize, from: &str, to: &str) {
    let rule = format!("ip saddr {from} ip daddr {to} iifname \"ovl0\" counter");
    let chain = "type filter hook prerouting priority -400;";
    let table = format!("table inet story {{ chain watch {{ {chain}\n {rule}\n}}\n}}\n");
    site.bed.host(host).call("nft", "-f -", &table);
}

async fn watched(site: &Site, host: usize) -> u64 {
    counted(&output(site, host, "nft", "list table inet story").await)
}

fn counted(text: &str) -> u64 {
    let counter = text.split("counter packets ").nth(1).expect("there is a counter");
    counter.split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// How many packets have left a host through the tunnel, of that network.
async fn crossed(site: &Site, host: usize, network: &str) -> u64 {
    let subnet = if network == "app" { "10.210.0.0/16" } else { "10.208.0.0/16" };
    let table = format!("crossed_{network}");
    let there = output(site, host, "nft", "list tables").await;
    if !there.contains(&table) {
        let chain = "type filter hook postrouting priority 400;";
        let rule = format!("ip saddr {subnet} oifname \"ovl0\" counter");
        let text = format!("table inet {table} {{ chain watch {{ {chain}\n {rule}\n}}\n}}\n");
        site.bed.host(host).call("nft", "-f -", &text);
    }
    counted(&output(site, host, "nft", &format!("list table inet {table}")).await)
}
