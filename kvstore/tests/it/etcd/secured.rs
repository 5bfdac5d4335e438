//! An etcd that asks who comes: by certificates, and by name and password.

use std::path::{Path, PathBuf};

use kvstore::server as agent;
use kvstore_client::with_causes;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};
use tokio_util::sync::CancellationToken;

use super::{IDS, server::Server};
use crate::common::{Agent, settings};

/// Certificates of one authority, as files.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

/// The files of a certificate and its key.
type Pair = (PathBuf, PathBuf);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Self { issuer, dir: tempfile::tempdir().unwrap() };
        std::fs::write(authority.ca(), authority.issuer.pem()).unwrap();
        authority
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// For `host`, until the end of that year.
    fn sign(&self, host: &str, until: i32) -> Pair {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, host);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 12, 31));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |kind: &str| self.dir.path().join(format!("{host}-{until}-{kind}.pem"));
        std::fs::write(file("cert"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("cert"), file("key"))
    }

    /// An etcd with that certificate, which asks for one of ours.
    fn etcd(&self, (cert, key): &Pair) -> Option<Server> {
        let file = |path: &Path| path.display().to_string();
        let [cert, key, ca] = [file(cert), file(key), file(&self.ca())];
        Server::with(&["--client-cert-auth", "--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca])
    }
}

/// `PARAMETERS` -> why an agent does not start with them, which must name etcd's address; none if it does, and writes.
async fn refused(server: &Server, parameters: &str) -> Option<String> {
    let member = format!("127.0.0.1:{}", server.port);
    let of = |dir: &str| {
        let address = format!("etcd://{member}?{parameters}").parse().unwrap();
        let engine = kvstore::config::Engine::Etcd { address: Box::new(address), data_dir: server.place(dir) };
        kvstore::config::Agent { engine, node_id: IDS[0].into(), ..settings("one") }
    };
    match agent::start(of("first"), CancellationToken::new()).await {
        Ok(running) => {
            // Nobody else is to hold the name.
            drop(running);
            let agent = Agent::with(of("second")).await;
            let put = reqwest::Client::new().put(format!("{}/v1/kv/a", agent.base)).body("1").send().await.unwrap();
            assert_eq!(put.status(), 200, "{parameters}");
            agent.stop().await;
            None
        }
        Err(error) => {
            let why = with_causes(&error);
            println!("{parameters}\n  {why}");
            assert!(why.contains(&format!("{member}: ")), "{why}");
            Some(why)
        }
    }
}

/// What is refused, and in which words it is not.
#[derive(Default)]
struct Unclear(Vec<String>);

impl Unclear {
    async fn check(&mut self, server: &Server, parameters: &str, words: &str) {
        match refused(server, parameters).await {
            Some(why) if why.contains(words) => {}
            Some(why) => self.0.push(format!("{words:?} is not in {why}")),
            None => self.0.push(format!("{parameters} is taken; {words:?} was to be said")),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_shown_and_asked_for() {
    let mut unclear = Unclear::default();
    kvstore_client::choose_crypto();
    let (ours, others) = (Authority::new("ours"), Authority::new("others"));
    let Some(server) = ours.etcd(&ours.sign("127.0.0.1", 2099)) else { return };
    let with = |ca: &Path, (cert, key): &Pair| {
        format!("ca_file={}&cert_file={}&key_file={}", ca.display(), cert.display(), key.display())
    };
    let client = ours.sign("client.example", 2099);
    assert_eq!(refused(&server, &with(&ours.ca(), &client)).await, None);

    unclear
        .check(
            &server,
            &format!("ca_file={}", ours.ca().display()),
            "if it asks for a certificate, name one by cert_file",
        )
        .await;
    unclear.check(&server, &with(&others.ca(), &client), "UnknownIssuer").await;
    let foreign = others.sign("client.example", 2099);
    unclear.check(&server, &with(&ours.ca(), &foreign), "it may not take the certificate of cert_file").await;
    let expired = ours.sign("client.example", 2021);
    unclear.check(&server, &with(&ours.ca(), &expired), "it may not take the certificate of cert_file").await;
    unclear.check(&server, "prefix=/plain", "name its authority by ca_file").await;
    unclear.check(&server, &format!("ca_file={}/none.pem", ours.dir.path().display()), "none.pem: No such file").await;
    let key = with(&ours.ca(), &(client.0.clone(), expired.1));
    unclear.check(&server, &key, "do not belong together").await;

    let old = ours.sign("127.0.0.1", 2021);
    let Some(server) = ours.etcd(&old) else { return };
    unclear.check(&server, &with(&ours.ca(), &client), "certificate expired").await;
    let Some(server) = ours.etcd(&ours.sign("other.example", 2099)) else { return };
    unclear.check(&server, &with(&ours.ca(), &client), "not valid for name").await;
    let Some(server) = Server::start() else { return };
    unclear.check(&server, &with(&ours.ca(), &client), "or speak no TLS").await;
    assert_eq!(unclear.0, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_has_a_password_and_may_use_the_prefix() {
    let Some(server) = Server::start() else { return };
    for command in [
        &["user", "add", "root:top-secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "registry:hidden-word"],
        &["role", "add", "registry"],
        &["role", "grant-permission", "registry", "--prefix=true", "readwrite", "/flotilla/"],
        &["user", "grant-role", "registry", "registry"],
        &["auth", "enable"],
    ] {
        server.ctl(command);
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        std::fs::write(dir.path().join(name), content).unwrap();
        dir.path().join(name).display().to_string()
    };
    let mut unclear = Unclear::default();
    let (right, wrong) = (file("right", "hidden-word\n"), file("wrong", "another-word\n"));
    assert_eq!(refused(&server, &format!("user=registry&password_file={right}")).await, None);

    unclear.check(&server, &format!("user=registry&password_file={wrong}"), "authentication failed").await;
    unclear.check(&server, &format!("user=nobody&password_file={right}"), "authentication failed").await;
    unclear.check(&server, "prefix=/flotilla", "user name is empty").await;
    unclear.check(&server, &format!("user=registry&password_file={right}&prefix=/other"), "permission denied").await;
    unclear.check(&server, &format!("user=registry&password_file={right}.none"), "right.none: No such file").await;
    assert_eq!(unclear.0, [""; 0]);
    for parameters in [format!("user=registry&password_file={wrong}"), format!("user=nobody&password_file={right}")] {
        let why = refused(&server, &parameters).await.unwrap();
        assert!(!why.contains("-word"), "{why}");
    }
}
