//! The mesh's secret: whoever has it may join. From it follow the key that records are authenticated with, and what
//! each pair of hosts mixes into its handshakes. It is replaced by a next one, of a higher epoch, when a host is evicted.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{TryRng, rngs::SysRng};
use ring::hmac;
use zeroize::{Zeroize, Zeroizing};

use crate::{files::write_whole, identity::derive, keys::PresharedKey, network::NodeId};

/// A count of secrets; the first is 1.
pub type Epoch = u32;

/// One of the secrets a mesh has in the course of time.
#[derive(Clone)]
pub struct Secret {
    epoch: Epoch,
    bytes: Zeroizing<[u8; 32]>,
}

/// The secrets that this host knows; there is always one.
#[derive(Clone)]
pub struct Keyring {
    secrets: BTreeMap<Epoch, Secret>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read or written.
    #[error("cannot use the file of secrets {}; `overlay secret new` prints one for the first host, `overlay secret show` on a member the one to join with", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("the file of secrets {} is open to others (mode {mode:03o}): chmod 600 it, and if somebody may have read it: overlay rotate", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} holds no secret of a mesh: EPOCH.BASE64, as `overlay secret` prints it, is wanted", .0.display())]
    Malformed(PathBuf),
}

impl Secret {
    /// A new one, of the system's randomness.
    ///
    /// # Errors
    /// If the system has none.
    pub fn generate(epoch: Epoch) -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        SysRng.try_fill_bytes(bytes.as_mut()).map_err(io::Error::other)?;
        Ok(Self { epoch, bytes })
    }

    /// The one of these bytes.
    pub fn new(epoch: Epoch, bytes: [u8; 32]) -> Self {
        Self { epoch, bytes: Zeroizing::new(bytes) }
    }

    /// Which of the mesh's secrets.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// As it is handed from host to host.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{}.{}", self.epoch, BASE64_STANDARD.encode(*self.bytes)))
    }

    /// What authenticates records.
    fn record_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &*derive(&*self.bytes, &[b"overlay/v1 records"]))
    }

    /// What two hosts mix into their handshakes; the same for both.
    fn preshared(&self, one: NodeId, other: NodeId) -> PresharedKey {
        let (low, high) = (one.min(other), one.max(other));
        PresharedKey::new(*derive(&*self.bytes, &[b"overlay/v1 pair", &low.0, &high.0]))
    }
}

/// Nobody's business.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl FromStr for Secret {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, text) = text.trim().split_once('.').ok_or(())?;
        let epoch = epoch.parse().ok().filter(|epoch| *epoch > 0).ok_or(())?;
        let mut bytes = BASE64_STANDARD.decode(text).map_err(drop)?;
        let array = <[u8; 32]>::try_from(bytes.as_slice()).map_err(drop);
        bytes.zeroize();
        Ok(Self::new(epoch, array?))
    }
}

impl Keyring {
    /// One that knows `secret` only.
    pub fn new(secret: Secret) -> Self {
        Self { secrets: [(secret.epoch, secret)].into() }
    }

    /// What the file at `path` holds, one secret a line.
    ///
    /// # Errors
    /// [`SecretError`]
    pub fn load(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::File { path: path.to_owned(), source };
        let mode = fs::metadata(path).map_err(failed)?.mode();
        if mode & 0o077 != 0 {
            return Err(SecretError::Open { path: path.to_owned(), mode: mode & 0o777 });
        }
        let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        let secrets = lines.map(|line| line.parse::<Secret>().map(|secret| (secret.epoch, secret)));
        match secrets.collect::<Result<BTreeMap<_, _>, ()>>() {
            Ok(secrets) if !secrets.is_empty() => Ok(Self { secrets }),
            _ => Err(SecretError::Malformed(path.to_owned())),
        }
    }

    /// Keeps all of them at `path`, for its owner only.
    ///
    /// # Errors
    /// [`SecretError::File`]
    pub fn store(&self, path: &Path) -> Result<(), SecretError> {
        let lines = self.secrets.values().map(Secret::text);
        let text = Zeroizing::new(lines.fold(String::new(), |all, line| all + &line + "\n"));
        write_whole(path, text.as_bytes()).map_err(|source| SecretError::File { path: path.to_owned(), source })
    }

    /// The newest.
    pub fn current(&self) -> &Secret {
        self.secrets.last_key_value().expect("there is always one").1
    }

    /// Learns `secret`; one of an epoch that is known already changes nothing.
    pub fn add(&mut self, secret: Secret) {
        self.secrets.entry(secret.epoch).or_insert(secret);
    }

    /// Takes those of `other`, too.
    pub fn merge(&mut self, other: Self) {
        other.secrets.into_values().for_each(|secret| self.add(secret));
    }

