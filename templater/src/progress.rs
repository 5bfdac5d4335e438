//! How far each job is, for whoever waits for that: the program of `--exec`, and systemd.

use std::{collections::BTreeMap, fmt};

use tokio::sync::watch;

/// How all jobs stand; whoever subscribes sees each change.
#[derive(Debug, Default)]
pub(crate) struct Progress(watch::Sender<Standing>);

/// How all jobs stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    jobs: BTreeMap<String, Job>,
    /// Texts that went live without anybody having been told.
    pub(crate) untold: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Job {
    /// Its text has been live, and loaded, at least once.
    live: bool,
    /// What keeps it from the newest text.
    trouble: Option<String>,
}

impl Progress {
    /// Sees how things stand now, and each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Standing> {
        self.0.subscribe()
    }

    /// `job` is to be done.
    pub(crate) fn begin(&self, job: &str) {
        self.0.send_modify(|all| {
            all.jobs.entry(job.to_owned()).or_default();
        });
    }

    /// The newest text of `job` is live; `news` if that changed something and nobody was told of it.
    pub(crate) fn live(&self, job: &str, news: bool) {
        self.set(job, Job { live: true, trouble: None }, news);
    }

    /// Something keeps `job` from its newest text.
    pub(crate) fn troubled(&self, job: &str, why: &str) {
        let live = self.0.borrow().jobs.get(job).is_some_and(|job| job.live);
        let first = why.lines().next().unwrap_or_default().to_owned();
        self.set(job, Job { live, trouble: Some(first) }, false);
    }

    fn set(&self, job: &str, now: Job, news: bool) {
        self.0.send_if_modified(|all| {
            all.untold += u64::from(news);
            let before = all.jobs.insert(job.to_owned(), now.clone());
            news || before != Some(now)
        });
    }

    /// Nobody does `job` any more.
    pub(crate) fn end(&self, job: &str) {
        self.0.send_modify(|all| drop(all.jobs.remove(job)));
    }
}

impl Standing {
    /// Whether every job has been live.
    pub(crate) fn is_complete(&self) -> bool {
        !self.jobs.is_empty() && self.jobs.values().all(|job| job.live)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.jobs.values().filter(|job| job.live).count();
        write!(f, "{live} of {} live", self.jobs.len())?;
        let trouble = self.jobs.iter().find_map(|(name, job)| Some((name, job.trouble.as_ref()?)));
        trouble.map_or(Ok(()), |(name, why)| write!(f, "; {name}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_must_have_been_live_once_and_trouble_is_told() {
        let progress = Progress::default();
        let standing = || progress.0.borrow().clone();
        assert!(!standing().is_complete(), "no job is not all jobs");
        progress.begin("/a");
        progress.begin("/b");
        progress.live("/a", true);
        progress.troubled("/b", "key x is absent\nand more");
        assert_eq!((standing().is_complete(), standing().untold), (false, 1));
        assert_eq!(standing().to_string(), "1 of 2 live; /b: key x is absent");
        progress.live("/b", false);
        progress.troubled("/a", "refused");
        assert!(standing().is_complete());
        progress.end("/a");
        assert_eq!(standing().to_string(), "1 of 1 live");
    }

    #[test]
    fn only_what_changes_wakes() {
        let progress = Progress::default();
        progress.live("/a", false);
        let mut seen = progress.subscribe();
        progress.live("/a", false);
        assert!(!seen.has_changed().unwrap());
        progress.live("/a", true);
        assert!(seen.has_changed().unwrap());
        seen.mark_unchanged();
        progress.troubled("/a", "x");
        assert!(seen.has_changed().unwrap());
    }
}
