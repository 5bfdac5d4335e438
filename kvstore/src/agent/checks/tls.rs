//! TLS of probes: whom they trust, and as whom they speak.

use std::{io, path::PathBuf, sync::Arc};

use kvstore_core::row::ProbeTls;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::pem;

/// Whom probes trust and as whom they speak, where the agent's configuration says so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Files of certificates, or directories of such; empty: what the system trusts.
    pub authorities: Vec<PathBuf>,
    /// Certificates and key to show to servers that ask for them.
    pub identity: Option<Identity>,
}

/// A certificate with its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, then those of its issuers.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// A file that cannot be read.
    #[error(transparent)]
    File(#[from] pem::FileError),
    /// The key is not that of the certificate.
    #[error("{} and {} cannot be used: {source}", certificates.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificates: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: Error,
    },
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TrustError`] names the file.
    pub(crate) fn check(&self) -> Result<(), TrustError> {
        if *self == Self::default() { Ok(()) } else { configs(self).map(drop) }
    }
}

/// What is agreed on within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// Nothing in particular.
    Anything,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Makes TLS out of connections. The certificates trusted are read once, when the first connection wants them.
#[derive(Debug)]
pub(super) struct Tls {
    trust: Trust,
    configs: OnceCell<Configs>,
}

#[derive(Clone, Debug)]
struct Configs {
    verifying: Arc<ClientConfig>,
    trusting: Arc<ClientConfig>,
    /// Nobody is trusted: this host has no certificates at all.
    nobody: bool,
}

impl Tls {
    pub(super) fn new(trust: Trust) -> Self {
        Self { trust, configs: OnceCell::new() }
    }

    /// Shakes hands over `stream` with who is expected to be `host`, unless `how` has another name.
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        host: &str,
        how: &ProbeTls,
        speaks: Speaks,
    ) -> io::Result<TlsStream<TcpStream>> {
        let configs = self.configs().await?;
        let config = if how.skip_verify { &configs.trusting } else { &configs.verifying };
        let expected = if how.server_name.is_empty() { host } else { &how.server_name };
        let expected = expected.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(expected.as_str())
            .map_err(|_| io::Error::other(format!("{expected:?} is no name that a certificate can have")))?
            .to_owned();
        let connected = TlsConnector::from(speaking(config, speaks)).connect(name, stream).await;
        connected.map_err(|error| {
            if !configs.nobody || how.skip_verify {
                return error;
            }
            io::Error::other(format!(
                "{error}; this host has no certificates of authorities: install them (ca-certificates), or name a \
                 file in SSL_CERT_FILE or, with enable_agent_tls_for_checks, in ca_file"
            ))
        })
    }

    async fn configs(&self) -> io::Result<&Configs> {
        let load = || async {
            let trust = self.trust.clone();
            let loaded = tokio::task::spawn_blocking(move || configs(&trust)).await;
            loaded.map_err(io::Error::other)?.map_err(io::Error::other)
        };
        self.configs.get_or_try_init(load).await
    }
}

/// The same configuration with the protocols offered; sessions to be resumed stay shared.
fn speaking(config: &Arc<ClientConfig>, speaks: Speaks) -> Arc<ClientConfig> {
    let protocol: &[u8] = match speaks {
        Speaks::Anything => return config.clone(),
        Speaks::Http1 => b"http/1.1",
        Speaks::Http2 => b"h2",
    };
    let mut config = ClientConfig::clone(config);
    config.alpn_protocols = vec![protocol.into()];
    Arc::new(config)
}

fn configs(trust: &Trust) -> Result<Configs, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let roots = if trust.authorities.is_empty() { of_system() } else { pem::authorities(&trust.authorities)? };
    let nobody = roots.is_empty();
    let builder = || {
        ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
    };
    let verifying = builder().with_root_certificates(roots);
    let anybody = Arc::new(Anybody(supported(&provider)));
    let trusting = builder().dangerous().with_custom_certificate_verifier(anybody);
    let (verifying, trusting) = match &trust.identity {
        None => (verifying.with_no_client_auth(), trusting.with_no_client_auth()),
        Some(identity) => {
            let failed = |source| TrustError::Identity {
                certificates: identity.certificates.clone(),
                key: identity.key.clone(),
                source,
            };
            let (chain, key) = (pem::certificates(&identity.certificates)?, pem::private_key(&identity.key)?);
            let verifying = verifying.with_client_auth_cert(chain.clone(), key.clone_key()).map_err(failed)?;
            (verifying, trusting.with_client_auth_cert(chain, key).map_err(failed)?)
        }
    };
    Ok(Configs { verifying: verifying.into(), trusting: trusting.into(), nobody })
}

/// What the host trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured. Certificates that cannot be read are left out.
fn of_system() -> RootCertStore {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::debug!(%error, "some certificates of this host are left out");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    roots
}

fn supported(provider: &CryptoProvider) -> WebPkiSupportedAlgorithms {
    provider.signature_verification_algorithms
}

/// Takes whatever certificate there is; that its key signed the handshake is still looked at.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
