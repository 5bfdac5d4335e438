//! TLS of clients: whom they trust, as whom they speak, and in plain words why it did not work. The agent's probes are
//! such clients, too.

use std::{io, path::PathBuf, sync::Arc};

use rustls::{
    AlertDescription as Alert, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{WebPkiSupportedAlgorithms, ring},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};

use crate::pem::{self, FileError};

/// Has all of this process that speaks TLS use ring. [`Client::new`](crate::Client::new) does it; whoever builds a client
/// of reqwest before that has to, which would panic otherwise.
pub fn choose_crypto() {
    // An error says that it was chosen before.
    let _ = ring::default_provider().install_default();
}

/// A certificate with its key, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, then those of its issuers.
    pub certificates: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Identity {
    /// Reads both.
    ///
    /// # Errors
    /// [`FileError`]
    pub fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), FileError> {
        Ok((pem::certificates(&self.certificates)?, pem::private_key(&self.key)?))
    }
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// One cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key is not that of the certificate.
    #[error("{} and {} cannot be used: {source}", certificates.display(), key.display())]
    Identity {
        /// The certificate's file.
        certificates: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        #[source]
        source: TlsError,
    },
}

/// Whose certificates are taken.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Those that one of these authorities has signed.
    Roots(RootCertStore),
    /// Everybody's.
    Anybody,
}

/// TLS with servers whom `trust` takes, as `identity` towards those that ask who we are.
///
/// # Errors
/// [`TrustError`]
pub fn client_config(trust: Trust, identity: Option<&Identity>) -> Result<ClientConfig, TrustError> {
    let provider = Arc::new(ring::default_provider());
    let anybody = Anybody(provider.signature_verification_algorithms);
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of TLS 1.2 and 1.3");
    let builder = match trust {
        Trust::Roots(roots) => builder.with_root_certificates(roots),
        Trust::Anybody => builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody)),
    };
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let (chain, key) = identity.load()?;
    builder.with_client_auth_cert(chain, key).map_err(|source| TrustError::Identity {
        certificates: identity.certificates.clone(),
        key: identity.key.clone(),
        source,
    })
}

/// What the host trusts; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured. Certificates that cannot be read are left out.
pub fn of_system() -> RootCertStore {
    let loaded = rustls_native_certs::load_native_certs();
    for error in &loaded.errors {
        tracing::debug!(%error, "some certificates of this host are left out");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    roots
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
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// What TLS has against the other side, or the other side against us as `identity`; `None` if `error` is none of TLS.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static), identity: Option<&Identity>) -> Option<String> {
    Some(match tls_error(error)? {
        TlsError::InvalidCertificate(why) => rejected(why),
        TlsError::AlertReceived(alert) => refused(*alert, identity)?,
        TlsError::InvalidMessage(_) => "what answers there does not speak TLS; http:// perhaps".to_owned(),
        other => other.to_string(),
    })
}

/// The first error of TLS among `error` and its causes; one of I/O hides what it was made of from the chain of causes.
fn tls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a TlsError> {
    std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        error.downcast_ref().or_else(|| inner.and_then(|inner| tls_error(inner)))
    })
}

/// What is wrong with the other side's certificate.
fn rejected(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "its certificate is from an authority that is not known here; --ca-file or CONSUL_CACERT names one".into()
        }
        CertificateError::ExpiredContext { time, not_after } => {
            format!("its certificate expired {} ago", about(*not_after, *time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("its certificate is not valid yet, but in {}; is a clock wrong?", about(*time, *not_before))
        }
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is not for {}, but for {}; --tls-server-name or CONSUL_TLS_SERVER_NAME says whom to expect",
            expected.to_str(),
            names(presented)
        ),
        other => format!("its certificate is not taken: {other}"),
    }
}

/// The time between the two, so that the same is said for a while.
fn about(from: UnixTime, to: UnixTime) -> String {
    match to.as_secs().saturating_sub(from.as_secs()) / 3600 {
        0 => "less than an hour".into(),
        hours if hours < 48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}

/// Of `DnsName("web.example")` and the like, what is inside.
fn names(presented: &[String]) -> String {
    let inside = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
        inside.unwrap_or(name).trim_matches('"').to_owned()
    };
    let all: Vec<_> = presented.iter().map(inside).collect();
    if all.is_empty() { "no name at all".into() } else { all.join(", ") }
}

/// What the other side has against our certificate, or that we have none.
fn refused(alert: Alert, identity: Option<&Identity>) -> Option<String> {
    let about_us = matches!(
        alert,
        Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::HandshakeFailure
    );
    match identity {
        _ if !about_us => None,
        Some(identity) => {
            Some(format!("it does not take the certificate in {}: {alert:?}", identity.certificates.display()))
        }
        None => Some(format!(
            "it wants a certificate of ours ({alert:?}): --client-cert and --client-key, or CONSUL_CLIENT_CERT and \
             CONSUL_CLIENT_KEY"
        )),
    }
}
