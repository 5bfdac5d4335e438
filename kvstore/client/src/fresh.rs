//! What is made of files, and made again when they change.

use std::{
    error::Error,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::causes::with_causes;

/// A value made of files.
pub struct Fresh<T, E> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, E> + Send + Sync>,
    last: Mutex<(Prints, T)>,
}

impl<T: Clone, E: Error + 'static> Fresh<T, E> {
    /// Made at once by `make`, of these files or directories.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new(files: Vec<PathBuf>, make: impl Fn() -> Result<T, E> + Send + Sync + 'static) -> Result<Self, E> {
        // First the looks, then the content: a change in between is seen by the next look.
        let last = Mutex::new((prints(&files), make()?));
        Ok(Self { files, make: Box::new(make), last })
    }

    /// The value for what the files hold now. While they cannot be used the former one stays: some are written one after
    /// the other, and do not fit together in between.
    pub fn get(&self) -> T {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = prints(&self.files);
        if now != last.0 {
            match (self.make)() {
                Ok(value) => last.1 = value,
                Err(error) => tracing::warn!("{}; what was read before stays in use", with_causes(&error)),
            }
            last.0 = now;
        }
        last.1.clone()
    }
}

/// By which a changed file is known, without reading it.
type Prints = Vec<Option<(u64, i64, i64, u64)>>;

fn prints(files: &[PathBuf]) -> Prints {
    files.iter().map(|file| print(file)).collect()
}

/// Nothing for what can be read only once, such as a pipe.
fn print(file: &Path) -> Option<(u64, i64, i64, u64)> {
    let found = fs::metadata(file).ok().filter(|found| found.is_file() || found.is_dir())?;
    Some((found.ino(), found.ctime(), found.ctime_nsec(), found.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pem::FileError;

    #[test]
    fn made_again_after_a_change_and_kept_while_it_cannot_be() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let read = move || fs::read_to_string(&path).map_err(|e| FileError::new(&path, &e));
        fs::write(file.path(), "one").unwrap();
        let made = Fresh::new(vec![file.path().to_owned()], read).unwrap();
        assert_eq!(made.get(), "one");
        fs::write(file.path(), "another").unwrap();
        assert_eq!(made.get(), "another");
        fs::write(file.path(), b"\xff not text").unwrap();
        assert_eq!(made.get(), "another", "it cannot be used");
        fs::remove_file(file.path()).unwrap();
        assert_eq!(made.get(), "another", "it is away");
        fs::write(file.path(), "third").unwrap();
        assert_eq!(made.get(), "third");
    }

    #[test]
    fn nothing_is_read_while_nothing_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        let read = move || Ok::<_, FileError>(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        let made = Fresh::new(vec![file.path().to_owned()], read).unwrap();
        assert_eq!((made.get(), made.get(), made.get()), (0, 0, 0));
    }
}
