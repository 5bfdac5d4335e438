//! Puts texts where they belong: stage, check, swap, reload; in this order, and only as far as all goes well.
//!
//! Files that belong together are put together: all of them go live, or none. None is live for good unless its checker
//! took it. A reload that is owed stays owed over errors, crashes and restarts until it is made.

mod journal;
mod set;
mod spec;
mod staging;
pub(crate) mod versions;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use kvstore_client::with_causes;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    command::{self, Invocation},
    report::with_details,
    state::{State, StateError},
    target::{
        Kind,
        container::Docker,
        readers::{Readers, ReloadError, Staged, Verdict},
        reloads::{Queue, Reloads},
        runtime,
    },
    temp::{TempFile, is_mount_point, remove_leftovers, restore, swap},
};
use journal::Before;
use set::{Change, before, blocking, diff, failed, names, names_of, put_back, read_all, stage_all, stage_in, undo};
pub use spec::{FileSpec, OutputSpec, ReloadSpec, TargetSpec};
use staging::{StagingDir, common_directory};

/// A text, and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Where.
    pub file: FileSpec,
    /// The text.
    pub text: String,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The files have these bytes already, and their readers have loaded them.
    Same,
    /// The files have these bytes already; a reload that was owed is made.
    Reloaded,
    /// The files are live, and reloaded where there is something to reload.
    Written,
}

