//! Our side of the registry's API: one call per action, and what it holds for this host. [`follow`] sends views of that.

pub mod follow;

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use kvstore_client::{
    Client, Error, GoDuration,
    types::{
        CatalogDeregistration, CatalogRegistration, CheckDefinition, CheckRegistration, CheckStatus, CheckUpdate,
        HealthCheck, NodeService, ServiceRegistration,
    },
};
use tokio::sync::Notify;
use tracing::warn;
use uuid::Uuid;

use crate::{
    address::{Family, HostAddress, Source},
    checks::{MESSENGER_TTL, docker_check_id},
    plan::{Action, Actual, META_MARK, Mark, Registered, asked_check, registered},
};

/// The check that says whether a host's registrar lives.
const NODE_CHECK: &str = "registrar";

/// Where this host's instances are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// With the agent's own node, which also runs their checks.
    Agent,
    /// In the catalog under a node of their own, which is alive for as long as we say so.
    Node {
        /// Its name.
        name: String,
        /// How long our word holds.
        ttl: Duration,
    },
}

/// The registry.
pub struct Registry {
    client: Client,
    place: Place,
    /// Where this host's address comes from, and of which family it is.
    source: Source,
    family: Family,
    /// Whether it was seen to refuse a TTL, as one does that keeps strictly to Consul.
    keeps_no_time: AtomicBool,
    /// Set to have a view at once.
    pub look: Notify,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages say it
pub enum Trouble {
    #[error(transparent)]
    Call(#[from] Error),
    #[error("node {node} is kept by another registrar, {other}; this one is {ours} and waits until that one is gone")]
    Rival { node: String, other: String, ours: String },
    #[error("cannot tell this host's address, also not on the way to the registry at {registry}; give it by --ip")]
    Address {
        registry: String,
        #[source]
        source: std::io::Error,
    },
}

impl Registry {
    /// Nothing is sent yet.
    pub fn new(client: Client, place: Place, source: Source, family: Family) -> Self {
        Self { client, place, source, family, keeps_no_time: AtomicBool::new(false), look: Notify::new() }
    }

    /// Where this host's instances are kept.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What talks to it.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Does `action` about `id`.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn perform(&self, id: &str, action: &Action, address: IpAddr) -> Result<(), Error> {
        match &self.place {
            Place::Agent => self.perform_at_agent(id, action).await,
            Place::Node { name, .. } => self.perform_in_catalog(name, id, action, address).await,
        }
    }

    pub(crate) async fn perform_at_agent(&self, id: &str, action: &Action) -> Result<(), Error> {
        match action {
            Action::Register(service) => self.client.register_service(service).await,
            Action::Report(update) => self.client.update_check(&docker_check_id(id), update).await,
            Action::Hold(hold) => self.client.register_check(&hold.check(id)).await,
            Action::Ask(container) => self.client.register_check(&asked_check(id, container)).await,
            Action::DropCheck(check) => self.client.deregister_check(check).await,
            Action::Deregister => self.client.deregister_service(id).await,
        }
    }

    async fn perform_in_catalog(&self, node: &str, id: &str, action: &Action, address: IpAddr) -> Result<(), Error> {
        let put =
            CatalogRegistration { node: node.into(), address: address.to_string(), ..CatalogRegistration::default() };
        let remove = CatalogDeregistration { node: node.into(), ..CatalogDeregistration::default() };
        match action {
            Action::Register(service) => {
                let checks = service.checks.iter().map(|check| catalog_check(node, id, check)).collect();
                let service = Some(node_service(service));
                self.client.catalog_register(&CatalogRegistration { service, checks, ..put }).await
            }
            Action::Report(update) => {
                let check = Some(catalog_report(node, id, update));
                self.client.catalog_register(&CatalogRegistration { check, ..put }).await
            }
            Action::Hold(hold) => {
                let check = Some(catalog_check(node, id, &hold.check(id)));
                self.client.catalog_register(&CatalogRegistration { check, ..put }).await
            }
            Action::Ask(container) => {
                let check = Some(catalog_check(node, id, &asked_check(id, container)));
                self.client.catalog_register(&CatalogRegistration { check, ..put }).await
            }
            Action::DropCheck(check) => {
                let check_id = check.clone();
                self.client.catalog_deregister(&CatalogDeregistration { check_id, ..remove }).await
            }
            Action::Deregister => {
                let service_id = id.to_owned();
                self.client.catalog_deregister(&CatalogDeregistration { service_id, ..remove }).await
            }
        }
    }

