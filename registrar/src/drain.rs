//! `registrar drain`: has a container take no new work before it is stopped, for programs that close at once when they
//! are told to.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use crate::{
    Error,
    config::Config,
    container::Container,
    docker::Connection,
    plan::{Action, META_CONTAINER, Mark, Owner, asked_check_id},
    registry::Registry,
};

/// Between two looks whether the container has ended.
const LOOK: Duration = Duration::from_millis(200);

/// A container that was asked to take no new work, or to take it again.
pub struct Asked {
    docker: Connection,
    registry: Registry,
    mark: Mark,
    address: IpAddr,
    container: Container,
    /// What is registered for it.
    pub instances: BTreeSet<String>,
}

/// Says in the registry that the container takes no new work, or with `undo` that it does again.
///
/// # Errors
/// [`Error`]; some instances may have been told already.
pub async fn ask(config: &Config, name: &str, undo: bool) -> Result<Asked, Error> {
    let (docker, identity) = Connection::open(&config.docker).await?;
    let container = docker.find(name).await?.ok_or_else(|| Error::NoContainer(name.to_owned()))?;
    let registry = config.registry()?;
    let mark = identity.mark("-");
    let address = registry.own_address().await?.main;
    let registered = registry.view(&mark).await?;
    let short = container.short_id();
    // Another run of this command has not got the registrar's own state, so Docker's half of the mark has to do.
    let of_it = registered.into_iter().filter(|(_, actual)| {
        matches!(mark.judge(&actual.meta), Owner::Us | Owner::Forgotten)
            && actual.meta.get(META_CONTAINER).is_some_and(|id| id == short)
    });
    let mut instances = BTreeSet::new();
    for (id, actual) in of_it {
        let check = asked_check_id(&id, short);
        match (undo, actual.checks.contains_key(&check)) {
            (false, false) => registry.perform(&id, &Action::Ask(short.to_owned()), address).await?,
            (true, true) => registry.perform(&id, &Action::DropCheck(check), address).await?,
            _ => {}
        }
        instances.insert(id);
    }
    if instances.is_empty() {
        return Err(Error::NothingRegistered(container.name));
    }
    Ok(Asked { docker, registry, mark, address, container, instances })
}

impl Asked {
    /// Gives what is being served `time` to finish; less if the container ends before.
    ///
    /// # Errors
    /// [`Error::Docker`], [`Error::View`], [`Error::Registry`]
    pub async fn wait(&self, time: Duration) -> Result<(), Error> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.still_runs().await? {
                return Ok(());
            }
            self.insist().await?;
            sleep(LOOK.min(left)).await;
        }
    }

    /// A registrar that did not know of it yet may have registered the instance anew, without it.
    async fn insist(&self) -> Result<(), Error> {
        let registered = self.registry.view(&self.mark).await?;
        for id in &self.instances {
            let check = asked_check_id(id, self.container.short_id());
            if registered.get(id).is_some_and(|actual| !actual.checks.contains_key(&check)) {
                let ask = Action::Ask(self.container.short_id().to_owned());
                self.registry.perform(id, &ask, self.address).await?;
            }
        }
        Ok(())
    }

    async fn still_runs(&self) -> Result<bool, Error> {
        let answer = self.docker.inspect(&self.container.id).await?;
        let now = answer.and_then(Result::ok);
        Ok(now.is_some_and(|now| now.running && now.started == self.container.started))
    }
}
