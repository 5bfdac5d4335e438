//! The files that are put together: what they have and shall have, read, staged, and put back.

use std::{fs, io, path::Path};

use super::{
    FileSpec, PutError, Rendered,
    journal::{self, Before},
};
use crate::temp::{TempFile, restore};

/// One of the files that are put together.
pub(super) struct Change {
    /// Its destination is no symlink.
    pub(super) file: FileSpec,
    pub(super) text: String,
    /// What is live; `None` if there is no file.
    pub(super) before: Option<Vec<u8>>,
    /// The file is to go.
    pub(super) gone: bool,
}

impl Change {
    pub(super) fn destination(&self) -> &Path {
        &self.file.destination
    }

    pub(super) fn differs(&self) -> bool {
        let after = (!self.gone).then_some(self.text.as_bytes());
        self.before.as_deref() != after
    }
}

pub(super) fn before(change: &Change) -> Before {
    Before { destination: change.destination().to_owned(), content: change.before.clone() }
}

pub(super) fn put_back(before: &Before, in_place: bool) -> Result<(), PutError> {
    restore(&before.destination, before.content.as_deref(), in_place)
        .map_err(|e| failed(&before.destination, "put back what was there".into(), e))
}

/// Puts back what was live before the swap, and ends its journal.
pub(super) fn undo(set: &[Change], in_place: bool, journal: Option<&Path>) -> Result<(), PutError> {
    for change in set.iter().filter(|change| change.differs()) {
        if fs::read(change.destination()).ok() != change.before {
            put_back(&before(change), in_place)?;
        }
    }
    match journal {
        Some(journal) => journal::remove(journal).map_err(|e| failed(journal, "remove it".into(), e)),
        None => Ok(()),
    }
}

pub(super) fn read_all(rendered: impl IntoIterator<Item = Rendered>) -> Result<Vec<Change>, PutError> {
    let read = |Rendered { file, text }: Rendered| {
        let before = match fs::read(&file.destination) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&file.destination, "read what is there".into(), error)),
        };
        Ok(Change { file, text, before, gone: false })
    };
    rendered.into_iter().map(read).collect()
}

/// What differs, beside its destinations, each with its place in `set`.
pub(super) async fn stage_all(set: &[Change]) -> Result<Vec<(usize, TempFile)>, PutError> {
    stage_in(set, None).await
}

pub(super) async fn stage_in(set: &[Change], directory: Option<&Path>) -> Result<Vec<(usize, TempFile)>, PutError> {
    let mut staged = Vec::new();
    for (at, change) in set.iter().enumerate().filter(|(_, change)| change.differs() && !change.gone) {
        let (spec, text) = (change.file.clone(), change.text.clone());
        let name = change.destination().file_name().unwrap_or_default();
        let near = directory.map_or_else(|| change.destination().to_owned(), |directory| directory.join(name));
        let beside = near.parent().unwrap_or(Path::new("/")).display().to_string();
        let temp = blocking(move || TempFile::stage(&spec, &near, text.as_bytes())).await;
        staged.push((at, temp.map_err(|e| failed(change.destination(), format!("stage it in {beside}"), e))?));
    }
    Ok(staged)
}

pub(super) fn diff(change: &Change) -> String {
    let live = change.before.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
    let name = change.destination().display().to_string();
    let diff = similar::TextDiff::from_lines(&*live, &change.text);
    diff.unified_diff().header(&name, &format!("{name} (new)")).to_string()
}

pub(super) fn failed(destination: &Path, doing: String, source: io::Error) -> PutError {
    PutError::Io { destination: destination.to_owned(), doing, source }
}

pub(super) fn names<'a>(files: impl Iterator<Item = &'a Path>) -> String {
    files.map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) fn names_of(set: &[Change]) -> String {
    names(set.iter().map(Change::destination))
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
