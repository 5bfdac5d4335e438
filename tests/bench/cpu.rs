//! What of the processor others use, and which of its cores they may use.

use std::time::Duration;

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::{Pid, SysconfVar, sysconf},
};

/// What a process has used so far, in its own code and in the kernel's.
pub(crate) fn of(pid: Pid) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name before that may hold anything. utime and stime are the 14th and 15th of all fields.
    let after_name = stat.rsplit_once(')').expect("the name is in parentheses").1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
    let a_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|ticks| u64::try_from(ticks).ok());
    Duration::from_millis(ticks.sum::<u64>() * 1000 / a_second.expect("the kernel tells it"))
}

/// As long as it lives, what this thread starts has one core, the same for all.
pub(crate) struct OneCore {
    before: CpuSet,
}

/// The calling thread, in calls that take a process.
const ME: Pid = Pid::from_raw(0);

impl OneCore {
    pub(crate) fn begin() -> Self {
        let before = sched_getaffinity(ME).expect("the kernel tells it");
        let first = (0..CpuSet::count()).find(|core| before.is_set(*core) == Ok(true)).expect("we run on one");
        let mut only = CpuSet::new();
        only.set(first).expect("it was in a set");
        sched_setaffinity(ME, &only).expect("it is one of ours");
        Self { before }
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        sched_setaffinity(ME, &self.before).expect("they were ours before");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_started_has_one_core_and_then_all_again() {
        let cores = || std::thread::available_parallelism().unwrap().get();
        let before = cores();
        let one = OneCore::begin();
        assert_eq!(cores(), 1);
        drop(one);
        assert_eq!(cores(), before);
    }
}
