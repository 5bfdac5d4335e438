//! What a question costs without sockets: where its reply is at hand, where something else has changed since, and where the
//! reply is made.
//!
//! `cargo bench -p kvstore --bench dns`; the least of many rounds, since others may have the core for a while.

use std::time::{Duration, Instant};

use kvstore_core::{
    Command, Index, State, decide,
    dns::{Asked, DnsConfig, Reaction, Replies, Transport, Zone},
};
use serde_json::{Value, json};

const SERVICES: usize = 1000;
const ROUNDS: usize = 200;

/// Of the replies at hand, as a socket's thread has.
const MOST_BYTES: usize = 32 << 20;

fn main() {
    let zone = Zone::new(DnsConfig::default()).expect("the defaults are well formed");
    println!("nanoseconds for a question; 1,000 services of 3 instances");
    println!("{:>6}{:>10}{:>16}{:>8}", "", "at hand", "after a change", "made");
    for (name, qtype) in [("A", 1), ("SRV", 33)] {
        let questions: Vec<_> = (0..SERVICES).map(|n| question(n, qtype)).collect();
        let mut state = filled();
        let mut replies = Replies::new(MOST_BYTES);
        let time = |state: &State, replies: &mut Replies| round(&questions, replies, state, &zone);
        time(&state, &mut replies);
        let at_hand = least(|| time(&state, &mut replies));
        let changed = least(|| {
            change(&mut state);
            time(&state, &mut replies)
        });
        let made = least(|| time(&state, &mut Replies::new(0)));
        println!("{name:>6}{at_hand:>10}{changed:>16}{made:>8}");
    }
}

/// The least of what rounds took, for a question.
fn least(mut round: impl FnMut() -> Duration) -> u128 {
    let took = (0..ROUNDS).map(|_| round()).min().expect("there are rounds");
    took.as_nanos() / SERVICES as u128
}

fn round(questions: &[Vec<u8>], replies: &mut Replies, state: &State, zone: &Zone) -> Duration {
    let from = [127, 0, 0, 1].into();
    let asked = Asked { from, by: Transport::Udp, seed: 1, unix_seconds: 7, distances: &() };
    let mut out = Vec::new();
    let start = Instant::now();
    for question in questions {
        let reaction = replies.respond(question, &asked, state, zone, &mut out);
        assert!(matches!(reaction, Reaction::Reply) && out[7] == 3, "three answers");
    }
    start.elapsed()
}

fn question(service: usize, qtype: u8) -> Vec<u8> {
    let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let name = format!("\x0cservice-{service:04}\x07service\x06consul\0");
    [&head[..], name.as_bytes(), &[0, qtype, 0, 1]].concat()
}

fn filled() -> State {
    let mut state = State::empty(Index(1));
    for n in 0..SERVICES * 3 {
        let (service, host) = (format!("service-{:04}", n / 3), n % 100);
        let node = json!({"name": format!("host-{host:03}"), "address": format!("10.0.0.{host}")});
        let instance = json!({"node": format!("host-{host:03}"), "id": service, "service": service, "port": 80});
        carry_out(&mut state, &registration(node, instance));
    }
    state
}

fn registration(node: Value, instance: Value) -> Command {
    let node = serde_json::from_value(node).expect("a well-formed node");
    let instance = serde_json::from_value(instance).expect("a well-formed instance");
    Command::Register { node, keep_node: false, instance: Some(instance), checks: vec![] }
}

/// Of something that no reply follows from.
fn change(state: &mut State) {
    let node = json!({"name": "other", "address": "10.0.1.1"});
    let instance = json!({"node": "other", "id": "other", "service": "other", "port": state.index().0 % 60_000});
    carry_out(state, &registration(node, instance));
}

fn carry_out(state: &mut State, command: &Command) {
    let decision = decide(state, command).expect("nothing speaks against it");
    state.apply(state.index().next(), &decision.changes);
}
