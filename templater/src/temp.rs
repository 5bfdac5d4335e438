//! Files on their way: staged with their mode and owner, renamed into place for good, or gone.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt, OpenOptionsExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use tracing::debug;

use crate::output::FileSpec;

/// A file that goes away with this value, unless it is renamed.
#[derive(Debug)]
pub(crate) struct TempFile {
    path: PathBuf,
    keep: bool,
}

impl TempFile {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new file `.NAME.tmp.N` beside `near`: a leading dot, since nginx's and HAProxy's wildcards skip those.
    fn create(near: &Path) -> io::Result<(Self, File)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = near.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_start_matches('.');
        loop {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = near.with_file_name(format!(".{name}.tmp.{}-{n}", std::process::id()));
            // Nobody else reads it before it has its mode and owner.
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((Self { path, keep: false }, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// A temporary file beside `near`, readable by all.
    ///
    /// # Errors
    /// What the system says; nothing is left behind.
    pub(crate) fn write(near: &Path, bytes: &[u8]) -> io::Result<Self> {
        let (temp, mut file) = Self::create(near)?;
        file.write_all(bytes)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        Ok(temp)
    }

    /// The bytes on disk, with the mode and owner that they will have in place of `destination`.
    ///
    /// # Errors
    /// What the system says; nothing is left behind.
    pub(crate) fn stage(spec: &FileSpec, destination: &Path, bytes: &[u8]) -> io::Result<Self> {
        let created = Self::create(destination);
        let (temp, mut file) = match created {
            // A mounted file may lie in a directory that is not ours to write; it is written in place anyway.
            Err(_) if is_mount_point(destination) => {
                Self::create(&std::env::temp_dir().join(destination.file_name().unwrap_or_default()))?
            }
            other => other?,
        };
        file.write_all(bytes)?;
        let live = fs::metadata(destination).ok();
        let mode = spec.mode.or(live.as_ref().map(|m| m.mode() & 0o7777)).unwrap_or(0o644);
        file.set_permissions(Permissions::from_mode(mode))?;
        let own = file.metadata()?;
        let uid = spec.owner.0.or(live.as_ref().map(MetadataExt::uid)).filter(|uid| *uid != own.uid());
        let gid = spec.owner.1.or(live.as_ref().map(MetadataExt::gid)).filter(|gid| *gid != own.gid());
        if uid.is_some() || gid.is_some() {
            match fchown(&file, uid, gid) {
                // Whoever asked for an owner must get it; one that was only found there is worth trying.
                Err(error) if spec.owner != (None, None) => return Err(error),
                Err(error) => debug!("{} changes its owner: {error}", destination.display()),
                // Changing the owner may clear bits of the mode.
                Ok(()) => file.set_permissions(Permissions::from_mode(mode))?,
            }
        }
        file.sync_data()?;
        Ok(temp)
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Renames `staged` to `destination` for good; or writes `bytes` into it where a rename cannot be or must not be.
/// False if it was written in place.
pub(crate) fn swap(mut staged: TempFile, bytes: &[u8], destination: &Path, in_place: bool) -> io::Result<bool> {
    let in_place = in_place && destination.exists() || staged.path.parent() != destination.parent();
    if !in_place {
        match fs::rename(&staged.path, destination) {
            Ok(()) => {
                staged.keep = true;
                File::open(parent(destination))?.sync_all()?;
                return Ok(true);
            }
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {} // a mount point
            Err(error) => return Err(error),
        }
    }
    write_in_place(destination, bytes)?;
    Ok(false)
}

/// Makes `bytes` the content of our own file `path`, which nobody but its owner reads: all of it, over power cuts too, or
/// what was there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let spec = FileSpec { destination: path.to_owned(), mode: Some(0o600), owner: (None, None), create_dirs: false };
    swap(TempFile::stage(&spec, path, bytes)?, bytes, path, false).map(drop)
}

fn write_in_place(destination: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(destination)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Puts `content` back at `destination`, with the mode and owner that it has now; takes it away if there was none.
pub(crate) fn restore(destination: &Path, content: Option<&[u8]>, in_place: bool) -> io::Result<()> {
    match content {
        Some(content) if in_place => write_in_place(destination, content),
        Some(content) => {
            let staged = TempFile::stage(&FileSpec::default(), destination, content);
            match staged.and_then(|staged| swap(staged, content, destination, false)) {
                Ok(_) => Ok(()),
                // A full disk has no room for another file, but this one had room for what it was.
                Err(_) => write_in_place(destination, content),
            }
        }
        None => match fs::remove_file(destination) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(parent(destination))?.sync_all(),
        },
    }
}

/// Whether something is mounted at `path` itself.
pub(crate) fn is_mount_point(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.to_string_lossy();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(&*path))
}

/// Removes the staged files of a templater that was killed; the lock says that it is not at work.
pub(crate) fn remove_leftovers(destination: &Path) {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{name}.tmp.");
    for entry in fs::read_dir(parent(destination)).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
