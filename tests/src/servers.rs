//! Servers of one service behind a real HAProxy and a real nginx that try nothing twice, and visitors that count what
//! fails while servers come and go.

use std::{collections::BTreeSet, fs, time::Duration};

use kvstore_client::types::ServiceRegistration;
use nix::sys::signal::Signal;

use crate::{
    eventually,
    ports::free_port,
    program::{Launch, Program},
    proxy::{Kind, Site, haproxy_without_retries},
    registry::Registry,
    web,
};

/// A step that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(20);

const NGINX: &str = r#"worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {}
http {
    access_log off;
    upstream web {
{%- for instance in service(name="web", live=true) %}
        server {{ instance.address }}:{{ instance.port }} max_fails=0;
{%- endfor %}
        keepalive 8;
    }
    server {
        listen 127.0.0.1:{{ get_env(name="HTTP_PORT") }};
        location / {
            proxy_pass http://web;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_next_upstream off;
        }
    }
}
"#;

/// One server, registered.
pub struct Server {
    id: String,
    program: Program,
}

/// A proxy with the templater that keeps its configuration.
struct Front {
    site: Site,
    proxy: Program,
    _templater: Program,
}

impl Front {
    async fn start(kind: Kind, registry: &Registry) -> Self {
        let site = Site::new(kind);
        let text = match kind {
            Kind::Haproxy => haproxy_without_retries("127.0.0.1:{{ get_env(name=\"HTTP_PORT\") }}", "2s", "30s"),
            Kind::Nginx => NGINX.to_owned(),
        };
        fs::write(site.template(), text).expect("our own directory");
        let once = site.templater(&registry.url()).args(["--once"]).run(LIMIT).await;
        once.ok().unwrap_or_else(|e| panic!("templater --once: {e}"));
        let proxy = site.start().await;
        let templater = site.templater(&registry.url()).start();
        Self { site, proxy, _templater: templater }
    }

    /// The processes that serve.
    fn workers(&self) -> BTreeSet<String> {
        let pid = self.proxy.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// Waits until each of those that served before has taken its leave, and others serve.
    async fn left_behind(&self, before: &BTreeSet<String>) {
        eventually!(format!("the old workers of {:?} have ended", self.site.kind), LIMIT, async {
            let now = self.workers();
            if !now.is_empty() && now.is_disjoint(before) { Ok(()) } else { Err(format!("{now:?}, before {before:?}")) }
        });
    }
}

/// A registry, the proxies, and who visits them.
pub struct Servers {
    registry: Registry,
    fronts: [Front; 2],
    visitors: Vec<(&'static str, Program)>,
    count: u32,
}

/// What visitors met.
#[derive(Clone, Debug)]
pub struct Visits {
    /// Behind which proxy, and how.
    pub how: &'static str,
    /// How often they asked.
    pub requests: usize,
    /// How often they got no whole good answer.
    pub failed: usize,
    /// What they printed.
    pub log: String,
}

impl Servers {
    /// Proxies with a first server of version v1 behind them.
    pub async fn begin() -> (Self, Server) {
        let registry = Registry::beyond_consul(&[]).await;
        let first = register(&registry, 0, "v1").await;
        let fronts = [Front::start(Kind::Haproxy, &registry).await, Front::start(Kind::Nginx, &registry).await];
        (Self { registry, fronts, visitors: Vec::new(), count: 0 }, first)
    }

    /// From now on visitors come to both proxies, some on a new connection each time, some on one that they keep.
    pub fn open(&mut self) {
        const HOW: [[&str; 2]; 2] = [["HAProxy", "HAProxy, keep-alive"], ["nginx", "nginx, keep-alive"]];
        for (front, [each, kept]) in self.fronts.iter().zip(HOW) {
            let url = front.site.url();
            self.visitors.push((each, Launch::ours("load").args([url.as_str(), "2"]).start()));
            self.visitors.push((kept, Launch::ours("load").args(["--keep-alive", url.as_str(), "2"]).start()));
        }
    }

