//! How our programs reach the registry and Docker where these are not plainly beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    time::Duration,
};

use flotilla_tests::{
    docker::{Container, Dockerd, HELLO_WEB},
    eventually,
    host::DockerHost,
    needs::Need,
    ports::free_port,
    program::{Launch, Program, Ran},
    registry::Registry,
    tls::{Authority, Front},
    web,
};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::stage::{Registrar, View};

const LIMIT: Duration = Duration::from_secs(20);
/// Swarm takes its time with everything.
const SWARM_LIMIT: Duration = Duration::from_secs(40);
/// Not whom the address names.
const NAME: &str = "registry.example";
const TEMPLATE: &str = "{% for i in service(name=\"web\") %}{{ i.port }}\n{% endfor %}end\n";

/// What another host takes, beside these programs.
pub(crate) fn host_needs(programs: &[&'static str]) -> Vec<Need> {
    let programs = ["nsenter", "curl"].iter().chain(programs).copied().map(Need::Program);
    Need::DOCKER.into_iter().chain(programs).collect()
}

fn registry_address(registry: &Registry) -> SocketAddr {
    registry.url().trim_start_matches("http://").parse().expect("an address of loopback")
}

async fn kvstore(env: &[(&str, &str)], args: &[&str]) -> Ran {
    let launch = env.iter().fold(Launch::ours("kvstore"), |launch, (name, value)| launch.env(name, value));
    launch.args(args).run(LIMIT).await
}

/// All three programs talk to a registry behind TLS that wants to know who they are: told by the environment, by options
/// and by files. Authority and certificates change while they run.
pub(crate) async fn registry_over_tls() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let authority = Authority::new("the first authority");
    let front = Front::start(([127, 0, 0, 1], free_port()).into(), &authority, NAME, registry_address(&registry)).await;
    let (place, url) = (front.address, format!("https://{}", front.address));
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(|name| authority.file(name));

    let bare = place.to_string();
    let env = [
        ("CONSUL_HTTP_ADDR", &*bare),
        ("CONSUL_HTTP_SSL", "true"),
        ("CONSUL_CACERT", &ca),
        ("CONSUL_CLIENT_CERT", &cert),
        ("CONSUL_CLIENT_KEY", &key),
        ("CONSUL_TLS_SERVER_NAME", NAME),
    ];
    kvstore(&env, &["kv", "put", "colour", "blue"]).await.ok().expect("it is written");
    let (address, ca_file) = (format!("-http-addr={url}"), format!("-ca-file={ca}"));
    let options = [
        &address,
        &ca_file,
        &format!("-client-cert={cert}"),
        &format!("-client-key={key}"),
        &format!("-tls-server-name={NAME}"),
    ];
    let get = [&["kv", "get", "colour"][..], &options.map(String::as_str)].concat();
    assert_eq!(kvstore(&[], &get).await.ok().expect("it is read").trim_end(), "blue");
    for (env, words) in [
        (&[env[0], env[1], env[2], env[5]][..], &["wants a certificate of ours", &*url][..]),
        (&env[..2], &["not known here", "CONSUL_CACERT"]),
        (&env[..5], &["not for 127.0.0.1, but for registry.example"]),
        (&env[..4], &["client-cert and client-key"]),
    ] {
        let ran = kvstore(env, &["kv", "get", "colour"]).await;
        assert!(!ran.status.success() && words.iter().all(|word| ran.err.contains(word)), "{words:?} in {}", ran.err);
    }
    let unverified = [env[0], env[1], env[3], env[4], ("CONSUL_HTTP_SSL_VERIFY", "false")];
    let ran = kvstore(&unverified, &["kv", "get", "colour"]).await;
    assert!(ran.status.success() && ran.err.contains("NOT verified"), "{} {}", ran.status, ran.err);

    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let registrar = registrar_by_file(dir.path(), &url, &authority, dockerd);
    let _templater = templater_by_file(dir.path(), &url, &authority);
    let container = dockerd.run_web(&["SERVICE_NAME=web"]).await;
    let view = View { service: "web", registry: &registry, fronts: &[] };
    view.agrees("over TLS", &[&container]).await;
    let text = format!("{}\nend\n", container.port().await);
    written(&dir, &text).await;

    // Another authority: connections end, and nobody is taken until the files say otherwise.
    front.end().await;
    let second = Authority::new("the second authority");
    let _front = Front::start(place, &second, NAME, registry_address(&registry)).await;
    eventually!("the registrar tells", LIMIT, async {
        let log = registrar.log();
        if log.contains("not known here") { Ok(()) } else { Err(log) }
    });
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        authority.write(name, &fs::read_to_string(second.dir().join(name)).expect("it was just made"));
    }
    let other = dockerd.run_web(&["SERVICE_NAME=web"]).await;
    view.agrees("with other certificates", &[&container, &other]).await;
    drop(container);
    written(&dir, &format!("{}\nend\n", other.port().await)).await;
}

