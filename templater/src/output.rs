//! Puts a text where it belongs: stage, check, swap, reload; in this order, and only as far as all goes well.
//!
//! A file is never live unless its checker took it. A reload that is owed stays owed over errors, crashes and restarts
//! until it is made.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use kvstore_client::with_causes;
use tracing::{info, warn};

use crate::{
    command::{self, CommandLine},
    report::with_details,
    state::{State, StateError},
    target::{
        Kind,
        container::Docker,
        readers::{Readers, Staged, Verdict},
    },
    temp::{TempFile, is_mount_point, remove_leftovers, swap},
};

/// Where a text goes, and what is done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputSpec {
    /// The file; absolute.
    pub destination: PathBuf,
    /// Its mode; without it that of the file it replaces, else 0644.
    pub mode: Option<u32>,
    /// Its owner and group; without them those of the file it replaces.
    pub owner: (Option<u32>, Option<u32>),
    /// Make the directory if it is not there.
    pub create_dirs: bool,
    /// Who reads it.
    pub target: TargetSpec,
    /// Must succeed before the file goes live; in place of what is known of the target.
    pub check_cmd: Option<CommandLine>,
    /// Run after the file went live; in place of what is known of the target.
    pub reload_cmd: Option<CommandLine>,
    /// How long each command may take.
    pub command_timeout: Duration,
    /// Where the state is kept instead of beside the file.
    pub state_dir: Option<PathBuf>,
}

/// Who reads a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetSpec {
    /// Recognise it by the file's name or text.
    #[default]
    Auto,
    /// This program.
    Known(Kind),
    /// Nobody that needs telling.
    None,
}

/// What a put did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The file has these bytes already, and its readers have loaded them.
    Same,
    /// The file has these bytes already; a reload that was owed is made.
    Reloaded,
    /// The file is live, and reloaded where there is something to reload.
    Written,
}

/// Why a put went only so far. The destination is untouched unless a variant says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The checker does not take it.
    #[error("{by} refused the new {destination}; the old file stays in use")]
    Refused {
        /// Who was asked.
        by: String,
        /// The destination.
        destination: PathBuf,
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
    /// The new file is live, and not everybody has loaded it. It stays owed.
    #[error("the new {destination} is live, but the reload failed; it is tried again")]
    Reload {
        /// The destination.
        destination: PathBuf,
        /// What went wrong.
        cause: String,
    },
}

impl PutError {
    /// In full, with `hint` as what to try.
    pub fn report(&self, hint: &str) -> String {
        match self {
            Self::Refused { cause, .. } => with_details(&self.to_string(), cause, Some(hint)),
            Self::Reload { cause, .. } => with_details(&self.to_string(), cause, None),
            Self::Io { source, .. } => with_details(&self.to_string(), &source.to_string(), None),
            Self::State(error) => with_causes(error),
        }
    }
}

/// One destination.
pub struct Output {
    spec: OutputSpec,
    docker: Arc<Docker>,
    state: Option<State>,
    warned_in_place: bool,
    warned_unchecked: bool,
    warned_blind: bool,
}

impl Output {
    /// Touches nothing yet.
    pub fn new(spec: OutputSpec, docker: Arc<Docker>) -> Self {
        Self { spec, docker, state: None, warned_in_place: false, warned_unchecked: false, warned_blind: false }
    }