    /// Whether `other` has another secret of some epoch, so that both cannot be of one mesh.
    pub fn contradicts(&self, other: &Self) -> bool {
        let differs =
            |theirs: &Secret| self.secrets.get(&theirs.epoch).is_some_and(|ours| ours.bytes() != theirs.bytes());
        other.secrets.values().any(differs)
    }

    /// Forgets those before `epoch`, but never the newest. True if there were any.
    pub fn forget_before(&mut self, epoch: Epoch) -> bool {
        let (newest, before) = (self.current().epoch, self.secrets.len());
        self.secrets.retain(|known, _| *known >= epoch.min(newest));
        self.secrets.len() < before
    }

    /// What a record says that it is authentic by, in the newest epoch.
    pub fn authenticate(&self, message: &[u8]) -> [u8; 32] {
        hmac::sign(&self.current().record_key(), message).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Whether somebody with the secret of `epoch` wrote `message`; `None` if that is not known here.
    pub fn verify(&self, epoch: Epoch, message: &[u8], mac: &[u8]) -> Option<bool> {
        let secret = self.secrets.get(&epoch)?;
        Some(hmac::verify(&secret.record_key(), message, mac).is_ok())
    }

    /// What `one` and `other` mix into their handshakes when both are at least in `epoch`: of the newest secret known
    /// here that is not above it, else of the oldest.
    pub fn preshared(&self, one: NodeId, other: NodeId, epoch: Epoch) -> PresharedKey {
        let found = self.secrets.range(..=epoch).next_back().or(self.secrets.first_key_value());
        found.expect("there is always one").1.preshared(one, other)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("epochs", &self.secrets.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    fn secret(epoch: Epoch, byte: u8) -> Secret {
        Secret::new(epoch, [byte; 32])
    }

    #[test]
    fn two_secrets_of_one_epoch_are_of_two_meshes() {
        let ring = |secrets: &[(Epoch, u8)]| {
            let mut ring = Keyring::new(secret(secrets[0].0, secrets[0].1));
            for (epoch, byte) in secrets {
                ring.add(secret(*epoch, *byte));
            }
            ring
        };
        let kept = ring(&[(1, 7), (2, 8)]);
        for (given, want) in [(&[(1, 7)][..], false), (&[(2, 8)], false), (&[(3, 9)], false), (&[(1, 9)], true)] {
            assert_eq!(kept.contradicts(&ring(given)), want, "{given:?}");
        }
    }

    #[test]
    fn secrets_are_kept_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets");
        let mut ring = Keyring::new(secret(1, 7));
        ring.add(secret(2, 8));
        ring.add(secret(2, 9));
        ring.store(&path).unwrap();
        let again = Keyring::load(&path).unwrap();
        assert_eq!((again.current().epoch, again.current().bytes()), (2, &[8; 32]));
        assert_eq!(again.secrets.len(), 2);
        assert!(!format!("{ring:?}{:?}", secret(1, 7)).contains("Bwc"), "nothing of it is shown");
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Keyring::load(&path), Err(SecretError::Open { mode: 0o640, .. })));
        for text in ["", "\n", "1.AAAA", "0.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=", "nonsense", "1"] {
            write_whole(&path, text.as_bytes()).unwrap();
            assert!(matches!(Keyring::load(&path), Err(SecretError::Malformed(_))), "{text:?}");
        }
    }

    #[test]
    fn a_pair_shares_what_no_other_has() {
        let [a, b, c] = [1, 2, 3].map(|byte| NodeId([byte; 16]));
        let mut ring = Keyring::new(secret(1, 7));
        let old = ring.preshared(a, b, 1);
        assert_eq!(old, ring.preshared(b, a, 9));
        for other in [ring.preshared(a, c, 1), Keyring::new(secret(1, 8)).preshared(a, b, 1)] {
            assert_ne!(old, other);
        }
        ring.add(secret(2, 8));
        assert_eq!(ring.preshared(a, b, 1), old, "until both have moved");
        assert_ne!(ring.preshared(a, b, 2), old);
        ring.forget_before(2);
        assert_eq!(ring.preshared(a, b, 1), ring.preshared(a, b, 2), "the old one is not known any more");
    }

    #[test]
    fn who_lacks_the_secret_writes_nothing() {
        let (ring, other) = (Keyring::new(secret(1, 7)), Keyring::new(secret(1, 8)));
        let mac = ring.authenticate(b"text");
        assert_eq!(ring.verify(1, b"text", &mac), Some(true));
        for (ring, epoch, text, wanted) in
            [(&ring, 1, b"tex2", Some(false)), (&other, 1, b"text", Some(false)), (&ring, 2, b"text", None)]
        {
            assert_eq!(ring.verify(epoch, text, &mac), wanted);
        }
    }
}
