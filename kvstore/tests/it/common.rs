//! An agent in this process, for tests that speak HTTP to it.

use std::sync::{Arc, Mutex};

use kvstore::{
    agent::Programs,
    config::{self, HttpAddr},
    server::{self, Running, Surroundings},
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A running agent with nothing kept; it ends with the test, or in order by [`Agent::stop`].
pub(crate) struct Agent {
    /// `http://IP:PORT`
    pub(crate) base: String,
    running: Running,
    /// Whatever becomes of the runtime: threads that went on would answer at ports that others have by then.
    shutdown: DropGuard,
}

/// The configuration the recordings were made with, on free ports.
pub(crate) fn settings(node: &str) -> config::Agent {
    config::Agent {
        node_meta: [("wire".to_owned(), "yes".to_owned())].into(),
        server_port: 39300,
        check_output_interval: std::time::Duration::from_secs(30),
        programs: Programs::All,
        dev: false,
        ..config::Agent::in_memory(node)
    }
}

impl Agent {
    /// An agent with nothing kept.
    pub(crate) async fn start(node: &str) -> Self {
        Self::with(settings(node)).await
    }

    /// An agent of those settings.
    pub(crate) async fn with(settings: config::Agent) -> Self {
        Self::in_surroundings(Surroundings::default(), settings).await
    }

    /// The same, which reads its settings again where the second part keeps them.
    pub(crate) async fn with_reread(settings: config::Agent) -> (Self, Arc<Mutex<config::Agent>>) {
        let kept = Arc::new(Mutex::new(settings.clone()));
        let reread = kept.clone();
        let reread: kvstore::reload::Reread = Arc::new(move || Ok(reread.lock().unwrap().clone()));
        let surroundings = Surroundings { reread: Some(reread), ..Surroundings::default() };
        (Self::in_surroundings(surroundings, settings).await, kept)
    }

    async fn in_surroundings(surroundings: Surroundings, settings: config::Agent) -> Self {
        kvstore_client::choose_crypto();
        let shutdown = CancellationToken::new();
        let running = server::start_in(surroundings, settings, shutdown.clone()).await.unwrap();
        let address = running.http.iter().find(|a| matches!(a, HttpAddr::Tcp(_))).expect("an address over TCP");
        Self { base: address.to_string(), running, shutdown: shutdown.drop_guard() }
    }

    /// `https://IP:PORT`
    pub(crate) fn https(&self) -> String {
        let address = self.running.http.iter().find(|a| matches!(a, HttpAddr::Tls(_)));
        address.expect("an address over TLS").to_string()
    }

    /// Where it answers DNS.
    pub(crate) fn dns(&self) -> std::net::SocketAddr {
        *self.running.dns.first().expect("it serves DNS")
    }

    /// Stops in order.
    pub(crate) async fn stop(self) {
        drop(self.shutdown);
        self.running.wait().await;
    }
}
