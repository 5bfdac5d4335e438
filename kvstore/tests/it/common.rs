//! An agent in this process, for tests that speak HTTP to it.

use kvstore::{
    agent::{Definitions, Outputs, Programs, Trust},
    config::{self, DnsSettings, Engine, HttpAddr, Limits, Log},
    http::Guard,
    server::{self, Running},
};
use tokio_util::sync::CancellationToken;

/// A running agent with nothing kept; it ends with the test's runtime, or in order by [`Agent::stop`].
pub(crate) struct Agent {
    /// `http://IP:PORT`
    pub(crate) base: String,
    running: Running,
    shutdown: CancellationToken,
}

/// The configuration the recordings were made with, on free ports.
pub(crate) fn settings(node: &str) -> config::Agent {
    config::Agent {
        node_name: node.into(),
        node_id: "11111111-1111-4111-8111-111111111111".into(),
        datacenter: "dc1".into(),
        domain: "consul".into(),
        alt_domain: None,
        advertise: "127.0.0.1".parse().unwrap(),
        http: vec![HttpAddr::Tcp("127.0.0.1:0".parse().unwrap())],
        dns: vec!["127.0.0.1:0".parse().unwrap()],
        recursors: Vec::new(),
        aliases: std::collections::BTreeMap::new(),
        routable: Vec::new(),
        trusted_resolvers: Vec::new(),
        dns_settings: DnsSettings::default(),
        engine: Engine::Memory,
        node_meta: [("wire".to_owned(), "yes".to_owned())].into(),
        server_port: 39300,
        limits: Limits::default(),
        session_ttl_min: std::time::Duration::from_secs(10),
        check_output_interval: std::time::Duration::from_secs(30),
        programs: Programs::All,
        check_outputs: Outputs::default(),
        check_trust: Trust::default(),
        definitions: Definitions::default(),
        strict_consul: false,
        guard: Guard::default(),
        dev: false,
        log: Log::default(),
        notes: Vec::new(),
        warnings: Vec::new(),
    }
}

impl Agent {
    /// An agent with nothing kept.
    pub(crate) async fn start(node: &str) -> Self {
        Self::with(settings(node)).await
    }

    /// An agent of those settings.
    pub(crate) async fn with(settings: config::Agent) -> Self {
        let shutdown = CancellationToken::new();
        let running = server::start(settings, shutdown.clone()).await.unwrap();
        let address = running.http.iter().find(|a| matches!(a, HttpAddr::Tcp(_))).expect("an address over TCP");
        Self { base: address.to_string(), running, shutdown }
    }

    /// Where it answers DNS.
    pub(crate) fn dns(&self) -> std::net::SocketAddr {
        *self.running.dns.first().expect("it serves DNS")
    }

    /// Stops in order.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.running.wait().await;
    }
}
