//! How the templater does, for those who watch over it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::UNIX_EPOCH,
};

use kvstore_client::monitoring::{Metric, Monitored, family};

use crate::{progress::Progress, target::reloads::Reloads, watch::Watches};

/// All that is counted.
pub(crate) const METRICS: &[Metric] = &[REGISTRY_UP, TEXTS, PASSES, RELOADS, LAST_GOOD];
const REGISTRY_UP: Metric = Metric::gauge("templater_registry_up", "", "Whether the registry answers.");
const TEXTS: Metric = Metric::gauge(
    "templater_texts",
    "state",
    "Texts, those of one job as one: wanted, live at least once, troubled: kept from their newest version.",
);
const PASSES: Metric = Metric::counter(
    "templater_passes_total",
    "file, result",
    "Passes over the templates of a job, by what they came to.",
);
const RELOADS: Metric =
    Metric::counter("templater_reloads_total", "result", "Reloads of proxies and reload commands, done or failed.");
const LAST_GOOD: Metric = Metric::gauge(
    "templater_last_good_timestamp_seconds",
    "file",
    "When the newest text was last found live, in seconds since 1970.",
);

/// What is known of the registry and of all jobs.
#[derive(Default)]
pub(crate) struct Status {
    pub(crate) progress: Arc<Progress>,
    /// Those in use now.
    parts: Mutex<Option<(Watches, Arc<Reloads>)>>,
}

impl Status {
    /// From now on the registry is asked by `watches`, and `reloads` are made.
    pub(crate) fn works_by(&self, watches: &Watches, reloads: &Arc<Reloads>) {
        *self.parts.lock().unwrap_or_else(PoisonError::into_inner) = Some((watches.clone(), reloads.clone()));
    }

    /// Why the registry does not answer, if it does not.
    fn registry_trouble(&self) -> Option<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.as_ref().and_then(|(watches, _)| watches.trouble())
    }

    fn reloads(&self) -> [(&'static str, u64); 2] {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts.as_ref().map_or([("done", 0), ("failed", 0)], |(_, reloads)| reloads.counts())
    }
}

impl Monitored for Status {
    fn troubles(&self) -> String {
        let standing = self.progress.subscribe().borrow().clone();
        let registry = self.registry_trouble().map(|why| format!("the registry does not answer: {why}"));
        let lines = registry.into_iter().chain(standing.troubles());
        lines.map(|line| line.lines().next().unwrap_or_default().to_owned() + "\n").collect()
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        let up = [("", u64::from(self.registry_trouble().is_none()))];
        family(&mut text, &REGISTRY_UP, up);
        let numbers = self.progress.subscribe().borrow().numbers();
        let numbers = numbers.map(|(state, count)| (format!("{{state=\"{state}\"}}"), count));
        family(&mut text, &TEXTS, numbers);
        let counts = self.progress.counts();
        let passes = counts.iter().flat_map(|(job, counts)| {
            let file = escaped(job);
            counts
                .passes
                .iter()
                .map(move |(result, count)| (format!("{{file=\"{file}\",result=\"{result}\"}}"), *count))
        });
        family(&mut text, &PASSES, passes);
        let reloads = self.reloads().map(|(result, count)| (format!("{{result=\"{result}\"}}"), count));
        family(&mut text, &RELOADS, reloads);
        let good = counts.iter().filter_map(|(job, counts)| {
            let since = counts.good?.duration_since(UNIX_EPOCH).ok()?.as_secs();
            Some((format!("{{file=\"{}\"}}", escaped(job)), since))
        });
        family(&mut text, &LAST_GOOD, good);
        text
    }
}

/// As the value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_and_counts_are_told() {
        let status = Status::default();
        let progress = &status.progress;
        progress.begin("/a");
        progress.begin("/b\"c");
        assert_eq!(status.troubles(), "/a: not live yet\n/b\"c: not live yet\n");
        progress.live("/a", true);
        progress.count("/a", "written", true);
        progress.count("/a", "same", true);
        progress.troubled("/b\"c", "refused\nline 7");
        progress.count("/b\"c", "failed", false);
        assert_eq!(status.troubles(), "/b\"c: refused\n");
        let metrics = status.metrics();
        for line in [
            "templater_registry_up 1",
            "templater_reloads_total{result=\"failed\"} 0",
            "templater_texts{state=\"wanted\"} 2",
            "templater_texts{state=\"live\"} 1",
            "templater_texts{state=\"troubled\"} 1",
            "templater_passes_total{file=\"/a\",result=\"written\"} 1",
            "templater_passes_total{file=\"/b\\\"c\",result=\"failed\"} 1",
            "# TYPE templater_last_good_timestamp_seconds gauge",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line} is missing in\n{metrics}");
        }
        assert_eq!(metrics.matches("templater_last_good_timestamp_seconds{").count(), 1);
        progress.live("/b\"c", false);
        assert_eq!(status.troubles(), "");
        progress.end("/a");
        assert!(!status.metrics().contains("/a"));
    }
}
