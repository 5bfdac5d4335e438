//! Files that are whole or not there, for their owner only.

use std::{
    fs::{self, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

/// Puts `bytes` in the place of what `path` holds: all or nothing, mode 0600, on the disk on return.
///
/// # Errors
/// Those of the file system; the old file is there as before.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.as_file().set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for text in ["first, and longer", "second"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(&folder.path().join("no/such"), b"x").is_err());
    }

    /// Set for a process that does the test's deed, and ends by it.
    const CHILD: &str = "WRITE_WHOLE_HERE";

    fn child(test: &str, path: &Path) -> std::process::Command {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args([&format!("files::tests::{test}"), "--exact"]).env(CHILD, path);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command
    }

    #[test]
    fn who_is_killed_leaves_the_old_file_or_the_new_one() {
        let texts = [vec![b'a'; 100_000], vec![b'b'; 70_000]];
        if let Some(path) = std::env::var_os(CHILD) {
            loop {
                for text in &texts {
                    write_whole(Path::new(&path), text).unwrap();
                }
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_whole(&path, &texts[0]).unwrap();
        for n in 0..15 {
            let mut child = child("who_is_killed_leaves_the_old_file_or_the_new_one", &path).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(7 * n));
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(texts.contains(&fs::read(&path).unwrap()), "killed after {} ms", 7 * n);
        }
    }

    #[test]
    fn a_disk_that_has_no_room_keeps_the_old_file_and_nothing_beside_it() {
        use nix::sys::{
            resource::{Resource, setrlimit},
            signal::{SigSet, Signal},
        };
        if let Some(path) = std::env::var_os(CHILD) {
            let mut signals = SigSet::empty();
            signals.add(Signal::SIGXFSZ);
            signals.thread_block().unwrap();
            setrlimit(Resource::RLIMIT_FSIZE, 1000, 1000).unwrap();
            let refused = write_whole(Path::new(&path), &[b'b'; 1001]).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge, "{refused}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_whole(&path, b"old").unwrap();
        let ended = child("a_disk_that_has_no_room_keeps_the_old_file_and_nothing_beside_it", &path).status().unwrap();
        assert!(ended.success(), "{ended}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
