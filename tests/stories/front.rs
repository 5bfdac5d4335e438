//! `examples/front`: nginx before two of HAProxy, of which one dies under visitors; DNS, and dnsmasq, lead to those that live.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use flotilla_tests::{
    compose::Compose,
    dig::{dig, dig_at},
    docker::Dockerd,
    eventually,
    needs::Need,
    ports::free_port,
    program::{Launch, Program},
    resolver::Resolver,
    web::{self, hello},
};
use reqwest::Method;

use crate::stage::same;

pub(crate) fn needs() -> Vec<Need> {
    let mut needs = Need::DOCKER.to_vec();
    needs.extend(["dig", "dnsmasq", "docker-compose", "haproxy", "nginx"].map(Need::Program));
    needs
}

/// For one step on a busy machine, in which several containers start.
const LIMIT: Duration = Duration::from_mins(1);
const PROXIES: &str = "haproxy.service.consul";

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    dockerd.make_nginx();
    dockerd.make_images(&["kvstore", "registrar", "templater-haproxy", "templater-nginx"]);
    let (http, dns, registry) = (free_port(), free_port(), free_port());
    let env = [("HTTP_PORT", http.to_string()), ("DNS_PORT", dns.to_string()), ("REGISTRY_PORT", registry.to_string())];
    let compose = Compose::new(dockerd, "front/compose.yaml", "front", &env);
    let front = Front { compose, url: format!("http://127.0.0.1:{http}/"), dns };
    let scale = async |proxies: u8| {
        let proxies = format!("haproxy={proxies}");
        front.compose.run(&["up", "--detach", "--no-build", "--scale", &proxies, "--scale", "web=2"]).await;
    };
    scale(2).await;
    front.leads_to("web", "web").await;
    front.leads_to("api.example.com", "api").await;
    front.knows_proxies(2).await;
    front.turns().await;

    let dnsmasq = Resolver::example_dnsmasq(local(free_port()), local(dns), None).await;
    let through = async || Ok::<_, String>(dig_at(dnsmasq.address, PROXIES, "A", &[]).await?.records.len());
    eventually!("dnsmasq passes it on", LIMIT, async { same("the proxies", &through().await?, &2) });
    name_without_address(registry, dns).await;

    let visitors = Visitors::begin(&front.url);
    let proxies = front.compose.containers("haproxy").await;
    let killed = Instant::now();
    dockerd.docker(&["kill", "--signal", "KILL", &proxies[0]]).await;
    eventually!("DNS knows that it died", LIMIT, async { same("the proxies", &front.proxies().await?.len(), &1) });
    println!("  a proxy was killed: out of DNS after {} ms", killed.elapsed().as_millis());
    eventually!("behind dnsmasq too", LIMIT, async { same("the proxies", &through().await?, &1) });
    scale(3).await;
    front.knows_proxies(3).await;
    // Those that are there since then have had visitors, too.
    tokio::time::sleep(Duration::from_secs(2)).await;
    visitors.none_failed();
}

struct Front {
    compose: Compose<'static>,
    url: String,
    dns: u16,
}

impl Front {
    /// Who asks for this host meets all containers of the service, and no other.
    async fn leads_to(&self, host: &str, service: &str) {
        eventually!(format!("{host} leads to {service}"), LIMIT, async {
            let ids = self.compose.containers(service).await;
            let wanted: BTreeSet<_> = ids.iter().map(|id| id[..12].to_owned()).collect();
            let mut met = BTreeSet::new();
            for _ in 0..12 {
                met.insert(hello(&web::get_from(&self.url, host).await?)?.id);
            }
            same("those who answer", &met, &wanted)
        });
    }

    async fn proxies(&self) -> Result<Vec<String>, String> {
        Ok(dig(self.dns, PROXIES, "A", &[]).await?.records)
    }

    async fn knows_proxies(&self, count: usize) {
        eventually!(format!("DNS has {count} proxies"), LIMIT, async {
            same("the proxies", &self.proxies().await?.len(), &count)
        });
    }

    /// Each is the first one now and then, and none may be kept.
    async fn turns(&self) {
        let port = self.dns.to_string();
        let mut first = BTreeSet::new();
        for _ in 0..40 {
            let question = ["@127.0.0.1", "-p", &port, "+noall", "+answer", PROXIES];
            let answer = Launch::new("dig").args(question).run(LIMIT).await.ok().expect("it answers");
            let records: Vec<Vec<_>> = answer.lines().map(|line| line.split_whitespace().collect()).collect();
            assert!(records.iter().all(|record| record[1] == "0"), "a TTL of 0: {answer}");
            first.insert(records[0][4].to_owned());
        }
        assert_eq!(first.len(), 2, "by turns");
    }
}

/// A node that has the proxies' name for its address leads to them, with the name by which they choose.
async fn name_without_address(registry: u16, dns: u16) {
    let node = serde_json::json!({"Node": "web", "Address": PROXIES});
    let url = format!("http://127.0.0.1:{registry}/v1/catalog/register");
    web::send(Method::PUT, &url, node.to_string()).await.expect("the registry answers");
    let found = dig(dns, "web.node.consul", "A", &[]).await.expect("it answers").records;
    let (alias, addresses): (Vec<_>, Vec<_>) = found.into_iter().partition(|data| data.ends_with('.'));
    assert_eq!(alias, [format!("{PROXIES}.")]);
    let url = format!("http://{}:8080/", addresses[1]);
    let answer = web::get_from(&url, "web.node.consul").await.expect("a proxy answers");
    assert!(hello(&answer).is_ok(), "{answer}");
}

/// Visitors who keep count of what fails.
struct Visitors(Program);

impl Visitors {
    fn begin(url: &str) -> Self {
        Self(Launch::ours("load").args([url, "4"]).start())
    }

    fn none_failed(mut self) {
        let ended = self.0.stop();
        let log = self.0.log();
        println!("  {}", log.lines().last().unwrap_or_default());
        assert!(ended.success(), "{log}");
    }
}

fn local(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}
