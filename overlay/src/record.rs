//! What hosts write into the registry: records, each signed by its author and authenticated with the mesh's secret, so
//! that a registry can keep one back, but make, change or move none. Whoever decodes takes nothing for granted.

mod body;
mod key;

use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use self::{
    body::{
        BlockRecord, Body, Candidate, GoneRecord, Holding, LinksRecord, NetworkRecord, NodeRecord, SealedRecord,
        SeenRecord, Source,
    },
    key::{Key, PREFIX},
};
use crate::{
    identity::{Identity, Keys},
    network::NodeId,
    secret::{Epoch, Keyring},
};

/// The form of records.
const VERSION: u32 = 1;
/// No record is longer.
const MAX_BYTES: usize = 64 << 10;

/// A record that is authentic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// With which secret.
    pub epoch: Epoch,
    /// Higher than that of the record before it: milliseconds since 1970, or one more than that.
    pub rev: u64,
    /// Who wrote it.
    pub by: Keys,
    /// What it says.
    pub body: Body,
    /// As it was written.
    pub text: String,
}

/// Why a value is no record; nothing of it is believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is something else.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// A later version wrote it.
    #[error("it is of a later version ({0})")]
    Newer(u32),
    /// Its secret is not known here.
    #[error("it is of epoch {0}, whose secret this host does not have")]
    Epoch(Epoch),
    /// Whoever wrote it does not have the mesh's secret.
    #[error("it was not written with this mesh's secret")]
    Forged,
    /// It was not written by the one who it says wrote it.
    #[error("its signature is not that of its author")]
    Signature,
    /// Its author may not say this.
    #[error("it speaks for {speaks_for}, but is by {by}")]
    Author {
        /// The host it is about.
        speaks_for: NodeId,
        /// The one who wrote it.
        by: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope<'a> {
    v: u32,
    epoch: Epoch,
    rev: u64,
    by: Keys,
    #[serde(borrow)]
    body: &'a RawValue,
    sig: String,
    mac: String,
}

impl Record {
    /// Writes `body` for `key`.
    pub fn write(identity: &Identity, keyring: &Keyring, key: &Key, rev: u64, body: Body) -> Self {
        let raw = serde_json::value::to_raw_value(&body).expect("plain data");
        let (epoch, by) = (keyring.current().epoch(), identity.keys());
        let mut message = message(key, epoch, rev, &by, raw.get());
        let signature = identity.sign(&message);
        message.extend_from_slice(&signature);
        let envelope = Envelope {
            v: VERSION,
            epoch,
            rev,
            by,
            body: &raw,
            sig: BASE64_STANDARD.encode(signature),
            mac: BASE64_STANDARD.encode(keyring.authenticate(&message)),
        };
        let text = serde_json::to_string(&envelope).expect("plain data");
        Self { epoch, rev, by, body, text }
    }

    /// Reads what the registry has at `key`.
    ///
    /// # Errors
    /// [`RecordError`]
    pub fn read(keyring: &Keyring, key: &Key, text: &[u8]) -> Result<Self, RecordError> {
        #[cfg(test)]
        VERIFIED.set(VERIFIED.get() + 1);
        let malformed = |why: &dyn fmt::Display| RecordError::Malformed(why.to_string());
        if text.len() > MAX_BYTES {
            return Err(malformed(&format!("it is over {MAX_BYTES} bytes")));
        }
        let text = std::str::from_utf8(text).map_err(|e| malformed(&e))?;
        let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|e| malformed(&e))?;
        let Envelope { v, epoch, rev, by, body, sig, mac } = envelope;
        if v != VERSION {
            return Err(RecordError::Newer(v));
        }
        let decode = |text: &str| BASE64_STANDARD.decode(text).map_err(|e| malformed(&e));
        let (signature, mac) = (decode(&sig)?, decode(&mac)?);
        let mut message = message(key, epoch, rev, &by, body.get());
        let signed = message.len();
        message.extend_from_slice(&signature);
        match keyring.verify(epoch, &message, &mac) {
            None => return Err(RecordError::Epoch(epoch)),
            Some(false) => return Err(RecordError::Forged),
            Some(true) => {}
        }
        if !by.signed(&message[..signed], &signature) {
            return Err(RecordError::Signature);
        }
        let body = Body::read(key, body.get())?;
        match key.speaker() {
            Some(speaks_for) if speaks_for != by.node() => Err(RecordError::Author { speaks_for, by: by.node() }),
            _ => Ok(Self { epoch, rev, by, body, text: text.to_owned() }),
        }
    }

    /// Who wrote it.
    pub fn author(&self) -> NodeId {
        self.by.node()
    }
}

/// What is signed and authenticated: everything, and where it stands.
fn message(key: &Key, epoch: Epoch, rev: u64, by: &Keys, body: &str) -> Vec<u8> {
    // None of the parts but the last has a length of its own choosing and a zero byte in it.
    [
        PREFIX.as_bytes(),
        key.to_string().as_bytes(),
        &[0],
        &epoch.to_be_bytes(),
        &rev.to_be_bytes(),
        by.wireguard.as_bytes(),
        by.signing.as_bytes(),
        body.as_bytes(),
    ]
    .concat()
}

#[cfg(test)]
thread_local!(static VERIFIED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });

/// How many records this thread has verified.
#[cfg(test)]
pub(crate) fn verified() -> usize {
    VERIFIED.get()
}

#[cfg(test)]
mod tests;
