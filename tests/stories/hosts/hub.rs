//! One registry for several hosts: registrars on two of them, what they register as a third sees it, and a host that is cut
//! off and comes back.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{Bed, Cut},
    dig::dig_from,
    eventually,
    fake_docker::FakeDocker,
    program::{Launch, Program},
    web,
};
use serde_json::json;
use tempfile::TempDir;

use super::by;

const LIMIT: Duration = Duration::from_secs(30);
/// The registry has it on this host.
const HUB: usize = 0;
/// These have containers.
const HOSTS: [usize; 2] = [1, 2];
/// Here a templater writes a file, and somebody looks.
const VIEWER: usize = 3;
/// Without a word from a registrar for so long its host is taken for dead.
const NODE_TTL: Duration = Duration::from_secs(6);
/// What is due, and heard of, is done within this.
const NOTICE: Duration = Duration::from_secs(2);
/// A registrar shows three times in its TTL that its host lives, and connects anew before it does.
const BACK: Duration = Duration::from_secs(6);

const LIST: &str =
    "{% for i in service(name=\"web\", live=true) %}{{ i.node.name }} {{ i.address }}:{{ i.port }}\n{% endfor %}";

pub(crate) async fn story() {
    let bed = Bed::new(4);
    let hub = bed.host(HUB);
    let agent = Launch::ours("kvstore").args(["agent", "--dev", "--node", "hub", "--http-addr", "0.0.0.0:8500"]);
    let _agent = hub.start(agent.args(["--dns-addr", "0.0.0.0:53"]));
    let registry = format!("http://{}:8500", hub.address);
    let _containers = HOSTS.map(|host| Containers::start(&bed, host, &registry));
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let template = dir.path().join("list.tmpl");
    fs::write(&template, LIST).expect("our own directory");
    let launch = Launch::ours("templater").dir(dir.path()).args(["--registry", &registry, "--template"]);
    let _templater = bed.host(VIEWER).start(launch.args([&template]));
    let view = View { bed: &bed, file: &dir.path().join("list") };

    eventually!("both are seen", LIMIT, view.shows(&HOSTS));
    view.reaches(&HOSTS).await;

    let (start, [stays, goes]) = (Instant::now(), HOSTS);
    bed.cut(Cut::Host(goes));
    by("a host that is cut off is out", start, NODE_TTL + NOTICE, async || view.shows(&[stays]).await).await;
    view.reaches(&[stays]).await;
    let start = Instant::now();
    bed.mend(Cut::Host(goes));
    by("it is back", start, BACK, async || view.shows(&HOSTS).await).await;
    view.reaches(&HOSTS).await;
}

/// A host's container, its Docker, and the registrar there.
struct Containers {
    _server: Program,
    _registrar: Program,
    _docker: FakeDocker,
    _dir: TempDir,
}

impl Containers {
    fn start(bed: &Bed, host: usize, registry: &str) -> Self {
        let host = bed.host(host);
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let docker = FakeDocker::start(dir.path());
        docker.run("web-1", 8080, &json!({"Config": {"Env": ["SERVICE_NAME=web"]}}));
        let server = Launch::ours("hello-web").env("PORT", "8080").env("HOSTNAME", &host.name).env("DRAIN_MS", "0");
        let ttl = format!("{}s", NODE_TTL.as_secs());
        let registrar = Launch::ours("registrar").args(["--registry", registry, "--docker", &docker.address()]);
        let registrar = registrar.args(["--node", &host.name, "--node-ttl", &ttl]).dir(dir.path());
        Self { _server: host.start(server), _registrar: host.start(registrar), _docker: docker, _dir: dir }
    }
}

struct View<'a> {
    bed: &'a Bed,
    file: &'a Path,
}

impl View<'_> {
    /// Exactly these hosts' containers are in the file and in DNS, each at its host's address.
    async fn shows(&self, hosts: &[usize]) -> Result<(), String> {
        let at = |&host: &usize| (self.bed.host(host).name.clone(), self.bed.host(host).address.to_string());
        let wanted: Vec<_> = hosts.iter().map(at).collect();
        let file = fs::read_to_string(self.file).map_err(|error| error.to_string())?;
        let mut lines: Vec<_> = file.lines().filter(|line| !line.is_empty()).map(ToOwned::to_owned).collect();
        lines.sort();
        let lines_wanted: Vec<_> = wanted.iter().map(|(name, address)| format!("{name} {address}:8080")).collect();
        if lines != lines_wanted {
            return Err(format!("the file has {lines:?}"));
        }
        let dns = (self.bed.host(HUB).address, 53).into();
        let found = dig_from(self.bed.host(VIEWER), dns, "web.service.consul", "A").await?.records;
        let addresses: Vec<_> = wanted.into_iter().map(|(_, address)| address).collect();
        if found == addresses { Ok(()) } else { Err(format!("DNS has {found:?}")) }
    }

    /// Where it is said to be it is: another host gets an answer, and of the right one.
    async fn reaches(&self, hosts: &[usize]) {
        for host in hosts.iter().map(|&host| self.bed.host(host)) {
            let url = format!("http://{}:8080/", host.address);
            let answer = self.bed.host(VIEWER).run(async move { web::get(&url).await }).await;
            let who = answer.and_then(|body| web::hello(&body)).map(|hello| hello.id);
            assert_eq!(who.as_ref(), Ok(&host.name));
        }
    }
}
