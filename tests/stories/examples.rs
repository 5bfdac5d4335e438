//! The examples, each run as its README says, in a directory of its own and on ports that are free.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use flotilla_tests::{
    dig::dig,
    docker::{Dockerd, HELLO_WEB},
    eventually,
    needs::Need,
    ports::free_port,
    program::{Launch, Program},
    proxy::{Kind, Site},
    registry::Registry,
    web::{self, hello},
    workspace,
};
use kvstore_client::types::{CheckRegistration, ServiceRegistration};
use tempfile::TempDir;

use crate::stage::{AGREE_LIMIT as LIMIT, Front, Registrar};

/// For those without containers.
pub(crate) fn needs(program: &'static str) -> [Need; 1] {
    [Need::Program(program)]
}

/// A copy of `examples/NAME`, with some things in it replaced that another installation would replace.
struct Example(TempDir);

impl Example {
    fn new(name: &str, replaced: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("flotilla-example-").tempdir().expect("a directory can be made");
        let from = workspace().join("examples").join(name);
        for entry in fs::read_dir(&from).unwrap_or_else(|e| panic!("{}: {e}", from.display())).flatten() {
            let text = fs::read_to_string(entry.path()).expect("examples are texts");
            // Where a program wants absolute paths, the example lies here.
            let text = text.replace("/etc/flotilla", &dir.path().display().to_string());
            let text = replaced.iter().fold(text, |text, (old, new)| text.replace(old, new));
            fs::write(dir.path().join(entry.file_name()), text).expect("our own directory");
        }
        Self(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn templater(&self, registry: &Registry, args: &[&str]) -> Launch {
        Launch::ours("templater").dir(self.0.path()).env("CONSUL_HTTP_ADDR", registry.url()).args(args)
    }

    fn program(&self, program: &str, args: &[&str]) -> Launch {
        Launch::new(program).dir(self.0.path()).args(args)
    }
}

/// An instance that is no container: a hello-web of this machine, registered at the agent.
struct Instance {
    id: String,
    _program: Program,
}

impl Instance {
    async fn start(registry: &Registry, service: &str, id: &str, tags: &[&str], meta: &[(&str, &str)]) -> Self {
        let port = free_port();
        let program = Launch::ours("hello-web").env("PORT", port.to_string()).env("HOSTNAME", id).start();
        let registration = ServiceRegistration {
            id: id.into(),
            name: service.into(),
            address: "127.0.0.1".into(),
            port,
            tags: tags.iter().map(ToString::to_string).collect(),
            meta: meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            ..ServiceRegistration::default()
        };
        eventually!("it listens", LIMIT, async { web::get(&format!("http://127.0.0.1:{port}/")).await });
        registry.client.register_service(&registration).await.expect("the registry answers");
        Self { id: id.into(), _program: program }
    }
}

/// An instance whose address is a name that nobody knows.
async fn nobody(registry: &Registry, service: &str, tags: &[&str], meta: &[(&str, &str)]) {
    let registration = ServiceRegistration {
        id: format!("{service}-nobody"),
        name: service.into(),
        address: "nobody.invalid".into(),
        port: 80,
        tags: tags.iter().map(ToString::to_string).collect(),
        meta: meta.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        ..ServiceRegistration::default()
    };
    registry.client.register_service(&registration).await.expect("the registry answers");
}

/// Waits until `url`, asked with this Host header, is answered by the instance.
async fn answers(url: &str, host: &str, id: &str) {
    eventually!(format!("{id} answers to {host}"), LIMIT, async {
        let found = hello(&web::get_from(url, host).await?)?;
        if found.id == id { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// A container without any label is behind both proxies, by its image's name, with the templates as they are.
pub(crate) async fn by_host() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let _registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    let haproxy = Front::container(&registry, dockerd).await;
    let nginx = Front::process(Kind::Nginx, &registry).await;
    // Neither refuses what is beside it: alone in its service, and not.
    for service in ["named", "hello-web"] {
        nobody(&registry, service, &[], &[]).await;
    }
    let container = dockerd.run(&["--publish", "8080", HELLO_WEB]).await;
    let started = Instant::now();
    for host in ["hello-web", "hello-web.example.com", "HELLO-WEB.example.com:8080"] {
        for site in [&haproxy.site, &nginx.site] {
            answers(&site.url(), host, container.short()).await;
        }
    }
    println!("  an unlabelled container is behind both proxies {} ms after docker run", started.elapsed().as_millis());
    for site in [&haproxy.site, &nginx.site] {
        let nobody = web::get_from(&site.url(), "other.example.com").await;
        assert!(nobody.is_err(), "a name that nobody has goes to web, of which nothing runs: {nobody:?}");
    }
}

/// Visitors stay at an instance that drains, and no new ones come.
pub(crate) async fn sticky() {
    let registry = Registry::in_memory().await;
    let site = Site::new(Kind::Haproxy);
    fs::copy(workspace().join("examples/haproxy/sticky.tmpl"), site.template()).expect("our own directory");
    let first = site.templater(&registry.url()).args(["--once"]).run(LIMIT).await;
    first.ok().unwrap_or_else(|e| panic!("templater --once: {e}"));
    let _haproxy = site.start().await;
    let _templater = site.templater(&registry.url()).start();
    let one = Instance::start(&registry, "web", "web-1", &[], &[]).await;
    answers(&site.url(), "x", &one.id).await;
    let cookie = web::cookie(&site.url()).await.expect("the first answer sets it");
    let two = Instance::start(&registry, "web", "web-2", &[], &[]).await;
    eventually!("both are met", LIMIT, async {
        let met = web::who_answers(&site.url(), 6).await?;
        if met.len() == 2 { Ok(()) } else { Err(format!("{met:?}")) }
    });

    let drain = CheckRegistration {
        id: format!("_draining:{}", one.id),
        name: "draining".into(),
        service_id: one.id.clone(),
        status: Some("critical".into()),
        ttl: Some("10m".parse().expect("a duration")),
        ..CheckRegistration::default()
    };
    registry.client.register_check(&drain).await.expect("the registry answers");
    eventually!("no new visitor meets the one that drains", LIMIT, async {
        let met = web::who_answers(&site.url(), 6).await?;
        if met.iter().all(|hello| hello.id == two.id) { Ok(()) } else { Err(format!("{met:?}")) }
    });
    for _ in 0..6 {
        let body = web::get_with_cookie(&site.url(), &cookie).await.expect("visitors are served");
        assert_eq!(hello(&body).expect("hello-web answers").id, one.id, "who was there before stays");
    }
    registry.client.deregister_service(&one.id).await.expect("the registry answers");
    eventually!("then they get another one", LIMIT, async {
        let found = hello(&web::get_with_cookie(&site.url(), &cookie).await?)?;
        if found.id == two.id { Ok(()) } else { Err(format!("{found:?}")) }
    });
}

/// Who asks goes to the live version from its release on; an answer that was begun before ends whole.
pub(crate) async fn release() {
    let registry = Registry::in_memory().await;
    let fronts = [Front::process(Kind::Haproxy, &registry).await, Front::process(Kind::Nginx, &registry).await];
    let old = Instance::start(&registry, "web", "web-old", &[], &[("version", "v1")]).await;
    let live = async |version: &str| {
        let args = ["release", "web", version, "--http-addr", &registry.url()];
        Launch::ours("kvstore").args(args).run(LIMIT).await.ok().unwrap_or_else(|e| panic!("kvstore release: {e}"));
    };
    live("v1").await;
    let new = Instance::start(&registry, "web", "web-new", &[], &[("version", "v2")]).await;
    let only = async |id: &str| {
        for front in &fronts {
            eventually!(format!("only {id} is met"), LIMIT, async {
                let met = web::who_answers(&front.site.url(), 6).await?;
                if met.iter().all(|hello| hello.id == id) { Ok(()) } else { Err(format!("{met:?}")) }
            });
        }
    };
    only(&old.id).await;
    let (begun, mut slow) = (Instant::now(), Vec::new());
    for front in &fronts {
        let url = format!("{}slow/30000", front.site.url());
        slow.push(web::begin(&url).await.expect("the old version answers"));
    }
    let started = Instant::now();
    live("v2").await;
    only(&new.id).await;
    println!("  both proxies send all to the new version {} ms after its release", started.elapsed().as_millis());
    for answer in slow {
        let body = answer.await.expect("it does not panic").expect("it ends whole");
        assert_eq!(hello(&body).expect("hello-web answers").id, old.id);
    }
    assert!(begun.elapsed() >= Duration::from_secs(30), "the answers took as long as was asked for");
}

/// One upstream for each service, each in a file that goes with its service.
pub(crate) async fn upstreams() {
    let registry = Registry::in_memory().await;
    let port = free_port().to_string();
    let example = Example::new("nginx", &[("8082", &port)]);
    for service in ["named", "web"] {
        nobody(&registry, service, &["http"], &[]).await;
    }
    let web = Instance::start(&registry, "web", "web-1", &["http"], &[]).await;
    let _templater = example.templater(&registry, &["--config", "upstreams.yaml"]).start();
    eventually!("the upstream is there", LIMIT, async { there(&example.at("upstreams/web.conf")) });
    let prefix = example.0.path().display().to_string();
    let main = example.at("main.conf").display().to_string();
    let _nginx = example.program("nginx", &["-p", &prefix, "-c", &main, "-e", "stderr", "-g", "daemon off;"]).start();
    let url = format!("http://127.0.0.1:{port}/");
    answers(&url, "x", &web.id).await;
    let _api = Instance::start(&registry, "api", "api-1", &["http"], &[]).await;
    eventually!("another service has a file of its own", LIMIT, async { there(&example.at("upstreams/api.conf")) });
    registry.client.deregister_service("api-1").await.expect("the registry answers");
    eventually!("its file goes with it", LIMIT, async {
        there(&example.at("upstreams/api.conf")).map_or_else(|_| Ok(()), |()| Err("it is there"))
    });
    answers(&url, "x", &web.id).await;
}

fn there(path: &Path) -> Result<(), String> {
    if path.exists() { Ok(()) } else { Err(format!("there is no {}", path.display())) }
}

/// nginx with the names that containers ask for.
pub(crate) async fn virtual_hosts() {
    let registry = Registry::in_memory().await;
    let example = Example::new("virtual-hosts", &[]);
    let port = free_port().to_string();
    let args = ["--template", "nginx.tmpl"];
    let once = example.templater(&registry, &args).args(["--once"]).env("HTTP_PORT", &port).run(LIMIT).await;
    once.ok().unwrap_or_else(|e| panic!("templater --once: {e}"));
    let prefix = example.0.path().display().to_string();
    let config = example.at("nginx.conf").display().to_string();
    let _nginx = example.program("nginx", &["-p", &prefix, "-c", &config, "-e", "stderr", "-g", "daemon off;"]).start();
    let _templater = example.templater(&registry, &args).env("HTTP_PORT", &port).start();
    let url = format!("http://127.0.0.1:{port}/");
    for (service, host) in [("named", "named.example.com"), ("blog", "blog.example.com")] {
        nobody(&registry, service, &[], &[("virtual_host", host)]).await;
    }
    let shop = [("virtual_host", "shop.example.com,www.example.com")];
    let shop = Instance::start(&registry, "shop", "shop-1", &[], &shop).await;
    let blog = Instance::start(&registry, "blog", "blog-1", &[], &[("virtual_host", "blog.example.com")]).await;
    for (host, instance) in [("shop.example.com", &shop), ("www.example.com", &shop), ("blog.example.com", &blog)] {
        answers(&url, host, &instance.id).await;
    }
    let nobody = web::get_from(&url, "other.example.com").await.unwrap_err();
    assert!(nobody.contains("404"), "{nobody}");
    // A name that would break out of its line changes nothing.
    let evil = [("virtual_host", "evil.example.com; } server { listen 1; $host")];
    let _evil = Instance::start(&registry, "evil", "evil-1", &[], &evil).await;
    let late = Instance::start(&registry, "late", "late-1", &[], &[("virtual_host", "late.example.com")]).await;
    answers(&url, "late.example.com", &late.id).await;
    let text = fs::read_to_string(example.at("nginx.conf")).expect("the file is live");
    assert!(!text.contains("listen 1"), "{text}");
}

/// Names of services in dnsmasq.
pub(crate) async fn dnsmasq() {
    let registry = Registry::in_memory().await;
    let port = free_port();
    let example = Example::new("dnsmasq", &[("5353", &port.to_string())]);
    fs::write(example.at("hosts"), "").expect("our own directory");
    let user = ["--conf-file=dnsmasq.conf", "--keep-in-foreground", "--user=root"];
    let _dnsmasq = example.program("dnsmasq", &user).start();
    eventually!("dnsmasq runs", LIMIT, async { there(&example.at("dnsmasq.pid")) });
    let _templater = example.templater(&registry, &["--config", "templater.yaml"]).start();
    let asked = async |name: &str, want: &[&str]| {
        eventually!(format!("{name} is {want:?}"), LIMIT, async {
            let found = dig(port, name, "A", &[]).await?.records;
            if found == want { Ok(()) } else { Err(format!("{found:?}")) }
        });
    };
    let _web = Instance::start(&registry, "web", "web-1", &[], &[]).await;
    asked("web.docker", &["127.0.0.1"]).await;
    registry.client.deregister_service("web-1").await.expect("the registry answers");
    asked("web.docker", &[]).await;
}

/// Prometheus scrapes what the file says.
pub(crate) async fn prometheus() {
    let registry = Registry::in_memory().await;
    let example = Example::new("prometheus", &[]);
    let _templater = example.templater(&registry, &["--template", "targets.json.tmpl"]).start();
    let _web = Instance::start(&registry, "web", "web-1", &["metrics"], &[]).await;
    let _other = Instance::start(&registry, "other", "other-1", &[], &[]).await;
    let port = free_port();
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let _prometheus = example.program("prometheus", &["--config.file=prometheus.yml", &listen]).start();
    eventually!("it has the target", Duration::from_secs(30), async {
        let body = web::get(&format!("http://127.0.0.1:{port}/api/v1/targets")).await?;
        if body.contains("\"service\":\"web\"") && !body.contains("other") { Ok(()) } else { Err(body) }
    });
}

/// Caddy checks and reloads.
pub(crate) async fn caddy() {
    let registry = Registry::in_memory().await;
    let (port, admin) = (free_port().to_string(), free_port().to_string());
    // Caddy keeps its data below the home directory; its own command asks the usual port unless the file says another.
    let example = Example::new("caddy", &[]);
    let home = example.0.path().to_owned();
    let with = |launch: Launch| launch.env("HTTP_PORT", &port).env("ADMIN_PORT", &admin).env("HOME", home.as_os_str());
    let once = with(example.templater(&registry, &["--config", "templater.yaml", "--once"])).run(LIMIT).await;
    assert!(example.at("Caddyfile").exists(), "the first file is made although nobody can load it: {once:?}");
    let run = ["run", "--adapter", "caddyfile", "--config", "Caddyfile"];
    let _caddy = with(example.program("caddy", &run)).start();
    eventually!("Caddy listens", LIMIT, async {
        TcpListener::bind(format!("127.0.0.1:{admin}")).map_or_else(|_| Ok(()), |_| Err("its port is free"))
    });
    let _templater = with(example.templater(&registry, &["--config", "templater.yaml"])).start();
    let web = Instance::start(&registry, "web", "web-1", &[], &[]).await;
    let url = format!("http://127.0.0.1:{port}/");
    answers(&url, "web.localhost", &web.id).await;
    registry.client.deregister_service(&web.id).await.expect("the registry answers");
    eventually!("nobody answers any more", LIMIT, async {
        web::get_from(&url, "web.localhost").await.map_or_else(|_| Ok(()), Err)
    });
}

/// Prometheus takes the configuration; what its rules and the dashboard ask about is there.
pub(crate) async fn monitoring() {
    let ports = [free_port(), free_port(), free_port()].map(|port| format!("127.0.0.1:{port}"));
    let [registrar_at, templater_at, prometheus_at] = ports.each_ref();
    let registry = Registry::in_memory().await;
    let registry_at = registry.url().trim_start_matches("http://").to_owned();
    let replaced =
        [("127.0.0.1:8500", registry_at.as_str()), ("127.0.0.1:8590", registrar_at), ("127.0.0.1:9101", templater_at)];
    let example = Example::new("monitoring", &replaced);
    for args in [&["check", "config", "prometheus.yml"], &["test", "rules", "rules_test.yml"]] {
        example.program("promtool", args).run(LIMIT).await.ok().unwrap_or_else(|e| panic!("promtool {args:?}: {e}"));
    }
    // Docker is away: what there is to be counted is told all the same.
    let docker = format!("unix://{}", example.at("docker.sock").display());
    let args = ["--docker", &docker, "--ip", "127.0.0.1", "--http-addr", registrar_at];
    let registrar = Launch::ours("registrar").env("CONSUL_HTTP_ADDR", registry.url()).args(args);
    let _registrar = registrar.args(["--state-dir".as_ref(), example.at("state").as_os_str()]).start();
    fs::write(example.at("names.tmpl"), "{{ services() | length }}").expect("our own directory");
    let args = ["--template", "names.tmpl", "--http-addr", templater_at];
    let _templater = example.templater(&registry, &args).start();
    let _web = Instance::start(&registry, "web", "web-1", &[], &[]).await;
    let listen = format!("--web.listen-address={prometheus_at}");
    let _prometheus = example.program("prometheus", &["--config.file=prometheus.yml", &listen]).start();
    let api = format!("http://{prometheus_at}/api/v1");
    eventually!("all three are scraped", Duration::from_mins(1), async {
        let targets: serde_json::Value =
            serde_json::from_str(&web::get(&format!("{api}/targets")).await?).map_err(|e| e.to_string())?;
        let targets = targets["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let up = targets.iter().filter(|target| target["health"] == "up").count();
        if up == 3 { Ok(()) } else { Err(format!("{targets:?}")) }
    });

    // A wait that ends at once, so that one is counted.
    web::get(&format!("http://{registry_at}/v1/catalog/nodes?index=1")).await.expect("it answers");
    let mut shown =
        web::get(&format!("http://{registry_at}/v1/agent/metrics?format=prometheus")).await.expect("it answers");
    for address in [registrar_at, templater_at] {
        shown += &web::get(&format!("http://{address}/metrics")).await.expect("it answers");
    }
    let told = ["kvstore", "registrar", "templater"].map(|program| {
        let page = workspace().join(format!("docs/reference/{program}-metrics.md"));
        fs::read_to_string(&page).unwrap_or_else(|e| panic!("{}: {e}", page.display()))
    });
    let asked = ["rules.yml", "dashboard.json"].map(|file| fs::read_to_string(example.at(file)).expect("it is there"));
    for name in metrics_in(&asked.concat()) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
        assert!(told.iter().any(|page| page.contains(&format!("`{family}`"))), "{name} is not in the reference");
        // Of these there is nothing to count here.
        let quiet = ["kvstore_check_runs_total", "registrar_calls_total"].contains(&family);
        assert!(quiet || shown.contains(&format!("# HELP {family} ")), "{name} is not exposed in\n{shown}");
    }
}

/// Every name of ours in `text`.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = |word: &&str| {
        let (program, rest) = word.split_once('_').unwrap_or_default();
        ["kvstore", "consul", "registrar", "templater"].contains(&program) && !rest.is_empty()
    };
    words.filter(ours).map(str::to_owned).collect()
}
