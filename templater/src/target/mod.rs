//! Who reads the file: recognised from its name or text, checked with its own program, found and reloaded.

pub mod container;
pub mod docker;
pub mod haproxy;
mod mounts;
pub mod nginx;
pub mod process;
pub mod readers;
pub mod reloads;
pub mod runtime;
pub mod signal;

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// A program whose check and reload are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HAProxy.
    HaProxy,
    /// nginx.
    Nginx,
}

impl Kind {
    /// The name of its program.
    pub fn program(self) -> &'static str {
        match self {
            Self::HaProxy => "haproxy",
            Self::Nginx => "nginx",
        }
    }

    /// Recognises who reads `destination` by its path, else by its `text`.
    pub fn recognise(destination: &Path, text: &str) -> Option<Self> {
        let by = |part: Option<&std::ffi::OsStr>| {
            let part = part.unwrap_or_default().to_string_lossy().to_lowercase();
            match (part.contains("haproxy"), part.contains("nginx")) {
                (true, false) => Some(Self::HaProxy),
                (false, true) => Some(Self::Nginx),
                _ => None,
            }
        };
        // `haproxy-targets.json` is somebody else's.
        let suffix = destination.extension().map(|e| e.to_string_lossy().to_lowercase());
        let usual = matches!(suffix.as_deref(), None | Some("cfg" | "conf"));
        by(destination.file_name()).filter(|_| usual).or_else(|| Self::by_text(text))
    }

    fn by_text(text: &str) -> Option<Self> {
        if haproxy::looks_like(text) {
            Some(Self::HaProxy)
        } else if nginx::looks_like(text) {
            Some(Self::Nginx)
        } else {
            None
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HaProxy => "HAProxy",
            Self::Nginx => "nginx",
        })
    }
}

/// `path` as seen from `base`, without `.` and `..`.
pub(crate) fn absolute(base: &Path, path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_recognised_by_name_then_by_text() {
        let haproxy = "global\n  maxconn 10\ndefaults\n  mode http\n";
        let nginx = "events {}\nhttp {\n}\n";
        let upstream = "# x\nupstream web {\n  server 1.2.3.4:80;\n}\n";
        let cases = [
            ("/etc/haproxy/haproxy.cfg", "", Some(Kind::HaProxy)),
            ("/srv/my-haproxy.cfg", "", Some(Kind::HaProxy)),
            ("/srv/nginx.conf", "", Some(Kind::Nginx)),
            ("/srv/proxy.cfg", haproxy, Some(Kind::HaProxy)),
            ("/srv/main.conf", nginx, Some(Kind::Nginx)),
            ("/etc/nginx/conf.d/web.conf", upstream, Some(Kind::Nginx)),
            ("/srv/web.conf", upstream, Some(Kind::Nginx)),
            ("/etc/nginx/README", "some words", None),
            ("/srv/haproxy-targets.json", "[]", None),
            ("/srv/app.ini", "[global]\nx = 1\n", None),
            ("/srv/app.conf", "server 1.2.3.4\n", None),
            ("/srv/servers.txt", "server web {\n", None),
        ];
        for (path, text, expected) in cases {
            assert_eq!(Kind::recognise(Path::new(path), text), expected, "{path} {text}");
        }
    }

    #[test]
    fn paths_are_made_absolute() {
        for (base, path, expected) in [("/a/b", "c", "/a/b/c"), ("/a/b", "../c/./d", "/a/c/d"), ("/a", "/x", "/x")] {
            assert_eq!(absolute(Path::new(base), Path::new(path)), Path::new(expected));
        }
    }
}
