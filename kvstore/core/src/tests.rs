//! Rows and states for the tables of tests beside the code.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    Command, Index, State, Target, decide,
    health::Status,
    names::{CheckId, InstanceId, Key, NodeKey, SessionId},
    row::{Behavior, Check, Instance, Node, Owner, Probe, ProbeKind, Session, Weights},
};

/// The index of a state before its first command.
pub(crate) const START: Index = Index(100);

/// The state after `commands`, each of which has changed something: the first has index 101.
pub(crate) fn given(commands: impl IntoIterator<Item = Command>) -> State {
    let mut state = State::empty(START);
    for command in commands {
        carry_out(&mut state, &command);
    }
    state
}

pub(crate) fn carry_out(state: &mut State, command: &Command) -> crate::Touched {
    let decision = decide(state, command).unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"));
    assert!(!decision.changes.is_empty(), "{command:?} changes nothing");
    state.apply(state.index().next(), &decision.changes)
}

pub(crate) fn node(name: &str, id: &str) -> Node {
    let (name, id, address) = (name.into(), id.into(), "10.0.0.1".into());
    Node { name, id, address, tagged_addresses: None, meta: None }
}

pub(crate) fn instance(node: &str, id: &str, service: &str) -> Instance {
    Instance {
        node: node_key(node),
        id: instance_id(id),
        service: service.into(),
        tags: vec![],
        address: String::new(),
        port: 80,
        socket_path: String::new(),
        tagged_addresses: BTreeMap::new(),
        meta: None,
        weights: Weights::default(),
        enable_tag_override: false,
        kind: String::new(),
        proxy: Value::Null,
        connect: Value::Null,
        owner: Owner::Agent,
        from_file: false,
    }
}

/// A passing check of an instance, or of the host if `of` is empty.
pub(crate) fn check(node: &str, id: &str, of: &str) -> Check {
    Check {
        node: node_key(node),
        id: check_id(id),
        name: String::new(),
        status: Status::Passing,
        notes: String::new(),
        output: String::new(),
        service: InstanceId::new(of).ok(),
        kind: String::new(),
        probe: None,
        interval: String::new(),
        timeout: String::new(),
        definition: Value::Null,
        owner: Owner::Agent,
        from_file: false,
    }
}

pub(crate) fn ttl_check(node: &str, id: &str, of: &str) -> Check {
    Check { probe: Some(probe(ProbeKind::Ttl { ttl: Duration::from_secs(10) })), ..check(node, id, of) }
}

pub(crate) fn tcp_check(node: &str, id: &str, of: &str) -> Check {
    Check { probe: Some(tcp("10.0.0.1:80")), ..check(node, id, of) }
}

pub(crate) fn tcp(address: &str) -> Arc<Probe> {
    probe(ProbeKind::Tcp { address: address.into(), tls: None })
}

fn probe(kind: ProbeKind) -> Arc<Probe> {
    Arc::new(Probe::new(kind, Duration::ZERO, Duration::ZERO))
}

pub(crate) fn node_key(name: &str) -> NodeKey {
    NodeKey::new(name).unwrap()
}

pub(crate) fn instance_id(id: &str) -> InstanceId {
    InstanceId::new(id).unwrap()
}

pub(crate) fn check_id(id: &str) -> CheckId {
    CheckId::new(id).unwrap()
}

pub(crate) fn key(key: &str) -> Key {
    Key::new(key).unwrap()
}

pub(crate) fn put(name: &str, value: &str) -> Command {
    Command::KvPut { key: key(name), value: value.to_owned().into(), flags: 0, cas: None, ttl: Duration::ZERO }
}

pub(crate) fn delete(name: &str) -> Command {
    Command::KvDelete { key: key(name), cas: None }
}

/// A catalog registration.
pub(crate) fn register(node: Node, instance: Option<Instance>, checks: Vec<Check>) -> Command {
    Command::Register { node, keep_node: false, instance: instance.map(Box::new), checks }
}

/// The host alone.
pub(crate) fn host(name: &str) -> Command {
    register(node(name, ""), None, vec![])
}

/// The agent's registration of an instance; checks that are not listed go.
pub(crate) fn own(instance: Instance, checks: Vec<Check>) -> Command {
    Command::RegisterInstance { instance: instance.into(), checks, replace_checks: true }
}

pub(crate) fn own_check(check: Check) -> Command {
    Command::RegisterCheck { check: check.into() }
}

pub(crate) fn report(node: &str, check: &str, status: Status, output: &str) -> Command {
    Command::ReportTtl { node: node_key(node), check: check_id(check), status, output: output.into() }
}

pub(crate) fn expire(node: &str, check: &str) -> Command {
    Command::ExpireTtl { node: node_key(node), check: check_id(check) }
}

pub(crate) fn probed(node: &str, check: &str, probe: &Arc<Probe>, status: Status, output: &str) -> Command {
    let (node, check, output) = (node_key(node), check_id(check), output.into());
    Command::ProbeResult { node, check, probe: probe.clone(), status, output }
}

/// `n` is a host, `n/i/ID` an instance and `n/c/ID` a check.
pub(crate) fn target(path: &str) -> (NodeKey, Target) {
    match path.split('/').collect::<Vec<_>>()[..] {
        [node] => (node_key(node), Target::Node),
        [node, "i", id] => (node_key(node), Target::Instance(instance_id(id))),
        [node, "c", id] => (node_key(node), Target::Check(check_id(id))),
        _ => panic!("{path} is no target"),
    }
}

pub(crate) fn deregister(path: &str) -> Command {
    let (node, target) = target(path);
    Command::Deregister { node, target }
}

pub(crate) fn deregister_own(path: &str) -> Command {
    let (node, target) = target(path);
    Command::DeregisterOwn { node, target }
}

pub(crate) fn session_id(id: &str) -> SessionId {
    SessionId::new(id).unwrap()
}

/// On the host `n`, with a delay of 15 s, and depending on no check.
pub(crate) fn session(id: &str) -> Session {
    Session {
        id: session_id(id),
        name: String::new(),
        node: node_key("n"),
        lock_delay: Duration::from_secs(15),
        behavior: Behavior::Release,
        ttl_text: String::new(),
        ttl: Duration::ZERO,
        node_checks: vec![],
        service_checks: None,
        ending: false,
    }
}

pub(crate) fn create(session: Session) -> Command {
    Command::CreateSession { session: session.into() }
}

pub(crate) fn lock(name: &str, session: &str) -> Command {
    let (key, session) = (key(name), session_id(session));
    Command::KvLock { key, value: "locked".into(), flags: 0, session, delayed: false }
}

pub(crate) fn unlock(name: &str, session: &str) -> Command {
    Command::KvUnlock { key: key(name), value: "free".into(), flags: 0, session: session_id(session) }
}