/// The registry itself serves TLS, with certificates of its own making, to those alone who have one; a registrar there
/// finds all that it needs, and who comes without is told why not.
pub(crate) async fn registry_serves_tls() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = |name: &str| dir.path().join("tls").join(name).display().to_string();
    let (port, tls_dir) = (free_port(), dir.path().join("tls").display().to_string());
    kvstore(&[], &["tls", "create", "--dir", &tls_dir, NAME]).await.ok().expect("certificates are made");
    let https = format!("127.0.0.1:{port}");
    let (cert, key, ca) = (file("server.pem"), file("server-key.pem"), file("ca.pem"));
    let args = ["--https-addr", &https, "--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &ca];
    let _registry = Registry::beyond_consul(&args).await;

    let url = format!("https://{https}");
    let (client_cert, client_key) = (file("client.pem"), file("client-key.pem"));
    let env = [
        ("CONSUL_HTTP_ADDR", &*url),
        ("CONSUL_CACERT", &ca),
        ("CONSUL_CLIENT_CERT", &client_cert),
        ("CONSUL_CLIENT_KEY", &client_key),
    ];
    kvstore(&env, &["kv", "put", "colour", "blue"]).await.ok().expect("it is written");
    let host = Dockerd::shared().host();
    let doctor = ["doctor", "--docker", &host, "--ip", "127.0.0.1"];
    for (env, verdict, words) in [
        (&env[..], true, &["ok    writing"][..]),
        (&env[..2], false, &["BAD   registry", "wants a certificate of ours"]),
    ] {
        let launch = env.iter().fold(Launch::ours("registrar"), |launch, (name, value)| launch.env(name, value));
        let ran = launch.args(doctor).run(LIMIT).await;
        assert_eq!(ran.status.success(), verdict, "{}{}", ran.out, ran.err);
        assert!(words.iter().all(|word| ran.out.contains(word)), "{words:?} in {}", ran.out);
    }
}

const WRITER: &str = "token-that-may-write";

/// A token that may not write is exchanged for one that may, in its file; the registrar takes it up by itself.
pub(crate) async fn token_file() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let [writers, token] = ["writers", "token"].map(|name| dir.path().join(name).display().to_string());
    fs::write(&writers, format!("{WRITER}\n")).expect("our own directory");
    fs::write(&token, "another-token-of-nobody").expect("our own directory");
    let registry = Registry::beyond_consul(&["--write-token-file", &writers]).await;
    let dockerd = Dockerd::shared();
    let (url, host) = (registry.url(), dockerd.host());
    let doctor = async || {
        let args = ["doctor", "--registry", &url, "--docker", &host, "--ip", "127.0.0.1", "--token-file", &token];
        Launch::ours("registrar").args(args).run(LIMIT).await
    };
    let ran = doctor().await;
    assert!(!ran.status.success() && ran.out.contains("BAD   writing") && ran.out.contains("403"), "{}", ran.out);

    let registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1", "--token-file", &token]);
    let container = dockerd.run_web(&["SERVICE_NAME=web"]).await;
    eventually!("it is refused", LIMIT, async {
        let log = registrar.log();
        if log.contains("403") && log.contains("--token-file") { Ok(()) } else { Err(log) }
    });
    fs::write(&token, WRITER).expect("our own directory");
    found_at(&registry, "127.0.0.1", &[&container]).await;
    let ran = doctor().await;
    assert!(ran.status.success() && ran.out.contains("ok    writing"), "{}{}", ran.out, ran.err);
    assert!(!registrar.log().contains(WRITER), "no token is told:\n{}", registrar.log());
}

async fn written(dir: &TempDir, wanted: &str) {
    eventually!("the file is written", LIMIT, async {
        let text = fs::read_to_string(dir.path().join("list")).map_err(|e| e.to_string())?;
        if text == wanted { Ok(()) } else { Err(text) }
    });
}

fn registrar_by_file(dir: &Path, url: &str, authority: &Authority, dockerd: &Dockerd) -> Program {
    let text = format!(
        "registry: {url}\nca-file: {}\nclient-cert: {}\nclient-key: {}\ntls-server-name: {NAME}\nip: 127.0.0.1\n\
         docker: {}\nstate-dir: {}\n",
        authority.file("ca.pem"),
        authority.file("cert.pem"),
        authority.file("key.pem"),
        dockerd.host(),
        dir.join("state").display(),
    );
    let file = dir.join("registrar.yaml");
    fs::write(&file, text).expect("our own directory");
    Launch::ours("registrar").args([Path::new("--config"), &file]).start()
}

