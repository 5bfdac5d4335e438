//! The catalog that reads, watches and memory are measured with: 1,003 services with 3,103 instances on 100 hosts.

use futures_util::{StreamExt, TryStreamExt, stream};
use kvstore_client::{
    Client,
    types::{CatalogRegistration, CheckStatus, HealthCheck, Meta, NodeService},
};

const HOSTS: usize = 100;
const SMALL_SERVICES: usize = 1000;

/// A service with 3 instances.
pub(crate) const SMALL: &str = "service-0500";
/// The service with 100.
pub(crate) const WIDE: &str = "wide";

/// How many services and instances there are, the registry's own included.
pub(crate) const SERVICES: usize = SMALL_SERVICES + 3;
pub(crate) const INSTANCES: usize = SMALL_SERVICES * 3 + 100 + 2 + 1;

/// The services with 3 instances.
pub(crate) fn small_services() -> impl Iterator<Item = String> {
    small(SMALL_SERVICES)
}

/// So many services, with 3 instances each.
pub(crate) fn small(services: usize) -> impl Iterator<Item = String> {
    (0..services).map(|n| format!("service-{n:04}"))
}

/// Every instance: its service, its number there, and the number of its host.
pub(crate) fn instances() -> impl Iterator<Item = (String, usize, usize)> {
    let others = [(WIDE, 100), ("pair", 2)].into_iter();
    let others = others.flat_map(|(service, count)| (0..count).map(move |i| (service.to_owned(), i, i % HOSTS)));
    instances_of(small_services()).chain(others)
}

/// Three of each.
pub(crate) fn instances_of(services: impl Iterator<Item = String>) -> impl Iterator<Item = (String, usize, usize)> {
    let three = |(n, service): (usize, String)| (0..3).map(move |i| (service.clone(), i, (n + i * 37) % HOSTS));
    services.enumerate().flat_map(three)
}

/// One instance with a check, on its host.
pub(crate) fn registration(service: &str, number: usize, host: usize) -> CatalogRegistration {
    let id = format!("{service}-{number}");
    let (node, address) = (format!("host-{host:03}"), format!("10.0.{}.{}", host / 250, host % 250 + 1));
    let check = HealthCheck {
        node: node.clone(),
        check_id: format!("{id}-http"),
        name: "answers requests".into(),
        status: CheckStatus::Passing,
        output: "HTTP GET /health: 200 OK".into(),
        service_id: id.clone(),
        ..HealthCheck::default()
    };
    let instance = NodeService {
        id,
        service: service.into(),
        tags: vec!["http".into(), format!("zone-{}", host % 3)],
        port: u16::try_from(20_000 + number).expect("there are few instances"),
        meta: Some(Meta::from([("version".into(), "1.4.2".into())])),
        ..NodeService::default()
    };
    CatalogRegistration {
        node,
        address,
        service: Some(instance),
        checks: vec![check],
        ..CatalogRegistration::default()
    }
}

/// Registers all of it.
pub(crate) async fn fill(client: &Client) {
    register(client, instances()).await;
    let listed = client.catalog_services(None).await.expect("the registry answers").value;
    assert_eq!((listed.len(), instances().count() + 1), (SERVICES, INSTANCES));
}

/// Registers these.
pub(crate) async fn register(client: &Client, instances: impl Iterator<Item = (String, usize, usize)>) {
    let put = stream::iter(instances).map(|(service, number, host)| async move {
        client.catalog_register(&registration(&service, number, host)).await
    });
    let done: Result<Vec<()>, _> = put.buffer_unordered(8).try_collect().await;
    done.unwrap_or_else(|e| panic!("the registry refuses an instance: {e}"));
}
