//! Our side of the registry's API: one call per action, views of all that it holds for us, and word when that changes.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use kvstore_client::{
    Backoff, Client, Error, GoDuration, Wait,
    types::{
        CatalogDeregistration, CatalogRegistration, CheckDefinition, CheckRegistration, CheckStatus, CheckUpdate,
        HealthCheck, NodeService, ServiceRegistration,
    },
};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Interval, MissedTickBehavior, interval, sleep},
};
use tracing::{debug, info, warn};

use crate::{
    address,
    checks::docker_check_id,
    docker::chain,
    plan::{Action, Actual, Mark, Registered, registered},
};

/// Longest single wait for a change.
const WATCH: Duration = Duration::from_mins(1);
/// Views are at least this far apart, unless something is wrong: our own writes wake us too.
const VIEW_GAP: Duration = Duration::from_secs(1);
/// Where changes cannot be waited for, we look this often.
const POLL: Duration = Duration::from_secs(5);
/// A registry that is away is asked again at most this much later: it has everything to regain.
const MAX_BACKOFF: Duration = Duration::from_secs(1);
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

/// All that the registry holds for this host.
#[derive(Debug)]
pub struct View {
    /// Of any owner.
    pub registered: Registered,
    /// When it was asked for.
    pub asked: Instant,
    /// This host's address on the way to the registry.
    pub address: IpAddr,
    /// What made us look.
    pub cause: &'static str,
}

