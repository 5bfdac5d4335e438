//! The Docker probe: a program inside a container, judged by its exit code as a script is.
//!
//! Docker cannot end what it has started in a container. So a program that outlives its timeout is not started again
//! before it has ended: at most one of a check hangs there.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecResults},
};
use futures_util::StreamExt as _;
use kvstore_client::GoDuration;
use kvstore_core::health::Status;
use tokio::{sync::OnceCell, time::timeout};

use super::{
    Finding, failed, found,
    script::{of_exit, timed_out},
    tail::Tail,
};

/// Programs remembered as hanging; beyond that the oldest are simply started again.
const MAX_HANGING: usize = 1024;

/// A program of a container.
type Program = (String, Vec<String>);

/// The Docker of this host: `DOCKER_HOST`, else the usual socket.
#[derive(Debug, Default)]
pub(super) struct Containers {
    api: OnceCell<Docker>,
    /// The exec under which a program still runs.
    hanging: Mutex<HashMap<Program, String>>,
}

impl Containers {
    /// Runs `args` in `container` and keeps the last `max` bytes of what it says.
    pub(super) async fn probe(&self, container: &str, args: &[String], max: usize, within: Duration) -> Finding {
        let what = format!("Docker exec in {container}");
        let program = (container.to_owned(), args.to_vec());
        let (mut tail, mut exec) = (Tail::new(max), None);
        let hung = self.hanging().get(&program).cloned();
        let run = async {
            let api = self.api().await?;
            if let Some(id) = &hung
                && is_running(api, id).await
            {
                return Ok(None);
            }
            run(api, &program, &mut exec, &mut tail).await.map(Some)
        };
        match timeout(within, run).await {
            Ok(Ok(Some(code))) => {
                self.hanging().remove(&program);
                found(of_exit(code), tail.to_string())
            }
            Ok(Ok(None)) => found(
                Status::Critical,
                format!("{what}: the run that timed out ({}) goes on; it is not started again", GoDuration(within)),
            ),
            Ok(Err(error)) => {
                self.hanging().remove(&program);
                failed(&what, &error)
            }
            Err(_) => {
                if let Some(id) = exec {
                    self.remember(program, id);
                }
                timed_out(within, &tail)
            }
        }
    }

    async fn api(&self) -> Result<&Docker, Error> {
        let connect = async { Docker::connect_with_defaults()?.negotiate_version().await };
        self.api.get_or_try_init(|| connect).await
    }

    fn hanging(&self) -> MutexGuard<'_, HashMap<Program, String>> {
        self.hanging.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, program: Program, id: String) {
        let mut hanging = self.hanging();
        if hanging.len() >= MAX_HANGING {
            hanging.clear();
        }
        hanging.insert(program, id);
    }
}

async fn is_running(api: &Docker, exec: &str) -> bool {
    // What Docker does not know any more went with its container.
    api.inspect_exec(exec).await.is_ok_and(|exec| exec.running == Some(true))
}

/// Runs to the end and gives the exit code; `exec` is set once the program is started.
async fn run(
    api: &Docker,
    (container, args): &Program,
    exec: &mut Option<String>,
    tail: &mut Tail,
) -> Result<Option<i64>, Error> {
    let options = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(args.clone()),
        ..CreateExecOptions::default()
    };
    let id = api.create_exec(container, options).await?.id;
    let started = api.start_exec(&id, None).await?;
    *exec = Some(id.clone());
    if let StartExecResults::Attached { mut output, .. } = started {
        while let Some(chunk) = output.next().await {
            let (LogOutput::StdOut { message }
            | LogOutput::StdErr { message }
            | LogOutput::StdIn { message }
            | LogOutput::Console { message }) = chunk?;
            tail.push(&message);
        }
    }
    Ok(api.inspect_exec(&id).await?.exit_code)
}

#[cfg(test)]
mod tests;
