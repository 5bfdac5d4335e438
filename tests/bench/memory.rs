//! Resident memory with a catalog in it.

use flotilla_tests::registry::Registry;
use nix::unistd::Pid;

use crate::{catalog, figures::Row, peers};

const LIMIT_MIB: f64 = 30.0;

pub(crate) async fn resident() -> Vec<Row> {
    let dir = peers::dir();
    let mut registry = Registry::on_disk_in(dir.path()).await;
    let empty = mib(registry.program().pid());
    catalog::fill(&registry.client).await;
    let filled = mib(registry.program().pid());
    let services = registry.client.catalog_services(None).await.expect("the registry answers").value;
    for service in services.keys() {
        registry.client.health_service(service, true, None).await.expect("the registry answers");
    }
    let read = mib(registry.program().pid());
    registry.kill();
    registry.start_again().await;
    let restarted = mib(registry.program().pid());
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

/// What a process has in memory.
#[allow(clippy::cast_precision_loss)] // far below what a float holds exactly
pub(crate) fn mib(pid: Pid) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("the kernel tells it") as f64 / 1024.0
}
