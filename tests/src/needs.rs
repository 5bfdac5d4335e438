//! What a story needs of its machine, and what to do where that is missing: skip aloud, or, in CI, fail.
//!
//! A story never finds out half-way that it cannot run: needs are looked at before it starts.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt,
    fs::read,
    path::{Path, PathBuf},
};

use crate::{program::find, target, workspace};

/// One thing that a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The right to make bridges and mounts.
    Root,
    /// A program of the machine, by its name; `tests/setup.sh` installs it.
    Program(&'static str),
    /// The device `/dev/net/tun`.
    Tun,
    /// The packages of one of the programs in `tests/clients`; `tests/setup.sh` gets them.
    Client(Client),
}

/// A language that other people's clients are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// The official Go module.
    Go,
    /// The Python Package Index.
    Python,
    /// npm.
    Node,
    /// Prometheus' own code, in Go: Debian leaves this part out of its Prometheus.
    Prometheus,
}

impl Client {
    /// The folder in `tests/clients`, and the file in it that says which packages at which versions.
    fn folder_and_list(self) -> (&'static str, &'static str) {
        match self {
            Self::Go => ("go", "go.sum"),
            Self::Python => ("python", "requirements.txt"),
            Self::Node => ("node", "package-lock.json"),
            Self::Prometheus => ("prometheus", "go.sum"),
        }
    }

    /// Where `tests/clients/install.sh` puts them.
    pub fn packages(self) -> PathBuf {
        target().join("clients").join(self.folder_and_list().0)
    }

    /// Whether they are there, at the versions that are wanted now: a copy of the list is made last.
    fn is_installed(self) -> bool {
        let (folder, list) = self.folder_and_list();
        let wanted = read(workspace().join("tests/clients").join(folder).join(list));
        let there = read(self.packages().join("complete"));
        matches!((wanted, there), (Ok(wanted), Ok(there)) if wanted == there)
    }
}

impl Need {
    /// What it takes to run our own Docker daemon and talk to it.
    pub const DOCKER: [Self; 4] = [Self::Root, Self::Program("dockerd"), Self::Program("docker"), Self::Program("ip")];

    fn is_met(self) -> bool {
        match self {
            Self::Root => nix::unistd::geteuid().is_root(),
            Self::Program(name) => find(OsStr::new(name)).is_file(),
            Self::Tun => Path::new("/dev/net/tun").exists(),
            Self::Client(client) => client.is_installed(),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::Program(name) => f.write_str(name),
            Self::Tun => f.write_str("tun"),
            Self::Client(client) => write!(f, "packages-of-tests/clients/{}", client.folder_and_list().0),
        }
    }
}

/// What to do with a story on this machine.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is there.
    Run,
    /// Something is missing: this.
    Skip(String),
    /// Something is missing that must not be where CI runs: this.
    Refuse(String),
}

/// The verdict for a story with these needs.
pub fn verdict(needs: &[Need], strict: bool) -> Verdict {
    let missing: BTreeSet<Need> = needs.iter().copied().filter(|n| !n.is_met()).collect();
    judge(&missing, strict, &allowed())
}

fn judge(missing: &BTreeSet<Need>, strict: bool, allowed: &BTreeSet<String>) -> Verdict {
    let names = |needs: &mut dyn Iterator<Item = &Need>| needs.map(Need::to_string).collect::<Vec<_>>().join(", ");
    let refused = names(&mut missing.iter().filter(|n| !allowed.contains(&n.to_string())));
    if missing.is_empty() {
        Verdict::Run
    } else if strict && !refused.is_empty() {
        Verdict::Refuse(refused)
    } else {
        Verdict::Skip(names(&mut missing.iter()))
    }
}

/// The needs that may be missing in CI: one a line, the rest of the line says why.
fn allowed() -> BTreeSet<String> {
    let text = std::fs::read_to_string(path()).unwrap_or_else(|e| panic!("{}: {e}", path().display()));
    parse(&text)
}

fn path() -> &'static Path {
    static PATH: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    PATH.get_or_init(|| workspace().join("tests/allowed-skips.txt"))
}

fn parse(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim).filter(|l| !l.starts_with('#'));
    lines.filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_things_may_be_missing_in_ci() {
        let allowed = parse("# why\n\n  systemd   not as process 1 there\n");
        for (missing, strict, want) in [
            (&[][..], true, Verdict::Run),
            (&[Need::Root], false, Verdict::Skip("root".into())),
            (&[Need::Root], true, Verdict::Refuse("root".into())),
            (&[Need::Program("systemd")], true, Verdict::Skip("systemd".into())),
            (&[Need::Program("systemd"), Need::Program("dig")], true, Verdict::Refuse("dig".into())),
        ] {
            let missing = missing.iter().copied().collect();
            assert_eq!(judge(&missing, strict, &allowed), want, "{missing:?} {strict}");
        }
    }

    #[test]
    fn a_program_is_there_or_not() {
        assert!(Need::Program("sh").is_met());
        assert!(!Need::Program("no-such-program").is_met());
    }
}
