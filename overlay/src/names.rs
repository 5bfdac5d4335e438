//! What attached containers and clients are called in networks of the mesh. The registrar knows neither; so this host tells
//! the registry itself, in the same way: an instance without a port of the service `NAME.NETWORK.overlay`, which the
//! registry's DNS answers to those in that network only. All of them are on a node of their own, which is believed alive
//! for as long as this host says so: after its end nobody is answered with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use kvstore_client::{
    Client, Error, GoDuration,
    names::{META_NETWORK, in_network, is_dns_name},
    types::{
        CatalogDeregistration, CatalogRegistration, CheckDefinition, CheckStatus, HealthCheck, NodeService,
        ServiceAddress,
    },
    with_causes,
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    network::{NetworkName, NodeId},
    peers::tunnel_address,
};

/// The host is believed dead so long after its last word, as by its session.
const TTL: Duration = Duration::from_secs(30);
/// So often it gives word, and looks whether all is there.
const EVERY: Duration = Duration::from_secs(10);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(1);
/// The check that says whether the host lives.
const CHECK: &str = "overlay";
/// Metadata of the node: what the host is called.
const META_HOST: &str = "overlay-host";

/// Who is in a network beside Docker's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// What it is called there.
    pub name: String,
    /// In which network.
    pub network: NetworkName,
    /// Its addresses there, of one family or of both.
    pub addresses: BTreeSet<IpAddr>,
}

/// All that have names by this host; none of a kind as long as nobody could look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Containers that are attached, and run.
    pub attached: Option<BTreeSet<Name>>,
    /// Clients.
    pub clients: Option<BTreeSet<Name>>,
}

impl Names {
    /// What the registry is to have, by its ids.
    fn wanted(&self) -> BTreeMap<String, NodeService> {
        let all = [&self.attached, &self.clients].into_iter().flatten().flatten();
        all.filter_map(Name::instance).map(|instance| (instance.id.clone(), instance)).collect()
    }

    /// Whether what is not among them is gone.
    fn are_all(&self) -> bool {
        self.attached.is_some() && self.clients.is_some()
    }
}

/// Tells what there is of one kind, if that is news.
pub(crate) fn tell(
    names: &watch::Sender<Names>,
    kind: impl FnOnce(&mut Names) -> &mut Option<BTreeSet<Name>>,
    now: BTreeSet<Name>,
) {
    names.send_if_modified(|all| {
        let now = Some(now);
        let there = kind(all);
        let news = *there != now;
        *there = now;
        news
    });
}

impl Name {
    /// None for what DNS has no name for.
    fn instance(&self) -> Option<NodeService> {
        let service = Some(in_network(&self.name, &self.network.to_string())).filter(|name| is_dns_name(name))?;
        let v6 = self.addresses.iter().find(|address| address.is_ipv6());
        let address = self.addresses.iter().find(|address| address.is_ipv4()).or(v6)?;
        let beside = v6.filter(|v6| *v6 != address);
        let beside = beside.map(|v6| ("lan_ipv6".into(), ServiceAddress { address: v6.to_string(), port: 0 }));
        Some(NodeService {
            id: format!("{service}:{address}"),
            service,
            address: address.to_string(),
            tagged_addresses: beside.into_iter().collect(),
            meta: Some([(META_NETWORK.to_owned(), self.network.to_string())].into_iter().collect()),
            ..NodeService::default()
        })
    }
}

/// What has to be put and what to be removed so that `wanted` is there; the latter only where that is `all`.
fn changes(
    there: &BTreeMap<String, NodeService>,
    wanted: BTreeMap<String, NodeService>,
    all: bool,
) -> (Vec<NodeService>, Vec<String>) {
    let gone = there.keys().filter(|id| all && !wanted.contains_key(*id)).cloned().collect();
    let same = |one: &NodeService, other: &NodeService| {
        let part = |s: &NodeService| (s.service.clone(), s.address.clone(), s.meta.clone(), beside(s));
        part(one) == part(other)
    };
    let put = wanted.into_values().filter(|w| there.get(&w.id).is_none_or(|there| !same(there, w))).collect();
    (put, gone)
}

/// The registry adds addresses that follow from the others.
fn beside(service: &NodeService) -> Option<String> {
    let v4 = service.address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4());
    service.tagged_addresses.get("lan_ipv6").filter(|_| v4).map(|beside| beside.address.clone())
}

