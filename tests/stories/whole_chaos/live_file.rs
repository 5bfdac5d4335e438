//! Looks at a proxy's live file all the time, and has the proxy judge each version of it.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use flotilla_tests::program::Launch;

/// Between two looks; templater waits for ten times as long before it writes again.
const PAUSE: Duration = Duration::from_millis(5);
/// No look of HAProxy's takes longer.
const LIMIT: Duration = Duration::from_mins(1);

/// A file that is being watched.
pub(super) struct LiveFile {
    stop: Arc<AtomicBool>,
    found: Arc<Mutex<Found>>,
    threads: Vec<JoinHandle<()>>,
}

/// What was seen so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// So many versions are good.
    pub(super) good: usize,
    /// What HAProxy said of the others, and these.
    pub(super) bad: Vec<String>,
}

impl LiveFile {
    /// Begins; the file need not be there yet.
    pub(super) fn watch(path: PathBuf) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Found::default())));
        let (versions, received) = mpsc::channel();
        let stopped = stop.clone();
        let look = move || {
            let mut last = None;
            // A last look after the stop, so that a version which was there by then is seen.
            loop {
                let stop = stopped.load(Ordering::Relaxed);
                let seen =
                    fs::metadata(&path).ok().map(|file| (file.ino(), file.mtime(), file.mtime_nsec(), file.len()));
                if seen.is_some() && seen != last {
                    // It may be another one's by now; then that is what the next look sees again.
                    if let Ok(text) = fs::read(&path) {
                        let _ = versions.send(text);
                    }
                    last = seen;
                }
                if stop {
                    break;
                }
                thread::sleep(PAUSE);
            }
        };
        let judged = found.clone();
        let judge = move || {
            for text in received {
                let said = check(&text);
                let mut found = judged.lock().unwrap_or_else(PoisonError::into_inner);
                match said {
                    Ok(()) => found.good += 1,
                    Err(said) => found.bad.push(format!("{said}\n{}", String::from_utf8_lossy(&text))),
                }
            }
        };
        Self { stop, found, threads: vec![thread::spawn(look), thread::spawn(judge)] }
    }

    /// What was judged so far.
    pub(super) fn found(&self) -> Found {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops, when all versions were judged that were there.
    pub(super) fn stop(&mut self) -> Found {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("it does not panic");
        }
        self.found()
    }
}

impl Drop for LiveFile {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What `haproxy -c` says of a configuration.
fn check(text: &[u8]) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(file.path(), text).expect("our own file");
    let mut program = Launch::new("haproxy").args(["-c", "-f"]).args([file.path()]).start();
    if program.wait(LIMIT).success() { Ok(()) } else { Err(program.log()) }
}

/// Shows that it finds a bad version: one that is live for a moment between two good ones.
pub(super) fn finds_bad_ones() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (live, staged) = (dir.path().join("haproxy.cfg"), dir.path().join("staged"));
    let mut watched = LiveFile::watch(live.clone());
    for mode in ["http", "htpp", "tcp"] {
        fs::write(&staged, format!("listen web\n    mode {mode}\n    bind 127.0.0.1:1\n")).expect("our own directory");
        fs::rename(&staged, &live).expect("our own directory");
        thread::sleep(10 * PAUSE);
    }
    let found = watched.stop();
    assert!(found.good == 2 && found.bad.len() == 1 && found.bad[0].contains("htpp"), "{found:?}");
}
