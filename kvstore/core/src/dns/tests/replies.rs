//! Replies that are given again are those that would be made anew.

use std::collections::BTreeSet;

use super::*;
use crate::{dns::Replies, shuffle::Shuffle};

const NAMES: [&str; 12] = [
    "web.service.consul.",
    "WEB.Service.Consul.",
    "v1.web.service.consul.",
    "db.service.dc1.consul.",
    "api.service.consul.",
    "_web._tcp.service.consul.",
    "none.service.consul.",
    "a.node.consul.",
    "consul.",
    "_services._dns-sd._udp.service.consul.",
    "1.0.0.10.in-addr.arpa.",
    "0a000001.addr.consul.",
];

/// Changes of one row, and of what a reply shows beside the row that it is about.
const CHANGES: [&str; 12] = [
    "node a 10.0.0.1",
    "node a 10.0.0.9 rack=r2",
    "web 10.0.1.1:80 passing @a #v1",
    "web 10.0.1.1:80 critical @a #v1",
    "web 10.0.1.2:81 warning @a weight=3/2",
    "web :82 passing @a #v1",
    "db 10.0.2.1:5432 passing @a",
    "db 10.0.2.1:5432 critical @a",
    "api web.service.consul:1 passing @a",
    "api 10.0.3.1:1 passing @a",
    "node a 10.0.0.1 critical",
    "other 10.0.4.1:9 passing @a",
];

/// A reply but for the order of its answers and the serial number of the zone.
fn plain(reply: &Message) -> (String, BTreeSet<String>, Vec<String>) {
    let show = |record: &Record| match record.record_type() {
        RecordType::SOA => format!("{} SOA", record.name),
        _ => record.to_string(),
    };
    let head = format!("{:?} {:?} {:?}", reply.metadata, reply.queries, reply.edns);
    let rest = reply.authorities.iter().chain(&reply.additionals).map(show);
    (head, reply.answers.iter().map(show).collect(), rest.collect())
}

/// The name with some letters large.
fn spelled(name: &str, chance: &mut Shuffle) -> String {
    let large = chance.below(4) == 0;
    let spell = |c: char| if large && chance.below(2) == 0 { c.to_ascii_uppercase() } else { c };
    name.chars().map(spell).collect()
}

/// With another id, and now and then with flags and EDNS of all kinds.
fn odd(mut message: Message, id: u16, chance: &mut Shuffle) -> Message {
    message.metadata.id = id;
    message.metadata.recursion_desired = chance.below(25) > 0;
    message.metadata.checking_disabled = chance.below(25) == 0;
    message.metadata.authentic_data = chance.below(25) == 0;
    if chance.below(2) == 0 {
        message = with_edns(message, [1232, 1232, 1232, 0, 512, 700, 4096, 65535][chance.below(8)]);
        message.edns.as_mut().expect("it was set").set_dnssec_ok(chance.below(25) == 0);
    }
    message
}

#[test]
fn what_is_given_again_is_what_would_be_made_anew() {
    let zone = Zone::new(config()).unwrap();
    for seed in 0..20 {
        let (mut chance, mut replies) = (Shuffle::new(seed), Replies::new(1 << 20));
        let mut state = catalog("node a 10.0.0.1");
        let (mut hits, mut out) = (0, Vec::new());
        for round in 0..3000 {
            if chance.below(60) == 0 {
                let entry = CHANGES[chance.below(CHANGES.len())];
                let command = register(entry, chance.below(2), &state);
                apply(&mut state, &command);
            }
            let name = NAMES[chance.below(NAMES.len())];
            let qtype = ["A", "AAAA", "SRV", "ANY", "TXT", "PTR"][chance.below(6)];
            let message = odd(question(&format!("{} {qtype}", spelled(name, &mut chance))), round, &mut chance);
            let packet = message.to_vec().unwrap();
            let asked = Asked { unix_seconds: 1_700_000_000 + u32::from(round) / 400, ..asked(Transport::Udp) };
            hits += usize::from(replies.find(&packet, || None, (&state, asked.unix_seconds), &mut out));
            assert!(matches!(replies.respond(&packet, &asked, &state, &zone, &mut out), Reaction::Reply));
            let given = Message::from_vec(&out).expect("readable");
            assert_eq!(given.metadata.id, round);
            let asked_bytes = 12..12 + name.len() + 5;
            assert_eq!(out[asked_bytes.clone()], packet[asked_bytes], "each letter as it was asked");
            let anew = reply(&state, config(), &packet, &asked).expect("a reply").0;
            assert_eq!(plain(&given), plain(&anew), "seed {seed}, round {round}: {name} {qtype}");
        }
        assert!(hits > 100, "{hits} of 3000 were at hand");
    }
}

