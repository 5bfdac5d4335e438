//! Names across hosts: of containers and their aliases in networks of the overlay, each in its own network only; and
//! services that are registered with addresses in one, whose callers are known by theirs.

use std::time::Instant;

use flotilla_tests::{docker::Container, eventually};

use super::{
    create, reaches,
    site::{Docked, LIMIT, Site},
};

pub(crate) async fn story() {
    let site = Site::start().await;
    let [a, b] = &site.docked[..] else { unreachable!("there are two") };
    create(a, &["--subnet", "10.210.0.0/16", "app"]).await.expect("it is made");
    a.overlay.run(&["network", "create", "prod"]).await;
    for network in ["app", "prod"] {
        a.until(network, true).await;
        b.until(network, true).await;
    }
    own_network_only(a, b).await;
    services(a, b).await;
}

/// The addresses that a container gets for a name.
async fn resolved(caller: &Container<'_>, name: &str) -> Result<String, String> {
    let out = caller.exec(&["getent", "ahostsv4", name]).await?;
    let first = out.lines().next().and_then(|line| line.split_whitespace().next());
    first.map(str::to_owned).ok_or_else(|| format!("nothing for {name}"))
}

async fn is(caller: &Container<'_>, name: &str, address: &str) -> Result<(), String> {
    match resolved(caller, name).await {
        Ok(found) if found == address => Ok(()),
        other => Err(format!("{other:?} in place of {address}")),
    }
}

/// A name is known on the other host, by those in its network alone, for as long as its container runs.
async fn own_network_only(a: &Docked, b: &Docked) {
    let began = Instant::now();
    let redis = a.web(&["--network", "app", "--network-alias", "cache", "--name", "redis"]).await;
    let other = b.web(&["--network", "prod", "--name", "redis"]).await;
    let only = b.web(&["--network", "prod", "--name", "only"]).await;
    let in_app = a.address(&redis, "app").await;
    let (in_prod, only) = (b.address(&other, "prod").await, b.address(&only, "prod").await);
    let (near, far) = (b.caller(&["--network", "app"]).await, a.caller(&["--network", "prod"]).await);
    for name in ["redis", "cache", "redis.app.overlay"] {
        eventually!(format!("{name} on the other host"), LIMIT, is(&near, name, &in_app));
    }
    println!("  a name is known on the other host within {:?} of the container's start", began.elapsed());
    reaches(&near, "redis").await.expect("by its name");
    for (name, address) in [("redis", &in_prod), ("redis.prod.overlay", &in_prod), ("only", &only)] {
        eventually!(format!("{name} of the other network"), LIMIT, is(&far, name, address));
    }
    for name in ["only", "only.prod.overlay", "redis.prod.overlay"] {
        assert!(resolved(&near, name).await.is_err(), "{name} is of another network");
    }
    is(&near, "redis", &in_app).await.expect("and that of its own network stays");

    // A new start has a new address, and no start none.
    redis.remove().await;
    let gone = async || match resolved(&near, "redis").await {
        Err(_) => Ok(()),
        Ok(found) => Err(found),
    };
    eventually!("a name goes with its container", LIMIT, gone());
}

/// Services with addresses in the network are answered on every host; of two versions each caller gets its own.
async fn services(a: &Docked, b: &Docked) {
    let start = async |host: &'static str, version: &str| {
        let host = if host == "a" { a } else { b };
        let version = format!("SERVICE_VERSION={version}");
        let web = host.web(&["--network", "app", "--env", "SERVICE_NAME=api", "--env", &version]).await;
        let address = host.address(&web, "app").await;
        let caller = host.caller(&["--network", "app", "--env", &version]).await;
        (web, address, caller)
    };
    let ((_one, first, old), (_two, second, new)) = (start("a", "v1").await, start("b", "v2").await);
    for (caller, address) in [(&old, &first), (&new, &second)] {
        eventually!("its own version", LIMIT, is(caller, "api.service.consul", address));
        reaches(caller, "api.service.consul").await.expect("where it is registered");
    }
    // Callers on the host of the other version, too.
    let elsewhere = b.caller(&["--network", "app", "--env", "SERVICE_VERSION=v1"]).await;
    eventually!("its own version on another host", LIMIT, is(&elsewhere, "api.service.consul", &first));
    reaches(&elsewhere, "api.service.consul").await.expect("across hosts");
}
