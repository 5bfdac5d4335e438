//! DNS over UDP and TCP: sockets around `kvstore_core::dns`, and upstream resolvers for what is not ours.
//!
//! Answers come from the newest state in memory; nothing here waits for a writer.

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

pub use forward::{ForwardError, Forwarder};
pub use kvstore_core::dns::ConfigError;
pub use serve::{BindError, Dns, Listening};

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

/// Serves DNS as `config` says, on every address that can be had, until `shutdown`; to be called in a runtime. What
/// does not work comes second.
pub(crate) fn start(
    config: &config::Agent,
    snapshots: &Arc<ArcSwap<State>>,
    metrics: &DnsMetrics,
    distances: Arc<dyn Distances>,
    shutdown: &CancellationToken,
) -> (Vec<Listening>, Vec<DnsError>) {
    let (mut listening, mut failed) = (Vec::new(), Vec::new());
    if config.dns.is_empty() {
        return (listening, failed);
    }
    let forwarder = Forwarder::new(&config.recursors, &config.dns, &config.dns_settings).unwrap_or_else(|error| {
        failed.push(error.into());
        None
    });
    match Dns::new(zone_of(config), snapshots.clone(), forwarder) {
        Ok(dns) => {
            let dns = dns.counting_in(metrics.clone()).sorting_by(distances);
            for address in &config.dns {
                match dns.listen(*address, shutdown) {
                    Ok(bound) => listening.push(bound),
                    Err(error) => failed.push(error.into()),
                }
            }
        }
        Err(error) => failed.push(error.into()),
    }
    (listening, failed)
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
        aliases: config.aliases.clone(),
        callers: config.callers(),
        trusted_resolvers: config.trusted_resolvers.clone(),
        ..DnsConfig::default()
    }
}

#[cfg(test)]
mod tests;
