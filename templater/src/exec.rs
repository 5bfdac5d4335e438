//! Runs one program beside the templates, as a container's only process wants: it starts when all files are live, is told
//! when they change, gets the signals that are not for us, and its end is ours.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    time::{Duration, Instant},
};

use kvstore_client::systemd;
use nix::sys::signal::Signal;
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    command::{CommandLine, Group},
    progress::Standing,
    runner::at,
};

/// The program, and how to deal with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program; a line is run as `exec LINE` by the shell, so that the program itself gets the signals.
    pub command: CommandLine,
    /// What tells it that a file has changed; without one it is ended and started anew.
    pub reload_signal: Option<Signal>,
    /// What asks it to end.
    pub kill_signal: Signal,
    /// How long it may take to end.
    pub kill_timeout: Duration,
    /// It is told of a change after a random time up to this, so that many hosts do not do it in step.
    pub splay: Duration,
}

/// Runs the program until it ends or `stop`; gives the exit code that it ended with by itself.
pub(crate) async fn supervise(
    spec: ExecSpec,
    mut progress: watch::Receiver<Standing>,
    mut signals: mpsc::Receiver<Signal>,
    stop: CancellationToken,
) -> Option<u8> {
    tokio::select! {
        complete = progress.wait_for(Standing::is_complete) => drop(complete.ok()?),
        () = stop.cancelled() => return None,
    }
    loop {
        let mut seen = progress.borrow_and_update().untold;
        let (mut child, group) = match start(&spec.command) {
            Ok(started) => started,
            Err(error) => {
                error!("the program of --exec cannot be started: {error}");
                return Some(127);
            }
        };
        let mut tell_at = None;
        loop {
            tokio::select! {
                ended = child.wait() => {
                    group.let_live();
                    let code = ended.map_or(1, code);
                    warn!("the program of --exec has ended with code {code}");
                    return Some(code);
                }
                () = stop.cancelled() => {
                    end(&mut child, group, &spec).await;
                    return None;
                }
                Some(signal) = signals.recv() => group.signal_leader(signal),
                Ok(()) = progress.changed() => {
                    let untold = progress.borrow_and_update().untold;
                    if std::mem::replace(&mut seen, untold) != untold {
                        tell_at.get_or_insert_with(|| Instant::now() + random_below(spec.splay));
                    }
                }
                () = at(tell_at) => match spec.reload_signal {
                    Some(signal) => {
                        info!("the program of --exec gets {signal}");
                        group.signal_leader(signal);
                        tell_at = None;
                    }
                    None => break,
                }
            }
        }
        info!("the program of --exec is started anew");
        end(&mut child, group, &spec).await;
    }
}

fn start(command: &CommandLine) -> std::io::Result<(Child, Group)> {
    let words = match command {
        CommandLine::Shell(line) => vec!["sh".to_owned(), "-c".to_owned(), format!("exec {line}")],
        CommandLine::Words(words) => words.clone(),
    };
    let mut builder = Command::new(&words[0]);
    builder.args(&words[1..]).process_group(0);
    for name in systemd::VARIABLES {
        builder.env_remove(name);
    }
    let child = builder.spawn()?;
    let group = Group::of(&child);
    Ok((child, group))
}

/// Asks it to end, then makes it.
async fn end(child: &mut Child, group: Group, spec: &ExecSpec) {
    group.signal_leader(spec.kill_signal);
    if timeout(spec.kill_timeout, child.wait()).await.is_err() {
        warn!("the program of --exec did not end within {:?} of {}; it is killed", spec.kill_timeout, spec.kill_signal);
        drop(group);
        let _ = child.wait().await;
    } else {
        group.let_live();
    }
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

fn random_below(limit: Duration) -> Duration {
    // Each of these has keys of its own; a splay needs no better source.
    let part = RandomState::new().build_hasher().finish().to_le_bytes()[0];
    limit * u32::from(part) / 256
}
