//! What TLS is spoken with.

use rustls::crypto::ring;

/// Has all of this process that speaks TLS use ring. [`Client::new`](crate::Client::new) does it; whoever builds a client
/// of reqwest before that has to, which would panic otherwise.
pub fn choose_crypto() {
    // An error says that it was chosen before.
    let _ = ring::default_provider().install_default();
}
