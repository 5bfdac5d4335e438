//! Runs check and reload commands: bounded in time and in output, whole process groups ended.

use std::{
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use kvstore_client::systemd;
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    time::timeout,
};

/// Of a command's output, this much from its start is kept.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// After the end of a command its pipes are read this much longer; a daemon that it left behind may hold them open.
const DRAIN: Duration = Duration::from_millis(100);

/// Between SIGTERM and SIGKILL to a command that took too long.
const TERM_GRACE: Duration = Duration::from_secs(1);

/// A command as configured: a line for the shell, or words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// Given to `sh -c`.
    Shell(String),
    /// Program and arguments, run as they are.
    Words(Vec<String>),
}

/// What stands for a path in a command, and the path.
pub type Place<'a> = (&'static str, &'a Path);

impl CommandLine {
    /// With each of `places` filled in, quoted for the shell where there is one.
    pub fn expand(&self, places: &[Place<'_>]) -> Invocation {
        let fill = |text: &str, shown: &dyn Fn(&Path) -> String| {
            places.iter().fold(text.to_owned(), |text, (name, path)| text.replace(name, &shown(path)))
        };
        let words = match self {
            Self::Shell(line) => {
                let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
                vec!["sh".to_owned(), "-c".to_owned(), fill(line, &quoted)]
            }
            Self::Words(words) => words.iter().map(|word| fill(word, &|path| path.display().to_string())).collect(),
        };
        Invocation { words, directory: None }
    }

    /// Whether `text` stands in it.
    pub fn mentions(&self, text: &str) -> bool {
        match self {
            Self::Shell(line) => line.contains(text),
            Self::Words(words) => words.iter().any(|word| word.contains(text)),
        }
    }
}

/// A command ready to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Program and arguments.
    pub words: Vec<String>,
    /// Where it runs; `None` for our own working directory.
    pub directory: Option<PathBuf>,
}

impl std::fmt::Display for Invocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words.join(" "))
    }
}

/// Why a command did not succeed. It may have had effects.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It did not start; nothing was done.
    #[error("{command} cannot be run")]
    Start {
        /// The command.
        command: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// It ended, but not well.
    #[error("{command} ended with {status}")]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it printed, standard error last.
        output: String,
    },
    /// It did not end in time and was ended.
    #[error("{command} did not end within {after:?}")]
    TimedOut {
        /// The command.
        command: String,
        /// The time it had.
        after: Duration,
    },
}

impl CommandError {
    /// What the command printed.
    pub fn output(&self) -> &str {
        match self {
            Self::Failed { output, .. } => output,
            _ => "",
        }
    }
}

/// Runs `invocation` for at most `limit`; gives what it printed.
///
/// # Errors
/// [`CommandError`]; its process group is gone in any case.
pub async fn run(invocation: &Invocation, limit: Duration) -> Result<String, CommandError> {
    let command = invocation.to_string();
    let Some((program, arguments)) = invocation.words.split_first() else {
        let source = io::Error::other("it is empty");
        return Err(CommandError::Start { command, source });
    };
    let mut builder = Command::new(program);
    builder.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    for name in systemd::VARIABLES {
        builder.env_remove(name);
    }
    if let Some(directory) = &invocation.directory {
        builder.current_dir(directory);
    }
    let mut child = match builder.spawn() {
        Ok(child) => child,
        Err(source) => return Err(CommandError::Start { command, source }),
    };
    let group = Group::of(&child);
    let ended = timeout(limit, collect(&mut child)).await;
    match ended {
        Ok(Ok((status, output))) => {
            group.let_live();
            if status.success() { Ok(output) } else { Err(CommandError::Failed { command, status, output }) }
        }
        Ok(Err(source)) => Err(CommandError::Start { command, source }),
        Err(_) => {
            group.signal(Signal::SIGTERM);
            let _ = timeout(TERM_GRACE, child.wait()).await;
            group.signal(Signal::SIGKILL);
            let _ = child.wait().await;
            Err(CommandError::TimedOut { command, after: limit })
        }
    }
}

