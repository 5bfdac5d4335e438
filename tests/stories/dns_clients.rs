//! Other people's programs in front of the registry's DNS, with the files of `examples/resolvers`: dnsmasq and unbound
//! between containers and the registry, HAProxy and nginx that find their servers over DNS.

use std::{collections::BTreeSet, fs, time::Duration};

use flotilla_tests::{
    docker::{CALLER, Container, Dockerd},
    eventually,
    needs::Need,
    ports::free_port,
    program::{Launch, Program},
    registry::Registry,
    resolver::{Resolver, example, port_53},
    web,
};
use nix::sys::signal::Signal;
use reqwest::Method;

use crate::{
    resolver_only::{Asking, LIMIT, early},
    stage::Registrar,
    versions,
};

/// dnsmasq, which tells the registry who asks.
pub(crate) async fn dnsmasq() {
    let dockerd = Dockerd::shared();
    dockerd.make_callers();
    let gateway = dockerd.gateway().await;
    let registry = Registry::beyond_consul(&["--trusted-resolver", "127.0.0.1/32"]).await;
    let resolver = Resolver::example_dnsmasq(port_53(&gateway), registry.dns(), None).await;
    let own = dockerd.network("dns-clients").await;
    for network in ["bridge", &own.name] {
        let asking = Asking { dockerd, network, gateway: &gateway };
        stands_between(&asking, &registry, &resolver).await;
        versions::told(&asking, &registry, versions::Way::Internal).await;
    }
}

/// unbound, which asks for each part of a name first.
pub(crate) async fn unbound() {
    let dockerd = Dockerd::shared();
    dockerd.make_callers();
    let gateway = dockerd.gateway().await;
    let registry = Registry::in_memory().await;
    let resolver = Resolver::example_unbound(port_53(&gateway), registry.dns()).await;
    stands_between(&Asking { dockerd, network: "bridge", gateway: &gateway }, &registry, &resolver).await;
}

async fn stands_between(asking: &Asking<'_>, registry: &Registry, resolver: &Resolver) {
    let _registrar = Registrar::start(registry, asking.dockerd, &["--internal"]);
    let caller = asking.run(&[CALLER, "sleep", "600"]).await;
    early(asking, &caller, &format!("on-{}", asking.network)).await;
    for (name, kind) in [("consul", "TXT"), ("service.consul", "A"), ("_soon._tcp.service.dc1.consul", "SRV")] {
        let [direct, through] = [registry.dns(), resolver.address].map(|server| async move {
            let answer = flotilla_tests::dig::dig_at(server, name, kind, &[]).await;
            answer.unwrap_or_else(|e| panic!("{name} {kind} at {server}: {e}"))
        });
        assert_eq!(direct.await, through.await, "{name} {kind}");
    }
}

/// HAProxy finds addresses and ports by SRV records.
pub(crate) async fn haproxy() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let _registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    fs::write(dir.path().join("haproxy.cfg"), example("haproxy.cfg", &[])).expect("our own directory");
    let port = free_port();
    let launch = Launch::new("haproxy").args(["-W", "-f", "haproxy.cfg"]).dir(dir.path());
    let launch = launch.env("REGISTRY_DNS", registry.dns().to_string()).env("HTTP_PORT", port.to_string());
    scaled(launch.start(), port, async || dockerd.run_web(&WEB).await).await;
}

/// nginx looks an address up for each request.
pub(crate) async fn nginx() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let _registrar = Registrar::start(&registry, dockerd, &["--internal"]);
    let (port, dir) = (free_port(), tempfile::tempdir().expect("a temporary directory can be made"));
    let (listen, dns) = (format!("listen {port};"), registry.dns().to_string());
    let config = example("nginx.conf", &[("listen 8080;", &listen), ("127.0.0.1:8600", &dns)]);
    fs::write(dir.path().join("nginx.conf"), config).expect("our own directory");
    let launch = Launch::new("nginx").args(["-p", ".", "-c", "nginx.conf", "-e", "stderr", "-g", "daemon off;"]);
    scaled(launch.dir(dir.path()).start(), port, async || dockerd.run_web(&WEB).await).await;
}

/// Found without a check as soon as it runs.
const WEB: [&str; 1] = ["SERVICE_NAME=web"];

/// Instances come and go, and visitors meet those that are there.
async fn scaled<'a>(mut proxy: Program, port: u16, run: impl AsyncFn() -> Container<'a>) {
    let url = format!("http://127.0.0.1:{port}/");
    meets(&mut proxy, &url, &[]).await;
    let one = run().await;
    meets(&mut proxy, &url, &[&one]).await;
    let (two, three) = (run().await, run().await);
    meets(&mut proxy, &url, &[&one, &two, &three]).await;
    two.signal(Signal::SIGKILL).await;
    meets(&mut proxy, &url, &[&one, &three]).await;
    one.stop().await;
    meets(&mut proxy, &url, &[&three]).await;
    three.remove().await;
    meets(&mut proxy, &url, &[]).await;
}

async fn meets(proxy: &mut Program, url: &str, want: &[&Container<'_>]) {
    let want: BTreeSet<_> = want.iter().map(|container| container.short().to_owned()).collect();
    eventually!(format!("visitors meet {want:?}"), LIMIT, async {
        assert!(proxy.is_running(), "it ended:\n{}", proxy.log());
        if want.is_empty() {
            let answer = web::ask(Method::GET, url).await?;
            return if matches!(answer.status, 502 | 503) { Ok(()) } else { Err(format!("{answer:?}")) };
        }
        let mut met = BTreeSet::new();
        // nginx keeps what it has looked up for a second.
        for _ in 0..8 * want.len() {
            met.insert(web::hello(&web::get(url).await?)?.id);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if met == want { Ok(()) } else { Err(format!("{met:?}")) }
    });
}

pub(crate) fn needs(program: &'static str) -> Vec<Need> {
    crate::resolver_only::needs(&[program])
}
