//! What is carried from one registry to another: what there is and what we have -> what to do, and the report. Pure.

use std::collections::BTreeMap;

use kvstore_client::{
    KvWrite,
    types::{CatalogRegistration, HealthCheck, KvEntry, Meta, Node, NodeService, PreparedQuery},
};
use serde::Serialize;

/// So many things that were left are named; the rest is only counted.
const MAX_NAMED: usize = 1000;

/// The check that Consul keeps for each host with an agent.
const ALIVE: &str = "serfHealth";

/// What is to be done about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is written.
    Carry,
    /// It is there already.
    Same,
    /// Another one is there, and stays.
    Conflict,
}

/// About a thing that is `wanted`, where that is `there`.
pub(super) fn step<T: PartialEq>(wanted: &T, there: Option<&T>, overwrite: bool) -> Step {
    match there {
        None => Step::Carry,
        Some(there) if there == wanted => Step::Same,
        Some(_) if overwrite => Step::Carry,
        Some(_) => Step::Conflict,
    }
}

/// What becomes of one kind of thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tally {
    pub(super) found: usize,
    pub(super) carried: usize,
    /// There already.
    pub(super) same: usize,
    pub(super) left: usize,
}

/// A thing that was not carried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Left {
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) why: String,
}

/// What became of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Report {
    pub(super) kinds: BTreeMap<&'static str, Tally>,
    /// Some of what somebody has to look after.
    pub(super) left: Vec<Left>,
    /// How many there are beyond those.
    pub(super) left_unnamed: usize,
    /// What needs nothing: it comes by itself, or means nothing elsewhere.
    pub(super) by_design: Vec<String>,
}

impl Report {
    pub(super) fn count(&mut self, kind: &'static str, name: &str, step: Step) {
        let tally = self.kinds.entry(kind).or_default();
        tally.found += 1;
        match step {
            Step::Carry => tally.carried += 1,
            Step::Same => tally.same += 1,
            Step::Conflict => {
                tally.left += 1;
                self.name(kind, name, "another one is there; --overwrite replaces it");
            }
        }
    }

    /// Cannot be carried.
    pub(super) fn leave(&mut self, kind: &'static str, name: &str, why: &str) {
        let tally = self.kinds.entry(kind).or_default();
        (tally.found, tally.left) = (tally.found + 1, tally.left + 1);
        self.name(kind, name, why);
    }

    /// None of these `count` can be carried.
    pub(super) fn leave_all(&mut self, kind: &'static str, count: usize, why: &str) {
        let tally = self.kinds.entry(kind).or_default();
        (tally.found, tally.left) = (tally.found + count, tally.left + count);
        self.name(kind, "all", why);
    }

    fn name(&mut self, kind: &'static str, name: &str, why: &str) {
        if self.left.len() < MAX_NAMED {
            self.left.push(Left { kind, name: name.into(), why: why.into() });
        } else {
            self.left_unnamed += 1;
        }
    }

    /// Whether somebody has to look after something.
    pub(super) fn is_whole(&self) -> bool {
        self.left.is_empty()
    }
}

/// The writes that carry `found`, where `there` is. Locks and their sessions are not carried.
pub(super) fn keys(found: Vec<KvEntry>, there: &[KvEntry], overwrite: bool, report: &mut Report) -> Vec<KvWrite> {
    let there: BTreeMap<&str, &KvEntry> = there.iter().map(|entry| (entry.key.as_str(), entry)).collect();
    let mut writes = Vec::new();
    for entry in found {
        let other = there.get(entry.key.as_str());
        let content = |entry: &KvEntry| (entry.value.clone(), entry.flags);
        let step = step(&content(&entry), other.map(|other| content(other)).as_ref(), overwrite);
        report.count("keys", &entry.key, step);
        if step == Step::Carry {
            let cas = other.map_or(0, |other| other.modify_index);
            writes.push(KvWrite { key: entry.key, value: entry.value, flags: entry.flags, cas });
        }
    }
    writes
}

/// Parts of `writes` that one transaction takes each: so many keys, and of so many bytes. A larger value is alone.
pub(super) fn batches(writes: Vec<KvWrite>, max_keys: usize, max_bytes: usize) -> Vec<Vec<KvWrite>> {
    let mut batches: Vec<Vec<KvWrite>> = Vec::new();
    let mut bytes = 0;
    for write in writes {
        let size = write.key.len() + write.value.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < max_keys && bytes + size <= max_bytes => {
                bytes += size;
                batch.push(write);
            }
            _ => {
                bytes = size;
                batches.push(vec![write]);
            }
        }
    }
    batches
}

/// Whether a host has an agent, which registers what runs there by itself.
pub(super) fn has_agent(checks: &[HealthCheck]) -> bool {
    checks.iter().any(|check| check.check_id == ALIVE)
}

/// Whether it is the agent's own, and means nothing elsewhere.
pub(super) fn is_of_agent(service_id: &str, check_id: &str) -> bool {
    service_id == "consul" || check_id == ALIVE
}

