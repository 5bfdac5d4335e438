//! What a registry counts and tells.

use flotilla_tests::{registry::Registry, web};

/// The value of a metric without labels, by Prometheus' name.
pub(crate) async fn of(registry: &Registry, name: &str) -> f64 {
    let url = format!("{}/v1/agent/metrics?format=prometheus", registry.url());
    let text = web::get(&url).await.unwrap_or_else(|e| panic!("{e}"));
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {name} in {text}"))
}
