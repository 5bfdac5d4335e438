//! Network namespaces: this program's own, and those of containers.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns};

/// A network namespace. It is held open, so that it stays itself when its last process ends and the number is reused.
#[derive(Clone, Debug)]
pub struct Namespace {
    file: Arc<File>,
    /// Nothing has to be entered.
    own: bool,
}

impl Namespace {
    /// That of this program.
    ///
    /// # Errors
    /// If `/proc` is not there.
    pub fn own() -> io::Result<Self> {
        Ok(Self { own: true, ..Self::at(Path::new("/proc/self/ns/net"))? })
    }

    /// That of a process, such as the first of a container.
    ///
    /// # Errors
    /// If there is no such process, or we may not look at it.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::at(Path::new(&format!("/proc/{pid}/ns/net")))
    }

    /// The one that this file stands for, as `ip netns` and Docker keep them.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { file: Arc::new(File::open(path)?), own: false })
    }

    /// Whether it is the one that this program is in.
    ///
    /// # Errors
    /// If `/proc` is not there.
    pub fn is_own(&self) -> io::Result<bool> {
        let number = |file: &File| file.metadata().map(|about| (about.dev(), about.ino()));
        Ok(number(&self.file)? == number(&Self::own()?.file)?)
    }

    /// For as long as this value lives.
    pub fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// What `work` makes of it in there, on a thread of its own: a thread that has entered a namespace is of no use to
    /// others. What it opens there, sockets above all, stays there.
    ///
    /// # Errors
    /// If it cannot be entered: that takes `CAP_SYS_ADMIN`, unless it is our own.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if self.own {
            return Ok(work());
        }
        let inside = || setns(&*self.file, CloneFlags::CLONE_NEWNET).map(|()| work());
        let done = thread::scope(|scope| scope.spawn(inside).join());
        Ok(done.map_err(|_| io::Error::other("the work in the namespace failed"))??)
    }
}
