//! `?for=ADDRESS`: the instances of a service that go with the version of who has that address, as in DNS.

use std::net::IpAddr;

use kvstore_core::{
    InstanceView, State, WatchKey,
    names::ServiceKey,
    version::{CALLERS, Callers, choose, release_key, version_of},
};

use super::{App, Call, error::ApiError};

/// For whom a service is asked about; for nobody in particular unless that is said.
pub(super) struct For {
    service: ServiceKey,
    caller: Option<(Callers, IpAddr)>,
}

impl For {
    pub(super) fn of(app: &App, call: &Call, service: &ServiceKey) -> Result<Self, ApiError> {
        let address = |text: &str| {
            let wrong = || ApiError::BadRequest(format!("Invalid address for ?for: {text:?} is not an IP address"));
            text.parse::<IpAddr>().map_err(|_| wrong())
        };
        let from = call.query.get("for").map(address).transpose()?;
        let caller = app.about.callers.clone().zip(from);
        Ok(Self { service: service.clone(), caller })
    }

    pub(super) fn is_somebody(&self) -> bool {
        self.caller.is_some()
    }

    /// What else is waited on: the live version, and what is known about the caller at present.
    pub(super) fn keys(&self, state: &State) -> Vec<WatchKey> {
        let Some((callers, from)) = &self.caller else { return Vec::new() };
        let nodes = callers.here.clone().into_iter().chain(callers.nodes(state, *from));
        let mut keys = vec![WatchKey::Key(release_key(&self.service)), WatchKey::KeyPrefix(CALLERS.to_owned())];
        keys.extend(nodes.map(WatchKey::Node));
        keys
    }

    /// Those of `found` that the caller gets.
    pub(super) fn choose<'a>(&self, state: &'a State, found: Vec<InstanceView<'a>>) -> Vec<InstanceView<'a>> {
        let Some((callers, from)) = &self.caller else { return found };
        match choose(state, &self.service, found.iter().copied(), callers.version(state, *from)) {
            Some(version) => found.into_iter().filter(|view| version_of(view.instance) == Some(version)).collect(),
            None => found,
        }
    }
}
