//! A question whose reply is at hand is answered without any allocation.

use allocation_counter::measure;
use kvstore_core::{
    Command, Index, State, decide,
    dns::{Asked, DnsConfig, Reaction, Replies, Transport, Zone},
    row::Node,
};
use serde_json::json;

/// `web.service.consul.` of this type, with id 7.
fn question(qtype: u8) -> Vec<u8> {
    let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    [&head[..], b"\x03web\x07service\x06consul\0\0", &[qtype, 0, 1]].concat()
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

#[test]
fn a_reply_that_is_at_hand_costs_no_allocation() {
    const A: u8 = 1;
    const SRV: u8 = 33;
    let (state, zone) = (state(), Zone::new(DnsConfig::default()).unwrap());
    let (mut replies, mut out) = (Replies::new(1 << 20), Vec::new());
    let from = "127.0.0.1".parse().unwrap();
    let asked = Asked { from, by: Transport::Udp, seed: 1, unix_seconds: 7, distances: &() };
    for packet in [A, SRV].map(question) {
        let mut ask = || {
            let allocations = measure(|| {
                let reaction = replies.respond(&packet, &asked, &state, &zone, &mut out);
                assert!(matches!(reaction, Reaction::Reply));
            });
            assert_eq!(out[7], 3, "three answers");
            allocations.count_total
        };
        assert!(ask() > 0, "the first reply is made, or nothing is counted here");
        for _ in 0..100 {
            assert_eq!(ask(), 0);
        }
    }
}
