//! `examples/hub`: its compose files, as they run on the host that has the registry and on the others.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown},
    process,
    time::Duration,
};

use flotilla_tests::{
    compose::Compose,
    dig::dig_at,
    docker::{CALLER, Container, Dockerd, HELLO_WEB},
    eventually,
    host::DockerHost,
    needs::Need,
    overlay,
    ports::free_port,
    web,
};
use reqwest::Method;
use tempfile::NamedTempFile;

use crate::{resolver_only::address_on, sidecar};

/// For one step on a busy machine, in which several containers start.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    dockerd.make_images(&["kvstore", "registrar", "templater-haproxy"]);
    let token = token();
    let (address, dns, http) = (dockerd.gateway().await, free_port(), free_port());
    let env = [
        ("HUB_ADDRESS", address.clone()),
        ("HOST_ADDRESS", address.clone()),
        ("NODE", "host1".to_owned()),
        ("REGISTRY_TOKEN_FILE", token.path().display().to_string()),
        ("DNS_PORT", dns.to_string()),
        ("HTTP_PORT", http.to_string()),
    ];
    let hub = Compose::new(dockerd, "hub/hub.yaml", "hub", &env);
    let host = Compose::new(dockerd, "hub/host.yaml", "host", &env);
    hub.run(&["up", "--detach", "--no-build"]).await;
    host.run(&["up", "--detach", "--no-build", "--scale", "web=2"]).await;
    let url = format!("http://{address}:{http}/");
    eventually!("both are behind HAProxy", LIMIT, async {
        let found = web::who_answers(&url, 6).await?;
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let nodes = web::get(&format!("http://{address}:8500/v1/catalog/service/web")).await.expect("the hub answers");
    assert!(nodes.contains(r#""Node":"host1""#), "{nodes}");
    let put = web::ask(Method::PUT, &format!("http://{address}:8500/v1/kv/a")).await.expect("the hub answers");
    assert_eq!(put.status, 403, "without a token nobody writes: {}", put.body);
    eventually!("both are in DNS", LIMIT, async {
        let server = format!("{address}:{dns}").parse().expect("an address and a port");
        let found = dig_at(server, "web.service.consul", "SRV", &[]).await?.records;
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// What the registry's user, and root by its group, may read.
fn token() -> NamedTempFile {
    let token = NamedTempFile::new().expect("a temporary file can be made");
    fs::write(token.path(), "0123456789-of-this-story\n").expect("our own file");
    chown(token.path(), Some(10001), Some(0)).expect("we are root");
    fs::set_permissions(token.path(), Permissions::from_mode(0o440)).expect("our own file");
    token
}

pub(crate) fn overlay_needs() -> Vec<Need> {
    let programs = ["nft", "curl", "getent", "dig"].map(Need::Program);
    [&sidecar::needs()[..], &programs, &[Need::Tun]].concat()
}

/// Two hosts with the overlay in a container, which has no more rights than it says; containers of both reach each other
/// in a network that the overlay made, and in one that Docker made by its driver.
pub(crate) async fn overlay() {
    let hosts = [DockerHost::new(0), DockerHost::new(1)];
    let addresses = hosts[0].link(&hosts[1]);
    let dockerds = hosts.each_ref().map(|host| Dockerd::start_in(&host.namespace, &host.bridge));
    let (token, secret) = (token(), NamedTempFile::new().expect("a temporary file can be made"));
    fs::write(secret.path(), overlay::secret().await).expect("our own file");
    // All daemons of this machine look for drivers in one place.
    let drivers = [1, 2].map(|n| format!("flotilla-{}-{n}", process::id()));
    let env = |n: usize| {
        [
            ("HUB_ADDRESS", addresses[0].clone()),
            ("NODE", format!("host{}", n + 1)),
            ("REGISTRY_TOKEN_FILE", token.path().display().to_string()),
            ("OVERLAY_SECRET_FILE", secret.path().display().to_string()),
            ("PLUGIN_SOCKET", format!("/run/docker/plugins/{}.sock", drivers[n])),
        ]
    };
    dockerds[0].make_images(&["kvstore"]);
    let hub = Compose::new(&dockerds[0], "hub/hub.yaml", "hub", &env(0));
    hub.run(&["up", "--detach", "--no-build"]).await;
    let mut overlays = Vec::new();
    for (n, dockerd) in dockerds.iter().enumerate() {
        // As Docker has it, unless told not to as ours is.
        hosts[n].namespace.call("sysctl", "-q net.ipv4.ip_forward=1", "");
        dockerd.make_images(&["overlay-nft"]);
        dockerd.make_callers();
        let overlay = Compose::new(dockerd, "hub/overlay.yaml", "overlay", &env(n));
        overlay.run(&["up", "--detach", "--no-build"]).await;
        overlays.push(overlay);
    }
    for overlay in &overlays {
        eventually!("it is ready, and its HEALTHCHECK finds it well", LIMIT, async {
            let health = overlay.inspect("overlay", "{{json .State.Health}}").await;
            if health.contains(r#""Status":"healthy""#) { Ok(()) } else { Err(health) }
        });
    }
    overlays[0].run(&["exec", "-T", "overlay", "overlay", "network", "create", "made-by-overlay"]).await;
    let driver = ["network", "create", "--driver", &drivers[0], "--ipam-driver", &drivers[0]];
    dockerds[0].docker(&[&driver[..], &["--subnet", "10.99.0.0/16", "made-by-docker"]].concat()).await;
    for network in ["made-by-overlay", "made-by-docker"] {
        let callers = [in_network(&dockerds[0], network).await, in_network(&dockerds[1], network).await];
        for (from, to) in [(0, 1), (1, 0)] {
            let url = format!("http://{}:8080/", address_on(&dockerds[to], &callers[to][1], network).await);
            eventually!("they reach each other", LIMIT, callers[from][0].curl(&url));
        }
    }
    let status = overlays[0].run(&["exec", "-T", "overlay", "overlay", "status"]).await;
    let peer = status.lines().find(|line| line.starts_with("host2")).unwrap_or_else(|| panic!("{status}"));
    assert!(peer.contains("direct") && peer.contains(&addresses[1]) && !status.contains("TROUBLE"), "{status}");
    println!("{status}");
}

/// Who asks, and who answers, in a network that Docker is about to have.
async fn in_network<'a>(dockerd: &'a Dockerd, network: &str) -> [Container<'a>; 2] {
    eventually!("Docker has the network", LIMIT, async {
        dockerd.try_docker(&["network", "inspect", network]).await.ok()
    });
    let caller = dockerd.run(&["--network", network, CALLER, "sleep", "600"]).await;
    [caller, dockerd.run(&["--network", network, HELLO_WEB]).await]
}
