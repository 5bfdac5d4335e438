//! The files under the embedded engine: created, put into place, locked and opened here. Tests put a failing disk in
//! their stead.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use kvstore_client::lock_file;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use redb::{Builder, Database, DatabaseError, StorageBackend, backends::FileBackend};

use super::EngineError;
use crate::whole_file;

/// What the engine keeps in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All rows, as redb has them.
    Tables,
    /// What the tables lack: the journal of the runs with an even number, and that of the odd ones.
    EvenJournal,
    OddJournal,
}

impl Part {
    /// The file's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tables => "registry.redb",
            Self::EvenJournal => "registry.journal.0",
            Self::OddJournal => "registry.journal.1",
        }
    }

    /// The file's name while it is made; without meaning after a crash.
    fn draft(self) -> String {
        format!("{}.new", self.name())
    }
}

/// Locked as long as a kvstore runs; holds its process id. Not the tables themselves, because they are closed and opened
/// again after a disk error, and nobody may come in between.
const LOCK: &str = "lock";

/// Where the engine keeps its files.
pub(super) trait Disk: Send {
    /// The name of the tables' file, for messages.
    fn path(&self) -> &Path;

    /// Whether a part is there.
    fn exists(&self, part: Part) -> io::Result<bool>;

    /// Empty tables that [`Disk::publish`] puts into place; what was begun before and not published is overwritten.
    fn create(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// An empty journal, likewise.
    fn create_journal(&self, part: Part) -> io::Result<Box<dyn StorageBackend>>;

    /// Puts what was created into place, so that a power cut does not undo it.
    fn publish(&self, part: Part) -> io::Result<()>;

    /// The tables, as the disk has them: what an earlier failed write left in the page cache alone is not seen.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// A journal, likewise.
    fn open_journal(&self, part: Part) -> io::Result<Box<dyn StorageBackend>>;
}

/// A directory that this process alone uses.
#[derive(Debug)]
pub(super) struct DataDir {
    dir: PathBuf,
    tables: PathBuf,
    /// Held for its lock.
    _lock: File,
}

impl DataDir {
    /// Makes `dir` where it is missing, for the own user only, and locks it.
    ///
    /// # Errors
    /// [`EngineError::Open`] if it cannot be made or if another process holds it.
    pub(super) fn lock(dir: &Path) -> Result<Self, EngineError> {
        let failed = |why: String| EngineError::Open { path: dir.display().to_string(), why };
        let refused = |e: io::Error| failed(format!("{e}; it must be a directory that this user may write to"));
        make(dir).map_err(refused)?;
        let mut lock = private().truncate(false).open(dir.join(LOCK)).map_err(refused)?;
        match lock_file(&lock) {
            Ok(()) => note_process(&mut lock).map_err(refused)?,
            Err(TryLockError::WouldBlock) => {
                let who = holder(&mut lock);
                return Err(failed(format!(
                    "another kvstore{who} uses it; stop that one or choose another --data-dir"
                )));
            }
            Err(TryLockError::Error(e)) => return Err(refused(e)),
        }
        Ok(Self { dir: dir.into(), tables: dir.join(Part::Tables.name()), _lock: lock })
    }
}

impl DataDir {
    /// Takes away all parts.
    pub(super) fn clear(&self) -> io::Result<()> {
        for part in [Part::Tables, Part::EvenJournal, Part::OddJournal] {
            match std::fs::remove_file(self.dir.join(part.name())) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_dir(&self.dir)
    }

    fn draft(&self, part: Part) -> io::Result<File> {
        private().truncate(true).open(self.dir.join(part.draft()))
    }

    fn file(&self, part: Part) -> io::Result<File> {
        let file = OpenOptions::new().read(true).write(true).open(self.dir.join(part.name()))?;
        // After a failed fsync Linux keeps the pages, takes them for written, and never writes them again. What is
        // built on such pages is lost with the power, so they are read anew.
        file.sync_data()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(io::Error::from)?;
        Ok(file)
    }
}

impl Disk for DataDir {
    fn path(&self) -> &Path {
        &self.tables
    }

    fn exists(&self, part: Part) -> io::Result<bool> {
        self.dir.join(part.name()).try_exists()
    }

    fn create(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_file(self.draft(Part::Tables)?)
    }

    fn create_journal(&self, part: Part) -> io::Result<Box<dyn StorageBackend>> {
        plain(self.draft(part)?)
    }

    fn publish(&self, part: Part) -> io::Result<()> {
        whole_file::put(&self.dir.join(part.draft()), &self.dir.join(part.name()))
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_file(self.file(Part::Tables)?)
    }

    fn open_journal(&self, part: Part) -> io::Result<Box<dyn StorageBackend>> {
        plain(self.file(part)?)
    }
}

/// A file with nothing on top of it.
fn plain(file: File) -> io::Result<Box<dyn StorageBackend>> {
    Ok(Box::new(FileBackend::new(file).map_err(io::Error::other)?))
}

/// Read and write, made if missing, for the own user only.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    options
}

/// Makes `dir` and what is missing above it, durably.
fn make(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(e) => Err(e),
        Ok(()) => sync_dir(parent),
    }
}

/// A new name in a directory survives a power cut only once the directory is synced.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn note_process(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

/// ` (process 77)`, if the lock tells.
fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(20).read_to_string(&mut text);
    let id = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    id.map_or_else(String::new, |id| format!(" (process {id})"))
}
