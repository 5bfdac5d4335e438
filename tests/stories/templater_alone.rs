//! A templater beside a HAProxy that runs already: `templater --template haproxy.tmpl`, and no word more, finds out what
//! the file is, has it checked, and reloads the HAProxy that uses it; one that HAProxy refuses never goes live.

use std::{fs, time::Duration};

use flotilla_tests::{
    docker::Dockerd,
    eventually,
    needs::Need,
    program::{Launch, Program},
    proxy::{Kind, Site},
    registry::Registry,
    web,
};
use kvstore_client::{KvPut, types::ServiceRegistration};

const LIMIT: Duration = Duration::from_secs(8);

/// For a HAProxy that is a process of this machine.
pub(crate) fn needs() -> [Need; 1] {
    [Need::Program("haproxy")]
}

/// HAProxy as a process.
pub(crate) async fn process() {
    let registry = Registry::in_memory().await;
    let site = site();
    let mut haproxy = site.start().await;
    let templater = alone(&site, &registry).start();
    tell(&registry, &site, templater).await;
    eventually!("each new file was loaded", LIMIT, async { loaded(&haproxy.log()) });
    assert!(haproxy.is_running(), "it was reloaded, not restarted");
}

/// HAProxy as a container.
pub(crate) async fn container() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let site = site();
    let haproxy = site.start_container(dockerd).await;
    let templater = alone(&site, &registry).env("DOCKER_HOST", dockerd.host()).start();
    tell(&registry, &site, templater).await;
    eventually!("each new file was loaded", LIMIT, async { loaded(&haproxy.logs().await) });
}

