//! The client against real servers of TLS: who is taken for the registry, who is not and why, and what changes in files.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use kvstore_client::{Client, ClientConfig, Error, TlsConfig, choose_crypto, tls::Identity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener},
    sync::mpsc,
};
use tokio_rustls::TlsAcceptor;

/// An authority, and a directory for what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

/// For whom a certificate is, and whether its time is over.
#[derive(Clone, Copy)]
struct Subject(&'static str, bool);

impl Authority {
    fn new(name: &str) -> Self {
        choose_crypto();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, dir: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn ca(&self) -> PathBuf {
        self.file("ca.pem", &self.issuer.pem())
    }

    /// Certificate and key, as PEM.
    fn sign(&self, Subject(name, expired): Subject) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        if expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn identity(&self, subject: Subject) -> Identity {
        let (certificate, key) = self.sign(subject);
        Identity { certificates: self.file("client.pem", &certificate), key: self.file("client.key", &key) }
    }

    /// Speaks TLS as `subject`, and wants certificates of this authority from clients if it `asks`.
    fn server(&self, subject: Subject, asks: bool) -> ServerConfig {
        let builder = ServerConfig::builder();
        let builder = if asks {
            let mut roots = RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (certificate, key) = self.sign(subject);
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
        builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
    }
}

/// Whom a client asked for, and what it sent.
type Asked = mpsc::UnboundedReceiver<(Option<String>, String)>;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 14\r\nConnection: close\r\n\r\n\"10.0.0.1:830\"";

async fn serve(config: ServerConfig) -> (SocketAddr, Asked) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (said, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = match acceptor.accept(stream).into_fallible().await {
                Ok(stream) => stream,
                Err((_, mut refused)) => {
                    // Until the client has seen why: a close before that would be a reset.
                    while matches!(refused.read(&mut [0; 4096]).await, Ok(1..)) {}
                    continue;
                }
            };
            let name = stream.get_ref().1.server_name().map(str::to_owned);
            let mut request = vec![0; 4096];
            let Ok(length) = stream.read(&mut request).await else { continue };
            let _ = said.send((name, String::from_utf8_lossy(&request[..length]).to_lowercase()));
            let _ = stream.write_all(ANSWER).await;
            let _ = stream.shutdown().await;
        }
    });
    (address, asked)
}

fn config(address: SocketAddr, tls: TlsConfig) -> ClientConfig {
    ClientConfig { addresses: vec![format!("https://{address}")], tls, ..ClientConfig::default() }
}

fn trusting(path: PathBuf) -> TlsConfig {
    TlsConfig { authorities: vec![path], ..TlsConfig::default() }
}

/// Why the call failed; empty if it did not.
async fn why(config: &ClientConfig) -> String {
    match Client::new(config).unwrap().leader().await {
        Ok(_) => String::new(),
        Err(Error::Tls { why, address, .. }) => format!("{address}: {why}"),
        Err(other) => panic!("{}", kvstore_client::with_causes(&other)),
    }
}

const LOCAL: Subject = Subject("127.0.0.1", false);

#[tokio::test]
async fn who_is_taken_for_the_registry() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let (good, _asked) = serve(authority.server(LOCAL, false)).await;
    let (named, mut asked) = serve(authority.server(Subject("registry.example", false), false)).await;
    let (expired, _asked_expired) = serve(authority.server(Subject("127.0.0.1", true), false)).await;
    let (unknown, _asked_unknown) = serve(stranger.server(LOCAL, false)).await;
    let directory = tempfile::tempdir().unwrap();
    fs::copy(authority.ca(), directory.path().join("1.pem")).unwrap();
    let name = |name: &str| TlsConfig { server_name: Some(name.into()), ..trusting(authority.ca()) };
    let unverified = || TlsConfig { unverified: true, ..TlsConfig::default() };
    for (server, tls, words) in [
        (good, trusting(authority.ca()), &[][..]),
        (good, trusting(directory.path().into()), &[]),
        (named, name("registry.example"), &[]),
        (unknown, unverified(), &[]),
        (expired, unverified(), &[]),
        (good, TlsConfig::default(), &["authority that is not known here", "--ca-file", "CONSUL_CACERT"]),
        (unknown, trusting(authority.ca()), &["authority that is not known here"]),
        (expired, trusting(authority.ca()), &["its certificate expired ", " days ago"]),
        (named, trusting(authority.ca()), &["not for 127.0.0.1, but for registry.example; --tls-server-name"]),
        (named, name("other.example"), &["not for other.example, but for "]),
    ] {
        let said = why(&config(server, tls.clone())).await;
        assert_eq!(said.is_empty(), words.is_empty(), "{tls:?}: {said}");
        assert!(said.is_empty() || said.starts_with(&format!("https://{server}: ")), "{said}");
        for word in words {
            assert!(said.contains(word), "{word:?} in {said}");
        }
    }
    let (name, request) = asked.recv().await.unwrap();
    assert_eq!(name.as_deref(), Some("registry.example"), "it is asked for, too");
    assert!(
        request.contains(&format!("host: {named}\r\n")),
        "what the address says is still whom HTTP asks: {request}"
    );
}

