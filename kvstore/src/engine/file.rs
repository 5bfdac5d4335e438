//! The files under the embedded engine: created, put into place, locked and opened here. Tests put a failing disk in
//! their stead.

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use redb::{Builder, Database, DatabaseError};

use super::EngineError;

/// The store in a data directory.
const STORE: &str = "registry.redb";

/// The store while it is made; without meaning after a crash.
const DRAFT: &str = "registry.redb.new";

/// Locked as long as a kvstore runs; holds its process id. Not the store itself, because that is closed and opened
/// again after a disk error, and nobody may come in between.
const LOCK: &str = "lock";

/// Where the engine keeps its one file.
pub(super) trait Disk: Send {
    /// The file's name, for messages.
    fn path(&self) -> &Path;

    /// Whether there is a store.
    fn exists(&self) -> io::Result<bool>;

    /// An empty store that [`Disk::publish`] puts into place; one begun before and not published is overwritten.
    fn create(&self, builder: &Builder) -> Result<Database, DatabaseError>;

    /// Puts the store that was created into place, so that a power cut does not undo it.
    fn publish(&self) -> io::Result<()>;

    /// The store, as the disk has it: what an earlier failed write left in the page cache alone is not seen.
    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError>;
}

/// A directory that this process alone uses.
#[derive(Debug)]
pub(super) struct DataDir {
    dir: PathBuf,
    store: PathBuf,
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
        match lock.try_lock() {
            Ok(()) => note_process(&mut lock).map_err(refused)?,
            Err(TryLockError::WouldBlock) => {
                let who = holder(&mut lock);
                return Err(failed(format!(
                    "another kvstore{who} uses it; stop that one or choose another --data-dir"
                )));
            }
            Err(TryLockError::Error(e)) => return Err(refused(e)),
        }
        Ok(Self { dir: dir.into(), store: dir.join(STORE), _lock: lock })
    }
}

impl Disk for DataDir {
    fn path(&self) -> &Path {
        &self.store
    }

    fn exists(&self) -> io::Result<bool> {
        self.store.try_exists()
    }

    fn create(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        builder.create_file(private().truncate(true).open(self.dir.join(DRAFT))?)
    }

    fn publish(&self) -> io::Result<()> {
        std::fs::rename(self.dir.join(DRAFT), &self.store)?;
        sync_dir(&self.dir)
    }

    fn open(&self, builder: &Builder) -> Result<Database, DatabaseError> {
        let file = OpenOptions::new().read(true).write(true).open(&self.store)?;
        // After a failed fsync Linux keeps the pages, takes them for written, and never writes them again. What is
        // built on such pages is lost with the power, so they are read anew.
        file.sync_data()?;
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED).map_err(io::Error::from)?;
        builder.create_file(file)
    }
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