/// The process group of a command; killed when dropped, so that a command that is given up leaves nobody behind.
pub(crate) struct Group {
    id: Option<Pid>,
}

impl Group {
    /// That of a child that was started as the first of a new group.
    pub(crate) fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self { id: id.map(Pid::from_raw) }
    }

    fn signal(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = killpg(id, signal); // it may have ended by itself
        }
    }

    /// Only to the command itself.
    pub(crate) fn signal_leader(&self, signal: Signal) {
        if let Some(id) = self.id {
            let _ = kill(id, signal);
        }
    }

    /// The command ended well or badly by itself; what it left in the background was meant to stay.
    pub(crate) fn let_live(mut self) {
        self.id = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

async fn collect(child: &mut Child) -> io::Result<(ExitStatus, String)> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let reading = async { tokio::join!(read_some(stdout, &mut out), read_some(stderr, &mut err)) };
        tokio::pin!(reading);
        tokio::select! {
            _ = &mut reading => child.wait().await?,
            status = child.wait() => {
                let _ = timeout(DRAIN, reading).await;
                status?
            }
        }
    };
    out.extend_from_slice(&err);
    Ok((status, String::from_utf8_lossy(&out).into_owned()))
}

/// Reads to the end, keeps the beginning.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut pipe) = pipe else { return };
    let mut chunk = [0; 4096];
    while let Ok(n) = pipe.read(&mut chunk).await {
        if n == 0 {
            return;
        }
        let room = MAX_OUTPUT_BYTES.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..n.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Invocation {
        let places = [("{src}", Path::new("/a b/.x'y")), ("{dst}", Path::new("/dst"))];
        CommandLine::Shell(line.into()).expand(&places)
    }

    #[test]
    fn paths_are_quoted_for_the_shell_and_not_for_words() {
        assert_eq!(shell("check {src} {dst}").words[2], r"check '/a b/.x'\''y' '/dst'");
        let words = CommandLine::Words(vec!["check".into(), "-f={src}".into()]);
        assert_eq!(words.expand(&[("{src}", Path::new("/a b"))]).words, ["check", "-f=/a b"]);
    }

    #[tokio::test]
    async fn output_and_status_are_told() {
        assert_eq!(run(&shell("echo out; echo err >&2"), DRAIN * 50).await.unwrap(), "out\nerr\n");
        let error = run(&shell("echo bad >&2; exit 3"), DRAIN * 50).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        assert_eq!(error.output(), "bad\n");
        let words = CommandLine::Words(vec!["/no/such/program".into()]);
        let error = run(&words.expand(&[]), DRAIN).await.unwrap_err();
        assert!(matches!(error, CommandError::Start { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_ended_with_its_children() {
        let marker = tempfile::NamedTempFile::new().unwrap();
        let line = format!("(sleep 30; echo alive > {}) & sleep 30", marker.path().display());
        let started = std::time::Instant::now();
        let error = run(&shell(&line), Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn a_command_that_is_given_up_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let marker = dir.path().join("marker");
        let line = shell(&format!("echo > {0}.started; sleep 1; echo > {0}", marker.display()));
        let running = tokio::spawn(async move { run(&line, Duration::from_mins(1)).await });
        while !dir.path().join("marker.started").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.abort();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(!marker.exists());
    }

    #[tokio::test]
    async fn a_daemon_left_behind_does_not_hold_us_up() {
        let started = std::time::Instant::now();
        run(&shell("sleep 5 & echo started"), Duration::from_secs(4)).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(3));
    }

    #[tokio::test]
    async fn endless_output_is_cut() {
        let output = run(&shell("head -c 1000000 /dev/zero"), Duration::from_secs(20)).await.unwrap();
        assert_eq!(output.len(), MAX_OUTPUT_BYTES);
    }
}