#[tokio::test]
async fn a_registry_that_asks_who_we_are() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let (address, _asked) = serve(authority.server(LOCAL, true)).await;
    let with = |identity| config(address, TlsConfig { identity, ..trusting(authority.ca()) });
    assert_eq!(why(&with(Some(authority.identity(LOCAL)))).await, "");
    let said = why(&with(None)).await;
    assert!(said.contains("it wants a certificate of ours") && said.contains("--client-cert"), "{said}");
    let foreign = stranger.identity(LOCAL);
    let said = why(&with(Some(foreign.clone()))).await;
    assert!(said.contains("it does not take the certificate in"), "{said}");
    assert!(said.contains(foreign.certificates.to_str().unwrap()), "{said}");
    let said = why(&with(Some(authority.identity(Subject("127.0.0.1", true))))).await;
    assert!(said.contains("it does not take") && said.contains("Expired"), "{said}");
}

#[tokio::test]
async fn what_speaks_no_tls_is_told_so() {
    choose_crypto();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let said = why(&config(address, TlsConfig::default())).await;
    assert!(said.contains("does not speak TLS"), "{said}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let authority = Authority::new("ours");
    let (good, other) = (authority.identity(LOCAL), authority.sign(LOCAL).1);
    let (text, other) = (authority.file("text", "hello"), authority.file("other.key", &other));
    let identity = |certificates: &Path, key: &Path| TlsConfig {
        identity: Some(Identity { certificates: certificates.into(), key: key.into() }),
        ..TlsConfig::default()
    };
    for (tls, words) in [
        (trusting("/no/such".into()), vec!["/no/such", "No such file"]),
        (trusting(text.clone()), vec![text.to_str().unwrap(), "no certificate"]),
        (identity(Path::new("/no/cert"), &good.key), vec!["/no/cert", "No such file"]),
        (identity(&good.certificates, &text), vec![text.to_str().unwrap()]),
        (identity(&good.certificates, &other), vec!["client.pem", "other.key", "cannot be used", "KeyMismatch"]),
        (TlsConfig { server_name: Some("no name".into()), ..TlsConfig::default() }, vec!["\"no name\" is no name"]),
        (TlsConfig { server_name: Some("10.0.0.1".into()), ..TlsConfig::default() }, vec!["is no name of a server"]),
    ] {
        let error = Client::new(&config(([127, 0, 0, 1], 1).into(), tls)).err().expect("it cannot be used").to_string();
        for word in words {
            assert!(error.contains(word), "{word:?} in {error}");
        }
        assert!(!error.contains("PRIVATE"), "{error}");
    }
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let (address, _asked) = serve(authority.server(LOCAL, true)).await;
    let (ca, identity) = (stranger.ca(), stranger.identity(LOCAL));
    let client =
        Client::new(&config(address, TlsConfig { identity: Some(identity.clone()), ..trusting(ca.clone()) })).unwrap();
    let failed = |error: Error| error.to_string();
    let said = client.leader().await.map_err(failed).unwrap_err();
    assert!(said.contains("not known here"), "{said}");
    fs::write(&ca, authority.issuer.pem()).unwrap();
    let said = client.leader().await.map_err(failed).unwrap_err();
    assert!(said.contains("it does not take the certificate in"), "{said}");
    let (certificate, key) = authority.sign(LOCAL);
    fs::write(&identity.certificates, certificate).unwrap();
    let said = client.leader().await.map_err(failed).unwrap_err();
    assert!(said.contains("it does not take"), "without its key the new one is not used: {said}");
    fs::write(&identity.key, key).unwrap();
    client.leader().await.unwrap();
    fs::write(&ca, "in the middle of being written").unwrap();
    client.leader().await.unwrap();
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_changes() {
    let authority = Authority::new("ours");
    let (address, mut asked) = serve(authority.server(LOCAL, false)).await;
    let file = authority.file("token", "first\n");
    let config = ClientConfig { token_file: Some(file.clone()), ..config(address, trusting(authority.ca())) };
    let client = Client::new(&config).unwrap();
    for (text, sent) in
        [("first\n", Some("first")), ("the second", Some("the second")), ("", None), ("third", Some("third"))]
    {
        fs::write(&file, text).unwrap();
        client.leader().await.unwrap();
        let (_, request) = asked.recv().await.unwrap();
        let token = request.lines().find_map(|line| line.strip_prefix("x-consul-token: "));
        assert_eq!(token, sent);
    }
    fs::write(&file, "two\nlines").unwrap();
    let error = Client::new(&config).err().expect("no token").to_string();
    assert!(error.contains(file.to_str().unwrap()) && !error.contains("lines"), "{error}");
}

/// Addresses of every kind stand beside each other, and the next one is taken when one fails by TLS.
#[tokio::test]
async fn addresses_of_every_kind() {
    let (authority, stranger) = (Authority::new("ours"), Authority::new("stranger"));
    let (good, _asked) = serve(authority.server(LOCAL, false)).await;
    let (unknown, _asked_unknown) = serve(stranger.server(LOCAL, false)).await;
    let socket = authority.dir.path().join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(ANSWER).await;
        }
    });
    let unix = format!("unix://{}", socket.display());
    for other in [format!("https://{good}"), unix] {
        let tls = trusting(authority.ca());
        let addresses = vec![format!("https://{unknown}"), other.clone()];
        let client = Client::new(&ClientConfig { addresses, tls, ..ClientConfig::default() }).unwrap();
        assert!(client.leader().await.is_err());
        assert_eq!(client.leader().await.unwrap(), "10.0.0.1:830");
        assert_eq!(client.address(), other);
    }
}
