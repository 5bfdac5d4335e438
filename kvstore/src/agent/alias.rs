//! What an alias check says: the worst of the checks it stands for. Pure.

use std::collections::HashSet;

use kvstore_core::{
    State,
    health::Status,
    names::{CheckId, InstanceId, NodeKey},
    row::{Check, ProbeKind},
};

/// The status and output of the alias check `own`, which stands for `service` on `node`, or for `node` itself.
///
/// It never counts itself. Another alias check counts by what it stands for rather than by its row, so that two that
/// stand for each other do not keep each other critical for ever.
pub(super) fn judge(
    state: &State,
    own: (&NodeKey, &CheckId),
    node: &NodeKey,
    service: Option<&InstanceId>,
) -> (Status, String) {
    let mut seen = HashSet::from([(own.0.clone(), own.1.clone())]);
    worst(state, node, service, &mut seen)
}

type Seen = HashSet<(NodeKey, CheckId)>;

fn worst(state: &State, node: &NodeKey, service: Option<&InstanceId>, seen: &mut Seen) -> (Status, String) {
    if let Some(id) = service
        && state.instance(node, id).is_none()
    {
        return (Status::Critical, format!("Service {id} could not be found on node {node}"));
    }
    if state.node(node).is_none() {
        return (Status::Critical, format!("Node {node} could not be found"));
    }
    let mut result = (Status::Passing, "No checks found.".to_owned());
    for check in state.node_level_checks(node).chain(service.into_iter().flat_map(|id| state.checks_of(node, Some(id))))
    {
        if !seen.insert((check.node.clone(), check.id.clone())) {
            continue;
        }
        let (status, output) = of(state, check, seen);
        if status > result.0 {
            result = (status, format!("Aliased check \"{}\" failing: {output}", check.name));
        } else if result.0 == Status::Passing {
            "All checks passing.".clone_into(&mut result.1);
        }
    }
    result
}

fn of(state: &State, check: &Check, seen: &mut Seen) -> (Status, String) {
    match check.probe.as_deref().map(|probe| &probe.kind) {
        Some(ProbeKind::Alias { node, service }) => worst(state, node, service.as_ref(), seen),
        _ => (check.status, check.output.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kvstore_core::{
        Command, Index, decide,
        row::{Instance, Node, Owner, Probe},
    };
    use serde_json::json;

    use super::*;

    fn node(name: &str) -> NodeKey {
        NodeKey::new(name).unwrap()
    }

    /// Puts checks, each `NODE INSTANCE ID STATUS`; `-` for no instance. `alias:NODE/INSTANCE` as status is an alias check.
    fn state(checks: &[&str]) -> State {
        let mut state = State::empty(Index(1));
        for line in checks {
            let [on, of, id, status] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let row = json!({"node": on, "id": id, "name": id, "status": Status::parse(status).unwrap_or(Status::Critical),
                "output": format!("says {id}"), "owner": Owner::Agent});
            let mut check: Check = serde_json::from_value(row).unwrap();
            check.service = InstanceId::new(of).ok().filter(|_| of != "-");
            check.probe = status.strip_prefix("alias:").map(|target| {
                let (node_name, service) = target.split_once('/').unwrap();
                let kind = ProbeKind::Alias { node: node(node_name), service: InstanceId::new(service).ok() };
                Arc::new(Probe::new(kind, std::time::Duration::ZERO, std::time::Duration::ZERO))
            });
            let host: Node = serde_json::from_value(json!({"name": on, "address": "10.0.0.1"})).unwrap();
            let instance: Option<Instance> =
                (of != "-").then(|| serde_json::from_value(json!({"node": on, "id": of, "service": of})).unwrap());
            let command = Command::Register {
                node: host,
                keep_node: true,
                instance: instance.map(Box::new),
                checks: if id == "-" { vec![] } else { vec![check] },
            };
            let decision = decide(&state, &command).unwrap();
            state.apply(state.index().next(), &decision.changes);
        }
        state
    }

    #[test]
    fn the_worst_of_the_target_counts_and_never_itself() {
        use Status::{Critical, Passing, Warning};
        let all = "All checks passing.";
        for (checks, target, status, output) in [
            (&["n web - passing"][..], "n/web", Passing, "No checks found."),
            (&["n web a passing"], "n/web", Passing, all),
            (&["n web a warning"], "n/web", Warning, "Aliased check \"a\" failing: says a"),
            (
                &["n web a warning", "n web b critical", "n web c passing"],
                "n/web",
                Critical,
                "Aliased check \"b\" failing: says b",
            ),
            (&["n web a passing", "n web b warning"], "n/web", Warning, "Aliased check \"b\" failing: says b"),
            // Checks of the host count, those of other instances and hosts do not.
            (&["n web a passing", "n - host critical"], "n/web", Critical, "Aliased check \"host\" failing: says host"),
            (&["n web a passing", "n db x critical", "m - y critical"], "n/web", Passing, all),
            (&["n - host passing", "n db x critical"], "n/", Passing, all),
            // What is not there is critical.
            (&["n db a passing"], "n/web", Critical, "Service web could not be found on node n"),
            (&["n web a passing"], "m/", Critical, "Node m could not be found"),
            // Itself on its own host, and two that stand for each other.
            (&["n web a passing", "n - self alias:n/web"], "n/web", Passing, all),
            (&["n web a passing", "n - self alias:n/web", "n - other alias:n/web"], "n/web", Passing, all),
            (&["n web other alias:m/db", "m db back alias:n/web"], "n/web", Passing, all),
            (
                &["n web other alias:m/db", "m db bad critical"],
                "n/web",
                Critical,
                "Aliased check \"other\" failing: Aliased check \"bad\" failing: says bad",
            ),
        ] {
            let state = state(checks);
            let (on, service) = target.split_once('/').unwrap();
            let own = (&node("n"), &CheckId::new("self").unwrap());
            let found = judge(&state, own, &node(on), InstanceId::new(service).ok().as_ref());
            assert_eq!(found, (status, output.to_owned()), "{checks:?} {target}");
        }
    }
}
