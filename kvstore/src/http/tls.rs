//! TLS of the API: who this agent is, and who its clients must be. Certificates that are exchanged on the disk are taken
//! up by themselves.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use kvstore_client::{
    fresh::Fresh,
    pem::{self, FileError},
    tls::Identity,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    server::{VerifierBuilderError, WebPkiClientVerifier},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// The time a client may take to shake hands.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// The files that TLS is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// This agent's.
    pub identity: Identity,
    /// Who vouches for clients: files of certificates, or directories of such. Empty: a client needs no certificate.
    pub clients: Vec<PathBuf>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key is not that of the certificate.
    #[error("{} and {} cannot be used together", identity.certificates.display(), identity.key.display())]
    Identity {
        /// The files.
        identity: Identity,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// No client could show a certificate that counts.
    #[error("clients cannot be asked for certificates")]
    Clients(#[from] VerifierBuilderError),
}

impl ServerTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`]
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has the suites of TLS 1.2 and 1.3");
        let builder = if self.clients.is_empty() {
            builder.with_no_client_auth()
        } else {
            let authorities = Arc::new(pem::authorities(&self.clients)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        };
        let (certificates, key) = self.identity.load()?;
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(|source| TlsError::Identity { identity: self.identity.clone(), source })?;
        config.alpn_protocols = vec![b"http/1.1".into()];
        Ok(config.into())
    }

    fn files(&self) -> Vec<PathBuf> {
        [&self.identity.certificates, &self.identity.key].into_iter().chain(&self.clients).cloned().collect()
    }
}

/// Speaks TLS on connections. Clones share what was read.
#[derive(Clone)]
pub(super) struct Handshakes(Arc<Fresh<Arc<ServerConfig>, TlsError>>);

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshakes")
    }
}

impl Handshakes {
    /// # Errors
    /// [`TlsError`] if the files cannot be used now.
    pub(super) fn new(files: ServerTls) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(Fresh::new(files.files(), move || files.load())?)))
    }

    /// Shakes hands, with what the files hold now.
    ///
    /// # Errors
    /// If the client does not agree, or not in time.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let accepting = TlsAcceptor::from(self.0.get()).accept(stream);
        tokio::time::timeout(HANDSHAKE_DEADLINE, accepting).await?
    }
}