/// The registry.
pub struct Registry {
    client: Client,
    place: Place,
    /// This host's address, if it was configured.
    address: Option<IpAddr>,
    /// Set to have a view at once.
    pub look: Notify,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Call(#[from] Error),
    #[error("node {node} is kept by another registrar, {other}; this one is {ours} and waits until that one is gone")]
    Rival { node: String, other: String, ours: String },
    #[error("cannot tell this host's address on the way to the registry at {registry}; give it by --ip")]
    Address {
        registry: String,
        #[source]
        source: std::io::Error,
    },
}

impl Registry {
    /// Nothing is sent yet.
    pub fn new(client: Client, place: Place, address: Option<IpAddr>) -> Self {
        Self { client, place, address, look: Notify::new() }
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

    async fn perform_at_agent(&self, id: &str, action: &Action) -> Result<(), Error> {
        match action {
            Action::Register(service) => self.client.register_service(service).await,
            Action::Report(update) => self.client.update_check(&docker_check_id(id), update).await,
            Action::Hold(hold) => self.client.register_check(&hold.check(id)).await,
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

    /// Sends a view at the start, whenever something may have changed, and every `resync`; for ever, over every loss.
    pub async fn follow(
        self: Arc<Self>,
        resync: Option<Duration>,
        mark: watch::Receiver<Option<Mark>>,
        views: mpsc::Sender<View>,
    ) {
        let mut follower = Follower { registry: self, resync, mark, views, lost: None, poll: false };
        let mut backoff = Backoff::between(Duration::from_millis(100), MAX_BACKOFF);
        while let Err(trouble) = follower.session(&mut backoff).await {
            let message = chain(&trouble);
            // The words of one loss differ (refused, then reset); it is still one.
            if follower.lost.is_none()
                || matches!(trouble, Trouble::Rival { .. }) && follower.lost != Some(message.clone())
            {
                warn!("{message}; nothing is lost, and the registry is asked again until it answers");
                follower.lost = Some(message);
            }
            sleep(backoff.delay()).await;
        }
    }

    async fn view(&self, mark: &Mark) -> Result<Registered, Trouble> {
        match &self.place {
            Place::Agent => {
                let (services, checks) = tokio::try_join!(self.client.agent_services(), self.client.agent_checks())?;
                let services = services.into_iter().map(|(id, service)| (id, Actual::from(service)));
                Ok(registered(services, checks.into_values()))
            }
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

    /// Says that this host lives.
    async fn announce(&self, mark: &Mark, address: IpAddr) -> Result<(), Error> {
        let Place::Node { name, ttl } = &self.place else { return Ok(()) };
        let check = HealthCheck {
            node: name.clone(),
            check_id: NODE_CHECK.into(),
            name: "Registrar".into(),
            status: CheckStatus::Passing,
            notes: mark.to_string(),
            kind: "ttl".into(),
            definition: CheckDefinition { ttl: Some(GoDuration(*ttl)), ..CheckDefinition::default() },
            ..HealthCheck::default()
        };
        let registration = CatalogRegistration {
            node: name.clone(),
            address: address.to_string(),
            check: Some(check),
            ..CatalogRegistration::default()
        };
        self.client.catalog_register(&registration).await
    }

    /// Three words fit into the time that one holds.
    fn beat(&self) -> Interval {
        let every = match &self.place {
            Place::Node { ttl, .. } => *ttl / 3,
            // never heard: there is no node of ours to keep alive
            Place::Agent => Duration::from_hours(24),
        };
        let mut beat = interval(every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat
    }

    async fn own_address(&self) -> Result<IpAddr, Trouble> {
        if let Some(address) = self.address {
            return Ok(address);
        }
        let registry = self.client.address();
        address::toward(registry).await.map_err(|source| Trouble::Address { registry: registry.to_owned(), source })
    }

    async fn node_name(&self) -> Result<String, Error> {
        match &self.place {
            Place::Node { name, .. } => Ok(name.clone()),
            Place::Agent => {
                let agent = self.client.agent_self().await?;
                Ok(agent["Config"]["NodeName"].as_str().unwrap_or_default().to_owned())
            }
        }
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

/// What lasts longer than a connection.
struct Follower {
    registry: Arc<Registry>,
    resync: Option<Duration>,
    mark: watch::Receiver<Option<Mark>>,
    views: mpsc::Sender<View>,
    /// What was said when the registry was lost.
    lost: Option<String>,
    /// The registry lets us look, but not wait for changes.
    poll: bool,
}

/// With what the last view was asked for and announced.
struct Said<'a> {
    mark: &'a Mark,
    address: IpAddr,
    asked: Instant,
}

impl Follower {
    /// Until the registry is lost (an error) or nobody listens any more.
    async fn session(&mut self, backoff: &mut Backoff) -> Result<(), Trouble> {
        let registry = self.registry.clone();
        let Ok(mark) = self.mark.wait_for(Option::is_some).await.map(|mark| mark.clone()) else { return Ok(()) };
        let mark = mark.expect("just checked");
        let node = registry.node_name().await?;
        // First the position, then the view: what changes in between ends the first wait.
        let mut index = self.position(&node).await?;
        let mut cause = "start";
        let mut beat = registry.beat();
        loop {
            let asked = Instant::now();
            let registered = registry.view(&mark).await?;
            let address = registry.own_address().await?;
            if cause == "start" {
                registry.announce(&mark, address).await?;
                beat.reset();
            }
            backoff.reset();
            if self.lost.take().is_some() {
                info!("the registry at {} is back", registry.client.address());
                cause = "registry is back";
            }
            let view = View { registered, asked, address, cause };
            if self.views.send(view).await.is_err() {
                return Ok(());
            }
            cause = self.reason(&node, &mut index, &mut beat, &Said { mark: &mark, address, asked }).await?;
        }
    }

    async fn position(&mut self, node: &str) -> Result<u64, Error> {
        self.poll = false;
        match self.registry.client.catalog_node(node, None).await {
            Ok(read) => Ok(read.index.max(1)),
            Err(error) if error.status().is_some() && !error.is_transient() => {
                warn!("{error}; changes made by others are noticed every {POLL:?}");
                self.poll = true;
                Ok(1)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until there is a reason for another view, and says which. Keeps the node alive meanwhile.
    async fn reason(
        &self,
        node: &str,
        index: &mut u64,
        beat: &mut Interval,
        last: &Said<'_>,
    ) -> Result<&'static str, Trouble> {
        let registry = &self.registry;
        let change = self.change(node, *index);
        let gap = sleep(VIEW_GAP.saturating_sub(last.asked.elapsed()));
        let resync = async {
            match self.resync {
                Some(every) => sleep(every).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(change, gap, resync);
        let mut found = None;
        loop {
            tokio::select! {
                moved = &mut change, if found.is_none() => {
                    *index = moved?;
                    found = Some("registry");
                }
                () = &mut resync, if found.is_none() => found = Some("resync"),
                () = &mut gap, if found.is_some() => return Ok(found.unwrap_or_default()),
                () = registry.look.notified() => return Ok("trouble"),
                _ = beat.tick() => registry.announce(last.mark, last.address).await?,
                () = self.views.closed() => return Ok("end"),
            }
        }
    }

    /// The position after the next change of what the node holds.
    async fn change(&self, node: &str, index: u64) -> Result<u64, Error> {
        if self.poll {
            sleep(POLL).await;
            return Ok(index);
        }
        loop {
            let asked = Instant::now();
            let wait = Some(Wait { index, wait: WATCH });
            let read = self.registry.client.catalog_node(node, wait).await?;
            let now = read.index.max(1);
            if now != index {
                debug!(index = now, "the registry has changed");
                return Ok(now);
            }
            // An answer without news that came at once: whoever sends such must not be asked at once again.
            sleep(VIEW_GAP.saturating_sub(asked.elapsed())).await;
        }
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
