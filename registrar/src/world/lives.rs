//! When a container is old enough to take work, and what becomes of its entries once its process has ended. Pure.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::container::Container;

/// Unless told otherwise, an entry of a container that failed is kept for so long.
pub const DEFAULT_REAP: Duration = Duration::from_hours(72);
/// A shell's and Docker's way to tell that a process was ended by a signal.
const BY_SIGNAL: i64 = 128;

/// How this host treats the beginnings and ends of containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lives {
    /// A process must have run for so long before it takes work.
    pub min_uptime: Duration,
    /// Which entries go when a process has ended.
    pub deregister: Deregister,
    /// How long those that stay do so.
    pub reap: Duration,
}

impl Default for Lives {
    fn default() -> Self {
        Self { min_uptime: Duration::ZERO, deregister: Deregister::Always, reap: DEFAULT_REAP }
    }
}

/// At which ends of a process its entries are removed; otherwise they stay, critical.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Deregister {
    /// At every one.
    #[default]
    Always,
    /// When it ended well, or was told to.
    OnSuccess,
    /// At none.
    Never,
}

/// One moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By ours.
    pub at: Instant,
    /// By Docker's, in nanoseconds since 1970; 0 if unknown.
    pub docker: i64,
}

impl Moment {
    /// How long ago `time`, by Docker's clock, was. What is ahead of us has just been.
    fn since(self, time: i64) -> Duration {
        Duration::from_nanos(u64::try_from(self.docker.saturating_sub(time)).unwrap_or(0))
    }
}

impl Lives {
    /// Until when `container` is too young to take work; `None` if it is old enough.
    pub fn young_until(&self, container: &Container, now: Moment) -> Option<Instant> {
        let left = self.min_uptime.saturating_sub(now.since(container.started));
        (!left.is_zero()).then(|| now.at + left)
    }

    /// Until when the entries of `container`, whose process has ended, are kept; `None` if they go at once.
    pub fn kept_until(&self, container: &Container, now: Moment) -> Option<Instant> {
        let left = self.reap.saturating_sub(now.since(container.finished));
        let keep = match self.deregister {
            Deregister::Always => false,
            Deregister::OnSuccess => !ended_well(container),
            Deregister::Never => true,
        };
        (keep && !left.is_zero()).then(|| now.at + left)
    }
}

/// By itself without a fault, or because somebody asked it to. The kernel's KILL for want of memory is a fault, and so
/// is any signal that a process brings upon itself.
fn ended_well(container: &Container) -> bool {
    let asked = [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGKILL].map(|signal| signal as i32);
    let signal = i32::try_from(container.exit_code - BY_SIGNAL).unwrap_or_default();
    container.exit_code == 0 || !container.out_of_memory && (asked.contains(&signal) || container.stop_signal == signal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests::container;
    use serde_json::json;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn registrator_took_a_crash_for_a_success() {
        for (code, oom, stop_signal, well) in [
            (0, false, "SIGTERM", true),
            (1, false, "SIGTERM", false),
            (143, false, "SIGTERM", true),
            (137, false, "SIGTERM", true),
            (137, true, "SIGTERM", false),
            (139, false, "SIGTERM", false),
            (134, false, "SIGTERM", false),
            (138, false, "SIGUSR1", true),
            (138, false, "SIGTERM", false),
            (-1, false, "SIGTERM", false),
        ] {
            let state = json!({"State": {"ExitCode": code, "OOMKilled": oom}, "Config": {"StopSignal": stop_signal}});
            assert_eq!(ended_well(&container(&state)), well, "{code} {oom} {stop_signal}");
        }
    }

    #[test]
    fn ages_by_dockers_clock() {
        let container = container(&json!({"State": {"FinishedAt": "2025-11-21T10:00:11Z", "ExitCode": 1}}));
        let after = |seconds: i64| Moment { at: Instant::now(), docker: container.started + seconds * SECOND };
        let lives = Lives {
            min_uptime: Duration::from_secs(5),
            deregister: Deregister::OnSuccess,
            reap: Duration::from_mins(1),
        };
        for (seconds, left) in [(0, Some(5)), (3, Some(2)), (5, None), (500, None), (-9000, Some(5))] {
            let now = after(seconds);
            let until = lives.young_until(&container, now).map(|until| (until - now.at).as_secs());
            assert_eq!(until, left, "{seconds}");
        }
        for (seconds, kept) in [(10, true), (60, true), (71, false)] {
            assert_eq!(lives.kept_until(&container, after(seconds)).is_some(), kept, "{seconds}");
        }
        assert_eq!(Lives::default().young_until(&container, after(0)), None);
        assert_eq!(Lives::default().kept_until(&container, after(0)), None);
    }
}
