//! How containers are registered, as far as that is configured.

use crate::{
    address::HostAddress,
    docker::Identity,
    mapping::{Choices, Policy},
    plan::Mark,
    registry::Place,
};

/// The part of a [`Policy`] that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// Where containers are registered.
    pub place: Place,
    /// In place of Docker's name for the host.
    pub host_id: Option<String>,
    /// What holds for all containers.
    pub choices: Choices,
}

impl PolicySettings {
    /// What follows for a certain Docker and address.
    pub fn policy(&self, identity: &Identity, address: HostAddress, address_is_forced: bool, mark: Mark) -> Policy {
        let host = self.host_id.clone().unwrap_or_else(|| identity.host.clone());
        Policy {
            host: if host.is_empty() { "localhost".into() } else { host },
            address: address.main,
            other_address: address.other,
            address_is_forced,
            choices: self.choices.clone(),
            probes_are_run: matches!(self.place, Place::Agent),
            boot: identity.boot.clone(),
            mark,
        }
    }
}