    /// After everything of ours is removed for good: the node goes too, unless it holds instances of others.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn leave(&self) -> Result<(), Error> {
        let Place::Node { name, .. } = &self.place else { return Ok(()) };
        let left = self.client.catalog_node(name, None).await?.value;
        let empty = left.is_none_or(|node| node.services.is_empty());
        let check_id = if empty { String::new() } else { NODE_CHECK.to_owned() };
        let node = name.clone();
        self.client.catalog_deregister(&CatalogDeregistration { node, check_id, ..Default::default() }).await
    }

    /// Registers an entry that passes no check, and removes it again: to see whether we may. It carries `mark`, so that
    /// the next run removes what a broken connection has left.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn try_writing(&self, mark: &Mark, address: IpAddr) -> Result<(), Error> {
        let id = format!("registrar-doctor:{}", Uuid::new_v4());
        let is_new = match &self.place {
            Place::Agent => false,
            Place::Node { name, .. } => self.client.catalog_node(name, None).await?.value.is_none(),
        };
        self.perform(&id, &Action::Register(Box::new(trial(&id, mark, address))), address).await?;
        match self.perform(&id, &Action::Deregister, address).await {
            // A registrar that runs has been quicker.
            Err(error) if error.status() == Some(404) => {}
            removed => removed?,
        }
        if is_new { self.leave().await } else { Ok(()) }
    }

    /// All that it holds for this host, of any owner.
    ///
    /// # Errors
    /// [`Trouble`]
    pub async fn view(&self, mark: &Mark) -> Result<Registered, Trouble> {
        match &self.place {
            Place::Agent => Ok(self.of_agent().await?),
            Place::Node { name, .. } => {
                let (node, checks) =
                    tokio::try_join!(self.client.catalog_node(name, None), self.client.health_node(name, None))?;
                if let Some(other) = rival(&checks.value, mark) {
                    return Err(Trouble::Rival { node: name.clone(), other, ours: mark.to_string() });
                }
                let services = node.value.map(|node| node.services).unwrap_or_default();
                let services = services.into_iter().map(|(id, service)| (id, Actual::from(service)));
                Ok(registered(services, checks.value))
            }
        }
    }

    /// All that the agent's own node has, of any owner.
    pub(crate) async fn of_agent(&self) -> Result<Registered, Error> {
        let (services, checks) = tokio::try_join!(self.client.agent_services(), self.client.agent_checks())?;
        let services = services.into_iter().map(|(id, service)| (id, Actual::from(service)));
        Ok(registered(services, checks.into_values()))
    }

    /// Says that this host lives.
    async fn announce(&self, mark: &Mark, address: IpAddr) -> Result<(), Error> {
        let Place::Node { name, ttl } = &self.place else { return Ok(()) };
        let ttl = Some(*ttl).filter(|_| !self.keeps_no_time.load(Ordering::Relaxed));
        let told = self.client.catalog_register(&word(name, ttl, mark, address)).await;
        if !matches!(told, Err(Error::Status { status: 400, .. })) || ttl.is_none() {
            return told;
        }
        self.client.catalog_register(&word(name, None, mark, address)).await?;
        self.keeps_no_time.store(true, Ordering::Relaxed);
        warn!(
            node = name,
            "the registry takes no TTL here; should this host vanish without a word, its node stays passing"
        );
        Ok(())
    }

    /// This host's address just now.
    ///
    /// # Errors
    /// [`Trouble::Address`]
    pub async fn own_address(&self) -> Result<HostAddress, Trouble> {
        let registry = self.client.address();
        let found = self.source.resolve(self.family, registry).await;
        found.map_err(|source| Trouble::Address { registry: registry.to_owned(), source })
    }

    /// The node that this host's instances are on.
    pub(crate) async fn node_name(&self) -> Result<String, Error> {
        match &self.place {
            Place::Node { name, .. } => Ok(name.clone()),
            Place::Agent => {
                let agent = self.client.agent_self().await?;
                Ok(agent["Config"]["NodeName"].as_str().unwrap_or_default().to_owned())
            }
        }
    }
}

