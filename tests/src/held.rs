//! What a process holds.

use std::fs;

use nix::unistd::Pid;

/// Of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Resident memory.
    pub mib: f64,
    /// Open files.
    pub files: f64,
    /// Threads.
    pub threads: f64,
}

impl Held {
    /// Looks at a process.
    ///
    /// # Panics
    /// If it does not run.
    #[allow(clippy::cast_precision_loss)] // they are few
    pub fn by(pid: Pid) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let number = |name: &str| -> f64 {
            let rest = status.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
            rest.split_whitespace().next().and_then(|word| word.parse().ok()).expect("a number")
        };
        let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("it is ours").count();
        Self { mib: number("VmRSS:") / 1024.0, files: files as f64, threads: number("Threads:") }
    }
}