/// Containers that are named: HAProxy is asked, reloaded and told of servers in the one, the other gets a signal.
pub(crate) async fn named() {
    let dockerd = Dockerd::shared();
    let registry = Registry::in_memory().await;
    let site = site();
    let haproxy = site.start_container(dockerd).await;
    let signalled = dockerd.run_web(&[]).await;
    let config = site.dir().join("config.yaml");
    let text = format!(
        "templates:\n  - {{source: named.tmpl, destination: haproxy.cfg, target: haproxy, container: {}}}\n  \
         - {{inline: '{{{{ key(path=\"n\") }}}}', destination: n, target: signal, container: {}, reload_signal: USR1}}\n",
        haproxy.short(),
        signalled.short()
    );
    fs::write(&config, text).expect("our own directory");
    let server = r#"server s1 {{ key(path="s1") }} weight 1"#;
    let text = format!(
        "global\n  stats socket /etc/haproxy/h.sock level admin\ndefaults\n  mode http\n  timeout client 9s\n  timeout connect 9s\n  \
         timeout server 9s\nfrontend web\n  bind 127.0.0.1:{}\n  default_backend web\nbackend web\n  {server}\n",
        site.port
    );
    fs::write(site.dir().join("named.tmpl"), text).expect("our own directory");
    let instances = [instance("one"), instance("two")];
    let address = |n: usize| format!("127.0.0.1:{}", instances[n].0);
    put(&registry, "s1", &address(0)).await;
    let launch = Launch::ours("templater").args(["--config", "config.yaml"]).dir(site.dir());
    let launch = launch.env("CONSUL_HTTP_ADDR", registry.url()).env("DOCKER_HOST", dockerd.host());
    let mut templater = launch.start();
    templater.wait_for_log("HAProxy has reloaded it (container ", LIMIT).await;
    eventually!("the first instance is reached", LIMIT, async { answers(&site, "one").await });

    put(&registry, "s1", &address(1)).await;
    templater.wait_for_log("HAProxy was told of 1 servers, without a reload (container ", LIMIT).await;
    eventually!("the second instance is reached", LIMIT, async { answers(&site, "two").await });

    put(&registry, "s1", "127.0.0.1:1 bogus").await;
    templater.wait_for_log("unknown keyword 'bogus'", LIMIT).await;
    answers(&site, "two").await.unwrap_or_else(|e| panic!("visitors are served by the old file: {e}"));

    let health = format!("http://127.0.0.1:{}/health", signalled.port().await);
    web::get(&health).await.expect("it is well");
    put(&registry, "n", "1").await;
    templater.wait_for_log(&format!("container {} has got SIGUSR1", signalled.short()), LIMIT).await;
    eventually!("the signal came", LIMIT, async {
        let answer = web::ask(reqwest::Method::GET, &health).await?;
        if answer.status == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    signalled.stop().await;
    put(&registry, "n", "2").await;
    templater.wait_for_log("does not run; nothing to reload", LIMIT).await;
}

/// A server that calls itself so, and its port.
fn instance(name: &str) -> (u16, Program) {
    let port = flotilla_tests::ports::free_port();
    (port, Launch::ours("hello-web").env("PORT", port.to_string()).env("HOSTNAME", name).start())
}

async fn answers(site: &Site, name: &str) -> Result<(), String> {
    let found = web::hello(&web::get(&site.url()).await?)?;
    if found.id == name { Ok(()) } else { Err(format!("{found:?}")) }
}

/// HAProxy's master makes a worker at its start, and one for each of the three files that were good.
fn loaded(log: &str) -> Result<(), String> {
    if log.matches("forked").count() == 4 { Ok(()) } else { Err(log.to_owned()) }
}

/// The configuration that the machine's owner began with; the template knows one more thing than the example's.
fn site() -> Site {
    let site = Site::new(Kind::Haproxy);
    let template = fs::read_to_string(site.template()).expect("the template was just copied");
    let from_registry = r#"timeout connect {{ key(path="web/connect", default="2s") }}"#;
    assert!(template.contains("timeout connect 2s"), "{template}");
    fs::write(site.template(), template.replace("timeout connect 2s", from_registry)).expect("our own file");
    let port = site.port;
    let first = format!("defaults\n  mode http\n  timeout client 9s\nfrontend first\n  bind 127.0.0.1:{port}\n");
    fs::write(site.config(), first).expect("our own directory");
    site
}

/// `templater --template haproxy.tmpl`, in the directory of the file; the registry's address is in the environment.
fn alone(site: &Site, registry: &Registry) -> Launch {
    let port = site.port.to_string();
    let launch = Launch::ours("templater").args(["--template", "haproxy.tmpl"]).dir(site.dir());
    launch.env("HTTP_PORT", port).env("CONSUL_HTTP_ADDR", registry.url())
}

async fn tell(registry: &Registry, site: &Site, mut templater: Program) {
    // An instance that is no container: anything that speaks HTTP will do.
    let port = flotilla_tests::ports::free_port();
    let server = Launch::ours("hello-web").env("PORT", port.to_string()).env("HOSTNAME", "alone").start();
    let service = ServiceRegistration {
        id: "web-1".into(),
        name: "web".into(),
        address: "127.0.0.1".into(),
        port,
        ..ServiceRegistration::default()
    };
    eventually!("HAProxy is reloaded with nobody behind it", LIMIT, async {
        let answer = web::ask(reqwest::Method::GET, &site.url()).await?;
        let rendered = fs::read_to_string(site.config()).is_ok_and(|text| text.contains("backend web"));
        if rendered && answer.status == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    registry.client.register_service(&service).await.expect("the registry answers");
    eventually!("visitors reach the instance", LIMIT, async { web::get(&site.url()).await });

    let before = fs::read(site.config()).expect("the file is live");
    put(registry, "web/connect", "soon").await;
    templater.wait_for_log("refused", LIMIT).await;
    assert_eq!(fs::read(site.config()).expect("the file is live"), before, "a refused file went live");
    assert!(!leftovers(site), "the refused file lies about in {}", site.dir().display());
    web::get(&site.url()).await.unwrap_or_else(|e| panic!("visitors are served by the old file: {e}"));

    put(registry, "web/connect", "3s").await;
    eventually!("a good value goes live after a bad one", LIMIT, async {
        let text = fs::read_to_string(site.config()).unwrap_or_default();
        if text.contains("timeout connect 3s") { Ok(()) } else { Err(text) }
    });
    eventually!("HAProxy still serves", LIMIT, async { web::get(&site.url()).await });
    assert!(templater.is_running(), "it goes on:\n{}", templater.log());
    drop(server);
}

async fn put(registry: &Registry, key: &str, value: &str) {
    registry.client.kv_put(key, value.to_owned(), KvPut::default()).await.expect("the registry answers");
}

/// Whether the directory holds more than the template and the configuration, hidden files of the templater's aside.
fn leftovers(site: &Site) -> bool {
    let names = fs::read_dir(site.dir()).expect("our own directory").flatten().map(|e| e.file_name());
    names.into_iter().any(|n| n != "haproxy.tmpl" && n != "haproxy.cfg" && !n.to_string_lossy().starts_with('.'))
}
