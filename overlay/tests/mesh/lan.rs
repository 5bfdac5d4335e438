//! What is behind one host, reached from the others through it.

use std::time::Duration;

use flotilla_tests::switch::Switch;
use serde_json::Value;

use crate::bed::Bed;

const PRINTER: &str = "192.168.7.9";

/// The third host is no member: something in a LAN behind the first, that knows of no mesh and of no other network.
pub(crate) fn lan() {
    let mut bed = Bed::idle(3);
    let printer = bed.switch.namespace(3);
    bed.switch.ip(3, "link set up0 down");
    bed.switch.ip(1, &format!("link add lan0 type veth peer name lan0 netns {printer}"));
    for (n, address) in [(1, "192.168.7.1"), (3, PRINTER)] {
        bed.switch.ip(n, &format!("address add {address}/24 dev lan0"));
        bed.switch.ip(n, "link set lan0 up");
    }
    for n in [1, 2] {
        bed.start(n);
    }
    bed.network(&[1, 2]);

    let lan = "192.168.7.0/24";
    let named = ["expose", "--lan", lan, "--name", "printer", "--address", PRINTER, "--port", "631"];
    forwarding(&bed, "0");
    assert!(bed.overlay(1, &named).unwrap_err().contains("sysctl"), "it passes nothing on");
    forwarding(&bed, "1");
    let network = bed.status(1)["networks"][0]["network"]["subnet"].as_str().unwrap().to_owned();
    for (other, words) in [
        (&*network, "overlaps with the network app"),
        ("8.8.8.0/24", "is no LAN"),
        ("0.0.0.0/1", "is no LAN"),
        ("192.168.7.1/24", "is no subnet"),
    ] {
        let refused = bed.overlay(1, &["expose", "--lan", other]).unwrap_err();
        assert!(refused.contains(words), "{other}: {refused}");
    }
    let wrong = bed.overlay(1, &["expose", "--lan", lan, "--name", "printer", "--address", "192.168.8.9"]);
    assert!(wrong.unwrap_err().contains("is not in"));

    assert!(!reaches(&bed));
    bed.overlay(1, &named).unwrap();
    bed.until("the printer is reached from a network", reaches);
    assert_eq!(said_by_dns(&bed), format!("{PRINTER}\n"));
    assert!(bed.overlay(2, &["status"]).unwrap().contains("192.168.7.0/24 behind h1"));

    let meets = bed.overlay(2, &["network", "create", "meets", "--subnet", "192.168.0.0/16"]).unwrap_err();
    assert!(meets.contains("overlaps with 192.168.7.0/24"), "{meets}");

    // What a host has itself it does not take from others.
    forwarding_on(&bed, 2, "1");
    bed.overlay(2, &["expose", "--lan", "192.168.7.0/24"]).unwrap();
    bed.until("it is heard of, and left out", |bed| left_out(&bed.status(1)).contains("a route of its own"));
    bed.overlay(2, &["hide", "--lan", "192.168.7.0/24"]).unwrap();

    // The registry loses all; the host that stands for it tells again.
    bed.kill_registry();
    bed.until("the registry is missed", |bed| bed.status(1)["registry"]["away"].is_string());
    assert!(reaches(&bed), "without the registry");
    bed.start_registry();
    bed.until("it has its name again", |bed| said_by_dns(bed) == format!("{PRINTER}\n"));
    bed.kill(1);
    bed.start(1);
    bed.until("after a restart, too", reaches);

    bed.overlay(1, &["hide", "--lan", lan]).unwrap();
    bed.until("it is not reached any more", |bed| !reaches(bed));
    bed.until("nor known", |bed| said_by_dns(bed).is_empty());
    assert!(bed.overlay(1, &["hide", "--lan", lan]).unwrap_err().contains("is not exposed"));
}

/// Two hosts have the same LAN: the others reach it through one of them, and through the other one when that is away.
pub(crate) fn two_ways() {
    let mut bed = Bed::idle(4);
    let printer = bed.switch.namespace(4);
    for command in ["link set up0 down", "link add lan0 type bridge", "link set lan0 up"] {
        bed.switch.ip(4, command);
    }
    bed.switch.ip(4, &format!("address add {PRINTER}/24 dev lan0"));
    for n in [2, 3] {
        bed.switch.ip(n, &format!("link add lan0 type veth peer name lan{n} netns {printer}"));
        bed.switch.ip(n, &format!("address add 192.168.7.{n}/24 dev lan0"));
        bed.switch.ip(n, "link set lan0 up");
        bed.switch.ip(4, &format!("link set lan{n} master lan0 up"));
        forwarding_on(&bed, n, "1");
    }
    for n in [1, 2, 3] {
        bed.start(n);
    }
    bed.network(&[1, 2, 3]);
    let lan = "192.168.7.0/24";
    for n in [2, 3] {
        bed.overlay(n, &["expose", "--lan", lan]).unwrap();
    }
    bed.until("the printer is reached", |bed| reaches_from(bed, 1));
    bed.until("both are heard of", |bed| bed.status(1)["lans"].as_array().is_some_and(|all| all.len() == 2));
    let lans = bed.status(1)["lans"].clone();
    assert_eq!(lans[0]["carried_by"], lans[1]["carried_by"], "{lans}");
    let (first, second) = if lans[0]["carried_by"] == "h2" { (2, 3) } else { (3, 2) };
    let shown = bed.overlay(1, &["status"]).unwrap();
    assert!(shown.contains(&format!("{lan} behind h{second}, carried by h{first}")), "{shown}");
    let refused = bed.overlay(1, &["expose", "--lan", "192.168.0.0/16"]).unwrap_err();
    assert!(refused.contains(&format!("overlaps with {lan} behind h")), "{refused}");

    bed.switch.ip(first, "link set up0 down");
    let took = bed.until("it is reached through the other one", |bed| reaches_from(bed, 1));
    println!("the other host carried it after {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}, on a busy machine");
    bed.overlay(second, &["hide", "--lan", lan]).unwrap();
    bed.until("it is reached through none", |bed| !reaches_from(bed, 1));
    bed.switch.ip(first, "link set up0 up");
    bed.until("it is reached through the first one again", |bed| reaches_from(bed, 1));
}

fn forwarding(bed: &Bed, value: &str) {
    forwarding_on(bed, 1, value);
}

fn forwarding_on(bed: &Bed, n: u8, value: &str) {
    let set = format!("echo {value} > /proc/sys/net/ipv4/ip_forward");
    assert!(bed.switch.command(n, "sh").args(["-c", &set]).status().unwrap().success());
}

fn reaches(bed: &Bed) -> bool {
    reaches_from(bed, 2)
}

fn reaches_from(bed: &Bed, n: u8) -> bool {
    let Some(source) = bed.address(n, "app") else { return false };
    let mut ping = bed.switch.command(n, "ping");
    ping.args(["-c", "1", "-W", "1", "-I", &source, PRINTER]);
    ping.output().unwrap().status.success()
}

fn said_by_dns(bed: &Bed) -> String {
    let mut dig = bed.switch.command(1, "dig");
    dig.args([
        "+short",
        "+time=2",
        "+tries=1",
        "-p",
        "8600",
        &format!("@{}", Switch::address(1)),
        "printer.service.consul",
    ]);
    String::from_utf8_lossy(&dig.output().unwrap().stdout).into_owned()
}

fn left_out(status: &Value) -> String {
    let of = |lan: &&Value| lan["host"] == "h2";
    let lan = status["lans"].as_array().and_then(|all| all.iter().find(of));
    lan.and_then(|lan| lan["left_out"].as_str()).unwrap_or_default().to_owned()
}
