//! DNS over UDP and TCP: sockets around `kvstore_core::dns`, and upstream resolvers for what is not ours.
//!
//! Answers come from the newest state in memory; nothing here waits for a writer.

mod asker;
mod batch;
mod forward;
mod serve;
mod tcp;
mod udp;

use std::sync::Arc;

use arc_swap::ArcSwap;
use kvstore_core::{
    State,
    dns::{DnsConfig, ServiceTtls, Soa},
    near::Distances,
};
use tokio_util::sync::CancellationToken;

pub(crate) use asker::Asker;
pub(crate) use forward::{ForwardError, Forwarder};
pub(crate) use kvstore_core::dns::ConfigError;
pub(crate) use serve::Settings;
pub(crate) use serve::{BindError, Dns, Listening};

use crate::{config, metrics::DnsMetrics};

/// Something about DNS does not work. The rest of the agent does.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// No zone can be made of the settings; nothing is answered.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// One of the addresses is not served.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Other domains are not resolved.
    #[error(transparent)]
    Forward(#[from] ForwardError),
}

/// DNS that is served.
pub(crate) struct Started {
    pub(crate) listening: Vec<Listening>,
    /// What does not work.
    pub(crate) failed: Vec<DnsError>,
    /// None if nothing is served.
    pub(crate) live: Option<Live>,
}

/// Serves DNS as `config` says, on every address that can be had, until `shutdown`; to be called in a runtime.
pub(crate) fn start(
    config: &config::Agent,
    snapshots: &Arc<ArcSwap<State>>,
    asker: Option<Asker>,
    metrics: &DnsMetrics,
    distances: Arc<dyn Distances>,
    shutdown: &CancellationToken,
) -> Started {
    let mut started = Started { listening: Vec::new(), failed: Vec::new(), live: None };
    if config.dns.is_empty() {
        return started;
    }
    let forwarder = Forwarder::new(&config.recursors, &config.dns, &config.dns_settings, None);
    let forwarder = forwarder.unwrap_or_else(|error| {
        started.failed.push(error.into());
        None
    });
    let dns = match Dns::new(zone_of(config), snapshots.clone(), forwarder) {
        Ok(dns) => dns.counting_in(metrics.clone()).sorting_by(distances).asked_by(asker),
        Err(error) => {
            started.failed.push(error.into());
            return started;
        }
    };
    for address in &config.dns {
        match dns.listen(*address, shutdown) {
            Ok(bound) => started.listening.push(bound),
            Err(error) => started.failed.push(error.into()),
        }
    }
    started.live = (!started.listening.is_empty()).then_some(Live(dns));
    started
}

/// DNS that answers, and can do so otherwise from now on. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Live(Dns);

impl Live {
    /// What answering as `config` says takes; nothing changes yet. Recursors that stay keep what they remember.
    ///
    /// # Errors
    /// [`DnsError`] if that cannot be.
    pub(crate) fn prepare(&self, config: &config::Agent) -> Result<Settings, DnsError> {
        let earlier = self.0.forwarder();
        let forwarder = Forwarder::new(&config.recursors, &config.dns, &config.dns_settings, earlier.as_deref())?;
        Ok(Settings::new(zone_of(config), forwarder)?)
    }

    /// Answers by `settings` from now on.
    pub(crate) fn change(&self, settings: Settings) {
        self.0.change(settings);
    }

    /// Keeps finding out which recursors lead back to us, until `shutdown`.
    pub(crate) async fn watch_recursors(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.0.watch_recursors()).await;
    }
}

fn zone_of(config: &config::Agent) -> DnsConfig {
    let settings = &config.dns_settings;
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    DnsConfig {
        domain: config.domain.clone(),
        alt_domain: config.alt_domain.clone(),
        datacenter: config.datacenter.clone(),
        node: config.node_name.clone(),
        addresses: vec![config.advertise],
        node_ttl: settings.node_ttl,
        service_ttl: ServiceTtls(settings.service_ttl.clone()),
        only_passing: settings.only_passing,
        node_meta_txt: settings.node_meta_txt,
        soa: Soa {
            refresh: seconds(settings.soa.refresh),
            retry: seconds(settings.soa.retry),
            expire: seconds(settings.soa.expire),
            min_ttl: seconds(settings.soa.min_ttl),
        },
        a_record_limit: settings.a_record_limit,
        udp_answer_limit: settings.udp_answer_limit,
        truncate: settings.truncate,
        max_udp_bytes: settings.max_udp_bytes,
        response_rate_limit: settings.response_rate_limit,
        aliases: config.aliases.clone(),
        callers: config.callers(),
        trusted_resolvers: config.trusted_resolvers.clone(),
        ..DnsConfig::default()
    }
}

#[cfg(test)]
mod tests;
