//! How many files and connections this process may have open at the same time.

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// Lets it have as many as the system's owner allows; a shell or systemd gives a process 1024 unless it asks for more.
///
/// # Errors
/// The system's; the limit stays as it is.
pub(crate) fn raise() -> Result<(), Errno> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
}

/// The limit now.
pub(crate) fn limit() -> u64 {
    // That of any process that was not given another.
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}