/// What is registered of a host alone.
pub(super) fn of_node(node: &Node) -> CatalogRegistration {
    let given = |meta: &Option<Meta>| meta.clone().filter(|meta| !meta.is_empty());
    CatalogRegistration {
        id: node.id.clone(),
        node: node.node.clone(),
        address: node.address.clone(),
        tagged_addresses: given(&node.tagged_addresses),
        node_meta: given(&node.meta),
        ..CatalogRegistration::default()
    }
}

/// What of an instance its owner said.
pub(super) fn of_service(service: &NodeService) -> NodeService {
    NodeService {
        kind: service.kind.clone(),
        id: service.id.clone(),
        service: service.service.clone(),
        tags: service.tags.clone(),
        address: service.address.clone(),
        tagged_addresses: service.tagged_addresses.clone(),
        meta: Some(service.meta.clone().unwrap_or_default()),
        port: service.port,
        socket_path: service.socket_path.clone(),
        weights: Some(service.weights.unwrap_or_default()),
        enable_tag_override: service.enable_tag_override,
        ..NodeService::default()
    }
}

/// What of a check its owner said.
pub(super) fn of_check(check: &HealthCheck) -> HealthCheck {
    HealthCheck {
        node: check.node.clone(),
        check_id: check.check_id.clone(),
        name: check.name.clone(),
        status: check.status,
        notes: check.notes.clone(),
        output: check.output.clone(),
        service_id: check.service_id.clone(),
        definition: check.definition.clone(),
        ..HealthCheck::default()
    }
}

/// What of a query its owner said. Its id is another elsewhere, and its token is not shown to everybody.
pub(super) fn of_query(query: &PreparedQuery) -> PreparedQuery {
    PreparedQuery { id: String::new(), token: String::new(), create_index: 0, modify_index: 0, ..query.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(key: &str, value: &'static str, flags: u64, index: u64) -> KvEntry {
        let value = value.as_bytes().into();
        KvEntry {
            lock_index: 0,
            key: key.into(),
            flags,
            value,
            session: "s".into(),
            create_index: 1,
            modify_index: index,
        }
    }

    #[test]
    fn keys_are_carried_unless_they_are_there() {
        let found = || vec![entry("new", "1", 7, 3), entry("same", "1", 0, 3), entry("other", "1", 0, 3)];
        let there = [entry("same", "1", 0, 40), entry("other", "2", 0, 41)];
        let write = |key: &str, flags, cas| KvWrite { key: key.into(), value: "1".into(), flags, cas };
        let mut report = Report::default();
        assert_eq!(keys(found(), &there, false, &mut report), [write("new", 7, 0)]);
        assert_eq!(report.kinds["keys"], Tally { found: 3, carried: 1, same: 1, left: 1 });
        assert_eq!((report.left[0].name.as_str(), report.is_whole()), ("other", false));

        let mut report = Report::default();
        assert_eq!(keys(found(), &there, true, &mut report), [write("new", 7, 0), write("other", 0, 41)]);
        assert!(report.is_whole());
        // Flags are part of what is said.
        let mut report = Report::default();
        assert_eq!(keys(vec![entry("a", "1", 1, 1)], &[entry("a", "1", 2, 9)], false, &mut report), []);
        assert_eq!(report.kinds["keys"].left, 1);
    }

    #[test]
    fn a_batch_is_bounded_in_keys_and_bytes() {
        let check = |sizes: &[usize], want: &[usize]| {
            let write = |size: &usize| KvWrite { key: "k".into(), value: vec![0; *size].into(), flags: 0, cas: 0 };
            let batches = batches(sizes.iter().map(write).collect(), 3, 100);
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), want, "{sizes:?}");
        };
        check(&[], &[]);
        check(&[1, 1, 1, 1], &[3, 1]);
        check(&[60, 30, 30, 1], &[2, 2]);
        check(&[1, 500, 1], &[1, 1, 1]);
    }

    #[test]
    fn what_registries_add_of_their_own_is_no_difference() {
        let ours: NodeService =
            serde_json::from_value(json!({"ID": "i", "Service": "web", "Meta": {}, "CreateIndex": 8,
            "Weights": {"Passing": 1, "Warning": 1}, "Proxy": {"MeshGateway": {}}, "Connect": {}}))
            .unwrap();
        let theirs: NodeService = serde_json::from_value(json!({"ID": "i", "Service": "web", "Meta": null})).unwrap();
        assert_eq!(of_service(&ours), of_service(&theirs));
        let ours: Node = serde_json::from_value(json!({"Node": "n", "Meta": {}, "ModifyIndex": 3})).unwrap();
        let theirs: Node = serde_json::from_value(json!({"Node": "n", "Datacenter": "dc2"})).unwrap();
        assert_eq!(of_node(&ours), of_node(&theirs));
    }

    #[test]
    fn what_is_left_is_named_up_to_a_limit() {
        let mut report = Report::default();
        for n in 0..MAX_NAMED + 5 {
            report.leave("keys", &n.to_string(), "it is too large");
        }
        assert_eq!((report.left.len(), report.left_unnamed), (MAX_NAMED, 5));
        report.leave_all("sessions", 3, "x");
        assert_eq!(report.kinds["sessions"], Tally { found: 3, left: 3, ..Tally::default() });
    }
}
