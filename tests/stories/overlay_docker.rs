//! Containers in networks of the overlay, on one host: by Docker's driver, by its driver of addresses alone, and in
//! ordinary networks that the overlay makes; while Docker and the overlay are restarted.

use std::{path::Path, process, time::Duration};

use flotilla_tests::{
    docker::{CALLER, Container, Dockerd, HELLO_WEB},
    eventually,
    needs::Need,
    overlay::{Overlay, secret},
    program::Launch,
};
use nix::sys::signal::Signal;

use crate::resolver_only::address_on;

const LIMIT: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_secs(2);

pub(crate) fn needs() -> Vec<Need> {
    [&Need::DOCKER[..], &["nft", "curl", "getent", "dig"].map(Need::Program)].concat()
}

/// Removes the rules that stay where a daemon ends, so that what runs goes on.
struct Rules;

impl Drop for Rules {
    fn drop(&mut self) {
        for table in ["overlay", "overlay_nat"] {
            let _ = process::Command::new("nft").args(["delete", "table", "inet", table]).output();
        }
    }
}

/// A name of the driver's own: all daemons look for drivers in one place.
fn driver_name() -> String {
    format!("flotilla-{}", process::id())
}

/// An address of a network of this story's own, of the `third` of those.
fn net(third: u8, rest: &str) -> String {
    format!("10.{}.{third}.{rest}", 100 + process::id() % 100)
}

async fn reaches(caller: &Container<'_>, host: &str) -> Result<(), String> {
    caller.curl(&format!("http://{host}:8080/")).await.map(drop)
}

async fn networks(docker: &Dockerd) -> String {
    docker.docker(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).await
}

