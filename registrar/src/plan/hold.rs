//! Why an instance takes no work, and the checks that say so in the registry. Pure.

use kvstore_client::types::{CheckRegistration, CheckStatus};

use crate::checks::{MESSENGER_TTL, docker_check_id};

/// Why an instance takes no work although nothing is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It was told to stop and still serves what it has.
    Draining,
    /// Its processes are frozen.
    Paused,
    /// Its process has ended, and the entry is kept to show that.
    Exited,
}

impl Hold {
    const ALL: [Self; 3] = [Self::Draining, Self::Paused, Self::Exited];

    /// The check that keeps `service_id` out of use, on a genuine Consul too.
    pub fn check_id(self, service_id: &str) -> String {
        match self {
            Self::Draining => format!("_draining:{service_id}"),
            Self::Paused => format!("_paused:{service_id}"),
            Self::Exited => format!("_exited:{service_id}"),
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }

    /// The body of its check: critical from the first moment.
    pub fn check(self, service_id: &str) -> CheckRegistration {
        let (name, notes) = match self {
            Self::Draining => ("Draining", "The container was told to stop."),
            Self::Paused => ("Paused", "The container is paused."),
            Self::Exited => ("Exited", "The container's process has ended."),
        };
        CheckRegistration {
            check_id: self.check_id(service_id),
            name: name.into(),
            service_id: service_id.into(),
            notes: notes.into(),
            ..CheckRegistration::ttl(MESSENGER_TTL).starting_as(CheckStatus::Critical)
        }
    }
}

/// The check that keeps `service_id` out of use because somebody asked for that, for as long as the container with this
/// short id is there: templaters take it for draining, and it is no business of another container under the same id.
pub fn asked_check(service_id: &str, container: &str) -> CheckRegistration {
    CheckRegistration {
        check_id: asked_check_id(service_id, container),
        name: "Draining".into(),
        service_id: service_id.into(),
        notes: "Somebody asked for it by registrar drain.".into(),
        ..CheckRegistration::ttl(MESSENGER_TTL).starting_as(CheckStatus::Critical)
    }
}

/// The id of [`asked_check`].
pub fn asked_check_id(service_id: &str, container: &str) -> String {
    format!("{}:{container}", Hold::Draining.check_id(service_id))
}

/// Checks of `service_id` whose ids only we choose.
pub(super) fn is_ours(service_id: &str, check: &str) -> bool {
    let asked = || check.strip_prefix(&Hold::Draining.check_id(service_id)).is_some_and(|rest| rest.starts_with(':'));
    check == docker_check_id(service_id) || Hold::ALL.iter().any(|hold| check == hold.check_id(service_id)) || asked()
}
