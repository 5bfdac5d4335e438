//! Every metric there is: what it is called, and what it says.

use kvstore_client::{
    monitoring::{Metric, prose_labels},
    reference::{code, prose, table},
};

use super::underscored;

pub(super) const METRICS: &[Metric] = &[
    Metric::histogram(
        "consul.api.http",
        "method, path",
        "Time to answer a request, in milliseconds; without those that waited for a change",
    ),
    Metric::counter("kvstore.http.waits", "method, path", "Requests that waited for a change"),
    Metric::counter("kvstore.http.answers", "code", "Answers by class of status code"),
    Metric::counter("kvstore.http.crowded_out", "", "Connections over HTTP that were closed to make room for others"),
    Metric::gauge("consul.rpc.queries_blocking", "", "Requests and parts of the agent that wait for a change"),
    Metric::histogram("kvstore.store.batch", "", "Commands carried out together, made durable by one fsync"),
    Metric::histogram("kvstore.store.commit_seconds", "", "Time to make a batch durable"),
    Metric::counter("consul.raft.apply", "", "Commands that changed the registry"),
    Metric::counter("kvstore.store.refused", "", "Commands that were refused by the rules"),
    Metric::counter("kvstore.store.failed", "", "Commands that could not be made durable: the disk is full or fails"),
    Metric::gauge(
        "kvstore.silence_seconds",
        "",
        "For how long nothing was heard of what is written elsewhere: by the hub of a replica, or by others on the same etcd; 0 while it is",
    ),
    Metric::gauge("kvstore.index", "", "The index of the last change"),
    Metric::gauge("consul.state.nodes", "", "Hosts"),
    Metric::gauge("consul.state.services", "", "Services that have an instance"),
    Metric::gauge("consul.state.service_instances", "", "Instances"),
    Metric::gauge("consul.state.kv_entries", "", "Keys"),
    Metric::gauge("kvstore.service.passing", "service", "Passing instances of each service that has instances"),
    Metric::gauge("kvstore.checks", "status", "Checks by status"),
    Metric::counter(
        "kvstore.check.runs",
        "result",
        "Probes that were run here: passing, warning, critical, or not_tried for want of something on this host",
    ),
    Metric::counter("kvstore.dns.questions_udp", "", "Packets that came to DNS over UDP"),
    Metric::counter("kvstore.dns.questions_tcp", "", "Questions that came to DNS over TCP"),
    Metric::counter("kvstore.dns.again", "", "Questions answered by a reply that was at hand"),
    Metric::counter("kvstore.dns.forwarded", "", "Questions that others were asked for an answer"),
    Metric::counter("kvstore.dns.malformed", "", "Questions that cannot be read, and were told so"),
    Metric::counter("kvstore.dns.ignored", "", "Packets that got no reply"),
    Metric::counter("kvstore.dns.limited", "", "Questions beyond the response rate limit"),
    Metric::counter("kvstore.dns.crowded_out", "", "Connections to DNS that were closed to make room for others"),
    Metric::counter("kvstore.snapshots.taken", "", "Snapshots taken on schedule, and verified"),
    Metric::counter("kvstore.snapshots.failed", "", "Snapshots that could not be taken on schedule"),
    Metric::gauge(
        "kvstore.snapshots.newest",
        "",
        "When this process took its newest snapshot on schedule, in seconds since 1970; 0: not yet",
    ),
    Metric::gauge("consul.runtime.alloc_bytes", "", "Memory of its own that the process has"),
    Metric::gauge("consul.runtime.sys_bytes", "", "Memory that the process has, files mapped included"),
    Metric::gauge("consul.runtime.num_goroutines", "", "Tasks: connections, probes, timers"),
    Metric::gauge("consul.server.isLeader", "", "Always 1: nobody has to be elected"),
    Metric::gauge("consul.autopilot.healthy", "", "Always 1: there is no quorum to lose"),
    Metric::gauge("kvstore.uptime_seconds", "", "Since the agent started"),
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
