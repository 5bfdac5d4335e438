//! What answering costs in memory: nothing for a question whose reply is at hand, and never more than is allowed for all.

use allocation_counter::measure;
use kvstore_core::{
    Command, Index, State, decide,
    dns::{Allowed, Asked, DnsConfig, RateLimit, Reaction, Replies, Transport, Zone},
    row::Node,
};
use serde_json::json;

/// `web.service.consul.` of this type, with id 7; by EDNS, offering so many bytes.
fn question(qtype: u8, edns: Option<u16>) -> Vec<u8> {
    let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    let name = b"\x03web\x07service\x06consul\0\0";
    let opt = edns.map(|bytes| {
        let [high, low] = bytes.to_be_bytes();
        [0, 0, 41, high, low, 0, 0, 0, 0, 0, 0]
    });
    [&head[..], name, &[qtype, 0, 1], opt.as_slice().as_flattened()].concat()
}

fn state() -> State {
    let mut state = State::empty(Index(1));
    for i in 1..=3 {
        let node: Node =
            serde_json::from_value(json!({"name": format!("n{i}"), "address": format!("10.0.0.{i}")})).unwrap();
        let instance = json!({"node": node.key(), "id": "web", "service": "web", "port": 80});
        let instance = Some(serde_json::from_value(instance).unwrap());
        let command = Command::Register { node, keep_node: false, instance, checks: vec![] };
        let decision = decide(&state, &command).unwrap();
        state.apply(state.index().next(), &decision.changes);
    }
    state
}

fn asked() -> Asked<'static> {
    let from = "127.0.0.1".parse().unwrap();
    Asked { from, by: Transport::Udp, seed: 1, unix_seconds: 7, distances: &() }
}

const A: u8 = 1;
const SRV: u8 = 33;

#[test]
fn a_reply_that_is_at_hand_costs_no_allocation() {
    let (state, zone) = (state(), Zone::new(DnsConfig::default()).unwrap());
    let (mut replies, mut out) = (Replies::new(1 << 20), Vec::new());
    for packet in [A, SRV].into_iter().flat_map(|qtype| [None, Some(1232)].map(|edns| question(qtype, edns))) {
        let mut ask = || {
            let allocations = measure(|| {
                let reaction = replies.respond(&packet, &asked(), &state, &zone, &mut out);
                assert!(matches!(reaction, Reaction::Reply));
            });
            assert_eq!(out[7], 3, "three answers");
            assert_eq!(out[11] > 0, packet[11] > 0 || packet[33] == SRV, "EDNS, or where the instances are");
            allocations.count_total
        };
        assert!(ask() > 0, "the first reply is made, or nothing is counted here");
        for _ in 0..100 {
            assert_eq!(ask(), 0);
        }
        assert_eq!(replies.take_hits(), 100);
    }
}

#[test]
fn counting_replies_costs_no_allocation() {
    let config = DnsConfig { response_rate_limit: 1, ..DnsConfig::default() };
    let limit = RateLimit::new(&config, 1).expect("a limit");
    for want in [Allowed::Reply, Allowed::Cut, Allowed::Nothing] {
        let allocations = measure(|| assert_eq!(limit.count([192, 0, 2, 1].into(), 7), want));
        assert_eq!(allocations.count_total, 0);
    }
}

/// Any number of questions that differ in something fill no more than they may.
#[test]
fn replies_at_hand_stay_within_their_bytes() {
    const MOST_BYTES: usize = 1 << 20;
    let (state, zone) = (state(), Zone::new(DnsConfig::default()).unwrap());
    let mut out = Vec::new();
    let mut replies = Replies::new(MOST_BYTES);
    let mut most = 0;
    let used = measure(|| {
        for bytes in 0..30_000 {
            let packet = question(if bytes % 2 == 0 { A } else { SRV }, Some(bytes));
            replies.respond(&packet, &asked(), &state, &zone, &mut out);
            if bytes % 100 == 0 {
                most = most.max(replies.bytes());
            }
        }
    });
    println!("{most} bytes by our count, {} by the allocator's", used.bytes_max);
    assert!((MOST_BYTES / 2..=MOST_BYTES).contains(&most), "{most} bytes by our count");
    assert!(used.bytes_max <= MOST_BYTES as u64 * 3 / 2, "{} bytes by the allocator's", used.bytes_max);
}
