//! Packets that nobody would send who means well: no panic, and a reply others can read or none.

use super::*;
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

#[test]
fn known_tricks() {
    let state = catalog(ROWS);
    let zone = Zone::new(config()).unwrap();
    let header = |counts: [u16; 4]| {
        let mut packet = vec![0x12, 0x34, 1, 0];
        packet.extend(counts.iter().flat_map(|n| n.to_be_bytes()));
        packet
    };
    let ask = [0, 1, 0, 1];
    let with = |counts, rest: &[&[u8]]| {
        let mut packet = header(counts);
        packet.extend(rest.concat());
        packet
    };
    let longest = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], &[0]].concat();
    let too_long = [&[63; 64][..], &[63; 64], &[63; 64], &[62; 63], &[0]].concat();
    let opt = [0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0];
    let (formerr, nxdomain, refused) = (Some(1), Some(3), Some(5));
    for (what, packet, want) in [
        ("nothing", Vec::new(), None),
        ("half a header", header([1, 0, 0, 0])[..11].to_vec(), None),
        ("a header alone", header([1, 0, 0, 0]), formerr),
        ("a name that points at itself", with([1, 0, 0, 0], &[&[0xc0, 12], &ask]), formerr),
        ("a name that points ahead", with([1, 0, 0, 0], &[&[0xc0, 20], &ask, &[0; 8]]), formerr),
        ("a label type of old", with([1, 0, 0, 0], &[&[0x41, 0], &ask]), formerr),
        ("a name of 255 bytes", with([1, 0, 0, 0], &[&longest, &ask]), refused),
        ("a name of 256 bytes", with([1, 0, 0, 0], &[&too_long, &ask]), formerr),
        ("two OPT records", with([1, 0, 0, 2], &[b"\x06consul\0", &ask, &opt, &opt]), formerr),
        ("a record too few", with([1, 0, 0, 1], &[b"\x06consul\0", &ask]), formerr),
        ("a name with a zero byte", with([1, 0, 0, 0], &[b"\x01\0\x07service\x06consul\0", &ask]), nxdomain),
        ("65535 records announced", with([1, 65535, 65535, 65535], &[b"\x06consul\0", &ask]), formerr),
    ] {
        survives(&packet, &state, &zone, what);
        let mut out = Vec::new();
        let reaction = respond(&packet, &asked(Transport::Udp), &state, &zone, &mut out);
        let code = matches!(reaction, Reaction::Reply).then(|| out[3] & 15);
        assert_eq!(code, want, "{what}");
    }
}
