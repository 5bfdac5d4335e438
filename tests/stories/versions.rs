//! Old web keeps talking to old api while new web talks to new api, and everybody else gets the live version: on the
//! default bridge, with published ports, on networks of their own, and on two hosts whose containers have the same
//! addresses.

use std::{collections::BTreeSet, net::SocketAddr};

use flotilla_tests::{
    docker::{CALLER, Container, Dockerd, HELLO_WEB},
    eventually,
    host::DockerHost,
    ports::free_port,
    program::Launch,
    registry::Registry,
    resolver::{Resolver, port_53},
    web::{get, hello},
};

use crate::{
    resolver_only::{Asking, LIMIT, address_on},
    stage::Registrar,
};

/// A web server that can ask others: hello-web with curl, dig and getent.
pub(crate) const SITE: &str = "flotilla/site";

pub(crate) async fn make_site(dockerd: &Dockerd) {
    dockerd.make_callers();
    let copied = format!("COPY --from={HELLO_WEB} /bin/hello-web /bin/hello-web");
    dockerd.build(SITE, &format!("FROM {CALLER}\n{copied}\nEXPOSE 8080\nENTRYPOINT [\"hello-web\"]\n")).await;
}

/// How containers reach each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By their own addresses.
    Internal,
    /// By ports of the host, which SRV records tell.
    Published,
}

/// On the default bridge.
pub(crate) async fn side_by_side() {
    told_directly("bridge", Way::Internal).await;
}

/// With published ports.
pub(crate) async fn published() {
    told_directly("bridge", Way::Published).await;
}

/// On a network of their own, where Docker's resolver is in between.
pub(crate) async fn on_networks() {
    let dockerd = Dockerd::shared();
    let network = dockerd.network("versions").await;
    told_directly(&network.name, Way::Internal).await;
}

/// Two hosts that share a registry. On each dnsmasq passes on who asks, and is known by its host's address.
pub(crate) async fn on_two_hosts() {
    let hosts = [DockerHost::new(0), DockerHost::new(1)];
    let dns = hosts.each_ref().map(|host| SocketAddr::new(host.ours.parse().expect("an address"), free_port()));
    let [first, second] = dns.map(|dns| dns.to_string());
    let trusted = hosts.each_ref().map(|host| format!("{}/32", host.address)).join(",");
    let args = ["--dns-addr", &first, "--dns-addr", &second, "--trusted-resolver", &trusted];
    let registry = Registry::beyond_consul(&args).await;
    let dockerds = hosts.each_ref().map(|host| Dockerd::start_in(&host.namespace, &host.bridge));
    let mut resolvers = Vec::new();
    let mut registrars = Vec::new();
    for (n, host) in hosts.iter().enumerate() {
        let here = port_53(DockerHost::GATEWAY);
        resolvers.push(Resolver::example_dnsmasq(here, dns[n], Some(&host.namespace)).await);
        let args = ["--node", ["first", "second"][n], "--ip", &host.address];
        registrars.push(Registrar::start(&registry, &dockerds[n], &args));
        make_site(&dockerds[n]).await;
    }
    let asking = dockerds.each_ref().map(|dockerd| Asking { dockerd, network: "bridge", gateway: DockerHost::GATEWAY });
    let mut running = Vec::new();
    for (asking, version) in asking.iter().zip(["v1", "v2"]) {
        running.push((run(asking, "web", version).await, run(asking, "api", version).await));
    }
    let [(old, _), (new, _)] = &running[..] else { panic!("two were started") };
    assert_eq!(old.address().await, new.address().await, "two containers, one address");
    gets(old, Way::Published, &["v1"]).await;
    gets(new, Way::Published, &["v2"]).await;
    let stranger = asking[0].run(&[CALLER, "sleep", "600"]).await;
    eventually!("who is not known finds both", LIMIT, async {
        let found = stranger.exec(&["dig", "+short", "SRV", "api.service.consul"]).await?;
        if found.lines().count() == 2 { Ok(()) } else { Err(found) }
    });
}

/// The containers ask the registry itself.
async fn told_directly(network: &str, way: Way) {
    let dockerd = Dockerd::shared();
    let gateway = dockerd.gateway().await;
    let registry = Registry::beyond_consul(&["--dns-addr", &port_53(&gateway).to_string()]).await;
    told(&Asking { dockerd, network, gateway: &gateway }, &registry, way).await;
}

