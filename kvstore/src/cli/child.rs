//! Programs that a command runs: how they are called, and how they are told to end.

use std::{io, process::ExitStatus, time::Duration};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use super::failure::Failure;

/// Signals that stop us, and are handed on to the program.
const STOPS: [(SignalKind, Signal); 4] = [
    (SignalKind::interrupt(), Signal::SIGINT),
    (SignalKind::terminate(), Signal::SIGTERM),
    (SignalKind::hangup(), Signal::SIGHUP),
    (SignalKind::quit(), Signal::SIGQUIT),
];

/// How to call `words`, which are not empty: one alone is a line for the shell, several are a program and its arguments.
/// `shell` says it otherwise: with it, words are put together as Consul does, blanks between.
pub(super) fn command(words: &[String], shell: Option<bool>) -> Command {
    if shell.unwrap_or(words.len() == 1) {
        let interpreter = std::env::var_os("SHELL").filter(|shell| !shell.is_empty());
        let mut command = Command::new(interpreter.unwrap_or_else(|| "/bin/sh".into()));
        command.arg("-c").arg(words.join(" "));
        return command;
    }
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// Refuses `words` that begin with what can only be a mistyped option of ours.
pub(super) fn no_option(words: &[String]) -> Result<(), Failure> {
    match words.first().filter(|word| word.starts_with('-')) {
        None => Ok(()),
        Some(word) => {
            Err(Failure::usage(format!("{word} is no option, and no program's name")).hint("--help shows all"))
        }
    }
}

/// The signals that stop us; taken once, they end the process no more.
#[derive(Debug)]
pub(super) struct Stops(tokio::sync::mpsc::Receiver<Signal>);

impl Stops {
    /// Takes them. Must be called within a runtime.
    pub(super) fn take() -> io::Result<Self> {
        let (sender, receiver) = tokio::sync::mpsc::channel(STOPS.len());
        for (kind, name) in STOPS {
            let (mut taken, sender) = (signal(kind)?, sender.clone());
            tokio::spawn(async move {
                while taken.recv().await.is_some() {
                    // With the queue full, whoever reads it is stopping already.
                    let _ = sender.try_send(name);
                }
            });
        }
        Ok(Self(receiver))
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }
}

/// A program that runs; killed when dropped.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) child: Child,
    id: Option<Pid>,
    /// Whether it leads a group, which gets its signals as a whole.
    leads: bool,
}

impl Running {
    /// Starts `command`. With `apart` in a process group of its own, so that all that it starts can be told to end, but
    /// it cannot read from our terminal then.
    pub(super) fn start(mut command: Command, apart: bool) -> io::Result<Self> {
        command.kill_on_drop(true);
        if apart {
            command.process_group(0);
        }
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, id, leads: apart })
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends `signal`; that nobody is left is no failure.
    pub(super) fn send(&self, signal: Signal) {
        match (self.id, self.leads) {
            // Also after its leader was reaped: numbers are handed out in turn, so none comes again at once.
            (Some(id), true) => drop(killpg(id, signal)),
            (Some(id), false) if self.child.id().is_some() => drop(kill(id, signal)),
            _ => {}
        }
    }

    /// Has it end: by `signal`, and by KILL if it still runs after `grace`. What it left in its group is killed, too.
    pub(super) async fn end(&mut self, signal: Signal, grace: Duration) -> io::Result<ExitStatus> {
        self.send(signal);
        let ended = timeout(grace, self.child.wait()).await;
        self.send(Signal::SIGKILL);
        match ended {
            Ok(ended) => ended,
            Err(_) => self.child.wait().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    fn call(words: &[&str], shell: Option<bool>) -> Vec<String> {
        let words: Vec<_> = words.iter().map(ToString::to_string).collect();
        let command = command(&words, shell);
        let command = command.as_std();
        let args = command.get_args().map(|arg| arg.to_str().unwrap().to_owned());
        let program = command.get_program().to_str().unwrap();
        let program = if program.ends_with("sh") { "SHELL" } else { program };
        std::iter::once(program.to_owned()).chain(args).collect()
    }

    #[test]
    fn one_word_is_for_the_shell_and_several_are_a_program() {
        for (words, shell, expected) in [
            (&["a && b"][..], None, &["SHELL", "-c", "a && b"][..]),
            (&["a", "b c", "$d"], None, &["a", "b c", "$d"]),
            (&["a", "b", "> c"], Some(true), &["SHELL", "-c", "a b > c"]),
            (&["a && b"], Some(false), &["a && b"]),
        ] {
            assert_eq!(call(words, shell), expected, "{words:?} {shell:?}");
        }
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_with_all_it_started() {
        let script = "trap '' TERM; (trap '' TERM; sleep 60) & echo $!; wait; sleep 60";
        let mut command = command(&[script.into()], Some(true));
        command.env("SHELL", "/bin/sh").stdout(Stdio::piped());
        let mut running = Running::start(command, true).unwrap();
        let mut line = String::new();
        let mut out = tokio::io::BufReader::new(running.child.stdout.take().unwrap());
        tokio::io::AsyncBufReadExt::read_line(&mut out, &mut line).await.unwrap();
        let status = running.end(Signal::SIGTERM, Duration::from_millis(50)).await.unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
        let mut rest = String::new();
        // The grandchild holds the pipe; its end is the grandchild's.
        let all = tokio::io::AsyncReadExt::read_to_string(&mut out, &mut rest);
        timeout(Duration::from_secs(10), all).await.expect("the grandchild has ended").unwrap();
    }
}