    /// Locks the destination, makes its directory if that is wanted, and clears what a crash left there.
    ///
    /// # Errors
    /// [`PutError::State`] or [`PutError::Io`]; may be called again.
    pub fn prepare(&mut self) -> Result<(), PutError> {
        if self.state.is_some() {
            return Ok(());
        }
        let destination = resolve(&self.spec.destination);
        let directory = destination.parent().unwrap_or(Path::new("/"));
        if !directory.is_dir() {
            if !self.spec.create_dirs {
                let source = io::Error::from(io::ErrorKind::NotFound);
                let doing = format!("there is no directory {}; make it, or set create_dirs", directory.display());
                return Err(self.io(doing, source));
            }
            fs::create_dir_all(directory).map_err(|e| self.io(format!("make {}", directory.display()), e))?;
        }
        let state = match State::open(&destination, self.spec.state_dir.as_deref()) {
            // A mounted file may lie in a directory that is not ours to write.
            Err(StateError::Io { .. }) if is_mount_point(&destination) => {
                State::open(&destination, Some(&std::env::temp_dir()))
            }
            other => other,
        };
        self.state = Some(state?);
        remove_leftovers(&destination);
        Ok(())
    }

    /// Makes `text` the content of the destination and has it loaded.
    ///
    /// # Errors
    /// [`PutError`], which says how far it went; the same call may be made again.
    pub async fn put(&mut self, text: &str) -> Result<Put, PutError> {
        self.prepare()?;
        let destination = resolve(&self.spec.destination);
        let live = self.read(&destination)?;
        if live.as_deref() == Some(text.as_bytes()) {
            if !self.state_mut().owes_reload(text.as_bytes()) {
                return Ok(Put::Same);
            }
            info!("a reload is owed from before");
            let readers = self.find_readers(text, &destination).await;
            let told = self.reload(text, &destination, readers.as_ref()).await?;
            info!("{told}");
            return Ok(Put::Reloaded);
        }
        self.state_mut().before_swap(live.as_deref())?;
        let (staged, readers) = tokio::join!(self.stage(text, &destination), self.find_readers(text, &destination));
        let staged = staged?;
        let started = Instant::now();
        self.check(text, staged.path(), &destination, readers.as_ref()).await?;
        let check = started.elapsed();
        self.swap(staged, text, &destination, readers.as_ref()).await?;
        let started = Instant::now();
        let told = self.reload(text, &destination, readers.as_ref()).await?;
        info!(?check, reload = ?started.elapsed(), "the new file is live; {told}");
        Ok(Put::Written)
    }

    /// All of [`Output::put`] that changes nothing: the difference to the live file as a unified diff, empty if there
    /// is none, once the checker took the new one.
    ///
    /// # Errors
    /// [`PutError::Refused`] or [`PutError::Io`].
    pub async fn preview(&mut self, text: &str) -> Result<String, PutError> {
        let destination = resolve(&self.spec.destination);
        let live = self.read(&destination)?.unwrap_or_default();
        let staged = if let Ok(staged) = self.stage(text, &destination).await {
            staged
        } else {
            // Nothing is put there, so any place will do.
            let name = destination.file_name().unwrap_or_default();
            self.stage(text, &std::env::temp_dir().join(name)).await?
        };
        let readers = self.find_readers(text, &destination).await;
        self.check(text, staged.path(), &destination, readers.as_ref()).await?;
        let live = String::from_utf8_lossy(&live);
        let name = destination.display().to_string();
        let diff = similar::TextDiff::from_lines(&*live, text);
        Ok(diff.unified_diff().header(&name, &format!("{name} (new)")).to_string())
    }

    /// Who reads the destination, if its program is known; without looking if commands are configured for all.
    async fn find_readers(&self, text: &str, destination: &Path) -> Option<Readers> {
        let kind = match self.spec.target {
            TargetSpec::None => return None,
            TargetSpec::Known(kind) => kind,
            TargetSpec::Auto => Kind::recognise(destination, text)?,
        };
        if self.spec.check_cmd.is_some() && self.spec.reload_cmd.is_some() {
            return None;
        }
        Some(Readers::find(kind, destination, &self.docker).await)
    }

