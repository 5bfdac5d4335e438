//! TLS of the API: who this agent is, and who its clients must be. Certificates that are exchanged on the disk are taken
//! up by themselves.

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use kvstore_client::{
    pem::{self, FileError},
    with_causes,
};
use rustls::{ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// From one look at the files to the next, as far as connections come.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The time a client may take to shake hands.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// The files that TLS is spoken with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// This agent's certificate, then those of its issuers.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
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
    #[error("{} and {} cannot be used together", certificates.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificates: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: rustls::Error,
    },
    /// No client could show a certificate that counts.
    #[error("clients cannot be asked for certificates")]
    Clients(#[from] rustls::server::VerifierBuilderError),
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
        let (certificates, key) = (pem::certificates(&self.certificates)?, pem::private_key(&self.key)?);
        let mut config = builder.with_single_cert(certificates, key).map_err(|source| TlsError::Identity {
            certificates: self.certificates.clone(),
            key: self.key.clone(),
            source,
        })?;
        config.alpn_protocols = vec![b"http/1.1".into()];
        Ok(config.into())
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.certificates, &self.key].into_iter().chain(&self.clients)
    }

    /// When each file was last changed.
    fn stamps(&self) -> Vec<Option<SystemTime>> {
        self.files().map(|file| fs::metadata(file).and_then(|found| found.modified()).ok()).collect()
    }
}

/// Speaks TLS on connections. Clones share what was read.
#[derive(Clone)]
pub(super) struct Handshakes(Arc<Parts>);

struct Parts {
    files: ServerTls,
    state: Mutex<Read>,
}

/// What was read, and when the files were looked at.
struct Read {
    config: Arc<ServerConfig>,
    stamps: Vec<Option<SystemTime>>,
    looked: Instant,
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.files.fmt(f)
    }
}

impl Handshakes {
    /// # Errors
    /// [`TlsError`] if the files cannot be used now.
    pub(super) fn new(files: ServerTls) -> Result<Self, TlsError> {
        // Looked at before they are read: what changes in between is read again.
        let (stamps, looked) = (files.stamps(), Instant::now());
        let state = Mutex::new(Read { config: files.load()?, stamps, looked });
        Ok(Self(Arc::new(Parts { files, state })))
    }

    /// Shakes hands, with what the files hold now.
    ///
    /// # Errors
    /// If the client does not agree, or not in time.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let accepting = TlsAcceptor::from(self.config()).accept(stream);
        tokio::time::timeout(HANDSHAKE_DEADLINE, accepting).await?
    }

    fn config(&self) -> Arc<ServerConfig> {
        let Parts { files, state } = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= LOOK_EVERY {
            let stamps = files.stamps();
            if stamps != state.stamps {
                match files.load() {
                    Ok(config) => {
                        tracing::info!(certificate = %files.certificates.display(), "TLS goes on with the new files");
                        state.config = config;
                    }
                    // Perhaps half of them is exchanged only; the rest changes them once more.
                    Err(error) => {
                        tracing::warn!(error = with_causes(&error), "TLS goes on with the files as they were");
                    }
                }
                state.stamps = stamps;
            }
            state.looked = Instant::now();
        }
        state.config.clone()
    }
}
