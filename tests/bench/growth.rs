//! How it grows: the same figures with more services, with more who wait, and with more kvstores on an etcd. Nothing is
//! asked of them but that a reader can see what each grows with; each is the figure of one short run.

use std::time::{Duration, Instant};

use flotilla_tests::{held::Held, registry::Registry};

use crate::{
    catalog, dns,
    figures::{Row, Times},
    herd,
    peers::{self, Etcd},
    shared::Host,
    templates,
    wake::Watched,
    wire::{self, Wire},
    wrk,
};

/// Services, with three instances each.
const SERVICES: [(usize, &str); 5] = [
    (1, "1 service"),
    (10, "10 services"),
    (100, "100 services"),
    (1000, "1,000 services"),
    (10_000, "10,000 services"),
];
const WATCHERS: [(usize, &str); 5] = [
    (1, "1 who waits for a service"),
    (10, "10 who wait"),
    (100, "100 who wait"),
    (1000, "1,000 who wait"),
    (5000, "5,000 who wait"),
];
const KVSTORES: [&str; 5] = ["1 kvstore on an etcd", "2 kvstores", "3 kvstores", "4 kvstores", "5 kvstores"];
/// Of those on an etcd.
const SHARED_SERVICES: usize = 1000;
const CHANGES: u16 = 50;

pub(crate) async fn measured() -> Vec<Row> {
    let mut rows = Vec::new();
    for (services, what) in SERVICES {
        rows.push(with_services(services, what).await);
    }
    let registry = Registry::in_memory().await;
    catalog::fill(&registry.client).await;
    for (watchers, what) in WATCHERS {
        let times = herd::waited(&registry, watchers, 9).await;
        rows.push(Row::told(what, &format!("99 % have a change after {}", ms(times.median()))));
    }
    rows.extend(on_an_etcd().await);
    rows
}

async fn with_services(services: usize, what: &'static str) -> Row {
    let dir = peers::dir();
    let mut registry = Registry::on_disk_in(dir.path()).await;
    catalog::register(&registry.client, catalog::instances_of(catalog::small(services))).await;
    let mib = Held::by(registry.program().pid()).mib;
    registry.kill();
    let killed = Instant::now();
    registry.start_again().await;
    let start = killed.elapsed();
    let of = |path: &str| format!("{}{path}", registry.url());
    let health = wrk::get(&of("/v1/health/service/service-0000?passing")).await;
    let list = wrk::get(&of("/v1/catalog/services")).await;
    let questions = dns::a_second(&registry, services.min(1000)).await;
    let mut watched = Watched::on(&registry).await;
    let mut wake = Times::default();
    for change in 0..CHANGES {
        wake.push(watched.change(change).await);
    }
    let file = templates::all_in_one(&registry, 5).await;
    let found = format!(
        "{mib:.1} MiB; started in {}; a second: health {health:.0}, list {list:.0}, DNS {questions:.0}; \
         a change answered in {}, in a file of all in {}",
        ms(start),
        ms(wake.median()),
        ms(file.median()),
    );
    Row::told(what, &found)
}

/// One more at a time; each has the changes that the first one takes.
async fn on_an_etcd() -> Vec<Row> {
    let etcd = Etcd::start().await;
    let (mut hosts, mut rows) = (Vec::<Host>::new(), Vec::new());
    for (n, what) in KVSTORES.into_iter().enumerate() {
        hosts.push(Host::start(&etcd, n).await);
        if n == 0 {
            catalog::register(&hosts[0].client, catalog::instances_of(catalog::small(SHARED_SERVICES))).await;
        }
        let shown = shown_by_all(&hosts).await;
        let writes = wrk::scripted(&peers::file("put.lua"), &hosts[0].url(), "kvstore").await.rate;
        let most = hosts.iter().map(Host::mib).fold(0.0, f64::max);
        let shown = ms(shown.median());
        rows.push(Row::told(
            what,
            &format!("all show a change after {shown}; {writes:.0} writes a second; {most:.1} MiB"),
        ));
    }
    rows
}

/// From a change at the first until a query waiting at each is answered.
async fn shown_by_all(hosts: &[Host]) -> Times {
    const PATH: &str = "/v1/health/service/grows?passing";
    let change = |port: u16| {
        let mut registration = catalog::registration("grows", 0, 0);
        if let Some(service) = &mut registration.service {
            service.port = port;
        }
        registration
    };
    let writer = &hosts[0].client;
    writer.catalog_register(&change(1)).await.expect("it is taken");
    let mut waiting = Vec::new();
    for host in hosts {
        waiting.push(Wire::to(wire::address(&host.url())).await);
    }
    // Until all have the first one.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut times = Times::default();
    for port in 0..CHANGES {
        for wire in &mut waiting {
            let index = wire.ask(&wire::get(PATH)).await.index;
            wire.send(&wire::get(&format!("{PATH}&index={index}&wait=10m"))).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        let sent = Instant::now();
        let answered = futures_util::future::join_all(waiting.iter_mut().map(Wire::answer));
        let registration = change(port + 2);
        let (_, taken) = tokio::join!(answered, writer.catalog_register(&registration));
        taken.expect("it is taken");
        times.push(sent.elapsed());
    }
    times
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
