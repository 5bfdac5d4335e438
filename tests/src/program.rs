//! One running program: its log is kept, and dropping it ends it with everything that it started.

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io,
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::{eventually, program_path};

/// How much of a log is shown when a story fails.
const SHOWN_LINES: usize = 60;
/// A program that was asked to end gets this long.
const GRACE: Duration = Duration::from_secs(10);

/// A `PATH` on which `program` succeeds and does nothing: it is made in `dir`, before all that there is.
///
/// # Panics
/// If it cannot be made.
pub fn path_with_idle(program: &str, dir: &Path) -> String {
    let idle = dir.join("idle");
    fs::create_dir_all(&idle).expect("a directory of the test");
    fs::write(idle.join(program), "#!/bin/sh\n").expect("a directory of the test");
    fs::set_permissions(idle.join(program), Permissions::from_mode(0o755)).expect("a file of the test");
    format!("{}:{}", idle.display(), std::env::var("PATH").unwrap_or_default())
}

/// A program about to be started.
pub struct Launch {
    name: String,
    command: Command,
}

impl Launch {
    /// One of this workspace's programs.
    pub fn ours(name: &str) -> Self {
        let mut launch = Self::new(program_path(name));
        // What the caller's shell says about registries and Docker must not reach a story.
        let said = |name: &str| name.starts_with("CONSUL_") || name.starts_with("DOCKER_") || name == "RUST_LOG";
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(said)) {
            launch.command.env_remove(name);
        }
        launch
    }

    /// Any program, found on the `PATH` or where Debian keeps those for root.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref();
        let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
        Self { name, command: Command::new(find(program)) }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the directory to run in.
    #[must_use]
    pub fn dir(mut self, dir: &Path) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// The directory that it will run in.
    pub(crate) fn dir_or_ours(&self) -> PathBuf {
        self.command.get_current_dir().map_or_else(|| std::env::current_dir().unwrap_or_default(), Path::to_owned)
    }

    /// Runs it as the last arguments of another command, which becomes it.
    #[must_use]
    pub(crate) fn behind(self, words: &[&str]) -> Self {
        let mut command = Command::new(find(words[0].as_ref()));
        command.args(&words[1..]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(dir) = self.command.get_current_dir() {
            command.current_dir(dir);
        }
        Self { name: self.name, command }
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(mut self) -> Program {
        let log = tempfile::Builder::new().prefix(&format!("flotilla-{}-", self.name)).suffix(".log").tempfile();
        let log = log.expect("a temporary file can be made").into_temp_path();
        // One open file for both streams, so that they share its position: HAProxy would undo an append mode.
        let out = fs::File::create(&log).expect("our own file opens");
        let err = out.try_clone().expect("a file can be opened twice");
        self.command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let child = self.command.spawn().unwrap_or_else(|e| panic!("{:?} cannot be started: {e}", self.command));
        Program { name: self.name, child, log }
    }
}

/// `program` itself, or where Debian keeps it for root, which may not be on the `PATH`.
pub(crate) fn find(program: &OsStr) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = dirs.map(|d| d.join(program)).find(|p| p.is_file());
    found.unwrap_or_else(|| program.into())
}

/// A program that was started.
pub struct Program {
    name: String,
    child: Child,
    log: tempfile::TempPath,
}