/// With paths that are relative to the file.
fn templater_by_file(dir: &Path, url: &str, authority: &Authority) -> Program {
    fs::write(dir.join("list.tmpl"), TEMPLATE).expect("our own directory");
    let text = format!(
        "registry: {url}\nca_path: cas\nclient_cert: {}\nclient_key: {}\ntls_server_name: {NAME}\n\
         templates: [{{source: list.tmpl}}]\n",
        authority.file("cert.pem"),
        authority.file("key.pem"),
    );
    fs::create_dir(dir.join("cas")).expect("our own directory");
    std::os::unix::fs::symlink(authority.dir().join("ca.pem"), dir.join("cas/1.pem")).expect("our own directory");
    let file = dir.join("templater.yaml");
    fs::write(&file, text).expect("our own directory");
    Launch::ours("templater").args([Path::new("--config"), &file]).start()
}

/// A Docker that listens on TCP, and then on TLS for whom its authority knows.
pub(crate) async fn docker_over_tcp_and_tls() {
    let authority = Authority::new("Docker's authority");
    let (certificate, key) = authority.sign("127.0.0.1");
    let server = [authority.write("server.pem", &certificate), authority.write("server.key", &key)];
    let [server_cert, server_key] = server.map(|path| path.display().to_string());
    let (host, ca) = (format!("tcp://127.0.0.1:{}", free_port()), authority.file("ca.pem"));
    let certificates = authority.dir().display().to_string();

    let dockerd = Dockerd::start_with(&["--host", &host, "--tls=false"]);
    let registry = Registry::in_memory().await;
    follow(&registry, &dockerd, &[("DOCKER_HOST", &host)], "over TCP").await;

    dockerd.halt(Signal::SIGTERM);
    dockerd.arguments(&[
        "--host",
        &host,
        "--tlsverify",
        &format!("--tlscacert={ca}"),
        &format!("--tlscert={server_cert}"),
        &format!("--tlskey={server_key}"),
    ]);
    dockerd.start_again();
    let tls = [("DOCKER_HOST", &*host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &certificates)];
    follow(&registry, &dockerd, &tls, "over TLS").await;

    let stranger = Authority::new("a stranger");
    let unknown = stranger.dir().display().to_string();
    for (env, word) in [
        (&[("DOCKER_HOST", &*host)][..], "HTTP request to an HTTPS server"),
        (&[tls[0], tls[1], ("DOCKER_CERT_PATH", &unknown)], "UnknownIssuer"),
    ] {
        let launch = env.iter().fold(Launch::ours("registrar"), |launch, (name, value)| launch.env(name, value));
        let ran = launch.args(["list"]).run(LIMIT).await;
        assert!(!ran.status.success() && ran.err.contains(word) && ran.err.contains(&host), "{word:?} in {}", ran.err);
    }
}

/// Podman's socket in Docker's place: containers come, drain and go; the service is killed and comes back.
pub(crate) async fn podman() {
    let host = DockerHost::new(0);
    let podman = Dockerd::podman_in(&host.namespace);
    let registry = Registry::in_memory().await;
    let mut registrar = Registrar::start(&registry, &podman, &["--ip", &host.address]);
    let one = podman.run_web(&["SERVICE_NAME=web", "SERVICE_TAGS=blue"]).await;
    found(&registry, &host, &[&one]).await;
    let doctor = ["doctor", "--docker", &podman.host(), "--registry", &registry.url(), "--ip", &host.address];
    let ran = Launch::ours("registrar").args(doctor).run(LIMIT).await;
    assert!(ran.status.success() && ran.out.contains("Podman"), "{}{}", ran.out, ran.err);

    podman.halt(Signal::SIGKILL);
    podman.start_again();
    let two = podman.run_web(&["SERVICE_NAME=web"]).await;
    found(&registry, &host, &[&one, &two]).await;
    one.stop().await;
    found(&registry, &host, &[&two]).await;
    registrar.kill();
    two.remove().await;
    registrar.start_again();
    found(&registry, &host, &[]).await;
}

