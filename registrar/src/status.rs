//! How the registrar does, for those who watch over it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use kvstore_client::monitoring::{Metric, Monitored, family};

/// All that is counted.
pub const METRICS: &[Metric] = &[UP, CONTAINERS, INSTANCES, EVENTS, CALLS];
const UP: Metric = Metric::gauge("registrar_up", "side", "Whether Docker and the registry answer.");
const CONTAINERS: Metric = Metric::gauge("registrar_containers", "", "Containers that run on this host.");
const INSTANCES: Metric = Metric::gauge(
    "registrar_instances",
    "state",
    "Instances: wanted by containers, registered by anybody, and taken: wanted but held by others.",
);
const EVENTS: Metric = Metric::counter("registrar_events_total", "", "Events of Docker that were heard.");
const CALLS: Metric =
    Metric::counter("registrar_calls_total", "action, result", "Calls to the registry that change it.");

/// What is counted and known, written by those who know it.
#[derive(Debug, Default)]
#[allow(missing_docs)] // the names say it
pub struct Status {
    /// Docker answers, and its events are followed.
    pub docker: AtomicBool,
    /// The registry answers, and its changes are followed.
    pub registry: AtomicBool,
    /// Everything has been seen once on both sides.
    pub started: AtomicBool,
    pub events: AtomicU64,
    pub containers: AtomicUsize,
    /// Ids that containers want.
    pub wanted: AtomicUsize,
    /// Ids that the registry has, of any owner.
    pub registered: AtomicUsize,
    /// Ids that we want and others have.
    pub taken: AtomicUsize,
    calls: Mutex<BTreeMap<(&'static str, &'static str), u64>>,
}

impl Status {
    /// One more call to the registry.
    pub fn count_call(&self, action: &'static str, result: &'static str) {
        *self.calls.lock().unwrap_or_else(PoisonError::into_inner).entry((action, result)).or_default() += 1;
    }
}

impl Monitored for Status {
    fn troubles(&self) -> String {
        let all = [
            (&self.docker, "Docker does not answer; what is registered stays\n"),
            (&self.registry, "the registry does not answer; what changes meanwhile is told when it does\n"),
            (&self.started, "not everything has been seen yet\n"),
        ];
        all.into_iter().filter(|(good, _)| !good.load(Relaxed)).map(|(_, line)| line).collect()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let up = |good: &AtomicBool| u64::from(good.load(Relaxed));
        let sides = [("{side=\"docker\"}", up(&self.docker)), ("{side=\"registry\"}", up(&self.registry))];
        family(&mut text, &UP, sides);
        let count = |number: &AtomicUsize| number.load(Relaxed) as u64;
        family(&mut text, &CONTAINERS, [("", count(&self.containers))]);
        let instances = [
            ("{state=\"wanted\"}", count(&self.wanted)),
            ("{state=\"registered\"}", count(&self.registered)),
            ("{state=\"taken\"}", count(&self.taken)),
        ];
        family(&mut text, &INSTANCES, instances);
        family(&mut text, &EVENTS, [("", self.events.load(Relaxed))]);
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let calls = calls.iter().map(|((a, r), n)| (format!("{{action=\"{a}\",result=\"{r}\"}}"), *n));
        family(&mut text, &CALLS, calls);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told() {
        let status = Status::default();
        assert_eq!(status.troubles().lines().count(), 3);
        for good in [&status.docker, &status.started] {
            good.store(true, Relaxed);
        }
        assert!(status.troubles().starts_with("the registry does not answer"));
        status.registry.store(true, Relaxed);
        assert_eq!(status.troubles(), "");
    }

    #[test]
    fn metrics_are_prometheus() {
        let status = Status::default();
        status.docker.store(true, Relaxed);
        status.wanted.store(3, Relaxed);
        status.count_call("register", "done");
        status.count_call("register", "done");
        status.count_call("deregister", "refused");
        let text = status.metrics();
        for line in [
            "registrar_up{side=\"docker\"} 1",
            "registrar_up{side=\"registry\"} 0",
            "registrar_instances{state=\"wanted\"} 3",
            "registrar_calls_total{action=\"register\",result=\"done\"} 2",
            "registrar_calls_total{action=\"deregister\",result=\"refused\"} 1",
            "# TYPE registrar_events_total counter",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