pub(crate) async fn driver() {
    let before = links();
    let docker = Dockerd::start();
    docker.make_callers();
    let (_rules, driver) = (Rules, driver_name());
    let beside = ["--interface", "ovl-story", "--port", "51999"];
    let mut overlay = Overlay::new("h1", &secret().await, &beside).with_docker(&docker, Some(&driver));
    overlay.start(Launch::start).await;

    let (subnet, range, gateway) = (net(1, "0/24"), net(1, "64/26"), net(1, "254"));
    let make = ["network", "create", "--driver", &driver, "--ipam-driver", &driver, "--opt", "local=true"];
    let with = ["--subnet", &subnet, "--ip-range", &range, "--gateway", &gateway, "app"];
    docker.docker(&[&make[..], &with].concat()).await;
    let shown = docker.docker(&["network", "inspect", "--format", "{{json .IPAM.Config}}", "app"]).await;
    assert!(shown.contains(&subnet) && shown.contains(&range) && shown.contains(&gateway), "{shown}");
    let half = net(1, "128/25");
    let refused =
        docker.try_docker(&[&make[..], &["--subnet", &half, "other"]].concat()).await.ok().expect_err("it overlaps");
    assert!(refused.contains("overlaps") && refused.contains("is free"), "{refused}");

    // By name, by a given address, with and without `network connect`, and by a port of the host.
    let web = docker.run(&["--network", "app", "--name", "web", "--restart", "always", HELLO_WEB]).await;
    let caller = docker.run(&["--network", "app", "--restart", "always", CALLER, "sleep", "600"]).await;
    reaches(&caller, "web").await.expect("by its name");
    assert!(address_on(&docker, &web, "app").await.starts_with(&net(1, "")), "in the subnet");
    let fixed = net(1, "9");
    let given = docker.run(&["--network", "app", "--ip", &fixed, "--publish", "8080", HELLO_WEB]).await;
    assert_eq!(address_on(&docker, &given, "app").await, fixed);
    reaches(&caller, &fixed).await.expect("by its address");
    let elsewhere = docker.run(&[HELLO_WEB]).await;
    docker.docker(&["network", "connect", "--alias", "late", "app", &elsewhere.id]).await;
    reaches(&caller, "late").await.expect("connected");
    docker.docker(&["network", "disconnect", "app", &elsewhere.id]).await;
    reaches(&caller, "late").await.expect_err("disconnected");
    let rules = nft(&["list", "table", "inet", "overlay_nat"]);
    let dnat = format!("dnat ip to {fixed}:8080");
    let port: u16 = rules.lines().find(|line| line.contains(&dnat)).and_then(port_of).expect("a port is published");
    let published = format!("http://{gateway}:{port}/");
    Launch::new("curl")
        .args(["--silent", "--fail", "--max-time", "3", &published])
        .run(LIMIT)
        .await
        .ok()
        .expect("published");
    given.remove().await;
    assert!(!nft(&["list", "table", "inet", "overlay_nat"]).contains(&dnat), "the port went with its container");

    // While the overlay is away what runs goes on; when it is back it knows all that it has given.
    overlay.program().kill();
    reaches(&caller, "web").await.expect("without the overlay");
    overlay.start(Launch::start).await;
    let next = docker.run(&["--network", "app", HELLO_WEB]).await;
    reaches(&caller, &address_on(&docker, &next, "app").await).await.expect("started afterwards");
    let taken = [&web, &caller, &next].map(|container| async { address_on(&docker, container, "app").await });
    let taken = futures_util::future::join_all(taken).await;
    assert_eq!(taken.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{taken:?}");
    next.remove().await;

    // Docker begins anew: its containers come back, in the same network.
    docker.halt(Signal::SIGTERM);
    docker.start_again();
    eventually!("the containers are back", LIMIT, reaches(&caller, "web"));

    web.remove().await;
    caller.remove().await;
    docker.docker(&["network", "rm", "app"]).await;
    assert!(!networks(&docker).await.contains("app"));
    assert_eq!(links(), before, "nothing is left");
    plain(&docker, &overlay).await;
    // Docker itself waits for half a minute there.
    if std::env::var_os("OVERLAY_LONG").is_some() {
        docker_without_the_overlay(&docker, &mut overlay).await;
    }
}

/// Docker's own networks: with our addresses, and made by the overlay.
async fn plain(docker: &Dockerd, overlay: &Overlay) {
    let subnet = net(2, "0/24");
    docker.docker(&["network", "create", "--ipam-driver", &driver_name(), "--subnet", &subnet, "addresses"]).await;
    let container = docker.run(&["--network", "addresses", HELLO_WEB]).await;
    assert_eq!(address_on(docker, &container, "addresses").await, net(2, "2"));
    container.remove().await;
    docker.docker(&["network", "rm", "addresses"]).await;

    overlay.run(&["network", "create", "plain", "--local", "--subnet", &net(3, "0/24")]).await;
    let there = async || match networks(docker).await {
        all if all.contains("plain bridge") => Ok(()),
        all => Err(all),
    };
    eventually!("Docker has the overlay's network", SOON, there());
    let web = docker.run(&["--network", "plain", "--name", "plain-web", HELLO_WEB]).await;
    let caller = docker.run(&["--network", "plain", CALLER, "sleep", "600"]).await;
    reaches(&caller, "plain-web").await.expect("by its name");
    assert!(!links().is_empty(), "the bridge is the overlay's");
    web.remove().await;
    caller.remove().await;
    overlay.run(&["network", "rm", "plain"]).await;
    let gone = async || match networks(docker).await {
        all if all.contains("plain") => Err(all),
        _ => Ok(()),
    };
    eventually!("Docker has it no more", SOON, gone());
}

/// Docker waits a while for a driver that is not there, and its containers stay down; they are started when it is.
async fn docker_without_the_overlay(docker: &Dockerd, overlay: &mut Overlay) {
    let driver = driver_name();
    let subnet = net(4, "0/24");
    let make = ["network", "create", "--driver", &driver, "--ipam-driver", &driver, "--opt", "local=true"];
    docker.docker(&[&make[..], &["--subnet", &subnet, "app"]].concat()).await;
    let web = docker.run(&["--network", "app", "--name", "web", "--restart", "always", HELLO_WEB]).await;
    docker.halt(Signal::SIGTERM);
    assert!(overlay.program().stop().success());
    let socket = format!("/run/docker/plugins/{driver}.sock");
    assert!(!Path::new(&socket).exists(), "nobody is to wait for an answer there");
    docker.start_again();
    overlay.start(Launch::start).await;
    let running = async || match docker.docker(&["inspect", "--format", "{{.State.Running}}", &web.id]).await {
        yes if yes == "true" => Ok(()),
        no => Err(no),
    };
    eventually!("the container is started", LIMIT, running());
    web.remove().await;
    docker.docker(&["network", "rm", "app"]).await;
}

fn nft(args: &[&str]) -> String {
    let output = process::Command::new("nft").args(args).output().expect("nft can be run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn port_of(rule: &str) -> Option<u16> {
    rule.split("dport ").nth(1)?.split(' ').next()?.parse().ok()
}

/// The names of the overlay's links on this host.
fn links() -> Vec<String> {
    let output = process::Command::new("ip").args(["-o", "link"]).output().expect("ip can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let names = text.lines().filter_map(|line| line.split([':', '@']).nth(1));
    names
        .map(str::trim)
        .filter(|name| name.starts_with("ovb-") || name.starts_with("ovp-"))
        .map(str::to_owned)
        .collect()
}
