//! Small files that are there as a whole, over power cuts too, or as they were.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Writes beside `path` and renames.
///
/// # Errors
/// The system's; what was there stays.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let beside = path.with_extension("new");
    // One that a crash left behind may have another mode.
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    put(&beside, path)
}

/// Renames a file that is on the disk to the name that it is to have, for good: a new name survives a power cut only
/// once its directory is synced.
///
/// # Errors
/// The system's.
pub(crate) fn put(beside: &Path, path: &Path) -> io::Result<()> {
    fs::rename(beside, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(dir)?.sync_all()
}
