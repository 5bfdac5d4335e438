//! Finds HAProxy and nginx among the running containers that have a file mounted; checks the file and reloads them
//! inside, by Docker's API, so that neither program nor its includes are needed where the templater runs.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{
    Docker as Api,
    container::LogOutput,
    errors::Error as ApiError,
    exec::{CreateExecOptions, StartExecResults},
    query_parameters::{
        InspectContainerOptions, KillContainerOptionsBuilder, ListContainersOptions, TopOptionsBuilder,
    },
};
use futures_util::StreamExt as _;
use nix::sys::signal::Signal;
use tokio::{
    io::AsyncWriteExt as _,
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use super::{
    Kind,
    container::{Container, Seen, recognise},
    haproxy,
    mounts::{Mount, inside, mounts, outside, own_id},
    process::CONFIRM_WITHIN,
};

/// One call to Docker; commands have their own limit.
const CALL: Duration = Duration::from_secs(10);

/// Who has not heard that it is to reload is told again after this.
const TELL_AGAIN: Duration = Duration::from_secs(2);

/// Of an exec's output, this much is kept.
const MAX_OUTPUT_BYTES: usize = 64 << 10;

/// Why Docker did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// It cannot be reached or refused.
    #[error("Docker: {doing}")]
    Api {
        /// What was asked.
        doing: String,
        /// What it says.
        #[source]
        source: ApiError,
    },
    /// No answer in time.
    #[error("Docker: {doing}: no answer within {after:?}")]
    Timeout {
        /// What was asked.
        doing: String,
        /// The limit.
        after: Duration,
    },
    /// The signal was sent, and nothing came of it.
    #[error("{kind} in container {name} started no new worker within {CONFIRM_WITHIN:?} of SIGHUP; docker logs {name} says why{}", if *master { "" } else { " (HAProxy reloads by signal only when started with -W)" })]
    Unconfirmed {
        /// What it is.
        kind: Kind,
        /// The container.
        name: String,
        /// False if the command line shows that it cannot work.
        master: bool,
    },
}

impl DockerError {
    /// What Docker answered with.
    fn status(&self) -> Option<u16> {
        match self {
            Self::Api { source: ApiError::DockerResponseServerError { status_code, .. }, .. } => Some(*status_code),
            _ => None,
        }
    }

    fn is_not_found(&self) -> bool {
        self.status() == Some(404)
    }
}

/// Docker, connected when first needed.
#[derive(Debug, Default)]
pub struct Docker {
    api: OnceCell<Api>,
    /// Our own container, if we run in one; then its mounts tell what our paths are on the host.
    own: OnceCell<Option<Vec<Mount>>>,
}

/// What came of a command in a container.
#[derive(Debug)]
pub struct ExecResult {
    /// Its exit code.
    pub code: i64,
    /// What it printed.
    pub output: String,
}

impl Docker {
    /// Whether there is a Docker to ask: `DOCKER_HOST`, else the usual socket.
    fn is_there() -> bool {
        std::env::var_os("DOCKER_HOST").is_some() || Path::new("/var/run/docker.sock").exists()
    }

    async fn api(&self) -> Result<&Api, DockerError> {
        let connect = async {
            let doing = "connect";
            let api = Api::connect_with_defaults().map_err(|source| failed(doing, source))?;
            within(doing, CALL, api.negotiate_version()).await
        };
        self.api.get_or_try_init(|| connect).await
    }

