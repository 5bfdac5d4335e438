//! Tells a program by a signal: the process that a pid file names, or what runs in a container.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use kvstore_client::with_causes;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{docker::Docker, process, readers::ReloadError};

/// Whom to signal, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignalSpec {
    /// The signal.
    pub signal: Signal,
    /// Whom.
    pub whom: Whom,
}

/// Whom to signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// The process whose id stands in this file.
    PidFile(PathBuf),
    /// The first process of the container of this name or id.
    Container(String),
}

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PidFile(path) => write!(f, "the process of {}", path.display()),
            Self::Container(name) => write!(f, "container {name}"),
        }
    }
}

impl SignalSpec {
    /// Sends it; gives what was done, in words. That nobody runs is no fault: whoever starts later reads the new file.
    ///
    /// # Errors
    /// [`ReloadError`].
    pub async fn send(&self, docker: &Docker) -> Result<String, ReloadError> {
        let failed = |cause| ReloadError { cause, rejected: false };
        let sent = match &self.whom {
            Whom::PidFile(path) => send_to_file(self.signal, path).map_err(failed)?,
            Whom::Container(name) => {
                docker.signal(name, self.signal).await.map_err(|error| failed(with_causes(&error)))?
            }
        };
        let (signal, whom) = (self.signal, &self.whom);
        Ok(if sent { format!("{whom} has got {signal}") } else { format!("{whom} does not run; nothing to reload") })
    }
}

/// False if there is no such process.
fn send_to_file(signal: Signal, path: &Path) -> Result<bool, String> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let pid = text.trim().parse::<i32>().ok().filter(|pid| *pid > 1);
    let pid = pid.ok_or_else(|| format!("{} holds no process id", path.display()))?;
    if !Path::new(&format!("/proc/{pid}")).exists() {
        return Ok(false);
    }
    // The file may be older than the process, which then is somebody else's and would be ended.
    if !process::handles(pid, signal) {
        return Err(format!("process {pid} of {} does not handle {signal}, which would end it", path.display()));
    }
    kill(Pid::from_raw(pid), signal).map(|()| true).map_err(|e| format!("process {pid} of {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{process::Command, time::Duration};

    fn spec(path: &Path) -> SignalSpec {
        SignalSpec { signal: Signal::SIGUSR1, whom: Whom::PidFile(path.to_owned()) }
    }

    #[tokio::test]
    async fn the_process_of_a_pid_file_gets_the_signal() {
        let dir = tempfile::tempdir().unwrap();
        let (pid_file, got) = (dir.path().join("pid"), dir.path().join("got"));
        let sent = spec(&pid_file).send(&Docker::default()).await.unwrap();
        assert!(sent.contains("does not run; nothing to reload"), "{sent}");
        let script = "trap 'echo x > $0.new; mv $0.new $0; exit' USR1; echo $$ > $1.new; mv $1.new $1; while :; do sleep 0.01; done";
        let mut child = Command::new("sh").args(["-c", script]).args([&got, &pid_file]).spawn().unwrap();
        let there = async |path: &Path| {
            while !path.exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        there(&pid_file).await;
        let sent = spec(&pid_file).send(&Docker::default()).await.unwrap();
        assert!(sent.ends_with("has got SIGUSR1"), "{sent}");
        there(&got).await;
        child.wait().unwrap();
        let sent = spec(&pid_file).send(&Docker::default()).await.unwrap();
        assert!(sent.contains("does not run"), "{sent}");
    }

    #[tokio::test]
    async fn a_process_that_the_signal_would_end_is_spared() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(&pid_file, format!("{}\n", child.id())).unwrap();
        let error = spec(&pid_file).send(&Docker::default()).await.unwrap_err();
        assert!(error.cause.contains("does not handle SIGUSR1"), "{error:?}");
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        for text in ["", "-1", "1", "x"] {
            fs::write(&pid_file, text).unwrap();
            let error = spec(&pid_file).send(&Docker::default()).await.unwrap_err();
            assert!(error.cause.contains("holds no process id"), "{text}: {error:?}");
        }
    }
}
