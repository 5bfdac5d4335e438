//! The registrar's own state: one UUID, by which it knows its entries again after a restart.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use uuid::Uuid;

/// The file in the state directory.
const FILE: &str = "id";
/// Where state is kept unless told otherwise: the first that works.
const DEFAULT_DIR: &str = "/var/lib/registrar";

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory or the file in it cannot be used.
    #[error("cannot keep the registrar's identity in {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is there, but not ours.
    #[error("{} holds no UUID; remove it if nothing needs it, and entries of a former run by hand", path.display())]
    NotAnId {
        /// Which.
        path: PathBuf,
    },
}

/// The identity that [`load`] would find in `dir`, or else [`load_default`]; `-` if none was made yet.
///
/// # Errors
/// [`Error::NotAnId`]
pub fn known(dir: Option<&Path>) -> Result<String, Error> {
    let dirs = dir.map_or_else(default_dirs, |dir| vec![dir.to_owned()]);
    let path = dirs.iter().map(|dir| dir.join(FILE)).find(|path| path.exists());
    path.and_then(|path| read(&path).transpose()).unwrap_or_else(|| Ok("-".into()))
}

/// The identity kept in `dir`, made now if there is none.
///
/// # Errors
/// [`Error`]; nothing was changed.
pub fn load(dir: &Path) -> Result<String, Error> {
    let path = dir.join(FILE);
    match read(&path)? {
        Some(id) => Ok(id),
        None => create(dir, &path).map_err(|source| Error::Io { path, source }),
    }
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let id = Uuid::parse_str(text.trim()).map_err(|_| Error::NotAnId { path: path.to_owned() })?;
            Ok(Some(id.to_string()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io { path: path.to_owned(), source }),
    }
}

fn create(dir: &Path, path: &Path) -> io::Result<String> {
    fs::create_dir_all(dir)?;
    let id = Uuid::new_v4().to_string();
    let beside = dir.join(format!(".{FILE}.{id}"));
    let written = (|| {
        let mut file = fs::File::create_new(&beside)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        fs::File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map(|()| id)
}

/// The identity kept where it usually is; `None`, with the last reason, if no such place can be written.
///
/// # Errors
/// [`Error`] for the last place tried.
pub fn load_default() -> Result<String, Error> {
    let dirs = default_dirs();
    let (last, first) = dirs.split_last().expect("never empty");
    for dir in first {
        match load(dir) {
            Err(Error::Io { .. }) => {}
            found => return found,
        }
    }
    load(last)
}

/// Where the identity may be, the best place first.
fn default_dirs() -> Vec<PathBuf> {
    let home = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    [PathBuf::from(DEFAULT_DIR)].into_iter().chain(home.map(|home| home.join("registrar"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_after_a_restart_and_another_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let first = load(&dir.path().join("a/b")).unwrap();
        assert_eq!(load(&dir.path().join("a/b")).unwrap(), first);
        assert_eq!(known(Some(&dir.path().join("a/b"))).unwrap(), first);
        assert_eq!(known(Some(&dir.path().join("nothing"))).unwrap(), "-");
        assert!(!dir.path().join("nothing").exists(), "who only asks leaves nothing behind");
        assert_ne!(load(&dir.path().join("c")).unwrap(), first);
        assert_eq!(fs::read_dir(dir.path().join("c")).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "not mine").unwrap();
        assert!(matches!(load(dir.path()), Err(Error::NotAnId { .. })));
        let file = dir.path().join(FILE);
        assert!(matches!(load(&file), Err(Error::Io { .. })));
    }
}
