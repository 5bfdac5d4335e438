//! A copy of a directory with new files in the place of old ones, for checkers that follow relative includes.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, symlink},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// A directory of more files is not a configuration.
const MAX_FILES: usize = 10_000;

/// The copy; removed when dropped. What is old in it are symlinks, so that it costs little.
#[derive(Debug)]
pub(crate) struct StagingDir {
    path: PathBuf,
}

impl StagingDir {
    /// A copy of `directory` with `files` (destination and text, or none for a file that goes) in it.
    ///
    /// # Errors
    /// What the system says, or that a file does not lie below `directory`; nothing is left behind.
    pub(crate) fn make(directory: &Path, files: &[(PathBuf, Option<String>)]) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("templater-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let staging = Self { path: std::env::temp_dir().join(name) };
        // A configuration may hold secrets, and the checker runs as we do.
        DirBuilder::new().mode(0o700).create(&staging.path)?;
        link_all(directory, &staging.path, &mut 0)?;
        for (destination, text) in files {
            let inside = destination.strip_prefix(directory).map_err(|_| {
                io::Error::other(format!("{} is not below {}", destination.display(), directory.display()))
            })?;
            let path = staging.path.join(inside);
            fs::create_dir_all(path.parent().unwrap_or(&staging.path))?;
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => text.iter().try_for_each(|text| fs::write(&path, text))?,
            }
        }
        Ok(staging)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn link_all(from: &Path, to: &Path, count: &mut usize) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        *count += 1;
        if *count > MAX_FILES {
            return Err(io::Error::other(format!("{} has more than {MAX_FILES} files", from.display())));
        }
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&copy)?;
            link_all(&entry.path(), &copy, count)?;
        } else {
            symlink(entry.path(), &copy)?;
        }
    }
    Ok(())
}

/// The deepest directory that all of `files` lie in.
pub(crate) fn common_directory<'a>(files: impl IntoIterator<Item = &'a Path>) -> PathBuf {
    let mut parents = files.into_iter().filter_map(Path::parent);
    let first = parents.next().unwrap_or(Path::new("/")).to_owned();
    parents.fold(first, |common, parent| {
        let shared = common.components().zip(parent.components()).take_while(|(a, b)| a == b);
        shared.map(|(a, _)| a).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_has_the_new_files_and_leaves_the_old_ones_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("conf.d")).unwrap();
        fs::write(dir.path().join("main"), "main").unwrap();
        fs::write(dir.path().join("conf.d/a"), "old").unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("conf.d/gone"), "gone").unwrap();
        let new = [("conf.d/a", Some("new")), ("new.d/b", Some("b")), ("conf.d/gone", None)]
            .map(|(name, text)| (at(name), text.map(str::to_owned)));
        let staging = StagingDir::make(dir.path(), &new).unwrap();
        let read = |name: &str| fs::read_to_string(staging.path().join(name)).unwrap();
        assert_eq!((read("main"), read("conf.d/a"), read("new.d/b")), ("main".into(), "new".into(), "b".into()));
        assert_eq!(fs::read_to_string(at("conf.d/a")).unwrap(), "old");
        assert!(!staging.path().join("conf.d/gone").exists() && at("conf.d/gone").exists());
        let path = staging.path().to_owned();
        drop(staging);
        assert!(!path.exists() && at("main").exists());
        let error = StagingDir::make(dir.path(), &[("/etc/x".into(), None)]).unwrap_err();
        assert!(error.to_string().starts_with("/etc/x is not below "), "{error}");
    }

    #[test]
    fn files_have_a_directory_in_common() {
        for (files, expected) in
            [("/a/b/x /a/b/y", "/a/b"), ("/a/b/x /a/c/y", "/a"), ("/a/x", "/a"), ("/a/x /b/y", "/")]
        {
            assert_eq!(common_directory(files.split(' ').map(Path::new)), Path::new(expected), "{files}");
        }
    }
}
