//! What undoes a swap that a crash cut short: written before the first file is replaced, removed when all is decided.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::temp::replace;

/// A destination, and what it had before the swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Before {
    /// The file.
    pub(crate) destination: PathBuf,
    /// Its bytes; `None` if it was not there.
    pub(crate) content: Option<Vec<u8>>,
}

/// One entry of the first line; the bytes of all follow it.
#[derive(Serialize, Deserialize)]
struct Entry {
    destination: PathBuf,
    length: Option<usize>,
}

/// Writes the journal; it is there as a whole, over power cuts too, or not at all.
///
/// # Errors
/// What the system says.
pub(crate) fn write(path: &Path, befores: &[Before]) -> io::Result<()> {
    replace(path, &encode(befores)?)
}

/// The bytes of a journal.
///
/// # Errors
/// If a path is none that JSON can have.
pub(crate) fn encode(befores: &[Before]) -> io::Result<Vec<u8>> {
    let entry = |before: &Before| Entry {
        destination: before.destination.clone(),
        length: before.content.as_ref().map(Vec::len),
    };
    let mut bytes = serde_json::to_vec(&befores.iter().map(entry).collect::<Vec<_>>())?;
    bytes.push(b'\n');
    befores.iter().filter_map(|b| b.content.as_ref()).for_each(|content| bytes.extend_from_slice(content));
    Ok(bytes)
}

/// The journal, if a swap was cut short.
///
/// # Errors
/// What the system says, or [`io::ErrorKind::InvalidData`].
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<Before>>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    decode(&bytes).map(Some).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is damaged"))
}

/// What a journal says; `None` if it is none, or not a whole one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Before>> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let (head, mut rest) = (&bytes[..end], &bytes[end + 1..]);
    let entries: Vec<Entry> = serde_json::from_slice(head).ok()?;
    let mut befores = Vec::new();
    for Entry { destination, length } in entries {
        let content = match length {
            None => None,
            Some(length) => {
                let (content, tail) = rest.split_at_checked(length)?;
                rest = tail;
                Some(content.to_vec())
            }
        };
        befores.push(Before { destination, content });
    }
    rest.is_empty().then_some(befores)
}

/// The swap stands, or is undone.
///
/// # Errors
/// What the system says.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".a.templater.undo");
        assert_eq!(read(&path).unwrap(), None);
        let befores = [("/a", Some(b"x\n\0\xff".to_vec())), ("/b", None), ("/c", Some(Vec::new()))];
        let befores = befores.map(|(path, content)| Before { destination: path.into(), content });
        write(&path, &befores).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), befores);
        let whole = fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &[&whole[..], b"x"].concat()] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
        remove(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }
}