impl Program {
    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("the kernel's ids fit"))
    }

    /// All that it has printed so far, to both streams.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until `needle` has been printed.
    ///
    /// # Panics
    /// If that does not happen within `limit`, or the program ends before.
    pub async fn wait_for_log(&mut self, needle: &str, limit: Duration) {
        let what = format!("{} prints {needle:?}", self.name);
        eventually!(what, limit, async {
            let ended = self.child.try_wait().ok().flatten();
            match (self.log().contains(needle), ended) {
                (true, _) => Ok(()),
                (false, Some(status)) => panic!("{} ended with {status} before it printed {needle:?}", self.name),
                (false, None) => Err(tail(&self.log(), 3)),
            }
        });
    }

    /// Sends a signal to the program alone.
    ///
    /// # Panics
    /// If there is no such process any more.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap_or_else(|e| panic!("{} cannot get {signal}: {e}", self.name));
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        wait(&mut self.child, limit).unwrap_or_else(|| panic!("{} still runs after {limit:?}", self.name))
    }

    /// Asks it to end and waits for that.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(GRACE)
    }

    /// `kill -9`: it gets no chance to do anything.
    pub fn kill(&mut self) -> ExitStatus {
        // Fails only if it has ended already.
        let _ = self.child.kill();
        self.wait(GRACE)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("---- the end of {}'s log\n{}----", self.name, tail(&self.log(), SHOWN_LINES));
        }
        let running = self.is_running();
        if running {
            let _ = kill(self.pid(), Signal::SIGTERM);
            let _ = wait(&mut self.child, GRACE);
        }
        // What it left behind is in its process group; the group's number is not given anew while it has members.
        let _ = killpg(self.pid(), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let start = Instant::now();
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if start.elapsed() < limit => thread::sleep(Duration::from_millis(5)),
            Ok(None) => return None,
            // Nobody else waits for it; then it is gone.
            Err(_) => return Some(ExitStatus::from_raw(0)),
        }
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    let mut out = all[all.len().saturating_sub(lines)..].join("\n");
    out.push('\n');
    out
}

/// What a program that was run to its end left.
#[derive(Debug)]
pub struct Ran {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ran {
    /// Its output, if it succeeded.
    ///
    /// # Errors
    /// What it said, otherwise.
    pub fn ok(self) -> Result<String, String> {
        if self.status.success() { Ok(self.out) } else { Err(format!("{}: {}{}", self.status, self.out, self.err)) }
    }
}

impl Launch {
    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or does not end within `limit`; it is killed then.
    pub async fn run(self, limit: Duration) -> Ran {
        let mut command = tokio::process::Command::from(self.command);
        command.stdin(Stdio::null()).kill_on_drop(true);
        let result: Result<io::Result<_>, _> = tokio::time::timeout(limit, command.output()).await;
        let output = result.unwrap_or_else(|_| panic!("{} does not end within {limit:?}", self.name));
        let output = output.unwrap_or_else(|e| panic!("{} cannot be run: {e}", self.name));
        Ran {
            status: output.status,
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use tokio::runtime::Builder;

    fn run<T>(future: impl Future<Output = T>) -> T {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn dropping_ends_what_the_program_started_too() {
        let mut program = Launch::new("sh").args(["-c", "sleep 100 & echo child $!; wait"]).start();
        run(program.wait_for_log("child", Duration::from_secs(5)));
        let child = program.log().trim().rsplit(' ').next().unwrap().parse().unwrap();
        drop(program);
        run(async {
            eventually!("the child is gone", Duration::from_secs(5), async {
                // A killed orphan may stay as a zombie until somebody collects it.
                let state = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
                let gone = kill(Pid::from_raw(child), None) == Err(Errno::ESRCH) || state.contains(") Z ");
                if gone { Ok(()) } else { Err(state) }
            });
        });
    }

    #[test]
    fn both_streams_and_the_end_are_told() {
        let ran = run(Launch::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]).run(Duration::from_secs(5)));
        assert_eq!((ran.status.code(), ran.out.as_str(), ran.err.as_str()), (Some(3), "out\n", "err\n"));
        assert!(ran.ok().is_err_and(|e| e.contains("out") && e.contains("err")));
    }

    #[test]
    #[should_panic(expected = "ended with exit status: 1 before it printed")]
    fn a_program_that_ends_early_is_not_waited_for() {
        let mut program = Launch::new("false").start();
        run(program.wait_for_log("never", Duration::from_mins(1)));
    }
}