/// What to do about a refusal.
pub(crate) fn token_hint(error: &Error) -> &'static str {
    match error.status() {
        Some(401 | 403) => "; give a token that may do this by --token or --token-file",
        _ => "",
    }
}

fn trial(id: &str, mark: &Mark, address: IpAddr) -> ServiceRegistration {
    let critical = CheckRegistration {
        check_id: format!("service:{id}"),
        name: "Nobody is led here".into(),
        ..CheckRegistration::ttl(MESSENGER_TTL).starting_as(CheckStatus::Critical)
    };
    ServiceRegistration {
        id: id.into(),
        name: "registrar-doctor".into(),
        address: address.to_string(),
        meta: [(META_MARK.into(), mark.to_string())].into(),
        checks: vec![critical],
        ..ServiceRegistration::default()
    }
}

/// That the host is alive, for as long as `ttl` says, or until something else is said.
fn word(node: &str, ttl: Option<Duration>, mark: &Mark, address: IpAddr) -> CatalogRegistration {
    let check = HealthCheck {
        node: node.into(),
        check_id: NODE_CHECK.into(),
        name: "Registrar".into(),
        status: CheckStatus::Passing,
        notes: mark.to_string(),
        kind: "ttl".into(),
        definition: CheckDefinition { ttl: ttl.map(GoDuration), ..CheckDefinition::default() },
        ..HealthCheck::default()
    };
    CatalogRegistration {
        node: node.into(),
        address: address.to_string(),
        check: Some(check),
        ..CatalogRegistration::default()
    }
}

/// The mark of another registrar that keeps this node alive. One of the same Docker is our own former self.
fn rival(checks: &[HealthCheck], mark: &Mark) -> Option<String> {
    let live = |check: &&HealthCheck| check.check_id == NODE_CHECK && check.status == CheckStatus::Passing;
    let notes = &checks.iter().find(live)?.notes;
    let ours = notes.strip_prefix(&mark.docker).is_some_and(|rest| rest.starts_with('/'));
    (!ours && !notes.is_empty()).then(|| notes.clone())
}

fn catalog_check(node: &str, service_id: &str, check: &CheckRegistration) -> HealthCheck {
    HealthCheck {
        node: node.into(),
        check_id: check.check_id.clone(),
        name: check.name.clone(),
        status: status(check.status.as_deref().unwrap_or_default()),
        notes: check.notes.clone(),
        service_id: service_id.into(),
        kind: "ttl".into(),
        ..HealthCheck::default()
    }
}

fn catalog_report(node: &str, service_id: &str, update: &CheckUpdate) -> HealthCheck {
    HealthCheck {
        node: node.into(),
        check_id: docker_check_id(service_id),
        name: "Docker HEALTHCHECK".into(),
        status: status(&update.status),
        output: update.output.clone(),
        service_id: service_id.into(),
        kind: "ttl".into(),
        ..HealthCheck::default()
    }
}

fn status(text: &str) -> CheckStatus {
    match text {
        "passing" => CheckStatus::Passing,
        "warning" => CheckStatus::Warning,
        _ => CheckStatus::Critical,
    }
}

fn node_service(service: &ServiceRegistration) -> NodeService {
    NodeService {
        id: service.id.clone(),
        service: service.name.clone(),
        tags: service.tags.clone(),
        address: service.address.clone(),
        tagged_addresses: service.tagged_addresses.clone(),
        meta: Some(service.meta.clone()),
        port: service.port,
        weights: Some(service.weights.unwrap_or_default()),
        ..NodeService::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_a_node() {
        let mark = Mark { docker: "D".into(), state: "s".into() };
        for (id, status, notes, other) in [
            (NODE_CHECK, CheckStatus::Passing, "D/s", false),
            (NODE_CHECK, CheckStatus::Passing, "D/lost", false),
            (NODE_CHECK, CheckStatus::Passing, "DD/s", true),
            (NODE_CHECK, CheckStatus::Passing, "other/s", true),
            (NODE_CHECK, CheckStatus::Critical, "other/s", false),
            (NODE_CHECK, CheckStatus::Passing, "", false),
            ("serfHealth", CheckStatus::Passing, "other/s", false),
        ] {
            let check = HealthCheck { check_id: id.into(), status, notes: notes.into(), ..HealthCheck::default() };
            assert_eq!(rival(&[check], &mark).is_some(), other, "{id} {status} {notes}");
        }
    }
}
