//! The main job: a container starts, and is found in the catalog, in DNS and behind both proxies; it goes, and is found
//! nowhere. HAProxy runs as a container itself, nginx as a process.

use std::time::Duration;

use flotilla_tests::{
    docker::{Container, Dockerd, HELLO_WEB},
    program::{Launch, Program},
    proxy::{Kind, Site},
    registry::Registry,
    web,
};
use nix::sys::signal::Signal;

use crate::stage::{Front, Registrar, View};

/// Probed every second, and not before the first probe passed behind a proxy.
const WEB: [&str; 3] = ["SERVICE_NAME=web", "SERVICE_CHECK_HTTP=/health", "SERVICE_CHECK_INTERVAL=1s"];

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let _registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    let haproxy = Front::container(&registry, dockerd).await;
    let nginx = Front::process(Kind::Nginx, &registry).await;
    let fronts = [&haproxy.site, &nginx.site];
    let view = View { service: "web", registry: &registry, fronts: &fronts };
    view.agrees("nothing runs yet", &[]).await;

    let one = web(dockerd, "v1").await;
    view.agrees("the first container comes", &[&one]).await;

    let (two, three) = (web(dockerd, "v1").await, web(dockerd, "v1").await);
    view.agrees("scaled to 3", &[&one, &two, &three]).await;

    three.signal(Signal::SIGKILL).await;
    view.agrees("one dies", &[&one, &two]).await;

    post(&two, "/health/ill").await;
    view.agrees("one turns unhealthy", &[&one]).await;
    post(&two, "/health/well").await;
    view.agrees("it recovers", &[&one, &two]).await;

    // Another signal than the one that stops it changes nothing.
    one.signal(Signal::SIGHUP).await;
    two.remove().await;
    view.agrees("scaled to 1", &[&one]).await;

    replace(dockerd, &view, &fronts, one).await;
    view.agrees("the last one is gone", &[]).await;
}

async fn web<'a>(dockerd: &'a Dockerd, version: &str) -> Container<'a> {
    let version = format!("VERSION={version}");
    dockerd.run_web(&[&WEB[..], &[&version]].concat()).await
}

async fn post(container: &Container<'_>, path: &str) {
    let url = format!("http://127.0.0.1:{}{path}", container.port().await);
    web::ask(reqwest::Method::POST, &url).await.expect("the container answers");
}

/// `old` makes room for a v2, and no visitor notices.
async fn replace(dockerd: &Dockerd, view: &View<'_>, fronts: &[&Site], old: Container<'_>) {
    let mut visitors: Vec<_> = fronts.iter().map(|site| visitors(site)).collect();
    let new = web(dockerd, "v2").await;
    view.agrees("v2 comes beside v1", &[&old, &new]).await;
    old.stop().await;
    view.agrees("v1 is gone", &[&new]).await;
    for visitors in &mut visitors {
        let good = visitors.stop().success();
        let log = visitors.log();
        let last = log.lines().last().unwrap_or_default();
        println!("  replaced under load: {last}");
        assert!(good && last.contains("v1=") && last.contains("v2="), "no request may fail:\n{log}");
    }
    new.stop().await;
}

fn visitors(site: &Site) -> Program {
    Launch::ours("load").args([site.url().as_str(), "4"]).start()
}

/// With containers' own addresses, nothing published.
pub(crate) async fn internal() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let _registrar = Registrar::start(&registry, dockerd, &["--internal"]);
    let container = dockerd.run(&["--env", "SERVICE_NAME=inside", HELLO_WEB]).await;
    let address = container.address().await;
    let limit = Duration::from_secs(5);
    flotilla_tests::eventually!("DNS has the container's address", limit, async {
        let answer = flotilla_tests::dig::dig(registry.dns_port(), "inside.service.consul", "A", &[]).await?;
        if answer.records == [address.clone()] { Ok(()) } else { Err(format!("{answer:?}, not {address}")) }
    });
    let found = registry.client.health_service("inside", true, None).await.expect("the registry answers").value;
    assert_eq!((found.len(), found[0].service.port), (1, 8080));
    assert_eq!(found[0].service.address, address);
}

/// Docker's own HEALTHCHECK, without a word to the registrar.
pub(crate) async fn healthcheck() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let _registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    let text =
        format!("FROM {HELLO_WEB}\nHEALTHCHECK --interval=500ms --retries=1 CMD [\"/bin/hello-web\", \"check\"]\n");
    dockerd.build("flotilla/hello-web-checked", &text).await;
    let container =
        dockerd.run(&["--publish", "8080", "--env", "SERVICE_NAME=web", "flotilla/hello-web-checked"]).await;
    let view = View { service: "web", registry: &registry, fronts: &[] };
    view.agrees("Docker calls it healthy", &[&container]).await;
    post(&container, "/health/ill").await;
    view.agrees("Docker calls it unhealthy", &[]).await;
    let all = registry.client.health_service("web", false, None).await.expect("the registry answers").value;
    assert_eq!(all.len(), 1, "an unhealthy instance stays in the catalog");
    post(&container, "/health/well").await;
    view.agrees("it recovers", &[&container]).await;
}
