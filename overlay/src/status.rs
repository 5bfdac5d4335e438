//! How the overlay does, for those who watch over it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use kvstore_client::monitoring::{Metric, Monitored, family};

use crate::device::Dropped;

/// All that is counted.
pub const METRICS: &[Metric] = &[UP, REGISTRY, PEERS, NETWORKS, BLOCKS, DOUBLE_CLAIMS, YIELDED, DOUBTS, DROPPED];
const UP: Metric = Metric::gauge("overlay_up", "", "Whether the tunnel is up, with its rules and routes.");
const REGISTRY: Metric = Metric::gauge("overlay_registry_up", "", "Whether the registry answers.");
const PEERS: Metric = Metric::gauge(
    "overlay_peers",
    "path",
    "Other members: reached direct, relayed through another one, or not reached (none).",
);
const NETWORKS: Metric = Metric::gauge("overlay_networks", "", "Networks of this host.");
const BLOCKS: Metric = Metric::gauge("overlay_blocks", "", "Blocks that this host gives addresses from.");
const DOUBLE_CLAIMS: Metric =
    Metric::gauge("overlay_double_claims", "", "Blocks that two hosts say to hold; the later one is about to let go.");
const YIELDED: Metric = Metric::counter(
    "overlay_yielded_blocks_total",
    "",
    "Blocks that this host gave up, since another one had them before.",
);
const DOUBTS: Metric = Metric::counter(
    "overlay_doubted_records_total",
    "kind",
    "Times that a record in the registry was not believed: forged, malformed, old, backdated, evicted, epoch.",
);
const DROPPED: Metric = Metric::counter(
    "overlay_dropped_packets_total",
    "kind",
    "Packets that the tunnel dropped: malformed, replayed, spoofed, unroutable.",
);

/// What is counted and known, written by those who know it.
#[derive(Debug, Default)]
#[allow(missing_docs)] // the names say it
pub struct Status {
    pub up: AtomicBool,
    pub registry: AtomicBool,
    pub evicted: AtomicBool,
    pub direct: AtomicUsize,
    pub relayed: AtomicUsize,
    pub unreached: AtomicUsize,
    pub networks: AtomicUsize,
    pub blocks: AtomicUsize,
    pub double_claims: AtomicUsize,
    pub yielded: AtomicU64,
    doubts: Mutex<BTreeMap<&'static str, u64>>,
    troubles: Mutex<String>,
    dropped: Mutex<Dropped>,
}

impl Status {
    /// One more record that is not believed.
    pub fn count_doubt(&self, kind: &'static str) {
        *self.doubts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    /// What is wrong with the tunnel.
    pub fn set_troubles(&self, text: String) {
        *self.troubles.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// What the tunnel has dropped.
    pub fn set_dropped(&self, dropped: Dropped) {
        *self.dropped.lock().unwrap_or_else(PoisonError::into_inner) = dropped;
    }
}

impl Monitored for Status {
    fn troubles(&self) -> String {
        let mut all = String::new();
        if self.evicted.load(Relaxed) {
            return "this host was evicted from the mesh\n".into();
        }
        if !self.up.load(Relaxed) {
            let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            all = if troubles.is_empty() { "the tunnel is not up\n".into() } else { format!("{troubles}\n") };
        }
        if !self.registry.load(Relaxed) {
            all += "the registry does not answer; all goes on as it is\n";
        }
        all
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let flag = |flag: &AtomicBool| u64::from(flag.load(Relaxed));
        let count = |number: &AtomicUsize| number.load(Relaxed) as u64;
        family(&mut text, &UP, [("", flag(&self.up))]);
        family(&mut text, &REGISTRY, [("", flag(&self.registry))]);
        let peers = [
            ("{path=\"direct\"}", count(&self.direct)),
            ("{path=\"relayed\"}", count(&self.relayed)),
            ("{path=\"none\"}", count(&self.unreached)),
        ];
        family(&mut text, &PEERS, peers);
        family(&mut text, &NETWORKS, [("", count(&self.networks))]);
        family(&mut text, &BLOCKS, [("", count(&self.blocks))]);
        family(&mut text, &DOUBLE_CLAIMS, [("", count(&self.double_claims))]);
        family(&mut text, &YIELDED, [("", self.yielded.load(Relaxed))]);
        let doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        family(&mut text, &DOUBTS, doubts.iter().map(|(kind, n)| (format!("{{kind=\"{kind}\"}}"), *n)));
        let dropped = *self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = [
            ("{kind=\"malformed\"}", dropped.malformed),
            ("{kind=\"replayed\"}", dropped.replayed),
            ("{kind=\"spoofed\"}", dropped.spoofed),
            ("{kind=\"unroutable\"}", dropped.unroutable),
        ];
        family(&mut text, &DROPPED, dropped);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_and_what_is_counted_is_told() {
        let status = Status::default();
        assert_eq!(status.troubles().lines().count(), 2);
        status.set_troubles("no /dev/net/tun".into());
        assert!(status.troubles().starts_with("no /dev/net/tun\n"));
        status.up.store(true, Relaxed);
        status.registry.store(true, Relaxed);
        assert_eq!(status.troubles(), "");
        status.direct.store(3, Relaxed);
        status.count_doubt("forged");
        let text = status.metrics();
        for line in
            ["overlay_up 1", "overlay_peers{path=\"direct\"} 3", "overlay_doubted_records_total{kind=\"forged\"} 1"]
        {
            assert!(text.lines().any(|l| l == line), "{line} is missing in\n{text}");
        }
    }
}
