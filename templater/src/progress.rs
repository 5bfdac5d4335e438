//! How far each job is, for whoever waits for that (the program of `--exec`, and systemd) or watches over it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::watch;

/// How all jobs stand; whoever subscribes sees each change.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    standing: watch::Sender<Standing>,
    counts: Mutex<BTreeMap<String, Counts>>,
}

/// What the passes over a job came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How often each thing happened.
    pub(crate) passes: BTreeMap<&'static str, u64>,
    /// When its newest text was last found live.
    pub(crate) good: Option<SystemTime>,
}

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
        self.standing.subscribe()
    }

    /// `job` is to be done.
    pub(crate) fn begin(&self, job: &str) {
        self.standing.send_modify(|all| {
            all.jobs.entry(job.to_owned()).or_default();
        });
    }

    /// The newest text of `job` is live; `news` if that changed something and nobody was told of it.
    pub(crate) fn live(&self, job: &str, news: bool) {
        self.set(job, Job { live: true, trouble: None }, news);
    }

    /// Something keeps `job` from its newest text.
    pub(crate) fn troubled(&self, job: &str, why: &str) {
        let live = self.standing.borrow().jobs.get(job).is_some_and(|job| job.live);
        let first = why.lines().next().unwrap_or_default().to_owned();
        self.set(job, Job { live, trouble: Some(first) }, false);
    }

    fn set(&self, job: &str, now: Job, news: bool) {
        self.standing.send_if_modified(|all| {
            all.untold += u64::from(news);
            let before = all.jobs.insert(job.to_owned(), now.clone());
            news || before != Some(now)
        });
    }

    /// Counts a pass over `job`, by what it came to.
    pub(crate) fn count(&self, job: &str, result: &'static str, is_good: bool) {
        let mut counts = self.lock();
        let counts = counts.entry(job.to_owned()).or_default();
        *counts.passes.entry(result).or_default() += 1;
        if is_good {
            counts.good = Some(SystemTime::now());
        }
    }

    /// What was counted, by job.
    pub(crate) fn counts(&self) -> BTreeMap<String, Counts> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Counts>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody does `job` any more.
    pub(crate) fn end(&self, job: &str) {
        self.lock().remove(job);
        self.standing.send_modify(|all| drop(all.jobs.remove(job)));
    }
}

impl Standing {
    /// Whether every job has been live.
    pub(crate) fn is_complete(&self) -> bool {
        !self.jobs.is_empty() && self.jobs.values().all(|job| job.live)
    }

    /// How many jobs there are, how many have been live, and how many are in trouble.
    pub(crate) fn numbers(&self) -> [(&'static str, u64); 3] {
        let count = |which: fn(&Job) -> bool| self.jobs.values().filter(|job| which(job)).count() as u64;
        [("wanted", count(|_| true)), ("live", count(|job| job.live)), ("troubled", count(|job| job.trouble.is_some()))]
    }

    /// What keeps jobs from their newest texts, one line each.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let of = |(name, job): (&String, &Job)| match (&job.trouble, job.live) {
            (Some(why), _) => Some(format!("{name}: {why}")),
            (None, false) => Some(format!("{name}: not live yet")),
            (None, true) => None,
        };
        self.jobs.iter().filter_map(of).collect()
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
        let standing = || progress.standing.borrow().clone();
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
