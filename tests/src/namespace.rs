//! A network and a table of mounts of their own, held by a process that only waits.
//!
//! Nothing of it has a name in the system. The process ends with us, however we end; what was started in the namespace
//! does, too ([`Launch::inside`]); and the kernel takes down what nobody is in. So a run that was killed leaves nothing
//! that the next could stumble over.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::{Builder, Runtime};

use crate::program::{Launch, find};

/// See the module.
pub struct Namespace {
    keeper: Child,
}

impl Namespace {
    /// A new one, with nothing in it but its loopback device.
    ///
    /// # Panics
    /// If this is not root.
    pub fn new() -> Self {
        // `cat` ends when its input does: when the last that has our end of the pipe, which is us, is gone.
        let waits = ["--net", "--mount", "sh", "-c", "ip link set lo up && echo up && exec cat"];
        let mut command = Command::new("unshare");
        command.args(waits).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn().unwrap_or_else(|e| panic!("unshare cannot be run: {e}"));
        let mut said = String::new();
        let out = keeper.stdout.take().expect("it is a pipe");
        BufReader::new(out).read_line(&mut said).expect("a pipe can be read");
        assert_eq!(said, "up\n", "a network namespace can be made only by root");
        Self { keeper }
    }

    /// The process that holds it.
    pub fn pid(&self) -> u32 {
        self.keeper.id()
    }

    /// Its network, for `nsenter --net=`.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.pid()).into()
    }

    /// Runs `ip` in it with the words of `command`.
    ///
    /// # Panics
    /// If that fails.
    pub fn ip(&self, command: &str) {
        self.call("ip", command, "");
    }

    /// Runs a program of the system to its end in it, with the words of `arguments`; `input` is what it reads.
    ///
    /// # Panics
    /// If that fails.
    pub fn call(&self, program: &str, arguments: &str, input: &str) {
        self.try_call(program, arguments, input).unwrap_or_else(|e| panic!("{program} {arguments}: {e}\n{input}"));
    }

    /// The same, which may fail.
    ///
    /// # Errors
    /// What it said then.
    pub fn try_call(&self, program: &str, arguments: &str, input: &str) -> Result<(), String> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--target={}", self.pid())).args(["--net", "--mount"]).arg(find(program.as_ref()));
        command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        // One that does not read it says why.
        let _ = child.stdin.take().expect("it is a pipe").write_all(input.as_bytes());
        let output = child.wait_with_output().map_err(|e| e.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Threads whose connections begin and end in it.
    ///
    /// # Panics
    /// If there are no more threads to be had.
    pub fn threads(&self) -> Threads {
        let network = Arc::new(File::open(self.path()).expect("the keeper runs"));
        let enter = move || setns(&*network, CloneFlags::CLONE_NEWNET).expect("we are root");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().on_thread_start(enter).build();
        Threads { runtime: Some(runtime.expect("threads can be made")) }
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// Runs parts of a story where a namespace's programs run.
pub struct Threads {
    /// None once it is dropped.
    runtime: Option<Runtime>,
}

impl Threads {
    /// Runs `work` there to its end. What drops the answer's future does not end the work.
    pub async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        match self.runtime().spawn(work).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// The runtime itself.
    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the drop")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Launch {
    /// Runs it in that network and with those mounts; it ends at the latest with the thread that starts it.
    #[must_use]
    pub fn inside(self, namespace: &Namespace) -> Self {
        // Else it would begin at the root of what is mounted there.
        let dir = self.dir_or_ours();
        let target = format!("--target={}", namespace.pid());
        self.behind(&[
            "setpriv",
            "--pdeathsig",
            "KILL",
            "nsenter",
            &target,
            "--net",
            "--mount",
            &format!("--wdns={}", dir.display()),
        ])
    }
}
