//! What the list of containers tells about one of them, to see whether a look at it is needed. Pure.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};

use crate::container::{Container, Endpoint, HealthState};

/// The facts that a list tells, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Brief {
    name: String,
    paused: bool,
    health: Option<HealthState>,
    networks: BTreeMap<String, Endpoint>,
}

impl Brief {
    pub(super) fn of(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            paused: container.paused,
            health: container.health.as_ref().map(|health| health.state),
            networks: container.networks.clone(),
        }
    }

    /// Whether the list tells of a change. What it does not tell counts as unchanged.
    pub(super) fn fits(&self, listed: &ContainerSummary) -> bool {
        let name = format!("/{}", self.name);
        let networks = listed.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
        let same_networks = |networks: &HashMap<String, _>| {
            networks.len() == self.networks.len()
                && networks.iter().all(|(name, e)| self.networks.get(name) == Some(&Endpoint::from_docker(e)))
        };
        let paused = listed.state.map(|state| state == ContainerSummaryStateEnum::PAUSED);
        !has_ended(listed)
            && listed.names.as_ref().is_none_or(|names| names.contains(&name))
            && paused.is_none_or(|paused| paused == self.paused)
            && networks.is_none_or(same_networks)
            && listed.status.as_deref().is_none_or(|status| self.health == listed_health(status))
    }
}

/// No process of it is there, and none is about to be.
pub(super) fn has_ended(listed: &ContainerSummary) -> bool {
    use ContainerSummaryStateEnum as State;
    matches!(listed.state, Some(State::CREATED | State::EXITED | State::DEAD | State::REMOVING))
}

/// `Up 5 minutes (healthy)`
fn listed_health(status: &str) -> Option<HealthState> {
    let (_, word) = status.rsplit_once('(')?;
    match word.trim_end_matches(')') {
        "healthy" => Some(HealthState::Healthy),
        "unhealthy" => Some(HealthState::Unhealthy),
        "health: starting" => Some(HealthState::Starting),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_tells_what_changed() {
        let patch = json!({"State": {"Health": {"Status": "healthy"}}});
        let brief = Brief::of(&crate::container::tests::container(&patch));
        let listed = |patch: &serde_json::Value| {
            let mut listed = json!({"Id": "4f1c", "Names": ["/web", "/other/alias"], "State": "running",
                "Status": "Up 5 minutes (healthy)", "NetworkSettings": {"Networks": {"bridge":
                    {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}}});
            crate::container::tests::merge(&mut listed, patch);
            serde_json::from_value::<ContainerSummary>(listed).unwrap()
        };
        for (patch, same) in [
            (json!({}), true),
            (json!({"Status": "Up 6 minutes (healthy)"}), true),
            (json!({"Names": null, "NetworkSettings": null, "Status": null}), true),
            (json!({"Names": ["/renamed"]}), false),
            (json!({"State": "paused"}), false),
            (json!({"Status": "Up 5 minutes (unhealthy)"}), false),
            (json!({"Status": "Up 5 minutes"}), false),
            (json!({"NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.3"}}}}), false),
            (json!({"NetworkSettings": {"Networks": {"more": {"IPAddress": ""}}}}), false),
        ] {
            assert_eq!(brief.fits(&listed(&patch)), same, "{patch}");
        }
    }
}
