//! What is known of a destination over restarts: the hash of the content its readers were last told to load.
//!
//! One small dot file beside the destination (or in the state directory). Holding it open also locks the destination:
//! two templaters never write one file.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use kvstore_client::lock_file;

use crate::output::versions;

/// Why the state of a destination cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Somebody else writes this destination.
    #[error("{destination} is written by another templater{}; two would undo each other's work", pid.map(|p| format!(" (pid {p})")).unwrap_or_default())]
    Locked {
        /// The destination.
        destination: PathBuf,
        /// The other one's process.
        pid: Option<u32>,
    },
    /// The file cannot be opened, read or written.
    #[error("the state file {path} cannot be used")]
    Io {
        /// The state file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

/// The hash of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentHash(u128);

impl ContentHash {
    /// FNV-1a, 128 bits: it only tells versions of one file apart, nobody gains by a collision.
    pub fn of(bytes: &[u8]) -> Self {
        const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        Self(bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME)))
    }
}

/// What is known about the last reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reloaded {
    /// We have never written this destination: whoever reads it loaded it by itself.
    NeverOurs,
    /// The content at the last reload.
    Content(ContentHash),
    /// The record is damaged, so a reload may be owed.
    Unknown,
}

/// The locked state of one destination.
#[derive(Debug)]
pub struct State {
    file: File,
    path: PathBuf,
    reloaded: Reloaded,
}

impl State {
    /// Opens and locks the state of `destination`, beside it or in `directory`.
    ///
    /// # Errors
    /// [`StateError::Locked`] if another process holds it, [`StateError::Io`] if it cannot be opened.
    pub fn open(destination: &Path, directory: Option<&Path>) -> Result<Self, StateError> {
        let path = path_for(destination, directory);
        let failed = |source| StateError::Io { path: path.clone(), source };
        if let Some(directory) = directory {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let locked = lock_file(&file);
        let mut text = String::new();
        // A damaged file is text we do not understand, not a reason to stop.
        let mut bytes = Vec::new();
        (&mut file).take(4096).read_to_end(&mut bytes).map_err(failed)?;
        text.push_str(&String::from_utf8_lossy(&bytes));
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Locked {
                    destination: destination.into(),
                    pid: field(&text, "pid").and_then(|p| p.parse().ok()),
                });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let reloaded = parse(&text);
        let mut state = Self { file, path, reloaded };
        state.write()?;
        Ok(state)
    }

    /// Whether `content`, which is live, has not been loaded by its readers yet.
    pub fn owes_reload(&self, content: &[u8]) -> bool {
        match self.reloaded {
            Reloaded::NeverOurs => false,
            Reloaded::Content(hash) => hash != ContentHash::of(content),
            Reloaded::Unknown => true,
        }
    }

    /// To be called before a new content replaces `live`: from now on the reload is owed, whatever happens.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn before_swap(&mut self, live: Option<&[u8]>) -> Result<(), StateError> {
        if self.reloaded != Reloaded::NeverOurs {
            return Ok(()); // the record already differs from what comes
        }
        self.reloaded = Reloaded::Content(ContentHash::of(live.unwrap_or_default()));
        self.write()?;
        self.file.sync_all().map_err(|e| self.failed(e))
    }

    /// The readers of the destination have loaded `content`.
    ///
    /// # Errors
    /// [`StateError::Io`]; then the next start reloads once more than needed.
    pub fn reloaded(&mut self, content: &[u8]) -> Result<(), StateError> {
        let now = Reloaded::Content(ContentHash::of(content));
        if self.reloaded == now {
            return Ok(());
        }
        self.reloaded = now;
        self.write()
    }

    /// The state file; what else is remembered of the destination stands beside it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether we have never written this destination.
    pub(crate) fn is_new(&self) -> bool {
        self.reloaded == Reloaded::NeverOurs
    }

    /// The destination is gone for good, and so is what is known of it.
    pub(crate) fn forget(self) {
        versions::forget(&self.path);
        let _ = fs::remove_file(&self.path);
    }

    fn failed(&self, source: io::Error) -> StateError {
        StateError::Io { path: self.path.clone(), source }
    }

    /// In place, since the lock is on this very file; a torn write is a damaged record, which only costs a reload.
    fn write(&mut self) -> Result<(), StateError> {
        let text = text(self.reloaded);
        let write = |file: &mut File| {
            file.rewind()?;
            file.set_len(0)?;
            file.write_all(text.as_bytes())
        };
        write(&mut self.file).map_err(|e| self.failed(e))
    }
}

