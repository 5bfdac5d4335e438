//! A Debian of our own with systemd as its first process (`tests/debian.sh`), which packages are installed into.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    eventually,
    needs::Need,
    program::{Launch, Program, Ran},
    target, workspace,
};

/// For its start. The first one on a machine has to be fetched.
const START_LIMIT: Duration = Duration::from_mins(3);
/// For one command in it.
const LIMIT: Duration = Duration::from_mins(1);

/// It runs until it is dropped, and keeps nothing.
pub struct Debian {
    pid: String,
    _program: Program,
    _dir: TempDir,
}

impl Debian {
    /// What it takes to run it.
    pub const NEEDS: [Need; 4] =
        [Need::Root, Need::Program("debootstrap"), Need::Program("nsenter"), Need::Program("ip")];

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be fetched or does not start.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let script = Launch::new(workspace().join("tests/debian.sh"));
        let mut program = script.args([Path::new("run"), dir.path(), &target().join("debian")]).start();
        let pid = eventually!("Debian's first process is there", START_LIMIT, async {
            assert!(program.is_running(), "tests/debian.sh ended: {}", program.log());
            let pid = fs::read_to_string(dir.path().join("pid")).map_err(|e| e.to_string())?;
            if pid.ends_with('\n') { Ok(pid.trim_end().to_owned()) } else { Err("half a number".to_owned()) }
        });
        let debian = Self { pid, _program: program, _dir: dir };
        eventually!("Debian has started", START_LIMIT, async {
            let state = debian.run(&["systemctl", "is-system-running"]).await;
            if state.out == "running\n" { Ok(()) } else { Err(format!("{state:?}")) }
        });
        debian
    }

    /// Runs a command there, as root.
    pub async fn run(&self, command: &[&str]) -> Ran {
        Launch::new("nsenter").args(["--target", &self.pid, "--all", "--wdns=/"]).args(command).run(LIMIT).await
    }

    /// Runs a command there; what it prints, without the last line break.
    ///
    /// # Panics
    /// If it fails.
    pub async fn out(&self, command: &[&str]) -> String {
        match self.run(command).await.ok() {
            Ok(out) => out.trim_end().to_owned(),
            Err(e) => {
                let log = self.run(&["journalctl", "--no-pager", "--lines=30"]).await.out;
                panic!("{}: {e}\n{log}", command.join(" "))
            }
        }
    }

    /// Where we find a file of its.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(&self.pid).join("root").join(path.trim_start_matches('/'))
    }

    /// Installs packages, over those that are there.
    ///
    /// # Panics
    /// If that fails.
    pub async fn install(&self, packages: &[PathBuf]) {
        let mut command = vec!["dpkg".to_owned(), "--install".to_owned()];
        for package in packages {
            let name = package.file_name().expect("a package is a file").to_string_lossy();
            let there = format!("/root/{name}");
            fs::copy(package, self.path(&there)).expect("a file can be copied");
            command.push(there);
        }
        self.out(&command.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}
