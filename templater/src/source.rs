//! Reads templates with what they include, and tells when their files change.
//!
//! Watches directories, not files: editors and orchestrators replace files by renaming over them or by swapping a
//! symlink (`..data`), which a watch on the file itself would not survive.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use notify_debouncer_full::{
    DebounceEventResult, Debouncer, NoCache, new_debouncer_opt,
    notify::{self, RecommendedWatcher, RecursiveMode},
};
use tokio::sync::Notify;
use tracing::warn;

use crate::render::{Sources, references};

/// How long the files of a template must be quiet before they are read again.
const QUIET: Duration = Duration::from_millis(100);

/// A template includes at most so many files; a mistake that includes itself under ever new names ends here.
const MAX_FILES: usize = 256;

/// Why a template cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("template {path} cannot be read")]
pub struct SourceError {
    /// The template's file.
    pub path: PathBuf,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Reads `path` and whatever it includes, transitively, from the directory of `path`.
///
/// # Errors
/// [`SourceError`] for `path` itself; an included file that is not there is left to the parser's error, which has its
/// place.
pub fn load(path: &Path) -> Result<Sources, SourceError> {
    let main = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|source| SourceError { path: path.into(), source })?;
    let directory = path.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    let mut wanted = references(&text);
    files.insert(main.clone(), text);
    while let Some(name) = wanted.pop() {
        if files.contains_key(&name) || files.len() >= MAX_FILES {
            continue;
        }
        if let Ok(text) = std::fs::read_to_string(directory.join(&name)) {
            wanted.extend(references(&text));
            files.insert(name, text);
        }
    }
    Ok(Sources { main, files })
}

/// The directories in which a change may be a change of `sources`, which came from `path`.
fn directories(path: &Path, sources: &Sources) -> BTreeSet<PathBuf> {
    let base = path.parent().unwrap_or(Path::new(".")).to_owned();
    let names = sources.files.keys().filter(|name| **name != sources.main);
    directories_of(names.map(|name| base.join(name)).chain([path.to_owned()]))
}

fn directories_of(files: impl IntoIterator<Item = PathBuf>) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for file in files {
        directories.extend(file.parent().map(Path::to_owned));
        // Where a symlink leads to matters too.
        let real = file.canonicalize().ok();
        directories.extend(real.as_deref().and_then(Path::parent).map(Path::to_owned));
    }
    directories
}

type Listeners = HashMap<PathBuf, Vec<Weak<Notify>>>;

/// Wakes templates when something changes in the directories of their files. Cheap to clone.
#[derive(Clone)]
pub struct SourceWatcher {
    listeners: Arc<Mutex<Listeners>>,
    /// `None` where the system cannot watch.
    debouncer: Arc<Mutex<Option<Debouncer<RecommendedWatcher, NoCache>>>>,
}

impl SourceWatcher {
    /// Watches nothing yet. Where the system cannot watch, it says so and never wakes anybody.
    pub fn new() -> Self {
        let listeners = Arc::new(Mutex::new(Listeners::new()));
        let heard = listeners.clone();
        let handler = move |result: DebounceEventResult| {
            for event in result.iter().flatten().filter(|e| !e.kind.is_access()) {
                event.paths.iter().for_each(|path| tell(&heard, path));
            }
        };
        let made = new_debouncer_opt(QUIET, None, handler, NoCache, notify::Config::default());
        let debouncer = made.map_err(|e| cannot_watch(&e)).ok();
        Self { listeners, debouncer: Arc::new(Mutex::new(debouncer)) }
    }

    /// Wakes `wake` from now on when a file of `sources`, read from `path`, may have changed.
    pub fn listen(&self, path: &Path, sources: &Sources, wake: &Arc<Notify>) {
        self.listen_in(directories(path, sources), wake);
    }

    /// Wakes `wake` from now on when the one file `path` may have changed.
    pub fn listen_to(&self, path: &Path, wake: &Arc<Notify>) {
        self.listen_in(directories_of([path.to_owned()]), wake);
    }

    /// Wakes `wake` from now on when something in one of `directories` may have changed.
    pub fn listen_in(&self, directories: BTreeSet<PathBuf>, wake: &Arc<Notify>) {
        let mut debouncer = self.debouncer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(debouncer) = debouncer.as_mut() else { return };
        for directory in directories {
            let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
            let known = listeners.contains_key(&directory);
            let wakes = listeners.entry(directory.clone()).or_default();
            wakes.retain(|w| w.strong_count() > 0);
            if !wakes.iter().any(|w| std::ptr::eq(w.as_ptr(), Arc::as_ptr(wake))) {
                wakes.push(Arc::downgrade(wake));
            }
            drop(listeners); // the watcher's own thread takes it
            if !known && let Err(error) = debouncer.watch(&directory, RecursiveMode::NonRecursive) {
                cannot_watch(&error);
            }
        }
    }
}

impl Default for SourceWatcher {
    fn default() -> Self {
        Self::new()
    }
}

fn cannot_watch(error: &notify::Error) {
    warn!("edits of templates are not noticed until SIGHUP: {error}");
}

fn tell(listeners: &Mutex<Listeners>, path: &Path) {
    // Our own staged files and state; not `..data`, the symlink that Kubernetes swaps.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with('.') && !name.starts_with("..") {
        return;
    }
    let listeners = listeners.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = path.parent().unwrap_or(Path::new("."));
    let wakes = [directory, path].into_iter().filter_map(|d| listeners.get(d)).flatten();
    wakes.filter_map(Weak::upgrade).for_each(|wake| wake.notify_one());
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_template_is_read_with_all_it_includes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("parts")).unwrap();
        let main = dir.path().join("web.tmpl");
        fs::write(&main, "{% include 'parts/a' %}{% include 'gone' %}").unwrap();
        fs::write(dir.path().join("parts/a"), "{% include 'b' %}{% include 'parts/a' %}").unwrap();
        fs::write(dir.path().join("b"), "b").unwrap();
        let sources = load(&main).unwrap();
        let names: Vec<_> = sources.files.keys().map(String::as_str).collect();
        assert_eq!(names, [sources.main.as_str(), "b", "parts/a"]);
        assert_eq!(directories(&main, &sources).len(), 2);
    }

    #[test]
    fn an_unreadable_template_is_named() {
        let error = load(Path::new("/nowhere/web.tmpl")).unwrap_err();
        assert_eq!(error.to_string(), "template /nowhere/web.tmpl cannot be read");
    }

    #[tokio::test]
    async fn edits_by_rename_and_symlink_swap_wake() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("web.tmpl"), version).unwrap();
        }
        let link = |to: &str, name: &str| std::os::unix::fs::symlink(to, dir.path().join(name)).unwrap();
        link("v1", "..data");
        link("..data/web.tmpl", "web.tmpl");
        let path = dir.path().join("web.tmpl");
        let (watcher, wake) = (SourceWatcher::new(), Arc::new(Notify::new()));
        watcher.listen(&path, &load(&path).unwrap(), &wake);
        let woken = || tokio::time::timeout(Duration::from_secs(5), wake.notified());

        link("v2", "..new");
        fs::rename(dir.path().join("..new"), dir.path().join("..data")).unwrap();
        woken().await.expect("the swap of the symlink wakes");
        assert_eq!(load(&path).unwrap().files[&path.display().to_string()], "v2");

        fs::write(dir.path().join("tmp"), "v3").unwrap();
        fs::rename(dir.path().join("tmp"), &path).unwrap();
        woken().await.expect("a rename over the file wakes");
    }
}
