//! Resident memory with a catalog in it.

use flotilla_tests::{held::Held, registry::Registry};

use crate::{catalog, figures::Row, peers};

const LIMIT_MIB: f64 = 30.0;

pub(crate) async fn resident() -> Vec<Row> {
    let dir = peers::dir();
    let mut registry = Registry::on_disk_in(dir.path()).await;
    let empty = Held::by(registry.program().pid()).mib;
    catalog::fill(&registry.client).await;
    let filled = Held::by(registry.program().pid()).mib;
    let services = registry.client.catalog_services(None).await.expect("the registry answers").value;
    for service in services.keys() {
        registry.client.health_service(service, true, None).await.expect("the registry answers");
    }
    let read = Held::by(registry.program().pid()).mib;
    registry.kill();
    registry.start_again().await;
    let restarted = Held::by(registry.program().pid()).mib;
    let row = |what, mib: f64| Row {
        what,
        found: format!("{mib:.1} MiB"),
        bound: Some((format!("under {LIMIT_MIB} MiB"), mib < LIMIT_MIB)),
    };
    let what = format!("{} services, {} instances", catalog::SERVICES, catalog::INSTANCES);
    vec![
        row("resident memory with the catalog", filled).note(what),
        row("  once it was started again", restarted),
        Row::told("  with the answers to a read of each service", &format!("{read:.1} MiB")),
        Row::told("  empty", &format!("{empty:.1} MiB")),
    ]
}
