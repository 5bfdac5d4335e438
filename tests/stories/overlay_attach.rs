//! Links beside Docker's own, on two hosts: containers of any network mode are attached and follow their restarts, hosts
//! have addresses in a network, pipework's cases; and a reset leaves nothing of it.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use flotilla_tests::{
    docker::{CALLER, Container, Dockerd, HELLO_WEB},
    eventually,
    host::DockerHost,
    needs::Need,
    overlay::{Overlay, secret},
    program::{Launch, Program},
};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(30);
/// The interface between hosts, which is not called as it is by default.
const TUNNEL: &str = "mesh0";

pub(crate) fn needs() -> Vec<Need> {
    let programs = ["nft", "nsenter", "setpriv", "curl", "ping", "getent", "dig"].map(Need::Program);
    [&Need::DOCKER[..], &[Need::Tun], &programs].concat()
}

/// A name of the driver's own: all daemons look for drivers in one place.
fn driver_name() -> String {
    format!("flotilla-{}-a", std::process::id())
}

/// Starts it on its host, and waits until all is there.
async fn start(overlay: &mut Overlay, host: &DockerHost) {
    overlay.start(|launch| launch.inside(&host.namespace).start()).await;
    eventually!("the overlay is up", LIMIT, overlay.try_run(&["wait", "--timeout", "1s"]));
}

async fn refused(overlay: &Overlay, args: &[&str], words: &str) {
    let why = overlay.try_run(args).await.expect_err("it is refused");
    assert!(why.contains(words), "overlay {args:?}: {why}");
}

/// The first address of what was attached or exposed.
async fn address(overlay: &Overlay, args: &[&str]) -> String {
    let made = overlay.json(args).await;
    made["addresses"][0].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
}

