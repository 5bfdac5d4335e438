//! `examples/sidecar`: its compose file, run by docker-compose with the images of the programs that are being tested.

use std::{collections::BTreeSet, fs, time::Duration};

use flotilla_tests::{
    compose::Compose,
    dig::dig,
    docker::{Dockerd, HAPROXY},
    eventually,
    needs::Need,
    ports::free_port,
    program::Launch,
    web, workspace,
};

pub(crate) fn needs() -> Vec<Need> {
    let mut needs = Need::DOCKER.to_vec();
    needs.extend(["dig", "docker-compose", "haproxy"].map(Need::Program));
    needs
}

/// For one step on a busy machine, in which several containers start.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    builds_from_all(dockerd).await;
    dockerd.make_images(&["kvstore", "registrar", "templater"]);
    says_what_it_lacks(dockerd).await;
    let stack = Stack::new(dockerd);
    stack.compose.run(&["config", "--quiet"]).await;
    stack.scale(2).await;
    stack.agrees("two").await;
    stack.scale(3).await;
    stack.agrees("three").await;
    stack.scale(1).await;
    stack.agrees("one").await;
    for name in ["registry", "registrar", "templater"] {
        eventually!(format!("the {name} calls itself healthy"), LIMIT, async {
            let health = stack.compose.inspect(name, "{{.State.Health.Status}}").await;
            if health == "healthy" { Ok(()) } else { Err(health) }
        });
    }
    for name in ["registry", "registrar", "templater", "web"] {
        assert_eq!(stack.compose.inspect(name, "{{.Config.User}}").await, "10001:10001", "{name} is not root");
    }
    let socket = "{{range .Mounts}}{{if eq .Destination \"/var/run/docker.sock\"}}{{.RW}}{{end}}{{end}}";
    for name in ["registrar", "templater"] {
        assert_eq!(stack.compose.inspect(name, socket).await, "false", "{name} cannot replace the socket");
    }
    let log = stack.compose.run(&["logs", "--no-color", "registrar", "templater"]).await;
    let bad = |line: &&str| ["WARN", "ERROR"].iter().any(|level| line.contains(level));
    // They may be there before the registry.
    let waits = |line: &&str| line.contains("asked again until it");
    let others: Vec<_> = log.lines().filter(bad).filter(|line| !waits(line)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// The Dockerfile's first stage has the compiler that is wanted, and all sources: nothing here can run it, since it pulls.
async fn builds_from_all(dockerd: &Dockerd) {
    let dockerfile = fs::read_to_string(workspace().join("Dockerfile")).expect("it is there");
    assert!(dockerfile.contains(concat!("FROM rust:", env!("CARGO_PKG_RUST_VERSION"), "-")), "{dockerfile}");
    dockerd.build_in(workspace(), "flotilla/sources", "FROM scratch\nCOPY . .\nCMD [\"none\"]\n").await;
    let container = dockerd.create(&["flotilla/sources"]).await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let archive = dir.path().join("sources.tar").display().to_string();
    dockerd.docker(&["export", "--output", &archive, &container.id]).await;
    let sent = Launch::new("tar").args(["--list", "--file", &archive]).run(LIMIT).await.ok().expect("it is an archive");
    let sent: BTreeSet<_> = sent.lines().collect();
    let skipped = ["-path", "./target", "-prune", "-o", "-path", "./kvstore/fuzz/target", "-prune", "-o"];
    let find = Launch::new("find").dir(workspace()).args(["."]).args(skipped);
    let sources = find.args(["-name", "*.rs", "-print", "-o", "-name", "Cargo.*", "-print"]).run(LIMIT).await;
    let sources = sources.ok().expect("our own folder");
    let missing: Vec<_> = sources.lines().filter(|path| !sent.contains(path.trim_start_matches("./"))).collect();
    assert!(missing.is_empty() && sources.lines().count() > 100, "not sent to the builder: {missing:?}");
}

/// A registrar that may not use Docker's socket.
async fn says_what_it_lacks(dockerd: &Dockerd) {
    let socket = format!("{}:/var/run/docker.sock:ro", dockerd.socket().display());
    let registrar = dockerd.run(&["--volume", &socket, "flotilla/registrar"]).await;
    eventually!("it says how it gets to use the socket", LIMIT, async {
        let log = registrar.logs().await;
        if log.contains("may not use the socket") && log.contains("--group-add") { Ok(()) } else { Err(log) }
    });
}

/// The containers of the compose file, and where they are reached.
struct Stack {
    compose: Compose<'static>,
    http: u16,
    dns: u16,
}

impl Stack {
    fn new(dockerd: &'static Dockerd) -> Self {
        let (http, dns, registry) = (free_port(), free_port(), free_port());
        let env = [
            ("HAPROXY_IMAGE", HAPROXY.to_owned()),
            ("HTTP_PORT", http.to_string()),
            ("DNS_PORT", dns.to_string()),
            ("REGISTRY_PORT", registry.to_string()),
        ];
        Self { compose: Compose::new(dockerd, "sidecar/compose.yaml", "sidecar", &env), http, dns }
    }

    async fn scale(&self, count: usize) {
        self.compose.run(&["up", "--detach", "--no-build", "--scale", &format!("web={count}")]).await;
    }

    /// Waits until DNS and HAProxy know exactly the containers of `web`.
    async fn agrees(&self, step: &str) {
        let ids = self.compose.containers("web").await;
        let wanted: BTreeSet<_> = ids.iter().map(|id| id[..12].to_owned()).collect();
        let url = format!("http://127.0.0.1:{}/", self.http);
        eventually!(format!("{step} behind HAProxy"), LIMIT, async {
            let found = web::who_answers(&url, 3 * wanted.len()).await?;
            let found: BTreeSet<_> = found.into_iter().map(|hello| hello.id).collect();
            if found == wanted { Ok(()) } else { Err(format!("{found:?}, not {wanted:?}")) }
        });
        eventually!(format!("{step} in DNS"), LIMIT, async {
            let found = dig(self.dns, "web.service.consul", "A", &[]).await?.records;
            if found.len() == wanted.len() { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}
