//! Who this host is: one secret key on its disk, from which follow its key of WireGuard, the key it signs its records
//! with, and its id, which is a digest of both. So nobody can be another host, or say anything in its name.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_STANDARD};
use ring::{
    digest, hkdf,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    keys::{PrivateKey, PublicKey},
    network::NodeId,
};

/// What a host signs with, as others know it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SigningKey([u8; 32]);

/// What others know a host by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Of its tunnels.
    #[serde(with = "text")]
    pub wireguard: PublicKey,
    /// Of its records.
    #[serde(with = "text")]
    pub signing: SigningKey,
}

/// This host.
pub struct Identity {
    key: PrivateKey,
    signing: Ed25519KeyPair,
    keys: Keys,
}

impl Identity {
    /// The host whose key this is.
    pub fn new(key: PrivateKey) -> Self {
        let seed = derive(key.secret().as_bytes(), &[b"overlay/v1 signing"]);
        let signing = Ed25519KeyPair::from_seed_unchecked(&*seed).expect("any 32 bytes are a seed");
        let public = signing.public_key().as_ref().try_into().expect("RFC 8032: 32 bytes");
        let keys = Keys { wireguard: key.public(), signing: SigningKey(public) };
        Self { key, signing, keys }
    }

    /// Its secret key.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// What others know it by.
    pub fn keys(&self) -> Keys {
        self.keys
    }

    /// Its id.
    pub fn node(&self) -> NodeId {
        self.keys.node()
    }

    /// Its signature below `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.signing.sign(message).as_ref().try_into().expect("RFC 8032: 64 bytes")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Keys {
    /// The host that has them.
    pub fn node(&self) -> NodeId {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"overlay/v1 node");
        context.update(self.wireguard.as_bytes());
        context.update(&self.signing.0);
        NodeId(context.finish().as_ref()[..16].try_into().expect("32 bytes have 16"))
    }

    /// Whether `signature` is theirs below `message`.
    pub fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.signing.0).verify(message, signature).is_ok()
    }
}

impl SigningKey {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// HKDF-SHA256 (RFC 5869) of `secret` for the purpose that `info` names.
pub(crate) fn derive(secret: &[u8], info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    let expanded = hkdf::Salt::new(hkdf::HKDF_SHA256, b"flotilla overlay").extract(secret);
    let filled = expanded.expand(info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(out.as_mut()));
    filled.expect("32 bytes are within the bounds of HKDF");
    out
}

impl fmt::Display for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({self})")
    }
}

impl FromStr for SigningKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64_STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a key is 32 bytes in base64")
    }
}

/// Keys as text in JSON.
mod text {
    use std::{borrow::Cow, fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<T, D::Error> {
        Cow::<'_, str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::new(PrivateKey::generate().unwrap())
    }

    #[test]
    fn a_host_is_its_keys() {
        let (one, other) = (identity(), identity());
        assert_eq!(Identity::new(one.key().clone()).keys(), one.keys(), "the same after a restart");
        let mixed = Keys { signing: other.keys().signing, ..one.keys() };
        for keys in [other.keys(), mixed] {
            assert_ne!(keys.node(), one.node());
        }
        let text = serde_json::to_string(&one.keys()).unwrap();
        assert_eq!(serde_json::from_str::<Keys>(&text).unwrap(), one.keys());
    }

    #[test]
    fn only_its_owner_signs() {
        let (one, other) = (identity(), identity());
        let signature = one.sign(b"text");
        assert!(one.keys().signed(b"text", &signature));
        assert!(!one.keys().signed(b"texts", &signature) && !other.keys().signed(b"text", &signature));
        assert!(!one.keys().signed(b"text", &signature[..63]));
    }
}
