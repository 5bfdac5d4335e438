//! A file that one process alone holds.

use std::{
    fs::{File, TryLockError},
    thread,
    time::Duration,
};

/// Locks `file` until it is closed, trying for half a second: a process that is being started holds all locks of the
/// one that starts it, until it runs its own program.
///
/// # Errors
/// That another process holds the lock, or those of the file system.
pub fn lock_file(file: &File) -> Result<(), TryLockError> {
    for _ in 0..100 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
            other => return other,
        }
    }
    file.try_lock()
}