    async fn check(
        &mut self,
        text: &str,
        staged: &Path,
        destination: &Path,
        readers: Option<&Readers>,
    ) -> Result<(), PutError> {
        let refused = |by: String, cause: String| PutError::Refused { by, destination: destination.to_owned(), cause };
        if let Some(check) = &self.spec.check_cmd {
            let invocation = check.expand(staged, destination);
            return match command::run(&invocation, self.spec.command_timeout).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    let said = format!("{}\n{}", with_causes(&error), error.output());
                    Err(refused("check_cmd".into(), said))
                }
            };
        }
        let Some(readers) = readers else { return Ok(()) };
        let asked = Staged { path: staged, text, destination };
        match readers.check(asked, &self.docker, self.spec.command_timeout).await {
            Verdict::Accepted => Ok(()),
            Verdict::Refused(cause) => Err(refused(readers.kind().to_string(), cause)),
            Verdict::Unchecked(why) => {
                if !std::mem::replace(&mut self.warned_unchecked, true) {
                    warn!("the file cannot be checked: {why}");
                }
                Ok(())
            }
        }
    }

    /// Has the live file loaded; gives what was done, in words.
    async fn reload(&mut self, text: &str, destination: &Path, readers: Option<&Readers>) -> Result<String, PutError> {
        let failed = |cause: String| PutError::Reload { destination: destination.to_owned(), cause };
        let told = if let Some(reload) = &self.spec.reload_cmd {
            let invocation = reload.expand(destination, destination);
            let ran = command::run(&invocation, self.spec.command_timeout).await;
            ran.map_err(|e| failed(format!("{}\n{}", with_causes(&e), e.output())))?;
            "the reload command has run".to_owned()
        } else if let Some(readers) = readers {
            readers.reload(&self.docker).await.map_err(failed)?;
            if let Some(blind) = readers.blind()
                && !std::mem::replace(&mut self.warned_blind, true)
            {
                warn!("what runs in containers cannot be looked at: {blind}");
            }
            describe(readers)
        } else {
            "nobody is to be told".to_owned()
        };
        if let Err(error) = self.state_mut().reloaded(text.as_bytes()) {
            warn!("{}; the next start reloads once more than needed", with_causes(&error));
        }
        Ok(told)
    }

    async fn stage(&self, text: &str, destination: &Path) -> Result<TempFile, PutError> {
        let (spec, path, text) = (self.spec.clone(), destination.to_owned(), text.to_owned());
        let staged = blocking(move || TempFile::stage(&spec, &path, text.as_bytes())).await;
        staged.map_err(|e| {
            self.io(format!("stage it in {}", destination.parent().unwrap_or(Path::new("/")).display()), e)
        })
    }

    async fn swap(
        &mut self,
        staged: TempFile,
        text: &str,
        destination: &Path,
        readers: Option<&Readers>,
    ) -> Result<(), PutError> {
        let in_place = readers.is_some_and(Readers::need_the_same_inode);
        let (path, text) = (destination.to_owned(), text.to_owned());
        let renamed = blocking(move || swap(staged, text.as_bytes(), &path, in_place)).await;
        let renamed = renamed.map_err(|e| self.io("put it in place".into(), e))?;
        if !renamed && !std::mem::replace(&mut self.warned_in_place, true) {
            warn!(
                "the file itself is mounted, so it is written in place: a reader may see half of it. Mount its directory instead"
            );
        }
        Ok(())
    }

    fn read(&self, destination: &Path) -> Result<Option<Vec<u8>>, PutError> {
        match fs::read(destination) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io("read what is there".into(), error)),
        }
    }

    fn io(&self, doing: String, source: io::Error) -> PutError {
        PutError::Io { destination: self.spec.destination.clone(), doing, source }
    }

    fn state_mut(&mut self) -> &mut State {
        self.state.as_mut().expect("prepare() comes first in put()")
    }
}

fn describe(readers: &Readers) -> String {
    let kind = readers.kind();
    if readers.is_empty() {
        format!("no running {kind} uses this file; nothing to reload")
    } else {
        format!("{kind} has reloaded it ({})", readers.names())
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
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