/// Has the registry know `names` of this host until `stop`; then it is believed a little longer, as this host goes on.
pub async fn follow(
    clients: watch::Receiver<Client>,
    node: NodeId,
    host: String,
    mut names: watch::Receiver<Names>,
    stop: CancellationToken,
) {
    let mut teller = Teller { node, host, is_known: true };
    let work = async {
        let mut told = false;
        loop {
            let now = names.borrow_and_update().clone();
            let client = clients.borrow().clone();
            let pause = match teller.tell(&client, &now).await {
                Ok(()) => {
                    told = false;
                    EVERY
                }
                // That the registry is away is told by who follows it.
                Err(error @ Error::Status { .. }) if !now.wanted().is_empty() => {
                    if !std::mem::replace(&mut told, true) {
                        warn!("attached containers and clients have no names in the registry: {}", with_causes(&error));
                    }
                    EVERY
                }
                Err(error) => {
                    debug!("the registry is not told of names: {}", with_causes(&error));
                    if error.status().is_some() { EVERY } else { AGAIN }
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                changed = names.changed() => if changed.is_err() { return },
            }
        }
    };
    stop.run_until_cancelled(work).await;
}

struct Teller {
    node: NodeId,
    host: String,
    /// The registry may have this host's node.
    is_known: bool,
}

impl Teller {
    fn node(&self) -> String {
        node_of(self.node)
    }

    async fn tell(&mut self, client: &Client, names: &Names) -> Result<(), Error> {
        let wanted = names.wanted();
        if wanted.is_empty() && !(self.is_known && names.are_all()) {
            return Ok(());
        }
        let there = client.catalog_node(&self.node(), None).await?.value;
        if wanted.is_empty() {
            if there.is_some() {
                forget(client, self.node).await?;
            }
            self.is_known = false;
            return Ok(());
        }
        self.is_known = true;
        client.catalog_register(&self.word(None)).await?;
        let (put, gone) = changes(&there.map(|there| there.services).unwrap_or_default(), wanted, names.are_all());
        for instance in put {
            client.catalog_register(&self.word(Some(instance))).await?;
        }
        for service_id in gone {
            let gone = CatalogDeregistration { node: self.node(), service_id, ..CatalogDeregistration::default() };
            client.catalog_deregister(&gone).await?;
        }
        Ok(())
    }

    /// That this host lives, for a while, and has this.
    fn word(&self, service: Option<NodeService>) -> CatalogRegistration {
        let check = HealthCheck {
            node: self.node(),
            check_id: CHECK.into(),
            name: "Overlay".into(),
            status: CheckStatus::Passing,
            kind: "ttl".into(),
            definition: CheckDefinition { ttl: Some(GoDuration(TTL)), ..CheckDefinition::default() },
            ..HealthCheck::default()
        };
        CatalogRegistration {
            node: self.node(),
            address: tunnel_address(self.node).to_string(),
            node_meta: Some([(META_HOST.to_owned(), self.host.clone())].into_iter().collect()),
            service,
            check: Some(check),
            ..CatalogRegistration::default()
        }
    }
}

/// The node of the registry that a host's names are on.
fn node_of(node: NodeId) -> String {
    format!("overlay-{node}")
}

/// Has the registry forget all names of a host that is gone, by a task of its own. What it does not forget is answered to
/// nobody all the same, once that host does not say any more that it lives.
pub(crate) fn forget_soon(client: &Client, node: NodeId) {
    let client = client.clone();
    tokio::spawn(async move { forget(&client, node).await });
}

async fn forget(client: &Client, node: NodeId) -> Result<(), Error> {
    let gone = CatalogDeregistration { node: node_of(node), ..CatalogDeregistration::default() };
    client.catalog_deregister(&gone).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str, network: &str, addresses: &str) -> Name {
        let addresses = addresses.split(' ').map(|address| address.parse().unwrap()).collect();
        Name { name: name.into(), network: network.parse().unwrap(), addresses }
    }

    fn names(attached: &[Name], clients: &[Name]) -> Names {
        let some = |all: &[Name]| Some(all.iter().cloned().collect());
        Names { attached: some(attached), clients: some(clients) }
    }

    #[test]
    fn a_name_is_an_instance_of_a_service_of_its_network() {
        for (name, wanted) in [
            (name("web", "app", "10.1.7.200 fd00:1::7"), Some(("web.app.overlay", "10.1.7.200", Some("fd00:1::7")))),
            (name("Web_1", "app", "10.1.7.200"), Some(("Web_1.app.overlay", "10.1.7.200", None))),
            (name("web", "a.prod", "fd00:1::7"), Some(("web.a.prod.overlay", "fd00:1::7", None))),
            (name("web.1", "app", "10.1.7.200"), Some(("web.1.app.overlay", "10.1.7.200", None))),
            (name("web.", "app", "10.1.7.200"), None),
            (name(&"w".repeat(64), "app", "10.1.7.200"), None),
            (name("w b", "app", "10.1.7.200"), None),
        ] {
            let made = name.instance();
            let parts = made.as_ref().map(|made| {
                let beside = made.tagged_addresses.get("lan_ipv6").map(|beside| &*beside.address);
                (&*made.service, &*made.address, beside)
            });
            assert_eq!(parts, wanted, "{name:?}");
            if let Some(made) = made {
                assert_eq!(made.meta.unwrap().get(META_NETWORK), Some(&name.network.to_string()));
            }
        }
    }

    #[test]
    fn what_is_there_and_right_is_left_alone_and_what_is_not_known_too() {
        let (web, db, laptop) = (
            name("web", "app", "10.1.7.200 fd00:1::7"),
            name("db", "app", "10.1.7.201"),
            name("laptop", "app", "10.1.9.2"),
        );
        let before = names(&[web.clone(), db], std::slice::from_ref(&laptop));
        let mut there = before.wanted();
        // As the registry tells it.
        for service in there.values_mut() {
            let own = ServiceAddress { address: service.address.clone(), port: 0 };
            service.tagged_addresses.insert("lan_ipv4".into(), own);
            service.modify_index = 7;
        }
        assert_eq!(changes(&there, before.wanted(), true), (vec![], vec![]));
        let moved = name("web", "app", "10.1.7.202 fd00:1::7");
        let now = names(std::slice::from_ref(&moved), &[]);
        let gone = ["db.app.overlay:10.1.7.201", "laptop.app.overlay:10.1.9.2", "web.app.overlay:10.1.7.200"];
        let gone = gone.map(str::to_owned).to_vec();
        assert_eq!(changes(&there, now.wanted(), true), (vec![moved.instance().unwrap()], gone));
        // At a start, before anybody has looked at containers.
        let early = Names { attached: None, clients: Some([laptop].into()) };
        assert!(!early.are_all());
        assert_eq!(changes(&there, early.wanted(), early.are_all()), (vec![], vec![]));
        let other = name("web", "app", "10.1.7.200 fd00:1::8");
        let put = changes(&there, names(&[other], &[]).wanted(), false).0;
        assert_eq!(put.len(), 1, "another address of IPv6");
    }
}