    /// The running containers of `kind` that use any of `files`; none without Docker.
    ///
    /// # Errors
    /// [`DockerError`]: then it is not known whether there are any.
    pub async fn find(&self, kind: Kind, files: &[PathBuf]) -> Result<Vec<Container>, DockerError> {
        if !Self::is_there() {
            return Ok(Vec::new());
        }
        let api = self.api().await?;
        let mut on_host = Vec::new();
        for ours in files {
            on_host.extend(self.on_host(ours).await?.map(|host| (ours, host)));
        }
        if on_host.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "list containers";
        let list = within(doing, CALL, api.list_containers(None::<ListContainersOptions>)).await?;
        let mut found = Vec::new();
        for container in list {
            let mounts = mounts(container.mounts.as_deref());
            let seen = |(ours, host): &(&PathBuf, PathBuf)| {
                let (inside, is_mount) = inside(&mounts, host)?;
                Some(Seen { ours: (*ours).clone(), inside, is_mount })
            };
            let seen: Vec<_> = on_host.iter().filter_map(seen).collect();
            let Some(id) = container.id.filter(|_| !seen.is_empty()) else { continue };
            let doing = format!("inspect {id}");
            match within(&doing, CALL, api.inspect_container(&id, None::<InspectContainerOptions>)).await {
                Ok(details) => found.extend(recognise(kind, details, seen)),
                Err(DockerError::Api { .. }) => {} // gone meanwhile
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// `file` as the host calls it; `None` if it lies in our own container only.
    async fn on_host(&self, file: &Path) -> Result<Option<PathBuf>, DockerError> {
        let real = |path: &Path| {
            let parent = path.parent().and_then(|p| p.canonicalize().ok());
            parent.map_or_else(|| path.to_owned(), |p| p.join(path.file_name().unwrap_or_default()))
        };
        let file = real(file);
        let own = self.own.get_or_try_init(|| self.own_mounts()).await?;
        Ok(match own {
            None => Some(file),
            Some(mounts) => outside(mounts, &file),
        })
    }

    async fn own_mounts(&self) -> Result<Option<Vec<Mount>>, DockerError> {
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let Some(id) = own_id(&mountinfo) else {
            return Ok(None);
        };
        let api = self.api().await?;
        let doing = "inspect our own container";
        let details = within(doing, CALL, api.inspect_container(id, None::<InspectContainerOptions>)).await?;
        Ok(Some(mounts(details.mounts.as_deref())))
    }

    /// Runs `words` in `container`, with `input` as its standard input.
    ///
    /// # Errors
    /// [`DockerError`]; after a timeout the command may still run.
    pub async fn exec(
        &self,
        container: &Container,
        words: &[String],
        input: Option<&[u8]>,
        limit: Duration,
    ) -> Result<ExecResult, DockerError> {
        let doing = format!("run {} in container {}", words[0], container.name);
        let run = self.exec_unbounded(container, words, input, &doing);
        timeout(limit, run).await.unwrap_or_else(|_| Err(DockerError::Timeout { doing: doing.clone(), after: limit }))
    }

    async fn exec_unbounded(
        &self,
        container: &Container,
        words: &[String],
        stdin: Option<&[u8]>,
        doing: &str,
    ) -> Result<ExecResult, DockerError> {
        let api = self.api().await?;
        let options = CreateExecOptions {
            attach_stdin: Some(stdin.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(words.to_vec()),
            working_dir: Some(container.directory.display().to_string()),
            ..CreateExecOptions::default()
        };
        let api_failed = |source| failed(doing, source);
        let exec = api.create_exec(&container.id, options).await.map_err(api_failed)?;
        let started = api.start_exec(&exec.id, None).await.map_err(api_failed)?;
        let mut kept = Vec::new();
        if let StartExecResults::Attached { mut output, mut input } = started {
            let feed = async {
                if let Some(bytes) = stdin {
                    // A program that ends before it has read everything says why by its exit code.
                    let _ = input.write_all(bytes).await;
                    let _ = input.shutdown().await;
                }
            };
            let read = async {
                while let Some(Ok(chunk)) = output.next().await {
                    let (LogOutput::StdOut { message }
                    | LogOutput::StdErr { message }
                    | LogOutput::StdIn { message }
                    | LogOutput::Console { message }) = chunk;
                    let room = MAX_OUTPUT_BYTES.saturating_sub(kept.len());
                    kept.extend_from_slice(&message[..message.len().min(room)]);
                }
            };
            tokio::join!(feed, read);
        }
        let ended = api.inspect_exec(&exec.id).await.map_err(api_failed)?;
        Ok(ExecResult { code: ended.exit_code.unwrap_or(-1), output: String::from_utf8_lossy(&kept).into_owned() })
    }

    /// The running container of this name or id as a user of `files`, whatever it has mounted; `None` if it does not run.
    ///
    /// # Errors
    /// [`DockerError`].
    pub async fn named(&self, name: &str, kind: Kind, files: &[PathBuf]) -> Result<Option<Container>, DockerError> {
        let api = self.api().await?;
        let doing = format!("inspect container {name}");
        let inspected = within(&doing, CALL, api.inspect_container(name, None::<InspectContainerOptions>)).await;
        let details = match inspected {
            Ok(details) => details,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        if !details.state.as_ref().and_then(|state| state.running).unwrap_or_default() {
            return Ok(None);
        }
        let mounts = mounts(details.mounts.as_deref());
        let mut seen = Vec::new();
        for ours in files {
            if let Some(host) = self.on_host(ours).await?
                && let Some((inside, is_mount)) = inside(&mounts, &host)
            {
                seen.push(Seen { ours: ours.clone(), inside, is_mount });
            }
        }
        Ok(Some(Container::new(kind, details, seen)))
    }

    /// Sends `signal` to the first process of the container of this name or id; false if it does not run.
    ///
    /// # Errors
    /// [`DockerError`].
    pub async fn signal(&self, name: &str, signal: Signal) -> Result<bool, DockerError> {
        let api = self.api().await?;
        let options = KillContainerOptionsBuilder::default().signal(signal.as_str()).build();
        match within(&format!("signal container {name}"), CALL, api.kill_container(name, Some(options))).await {
            Ok(()) => Ok(true),
            // Docker says "conflict" of one that is there and does not run.
            Err(error) if error.is_not_found() || error.status() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends SIGHUP to what runs in `container` and waits for its new workers.
    ///
    /// HUP, not USR2, for HAProxy too: its master takes both, and one without master-worker mode survives HUP.
    ///
    /// # Errors
    /// [`DockerError`].
    pub async fn reload(&self, container: &Container) -> Result<(), DockerError> {
        let api = self.api().await?;
        let before = self.workers(container).await;
        let options = KillContainerOptionsBuilder::default().signal("SIGHUP").build();
        let doing = format!("signal container {}", container.name);
        let tell = async || within(&doing, CALL, api.kill_container(&container.id, Some(options.clone()))).await;
        tell().await?;
        let Some(before) = before else {
            return Ok(()); // this Docker does not tell
        };
        let (until, mut told) = (Instant::now() + CONFIRM_WITHIN, Instant::now());
        while Instant::now() < until {
            // A master that was just starting anew has let it go.
            if told.elapsed() > TELL_AGAIN {
                tell().await?;
                told = Instant::now();
            }
            let now = self.workers(container).await.unwrap_or_default();
            if now.difference(&before).next().is_some() {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(DockerError::Unconfirmed {
            kind: container.kind,
            name: container.name.clone(),
            master: container.kind == Kind::Nginx || haproxy::asks_for_master(&container.argv),
        })
    }

    /// The ids of the program's processes in `container`.
    async fn workers(&self, container: &Container) -> Option<BTreeSet<String>> {
        let api = self.api().await.ok()?;
        let options = TopOptionsBuilder::default().ps_args("-eo pid,comm").build();
        let top = within("list processes", CALL, api.top_processes(&container.id, Some(options)));
        let rows = top.await.ok()?.processes?;
        let ours = rows.into_iter().filter(|row| row.last().is_some_and(|comm| comm == container.kind.program()));
        Some(ours.filter_map(|row| row.into_iter().next()).collect())
    }
}

fn failed(doing: &str, source: ApiError) -> DockerError {
    let doing = doing.to_owned();
    DockerError::Api { doing, source }
}

async fn within<T>(
    doing: &str,
    limit: Duration,
    call: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, DockerError> {
    match timeout(limit, call).await {
        Ok(result) => result.map_err(|source| failed(doing, source)),
        Err(_) => Err(DockerError::Timeout { doing: doing.to_owned(), after: limit }),
    }
}
