//! The servers of names that ours is measured beside, with the catalog's records.

use std::{collections::BTreeMap, fmt, fmt::Write, fs};

use flotilla_tests::{
    ports::free_port,
    program::{Launch, Program},
};
use tempfile::TempDir;

use super::questions::{Kind, domain};
use crate::{catalog, peers};

/// A running one.
pub(super) struct Peer {
    pub(super) program: Program,
    pub(super) port: u16,
    _dir: TempDir,
}

/// An instance as DNS has it.
struct Named {
    name: String,
    host: String,
    address: String,
    port: u16,
}

fn named() -> impl Iterator<Item = Named> {
    catalog::instances().map(|(service, number, host)| {
        let of = catalog::registration(&service, number, host);
        let port = of.service.expect("an instance is registered").port;
        Named { name: domain(&service), host: format!("{}.node.dc1.consul", of.node), address: of.address, port }
    })
}

/// Each host once.
fn hosts() -> impl Iterator<Item = (String, String)> {
    let all = named().map(|named| (named.host, named.address));
    all.collect::<BTreeMap<_, _>>().into_iter()
}

/// Knot DNS with a zone of the services' addresses and places.
pub(super) fn knot() -> Peer {
    let mut zone = String::from("$TTL 0\nconsul. SOA ns.consul. hostmaster.consul. 1 3600 600 86400 0\n");
    zone.push_str("consul. NS ns.consul.\nns.consul. A 127.0.0.1\n");
    for (host, address) in hosts() {
        add(&mut zone, format_args!("{host}. A {address}"));
    }
    for Named { name, host, address, port } in named() {
        add(&mut zone, format_args!("{name}. A {address}\n{name}. SRV 1 1 {port} {host}."));
    }
    Peer::start("knot.conf", &zone, |config| Launch::new("knotd").args(["-c", config]))
}

/// dnsmasq with the records of that type only: it looks through those of all services' places for any question.
pub(super) fn dnsmasq(kind: Kind) -> Peer {
    let mut records = String::new();
    if kind == Kind::Srv {
        for (host, address) in hosts() {
            add(&mut records, format_args!("host-record={host},{address}"));
        }
    }
    for Named { name, host, address, port } in named() {
        match kind {
            Kind::A => add(&mut records, format_args!("host-record={name},{address}")),
            Kind::Srv => add(&mut records, format_args!("srv-host={name},{host},{port},1,1")),
        }
    }
    Peer::start("dnsmasq.conf", &records, |config| Launch::new("dnsmasq").args(["-C", config]))
}

fn add(text: &mut String, line: fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes anything");
}

impl Peer {
    fn start(config: &str, records: &str, launch: impl FnOnce(&str) -> Launch) -> Self {
        let (dir, port) = (peers::dir(), free_port());
        fs::write(dir.path().join("records"), records).expect("our own directory");
        let words = [("PORT", port.to_string()), ("ROOT", dir.path().display().to_string())];
        let config = peers::configured(config, &dir, &words);
        let program = launch(&config.display().to_string()).start();
        Self { program, port, _dir: dir }
    }
}
