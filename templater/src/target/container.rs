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
    models::{ContainerInspectResponse, MountPoint},
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
    Kind, haproxy, nginx,
    process::{self, CONFIRM_WITHIN},
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

/// A directory or file of the host inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
}

/// A file as a container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What we call it.
    pub ours: PathBuf,
    /// What it is called inside.
    pub inside: PathBuf,
    /// The file itself is mounted, not a directory above it: a file renamed into place would never be seen inside.
    pub is_mount: bool,
}

/// A running container that uses some files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, for messages.
    pub name: String,
    /// What runs in it.
    pub kind: Kind,
    /// The files.
    pub files: Vec<Seen>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its working directory.
    pub directory: PathBuf,
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
        Ok(Some(container(kind, details, seen)))
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

fn mounts(points: Option<&[MountPoint]>) -> Vec<Mount> {
    let mount = |point: &MountPoint| {
        let source = PathBuf::from(point.source.as_ref()?);
        Some(Mount {
            // Docker keeps a path as it was given; the file's own path is canonical.
            source: source.canonicalize().unwrap_or(source),
            destination: PathBuf::from(point.destination.as_ref()?),
        })
    };
    points.unwrap_or_default().iter().filter_map(mount).collect()
}

/// The id of the container we run in: Docker mounts `/etc/hostname` from a directory named by it.
fn own_id(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        if *fields.get(4)? != "/etc/hostname" {
            return None;
        }
        let id = fields[3].split("/containers/").nth(1)?.split('/').next()?;
        (id.len() == 64).then_some(id)
    })
}

/// Where `file` of the host is in a container with `mounts`, and whether it is itself a mount.
fn inside(mounts: &[Mount], file: &Path) -> Option<(PathBuf, bool)> {
    let below = |mount: &Mount| {
        let rest = file.strip_prefix(&mount.source).ok()?;
        let itself = rest.as_os_str().is_empty();
        let path = if itself { mount.destination.clone() } else { mount.destination.join(rest) };
        Some((path, itself, mount.source.components().count()))
    };
    // The deepest mount is the one that shows.
    let (path, itself, _) = mounts.iter().filter_map(below).max_by_key(|(_, _, depth)| *depth)?;
    Some((path, itself))
}

/// Where `file` of a container with `mounts` is on the host.
fn outside(mounts: &[Mount], file: &Path) -> Option<PathBuf> {
    let deepest = mounts
        .iter()
        .filter(|m| file.starts_with(&m.destination))
        .max_by_key(|m| m.destination.components().count())?;
    let rest = file.strip_prefix(&deepest.destination).ok()?;
    let is_itself = rest.as_os_str().is_empty();
    Some(if is_itself { deepest.source.clone() } else { deepest.source.join(rest) })
}

/// The container as a user of `files`, if it runs `kind` and its command does not show that it uses others.
fn recognise(kind: Kind, details: ContainerInspectResponse, files: Vec<Seen>) -> Option<Container> {
    let argv = arguments(&details);
    let program = kind.program();
    let runs = |word: &String| Path::new(word).file_name().is_some_and(|name| name == program);
    let image = details.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or_default();
    // A templater has the directory mounted too, and may well have the program in its image or arguments.
    let is_templater = argv.iter().any(|word| Path::new(word).file_name().is_some_and(|name| name == "templater"));
    if is_templater || !argv.iter().any(runs) && !image.contains(program) {
        return None;
    }
    let directory = directory(&details);
    let uses = match kind {
        Kind::HaProxy => {
            let configured = haproxy::configured(&argv, &directory);
            // A start script may hold the names; then the mount has to do.
            let uses = |file: &Path| configured.iter().any(|p| *p == file || file.parent() == Some(p));
            configured.is_empty() || files.iter().any(|file| uses(&file.inside))
        }
        // A part is included from some file that only nginx knows; the mount has to do.
        Kind::Nginx => true,
    };
    uses.then(|| container(kind, details, files))
}

fn container(kind: Kind, details: ContainerInspectResponse, files: Vec<Seen>) -> Container {
    let (argv, directory) = (arguments(&details), directory(&details));
    Container {
        id: details.id.unwrap_or_default(),
        name: details.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        kind,
        files,
        argv,
        directory,
    }
}

/// Program and arguments.
fn arguments(details: &ContainerInspectResponse) -> Vec<String> {
    let mut argv = vec![details.path.clone().unwrap_or_default()];
    argv.extend(details.args.clone().unwrap_or_default());
    argv
}

/// The working directory.
fn directory(details: &ContainerInspectResponse) -> PathBuf {
    let configured = details.config.as_ref().and_then(|config| config.working_dir.clone());
    configured.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".into()).into()
}

impl Container {
    /// The main file of the nginx in it.
    pub fn nginx_main(&self) -> PathBuf {
        nginx::started(&self.argv, &self.directory).main
    }

    /// `file` as the container sees it, and whether it is itself a mount.
    pub fn inside(&self, file: &Path) -> (PathBuf, bool) {
        let seen = self.files.iter().find(|seen| seen.ours == file);
        seen.map_or_else(|| (file.to_owned(), true), |seen| (seen.inside.clone(), seen.is_mount))
    }

    /// `path`, beside `file` on our side, as the container sees it.
    pub fn beside(&self, path: &Path, file: &Path) -> PathBuf {
        self.inside(file).0.with_file_name(path.file_name().unwrap_or_default())
    }

    /// The files in `directory` of the container, as far as it is the directory of one of ours.
    pub fn list<'a>(&self, directory: &Path, ours: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
        let mut here = ours.filter(|file| self.inside(file).0.parent() == Some(directory));
        let Some(file) = here.next() else { return Vec::new() };
        let all = process::list(file.parent().unwrap_or(Path::new("/")));
        all.iter().map(|path| self.beside(path, file)).collect()
    }
}

#[cfg(test)]
#[path = "container/tests.rs"]
mod tests;
