//! Who is silent: hosts, or the registry that hears nobody. Pure.
//!
//! A host keeps its check alive three times in its TTL. Where it dies it is one among many. Where more than half fall
//! silent at about the same time it is rather the registry's own link that is gone, and what they run is as it was: to
//! call all of it dead would take down what works.

use std::time::Duration;

use crate::{
    State,
    health::Status,
    row::{Check, Owner},
};

/// The check by which an agent shows that it lives. Agents judge each other by what they share, not by who calls whom.
const AGENT: &str = "serfHealth";

/// How much of the hosts' word is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// Hosts whose word did not come when it was to.
    pub silent: usize,
    /// All that are alive as far as anybody knows.
    pub hosts: usize,
}

impl Silence {
    /// Of hosts that each have the first of its time, the second, left; none if it is over.
    pub fn of(hosts: impl IntoIterator<Item = (Duration, Duration)>) -> Self {
        hosts.into_iter().fold(Self::default(), |Self { silent, hosts }, (left, ttl)| Self {
            // Half of it is more than one word that came late.
            silent: silent + usize::from(left < ttl / 2),
            hosts: hosts + 1,
        })
    }

    /// Whether it is the registry that is cut off. One host alone proves nothing: then it is that host.
    pub fn is_ours(self) -> bool {
        self.silent > 1 && 2 * self.silent > self.hosts
    }
}

/// The checks by which hosts without an agent are kept alive, and have not lapsed.
pub fn hosts(state: &State) -> impl Iterator<Item = &Check> {
    state.nodes().filter_map(|(node, _)| state.node_level_checks(node).map(|check| &check.value).find(|c| is_word(c)))
}

/// Whether it is such a check.
pub fn is_word(check: &Check) -> bool {
    check.ttl().is_some()
        && check.service.is_none()
        && check.owner == Owner::External
        && check.status != Status::Critical
        && check.id.as_str() != AGENT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_at_once_is_our_own_silence() {
        let check = |left: &[u64], is_ours: bool| {
            let silence = Silence::of(left.iter().map(|left| (Duration::from_secs(*left), Duration::from_secs(15))));
            assert_eq!(silence.is_ours(), is_ours, "{left:?}: {silence:?}");
        };
        check(&[], false);
        check(&[0], false);
        // Each word is renewed with ten of fifteen seconds left, or late.
        check(&[0, 14], false);
        check(&[0, 8], false);
        check(&[0, 7], true);
        check(&[0, 4, 15], true);
        check(&[0, 2, 15, 11], false);
        check(&[0, 2, 5, 11], true);
        check(&[0, 0, 0, 12, 13, 14, 15], false);
        check(&[0, 1, 2, 3, 13, 14, 15], true);
    }
}
