//! Finds HAProxy and nginx among the processes of this machine, and reloads them by signal.
//!
//! Only looks at processes of our own pid namespace: what runs in a container is found through Docker, since there the
//! file has another name and the program another version.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::time::{Instant, sleep};

use super::{Kind, haproxy, nginx};

/// A reload has started new workers within this time, or it has failed.
pub(crate) const CONFIRM_WITHIN: Duration = Duration::from_secs(5);

/// An nginx configuration is followed through so many files; more is a loop of includes.
const MAX_INCLUDED: usize = 1000;

/// A master process that uses a file.
#[derive(Clone, Debug)]
pub struct Process {
    /// What it is.
    pub kind: Kind,
    /// Its process id.
    pub pid: i32,
    /// Its arguments.
    pub argv: Vec<String>,
    /// Its working directory.
    pub directory: PathBuf,
    /// Its program, for a check by the same version.
    pub program: String,
    /// Tells it from a later process with the same id.
    started: u64,
}

/// Why a process was not reloaded.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// Signalling it could end it; nothing was sent.
    #[error(
        "{kind} (pid {pid}) does not reload on {signal}: it runs without master-worker mode; start it with -W or -Ws"
    )]
    NotHandled {
        /// What it is.
        kind: Kind,
        /// Its process id.
        pid: i32,
        /// What would have been sent.
        signal: &'static str,
    },
    /// The process is gone or is not ours to signal.
    #[error("{kind} (pid {pid}) cannot be signalled")]
    Send {
        /// What it is.
        kind: Kind,
        /// Its process id.
        pid: i32,
        /// What the system says.
        #[source]
        source: nix::Error,
    },
    /// The signal was sent, and nothing came of it.
    #[error("{kind} (pid {pid}) started no new worker within {CONFIRM_WITHIN:?}; its log says why")]
    Unconfirmed {
        /// What it is.
        kind: Kind,
        /// Its process id.
        pid: i32,
    },
}

/// The masters of `kind` that use any of `files`.
pub fn find(kind: Kind, files: &[PathBuf]) -> Vec<Process> {
    let all = processes(kind);
    let pids: BTreeSet<i32> = all.iter().map(|(process, _)| process.pid).collect();
    all.into_iter()
        .filter(|(_, parent)| !pids.contains(parent)) // workers have the master's arguments too
        .map(|(process, _)| process)
        .filter(|process| files.iter().any(|file| process.uses(file)))
        .collect()
}

/// Every process of `kind` with its parent's id.
fn processes(kind: Kind) -> Vec<(Process, i32)> {
    let ours = fs::read_link("/proc/self/ns/pid").ok();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        if fs::read_to_string(dir.join("comm")).ok()?.trim_end() != kind.program() {
            return None;
        }
        let namespace = fs::read_link(dir.join("ns/pid")).ok();
        if namespace.is_some() && namespace != ours {
            return None;
        }
        let (parent, started) = parent_and_start(&dir)?;
        let argv = arguments(&dir)?;
        if kind == Kind::Nginx && !argv[0].starts_with("nginx: master process") {
            return None;
        }
        let program = fs::read_link(dir.join("exe")).ok();
        let program = program.map(|p| p.display().to_string()).filter(|p| !p.ends_with(" (deleted)"));
        let process = Process {
            kind,
            pid,
            argv,
            directory: fs::read_link(dir.join("cwd")).unwrap_or_else(|_| "/".into()),
            program: program.unwrap_or_else(|| kind.program().to_owned()),
            started,
        };
        Some((process, parent))
    })
    .collect()
}

fn arguments(dir: &Path) -> Option<Vec<String>> {
    let line = fs::read(dir.join("cmdline")).ok()?;
    let text = String::from_utf8_lossy(&line);
    let argv: Vec<String> = text.trim_end_matches('\0').split('\0').map(str::to_owned).collect();
    (!argv[0].is_empty()).then_some(argv)
}

