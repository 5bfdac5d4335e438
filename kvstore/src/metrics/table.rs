//! Every metric there is: what it is called, and what it says.

use kvstore_client::{
    monitoring::{Metric, prose_labels},
    reference::{code, prose, table},
};

use super::underscored;

const fn gauge(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "gauge", labels, help }
}

const fn counter(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "counter", labels, help }
}

const fn histogram(name: &'static str, labels: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: "histogram", labels, help }
}

pub(super) const METRICS: &[Metric] = &[
    histogram(
        "consul.api.http",
        "method, path",
        "Time to answer a request, in milliseconds; without those that waited for a change",
    ),
    counter("kvstore.http.waits", "method, path", "Requests that waited for a change"),
    counter("kvstore.http.answers", "code", "Answers by class of status code"),
    counter("kvstore.http.crowded_out", "", "Connections over HTTP that were closed to make room for others"),
    gauge("consul.rpc.queries_blocking", "", "Requests and parts of the agent that wait for a change"),
    histogram("kvstore.store.batch", "", "Commands carried out together, made durable by one fsync"),
    histogram("kvstore.store.commit_seconds", "", "Time to make a batch durable"),
    counter("consul.raft.apply", "", "Commands that changed the registry"),
    counter("kvstore.store.refused", "", "Commands that were refused by the rules"),
    counter("kvstore.store.failed", "", "Commands that could not be made durable: the disk is full or fails"),
    gauge("kvstore.index", "", "The index of the last change"),
    gauge("consul.state.nodes", "", "Hosts"),
    gauge("consul.state.services", "", "Services that have an instance"),
    gauge("consul.state.service_instances", "", "Instances"),
    gauge("consul.state.kv_entries", "", "Keys"),
    gauge("kvstore.service.passing", "service", "Passing instances of each service that has instances"),
    gauge("kvstore.checks", "status", "Checks by status"),
    counter(
        "kvstore.check.runs",
        "result",
        "Probes that were run here: passing, warning, critical, or not_tried for want of something on this host",
    ),
    counter("kvstore.dns.questions_udp", "", "Packets that came to DNS over UDP"),
    counter("kvstore.dns.questions_tcp", "", "Questions that came to DNS over TCP"),
    counter("kvstore.dns.again", "", "Questions answered by a reply that was at hand"),
    counter("kvstore.dns.forwarded", "", "Questions that others were asked for an answer"),
    counter("kvstore.dns.malformed", "", "Questions that cannot be read, and were told so"),
    counter("kvstore.dns.ignored", "", "Packets that got no reply"),
    counter("kvstore.dns.limited", "", "Questions beyond the response rate limit"),
    counter("kvstore.dns.crowded_out", "", "Connections to DNS that were closed to make room for others"),
    counter("kvstore.snapshots.taken", "", "Snapshots taken on schedule, and verified"),
    counter("kvstore.snapshots.failed", "", "Snapshots that could not be taken on schedule"),
    gauge(
        "kvstore.snapshots.newest",
        "",
        "When this process took its newest snapshot on schedule, in seconds since 1970; 0: not yet",
    ),
    gauge("consul.runtime.alloc_bytes", "", "Memory of its own that the process has"),
    gauge("consul.runtime.sys_bytes", "", "Memory that the process has, files mapped included"),
    gauge("consul.runtime.num_goroutines", "", "Tasks: connections, probes, timers"),
    gauge("consul.server.isLeader", "", "Always 1: nobody has to be elected"),
    gauge("consul.autopilot.healthy", "", "Always 1: there is no quorum to lose"),
    gauge("kvstore.uptime_seconds", "", "Since the agent started"),
];

/// What the metric of that name says.
pub(super) fn help(name: &str) -> &'static str {
    METRICS.iter().find(|metric| metric.name == name).expect("whatever is counted stands in the table").help
}

/// The table for readers.
pub(crate) fn page() -> String {
    let row = |metric: &Metric| {
        let prometheus = underscored(metric.name) + if metric.kind == "counter" { "_total" } else { "" };
        let labels = prose_labels(metric.labels);
        [code(&prometheus), code(metric.name), metric.kind.to_owned(), labels, prose(metric.help)]
    };
    table(["for Prometheus", "in JSON", "kind", "labels", "meaning"], METRICS.iter().map(row))
}