/// Where the last good data for `destination` are kept.
pub(crate) fn data_path(destination: &Path, directory: Option<&Path>) -> PathBuf {
    path_for(destination, directory).with_extension("data")
}

fn path_for(destination: &Path, directory: Option<&Path>) -> PathBuf {
    let name = destination.file_name().unwrap_or_default().to_string_lossy();
    match directory {
        None => destination.with_file_name(format!(".{name}.templater")),
        // One name for each destination: the whole path, with what a file name cannot have spelled out.
        Some(directory) => {
            let whole = destination.to_string_lossy();
            directory.join(format!("{}.templater", whole.replace('%', "%25").replace('/', "%2F")))
        }
    }
}

/// What stands in the file while this process has it.
pub(crate) fn text(reloaded: Reloaded) -> String {
    let reloaded = match reloaded {
        Reloaded::NeverOurs => String::new(),
        Reloaded::Content(ContentHash(hash)) => format!("reloaded {hash:032x}\n"),
        Reloaded::Unknown => "reloaded unknown\n".to_owned(),
    };
    format!("pid {}\n{reloaded}", std::process::id())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
}

pub(crate) fn parse(text: &str) -> Reloaded {
    let complete = text.is_empty() || text.ends_with('\n');
    match field(text, "reloaded") {
        Some(hash) if complete && hash.len() == 32 => {
            u128::from_str_radix(hash, 16).map_or(Reloaded::Unknown, |h| Reloaded::Content(ContentHash(h)))
        }
        None if complete && (text.is_empty() || text.starts_with("pid ")) => Reloaded::NeverOurs,
        _ => Reloaded::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_owes_a_reload_until_it_is_made_over_restarts_too() {
        let dir = tempfile::tempdir().unwrap();
        let dst = dir.path().join("a.cfg");
        let mut state = State::open(&dst, None).unwrap();
        assert!(!state.owes_reload(b"written by hand"), "what is not ours owes nothing");
        state.before_swap(Some(b"old")).unwrap();
        drop(state); // a crash between the swap and the reload
        let mut state = State::open(&dst, None).unwrap();
        assert!(state.owes_reload(b"new"));
        state.reloaded(b"new").unwrap();
        assert!(!state.owes_reload(b"new"));
        drop(state);
        assert!(!State::open(&dst, None).unwrap().owes_reload(b"new"));
    }

    #[test]
    fn a_damaged_record_owes_a_reload() {
        let hash = "0".repeat(32);
        for (text, expected) in [
            (String::new(), false),
            ("pid 7\n".into(), false),
            (format!("pid 7\nreloaded {hash}\n"), true),
            (format!("pid 7\nreloaded {hash}"), true),
            ("pid 7\nreloaded 00".into(), true),
            ("pid".into(), true),
            ("\0\0\0".into(), true),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let dst = dir.path().join("a.cfg");
            fs::write(dir.path().join(".a.cfg.templater"), &text).unwrap();
            assert_eq!(State::open(&dst, None).unwrap().owes_reload(b"x"), expected, "{text:?}");
        }
    }

    #[test]
    fn a_destination_has_one_writer() {
        let dir = tempfile::tempdir().unwrap();
        let dst = dir.path().join("a.cfg");
        let states = dir.path().join("made/here");
        let first = State::open(&dst, Some(&states)).unwrap();
        let error = State::open(&dst, Some(&states)).unwrap_err();
        assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        drop(first);
        State::open(&dst, Some(&states)).unwrap();
    }
}
