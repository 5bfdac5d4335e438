//! One template, many files: which of them are ours, so that those of vanished items go, and nobody else's.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use crate::temp::replace;

/// The files that one template has made, as a record on disk tells.
#[derive(Debug)]
pub(crate) struct Made {
    path: PathBuf,
    /// Make the directory of the record if it is not there.
    create_dir: bool,
    files: BTreeSet<PathBuf>,
}

impl Made {
    /// Reads the record; a missing or damaged one tells of no file, so that none is removed.
    pub(crate) fn load(path: PathBuf, create_dir: bool) -> Self {
        let read = fs::read(&path).ok();
        let files = read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { path, create_dir, files }
    }

    /// Those that are not `wanted` any more.
    pub(crate) fn gone(&self, wanted: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        self.files.difference(wanted).cloned().collect()
    }

    /// To be called before `wanted` are written: after a crash both they and the old ones are known.
    pub(crate) fn before(&mut self, wanted: &BTreeSet<PathBuf>) -> io::Result<()> {
        self.record(&self.files | wanted)
    }

    /// To be called when `wanted` are live and the others have gone.
    pub(crate) fn after(&mut self, wanted: BTreeSet<PathBuf>) -> io::Result<()> {
        self.record(wanted)
    }

    fn record(&mut self, files: BTreeSet<PathBuf>) -> io::Result<()> {
        if self.files == files {
            return Ok(());
        }
        if let Some(directory) = self.path.parent().filter(|_| self.create_dir) {
            fs::create_dir_all(directory)?;
        }
        replace(&self.path, &serde_json::to_vec(&files)?)?;
        self.files = files;
        Ok(())
    }
}

/// The file of an item: `name` was made from what strangers say, and must stay in `directory`.
pub(crate) fn destination(directory: &Path, name: &str) -> Result<PathBuf, String> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') || name.contains(char::is_control) {
        return Err(format!("{name:?} is no name for a file in {}", directory.display()));
    }
    Ok(directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> BTreeSet<PathBuf> {
        names.split(' ').map(PathBuf::from).collect()
    }

    #[test]
    fn what_was_made_is_known_over_crashes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".made");
        let again = || Made::load(path.clone(), false);
        let mut made = again();
        assert_eq!(made.gone(&set("a")), Vec::<PathBuf>::new());
        made.before(&set("a b")).unwrap();
        made.after(set("a b")).unwrap();
        made.before(&set("b c")).unwrap();
        assert_eq!(again().gone(&set("b c")), [PathBuf::from("a")]);
        made.after(set("b c")).unwrap();
        assert_eq!(again().gone(&set("x")), [PathBuf::from("b"), PathBuf::from("c")]);
        fs::write(&path, "[\"a").unwrap();
        assert_eq!(again().gone(&set("x")), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_file_stays_in_its_directory() {
        assert_eq!(destination(Path::new("/d"), "web.conf").unwrap(), Path::new("/d/web.conf"));
        for bad in ["", ".", "..", "../x", "/etc/passwd", "a/b", ".hidden", "a\nb"] {
            assert!(destination(Path::new("/d"), bad).is_err(), "{bad:?}");
        }
    }
}
