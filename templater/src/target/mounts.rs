//! What a file is called on the host and in its containers, by what they have mounted.

use std::path::{Path, PathBuf};

use bollard::models::MountPoint;

/// A directory or file of the host inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// On the host.
    source: PathBuf,
    /// In the container.
    destination: PathBuf,
}

/// What Docker says is mounted in a container.
pub(super) fn mounts(points: Option<&[MountPoint]>) -> Vec<Mount> {
    let mount = |point: &MountPoint| {
        let source = PathBuf::from(point.source.as_ref()?);
        Some(Mount {
            // Docker keeps a path as it was given; the file's own path is canonical.
            source: source.canonicalize().unwrap_or(source),
            destination: PathBuf::from(point.destination.as_ref()?),
        })
    };
    points.unwrap_or_default().iter().filter_map(mount).collect()
}

/// The id of the container we run in: Docker mounts `/etc/hostname` from a directory named by it.
pub(super) fn own_id(mountinfo: &str) -> Option<&str> {
    mountinfo.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        if *fields.get(4)? != "/etc/hostname" {
            return None;
        }
        let id = fields[3].split("/containers/").nth(1)?.split('/').next()?;
        (id.len() == 64).then_some(id)
    })
}

/// Where `file` of the host is in a container with `mounts`, and whether it is itself a mount.
pub(super) fn inside(mounts: &[Mount], file: &Path) -> Option<(PathBuf, bool)> {
    let below = |mount: &Mount| {
        let rest = file.strip_prefix(&mount.source).ok()?;
        let itself = rest.as_os_str().is_empty();
        let path = if itself { mount.destination.clone() } else { mount.destination.join(rest) };
        Some((path, itself, mount.source.components().count()))
    };
    // The deepest mount is the one that shows.
    let (path, itself, _) = mounts.iter().filter_map(below).max_by_key(|(_, _, depth)| *depth)?;
    Some((path, itself))
}

/// Where `file` of a container with `mounts` is on the host.
pub(super) fn outside(mounts: &[Mount], file: &Path) -> Option<PathBuf> {
    let deepest = mounts
        .iter()
        .filter(|m| file.starts_with(&m.destination))
        .max_by_key(|m| m.destination.components().count())?;
    let rest = file.strip_prefix(&deepest.destination).ok()?;
    let is_itself = rest.as_os_str().is_empty();
    Some(if is_itself { deepest.source.clone() } else { deepest.source.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(source: &str, destination: &str) -> Mount {
        Mount { source: source.into(), destination: destination.into() }
    }

    #[test]
    fn paths_are_mapped_through_the_deepest_mount() {
        let mounts = [mount("/srv", "/data"), mount("/srv/lb", "/etc/haproxy"), mount("/srv/one.cfg", "/one.cfg")];
        let cases = [
            ("/srv/lb/haproxy.cfg", Some(("/etc/haproxy/haproxy.cfg", false))),
            ("/srv/x", Some(("/data/x", false))),
            ("/srv/one.cfg", Some(("/one.cfg", true))),
            ("/other", None),
        ];
        for (file, expected) in cases {
            let expected = expected.map(|(path, itself)| (PathBuf::from(path), itself));
            assert_eq!(inside(&mounts, Path::new(file)), expected, "{file}");
        }
        let host = outside(&mounts, Path::new("/etc/haproxy/haproxy.cfg"));
        assert_eq!(host, Some("/srv/lb/haproxy.cfg".into()));
        assert_eq!(outside(&mounts, Path::new("/etc/passwd")), None);
    }

    #[test]
    fn our_own_container_is_known_by_its_hostname_file() {
        let id = "a".repeat(64);
        let line = format!("700 650 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/sda1 rw");
        assert_eq!(own_id(&format!("1 2 0:3 / / rw - x x x\n{line}\n")), Some(id.as_str()));
        // A host sees its containers' files, but not at that place.
        let host = format!("5 4 0:9 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw");
        assert_eq!(own_id(&host), None);
    }
}
