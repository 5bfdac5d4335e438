//! Containers that know one resolver, the registry: its names and those of other domains, by glibc and by musl, on the
//! default bridge and on a network of their own, where Docker's own resolver is in between.

use std::time::{Duration, Instant};

use flotilla_tests::{
    docker::{CALLER, CALLER_MUSL, Container, Dockerd, HELLO_WEB, REGISTRY},
    eventually,
    needs::Need,
    ports::free_port,
    registry::Registry,
    resolver::{Resolver, port_53},
};

use crate::stage::Registrar;

/// What the images of containers that ask are made of.
pub(crate) fn needs(more: &[&'static str]) -> Vec<Need> {
    let mut needs = Need::DOCKER.to_vec();
    needs.extend(["dig", "curl", "getent", "musl-gcc"].iter().chain(more).copied().map(Need::Program));
    needs
}

/// For one step on a busy machine; the usual is a hundredth.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    dockerd.make_callers();
    let gateway = dockerd.gateway().await;
    let others = Resolver::for_others(([127, 0, 0, 1], free_port()).into(), "").await;
    let (dns, recursor) = (port_53(&gateway).to_string(), others.address.to_string());
    let registry = Registry::beyond_consul(&["--dns-addr", &dns, "--recursor", &recursor]).await;
    let _registrar = Registrar::start(&registry, dockerd, &["--internal"]);
    let own = dockerd.network("resolver-only").await;
    for network in ["bridge", &own.name] {
        let asking = Asking { dockerd, network, gateway: &gateway };
        let web = asking.run(&["--env", "SERVICE_NAME=web", HELLO_WEB]).await;
        let caller = asking.run(&[CALLER, "sleep", "600"]).await;
        let address = address_on(dockerd, &web, network).await;
        eventually!("getent finds web", LIMIT, finds(&caller, "web.service.consul", &address));
        finds(&caller, "www.elsewhere.test", "192.0.2.7").await.expect("another domain");
        asking.musl_finds(&address).await;
        early(&asking, &caller, network).await;
    }
}

/// The registry's own image, on a network where its name is `registry`: it answers on DNS's own port, and is not root.
pub(crate) async fn in_a_container() {
    let dockerd = Dockerd::shared();
    dockerd.make_callers();
    dockerd.make_images(&["kvstore"]);
    let network = dockerd.network("registry-inside").await;
    let usual = ["--network", &network.name, "--cap-drop", "ALL"];
    let data = ["--name", "registry", "--publish", "8500", "--volume", "registry-data:/data"];
    let registry = dockerd.run(&[&usual[..], &data, &[REGISTRY]].concat()).await;
    let caller = dockerd.run(&[&usual[..], &[CALLER, "sleep", "600"]].concat()).await;
    let address = address_on(dockerd, &registry, &network.name).await;
    for port in ["53", "8600"] {
        eventually!(format!("it answers on port {port}"), LIMIT, async {
            let args = ["dig", "+short", "+time=2", "+tries=1", "-p", port, "@registry", "service.consul"];
            let found = caller.exec(&args).await?;
            if found == address { Ok(()) } else { Err(format!("{found:?}, not {address}\n{}", registry.logs().await)) }
        });
    }
    let found = caller.exec(&["dig", "+short", "@registry", "service.consul"]).await;
    assert_eq!(found.as_deref(), Ok(&*address), "without a port");

    let kv = "http://registry:8500/v1/kv/kept";
    let put = caller.exec(&["curl", "--silent", "--request", "PUT", "--data", "yes", kv]).await;
    assert_eq!(put.as_deref(), Ok("true"));
    registry.remove().await;
    let registry = dockerd.run(&[&usual[..], &data, &[REGISTRY]].concat()).await;
    eventually!("what was written is kept in the volume", LIMIT, async {
        let got = caller.exec(&["curl", "--silent", "--max-time", "2", &format!("{kv}?raw")]).await?;
        if got == "yes" { Ok(()) } else { Err(got) }
    });
    registry.stop().await;
    let user = "{{.Config.User}} {{.State.ExitCode}}";
    let ended = dockerd.docker(&["inspect", "--format", user, &registry.id]).await;
    assert_eq!(ended, "10001:10001 0", "{}", registry.logs().await);
}

/// Where containers run, and whom they ask.
pub(crate) struct Asking<'a> {
    pub(crate) dockerd: &'a Dockerd,
    pub(crate) network: &'a str,
    /// Their only resolver.
    pub(crate) gateway: &'a str,
}

impl<'a> Asking<'a> {
    pub(crate) async fn run(&self, args: &[&str]) -> Container<'a> {
        let usual = ["--network", self.network, "--dns", self.gateway];
        self.dockerd.run(&[&usual, args].concat()).await
    }

    async fn musl_finds(&self, address: &str) {
        let usual = ["run", "--rm", "--network", self.network, "--dns", self.gateway, CALLER_MUSL, "resolve"];
        let names = ["web.service.consul", "www.elsewhere.test"];
        let found = self.dockerd.docker(&[&usual[..], &names].concat()).await;
        assert_eq!(found.lines().collect::<Vec<_>>(), [address, "192.0.2.7"], "by musl, on {}", self.network);
    }
}

/// A name that is asked for before it exists is there as soon as its container is.
pub(crate) async fn early(asking: &Asking<'_>, caller: &Container<'_>, tag: &str) {
    let (service, name) = (format!("SERVICE_NAME=soon-{tag}"), format!("soon-{tag}.service.consul"));
    // Twice: whoever keeps what is not there would have it by now.
    for _ in 0..2 {
        assert!(caller.exec(&["getent", "hosts", &name]).await.is_err(), "it is too early");
    }
    let soon = asking.run(&["--env", &service, HELLO_WEB]).await;
    let start = Instant::now();
    let address = address_on(asking.dockerd, &soon, asking.network).await;
    eventually!(name, LIMIT, finds(caller, &name, &address));
    println!("  {name}, asked for too early: found {} ms after its container's start", start.elapsed().as_millis());
}

/// As programs ask that use the C library.
async fn finds(caller: &Container<'_>, name: &str, address: &str) -> Result<(), String> {
    let found = caller.exec(&["getent", "hosts", name]).await?;
    if found.split_whitespace().next() == Some(address) { Ok(()) } else { Err(format!("{found}, not {address}")) }
}

pub(crate) async fn address_on(dockerd: &Dockerd, container: &Container<'_>, network: &str) -> String {
    let address = format!("{{{{(index .NetworkSettings.Networks {network:?}).IPAddress}}}}");
    dockerd.docker(&["inspect", "--format", &address, &container.id]).await
}