#[test]
fn each_instance_comes_first_equally_often() {
    let state = catalog("web 10.0.0.1:80 passing, web 10.0.0.2:80 passing, web 10.0.0.3:81 passing");
    let zone = Zone::new(config()).unwrap();
    for qtype in ["A", "SRV"] {
        let (mut replies, mut out) = (Replies::new(1 << 20), Vec::new());
        let packet = question(&format!("web.service.consul. {qtype}")).to_vec().unwrap();
        let mut first = std::collections::BTreeMap::new();
        for _ in 0..300 {
            replies.respond(&packet, &asked(Transport::Udp), &state, &zone, &mut out);
            let reply = Message::from_vec(&out).unwrap();
            assert_eq!(reply.answers.len(), 3);
            *first.entry(reply.answers[0].data.to_string()).or_insert(0) += 1;
        }
        assert!(first.len() == 3 && first.values().all(|times| (99..=101).contains(times)), "{first:?}");
    }
}

/// A reply is at hand after the same question, and no longer after the change.
#[test]
fn a_reply_ends_with_what_it_follows_from_and_with_nothing_else() {
    let zone = Zone::new(config()).unwrap();
    for (text, change, stays) in [
        ("web.service.consul. A", "other 10.0.4.1:9 passing @a", true),
        ("web.service.consul. AAAA", "other 10.0.4.1:9 passing @a", true),
        ("web.service.consul. SRV", "node b 10.0.0.2", true),
        ("web.service.consul. A", "web 10.0.1.1:80 critical @a", false),
        ("web.service.consul. A", "node a 10.0.0.9", false),
        ("a.node.consul. A", "node a 10.0.0.9", false),
        ("consul. TXT", "other 10.0.4.1:9 passing @a", false),
        ("api.service.consul. A", "other 10.0.4.1:9 passing @a", false),
    ] {
        let mut state = catalog("node a 10.0.0.1, web :80 passing @a, api web.service.consul:1 passing @a");
        let (mut replies, mut out) = (Replies::new(1 << 20), Vec::new());
        let packet = question(text).to_vec().unwrap();
        let asked = asked(Transport::Udp);
        assert!(!replies.find(&packet, || None, (&state, asked.unix_seconds), &mut out));
        replies.respond(&packet, &asked, &state, &zone, &mut out);
        assert!(replies.find(&packet, || None, (&state, asked.unix_seconds), &mut out), "{text}");
        assert!(!replies.find(&packet, || None, (&state, asked.unix_seconds + 10), &mut out), "{text}: it grows old");
        replies.respond(&packet, &asked, &state, &zone, &mut out);
        let command = register(change, 9, &state);
        apply(&mut state, &command);
        assert_eq!(
            replies.find(&packet, || None, (&state, asked.unix_seconds), &mut out),
            stays,
            "{text} after {change}"
        );
    }
}

#[test]
fn what_others_may_ask_otherwise_or_invent_is_not_kept() {
    let (state, zone) = (catalog("web 10.0.0.1:80 passing"), Zone::new(config()).unwrap());
    let (mut replies, mut out) = (Replies::new(1 << 20), Vec::new());
    let mut two = question("web.service.consul. A");
    two.add_query(two.queries[0].clone());
    let mut notify = question("web.service.consul. A");
    notify.metadata.op_code = hickory_proto::op::OpCode::Notify;
    let mut subnet = with_edns(question("web.service.consul. A"), 1232);
    let option = hickory_proto::rr::rdata::opt::EdnsOption::Subnet("10.0.0.0/24".parse().unwrap());
    subnet.edns.as_mut().unwrap().options_mut().insert(option);
    let made_up = ["no.service.consul. A", "no.consul. A", "example.com. A", "0a000001.addr.consul. A"].map(question);
    for message in made_up.into_iter().chain([two, notify, subnet]) {
        let packet = message.to_vec().unwrap();
        for _ in 0..2 {
            replies.respond(&packet, &asked(Transport::Udp), &state, &zone, &mut out);
            assert!(!replies.find(&packet, || None, (&state, 1_700_000_000), &mut out), "{:?}", message.queries);
        }
    }
    assert!(!replies.find(&[0; 5], || None, (&state, 1_700_000_000), &mut out));
}
