//! A next secret of the mesh, encrypted for one member: with what X25519 gives its key and the author's, so that only
//! the two can read it, and whoever was evicted cannot.

use base64::{Engine, prelude::BASE64_STANDARD};
use rand::{TryRng, rngs::SysRng};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    identity::derive,
    keys::{PrivateKey, PublicKey},
    secret::{Epoch, Secret},
};

/// Encrypts `secret` for the host that has `to`.
///
/// # Errors
/// If the system has no randomness.
pub fn seal(author: &PrivateKey, to: PublicKey, secret: &Secret) -> std::io::Result<String> {
    let mut nonce = [0; NONCE_LEN];
    SysRng.try_fill_bytes(&mut nonce).map_err(std::io::Error::other)?;
    let mut bytes = secret.bytes().to_vec();
    let key = key(author, to, author.public(), to);
    let aad = Aad::from(secret.epoch().to_be_bytes());
    let sealed = key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes);
    sealed.expect("32 bytes are not too many");
    let text = BASE64_STANDARD.encode([&nonce[..], &bytes].concat());
    bytes.zeroize();
    Ok(text)
}

/// What the host with the key `author` sealed for this one; `None` if it is not that.
pub fn open(mine: &PrivateKey, author: PublicKey, epoch: Epoch, sealed: &str) -> Option<Secret> {
    let bytes = BASE64_STANDARD.decode(sealed).ok()?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    let mut sealed = Zeroizing::new(sealed.to_vec());
    let key = key(mine, author, author, mine.public());
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let opened = key.open_in_place(nonce, Aad::from(epoch.to_be_bytes()), &mut sealed).ok()?;
    Some(Secret::new(epoch, <[u8; 32]>::try_from(&*opened).ok()?))
}

fn key(mine: &PrivateKey, other: PublicKey, author: PublicKey, to: PublicKey) -> LessSafeKey {
    let shared = mine.secret().diffie_hellman(&x25519_dalek::PublicKey::from(*other.as_bytes()));
    let key = derive(shared.as_bytes(), &[b"overlay/v1 seal", author.as_bytes(), to.as_bytes()]);
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key).expect("it has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_it_is_for_reads_it() {
        let [author, to, other] = [(); 3].map(|()| PrivateKey::generate().unwrap());
        let secret = Secret::new(3, [9; 32]);
        let sealed = seal(&author, to.public(), &secret).unwrap();
        let opened = open(&to, author.public(), 3, &sealed).unwrap();
        assert_eq!(*opened.text(), *secret.text());
        assert!(open(&other, author.public(), 3, &sealed).is_none());
        assert!(open(&to, other.public(), 3, &sealed).is_none(), "by whom it was not");
        assert!(open(&to, author.public(), 4, &sealed).is_none(), "of another epoch");
        for bad in ["", "AAAA", &sealed[4..], "%"] {
            assert!(open(&to, author.public(), 3, bad).is_none(), "{bad}");
        }
    }
}
