//! Which call failed, on which registry, and what came back.

use std::time::Duration;

use crate::tls::TrustError;

/// Why a call to the registry failed. Unless a variant says otherwise it is not known whether a write was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configured address cannot be used; nothing was sent.
    #[error("{address:?} is no registry address: {why}; use http://HOST:PORT, https://HOST:PORT or unix:///PATH")]
    Address {
        /// As configured.
        address: String,
        /// What is wrong with it.
        why: String,
    },
    /// A file of certificates or with the token cannot be used; nothing was sent.
    #[error(transparent)]
    File(#[from] TrustError),
    /// The token cannot be sent as it is, and nothing was.
    #[error("the token has characters that no token has; is it all of one line, and nothing else?")]
    Token,
    /// One side does not take the other's certificate, or does not speak TLS.
    #[error("{call}: no TLS with the registry at {address}: {why}")]
    Tls {
        /// Method and path.
        call: String,
        /// The registry's address.
        address: String,
        /// What is wrong, with whose.
        why: String,
    },
    /// No connection, or it broke.
    #[error("{call}: cannot talk to the registry at {address}")]
    Transport {
        /// Method and path.
        call: String,
        /// The registry's address.
        address: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// No answer in time.
    #[error("{call}: no answer from the registry at {address} within {after:?}")]
    Timeout {
        /// Method and path.
        call: String,
        /// The registry's address.
        address: String,
        /// The deadline that passed.
        after: Duration,
    },
    /// The registry refused. Nothing was changed, but for 503 of one on an etcd, which may not have heard what came of it.
    #[error("{call}: the registry at {address} answered {status}: {message}")]
    Status {
        /// Method and path.
        call: String,
        /// The registry's address.
        address: String,
        /// The HTTP status.
        status: u16,
        /// The body, cut to a readable length.
        message: String,
    },
    /// The answer is not what the API promises.
    #[error("{call}: the registry at {address} sent an answer that cannot be read: {why}")]
    Decode {
        /// Method and path.
        call: String,
        /// The registry's address.
        address: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// The HTTP status, if the registry answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same call may succeed later without anybody changing it: the registry is away, busy or failing.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Transport { .. } | Self::Tls { .. } | Self::Timeout { .. } | Self::Decode { .. } => true,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            Self::Address { .. } | Self::File(_) | Self::Token => false,
        }
    }
}
