//! The book of what Docker was told, JSON or nothing, and then what Docker asks, each behind a line end: a method, a blank,
//! and a body. None panics, whatever stands in the book; after each call the book is read again as it was written; and in a
//! book that was empty at first no address is given to two.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use ipnet::IpNet;
use uuid::Uuid;

use super::{
    book::{Book, World},
    protocol::{self, Answer, Call},
};
use crate::{
    network::{Network, NetworkId, NodeId},
    state::{Held, HeldNetwork},
};

/// A host that has a block of one network of the mesh.
static HELD: LazyLock<Held> = LazyLock::new(|| {
    let id = NetworkId(Uuid::from_u128(7));
    let subnet = "10.77.0.0/16".parse().expect("a subnet");
    let app = Network::new("app".parse().expect("a name"), id, subnet, 24, 1).expect("a network");
    let networks = vec![HeldNetwork { blocks: vec![app.block(3)], network: app, mtu: 1380 }];
    Held { node: NodeId([1; 16]), host: "a".into(), tunnel: "wg7".into(), networks }
});

fn world() -> World<'static> {
    static NOTHING: BTreeSet<IpNet> = BTreeSet::new();
    World { held: &HELD, busy: &NOTHING, random: 7 }
}

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let net = "a".repeat(64);
    let end = "b".repeat(64);
    let calls = [
        "NetworkDriver.CreateNetwork {\"NetworkID\":\"NET\",\"Options\":{},\"IPv4Data\":[{\"AddressSpace\":\"x\",\"Pool\":\"10.77.0.0/16\",\"Gateway\":\"10.77.3.1/16\"}],\"IPv6Data\":[]}",
        "IpamDriver.RequestPool {\"Pool\":\"10.77.0.0/16\",\"SubPool\":\"\",\"V6\":false}",
        "IpamDriver.RequestPool {\"Pool\":\"\",\"SubPool\":\"\",\"V6\":true}",
        "IpamDriver.RequestAddress {\"PoolID\":\"flotilla/10.77.0.0/16\",\"Address\":\"\",\"Options\":{\"RequestAddressType\":\"com.docker.network.gateway\"}}",
        "IpamDriver.RequestAddress {\"PoolID\":\"flotilla/10.77.0.0/16\",\"Address\":\"\",\"Options\":null}",
        "IpamDriver.RequestAddress {\"PoolID\":\"flotilla/10.77.0.0/16\",\"Address\":\"10.77.3.9\",\"Options\":null}",
        "NetworkDriver.CreateEndpoint {\"NetworkID\":\"NET\",\"EndpointID\":\"END\",\"Interface\":{\"Address\":\"10.77.3.2/16\",\"AddressIPv6\":\"\",\"MacAddress\":\"\"},\"Options\":{}}",
        "NetworkDriver.Join {\"NetworkID\":\"NET\",\"EndpointID\":\"END\",\"SandboxKey\":\"/var/run/docker/netns/1\",\"Options\":{}}",
        "NetworkDriver.ProgramExternalConnectivity {\"NetworkID\":\"NET\",\"EndpointID\":\"END\",\"Options\":{\"com.docker.network.portmap\":[{\"Proto\":6,\"Port\":80,\"HostPort\":8080,\"HostPortEnd\":8080}]}}",
        "IpamDriver.ReleaseAddress {\"PoolID\":\"flotilla/10.77.0.0/16\",\"Address\":\"10.77.3.2\"}",
        "NetworkDriver.DeleteEndpoint {\"NetworkID\":\"NET\",\"EndpointID\":\"END\"}",
        "NetworkDriver.DeleteNetwork {\"NetworkID\":\"NET\"}",
        "IpamDriver.ReleasePool {\"PoolID\":\"flotilla/10.77.0.0/16\"}",
        "Plugin.Activate ",
    ];
    let calls: Vec<_> = calls.map(|call| call.replace("NET", &net).replace("END", &end)).into();
    let mut after = Book::default();
    for call in &calls[1..7] {
        if let Some((_, next, _)) = entered(&after, call) {
            after = next;
        }
    }
    let after = serde_json::to_string(&after).expect("plain data");
    let session = |book: &str, calls: &[String]| [&[book.to_owned()], calls].concat().join("\n").into_bytes();
    vec![session("", &calls), session("", &calls[1..6]), session(&after, &calls[4..]), session(&after, &[])]
}

/// The call of a line, the book with it, and the answer; unless it is none, or is refused.
fn entered(book: &Book, line: &str) -> Option<(Call, Book, Answer)> {
    let (method, body) = line.split_once(' ')?;
    let call = protocol::read(method, body.as_bytes()).ok()?;
    let (next, done) = book.enter(world(), &call).ok()?;
    Some((call, next, done.answer))
}

fn again(book: &Book) {
    let written = serde_json::to_string(book).expect("plain data");
    assert_eq!(&serde_json::from_str::<Book>(&written).expect("what was written"), book);
}

/// One input.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, calls) = text.split_once('\n').unwrap_or((text, ""));
    let mut book = match first {
        "" => Book::default(),
        kept => match serde_json::from_str(kept) {
            Ok(book) => book,
            Err(_) => return,
        },
    };
    again(&book);
    let mut given = BTreeMap::<IpNet, BTreeSet<_>>::new();
    for line in calls.lines() {
        let Some((call, next, answer)) = entered(&book, line) else { continue };
        again(&next);
        next.bridges(world());
        next.usage(world());
        book = next;
        match (call, answer) {
            (Call::RequestAddress(asked), Answer::Address(address)) if !asked.is_for_gateway() => {
                let new = given.entry(asked.pool.0).or_default().insert(address.addr());
                assert!(new || !first.is_empty(), "{address} is given to two");
            }
            (Call::ReleaseAddress(released), _) => {
                given.entry(released.pool.0).or_default().remove(&released.address);
            }
            (Call::ReleasePool(of), _) => drop(given.remove(&of.pool.0)),
            _ => {}
        }
    }
}
