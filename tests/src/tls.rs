//! Authorities and certificates made for a story, and a front that speaks TLS before what speaks none.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

/// An authority, with files as Docker names them: `ca.pem`, and the client's `cert.pem` and `key.pem`.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    /// A new one, which has signed a client's certificate.
    ///
    /// # Panics
    /// If there is no place for its files.
    pub fn new(name: &str) -> Self {
        kvstore_client::choose_crypto();
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("its own word");
        let authority = Self { issuer, dir: tempfile::tempdir().expect("a temporary directory can be made") };
        let (certificate, key) = authority.sign("client.example");
        authority.write("ca.pem", &authority.issuer.pem());
        authority.write("cert.pem", &certificate);
        authority.write("key.pem", &key);
        authority
    }

    /// Where its files are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> String {
        self.dir().join(name).display().to_string()
    }

    /// Writes a file of this name.
    ///
    /// # Panics
    /// If that fails.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir().join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path
    }

    /// Certificate and key for a server or client of this name or address, as PEM.
    ///
    /// # Panics
    /// If it is no name.
    pub fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).expect("the authority's key").pem(), key.serialize_pem())
    }

    /// A server of this name, for clients that have a certificate of this authority.
    fn server(&self, name: &str) -> ServerConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is an authority");
        let verifier = WebPkiClientVerifier::builder(roots.into()).build().expect("there is an authority");
        let (certificate, key) = self.sign(name);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("just made")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("just made");
        let builder = ServerConfig::builder().with_client_cert_verifier(verifier);
        builder.with_single_cert(chain, key).expect("they belong together")
    }
}

/// Speaks TLS, and passes what it gets on without; dropping it ends it and its connections.
pub struct Front {
    /// Where it listens.
    pub address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Front {
    /// Listens at `address` as `name`, certified by `authority`, for whoever is certified by it too; `behind` is who
    /// answers.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(address: SocketAddr, authority: &Authority, name: &str, behind: SocketAddr) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(authority.server(name)));
        let listener = TcpListener::bind(address).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        let address = listener.local_addr().expect("it listens");
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(pass_on(acceptor.clone(), stream, behind));
            }
        });
        Self { address, serving }
    }

    /// Ends it; its address is free then.
    pub async fn end(mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }
}

async fn pass_on(acceptor: TlsAcceptor, stream: TcpStream, behind: SocketAddr) {
    match acceptor.accept(stream).into_fallible().await {
        Ok(mut stream) => {
            if let Ok(mut answering) = TcpStream::connect(behind).await {
                let _ = copy_bidirectional(&mut stream, &mut answering).await;
            }
        }
        // Until the client has seen why: a close before that would be a reset.
        Err((_, mut refused)) => while matches!(refused.read(&mut [0; 4096]).await, Ok(1..)) {},
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
