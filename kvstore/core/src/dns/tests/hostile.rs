//! Packets that nobody would send who means well: no panic, and a reply others can read or none.

use super::{
    super::{cut, may_answer},
    *,
};
use crate::shuffle::Shuffle;

const ROWS: &str = "node a 10.0.0.1 rack=r1, web :80 passing @a #v1 team=b, web x.service.consul:81 passing @a, \
                    x web.service.consul:1 warning @a, db 2001:db8::1:2 passing, db 10.0.0.3:2 critical";

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "web.service.consul. A",
        "_web._v1.service.dc1.consul. SRV",
        "a.node.consul. ANY",
        "consul. TXT",
        "_services._dns-sd._udp.service.consul. PTR",
        "1.0.0.10.in-addr.arpa. PTR",
        "0a000001.addr.consul. A",
        "example.com. MX",
        "x.service.consul. AAAA",
    ];
    let plain = texts.iter().map(|text| question(text));
    let edns = texts.iter().map(|text| with_edns(question(text), 1232));
    plain.chain(edns).map(|message| message.to_vec().unwrap()).collect()
}

/// Whatever comes back for `packet` can be read, has its id and fits.
fn survives(packet: &[u8], state: &State, zone: &Zone, note: &str) {
    for by in [Transport::Udp, Transport::Tcp] {
        let mut out = Vec::new();
        let reaction = respond(packet, &asked(by), state, zone, &mut out);
        let is_question = packet.len() >= 12 && packet[2] & 0x80 == 0;
        match reaction {
            Reaction::Reply => {
                assert!(is_question, "{note}: answered what is no question: {packet:02x?}");
                let readable = domain::base::Message::from_octets(&out[..]).is_ok_and(|message| {
                    let whole = message.iter().all(|record| record.is_ok());
                    whole && message.question().all(|question| question.is_ok())
                });
                assert!(readable, "{note}: unreadable reply to {packet:02x?}");
                // The other decoder is pickier about what it never saw, such as opcodes nobody has.
                if packet[2] & 0x78 == 0 {
                    let reply = Message::from_vec(&out);
                    assert!(reply.is_ok(), "{note}: {:?} in the reply to {packet:02x?}", reply.err());
                }
                assert_eq!(out[..2], packet[..2], "{note}");
                assert!(out.len() <= if by == Transport::Udp { 4096 } else { 65535 }, "{note}");
            }
            Reaction::Forward(_) => assert!(zone.has_recursion(), "{note}"),
            Reaction::Ignore => assert!(!is_question, "{note}: no reply to {packet:02x?}"),
        }
    }
}

#[test]
fn broken_packets_are_answered_or_dropped() {
    let state = catalog(ROWS);
    let zones = [vec![], vec![".".to_owned()]].map(|recursion| Zone::new(DnsConfig { recursion, ..config() }).unwrap());
    let seed = 0x5eed_0001;
    println!("seed {seed:#x}");
    let mut chance = Shuffle::new(seed);
    let seeds = seeds();
    for round in 0..60_000_u32 {
        let mut packet = seeds[chance.below(seeds.len())].clone();
        for _ in 0..=chance.below(4) {
            mutate(&mut packet, &seeds, &mut chance);
        }
        let zone = &zones[chance.below(2)];
        survives(&packet, &state, zone, &format!("round {round}"));
    }
}

fn mutate(packet: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Shuffle) {
    let at = chance.below(packet.len() + 1);
    match chance.below(7) {
        0 => packet.truncate(at),
        1 => packet.insert(at, chance.byte()),
        2 if at < packet.len() => packet[at] ^= 1 << chance.below(8),
        3 if at < packet.len() => packet[at] = chance.byte(),
        // A pointer to anywhere, itself included.
        4 if at + 1 < packet.len() => {
            packet[at] = 0xc0;
            packet[at + 1] = chance.byte();
        }
        5 => packet.extend_from_slice(&seeds[chance.below(seeds.len())]),
        // Counts.
        _ if packet.len() >= 12 => packet[4 + chance.below(8)] = chance.byte() % 4,
        _ => {}
    }
}

#[test]
fn noise_is_answered_or_dropped() {
    let state = catalog(ROWS);
    let zone = Zone::new(config()).unwrap();
    let seed = 0x5eed_0002;
    println!("seed {seed:#x}");
    let mut chance = Shuffle::new(seed);
    for round in 0..20_000_u32 {
        let packet: Vec<u8> = (0..chance.below(600)).map(|_| chance.byte()).collect();
        survives(&packet, &state, &zone, &format!("round {round}"));
    }
}

/// What comes back for a packet: `dropped`, or the code of the reply, once that is found in order.
fn reaction(packet: &[u8], by: Transport, state: &State, zone: &Zone) -> String {
    let mut out = Vec::new();
    if !matches!(respond(packet, &asked(by), state, zone, &mut out), Reaction::Reply) {
        return "dropped".into();
    }
    assert_eq!(out[..2], packet[..2], "the id");
    assert_eq!(out[2] & 0xf9, 0x80 | packet[2] & 0x79, "a reply of the same opcode and RD, not cut");
    assert_eq!(out[3] & 0x70, packet[3] & 0x10, "nothing but CD is echoed of the other flags");
    domain::base::Message::from_octets(&out[..]).unwrap().opt_rcode().to_string()
}