/// Why a put went only so far. The destinations are as they were unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The checker does not take them.
    #[error("{by} refused the new {files}; the old file stays in use")]
    Refused {
        /// Who was asked.
        by: String,
        /// The destinations.
        files: String,
        /// What it says.
        cause: String,
    },
    /// The system does not let us.
    #[error("{destination} cannot be written: {doing}")]
    Io {
        /// The destination.
        destination: PathBuf,
        /// Which step, on what.
        doing: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The lock or the record of the last reload.
    #[error(transparent)]
    State(#[from] StateError),
    /// The new files are live, and not everybody has loaded them. It stays owed.
    #[error("the new {files} is live, but the reload failed; it is tried again")]
    Reload {
        /// The destinations.
        files: String,
        /// What went wrong.
        cause: String,
    },
    /// The new files were live and were not loaded; those that were loaded last are back.
    #[error("the new {files} was not loaded; the version before is back in use, and the new one is tried again")]
    RolledBack {
        /// The destinations.
        files: String,
        /// What went wrong.
        cause: String,
    },
}

impl PutError {
    /// In full, with `hint` as what to try.
    pub fn report(&self, hint: &str) -> String {
        match self {
            Self::Refused { cause, .. } => with_details(&self.to_string(), cause, Some(hint)),
            Self::Reload { cause, .. } | Self::RolledBack { cause, .. } => with_details(&self.to_string(), cause, None),
            Self::Io { source, .. } => with_details(&self.to_string(), &source.to_string(), None),
            Self::State(error) => with_causes(error),
        }
    }
}

/// Destinations that belong together.
pub struct Output {
    spec: OutputSpec,
    docker: Arc<Docker>,
    reloads: Arc<Reloads>,
    /// The queue of the target that was reloaded last.
    queue: Option<Arc<Queue>>,
    /// Ends the wait for a reload's turn.
    hurry: CancellationToken,
    /// Whether somebody was told of the last text that went live.
    told: bool,
    /// Who has loaded what from us: only from there do commands lead to the new text.
    running: Option<Running>,
    /// By destination, symlinks resolved.
    states: BTreeMap<PathBuf, State>,
    warned: Warned,
}

/// What a target is known to run.
#[derive(PartialEq, Eq)]
struct Running {
    readers: String,
    text: String,
}

/// What was said once and is not said again.
#[derive(Default)]
struct Warned {
    in_place: bool,
    unchecked: bool,
    blind: bool,
}

impl Output {
    /// Touches nothing yet.
    pub fn new(spec: OutputSpec, docker: Arc<Docker>, reloads: Arc<Reloads>) -> Self {
        Self {
            spec,
            docker,
            reloads,
            queue: None,
            hurry: CancellationToken::new(),
            told: false,
            running: None,
            states: BTreeMap::new(),
            warned: Warned::default(),
        }
    }

    /// Locks the destinations, makes their directories if that is wanted, and clears what a crash left there.
    ///
    /// # Errors
    /// [`PutError::State`] or [`PutError::Io`]; may be called again.
    pub fn prepare<'a>(&mut self, files: impl IntoIterator<Item = &'a FileSpec>) -> Result<(), PutError> {
        let files: Vec<FileSpec> = files.into_iter().map(resolved).collect();
        self.prepare_resolved(files.iter())
    }

    fn prepare_resolved<'a>(&mut self, files: impl Iterator<Item = &'a FileSpec> + Clone) -> Result<(), PutError> {
        files.clone().try_for_each(|file| self.lock(file))?;
        match files.map(|file| &self.states[&file.destination]).next() {
            Some(first) => repair(&journal_of(first)),
            None => Ok(()),
        }
    }

    fn lock(&mut self, file: &FileSpec) -> Result<(), PutError> {
        let destination = &*file.destination;
        if self.states.contains_key(destination) {
            return Ok(());
        }
        let directory = destination.parent().unwrap_or(Path::new("/"));
        if !directory.is_dir() {
            if !file.create_dirs {
                let source = io::Error::from(io::ErrorKind::NotFound);
                let doing = format!("there is no directory {}; make it, or set create_dirs", directory.display());
                return Err(failed(destination, doing, source));
            }
            fs::create_dir_all(directory)
                .map_err(|e| failed(destination, format!("make {}", directory.display()), e))?;
        }
        let state = match State::open(destination, self.spec.state_dir.as_deref()) {
            // A mounted file may lie in a directory that is not ours to write.
            Err(StateError::Io { .. }) if is_mount_point(destination) => {
                State::open(destination, Some(&std::env::temp_dir()))
            }
            other => other,
        };
        self.states.insert(destination.to_owned(), state?);
        remove_leftovers(destination);
        Ok(())
    }

    /// Makes the texts of `rendered` the content of their destinations and has them loaded.
    ///
    /// # Errors
    /// [`PutError`], which says how far it went; the same call may be made again.
    pub async fn put(&mut self, rendered: Vec<Rendered>) -> Result<Put, PutError> {
        self.put_and_remove(rendered, Vec::new()).await
    }

    /// The same; the files `gone`, which must be ours, go in the same step.
    ///
    /// # Errors
    /// As [`Output::put`].
    pub async fn put_and_remove(&mut self, rendered: Vec<Rendered>, gone: Vec<FileSpec>) -> Result<Put, PutError> {
        let rendered: Vec<_> = rendered.into_iter().map(|r| Rendered { file: resolved(&r.file), ..r }).collect();
        let gone: Vec<_> = gone.iter().map(resolved).collect();
        self.prepare_resolved(rendered.iter().map(|r| &r.file).chain(&gone))?;
        let mut set = read_all(rendered)?;
        let removals = gone.into_iter().map(|file| Rendered { file, text: String::new() });
        set.extend(read_all(removals)?.into_iter().map(|change| Change { gone: true, ..change }));
        if !set.iter().any(Change::differs) {
            if !set.iter().any(|change| self.states[change.destination()].owes_reload(change.text.as_bytes())) {
                return Ok(Put::Same);
            }
            info!("a reload is owed from before");
            let readers = self.find_readers(&set).await;
            let told = self.load(&set, readers.as_ref()).await?;
            info!("{told}");
            return Ok(Put::Reloaded);
        }
        self.before_swap(&set)?;
        let (staged, readers) = tokio::join!(stage_all(&set), self.find_readers(&set));
        let (staged, readers) = (staged?, readers.as_ref());
        let started = Instant::now();
        let checks_live = self.checks_live();
        if !checks_live {
            self.check(&set, &staged, readers).await?;
        }
        let in_place = readers.is_some_and(Readers::need_the_same_inode);
        let several = staged.len() > 1 || set.iter().any(|change| change.gone);
        let journal = (checks_live || several).then(|| journal_of(&self.states[set[0].destination()]));
        self.swap(&set, staged, journal.as_deref(), in_place).await?;
        if checks_live && let Err(error) = self.check(&set, &Vec::new(), readers).await {
            undo(&set, in_place, journal.as_deref())?;
            return Err(error);
        }
        if let Some(journal) = &journal {
            journal::remove(journal).map_err(|e| failed(journal, "remove it".into(), e))?;
        }
        let (check, started) = (started.elapsed(), Instant::now());
        let told = self.load(&set, readers).await?;
        info!(?check, reload = ?started.elapsed(), "the new {} live; {told}", if set.len() == 1 { "file is" } else { "files are" });
        Ok(Put::Written)
    }

    /// All of [`Output::put`] that changes nothing: the differences to the live files as a unified diff, empty if there
    /// are none, once the checker took the new ones.
    ///
    /// # Errors
    /// [`PutError::Refused`] or [`PutError::Io`].
    pub async fn preview(&mut self, rendered: Vec<Rendered>) -> Result<String, PutError> {
        let set = read_all(rendered.into_iter().map(|r| Rendered { file: resolved(&r.file), ..r }))?;
        let staged = match stage_all(&set).await {
            Ok(staged) => staged,
            // Nothing is put there, so any place will do.
            Err(_) => stage_in(&set, Some(&std::env::temp_dir())).await?,
        };
        let readers = self.find_readers(&set).await;
        if self.checks_live() {
            info!("check_cmd looks at the live files, so it is not run");
        } else {
            self.check(&set, &staged, readers.as_ref()).await?;
        }
        Ok(set.iter().map(diff).collect())
    }

    /// Who reads the destinations, if their program is known; without looking if commands are configured for all.
    async fn find_readers(&self, set: &[Change]) -> Option<Readers> {
        let kind = match self.spec.target {
            TargetSpec::Unknown => return None,
            TargetSpec::Known(kind) => kind,
            TargetSpec::Auto => set.iter().find_map(|change| Kind::recognise(change.destination(), &change.text))?,
        };
        if self.spec.check_cmd.is_some() && self.spec.reload.is_some() {
            return None;
        }
        let files: Vec<_> = set.iter().map(|change| change.destination().to_owned()).collect();
        Some(match &self.spec.container {
            Some(name) => Readers::in_container(kind, name, &files, &self.docker).await,
            None => Readers::find(kind, files, &self.docker).await,
        })
    }

    /// Whether the check command can look at the live files only.
    fn checks_live(&self) -> bool {
        self.spec.check_cmd.as_ref().is_some_and(|check| !check.mentions("{src}") && !check.mentions("{stage}"))
    }

    /// Whether the check command looks at a copy of the whole directory.
    fn stages(&self) -> bool {
        self.spec.check_cmd.as_ref().is_some_and(|check| check.mentions("{stage}"))
    }

    async fn check(
        &mut self,
        set: &[Change],
        staged: &[(usize, TempFile)],
        readers: Option<&Readers>,
    ) -> Result<(), PutError> {
        let files = names_of(set);
        let refused = |by: String, cause: String| PutError::Refused { by, files, cause };
        if staged.is_empty() && !self.checks_live() && !self.stages() {
            return Ok(()); // files only go; nothing new is there to be looked at
        }
        if self.spec.check_cmd.is_some() {
            return self.run_check(set, staged).await.map_err(|cause| refused("check_cmd".into(), cause));
        }
        let Some(readers) = readers else { return Ok(()) };
        let asked = staged.iter().map(|(at, temp)| Staged {
            path: temp.path(),
            text: &set[*at].text,
            destination: set[*at].destination(),
        });
        match readers.check(&asked.collect::<Vec<_>>(), &self.docker, self.spec.command_timeout).await {
            Verdict::Accepted => Ok(()),
            Verdict::Refused(cause) => Err(refused(readers.kind().to_string(), cause)),
            Verdict::Unchecked(why) => {
                if !std::mem::replace(&mut self.warned.unchecked, true) {
                    warn!("the file cannot be checked: {why}");
                }
                Ok(())
            }
        }
    }

    /// What is wrong, if the check command does not succeed.
    async fn run_check(&self, set: &[Change], staged: &[(usize, TempFile)]) -> Result<(), String> {
        let Some(check) = &self.spec.check_cmd else { return Ok(()) };
        let staging = if self.stages() {
            let text = |change: &Change| (!change.gone).then(|| change.text.clone());
            let files: Vec<_> = set.iter().map(|c| (c.destination().to_owned(), text(c))).collect();
            let common = || common_directory(set.iter().map(Change::destination));
            let directory = self.spec.stage_dir.clone().unwrap_or_else(common);
            let made = blocking(move || StagingDir::make(&directory, &files)).await;
            Some(made.map_err(|e| format!("the copy for {{stage}} cannot be made: {e}"))?)
        } else {
            None
        };
        // Both name one file: a command for several that names {src} or {dst} is no configuration.
        let live = set[0].destination();
        let src = staged.first().map_or(live, |(_, temp)| temp.path());
        let stage = staging.as_ref().map_or(live, StagingDir::path);
        let invocation = check.expand(&[("{src}", src), ("{dst}", live), ("{stage}", stage)]);
        match command::run(&invocation, self.spec.command_timeout).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{}\n{}", with_causes(&error), error.output())),
        }
    }

    /// Notes that reloads are owed from now on, and keeps what was there before us.
    fn before_swap(&mut self, set: &[Change]) -> Result<(), PutError> {
        for change in set.iter().filter(|change| change.differs()) {
            let state = self.states.get_mut(change.destination()).expect("prepare() comes first");
            if let Some(before) = change.before.as_ref().filter(|_| state.is_new()) {
                keep_version(state, before, self.spec.keep_versions);
            }
            state.before_swap(change.before.as_deref())?;
        }
        Ok(())
    }

    /// Renames what is staged into place; undoes all of it if one cannot be.
    async fn swap(
        &mut self,
        set: &[Change],
        staged: Vec<(usize, TempFile)>,
        journal: Option<&Path>,
        in_place: bool,
    ) -> Result<(), PutError> {
        if let Some(journal) = journal {
            let befores: Vec<Before> = set.iter().filter(|c| c.differs()).map(before).collect();
            journal::write(journal, &befores)
                .map_err(|e| failed(set[0].destination(), format!("write {}", journal.display()), e))?;
        }
        for (at, temp) in staged {
            let (path, text) = (set[at].destination().to_owned(), set[at].text.clone());
            match blocking(move || swap(temp, text.as_bytes(), &path, in_place)).await {
                Ok(true) => {}
                Ok(false) => {
                    if !std::mem::replace(&mut self.warned.in_place, true) {
                        warn!(
                            "the file itself is mounted, so it is written in place: a reader may see half of it. Mount its directory instead"
                        );
                    }
                }
                Err(error) => {
                    undo(set, in_place, journal)?;
                    return Err(failed(set[at].destination(), "put it in place".into(), error));
                }
            }
        }
        for change in set.iter().filter(|change| change.gone) {
            if let Err(error) = restore(change.destination(), None, in_place) {
                undo(set, in_place, journal)?;
                return Err(failed(change.destination(), "remove it".into(), error));
            }
        }
        Ok(())
    }

    /// Has the live files loaded, or puts the last good ones back; gives what was done, in words.
    async fn load(&mut self, set: &[Change], readers: Option<&Readers>) -> Result<String, PutError> {
        self.told = true;
        let told = match self.command(set, readers).await {
            Some(told) => Ok(told),
            None => self.reload(set, readers).await,
        };
        self.running = None;
        let error = match told {
            Ok(told) => {
                if let ([change], Some(readers)) = (set, readers) {
                    self.running = Some(Running { readers: readers.names(), text: change.text.clone() });
                }
                let there = set.iter().filter(|change| !change.gone);
                self.loaded(there.map(|change| (change.destination(), change.text.as_bytes())));
                for change in set.iter().filter(|change| change.gone) {
                    if let Some(state) = self.states.remove(change.destination()) {
                        state.forget();
                    }
                }
                return Ok(told);
            }
            Err(error) => error,
        };
        let files = names_of(set);
        let versions = |change: &Change| versions::newest(self.states[change.destination()].path());
        let good: Option<Vec<Vec<u8>>> = set.iter().map(versions).collect();
        let good = good.filter(|good| set.iter().zip(good).any(|(change, good)| change.text.as_bytes() != good));
        let (true, Some(good)) = (self.spec.rollback.unwrap_or(error.rejected), good) else {
            return Err(PutError::Reload { files, cause: error.cause });
        };
        let in_place = readers.is_some_and(Readers::need_the_same_inode);
        for (change, good) in set.iter().zip(&good) {
            let before = Before { destination: change.destination().to_owned(), content: Some(good.clone()) };
            put_back(&before, in_place)?;
        }
        let mut cause = error.cause;
        match self.reload(set, readers).await {
            Ok(_) => self.loaded(set.iter().zip(&good).map(|(change, good)| (change.destination(), &good[..]))),
            Err(error) => cause = format!("{cause}\nthe version before was not loaded either: {}", error.cause),
        }
        Err(PutError::RolledBack { files, cause })
    }

    /// Whether somebody was told of the last text that went live.
    pub fn has_told(&self) -> bool {
        self.told
    }

    /// Once `stop` says so, a reload does not wait for its turn: better too soon than owed.
    pub fn hurry_at(&mut self, stop: CancellationToken) {
        self.hurry = stop;
    }

    /// When the target may be reloaded next; `None` if that is at any time.
    pub fn ready(&self) -> Option<Instant> {
        self.queue.as_ref()?.ready(self.spec.min_reload_interval).map(Into::into)
    }

    /// Tells a running HAProxy what has changed, if it can be told; gives what was done, in words.
    async fn command(&self, set: &[Change], readers: Option<&Readers>) -> Option<String> {
        let ([change], None, Some(readers), Some(running)) = (set, &self.spec.reload, readers, &self.running) else {
            return None;
        };
        if change.gone
            || running.readers != readers.names()
            || change.before.as_deref() != Some(running.text.as_bytes())
        {
            return None;
        }
        let configured = self.spec.runtime_socket.as_ref();
        let socket = readers.runtime_socket(change.destination(), &change.text, configured)?;
        let commands = runtime::commands(&running.text, &change.text)?;
        match runtime::apply(&socket, &commands).await {
            Ok(()) => {
                let servers = runtime::servers(&commands);
                Some(format!("HAProxy was told of {servers} servers, without a reload ({})", readers.names()))
            }
            Err(error) => {
                info!("HAProxy is reloaded, for it does not take commands: {error}");
                None
            }
        }
    }

    async fn reload(&mut self, set: &[Change], readers: Option<&Readers>) -> Result<String, ReloadError> {
        let live = set[0].destination();
        let (target, reload): (String, Step<'_>) = match (&self.spec.reload, readers) {
            (Some(ReloadSpec::Command(command)), _) => {
                let invocation = command.expand(&[("{src}", live), ("{dst}", live)]);
                let target = invocation.to_string();
                (
                    target,
                    Box::pin(run_reload(invocation, self.spec.command_timeout, "the reload command has run".into())),
                )
            }
            (Some(ReloadSpec::Unit(unit)), _) => {
                let words = ["systemctl", "reload", unit].map(str::to_owned).to_vec();
                let invocation = Invocation { words, directory: None };
                let told = format!("systemd has reloaded {unit}");
                (format!("unit {unit}"), Box::pin(run_reload(invocation, self.spec.command_timeout, told)))
            }
            (Some(ReloadSpec::Signal(signal)), _) => (signal.whom.to_string(), Box::pin(signal.send(&self.docker))),
            (None, Some(readers)) if readers.is_empty() => return Ok(self.nobody(readers)),
            (None, Some(readers)) => {
                let target = format!("{} {}", readers.kind(), readers.names());
                (
                    target,
                    Box::pin(async {
                        readers.reload(&self.docker).await?;
                        Ok(format!("{} has reloaded it ({})", readers.kind(), readers.names()))
                    }),
                )
            }
            (None, None) => {
                self.told = false;
                return Ok("nobody is to be told".to_owned());
            }
        };
        let (queue, hurry) = (self.reloads.of(&target), self.hurry.clone());
        let result = queue.ask(self.spec.min_reload_interval, &hurry, reload).await;
        self.queue = Some(queue);
        result
    }

    /// That there is nobody to reload, in words.
    fn nobody(&mut self, readers: &Readers) -> String {
        self.told = false;
        if let Some(blind) = readers.blind()
            && !std::mem::replace(&mut self.warned.blind, true)
        {
            warn!("what runs in containers cannot be looked at: {blind}");
        }
        match &self.spec.container {
            Some(name) => format!("container {name} does not run; nothing to reload"),
            None => format!("no running {} uses this file; nothing to reload", readers.kind()),
        }
    }

    /// Remembers that `files` are loaded.
    fn loaded<'a>(&mut self, files: impl Iterator<Item = (&'a Path, &'a [u8])>) {
        for (destination, content) in files {
            let state = self.states.get_mut(destination).expect("prepare() comes first");
            keep_version(state, content, self.spec.keep_versions);
            if let Err(error) = state.reloaded(content) {
                warn!("{}; the next start reloads once more than needed", with_causes(&error));
            }
        }
    }
}

