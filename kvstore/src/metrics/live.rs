//! What is read when somebody asks: sizes of the state, who waits, the process itself.

use std::{fmt, fs, time::Instant};

use kvstore_core::{State, health::Status};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::gauge::ConstGauge,
};

use super::{table, underscored};
use crate::store::Store;

/// Reads the store and the process.
#[derive(Debug)]
pub(super) struct Live {
    store: Store,
    started: Instant,
}

impl Live {
    pub(super) fn new(store: Store) -> Self {
        Self { store, started: Instant::now() }
    }
}

/// One gauge, or one series of it.
struct Gauges<'a>(DescriptorEncoder<'a>);

impl Gauges<'_> {
    /// Counts here are far below what a float holds exactly.
    #[allow(clippy::cast_precision_loss)]
    fn put(&mut self, name: &str, value: u64) -> fmt::Result {
        self.put_float(name, value as f64)
    }

    fn put_float(&mut self, name: &str, value: f64) -> fmt::Result {
        let (gauge, shown) = (ConstGauge::new(value), underscored(name));
        let encoder = self.0.encode_descriptor(&shown, table::help(name), None, gauge.metric_type())?;
        gauge.encode(encoder)
    }

    fn put_each(&mut self, name: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let (kind, shown) = (ConstGauge::new(0_u64).metric_type(), underscored(name));
        let mut encoder = self.0.encode_descriptor(&shown, table::help(name), None, kind)?;
        for (value, count) in values {
            ConstGauge::new(*count).encode(encoder.encode_family(&[(label, *value)])?)?;
        }
        Ok(())
    }
}

impl Collector for Live {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauges = Gauges(encoder);
        let memory = Memory::of_this_process();
        gauges.put("consul.runtime.alloc_bytes", memory.own_bytes)?;
        gauges.put("consul.runtime.sys_bytes", memory.bytes)?;
        let tasks = tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        gauges.put("consul.runtime.num_goroutines", tasks as u64)?;
        gauges.put("consul.server.isLeader", 1)?;
        gauges.put("consul.autopilot.healthy", 1)?;
        of_state(&mut gauges, &self.store.state())?;
        let silence = self.store.silence().unwrap_or_default();
        gauges.put_float("kvstore.silence_seconds", silence.as_secs_f64())?;
        gauges.put("consul.rpc.queries_blocking", self.store.waiting() as u64)?;
        gauges.put_float("kvstore.uptime_seconds", self.started.elapsed().as_secs_f64())
    }
}

fn of_state(gauges: &mut Gauges<'_>, state: &State) -> fmt::Result {
    let sizes = state.sizes();
    gauges.put("consul.state.nodes", sizes.nodes as u64)?;
    gauges.put("consul.state.services", sizes.services as u64)?;
    gauges.put("consul.state.service_instances", sizes.instances as u64)?;
    gauges.put("consul.state.kv_entries", sizes.keys as u64)?;
    gauges.put("kvstore.index", state.index().0)?;
    let mut by_status = [("passing", 0), ("warning", 0), ("critical", 0)];
    for check in state.checks() {
        by_status[check.status as usize].1 += 1;
    }
    gauges.put_each("kvstore.checks", "status", &by_status)?;
    let passing = state.services().map(|service| {
        let passing = state.instances_of(service).filter(|instance| instance.status() == Status::Passing);
        (service.as_str(), passing.count() as u64)
    });
    gauges.put_each("kvstore.service.passing", "service", &passing.collect::<Vec<_>>())
}

/// The process' memory, as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Memory {
    bytes: u64,
    own_bytes: u64,
}

impl Memory {
    fn of_this_process() -> Self {
        Self::parse(&fs::read_to_string("/proc/self/status").unwrap_or_default())
    }

    fn parse(status: &str) -> Self {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
        };
        Self { bytes: field("VmRSS:").unwrap_or(0), own_bytes: field("RssAnon:").unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tkvstore\nVmRSS:\t    9104 kB\nRssAnon:\t    2048 kB\n";
        assert_eq!(Memory::parse(status), Memory { bytes: 9104 << 10, own_bytes: 2048 << 10 });
        assert_eq!(Memory::parse("VmRSS:\n"), Memory::default());
        assert!(Memory::of_this_process().own_bytes > 0);
    }
}