#[test]
fn tricks_are_answered_by_the_rules() {
    let (state, zone) = (catalog(ROWS), Zone::new(config()).unwrap());
    for (what, packet, want) in tricks::tricks() {
        survives(&packet, &state, &zone, what);
        for by in [Transport::Udp, Transport::Tcp] {
            assert_eq!(reaction(&packet, by, &state, &zone), want, "{what} over {by:?}");
        }
    }
}

#[test]
fn a_question_that_is_cut_anywhere_is_told_so() {
    let (state, zone) = (catalog(ROWS), Zone::new(config()).unwrap());
    for packet in seeds() {
        for end in 0..packet.len() {
            let want = if end < 12 { "dropped" } else { "FORMERR" };
            assert_eq!(reaction(&packet[..end], Transport::Udp, &state, &zone), want, "{end} bytes of {packet:02x?}");
        }
    }
}

#[test]
fn ports_that_answer_anything_are_not_answered() {
    assert!([0, 7, 13, 17, 19, 37].iter().all(|port| !may_answer(*port)));
    assert!([1, 53, 123, 1024, 65535].iter().all(|port| may_answer(*port)));
}

/// Everything that a zone of many rows has, by every type, in the catalog below.
fn everything() -> Vec<String> {
    let names = ["consul", "big.service.consul", "_services._dns-sd._udp.service.consul", "a.node.consul", "no.consul"];
    let types = ["A", "AAAA", "SRV", "TXT", "PTR", "ANY", "SOA", "NS", "MX"];
    names.iter().flat_map(|name| types.map(|qtype| format!("{name}. {qtype}"))).collect()
}

fn big() -> State {
    let meta = |i: usize| format!("key{i}={}", "x".repeat(100));
    let node = format!("node a 10.0.0.1 {}", (0..60).map(meta).collect::<Vec<_>>().join(" "));
    let big = (0..300).map(|i| format!("big 10.1.{}.{}:{i} passing n={i}-{}", i / 250, i % 250, "y".repeat(60)));
    let others = (0..300).map(|i| format!("some-long-name-of-a-service-{i} :1 passing @a"));
    catalog(&[node].into_iter().chain(big).chain(others).collect::<Vec<_>>().join(","))
}

/// How much longer than its packet a reply over UDP may be, for whoever fakes the asker.
#[test]
fn replies_over_udp_are_bounded_whatever_is_asked() {
    let (state, zone) = (big(), Zone::new(config()).unwrap());
    let (mut worst, mut worst_cut) = ([0.0_f64; 3], 0.0_f64);
    for text in everything() {
        for offered in [None, Some(0), Some(1232), Some(4096), Some(65535)] {
            let message = offered.map_or_else(|| question(&text), |bytes| with_edns(question(&text), bytes));
            let packet = message.to_vec().unwrap();
            let mut out = Vec::new();
            respond(&packet, &asked(Transport::Udp), &state, &zone, &mut out);
            let plain = offered.is_none_or(|bytes| bytes < 512) || text.ends_with("ANY");
            let most = if plain { 512 } else { usize::from(offered.unwrap_or(0)).min(4096) };
            assert!(out.len() <= most, "{text}, {offered:?}: {} bytes", out.len());
            let kind = if text.ends_with("ANY") { 2 } else { usize::from(offered.is_some()) };
            worst[kind] = worst[kind].max(factor(&out, &packet));

            assert!(matches!(cut(&packet, &zone, &mut out), Reaction::Reply));
            let reply = Message::from_vec(&out).expect("readable");
            assert!(reply.metadata.truncation && reply.answers.is_empty() && reply.queries == message.queries);
            assert_eq!((reply.metadata.id, reply.edns.is_some()), (message.metadata.id, offered.is_some()));
            worst_cut = worst_cut.max(factor(&out, &packet));
        }
    }
    println!("worst: plain {:.1}, EDNS {:.1}, ANY {:.1}, limited {worst_cut:.1}", worst[0], worst[1], worst[2]);
    assert!(worst[0] <= 22.0 && worst[1] <= 118.0 && worst[2] <= 22.0, "{worst:?}");
    assert!(worst_cut <= 1.0, "who is limited gets no more than was sent");
}

#[allow(clippy::cast_precision_loss)] // both are short
fn factor(reply: &[u8], packet: &[u8]) -> f64 {
    reply.len() as f64 / packet.len() as f64
}

#[test]
fn what_cannot_be_answered_is_not_cut_either() {
    let zone = Zone::new(config()).unwrap();
    for (what, packet, want) in tricks::tricks() {
        let mut out = Vec::new();
        let reaction = cut(&packet, &zone, &mut out);
        assert_eq!(matches!(reaction, Reaction::Ignore), want == "dropped", "{what}");
        assert!(out.len() <= packet.len(), "{what}: {} bytes for {}", out.len(), packet.len());
    }
}