/// Waits until exactly these are passing, at ports of the host where each of them answers.
async fn found(registry: &Registry, host: &DockerHost, wanted: &[&Container<'_>]) {
    found_at(registry, &host.address, wanted).await;
}

async fn found_at(registry: &Registry, address: &str, wanted: &[&Container<'_>]) {
    let want: BTreeSet<_> = wanted.iter().map(|container| container.short().to_owned()).collect();
    eventually!(format!("{want:?} and no other"), LIMIT, async {
        let read = registry.client.health_service("web", true, None).await.map_err(|e| e.to_string())?;
        let mut who = BTreeSet::new();
        for entry in &read.value {
            assert_eq!(entry.service.address, address);
            let url = format!("http://{}:{}/", entry.service.address, entry.service.port);
            who.insert(web::hello(&web::get(&url).await?)?.id);
        }
        if who == want && read.value.len() == want.len() { Ok(()) } else { Err(format!("{who:?}")) }
    });
}

/// The tasks of a swarm of two nodes, under the service's name and at the addresses by which they reach each other.
pub(crate) async fn swarm() {
    let hosts = [DockerHost::new(0), DockerHost::new(1)];
    let addresses = hosts[0].link(&hosts[1]);
    let [manager, worker] = hosts.each_ref().map(|host| Dockerd::start_in(&host.namespace, &host.bridge));
    manager.docker(&["swarm", "init", "--advertise-addr", &addresses[0]]).await;
    let token = manager.docker(&["swarm", "join-token", "--quiet", "worker"]).await;
    let there = format!("{}:2377", addresses[0]);
    worker.docker(&["swarm", "join", "--token", &token, "--advertise-addr", &addresses[1], &there]).await;
    manager.docker(&["network", "create", "--driver", "overlay", "shop"]).await;

    let registry = Registry::beyond_consul(&[]).await;
    let _registrars: Vec<_> = [(&manager, &hosts[0], "first"), (&worker, &hosts[1], "second")]
        .map(|(dockerd, host, node)| Registrar::start(&registry, dockerd, &["--node", node, "--ip", &host.address]))
        .into();
    let create = ["service", "create", "--detach", "--no-resolve-image", "--name", "web", "--network", "shop"];
    let how = ["--endpoint-mode", "dnsrr", "--replicas-max-per-node", "1", "--replicas", "2", HELLO_WEB];
    manager.docker(&[&create[..], &how].concat()).await;
    let passing = async || registry.client.health_service("web", true, None).await.map_err(|e| e.to_string());
    let tasks = eventually!("a task on each node", SWARM_LIMIT, async {
        let nodes: BTreeMap<_, _> = passing().await?.value.into_iter().map(|e| (e.node.node, e.service)).collect();
        if nodes.len() == 2 { Ok(nodes) } else { Err(format!("{:?}", nodes.keys())) }
    });
    let meta = tasks["first"].meta.as_ref().expect("there is metadata");
    assert_eq!(meta["swarm-service"], "web");

    // From where the manager's task is, each of them answers at its address.
    let id = manager.docker(&["ps", "--quiet"]).await;
    let pid = manager.docker(&["inspect", "--format", "{{.State.Pid}}", &id]).await;
    for (node, dockerd) in [("first", &manager), ("second", &worker)] {
        let url = format!("http://{}:{}/", tasks[node].address, tasks[node].port);
        let inside = [&format!("--net=/proc/{pid}/ns/net"), "curl", "--silent", "--max-time", "5", &url];
        let answer = eventually!(format!("the task on {node} answers"), LIMIT, async {
            Launch::new("nsenter").args(inside).run(LIMIT).await.ok()
        });
        let task = dockerd.docker(&["ps", "--quiet"]).await;
        assert_eq!(web::hello(&answer).map(|hello| hello.id), Ok(task));
    }
    manager.docker(&["service", "rm", "web"]).await;
    eventually!("they go", SWARM_LIMIT, async {
        let left = passing().await?.value.len();
        if left == 0 { Ok(()) } else { Err(left.to_string()) }
    });
    worker.docker(&["swarm", "leave"]).await;
    manager.docker(&["swarm", "leave", "--force"]).await;
}

/// Has a registrar that reaches Docker in this way register a container and remove it again.
async fn follow(registry: &Registry, dockerd: &Dockerd, env: &[(&str, &str)], how: &str) {
    let state = tempfile::tempdir().expect("a temporary directory can be made");
    let launch = env.iter().fold(Launch::ours("registrar"), |launch, (name, value)| launch.env(name, value));
    let (url, path) = (registry.url(), state.path().display().to_string());
    let _registrar = launch.args(["--registry", &url, "--state-dir", &path, "--ip", "127.0.0.1"]).start();
    let container = dockerd.run_web(&["SERVICE_NAME=web"]).await;
    let view = View { service: "web", registry, fronts: &[] };
    view.agrees(how, &[&container]).await;
    container.remove().await;
    view.agrees("it is removed", &[]).await;
}
