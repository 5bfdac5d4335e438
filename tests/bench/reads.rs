//! Reads over 32 connections, beside nginx serving a file with the same bytes, in turns.

use flotilla_tests::{registry::Registry, web};
use kvstore_client::KvPut;

use crate::{
    catalog,
    figures::Row,
    peers::Nginx,
    reference::Reference,
    wrk::{self, Rates},
};

async fn body(url: &str) -> String {
    web::get(url).await.unwrap_or_else(|e| panic!("{e}"))
}

/// The ratio to nginx, and both rates.
async fn beside_nginx(what: &'static str, url: &str, least: f64) -> Vec<Row> {
    let nginx = Nginx::start().await;
    let body = body(url).await;
    let file = nginx.serve("file", &body).await;
    let rates = Rates::in_turns(&[file.as_str(), url], wrk::get).await;
    vec![
        Row::ratio(what, rates.ratio(1, 0), "nginx", least),
        Row::rate("  kvstore, requests a second", rates.of(1)),
        Row::rate("  nginx, a file of the same size", rates.of(0)).note(format!("{} bytes", body.len())),
    ]
}

/// One key.
pub(crate) async fn key() -> Vec<Row> {
    let registry = Registry::in_memory().await;
    registry.client.kv_put("bench/key", "x".repeat(100), KvPut::default()).await.expect("the registry answers");
    beside_nginx("KV GET, 32 connections", &format!("{}/v1/kv/bench/key", registry.url()), 0.8).await
}

/// The health of a small and of a wide service, among a thousand others.
pub(crate) async fn health() -> Vec<Row> {
    let registry = Registry::in_memory().await;
    catalog::fill(&registry.client).await;
    let url = |service| format!("{}/v1/health/service/{service}?passing", registry.url());
    let mut rows = beside_nginx("health of a service, 3 instances", &url(catalog::SMALL), 0.7).await;
    rows.extend(beside_nginx("health of a service, 100 instances", &url(catalog::WIDE), 0.5).await);
    rows
}

/// The list of all services.
pub(crate) async fn services() -> Vec<Row> {
    let registry = Registry::in_memory().await;
    catalog::fill(&registry.client).await;
    let (nginx, reference) = (Nginx::start().await, Reference::copy_of(&registry.client).await);
    let url = format!("{}/v1/catalog/services", registry.url());
    let list = body(&url).await;
    assert_eq!(list, body(&reference.url).await, "the reference answers the same");
    let file = nginx.serve("file", &list).await;
    let rates = Rates::in_turns(&[file.as_str(), &url, &reference.url], wrk::get).await;
    vec![
        Row::ratio("list of 1,003 services", rates.ratio(1, 2), "made for each request", 20.0),
        Row::ratio("  and", rates.ratio(1, 0), "nginx", 0.3),
        Row::rate("  kvstore, requests a second", rates.of(1)),
        Row::rate("  made for each request", rates.of(2)),
        Row::rate("  nginx, a file of the same size", rates.of(0)).note(format!("{} bytes", list.len())),
    ]
}
