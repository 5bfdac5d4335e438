//! DNS packets: none panics, a reply is one to its question and no longer than it may be, and one that is given again is
//! as long as one made anew.

#![no_main]

use std::{cell::RefCell, sync::LazyLock};

use kvstore_core::{
    State,
    dns::{Asked, DnsConfig, Reaction, Replies, Transport, Zone, respond},
};
use libfuzzer_sys::fuzz_target;

static STATE: LazyLock<State> = LazyLock::new(kvstore_fuzz::state);
static ZONE: LazyLock<Zone> = LazyLock::new(|| Zone::new(DnsConfig::default()).expect("the default is a zone"));

const NAMES: &[&str] = &[
    "web.service.consul",
    "v2.web.service.dc1.consul",
    "_web._tcp.service.consul",
    "db-1.node.consul",
    "consul",
    "0a000009.addr.dc1.consul",
    "9.0.0.10.in-addr.arpa",
    "example.com",
    "nope.service.consul",
    "web.query.consul",
];

/// A question for each name and some types, with and without EDNS.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (i, name) in NAMES.iter().enumerate() {
        for qtype in [1u8, 2, 6, 12, 16, 28, 33, 255] {
            let mut packet = vec![0x12, i as u8, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(i % 2 == 0)];
            for label in name.split('.') {
                packet.push(label.len() as u8);
                packet.extend_from_slice(label.as_bytes());
            }
            packet.extend_from_slice(&[0, 0, qtype, 0, 1]);
            if i % 2 == 0 {
                packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
            }
            seeds.push(packet);
        }
    }
    seeds
}

thread_local! {
    static REPLIES: RefCell<Replies> = RefCell::new(Replies::new(1 << 20));
}

fn check(packet: &[u8], reply: &[u8], by: Transport) {
    assert_eq!(reply[..2], packet[..2], "the reply is to another question");
    assert!(reply[2] & 0x80 != 0, "the reply is a question");
    let udp = usize::from(ZONE.config().max_udp_bytes).max(512);
    let most = if matches!(by, Transport::Tcp) { 65_535 } else { udp };
    assert!((12..=most).contains(&reply.len()), "{} bytes", reply.len());
}

fuzz_target!(
    init: kvstore_fuzz::write_seeds(seeds),
    |packet: &[u8]| {
        let asked = |by| Asked { from: [127, 0, 0, 1].into(), by, seed: 7, unix_seconds: 1, distances: &() };
        for by in [Transport::Udp, Transport::Tcp] {
            let mut out = Vec::new();
            let reaction = respond(packet, &asked(by), &STATE, &ZONE, &mut out);
            if let Reaction::Reply = reaction {
                check(packet, &out, by);
            }
            if matches!(by, Transport::Tcp) {
                continue;
            }
            REPLIES.with_borrow_mut(|replies| {
                for _ in 0..2 {
                    let mut kept = Vec::new();
                    let again = replies.respond(packet, &asked(by), &STATE, &ZONE, &mut kept);
                    assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&reaction));
                    if let Reaction::Reply = again {
                        check(packet, &kept, by);
                        assert_eq!(kept.len(), out.len(), "a reply given again is another");
                    }
                }
            });
        }
    }
);
