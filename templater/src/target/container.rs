//! A running container as a user of some files: which one is, and what our files are called inside.

use std::path::{Path, PathBuf};

use bollard::models::ContainerInspectResponse;

use super::{Kind, haproxy, nginx, process};

/// A running container that uses some files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its name, for messages.
    pub name: String,
    /// What runs in it.
    pub kind: Kind,
    /// The files.
    pub files: Vec<Seen>,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its working directory.
    pub directory: PathBuf,
}

/// A file as a container sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What we call it.
    pub ours: PathBuf,
    /// What it is called inside.
    pub inside: PathBuf,
    /// The file itself is mounted, not a directory above it: a file renamed into place would never be seen inside.
    pub is_mount: bool,
}

/// The container as a user of `files`, if it runs `kind` and its command does not show that it uses others.
pub(super) fn recognise(kind: Kind, details: ContainerInspectResponse, files: Vec<Seen>) -> Option<Container> {
    let argv = arguments(&details);
    let program = kind.program();
    let runs = |word: &String| Path::new(word).file_name().is_some_and(|name| name == program);
    let image = details.config.as_ref().and_then(|config| config.image.as_deref()).unwrap_or_default();
    // A templater has the directory mounted too, and may well have the program in its image or arguments.
    let is_templater = argv.iter().any(|word| Path::new(word).file_name().is_some_and(|name| name == "templater"));
    if is_templater || !argv.iter().any(runs) && !image.contains(program) {
        return None;
    }
    let directory = directory(&details);
    let uses = match kind {
        Kind::HaProxy => {
            let configured = haproxy::configured(&argv, &directory);
            // A start script may hold the names; then the mount has to do.
            let uses = |file: &Path| configured.iter().any(|p| *p == file || file.parent() == Some(p));
            configured.is_empty() || files.iter().any(|file| uses(&file.inside))
        }
        // A part is included from some file that only nginx knows; the mount has to do.
        Kind::Nginx => true,
    };
    uses.then(|| Container::new(kind, details, files))
}

/// Program and arguments.
fn arguments(details: &ContainerInspectResponse) -> Vec<String> {
    let mut argv = vec![details.path.clone().unwrap_or_default()];
    argv.extend(details.args.clone().unwrap_or_default());
    argv
}

/// The working directory.
fn directory(details: &ContainerInspectResponse) -> PathBuf {
    let configured = details.config.as_ref().and_then(|config| config.working_dir.clone());
    configured.filter(|dir| !dir.is_empty()).unwrap_or_else(|| "/".into()).into()
}

impl Container {
    /// As a user of `files`.
    pub(super) fn new(kind: Kind, details: ContainerInspectResponse, files: Vec<Seen>) -> Self {
        let (argv, directory) = (arguments(&details), directory(&details));
        Self {
            id: details.id.unwrap_or_default(),
            name: details.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            kind,
            files,
            argv,
            directory,
        }
    }

    /// The main file of the nginx in it.
    pub fn nginx_main(&self) -> PathBuf {
        nginx::started(&self.argv, &self.directory).main
    }

    /// `file` as the container sees it, and whether it is itself a mount.
    pub fn inside(&self, file: &Path) -> (PathBuf, bool) {
        let seen = self.files.iter().find(|seen| seen.ours == file);
        seen.map_or_else(|| (file.to_owned(), true), |seen| (seen.inside.clone(), seen.is_mount))
    }

    /// `path`, beside `file` on our side, as the container sees it.
    pub fn beside(&self, path: &Path, file: &Path) -> PathBuf {
        self.inside(file).0.with_file_name(path.file_name().unwrap_or_default())
    }

    /// The files in `directory` of the container, as far as it is the directory of one of ours.
    pub fn list<'a>(&self, directory: &Path, ours: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
        let mut here = ours.filter(|file| self.inside(file).0.parent() == Some(directory));
        let Some(file) = here.next() else { return Vec::new() };
        let all = process::list(file.parent().unwrap_or(Path::new("/")));
        all.iter().map(|path| self.beside(path, file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ContainerConfig;

    #[test]
    fn a_container_is_a_user_if_its_program_and_file_fit() {
        let cases = [
            ("haproxy", "-W -f /etc/haproxy/haproxy.cfg", "any", true),
            ("haproxy", "-W -f haproxy.cfg", "any", true),
            ("haproxy", "-W -f /etc/haproxy", "any", true),
            ("haproxy", "-W -f /etc/other.cfg", "any", false),
            ("docker-entrypoint.sh", "haproxy -f /etc/haproxy/haproxy.cfg", "any", true),
            ("/start.sh", "", "haproxy:3", true),
            ("/start.sh", "", "any", false),
            ("templater", "--template haproxy.tmpl", "haproxy-with-templater", false),
            ("/opt/lb", "--exec haproxy.tmpl", "any", false),
            ("nginx", "-g daemon_off;", "any", false),
        ];
        for (path, args, image, expected) in cases {
            let details = ContainerInspectResponse {
                path: Some(path.into()),
                args: Some(args.split(' ').map(str::to_owned).collect()),
                config: Some(ContainerConfig {
                    image: Some(image.into()),
                    working_dir: Some("/etc/haproxy".into()),
                    ..ContainerConfig::default()
                }),
                ..ContainerInspectResponse::default()
            };
            let found = recognise(
                Kind::HaProxy,
                details,
                vec![Seen {
                    ours: "/srv/haproxy.cfg".into(),
                    inside: "/etc/haproxy/haproxy.cfg".into(),
                    is_mount: false,
                }],
            );
            assert_eq!(found.is_some(), expected, "{path} {args} {image}");
        }
    }
}