/// What a program of the system says in a host's network, or a container's.
fn says(namespace: &Path, command: &str) -> Result<String, String> {
    let mut words = command.split_whitespace();
    let mut call = Command::new("nsenter");
    call.arg(format!("--net={}", namespace.display())).args(words.by_ref());
    let output = call.output().expect("nsenter can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// All that a reset must leave as it was; without the numbers that the kernel counts on.
async fn everything(host: &DockerHost, docker: &Dockerd) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for command in
        ["ip -o link", "ip -o address", "ip route show table all", "ip -6 route show table all", "nft list ruleset"]
    {
        let said = says(&host.namespace.path(), command).expect("it can be looked at");
        let words = |line: &str| match command {
            "ip -o link" => line.split([':', '@']).nth(1).unwrap_or_default().trim().to_owned(),
            "ip -o address" => line.split_whitespace().skip(1).take(3).collect::<Vec<_>>().join(" "),
            _ => line.replace(" linkdown", ""),
        };
        // The kernel's own, which come and go with the ports of a bridge.
        let kernels = |line: &str| ["fe80:", "ff00::", "multicast"].iter().any(|part| line.contains(part));
        all.extend(said.lines().filter(|line| !kernels(line)).map(|line| format!("{command}: {}", words(line))));
    }
    all.extend(docker.docker(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"]).await.lines().map(str::to_owned));
    all
}

async fn pid(docker: &Dockerd, container: &str) -> String {
    docker.docker(&["inspect", "--format", "{{.State.Pid}}", container]).await
}

/// What a program of the system says in a container's network.
async fn within(docker: &Dockerd, container: &Container<'_>, command: &str) -> Result<String, String> {
    let namespace = format!("/proc/{}/ns/net", pid(docker, &container.id).await);
    says(Path::new(&namespace), command)
}

async fn reaches(caller: &Container<'_>, address: &str, port: u16) -> Result<(), String> {
    let url = format!("http://{address}:{port}/");
    caller.exec(&["curl", "--silent", "--show-error", "--max-time", "3", &url]).await.map(|_| ())
}

fn host_reaches(host: &DockerHost, address: &str) -> Result<(), String> {
    says(&host.namespace.path(), &format!("curl --silent --fail --max-time 3 http://{address}:8080/")).map(|_| ())
}

struct Site<'a> {
    a: Overlay,
    b: Overlay,
    docker: &'a Dockerd,
    _registry: Program,
    hosts: &'a [DockerHost; 2],
}

impl<'a> Site<'a> {
    async fn new(hosts: &'a [DockerHost; 2], docker: &'a Dockerd) -> (Self, BTreeSet<String>) {
        let [first, _] = hosts[0].link(&hosts[1]);
        docker.make_callers();
        hosts[0].namespace.ip("link add br0 type bridge");
        hosts[0].namespace.ip("address add 192.0.2.1/24 dev br0");
        hosts[0].namespace.ip("link set br0 up");
        let before = everything(&hosts[0], docker).await;
        let agent =
            ["agent", "--dev", "--node", "registry", "--http-addr", "0.0.0.0:8500", "--dns-addr", "0.0.0.0:8600"];
        let mut registry = Launch::ours("kvstore").args(agent).inside(&hosts[0].namespace).start();
        registry.wait_for_log("listening", LIMIT).await;
        let url = format!("http://{first}:8500");
        let (secret, args) = (secret().await, ["--registry", &*url, "--interface", TUNNEL]);
        let [a, b] = ["a", "b"].map(|name| Overlay::new(name, &secret, &args));
        let a = a.with_docker(docker, Some(&driver_name()));
        let mut site = Self { a, b, docker, _registry: registry, hosts };
        start(&mut site.a, &site.hosts[0]).await;
        start(&mut site.b, &site.hosts[1]).await;
        (site, before)
    }

    async fn network(&self, name: &str, third: u8) {
        let subnet = format!("10.{third}.0.0/16");
        self.a.run(&["network", "create", name, "--subnet", &subnet]).await;
        for overlay in [&self.a, &self.b] {
            eventually!("it has a block", LIMIT, async {
                let held = overlay.json(&["status", "networks"]).await;
                let with = held
                    .as_array()
                    .into_iter()
                    .flatten()
                    .any(|held| held["network"]["name"] == name && held["blocks"][0].is_object());
                if with { Ok(()) } else { Err(held) }
            });
        }
    }
}

impl Site<'_> {
    /// What the registry's DNS says of a name to somebody in a network, on the host where nothing is attached.
    async fn named(&self, name: &str, network: &str) -> String {
        let mut gateways = Vec::new();
        for overlay in [&self.a, &self.b] {
            let held = overlay.json(&["status", "networks"]).await;
            let held =
                held.as_array().and_then(|all| all.iter().find(|held| held["network"]["name"] == network).cloned());
            let block = held.as_ref().and_then(|held| held["blocks"][0]["v4"].as_str()?.strip_suffix(".0/24"));
            gateways.push(format!("{}.1", block.expect("a block")));
        }
        let dig = format!("dig +short +time=2 +tries=1 -b {} @{} -p 8600 -q {name} -t A", gateways[1], gateways[0]);
        says(&self.hosts[1].namespace.path(), &dig).unwrap_or_else(|e| format!("dig failed: {e}")).trim().to_owned()
    }

    /// Until it is that.
    async fn until_named(&self, name: &str, network: &str, wanted: &str) {
        eventually!("the name is what it should be", LIMIT, async {
            match self.named(name, network).await {
                said if said == wanted => Ok(()),
                said => Err(format!("{name} in {network} is {said:?}, not {wanted:?}")),
            }
        });
    }
}

pub(crate) async fn story() {
    let hosts = [DockerHost::new(0), DockerHost::new(1)];
    let docker = &Dockerd::start_in(&hosts[0].namespace, &hosts[0].bridge);
    let (mut site, before) = Site::new(&hosts, docker).await;
    site.network("app", 117).await;
    site.network("other", 118).await;
    let none = docker.run(&["--network", "none", "--name", "none", CALLER, "sleep", "600"]).await;
    let web = docker.run(&["--name", "web", HELLO_WEB]).await;
    let stranger = docker.run(&["--name", "stranger", CALLER, "sleep", "600"]).await;

    // Of any mode; on this host, from another, and not from another network.
    let at = address(&site.a, &["attach", "none", "app"]).await;
    let of_web = address(&site.a, &["attach", "web", "app"]).await;
    assert_eq!(address(&site.a, &["attach", "web", "app"]).await, of_web, "once more is the same");
    site.a.run(&["attach", "stranger", "other"]).await;
    for (name, address) in [("web", &of_web), ("none", &at)] {
        site.until_named(name, "app", address).await;
    }
    site.until_named("web.app.overlay", "app", &of_web).await;
    // In another network it means nothing; the way there may not be known at once.
    site.until_named("web", "other", "").await;
    site.until_named("web.app.overlay", "other", "").await;
    reaches(&none, &of_web, 8080).await.expect("without any other network");
    reaches(&stranger, &of_web, 8080).await.expect_err("from another network");
    eventually!("from the other host", LIMIT, async { host_reaches(&site.hosts[1], &of_web) });
    assert!(within(docker, &none, "ip -6 address show ov0").await.expect("ov0").contains("inet6 fd"), "IPv6, too");

    // Wherever the tunnel is named, it is the configured one.
    let rules = says(&site.hosts[0].namespace.path(), "nft list ruleset").expect("nft");
    assert!(rules.contains(&format!("oifname != \"{TUNNEL}\" masquerade")), "{rules}");
    let format = "{{index .Options \"com.docker.network.bridge.trusted_host_interfaces\"}}";
    assert_eq!(docker.docker(&["network", "inspect", "app", "--format", format]).await, TUNNEL);
    assert!(!rules.contains("ovl0"), "{rules}");

    refusals(&site, &at).await;
    let rows = site.a.json(&["ps"]).await;
    let row = rows.as_array().and_then(|all| all.iter().find(|row| row["name"] == "web" && row["network"] == "app"));
    assert!(row.is_some_and(|row| row["addresses"][0] == of_web && row["door"] == "attached"), "{rows}");
    assert!(site.a.run(&["ps", "none"]).await.contains(&at));
    refused(&site.a, &["ipam", "release", &of_web], "overlay detach web").await;

    // An address that was asked for, in a container with two links.
    let fixed = of_web.rsplit_once('.').map(|(net, _)| format!("{net}.200")).expect("an address");
    assert_eq!(address(&site.a, &["attach", "none", &fixed]).await, fixed);
    refused(&site.a, &["attach", "web", &fixed], "in use").await;
    site.a.run(&["detach", "none", &fixed]).await;
    assert_eq!(address(&site.a, &["attach", "stranger", &fixed]).await, fixed, "it was given back");
    reaches(&stranger, &of_web, 8080).await.expect("it is in both networks now");
    site.until_named("stranger", "app", &fixed).await;
    site.until_named("none", "app", &at).await;

    restarts(&mut site, &web, &none, &of_web).await;
    exposed(&site, &none).await;
    driven(&site, &none).await;
    pipework(&site, &none).await;
    ended(&site, &web, &none, &of_web).await;

    // Given back with the container, and by hand.
    web.remove().await;
    eventually!("it went with its container", LIMIT, async {
        match site.a.run(&["ps"]).await {
            all if all.contains(&of_web) => Err(all),
            _ => Ok(()),
        }
    });
    site.until_named("web", "app", "").await;
    site.a.run(&["detach", "stranger"]).await;
    site.until_named("stranger", "app", "").await;
    reaches(&stranger, &at, 1).await.expect_err("detached");
    assert!(within(docker, &stranger, "ip link show ov0").await.is_err(), "no link is left");
    refused(&site.a, &["detach", "stranger"], "nothing is attached to it").await;

    // Killed in the middle of it all, and begun anew: then nothing is left.
    let ordinary = docker.run(&["--network", "other", "--name", "ordinary", CALLER, "sleep", "600"]).await;
    assert!(site.a.run(&["ps", "ordinary"]).await.contains("ordinary"), "an ordinary network's");
    let driven = docker.run(&["--network", "driven", CALLER, "sleep", "600"]).await;
    site.a.program().kill();
    start(&mut site.a, &site.hosts[0]).await;
    site.a.run(&["reset"]).await;
    for container in [none, stranger, ordinary, driven] {
        container.remove().await;
    }
    let after = everything(&site.hosts[0], docker).await;
    let differs: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(differs.is_empty(), "{differs:#?}\n{}", site.a.log());
}

async fn refusals(site: &Site<'_>, taken: &str) {
    let (a, docker) = (&site.a, site.docker);
    let _host = docker.run(&["--network", "host", "--name", "host", CALLER, "sleep", "600"]).await;
    let _idle = docker.create(&["--name", "idle", CALLER, "sleep", "600"]).await;
    let block = a.json(&["status", "ipam"]).await;
    let block = |host: &str| {
        let of = |row: &&Value| row["host"] == host && row["network"] == "app";
        let row = block.as_array().and_then(|all| all.iter().find(of)).expect("a block");
        row["block"].as_str().and_then(|block| block.rsplit_once('.')).expect("a block").0.to_owned()
    };
    let (mine, theirs) = (block("a"), block("b"));
    for (args, words) in [
        (vec!["attach", "host", "app"], "host's own network"),
        (vec!["attach", "idle", "app"], "does not run"),
        (vec!["attach", "nobody", "app"], "no container nobody"),
        (vec!["attach", "web"], "several networks; say which: app, other"),
        (vec!["attach", "web", "nosuch"], "no network nosuch"),
        (vec!["attach", "web", taken], "in use"),
        (vec!["attach", "web", &format!("{theirs}.200")], "block of another host"),
        (vec!["attach", "web", &format!("{mine}.9")], "Docker gives it itself"),
        (vec!["attach", "web", &format!("{mine}.200/17")], "is not how the network app"),
        (vec!["attach", "web", "198.51.100.7"], "no network of the overlay has"),
        (vec!["attach", "web", "a/b"], "neither an address nor a network"),
        (vec!["attach", "web", "192.0.2.9/24", "--bridge", "nosuch"], "no interface nosuch"),
        (vec!["detach", "web", "other"], "is not attached"),
        (vec!["hide"], "is not exposed"),
        (vec!["ipam", "release", &format!("{theirs}.200")], "release it there"),
        (vec!["ipam", "release", &format!("{mine}.201")], "free already"),
        (vec!["ipam", "release", "198.51.100.7"], "nobody has a block"),
    ] {
        refused(a, &args, words).await;
    }
}

/// The same address after `docker restart`, and when the overlay was away meanwhile.
async fn restarts(site: &mut Site<'_>, web: &Container<'_>, none: &Container<'_>, of_web: &str) {
    let restart = ["restart", "--time", "1", &web.id];
    site.docker.docker(&restart).await;
    eventually!("attached again", LIMIT, reaches(none, of_web, 8080));
    site.a.program().kill();
    reaches(none, of_web, 8080).await.expect("without the overlay");
    site.docker.docker(&restart).await;
    reaches(none, of_web, 8080).await.expect_err("nobody attaches it");
    start(&mut site.a, &site.hosts[0]).await;
    eventually!("attached when the overlay is back", LIMIT, reaches(none, of_web, 8080));
    eventually!("for the other host, too", LIMIT, async { host_reaches(&site.hosts[1], of_web) });
    // Somebody removes the bridge; with the next thing that happens all is mended.
    let here = site.hosts[0].namespace.path();
    for bridge in
        says(&here, "ip -o link show type bridge").expect("ip").lines().filter_map(|line| line.split(": ").nth(1))
    {
        if bridge.starts_with("ovb-") {
            says(&here, &format!("ip link delete {bridge}")).expect("it is there");
        }
    }
    reaches(none, of_web, 8080).await.expect_err("there is no bridge");
    let _event = site.docker.run(&[CALLER, "sleep", "600"]).await;
    eventually!("mended", LIMIT, reaches(none, of_web, 8080));
    eventually!("mended for the other host", LIMIT, async { host_reaches(&site.hosts[1], of_web) });
}

/// Containers of all hosts reach this one, where it listens, and the other way round.
async fn exposed(site: &Site<'_>, none: &Container<'_>) {
    let here = address(&site.a, &["expose", "app"]).await;
    let there = address(&site.b, &["expose", "app"]).await;
    assert_ne!(here, there);
    eventually!("this host's registry", LIMIT, reaches(none, &here, 8500));
    let from = |host: &DockerHost, to: &str| {
        says(&host.namespace.path(), &format!("curl --silent --fail --max-time 3 http://{to}:8500/v1/status/leader"))
    };
    eventually!("from the other host", LIMIT, async { from(&site.hosts[1], &here).map(|_| ()) });
    let mut web = Launch::ours("hello-web").inside(&site.hosts[1].namespace).start();
    eventually!("the other host", LIMIT, reaches(none, &there, 8080));
    web.stop();
    let rows = site.b.json(&["ps"]).await;
    assert!(rows[0]["door"] == "exposed" && rows[0]["addresses"][0] == there, "{rows}");
    site.a.run(&["hide", "app"]).await;
    from(&site.hosts[1], &here).expect_err("hidden");
    site.b.run(&["hide"]).await;
}

/// A network of the driver's: Docker and the overlay give addresses of one store.
async fn driven(site: &Site<'_>, none: &Container<'_>) {
    let (a, docker) = (&site.a, site.docker);
    let driver = driver_name();
    let make =
        ["network", "create", "--driver", &driver, "--ipam-driver", &driver, "--subnet", "10.119.0.0/16", "driven"];
    docker.docker(&make).await;
    let run = ["--network", "driven", "--name"];
    let first = docker.run(&[&run[..], &["first", HELLO_WEB]].concat()).await;
    eventually!("the mesh has it", LIMIT, a.try_run(&["attach", "none", "driven"]));
    let attached = address(a, &["attach", "none", "driven"]).await;
    let here = address(a, &["expose", "driven"]).await;
    let second = docker.run(&[&run[..], &["second", HELLO_WEB]].concat()).await;
    let format = "{{.NetworkSettings.Networks.driven.IPAddress}}";
    let mut all = vec![attached.clone(), here.clone()];
    for container in [&first, &second] {
        let address = docker.docker(&["inspect", "--format", format, &container.id]).await;
        reaches(none, &address, 8080).await.expect("by the driver and attached");
        all.push(address);
    }
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 4, "{all:?}");
    reaches(none, &here, 8500).await.expect("this host");
    let ps = a.run(&["ps"]).await;
    assert!(ps.lines().any(|line| line.contains(" second ") && line.ends_with("driver")), "{ps}");
    refused(a, &["ipam", "release", &all[3]], "docker network disconnect driven second").await;
    a.run(&["detach", "none", "driven"]).await;
    reaches(none, &all[2], 8080).await.expect_err("detached");
    // The network, with this host's address, is left for the reset.
}

