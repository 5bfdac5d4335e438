//! What this host holds, for those who give addresses and links out of it; and what it keeps on its disk so that it goes
//! on without the registry.

use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{
    clients::Client,
    files::write_whole,
    network::{Block, Network, NetworkId, NetworkName, NodeId},
    record::Holding,
    world::Changes,
};

/// Where state is kept unless told otherwise.
pub const DEFAULT_DIR: &str = "/var/lib/overlay";
/// The form of the file; a later one is not touched.
const FORMAT: u32 = 1;
const FILE: &str = "state.json";

/// What this host holds. A new one is published whenever anything of it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// This host.
    pub node: NodeId,
    /// What it is called.
    pub host: String,
    /// The interface that leads to the others.
    pub tunnel: String,
    /// Its networks, local ones too, by name.
    pub networks: Vec<HeldNetwork>,
}

/// A network, and this host's part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeldNetwork {
    /// Which.
    pub network: Network,
    /// What this host gives addresses from; empty until the registry has let it have one.
    pub blocks: Vec<Block>,
    /// The largest packet that reaches all others, in bytes.
    pub mtu: u16,
}

impl Held {
    /// The network of this name.
    pub fn named(&self, name: &NetworkName) -> Option<&HeldNetwork> {
        self.networks.iter().find(|held| held.network.name == *name)
    }

    /// The network of this id.
    pub fn network(&self, id: NetworkId) -> Option<&HeldNetwork> {
        self.networks.iter().find(|held| held.network.id == id)
    }
}

/// How full a network's blocks on this host are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Addresses that are given out.
    pub used: u64,
    /// Addresses that could be.
    pub capacity: u64,
}

/// A subnet behind this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lan {
    /// All of it.
    pub subnet: Ipv4Net,
    /// What in it has a name in the registry.
    pub names: Vec<Named>,
}

/// Something that the DNS knows by a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The service that it is.
    pub name: String,
    /// Where it is.
    pub address: Ipv4Addr,
    /// 0 where it does not matter.
    pub port: u16,
}

/// What is kept on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    format: u32,
    /// Networks that do not leave this host.
    pub local: Vec<Network>,
    /// The newest record of each key of the registry that was believed, as it was signed.
    pub records: BTreeMap<String, String>,
    /// When hosts were last seen alive, in seconds since 1970.
    pub alive: BTreeMap<NodeId, u64>,
    /// The blocks that this host holds.
    pub blocks: Vec<Holding>,
    /// Those of them that are for clients.
    pub client_blocks: Vec<Holding>,
    /// The clients of this host.
    pub clients: Vec<Client>,
    /// Registries that other members use.
    pub registries: Vec<String>,
    /// Subnets that others reach through this host.
    pub lans: Vec<Lan>,
    /// This host has left the mesh, until it is started again.
    pub left: bool,
    /// The tunnel was stopped by hand, and stays so over a restart.
    pub stopped: bool,
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be read or written.
    #[error("cannot keep the overlay's state in {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is there, but says something else.
    #[error("{} is no state of an overlay ({why}); if it cannot be mended, remove it: this host then claims new addresses", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A later version wrote it.
    #[error("{} is of a later version (format {format}, this one knows {FORMAT}); it is left as it is: use that version, or another --state-dir", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

impl Saved {
    /// What `dir` holds; nothing, if there is nothing yet.
    ///
    /// # Errors
    /// [`StateError`]
    pub fn load(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self { format: FORMAT, ..Self::default() }),
            Err(source) => return Err(StateError::Io { path, source }),
        };
        let malformed = |e: serde_json::Error| StateError::Malformed { path: path.clone(), why: e.to_string() };
        // The format first: a later one may have fields of another kind.
        let Format { format } = serde_json::from_slice(&text).map_err(malformed)?;
        if format > FORMAT {
            return Err(StateError::Newer { path, format });
        }
        serde_json::from_slice(&text).map_err(malformed)
    }

    /// Keeps it in `dir`; it is on the disk on return.
    ///
    /// # Errors
    /// [`StateError::Io`]
    pub fn store(&self, dir: &Path) -> Result<(), StateError> {
        let path = dir.join(FILE);
        let text = serde_json::to_vec(self).expect("plain data");
        write_whole(&path, &text).map_err(|source| StateError::Io { path, source })
    }
}