/// Fields 4 and 22 of `stat`, which come after the name in parentheses.
fn parent_and_start(dir: &Path) -> Option<(i32, u64)> {
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

impl Process {
    fn uses(&self, file: &Path) -> bool {
        match self.kind {
            Kind::HaProxy => haproxy::configured(&self.argv, &self.directory)
                .iter()
                .any(|path| same_file(path, file) || file.parent().is_some_and(|dir| same_file(path, dir))),
            Kind::Nginx => {
                let main = nginx::started(&self.argv, &self.directory).main;
                same_file(&main, file) || includes_file(&main, file)
            }
        }
    }

    /// Tells it to load its files anew, and waits until it has.
    ///
    /// # Errors
    /// [`SignalError`].
    pub async fn reload(&self) -> Result<(), SignalError> {
        let (signal, name) = match self.kind {
            Kind::HaProxy => (Signal::SIGUSR2, "SIGUSR2"),
            Kind::Nginx => (Signal::SIGHUP, "SIGHUP"),
        };
        let (kind, pid) = (self.kind, self.pid);
        if !self.is_alive() {
            let source = nix::Error::ESRCH;
            return Err(SignalError::Send { kind, pid, source });
        }
        if !handles(pid, signal) {
            return Err(SignalError::NotHandled { kind, pid, signal: name });
        }
        // A master that starts anew lets go what it is told before it catches it.
        let until = Instant::now() + CONFIRM_WITHIN;
        while !in_masks(pid, signal, &["SigCgt:"]) && self.is_alive() && Instant::now() < until {
            sleep(Duration::from_millis(2)).await;
        }
        let before = self.children();
        kill(Pid::from_raw(pid), signal).map_err(|source| SignalError::Send { kind, pid, source })?;
        match before {
            Some(before) => self.confirm(&before).await,
            None => Ok(()), // this kernel does not tell
        }
    }

    async fn confirm(&self, before: &BTreeSet<i32>) -> Result<(), SignalError> {
        let until = Instant::now() + CONFIRM_WITHIN;
        loop {
            let now = self.children().unwrap_or_default();
            if now.difference(before).next().is_some() {
                return Ok(());
            }
            if Instant::now() >= until || !self.is_alive() {
                let (kind, pid) = (self.kind, self.pid);
                return Err(SignalError::Unconfirmed { kind, pid });
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn dir(&self) -> PathBuf {
        format!("/proc/{}", self.pid).into()
    }

    fn is_alive(&self) -> bool {
        parent_and_start(&self.dir()).is_some_and(|(_, started)| started == self.started)
    }

    fn children(&self) -> Option<BTreeSet<i32>> {
        let list = fs::read_to_string(self.dir().join(format!("task/{}/children", self.pid))).ok()?;
        Some(list.split_whitespace().filter_map(|p| p.parse().ok()).collect())
    }
}

/// Whether process `pid` catches `signal`, or blocks it as a master does that is about to catch it: an HAProxy without
/// master-worker mode would be ended by SIGUSR2.
pub(crate) fn handles(pid: i32, signal: Signal) -> bool {
    in_masks(pid, signal, &["SigCgt:", "SigBlk:"])
}

/// Whether `signal` is in any of these masks of process `pid`.
fn in_masks(pid: i32, signal: Signal, names: &[&str]) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return false;
    };
    let mask = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        u64::from_str_radix(line.trim(), 16).ok()
    };
    let bit = 1_u64 << (signal as i32 - 1);
    names.iter().filter_map(|n| mask(n)).any(|m| m & bit != 0)
}

/// Whether both paths lead to the same file or directory; a file that is not there yet is told by its directory.
pub(crate) fn same_file(a: &Path, b: &Path) -> bool {
    if a == b {
        return true;
    }
    let id = |p: &Path| fs::metadata(p).map(|m| (m.dev(), m.ino())).ok();
    match (id(a), id(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) if a.file_name() == b.file_name() => {
            let (a, b) = (a.parent().and_then(id), b.parent().and_then(id));
            a.is_some() && a == b
        }
        _ => false,
    }
}

/// Whether nginx's main file includes `file`, directly or not.
fn includes_file(main: &Path, file: &Path) -> bool {
    let directory = main.parent().unwrap_or(Path::new("/"));
    let real = file.parent().and_then(|p| p.canonicalize().ok()).map(|p| p.join(file.file_name().unwrap_or_default()));
    let is_it = |pattern: &Path| {
        let real_pattern = pattern.parent().and_then(|p| p.canonicalize().ok());
        let real_pattern = real_pattern.map(|p| p.join(pattern.file_name().unwrap_or_default()));
        nginx::matches(pattern, file)
            || matches!((&real_pattern, &real), (Some(pattern), Some(file)) if nginx::matches(pattern, file))
    };
    let mut read = BTreeSet::new();
    let mut queue = vec![main.to_owned()];
    while let Some(path) = queue.pop() {
        if read.len() >= MAX_INCLUDED || !read.insert(path.clone()) {
            continue;
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for pattern in nginx::includes(&text, directory) {
            if is_it(&pattern) {
                return true;
            }
            let folder = pattern.parent().unwrap_or(Path::new("/"));
            queue.extend(list(folder).into_iter().filter(|p| nginx::matches(&pattern, p)));
        }
    }
    false
}

/// The files in `directory`, sorted; none if it cannot be read.
pub(crate) fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|e| e.path()).collect();
    files.sort();
    files
}