    /// The visitors go home.
    pub fn close(self) -> Vec<Visits> {
        let visits = |(how, mut program): (_, Program)| {
            program.stop();
            let log = program.log();
            let last = log.lines().last().unwrap_or_default();
            let number = |name: &str| {
                let found = last.split(' ').find_map(|word| word.strip_prefix(name)?.parse().ok());
                found.unwrap_or_else(|| panic!("no {name} in {last:?}"))
            };
            Visits { how, requests: number("requests="), failed: number("failed="), log }
        };
        self.visitors.into_iter().map(visits).collect()
    }

    /// Starts a server and registers it; it need not be live.
    pub async fn add(&mut self, version: &str) -> Server {
        self.count += 1;
        register(&self.registry, self.count, version).await
    }

    /// Waits until both proxies send visitors to `server`.
    pub async fn serves(&self, server: &Server) {
        for front in &self.fronts {
            let url = front.site.url();
            eventually!(format!("{:?} serves {}", front.site.kind, server.id), LIMIT, async {
                let found = web::who_answers(&url, 4).await?;
                if found.iter().any(|h| h.id == server.id) { Ok(()) } else { Err(format!("{found:?}")) }
            });
        }
    }

    /// Takes `server` away as a deployment does: nobody is sent to it any more, then it is told to stop.
    pub async fn remove(&self, mut server: Server) {
        let before = self.fronts.each_ref().map(Front::workers);
        self.registry.client.deregister_service(&server.id).await.expect("the registry answers");
        for (front, before) in self.fronts.iter().zip(&before) {
            front.left_behind(before).await;
        }
        server.program.signal(Signal::SIGTERM);
        server.program.wait(LIMIT);
    }

    /// Takes `server` away, to which nobody is sent.
    pub async fn remove_idle(&self, mut server: Server) {
        self.registry.client.deregister_service(&server.id).await.expect("the registry answers");
        server.program.signal(Signal::SIGTERM);
        server.program.wait(LIMIT);
    }

    /// Puts a new server in the place of `old`.
    pub async fn replace(&mut self, old: Server, version: &str) -> Server {
        let new = self.add(version).await;
        self.serves(&new).await;
        self.remove(old).await;
        new
    }

    /// `kvstore release web VERSION`; for a version that is live already.
    pub async fn declare(&self, version: &str) {
        let release = Launch::ours("kvstore").args(["release", "web", version, "--http-addr", &self.registry.url()]);
        release.run(LIMIT).await.ok().unwrap_or_else(|e| panic!("kvstore release: {e}"));
    }

    /// The same for another version, until nobody is sent to the one before.
    pub async fn release(&self, version: &str) {
        let before = self.fronts.each_ref().map(Front::workers);
        self.declare(version).await;
        for (front, before) in self.fronts.iter().zip(&before) {
            front.left_behind(before).await;
            let found = web::who_answers(&front.site.url(), 4).await.expect("somebody answers");
            assert!(found.iter().all(|h| h.version == version), "{:?}: {found:?}", front.site.kind);
        }
    }
}

async fn register(registry: &Registry, number: u32, version: &str) -> Server {
    let (id, port) = (format!("web-{number}"), free_port());
    let launch = Launch::ours("hello-web").env("PORT", port.to_string()).env("HOSTNAME", &id);
    let program = launch.env("VERSION", version).env("DRAIN_MS", "200").start();
    let url = format!("http://127.0.0.1:{port}/");
    eventually!(format!("{id} answers"), LIMIT, async { web::get(&url).await });
    let service = ServiceRegistration {
        id: id.clone(),
        name: "web".into(),
        address: "127.0.0.1".into(),
        port,
        meta: [("version".to_owned(), version.to_owned())].into(),
        ..ServiceRegistration::default()
    };
    registry.client.register_service(&service).await.expect("the registry answers");
    Server { id, program }
}
