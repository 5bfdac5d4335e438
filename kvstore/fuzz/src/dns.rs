//! DNS packets: none panics; a reply is one to its question, no longer than it may be, and another library reads it; one
//! that is given again is as long as one made anew; and who is over the limit gets no more than was sent.

#[path = "../../core/src/dns/tests/tricks.rs"]
mod tricks;

use std::{cell::RefCell, net::IpAddr, sync::LazyLock};

use hickory_proto::op::Message;
use kvstore_core::{
    State,
    dns::{Allowed, Asked, DnsConfig, RateLimit, Reaction, Replies, Transport, Zone, cut, respond},
};

static STATE: LazyLock<State> = LazyLock::new(crate::given::state);
static ZONE: LazyLock<Zone> = LazyLock::new(|| Zone::new(config()).expect("a zone"));
static LIMIT: LazyLock<RateLimit> = LazyLock::new(|| RateLimit::new(ZONE.config(), 1).expect("a limit"));

fn config() -> DnsConfig {
    DnsConfig { response_rate_limit: 1000, addresses: vec![[10, 0, 0, 53].into()], ..DnsConfig::default() }
}

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

/// What was asked of a genuine Consul, a question for each of our names by some types, and tricks.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let recorded = crate::given::dns_recordings();
    let names = NAMES.iter().flat_map(|name| [1, 2, 6, 12, 16, 28, 33, 255].map(|qtype| ((*name).to_owned(), qtype)));
    let questions = recorded.into_iter().chain(names).enumerate();
    let questions = questions.map(|(i, (name, qtype))| question(i, &name, qtype));
    questions.chain(tricks::tricks().into_iter().map(|(_, packet, _)| packet)).collect()
}

/// With and without EDNS.
fn question(number: usize, name: &str, qtype: u16) -> Vec<u8> {
    let edns = number.is_multiple_of(2);
    let mut packet = vec![0x12, number.to_le_bytes()[0], 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        packet.push(u8::try_from(label.len()).expect("a label"));
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend(qtype.to_be_bytes());
    packet.extend([0, 1]);
    if edns {
        packet.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    packet
}

thread_local! {
    static REPLIES: RefCell<Replies> = RefCell::new(Replies::new(1 << 20));
}

fn whole(packet: &[u8], reply: &[u8], by: Transport) {
    assert_eq!(reply[..2], packet[..2], "the reply is to another question");
    assert!(reply[2] & 0x80 != 0, "the reply is a question");
    let udp = usize::from(ZONE.config().max_udp_bytes).max(512);
    let most = if matches!(by, Transport::Tcp) { 65_535 } else { udp };
    assert!((12..=most).contains(&reply.len()), "{} bytes", reply.len());
    // Opcodes that nobody has cannot be read there; they are echoed.
    if packet[2] & 0x78 != 0 {
        return assert_eq!(reply[2] & 0x78, packet[2] & 0x78);
    }
    let message = Message::from_vec(reply).expect("others can read it");
    if let Some(name) = plain_name(packet)
        && !message.queries.is_empty()
    {
        assert!(reply[12..].starts_with(name), "the name is spelled otherwise");
    }
}

/// The name behind the header, if it is written there without pointers.
fn plain_name(packet: &[u8]) -> Option<&[u8]> {
    let mut end = 12;
    loop {
        match *packet.get(end)? {
            0 => return packet.get(12..=end),
            length @ 1..=63 => end += 1 + usize::from(length),
            _ => return None,
        }
    }
}

pub(crate) fn check(packet: &[u8]) {
    #[cfg(feature = "planted")]
    planted(packet);
    let asked = |by| Asked { from: [127, 0, 0, 1].into(), by, seed: 7, unix_seconds: 1, distances: &() };
    for by in [Transport::Udp, Transport::Tcp] {
        let mut out = Vec::new();
        let reaction = respond(packet, &asked(by), &STATE, &ZONE, &mut out);
        if let Reaction::Reply = reaction {
            whole(packet, &out, by);
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
                    whole(packet, &kept, by);
                    assert_eq!(kept.len(), out.len(), "a reply given again is another");
                }
            }
        });
        limited(packet, &reaction);
    }
}

/// What is told to who asks too much, wherever the packet says that is.
fn limited(packet: &[u8], reaction: &Reaction) {
    let mut out = Vec::new();
    let told = cut(packet, &ZONE, &mut out);
    assert_eq!(matches!(told, Reaction::Ignore), matches!(reaction, Reaction::Ignore));
    if let Reaction::Reply = told {
        whole(packet, &out, Transport::Udp);
        assert!(out.len() <= packet.len(), "{} bytes for {}", out.len(), packet.len());
    }
    let Some(from) = packet.last_chunk::<16>() else { return };
    let from = IpAddr::from(*from).to_canonical();
    let allowed = LIMIT.count(from, u32::from(packet[0]));
    assert!(allowed == Allowed::Reply || !from.is_loopback(), "this host has no limit");
}

/// Found only by who follows the coverage: each step is likely once the one before is taken, and all at once are not.
#[cfg(feature = "planted")]
fn planted(packet: &[u8]) {
    use std::hint::black_box;

    use kvstore_core::dns::{Incoming, read};

    let Incoming::Ask(request, question) = read(packet) else { return };
    let Some(edns) = request.edns else { return };
    if !black_box(edns.dnssec_ok) {
        return;
    }
    if !black_box(request.checking_disabled) {
        return;
    }
    if black_box(edns.udp_bytes) >= 512 {
        return;
    }
    if black_box(question.qtype.to_int()) < 0x100 {
        return;
    }
    panic!("the planted bug");
}