/// Where `program` is, in the search path or where system programs are kept.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from);
    let places = std::env::split_paths(&path).chain(usual);
    places.map(|dir| dir.join(program)).find(|file| {
        let mode = fs::metadata(file).map(|m| if m.is_file() { m.mode() } else { 0 });
        mode.is_ok_and(|mode| mode & 0o111 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_by_any_way_to_it() {
        let dir = tempfile::tempdir().unwrap();
        let sub = dir.path().join("sub");
        fs::create_dir(&sub).unwrap();
        std::os::unix::fs::symlink(&sub, dir.path().join("link")).unwrap();
        let (a, b) = (sub.join("x"), dir.path().join("link/x"));
        assert!(same_file(&a, &b), "before it exists");
        fs::write(&a, "").unwrap();
        assert!(same_file(&a, &b));
        assert!(!same_file(&a, &sub.join("y")));
        assert!(!same_file(&sub.join("y"), &dir.path().join("y")));
    }

    #[test]
    fn includes_are_followed_through_files() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("nginx.conf"), "http {\n include more;\n}\n").unwrap();
        fs::write(at("more"), "include conf.d/*.conf;\ninclude more;\n").unwrap();
        assert!(includes_file(&at("nginx.conf"), &at("conf.d/web.conf")));
        assert!(!includes_file(&at("nginx.conf"), &at("conf.d/web.txt")));
    }

    /// HAProxy has a worker for the first one before it catches the signal for the second.
    #[tokio::test]
    async fn each_of_several_reloads_in_a_row_is_heard() {
        let Some(program) = which("haproxy") else { return println!("SKIPPED: there is no haproxy") };
        let dir = tempfile::tempdir().unwrap();
        let (file, socket) = (dir.path().join("haproxy.cfg"), dir.path().join("socket"));
        fs::write(&file, format!("listen web\n mode http\n bind unix@{}\n", socket.display())).unwrap();
        let mut command = std::process::Command::new(program);
        let mut child = command.arg("-W").arg("-f").arg(&file).spawn().unwrap();
        let began = Instant::now();
        let process = loop {
            assert!(began.elapsed() < CONFIRM_WITHIN * 4, "HAProxy has no worker");
            let found = find(Kind::HaProxy, std::slice::from_ref(&file)).pop();
            match found.filter(|process| process.children().is_some_and(|children| !children.is_empty())) {
                Some(process) => break process,
                None => sleep(Duration::from_millis(10)).await,
            }
        };
        for n in 1..=4 {
            process.reload().await.unwrap_or_else(|error| panic!("the {n}th: {error}"));
        }
        kill(Pid::from_raw(process.pid), Signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn our_own_process_has_a_parent_and_a_start() {
        let (parent, started) = parent_and_start(Path::new("/proc/self")).unwrap();
        assert!(parent >= 0 && started > 0);
        assert!(arguments(Path::new("/proc/self")).is_some());
    }
}
