//! Puts texts where they belong: stage, check, swap, reload; in this order, and only as far as all goes well.
//!
//! Files that belong together are put together: all of them go live, or none. None is live for good unless its checker
//! took it. A reload that is owed stays owed over errors, crashes and restarts until it is made.

mod check;
pub(crate) mod journal;
mod load;
mod set;
mod spec;
mod staging;
pub(crate) mod versions;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use kvstore_client::with_causes;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    report::with_details,
    state::{State, StateError},
    target::{
        Kind,
        docker::Docker,
        readers::Readers,
        reloads::{Queue, Reloads},
    },
    temp::{TempFile, is_mount_point, remove_leftovers, restore, swap},
};
use journal::Before;
use load::Running;
use set::{Change, before, blocking, diff, failed, names, put_back, read_all, stage_all, stage_in, undo};
pub use spec::{FileSpec, OutputSpec, ReloadSpec, TargetSpec};

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
mod tests;