/// When what is believed is written to the disk. Pure. What changes often, and the registry has, now and then, and when the
/// registry is gone: who is killed in between and starts without one lacks the newest of it. What must not be lost, which nobody alone
/// stands for, at once. What this host itself has, such as its blocks, is no part of this: it is written before it is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upkeep {
    kept: Option<(Changes, Duration)>,
}

impl Upkeep {
    /// After this at the latest; when hosts were alive is then a minute old at the most.
    const EVERY: Duration = Duration::from_mins(1);
    /// Not more often, for what changes often.
    const CHANGES_EVERY: Duration = Duration::from_millis(500);

    /// Whether it is to be written at the time `now`, on a clock that only goes forward.
    pub fn is_due(&self, changes: Changes, now: Duration) -> bool {
        let Some((kept, then)) = self.kept else { return true };
        let since = now.saturating_sub(then);
        kept.shared != changes.shared || kept != changes && since >= Self::CHANGES_EVERY || since >= Self::EVERY
    }

    /// It is.
    pub fn kept(&mut self, changes: Changes, now: Duration) {
        self.kept = Some((changes, now));
    }
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::load(dir.path()).unwrap();
        saved.stopped = true;
        saved.records.insert("nodes/a".into(), "{}".into());
        saved.alive.insert(NodeId([1; 16]), 7);
        saved.store(dir.path()).unwrap();
        assert_eq!(Saved::load(dir.path()).unwrap(), saved);
    }

    #[test]
    fn what_changes_often_is_written_now_and_then_and_what_must_not_be_lost_at_once() {
        let (mut upkeep, mut changes) = (Upkeep::default(), Changes::default());
        let mut writes = |which: fn(&mut Changes) -> &mut u64, from: u64, count: u64, every_ms: u64| {
            (0..count)
                .filter(|n| {
                    *which(&mut changes) += 1;
                    let now = Duration::from_millis(from + n * every_ms);
                    let due = upkeep.is_due(changes, now);
                    if due {
                        upkeep.kept(changes, now);
                    }
                    due
                })
                .count()
        };
        assert_eq!(writes(|changes| &mut changes.all, 0, 1000, 10), 20, "a thousand in ten seconds, the first at once");
        assert_eq!(writes(|changes| &mut changes.shared, 10_000, 10, 10), 10);
        assert_eq!(writes(|changes| &mut changes.all, 60_000, 3, 60_000), 3);
        assert!(!upkeep.is_due(changes, Duration::from_secs(200)), "nothing new");
        assert!(upkeep.is_due(changes, Duration::from_mins(4)), "but when hosts were alive");
    }

    #[test]
    fn a_file_that_was_cut_off_anywhere_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = Saved::load(dir.path()).unwrap();
        saved.records.insert("nodes/a".into(), "{}".into());
        saved.alive.insert(NodeId([1; 16]), 7);
        saved.store(dir.path()).unwrap();
        let path = dir.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        for bytes in 0..whole.len() {
            fs::write(&path, &whole[..bytes]).unwrap();
            assert!(matches!(Saved::load(dir.path()), Err(StateError::Malformed { .. })), "{bytes} bytes");
            assert_eq!(fs::read(&path).unwrap(), &whole[..bytes]);
        }
    }

    #[test]
    fn what_is_not_ours_or_of_a_later_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for (text, newer) in
            [("{", false), ("[]", false), ("{\"format\":1,\"local\":7}", false), ("{\"format\":2,\"local\":7}", true)]
        {
            fs::write(&path, text).unwrap();
            let error = Saved::load(dir.path()).unwrap_err();
            assert_eq!(matches!(error, StateError::Newer { format: 2, .. }), newer, "{text}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
