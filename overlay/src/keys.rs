//! The keys of WireGuard: this host's own, in a file that only its owner may read; those of others; what a pair shares.
//! Secret keys are shown by nothing and wiped when they go.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{TryRng, rngs::SysRng};
use x25519_dalek::StaticSecret;
use zeroize::{Zeroize, Zeroizing};

use crate::files::write_whole;

/// A host's secret key.
#[derive(Clone)]
pub struct PrivateKey(StaticSecret);

/// A host's name in the mesh: its public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// What the two hosts of a pair mix into their handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct PresharedKey(Zeroizing<[u8; 32]>);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or made.
    #[error("cannot use the key file {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error(
        "the key file {path} is open to others (mode {mode:03o}): whoever read it is this host to the mesh; make a new key by removing it, or, if nobody did: chmod 600 {path}"
    )]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("{0} is not a WireGuard key: 32 bytes in base64 are wanted")]
    Malformed(String),
}

impl PrivateKey {
    /// A new one, of the system's randomness.
    ///
    /// # Errors
    /// If the system has none.
    pub fn generate() -> io::Result<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        SysRng.try_fill_bytes(bytes.as_mut()).map_err(io::Error::other)?;
        Ok(Self(StaticSecret::from(*bytes)))
    }

    /// The one in the file at `path`; a new one is written there if there is no such file.
    ///
    /// # Errors
    /// [`KeyError`]
    pub fn load_or_make(path: &Path) -> Result<Self, KeyError> {
        let file = |source| KeyError::File { path: path.to_owned(), source };
        match fs::metadata(path) {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => {
                Err(KeyError::Open { path: path.to_owned(), mode: metadata.mode() & 0o777 })
            }
            Ok(_) => {
                let text = Zeroizing::new(fs::read_to_string(path).map_err(file)?);
                let bytes = decode(&text).ok_or_else(|| KeyError::Malformed(path.display().to_string()))?;
                Ok(Self(StaticSecret::from(*bytes)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate().map_err(file)?;
                key.write(path).map_err(file)?;
                Ok(key)
            }
            Err(e) => Err(file(e)),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let text = Zeroizing::new(self.text().to_string() + "\n");
        write_whole(path, text.as_bytes())
    }

    /// As whoever is to have it is told it.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.0.as_bytes()))
    }

    /// What others know this host by.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// For those who speak WireGuard with it.
    pub fn secret(&self) -> &StaticSecret {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

impl PublicKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// As `wg` shows it.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes)).ok_or_else(|| KeyError::Malformed(format!("{text:?}")))
    }
}

impl PresharedKey {
    /// The key of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As other programs are told it.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(*self.0))
    }
}

impl fmt::Debug for PresharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PresharedKey(..)")
    }
}

fn decode(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let mut bytes = BASE64_STANDARD.decode(text.trim()).ok()?;
    let key = <[u8; 32]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new);
    bytes.zeroize();
    key
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let made = PrivateKey::load_or_make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(PrivateKey::load_or_make(&path).unwrap().public(), made.public());
        assert!(!format!("{made:?}").contains(&*BASE64_STANDARD.encode(made.secret().as_bytes())));
    }

    #[test]
    fn a_file_that_is_no_key_or_open_to_others_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "AAAA\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(PrivateKey::load_or_make(&path), Err(KeyError::Malformed(_))));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(PrivateKey::load_or_make(&path), Err(KeyError::Open { mode: 0o640, .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "AAAA\n");
    }

    #[test]
    fn public_keys_read_and_show_as_those_of_wg() {
        // RFC 7748, section 6.1: Alice's keys.
        let secret: [u8; 32] = *decode("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=").unwrap();
        let public = PrivateKey(StaticSecret::from(secret)).public();
        assert_eq!(public.to_string(), "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=");
        assert_eq!(public.to_string().parse::<PublicKey>().unwrap(), public);
        assert!("hSDw".parse::<PublicKey>().is_err());
    }
}
