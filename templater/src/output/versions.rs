//! The last good versions of a destination: what its readers have loaded, the newest first, beside its state.
//!
//! Readable by their owner only, for a configuration may hold secrets.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Keeps `content` as the newest of at most `count` versions beside the file `state`.
///
/// # Errors
/// What the system says; older versions may be one place further back than before.
pub(crate) fn keep(state: &Path, content: &[u8], count: usize) -> io::Result<()> {
    if count == 0 || newest(state).is_some_and(|newest| newest == content) {
        return Ok(());
    }
    // What a crash leaves of it is written over next time.
    let incoming = version(state, 0);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(&incoming)?.write_all(content)?;
    for n in (0..count).rev() {
        match fs::rename(version(state, n), version(state, n + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// What was loaded last, if it is kept.
pub(crate) fn newest(state: &Path) -> Option<Vec<u8>> {
    fs::read(version(state, 1)).ok()
}

/// Removes all of them, as far as the numbers go without a gap.
pub(crate) fn forget(state: &Path) {
    for n in 1.. {
        if fs::remove_file(version(state, n)).is_err() {
            return;
        }
    }
}

fn version(state: &Path, n: usize) -> PathBuf {
    let mut path = state.as_os_str().to_owned();
    path.push(format!(".{n}"));
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_last_versions_are_kept_each_once() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join(".a.templater");
        for content in ["1", "2", "2", "3", "4"] {
            keep(&state, content.as_bytes(), 3).unwrap();
        }
        let kept: Vec<_> = (0..5).map(|n| fs::read_to_string(version(&state, n)).ok()).collect();
        assert_eq!(kept, [None, Some("4".into()), Some("3".into()), Some("2".into()), None]);
        assert_eq!(newest(&state).as_deref(), Some(&b"4"[..]));
        assert_eq!(fs::metadata(version(&state, 1)).unwrap().permissions().mode() & 0o777, 0o600);
        forget(&state);
        assert_eq!(newest(&state), None);
        keep(&dir.path().join("none"), b"x", 0).unwrap();
        assert_eq!(newest(&dir.path().join("none")), None);
    }
}
