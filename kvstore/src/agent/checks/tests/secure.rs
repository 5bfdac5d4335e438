//! Probes against real servers of TLS, HTTP/2 and gRPC.

use std::{fs, path::Path, sync::Arc};

use kvstore_client::tls::Identity;
use kvstore_core::row::ProbeTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::{Identity as ServerIdentity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;

use super::*;

/// An authority, and what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer, directory: tempfile::tempdir().unwrap() }
    }

    fn new() -> Self {
        Self::named("authority")
    }

    /// Certificate and key for `name`, as PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn file(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Trusting this authority alone.
    fn trust(&self) -> tls::Trust {
        tls::Trust { authorities: vec![self.file("ca.pem", &self.issuer.pem())], identity: None }
    }

    fn server_config(&self, name: &str, asks_clients: bool) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let builder = builder.unwrap();
        let builder =
            if asks_clients { builder.with_client_cert_verifier(verifier) } else { builder.with_no_client_auth() };
        let (certificate, key) = self.sign(name);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        builder.with_single_cert(vec![certificate], PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
    }

    /// Answers HTTP over TLS as `name`; the receiver gets the names that clients ask for.
    async fn serve(&self, name: &str, asks_clients: bool) -> (String, mpsc::UnboundedReceiver<Option<String>>) {
        let acceptor = TlsAcceptor::from(Arc::new(self.server_config(name, asks_clients)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (names, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = names.send(stream.get_ref().1.server_name().map(str::to_owned));
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
                let _ = stream.shutdown().await;
            }
        });
        (address, asked)
    }
}

fn patient(kind: ProbeKind) -> Probe {
    Probe::new(kind, Duration::from_secs(1), Duration::from_secs(10))
}

fn https(address: &str, server_name: &str, skip: bool) -> Probe {
    let mut probe = http_probe(&format!("https://{address}/"));
    probe.timeout = Duration::from_secs(10);
    let ProbeKind::Http { tls_skip_verify, tls_server_name, .. } = &mut probe.kind else { unreachable!() };
    (*tls_skip_verify, *tls_server_name) = (skip, server_name.into());
    probe
}

#[allow(clippy::unnecessary_wraps)] // as it stands in every probe
fn how(server_name: &str, skip_verify: bool) -> Option<ProbeTls> {
    Some(ProbeTls { skip_verify, server_name: server_name.into() })
}

/// Every kind that speaks TLS judges certificates by the same rules.
#[tokio::test]
async fn certificates_count_unless_they_shall_not() {
    let (authority, stranger) = (Authority::new(), Authority::named("stranger"));
    let (by_ip, mut asked) = authority.serve("127.0.0.1", false).await;
    let (by_name, mut asked_by_name) = authority.serve("web.example", false).await;
    let (unknown, _asked) = stranger.serve("127.0.0.1", false).await;
    for (address, name, skip, failure) in [
        (&by_ip, "", false, None),
        (&by_ip, "web.example", false, Some("not valid for name")),
        (&by_name, "", false, Some("not valid for name")),
        (&by_name, "web.example", false, None),
        (&by_name, "", true, None),
        (&unknown, "", false, Some("UnknownIssuer")),
        (&unknown, "", true, None),
        (&by_ip, "not a name", false, Some("is no name that a certificate can have")),
    ] {
        let tcp = patient(ProbeKind::Tcp { address: address.clone(), tls: how(name, skip) });
        for probe in [https(address, name, skip), tcp] {
            let (status, output) = run_trusting(authority.trust(), &probe).await;
            match failure {
                None => assert_eq!(status, Status::Passing, "{name:?} {skip} {output}"),
                Some(why) => assert!(status == Status::Critical && output.contains(why), "{why:?} {output}"),
            }
        }
    }
    assert_eq!(asked.recv().await, Some(None), "an address is no name to ask for");
    // Those refused never come so far.
    assert_eq!(asked_by_name.recv().await, Some(Some("web.example".into())));
    let (status, output) = run(&https(&by_ip, "", false)).await;
    assert!(status == Status::Critical && output.contains("UnknownIssuer"), "{output}");
}

#[tokio::test]
async fn a_server_that_asks_gets_the_agents_certificate() {
    let authority = Authority::new();
    let (address, _asked) = authority.serve("127.0.0.1", true).await;
    let (certificate, key) = authority.sign("agent");
    let identity =
        Identity { certificates: authority.file("agent.pem", &certificate), key: authority.file("agent.key", &key) };
    let known = tls::Trust { identity: Some(identity), ..authority.trust() };
    assert_eq!(run_trusting(known, &https(&address, "", false)).await.0, Status::Passing);
    assert_eq!(run_trusting(authority.trust(), &https(&address, "", false)).await.0, Status::Critical);
}

