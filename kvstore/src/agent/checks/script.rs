//! The script probe: a program's exit code is the status. Whatever it started ends with it.

use std::{io::pipe, os::fd::OwnedFd, process::Stdio, time::Duration};

use kvstore_client::{GoDuration, systemd};
use kvstore_core::health::Status;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt as _,
    net::unix::pipe::Receiver,
    process::{Child, Command},
    time::{Instant, timeout_at},
};

use super::{Finding, failed, found, tail::Tail};

/// How long the output of an ended script is waited for, should somebody who left its process group still hold it.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs `args` and keeps the last `max` bytes of what it says.
pub(super) async fn probe(args: &[String], max: usize, within: Duration) -> Finding {
    let what = args.first().map_or("", String::as_str);
    let (mut group, mut output) = match start(args) {
        Ok(started) => started,
        Err(error) => return failed(what, &error),
    };
    let mut tail = Tail::new(max);
    let until = Instant::now() + within;
    let ended = timeout_at(until, to_the_end(&mut group.child, &mut output, &mut tail)).await;
    group.kill();
    match ended {
        Ok(Ok(code)) => {
            let _ = timeout_at(Instant::now() + LAST_WORDS, read(&mut output, &mut tail)).await;
            found(of_exit(code), tail.to_string())
        }
        Ok(Err(error)) => failed(what, &error),
        Err(_) => {
            let _ = group.child.wait().await;
            timed_out(within, &tail)
        }
    }
}

/// Exit code 0 passes, 1 warns, all else is critical; `None`: ended by a signal.
pub(super) fn of_exit(code: Option<i64>) -> Status {
    match code {
        Some(0) => Status::Passing,
        Some(1) => Status::Warning,
        _ => Status::Critical,
    }
}

/// In Consul's words.
pub(super) fn timed_out(within: Duration, tail: &Tail) -> Finding {
    let said = tail.to_string();
    let gap = if said.is_empty() { "" } else { "\n\n" };
    found(Status::Critical, format!("Timed out ({}) running check{gap}{said}", GoDuration(within)))
}

/// A process group of its own; killed as a whole when this is dropped.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    /// Also right after its leader was reaped: numbers are handed out in turn, so none comes again at once.
    fn kill(&mut self) {
        if let Some(id) = self.id.take() {
            // Nobody left is what is wanted.
            let _ = killpg(id, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program and its output: both of its streams through one pipe, so that they come in order.
fn start(args: &[String]) -> std::io::Result<(Group, Receiver)> {
    let (reader, writer) = pipe()?;
    let program = args.first().map_or("", String::as_str);
    let mut command = Command::new(program);
    for name in systemd::VARIABLES {
        command.env_remove(name);
    }
    let child = command
        .args(args.get(1..).unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    Ok((Group { child, id }, Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// Reads until the program has ended, and gives its exit code.
async fn to_the_end(child: &mut Child, output: &mut Receiver, tail: &mut Tail) -> std::io::Result<Option<i64>> {
    tokio::select! {
        ended = child.wait() => ended.map(|status| status.code().map(i64::from)),
        // The program may close its output and go on.
        never = async { read(output, tail).await; std::future::pending().await } => never,
    }
}

/// Reads to the end of the output.
async fn read(output: &mut Receiver, tail: &mut Tail) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = output.read(&mut buffer).await {
        tail.push(&buffer[..read]);
    }
}