fn keep_version(state: &State, content: &[u8], count: usize) {
    if let Err(error) = versions::keep(state.path(), content, count) {
        warn!("this version is not kept beside {}: {error}", state.path().display());
    }
}

fn journal_of(state: &State) -> PathBuf {
    let mut path = state.path().as_os_str().to_owned();
    path.push(".undo");
    path.into()
}

/// Undoes a swap that was cut short before it was known to be good.
fn repair(journal: &Path) -> Result<(), PutError> {
    let failed = |doing: &str, source| failed(journal, doing.to_owned(), source);
    let Some(befores) = journal::read(journal).map_err(|e| failed("read what a crash left; remove it", e))? else {
        return Ok(());
    };
    for before in &befores {
        put_back(before, false)?;
    }
    journal::remove(journal).map_err(|e| failed("remove it", e))?;
    warn!("a swap was cut short, so the files before it are back: {}", names(befores.iter().map(|b| &*b.destination)));
    Ok(())
}

/// A reload that waits for its turn.
type Step<'a> = Pin<Box<dyn Future<Output = Result<String, ReloadError>> + Send + 'a>>;

async fn run_reload(invocation: Invocation, limit: Duration, told: String) -> Result<String, ReloadError> {
    match command::run(&invocation, limit).await {
        Ok(_) => Ok(told),
        Err(e) => Err(ReloadError { cause: format!("{}\n{}", with_causes(&e), e.output()), rejected: false }),
    }
}

fn resolved(file: &FileSpec) -> FileSpec {
    FileSpec { destination: resolve(&file.destination), ..file.clone() }
}

/// Where a symlink leads, so that the link stays a link; else `path` itself.
fn resolve(path: &Path) -> PathBuf {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_symlink() => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
#[path = "output/tests.rs"]
mod tests;