/// The whole story, whoever is between the containers and the registry.
pub(crate) async fn told(asking: &Asking<'_>, registry: &Registry, way: Way) {
    make_site(asking.dockerd).await;
    let args: &[&str] = if way == Way::Internal { &["--internal"] } else { &["--ip", asking.gateway] };
    let _registrar = Registrar::start(registry, asking.dockerd, args);
    let (old_api, _new_api) = (run(asking, "api", "v1").await, run(asking, "api", "v2").await);
    let (old, new) = (run(asking, "web", "v1").await, run(asking, "web", "v2").await);
    // Without any port: in no catalog, and still known. The last one is nobody.
    let job = asking.run(&["--env", "SERVICE_VERSION=v2", CALLER, "sleep", "600"]).await;
    let stranger = asking.run(&[CALLER, "sleep", "600"]).await;
    gets(&old, way, &["v1"]).await;
    gets(&new, way, &["v2"]).await;
    gets(&job, way, &["v2"]).await;
    gets(&stranger, way, &["v1", "v2"]).await;
    for (caller, want) in [(&old, &["v1"][..]), (&job, &["v2"]), (&stranger, &["v1", "v2"])] {
        for_address(registry, &address_on(asking.dockerd, caller, asking.network).await, want).await;
    }

    release(registry, &["api", "v2"]).await;
    gets(&stranger, way, &["v2"]).await;
    gets(&old, way, &["v1"]).await;
    release(registry, &["api", "v1"]).await;
    gets(&stranger, way, &["v1"]).await;
    gets(&new, way, &["v2"]).await;
    release(registry, &["api", "--clear"]).await;
    gets(&stranger, way, &["v1", "v2"]).await;
    let history = release(registry, &["api", "--history", "--format", "json"]).await;
    let history: serde_json::Value = serde_json::from_str(&history).expect("JSON");
    let versions: Vec<_> = history.as_array().expect("a list").iter().map(|release| &release["Version"]).collect();
    // Newest first.
    assert_eq!(versions[..3], [&serde_json::Value::Null, &"v1".into(), &"v2".into()]);

    old_api.stop().await;
    gets(&old, way, &["v2"]).await;
}

async fn run<'a>(asking: &Asking<'a>, service: &str, version: &str) -> Container<'a> {
    let env = [format!("SERVICE_NAME={service}"), format!("SERVICE_VERSION={version}"), format!("VERSION={version}")];
    asking.run(&["--publish", "8080", "--env", &env[0], "--env", &env[1], "--env", &env[2], SITE]).await
}

/// Waits until the caller meets exactly these versions of api, each time it asks.
async fn gets(caller: &Container<'_>, way: Way, want: &[&str]) {
    let want: BTreeSet<String> = want.iter().map(ToString::to_string).collect();
    eventually!(format!("only {want:?} answers"), LIMIT, async {
        let mut met = BTreeSet::new();
        for _ in 0..6 * want.len() {
            let url = url(caller, way).await?;
            let body = caller.exec(&["curl", "--silent", "--show-error", "--max-time", "5", &url]).await?;
            met.insert(hello(&body)?.version);
        }
        if met == want { Ok(()) } else { Err(format!("{met:?}")) }
    });
}

/// Where the caller finds an api.
async fn url(caller: &Container<'_>, way: Way) -> Result<String, String> {
    const NAME: &str = "api.service.consul";
    if way == Way::Internal {
        return Ok(format!("http://{NAME}:8080/"));
    }
    // PRIORITY WEIGHT PORT TARGET
    let records = caller.exec(&["dig", "+short", "+time=2", "+tries=2", "SRV", NAME]).await?;
    let first: Vec<_> = records.lines().next().unwrap_or_default().split(' ').collect();
    let [_, _, port, target] = first[..] else { return Err(format!("no SRV record: {records:?}")) };
    Ok(format!("http://{}:{port}/", target.trim_end_matches('.')))
}

/// The HTTP form of the same question.
async fn for_address(registry: &Registry, address: &str, want: &[&str]) {
    let url = format!("{}/v1/health/service/api?passing&for={address}", registry.url());
    let found: serde_json::Value = serde_json::from_str(&get(&url).await.expect("an answer")).expect("JSON");
    let version = |entry: &serde_json::Value| entry["Service"]["Meta"]["version"].as_str().map(str::to_owned);
    let versions: BTreeSet<_> = found.as_array().expect("a list").iter().filter_map(version).collect();
    assert_eq!(versions.iter().collect::<Vec<_>>(), want, "for {address}");
}

async fn release(registry: &Registry, args: &[&str]) -> String {
    let launch = Launch::ours("kvstore").args(["release"]).args(args).args(["--http-addr", &registry.url()]);
    launch.run(LIMIT).await.ok().expect("kvstore release")
}
