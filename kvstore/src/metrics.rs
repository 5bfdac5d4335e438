//! What is counted and measured: one registry, shown as Prometheus' text or as Consul's JSON.
//!
//! Names are Consul's where Consul has the thing, with dots; Prometheus sees `_` for each. What can be read from the
//! registry's state at any time is read when somebody asks, and costs nothing until then.

mod live;
mod shown;
mod table;

use std::{
    collections::BTreeMap,
    sync::OnceLock,
    time::{Duration, Instant},
};

use kvstore_core::dns::{Reaction, Transport};
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::{self, Registry};

pub(crate) use table::page;

use crate::store::Store;

/// Upper bounds of the classes of a request's duration, in milliseconds as Consul has it.
const REQUEST_MILLIS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 100.0, 250.0, 1000.0, 5000.0];

/// Upper bounds of the classes of a commit's duration, in seconds.
const COMMIT_SECONDS: [f64; 10] = [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];

/// Upper bounds of the classes of a batch's size.
const BATCH_COMMANDS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Labels of one series.
type Labels = Vec<(&'static str, String)>;

/// Everything that is counted and measured.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Consul's spelling of each name, by Prometheus'.
    dotted: BTreeMap<String, &'static str>,
    /// Requests over HTTP.
    pub(crate) requests: Requests,
    /// Questions to DNS.
    pub(crate) dns: DnsMetrics,
    /// Probes of this agent.
    pub(crate) checks: CheckMetrics,
    /// Snapshots that the agent takes by itself.
    pub(crate) snapshots: SnapshotMetrics,
}

/// What is counted of snapshots that the agent takes by itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotMetrics {
    taken: Counter,
    failed: Counter,
    newest: Gauge,
}

impl SnapshotMetrics {
    /// One is there, as of that second since 1970.
    pub(crate) fn taken(&self, second: i64) {
        self.taken.inc();
        self.newest.set(second);
    }

    /// One could not be taken.
    pub(crate) fn failed(&self) {
        self.failed.inc();
    }

    /// How many were taken, and how many could not be.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.taken.get(), self.failed.get())
    }
}

/// What the writer measures.
#[derive(Clone, Debug)]
pub(crate) struct StoreMetrics {
    batch: Histogram,
    commit: Histogram,
    applied: Counter,
    refused: Counter,
    /// Commands that could not be made durable.
    pub(crate) failed: Counter,
}

impl Default for StoreMetrics {
    fn default() -> Self {
        Self {
            batch: Histogram::new(BATCH_COMMANDS),
            commit: Histogram::new(COMMIT_SECONDS),
            applied: Counter::default(),
            refused: Counter::default(),
            failed: Counter::default(),
        }
    }
}

impl StoreMetrics {
    /// A batch of `commands` was committed, `proposed` of them with changes, in `took`.
    pub(crate) fn committed(&self, commands: usize, proposed: usize, took: Duration) {
        // A batch is far below what a float holds exactly.
        #[allow(clippy::cast_precision_loss)]
        self.batch.observe(commands as f64);
        self.applied.inc_by(proposed as u64);
        if proposed > 0 {
            self.commit.observe(took.as_secs_f64());
        }
    }

    /// A command was refused by the rules.
    pub(crate) fn refused(&self) {
        self.refused.inc();
    }
}

/// Runs of probes, by what they came to.
#[derive(Clone, Debug, Default)]
pub struct CheckMetrics(Family<Labels, Counter>);

impl CheckMetrics {
    /// A probe was run.
    pub(crate) fn ran(&self, result: &str) {
        self.0.get_or_create(&vec![("result", result.to_owned())]).inc();
    }
}

/// What DNS counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct DnsMetrics {
    udp: Counter,
    tcp: Counter,
    again: Counter,
    forwarded: Counter,
    malformed: Counter,
    ignored: Counter,
    limited: Counter,
    crowded_out: Counter,
}

/// How packets were dealt with that came together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DnsCounts {
    packets: u64,
    /// By a reply that was at hand.
    pub(crate) again: u64,
    forwarded: u64,
    malformed: u64,
    ignored: u64,
    /// By less than a reply, or nothing, as there were too many.
    pub(crate) limited: u64,
}

impl DnsCounts {
    /// One more; with the reply, if there is one.
    pub(crate) fn add(&mut self, reaction: &Reaction, reply: &[u8]) {
        const FORMERR: u8 = 1;
        self.packets += 1;
        match reaction {
            Reaction::Reply => self.malformed += u64::from(reply.get(3).is_some_and(|flags| flags & 0x0f == FORMERR)),
            Reaction::Forward(_) => self.forwarded += 1,
            Reaction::Ignore => self.ignored += 1,
        }
    }
}

impl DnsMetrics {
    /// Packets came and were dealt with so.
    pub(crate) fn count(&self, by: Transport, counts: DnsCounts) {
        let packets = match by {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        };
        for (counter, count) in [
            (packets, counts.packets),
            (&self.again, counts.again),
            (&self.forwarded, counts.forwarded),
            (&self.malformed, counts.malformed),
            (&self.ignored, counts.ignored),
            (&self.limited, counts.limited),
        ] {
            if count > 0 {
                counter.inc_by(count);
            }
        }
    }

    /// Connections were closed so that others may be.
    pub(crate) fn crowded_out(&self, connections: usize) {
        self.crowded_out.inc_by(connections as u64);
    }
}