/// Half a minute after its end others may have the address; it has it again if nobody took it. And a network that is
/// removed takes its links along.
async fn ended(site: &Site<'_>, web: &Container<'_>, none: &Container<'_>, of_web: &str) {
    site.network("brief", 120).await;
    let brief = site.a.json(&["attach", "none", "brief"]).await;
    let link = format!("ip link show {}", brief["interface"].as_str().expect("its name"));
    within(site.docker, none, &link).await.expect("it is there");
    site.a.run(&["network", "rm", "brief"]).await;
    web.stop().await;
    site.until_named("web", "app", "").await;
    assert!(site.a.run(&["ps"]).await.contains(of_web), "it may be just restarting");
    eventually!("it has ended, and so has the network", 2 * LIMIT, async {
        match site.a.run(&["ps"]).await {
            all if all.contains(of_web) || all.contains("brief") => Err(all),
            _ => Ok(()),
        }
    });
    within(site.docker, none, &link).await.expect_err("it went with its network");
    site.docker.docker(&["start", &web.id]).await;
    eventually!("the same again", LIMIT, reaches(none, of_web, 8080));
    site.until_named("web", "app", of_web).await;
}

/// A bridge of the host's, a default route, a hardware address; an interface behind another one, where the kernel can.
async fn pipework(site: &Site<'_>, none: &Container<'_>) {
    let (a, docker) = (&site.a, site.docker);
    let attach = ["attach", "none", "192.0.2.9/24@192.0.2.1", "--bridge", "br0", "--mac", "02:00:00:00:00:09"];
    assert_eq!(address(a, &attach).await, "192.0.2.9");
    reaches(none, "192.0.2.1", 8500).await.expect("what is on the bridge");
    let routes = within(docker, none, "ip route").await.expect("it runs");
    assert!(routes.contains("default via 192.0.2.1 dev ov1"), "{routes}");
    let link = within(docker, none, "ip link show ov1").await.expect("ov1");
    assert!(link.contains("02:00:00:00:00:09"), "{link}");
    a.run(&["detach", "none", "192.0.2.9"]).await;
    reaches(none, "192.0.2.1", 8500).await.expect_err("detached");
    match a.try_run(&["attach", "none", "192.0.2.10/24", "--parent", "br0"]).await {
        Ok(_) => {
            let link = within(docker, none, "ip -d link show ov1").await.expect("ov1");
            assert!(link.contains("macvlan mode bridge"), "{link}");
            a.run(&["detach", "none", "192.0.2.10"]).await;
            within(docker, none, "ip link show ov1").await.expect_err("detached");
        }
        Err(why) => assert!(why.contains("macvlan"), "{why}"),
    }
    match a.try_run(&["attach", "none", "192.0.2.11/24", "--parent", "br0", "--vlan", "7"]).await {
        Ok(_) => drop(a.run(&["detach", "none", "192.0.2.11"]).await),
        Err(why) => assert!(why.contains("8021q"), "{why}"),
    }
    let links = says(&site.hosts[0].namespace.path(), "ip -o link show group 28534").expect("ip");
    assert!(!links.contains("ovv"), "no link of a VLAN is left: {links}");
}
