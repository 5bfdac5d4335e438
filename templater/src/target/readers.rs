//! The running instances of HAProxy or nginx that use a file: asked whether they would take a new one, and told to.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use kvstore_client::with_causes;

use super::{
    Kind,
    container::Container,
    docker::{Docker, DockerError, ExecResult},
    haproxy, nginx,
    process::{self, Process, SignalError},
    runtime::{self, Socket},
};
use crate::{
    command::{self, CommandError, Invocation},
    temp::TempFile,
};

/// Everybody known to use a file.
#[derive(Debug)]
pub struct Readers {
    kind: Kind,
    processes: Vec<Process>,
    containers: Vec<Container>,
    /// Why containers could not be looked at.
    blind: Option<DockerError>,
}

/// What is asked about: a staged file that is to become `destination`.
#[derive(Clone, Copy, Debug)]
pub struct Staged<'a> {
    /// Where it is, beside the destination unless that has no directory yet.
    pub path: &'a Path,
    /// What it holds.
    pub text: &'a str,
    /// What it will be.
    pub destination: &'a Path,
}

/// The answer of those asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All take it.
    Accepted,
    /// One does not; what it says.
    Refused(String),
    /// Nobody could be asked; why.
    Unchecked(String),
}

impl Readers {
    /// Looks for everybody who uses any of `files`, among processes and containers.
    pub async fn find(kind: Kind, files: Vec<PathBuf>, docker: &Docker) -> Self {
        let paths = files.clone();
        let scan = tokio::task::spawn_blocking(move || process::find(kind, &paths));
        let (processes, containers) = tokio::join!(scan, Box::pin(docker.find(kind, &files)));
        let (containers, blind) = match containers {
            Ok(containers) => (containers, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self { kind, processes: processes.unwrap_or_default(), containers, blind }
    }

    /// Whoever runs in the container of this name, and nobody else.
    pub async fn in_container(kind: Kind, name: &str, files: &[PathBuf], docker: &Docker) -> Self {
        // What Docker tells of a container is large.
        let (containers, blind) = match Box::pin(docker.named(name, kind, files)).await {
            Ok(found) => (found.into_iter().collect(), None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self { kind, processes: Vec::new(), containers, blind }
    }

    /// What they are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether nobody was found.
    pub fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.containers.is_empty()
    }

    /// Why containers could not be looked at, if they could not.
    pub fn blind(&self) -> Option<String> {
        self.blind.as_ref().map(|error| with_causes(error))
    }

    /// Whether a container has the file itself mounted, and so would never see one renamed over it.
    pub fn need_the_same_inode(&self) -> bool {
        self.containers.iter().any(|c| c.files.iter().any(|file| file.is_mount))
    }

    /// Those found, for messages: `pid 12`, `container lb`.
    pub fn names(&self) -> String {
        let processes = self.processes.iter().map(|p| format!("pid {}", p.pid));
        let containers = self.containers.iter().map(|c| format!("container {}", c.name));
        processes.chain(containers).collect::<Vec<_>>().join(", ")
    }

    /// Where the only reader listens for commands, if `text` of `file` says so or `configured` does.
    pub fn runtime_socket(&self, file: &Path, text: &str, configured: Option<&Socket>) -> Option<Socket> {
        if self.kind != Kind::HaProxy || self.processes.len() + self.containers.len() != 1 {
            return None;
        }
        if let Some(socket) = configured {
            return Some(socket.clone());
        }
        let path = runtime::admin_socket(text)?;
        match self.containers.first() {
            None => Some(Socket::Path(path.to_owned())),
            Some(container) => {
                // Seen from here only if it lies beside the file.
                let (inside, is_mount) = container.inside(file);
                let beside = !is_mount && inside.parent() == path.parent();
                beside.then(|| Socket::Path(file.with_file_name(path.file_name().unwrap_or_default())))
            }
        }
    }

    /// Asks every reader, or without any the program installed here, whether it takes all of `staged`. Each may take
    /// `limit`.
    pub async fn check(&self, staged: &[Staged<'_>], docker: &Docker, limit: Duration) -> Verdict {
        for container in &self.containers {
            let verdict = self.check_inside(container, staged, docker, limit).await;
            if verdict != Verdict::Accepted {
                return verdict;
            }
        }
        if !self.containers.is_empty() && self.processes.is_empty() {
            return Verdict::Accepted;
        }
        let Some(program) = self.local_program() else {
            return Verdict::Unchecked(self.nobody_to_ask());
        };
        for process in self.processes.iter().map(Some).chain(self.processes.is_empty().then_some(None)) {
            let program = process.map_or(&program, |p| &p.program);
            let check = self.local_check(program, process, staged);
            let verdict = match command::run(&check.invocation, limit).await {
                Ok(_) => Verdict::Accepted,
                // HAProxy: "has no error but will not start (no listener)", which a part of a configuration may lack.
                Err(CommandError::Failed { status, .. }) if check.alone && status.code() == Some(2) => {
                    Verdict::Accepted
                }
                Err(CommandError::Failed { output, .. }) if check.alone => Verdict::Refused(format!(
                    "{}\n(checked alone, for nothing that runs here is known to use it; check_cmd can say better how)",
                    self.complaints(&output)
                )),
                Err(CommandError::Failed { output, .. }) => Verdict::Refused(self.complaints(&output)),
                Err(error) => Verdict::Refused(with_causes(&error)),
            };
            if verdict != Verdict::Accepted {
                return verdict;
            }
        }
        Verdict::Accepted
    }

    fn local_program(&self) -> Option<String> {
        let running = self.processes.first().map(|p| p.program.clone());
        running.or_else(|| process::which(self.kind.program()).map(|p| p.display().to_string()))
    }

    fn nobody_to_ask(&self) -> String {
        let (kind, program) = (self.kind, self.kind.program());
        let mut why = format!("there is no {program} program here and no running {kind} uses the file");
        if let Some(blind) = self.blind() {
            why = format!("there is no {program} program here, and containers cannot be looked at: {blind}");
        }
        why
    }

    fn local_check(&self, program: &str, process: Option<&Process>, staged: &[Staged<'_>]) -> LocalCheck {
        match self.kind {
            Kind::HaProxy => {
                let directory = process.map(|p| p.directory.clone());
                let argv = process.map_or(&[][..], |p| &p.argv);
                let configured = haproxy::configured(argv, directory.as_deref().unwrap_or(Path::new("/")));
                let ours = |path| staged.iter().fold(path, |path, staged| as_ours(path, staged.destination));
                let configured = configured.into_iter().map(ours).collect::<Vec<_>>();
                let replaced: Vec<_> = staged.iter().map(|s| (s.destination, s.path)).collect();
                let files = haproxy::with_staged(&configured, &replaced, haproxy_files);
                let words = haproxy::check_command(program, &files);
                LocalCheck { invocation: Invocation { words, directory }, alone: process.is_none(), _main: None }
            }
            Kind::Nginx => {
                let start = process.map(|p| nginx::started(&p.argv, &p.directory));
                let known = start.as_ref().map_or_else(|| nginx::DEFAULT_MAIN.into(), |s| s.main.clone());
                let (main, temp, alone) = main_file(&known, staged);
                let words = nginx::check_command(program, &main, start.as_ref());
                LocalCheck { invocation: Invocation { words, directory: None }, alone, _main: temp }
            }
        }
    }

    async fn check_inside(
        &self,
        container: &Container,
        staged: &[Staged<'_>],
        docker: &Docker,
        limit: Duration,
    ) -> Verdict {
        let program = self.kind.program();
        let result = match self.kind {
            Kind::HaProxy => {
                let [first, ..] = staged else { return Verdict::Accepted };
                let configured = haproxy::configured(&container.argv, &container.directory);
                let list = |_: &Path| {
                    let ours = haproxy_files(first.destination.parent().unwrap_or(Path::new("/")));
                    ours.iter().map(|p| container.beside(p, first.destination)).collect()
                };
                let inside: Vec<_> = staged.iter().map(|s| Inside::of(container, *s)).collect();
                // One file can be handed over by its text; HAProxy has one standard input.
                let stdin = PathBuf::from("/dev/stdin");
                let input = inside.iter().find(|i| i.staged.is_none()).map(|i| i.text.as_bytes());
                let replaced: Vec<_> =
                    inside.iter().map(|i| (&*i.file, i.staged.as_deref().unwrap_or(&stdin))).collect();
                let files = haproxy::with_staged(&configured, &replaced, list);
                docker.exec(container, &haproxy::check_command(program, &files), input, limit).await
            }
            Kind::Nginx => check_nginx_inside(container, staged, docker, limit).await,
        };
        match result {
            Ok(result) if result.code == 0 => Verdict::Accepted,
            // What a shell or Docker itself says when there is no such program.
            Ok(result) if matches!(result.code, 126 | 127) => Verdict::Unchecked(format!(
                "container {} cannot run the check: {}",
                container.name,
                result.output.trim()
            )),
            Ok(result) => Verdict::Refused(self.complaints(&result.output)),
            Err(error) => Verdict::Refused(with_causes(&error)),
        }
    }

    fn complaints(&self, output: &str) -> String {
        match self.kind {
            Kind::HaProxy => haproxy::complaints(output),
            Kind::Nginx => nginx::complaints(output),
        }
    }

    /// Reloads every reader and waits until each has taken the file.
    ///
    /// # Errors
    /// What each of those says that did not; the others have reloaded.
    pub async fn reload(&self, docker: &Docker) -> Result<(), ReloadError> {
        let (mut causes, mut rejected) = (Vec::new(), false);
        for process in &self.processes {
            if let Err(error) = process.reload().await {
                rejected |= matches!(error, SignalError::Unconfirmed { .. });
                causes.push(with_causes(&error));
            }
        }
        for container in &self.containers {
            if let Err(error) = docker.reload(container).await {
                rejected |= matches!(error, DockerError::Unconfirmed { .. });
                causes.push(with_causes(&error));
            }
        }
        if causes.is_empty() { Ok(()) } else { Err(ReloadError { cause: causes.join("\n"), rejected }) }
    }
}

/// Why a reload did not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError {
    /// In words.
    pub cause: String,
    /// Somebody was told to load the files and did not.
    pub rejected: bool,
}

/// A check by the program here.
struct LocalCheck {
    invocation: Invocation,
    /// Without the files that it will be used with.
    alone: bool,
    /// What must exist until the check has ended.
    _main: Option<TempFile>,
}

/// `path`, or `destination` itself if both lead to the same file.
fn as_ours(path: PathBuf, destination: &Path) -> PathBuf {
    if process::same_file(&path, destination) {
        return destination.to_owned();
    }
    match destination.parent() {
        Some(directory) if process::same_file(&path, directory) => directory.to_owned(),
        _ => path,
    }
}

fn haproxy_files(directory: &Path) -> Vec<PathBuf> {
    let visible = |p: &PathBuf| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".cfg") && !name.starts_with('.')
    };
    process::list(directory).into_iter().filter(visible).collect()
}

/// The main file to check `staged` by: a staged one, or one beside `known` (its relative names stay right there) that has
/// the staged parts in it; if `known` does not include them or its directory cannot be written, one that includes
/// nothing else, and true.
fn main_file(known: &Path, staged: &[Staged<'_>]) -> (PathBuf, Option<TempFile>, bool) {
    let own = staged.iter().find(|s| nginx::is_main(s.text));
    if let (Some(main), 1) = (own, staged.len()) {
        return (main.path.to_owned(), None, false);
    }
    let place = own.map_or(known, |main| main.destination);
    let text = own.map_or_else(|| fs::read_to_string(known).unwrap_or_default(), |main| main.text.to_owned());
    let parts: Vec<_> = staged.iter().filter(|s| !nginx::is_main(s.text)).map(|s| (s.destination, s.path)).collect();
    let directory = place.parent().unwrap_or(Path::new("/"));
    let whole = nginx::with_staged(&text, directory, &parts, process::list);
    if let Some(temp) = whole.and_then(|text| TempFile::write(place, text.as_bytes()).ok()) {
        return (temp.path().to_owned(), Some(temp), false);
    }
    let (first, texts) = (&staged[0], staged.iter().map(|s| s.text).collect::<Vec<_>>());
    let wrapper = nginx::wrapper(&parts.iter().map(|(_, path)| *path).collect::<Vec<_>>(), &texts.concat());
    let temp = TempFile::write(first.path, wrapper.as_bytes()).ok();
    (temp.as_ref().map_or(first.path, TempFile::path).to_owned(), temp, true)
}

/// A staged file as a container sees it.
struct Inside<'a> {
    text: &'a str,
    /// Its destination.
    file: PathBuf,
    /// Where it is staged, if that can be seen inside.
    staged: Option<PathBuf>,
}

impl<'a> Inside<'a> {
    fn of(container: &Container, staged: Staged<'a>) -> Self {
        let beside = staged.path.parent() == staged.destination.parent();
        let (file, is_mount) = container.inside(staged.destination);
        let visible = beside && !is_mount;
        let path = visible.then(|| container.beside(staged.path, staged.destination));
        Self { text: staged.text, file, staged: path }
    }
}

/// nginx reads its main file from a path only, so what is not visible inside is handed over through a shell.
async fn check_nginx_inside(
    container: &Container,
    staged: &[Staged<'_>],
    docker: &Docker,
    limit: Duration,
) -> Result<ExecResult, DockerError> {
    let inside: Vec<_> = staged.iter().map(|s| Inside::of(container, *s)).collect();
    let own = inside.iter().find(|i| nginx::is_main(i.text));
    if let ([_], Some(path)) = (&inside[..], own.and_then(|main| main.staged.as_ref())) {
        return docker.exec(container, &nginx::check_command("nginx", path, None), None, limit).await;
    }
    let main = own.map_or_else(|| container.nginx_main(), |main| main.file.clone());
    let text = match (own, &inside[..]) {
        (None, [alone]) if alone.staged.is_none() => alone.text.to_owned(),
        (Some(own), [_]) => own.text.to_owned(),
        _ => {
            let read = if let Some(own) = own {
                Some(own.text.to_owned())
            } else {
                let cat = ["cat".to_owned(), main.display().to_string()];
                let read = docker.exec(container, &cat, None, limit).await?;
                (read.code == 0).then_some(read.output)
            };
            let parts: Vec<_> = inside.iter().filter(|i| !nginx::is_main(i.text)).collect();
            let parts: Vec<_> = parts.iter().map(|i| (&*i.file, i.staged.as_deref().unwrap_or(&i.file))).collect();
            let directory = main.parent().unwrap_or(Path::new("/"));
            let list = |folder: &Path| container.list(folder, staged.iter().map(|s| s.destination));
            let whole = read.and_then(|text| nginx::with_staged(&text, directory, &parts, list));
            whole.unwrap_or_else(|| {
                let texts: Vec<_> = inside.iter().map(|i| i.text).collect();
                nginx::wrapper(&parts.iter().map(|(_, path)| *path).collect::<Vec<_>>(), &texts.concat())
            })
        }
    };
    let script = r#"cat > "$0" && nginx -t -q -c "$0"; code=$?; rm -f "$0"; exit $code"#;
    let path = main.with_file_name(".templater-check.conf");
    let words = ["sh", "-c", script, &path.display().to_string()].map(str::to_owned);
    docker.exec(container, &words, Some(text.as_bytes()), limit).await
}