/// Requests by endpoint. A series begins with its first request.
#[derive(Debug)]
pub(crate) struct Requests {
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    waits: Family<Labels, Counter>,
    answers: Family<Labels, Counter>,
    crowded_out: Counter,
    endpoints: Vec<Endpoint>,
    classes: [OnceLock<Counter>; 5],
}

#[derive(Debug)]
struct Endpoint {
    labels: Labels,
    duration: OnceLock<Histogram>,
    waits: OnceLock<Counter>,
}

impl Requests {
    /// For endpoints with these methods and paths, in this order.
    fn new<'a>(endpoints: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let endpoint = |(method, path): (&str, &str)| Endpoint {
            // As Consul spells paths here.
            labels: vec![("method", method.to_owned()), ("path", path.trim_start_matches('/').replace('/', "_"))],
            duration: OnceLock::new(),
            waits: OnceLock::new(),
        };
        Self {
            durations: Family::new_with_constructor(|| Histogram::new(REQUEST_MILLIS)),
            waits: Family::default(),
            answers: Family::default(),
            crowded_out: Counter::default(),
            endpoints: endpoints.map(endpoint).collect(),
            classes: Default::default(),
        }
    }

    /// Connections were closed so that others may be.
    pub(crate) fn crowded_out(&self, connections: usize) {
        self.crowded_out.inc_by(connections as u64);
    }

    /// A request to the endpoint of that number was answered. Those that `waited` for a change are only counted.
    pub(crate) fn answered(&self, endpoint: Option<usize>, waited: bool, status: u16, started: Instant) {
        let class = usize::from(status / 100).clamp(1, 5);
        let count = || self.answers.get_or_create_owned(&vec![("code", format!("{class}xx"))]);
        self.classes[class - 1].get_or_init(count).inc();
        let Some(endpoint) = endpoint.and_then(|number| self.endpoints.get(number)) else { return };
        if waited {
            endpoint.waits.get_or_init(|| self.waits.get_or_create_owned(&endpoint.labels)).inc();
        } else {
            let duration = endpoint.duration.get_or_init(|| self.durations.get_or_create_owned(&endpoint.labels));
            duration.observe(started.elapsed().as_secs_f64() * 1000.0);
        }
    }
}

impl Metrics {
    /// Measures of `store` and of requests to `endpoints` (method and path of each).
    pub(crate) fn new<'a>(store: &Store, endpoints: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let requests = Requests::new(endpoints);
        let dotted = table::METRICS.iter().map(|metric| (underscored(metric.name), metric.name)).collect();
        let (dns, checks, snapshots) = <(DnsMetrics, CheckMetrics, SnapshotMetrics)>::default();
        let mut metrics = Self { registry: Registry::default(), dotted, requests, dns, checks, snapshots };
        let measured = store.metrics().clone();
        metrics.add("kvstore.store.batch", measured.batch);
        metrics.add("kvstore.store.commit_seconds", measured.commit);
        metrics.add("consul.raft.apply", measured.applied);
        metrics.add("kvstore.store.refused", measured.refused);
        metrics.add("kvstore.store.failed", measured.failed);
        let (durations, waits) = (metrics.requests.durations.clone(), metrics.requests.waits.clone());
        let answers = metrics.requests.answers.clone();
        metrics.add("consul.api.http", durations);
        metrics.add("kvstore.http.waits", waits);
        metrics.add("kvstore.http.answers", answers);
        let crowded_out = metrics.requests.crowded_out.clone();
        metrics.add("kvstore.http.crowded_out", crowded_out);
        metrics.add("kvstore.check.runs", metrics.checks.0.clone());
        let dns = metrics.dns.clone();
        metrics.add("kvstore.dns.questions_udp", dns.udp);
        metrics.add("kvstore.dns.questions_tcp", dns.tcp);
        metrics.add("kvstore.dns.again", dns.again);
        metrics.add("kvstore.dns.forwarded", dns.forwarded);
        metrics.add("kvstore.dns.malformed", dns.malformed);
        metrics.add("kvstore.dns.ignored", dns.ignored);
        metrics.add("kvstore.dns.limited", dns.limited);
        metrics.add("kvstore.dns.crowded_out", dns.crowded_out);
        let snapshots = metrics.snapshots.clone();
        metrics.add("kvstore.snapshots.taken", snapshots.taken);
        metrics.add("kvstore.snapshots.failed", snapshots.failed);
        metrics.add("kvstore.snapshots.newest", snapshots.newest);
        metrics.registry.register_collector(Box::new(live::Live::new(store.clone())));
        metrics
    }

    fn add(&mut self, name: &str, metric: impl registry::Metric) {
        self.registry.register(underscored(name), table::help(name), metric);
    }

    /// Everything, as `OpenMetrics` has it.
    pub(crate) fn open_metrics(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail, and the metrics here have no other reason to.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    /// Everything, in Prometheus' older text format, version 0.0.4.
    pub(crate) fn prometheus(&self) -> String {
        shown::prometheus(&self.open_metrics())
    }

    /// Everything, as Consul's JSON at the time `timestamp`.
    pub(crate) fn json(&self, timestamp: &str) -> serde_json::Value {
        shown::json(&self.open_metrics(), &self.dotted, timestamp)
    }
}

fn underscored(name: &str) -> String {
    name.replace('.', "_")
}