#[test]
fn files_that_are_of_no_use_are_named() {
    let authority = Authority::new();
    let (certificate, _) = authority.sign("a");
    let (_, other_key) = authority.sign("b");
    let (ca, none) = (authority.file("ca.pem", &authority.issuer.pem()), authority.file("none.pem", "nothing"));
    let identity = Identity { certificates: authority.file("c", &certificate), key: authority.file("k", &other_key) };
    let trust = |authorities: &[&Path], identity: Option<Identity>| tls::Trust {
        authorities: authorities.iter().map(|path| path.to_path_buf()).collect(),
        identity,
    };
    for (trust, why) in [
        (trust(&[&ca], None), ""),
        (trust(&[], None), ""),
        (trust(&[&none], None), "none.pem: there is no certificate (PEM) in it"),
        (trust(&[Path::new("/no/such")], None), "cannot read /no/such: "),
        (trust(&[&ca], Some(identity)), "cannot be used: "),
    ] {
        let found = trust.check().err().map(|error| error.to_string()).unwrap_or_default();
        assert!(found.contains(why) && found.is_empty() == why.is_empty(), "{why:?}: {found}");
    }
    // A directory stands for its files.
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.pem"), authority.issuer.pem()).unwrap();
    assert!(trust(&[directory.path()], None).check().is_ok());
}

/// The health service of gRPC as its own library serves it.
async fn health(tls: Option<(String, String)>) -> (String, tonic_health::server::HealthReporter) {
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("web", ServingStatus::Serving).await;
    reporter.set_service_status("db", ServingStatus::NotServing).await;
    let free = closed_port().await;
    let mut server = Server::builder();
    if let Some((certificate, key)) = tls {
        server =
            server.tls_config(ServerTlsConfig::new().identity(ServerIdentity::from_pem(certificate, key))).unwrap();
    }
    tokio::spawn(server.add_service(service).serve(free.parse().unwrap()));
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(&free).await.is_ok() {
            return (free, reporter);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody listens on {free}");
}

fn grpc(address: &str, service: &str, tls: Option<ProbeTls>) -> Probe {
    patient(ProbeKind::Grpc { address: address.into(), service: service.into(), tls })
}

#[tokio::test]
async fn a_grpc_service_passes_while_it_says_that_it_serves() {
    let (address, reporter) = health(None).await;
    for (service, status, output) in [
        ("", Status::Passing, "success"),
        ("web", Status::Passing, "success"),
        ("db", Status::Critical, "gRPC application didn't report service healthy: NOT_SERVING"),
        ("none", Status::Critical, "rpc error: code = NotFound desc = service not registered"),
    ] {
        let slash = if service.is_empty() { "" } else { "/" };
        let output = format!("gRPC check {address}{slash}{service}: {output}");
        assert_eq!(run(&grpc(&address, service, None)).await, (status, output));
    }
    reporter.set_service_status("web", ServingStatus::NotServing).await;
    assert_eq!(run(&grpc(&address, "web", None)).await.0, Status::Critical);
    let ping = patient(ProbeKind::H2ping { address, tls: None });
    assert_eq!(run(&ping).await, (Status::Passing, "HTTP2 ping was successful".into()));
}

#[tokio::test]
async fn grpc_and_http2_speak_tls() {
    let authority = Authority::new();
    let (address, _reporter) = health(Some(authority.sign("grpc.example"))).await;
    for (tls, expected) in [
        (how("grpc.example", false), Status::Passing),
        (how("", true), Status::Passing),
        (how("", false), Status::Critical),
        (None, Status::Critical),
    ] {
        let h2ping = patient(ProbeKind::H2ping { address: address.clone(), tls: tls.clone() });
        for probe in [grpc(&address, "web", tls.clone()), h2ping] {
            let (status, output) = run_trusting(authority.trust(), &probe).await;
            assert_eq!(status, expected, "{tls:?} {output}");
        }
    }
}

#[tokio::test]
async fn what_speaks_no_http2_is_critical() {
    let (http1, _heads) = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let (mute, _heads) = serve("...").await;
    let closed = closed_port().await;
    for (address, why) in [(&http1, ""), (&mute, "no answer within 500ms"), (&closed, "Connection refused")] {
        for kind in [
            ProbeKind::Grpc { address: address.clone(), service: String::new(), tls: None },
            ProbeKind::H2ping { address: address.clone(), tls: None },
        ] {
            let (status, output) = run(&probe_of(kind)).await;
            assert!(status == Status::Critical && output.contains(why), "{output}");
        }
    }
}

/// An HTTP/2 server that knows nothing of gRPC, and one that answers with more than a health service has to say.
#[tokio::test]
async fn an_answer_that_is_no_health_services_is_critical() {
    for (status, head, body, why) in [
        (404, None, vec![], "HTTP status 404"),
        (200, Some(("grpc-status", "12")), vec![], "rpc error: code = Unimplemented"),
        (200, None, vec![0; 9000], "too long"),
        (200, None, vec![7], "no gRPC status"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_request, mut respond))) = connection.accept().await {
                let mut answer = hyper::Response::builder().status(status);
                if let Some((name, value)) = head {
                    answer = answer.header(name, value);
                }
                let mut stream = respond.send_response(answer.body(()).unwrap(), body.is_empty()).unwrap();
                if !body.is_empty() {
                    stream.send_data(body.clone().into(), true).unwrap();
                }
            }
        });
        let (found, output) = run(&grpc(&address, "", None)).await;
        assert!(found == Status::Critical && output.contains(why), "{why}: {output}");
    }
}
