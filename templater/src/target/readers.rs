//! The running instances of HAProxy or nginx that use a file: asked whether they would take a new one, and told to.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use kvstore_client::with_causes;

use super::{
    Kind,
    container::{Container, Docker, DockerError},
    haproxy, nginx,
    process::{self, Process},
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
    /// Looks for everybody who uses `file`, among processes and containers.
    pub async fn find(kind: Kind, file: &Path, docker: &Docker) -> Self {
        let path = file.to_owned();
        let scan = tokio::task::spawn_blocking(move || process::find(kind, &path));
        let (processes, containers) = tokio::join!(scan, docker.find(kind, file));
        let (containers, blind) = match containers {
            Ok(containers) => (containers, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self { kind, processes: processes.unwrap_or_default(), containers, blind }
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
        self.containers.iter().any(|c| c.file_is_mount)
    }

    /// Those found, for messages: `pid 12`, `container lb`.
    pub fn names(&self) -> String {
        let processes = self.processes.iter().map(|p| format!("pid {}", p.pid));
        let containers = self.containers.iter().map(|c| format!("container {}", c.name));
        processes.chain(containers).collect::<Vec<_>>().join(", ")
    }

    /// Asks every reader, or without any the program installed here, whether it takes `staged`. Each may take `limit`.
    pub async fn check(&self, staged: Staged<'_>, docker: &Docker, limit: Duration) -> Verdict {
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

    fn local_check(&self, program: &str, process: Option<&Process>, staged: Staged<'_>) -> LocalCheck {
        match self.kind {
            Kind::HaProxy => {
                let directory = process.map(|p| p.directory.clone());
                let argv = process.map_or(&[][..], |p| &p.argv);
                let configured = haproxy::configured(argv, directory.as_deref().unwrap_or(Path::new("/")));
                let configured = configured.into_iter().map(|p| as_ours(p, staged.destination)).collect::<Vec<_>>();
                let files = haproxy::with_staged(&configured, staged.destination, staged.path, haproxy_files);
                let words = haproxy::check_command(program, &files);
                LocalCheck { invocation: Invocation { words, directory }, alone: process.is_none(), _main: None }
            }
            Kind::Nginx => {
                let start = process.map(|p| nginx::started(&p.argv, &p.directory));
                let (main, temp, alone) = if nginx::is_main(staged.text) {
                    (staged.path.to_owned(), None, false)
                } else {
                    let known = start.as_ref().map_or_else(|| nginx::DEFAULT_MAIN.into(), |s| s.main.clone());
                    let (temp, alone) = temporary_main(&known, staged);
                    (temp.as_ref().map_or(staged.path, TempFile::path).to_owned(), temp, alone)
                };
                let words = nginx::check_command(program, &main, start.as_ref());
                LocalCheck { invocation: Invocation { words, directory: None }, alone, _main: temp }
            }
        }
    }

    async fn check_inside(
        &self,
        container: &Container,
        staged: Staged<'_>,
        docker: &Docker,
        limit: Duration,
    ) -> Verdict {
        let beside = staged.path.parent() == staged.destination.parent();
        let visible = beside && !container.file_is_mount;
        let inside = container.sibling(staged.path);
        let program = self.kind.program();
        let result = match self.kind {
            Kind::HaProxy => {
                let configured = haproxy::configured(&container.argv, &container.directory);
                let list = |_: &Path| {
                    let ours = haproxy_files(staged.destination.parent().unwrap_or(Path::new("/")));
                    ours.iter().map(|p| container.sibling(p)).collect()
                };
                let stdin = PathBuf::from("/dev/stdin");
                let path = if visible { &inside } else { &stdin };
                let files = haproxy::with_staged(&configured, &container.file, path, list);
                let input = (!visible).then_some(staged.text.as_bytes());
                docker.exec(container, &haproxy::check_command(program, &files), input, limit).await
            }
            Kind::Nginx => check_nginx_inside(container, staged, docker, visible.then_some(&inside), limit).await,
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
    pub async fn reload(&self, docker: &Docker) -> Result<(), String> {
        let mut failed = Vec::new();
        for process in &self.processes {
            failed.extend(process.reload().await.err().map(|e| with_causes(&e)));
        }
        for container in &self.containers {
            failed.extend(docker.reload(container).await.err().map(|e| with_causes(&e)));
        }
        if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
    }
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

/// A main file beside `known` (its relative names stay right there) that has the staged part in it; if `known` does not
/// include it or its directory cannot be written, one that includes nothing else, and true.
fn temporary_main(known: &Path, staged: Staged<'_>) -> (Option<TempFile>, bool) {
    let directory = known.parent().unwrap_or(Path::new("/"));
    let text = fs::read_to_string(known).unwrap_or_default();
    let whole = nginx::with_staged(&text, directory, staged.destination, staged.path, process::list);
    if let Some(temp) = whole.and_then(|text| TempFile::write(known, text.as_bytes()).ok()) {
        return (Some(temp), false);
    }
    let wrapper = nginx::wrapper(staged.path, staged.text);
    (TempFile::write(staged.path, wrapper.as_bytes()).ok(), true)
}

/// nginx reads its main file from a path only, so what is not visible inside is handed over through a shell.
async fn check_nginx_inside(
    container: &Container,
    staged: Staged<'_>,
    docker: &Docker,
    visible: Option<&PathBuf>,
    limit: Duration,
) -> Result<super::container::ExecResult, DockerError> {
    let main = container.nginx_main();
    let is_main = nginx::is_main(staged.text);
    if let (true, Some(path)) = (is_main, visible) {
        return docker.exec(container, &nginx::check_command("nginx", path, None), None, limit).await;
    }
    let text = match visible {
        None => staged.text.to_owned(),
        Some(inside) => {
            let read = docker.exec(container, &["cat".to_owned(), main.display().to_string()], None, limit).await?;
            let directory = main.parent().unwrap_or(Path::new("/"));
            let list = |_: &Path| {
                let ours = process::list(staged.destination.parent().unwrap_or(Path::new("/")));
                ours.iter().map(|p| container.sibling(p)).collect()
            };
            let whole = nginx::with_staged(&read.output, directory, &container.file, inside, list);
            whole.filter(|_| read.code == 0).unwrap_or_else(|| nginx::wrapper(inside, staged.text))
        }
    };
    let script = r#"cat > "$0" && nginx -t -q -c "$0"; code=$?; rm -f "$0"; exit $code"#;
    let path = main.with_file_name(".templater-check.conf");
    let words = ["sh", "-c", script, &path.display().to_string()].map(str::to_owned);
    docker.exec(container, &words, Some(text.as_bytes()), limit).await
}
