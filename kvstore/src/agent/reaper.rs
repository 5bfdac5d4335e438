//! When instances go because a check of theirs stays critical. Pure: times are given.

use std::{collections::HashMap, sync::Arc};

use kvstore_core::{
    Command,
    health::Status,
    names::{CheckId, NodeKey},
    row::{Check, Stamped},
};
use tokio::time::Instant;

/// Since when checks are critical, of those that take their instance with them.
///
/// The time counts from when this agent first saw it: after a restart it begins anew, because nobody could report, and
/// nothing was probed, while the agent was away.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    since: HashMap<(NodeKey, CheckId), Instant>,
}

impl Reaper {
    /// Looks at `checks` at `now`. `counts` says whether a check is this reaper's, and its status was found in this life
    /// of the agent; one that was not may be of long ago. Gives what is to go now and when to look again.
    pub(super) fn look<'a>(
        &mut self,
        checks: impl Iterator<Item = &'a Arc<Stamped<Check>>>,
        counts: impl Fn(&Check) -> bool,
        now: Instant,
    ) -> (Vec<Command>, Option<Instant>) {
        let mut since = HashMap::new();
        let (mut due, mut next) = (Vec::new(), None);
        for check in checks {
            let Some(probe) = check.probe.as_ref().filter(|probe| !probe.deregister_after.is_zero()) else { continue };
            if check.service.is_none() || check.status != Status::Critical || !counts(check) {
                continue;
            }
            let key = (check.node.clone(), check.id.clone());
            let first = self.since.get(&key).copied().unwrap_or(now);
            // A time beyond what clocks can say never comes.
            let Some(at) = first.checked_add(probe.deregister_after) else { continue };
            since.insert(key.clone(), first);
            if at <= now {
                let ((node, check), probe) = (key, probe.clone());
                due.push(Command::ReapCritical { node, check, probe });
            } else {
                next = Some(next.map_or(at, |next: Instant| next.min(at)));
            }
        }
        self.since = since;
        (due, next)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kvstore_core::{Index, State, decide, row::Node};
    use serde_json::json;

    use super::*;

    /// A host with instance `i` and check `c` of it, which allows it to go after 10 s.
    fn state(check: &serde_json::Value) -> State {
        let node: Node = serde_json::from_value(json!({"name": "n", "address": "10.0.0.1"})).unwrap();
        let instance = serde_json::from_value(json!({"node": "n", "id": "i", "service": "web"})).unwrap();
        let mut row = json!({"node": "n", "id": "c", "service": "i", "status": "critical", "owner": "agent",
            "probe": {"kind": {"ttl": {"ttl": 1}}, "deregister_after": 10_000}});
        row.as_object_mut().unwrap().extend(check.as_object().unwrap().clone());
        let checks = vec![serde_json::from_value(row).unwrap()];
        let command = Command::Register { node, keep_node: false, instance: Some(Box::new(instance)), checks };
        let mut state = State::empty(Index(1));
        let decision = decide(&state, &command).unwrap();
        state.apply(Index(2), &decision.changes);
        state
    }

    #[test]
    fn the_time_counts_from_when_it_was_first_critical() {
        let (node, start) = (NodeKey::new("n").unwrap(), Instant::now());
        let (critical, passing) = (state(&json!({})), state(&json!({"status": "passing"})));
        let mut reaper = Reaper::default();
        // Seconds, what is seen, how many are due, and in how many seconds from the start to look again.
        for (at, state, judged, due, next) in [
            (0, &critical, false, 0, None),
            (1, &critical, true, 0, Some(11)),
            (5, &critical, true, 0, Some(11)),
            (6, &passing, true, 0, None),
            (7, &critical, true, 0, Some(17)),
            (16, &critical, true, 0, Some(17)),
            (17, &critical, true, 1, None),
            // Not taken: it stays due.
            (18, &critical, true, 1, None),
        ] {
            let s = |s| start + Duration::from_secs(s);
            let (commands, again) = reaper.look(state.checks_on(&node), |_| judged, s(at));
            assert_eq!((commands.len(), again), (due, next.map(s)), "{at}");
        }
    }

    #[test]
    fn only_critical_checks_of_instances_count() {
        let node = NodeKey::new("n").unwrap();
        for check in [
            json!({"status": "warning"}),
            json!({"service": null}),
            json!({"probe": null}),
            json!({"probe": {"kind": {"ttl": {"ttl": 1}}}}),
            json!({"probe": {"kind": {"ttl": {"ttl": 1}}, "deregister_after": u64::MAX}}),
        ] {
            let (commands, next) = Reaper::default().look(state(&check).checks_on(&node), |_| true, Instant::now());
            assert!(commands.is_empty() && (next.is_none() || check["probe"].is_object()), "{check}");
        }
    }
}
