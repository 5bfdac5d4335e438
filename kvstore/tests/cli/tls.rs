//! HTTPS: certificates made here, served, asked for, and exchanged while the agent runs.

use std::{fs, net::TcpStream, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use reqwest::{Certificate, Client, ClientBuilder, Identity, tls::TlsInfo};

use crate::harness::*;

/// The time that a new certificate may take to be taken up.
const TAKEN_UP: Duration = Duration::from_secs(30);

fn create(dir: &Path, args: &[&str]) -> std::process::Output {
    kvstore(&["tls", "create", "--dir", &dir.display().to_string()]).args(args).output().unwrap()
}

pub(crate) fn created(dir: &Path, args: &[&str]) -> String {
    let output = create(dir, args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// An agent that serves nothing but HTTPS, with the files of `dir` and these arguments.
fn agent(dir: &Path, args: &[&str]) -> Agent {
    Agent::from(kvstore(&["agent"]).args(serving(dir)).args(args))
}

/// The arguments of such an agent.
pub(crate) fn serving(dir: &Path) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    let (cert, key) = (file("server.pem"), file("server-key.pem"));
    let own = ["--dev", "--http-port=-1", "--dns-addr=127.0.0.1:0", "--https-addr=127.0.0.1:0"];
    own.into_iter().chain(["--tls-cert", &cert, "--tls-key", &key]).map(str::to_owned).collect()
}

/// Who trusts the authority of `dir` and nobody else.
pub(crate) fn trusting(dir: &Path) -> ClientBuilder {
    kvstore_client::choose_crypto();
    let authority = Certificate::from_pem(&fs::read(dir.join("ca.pem")).unwrap()).unwrap();
    Client::builder().tls_certs_only([authority]).tls_info(true).no_proxy()
}

fn identity(dir: &Path) -> Identity {
    let parts = ["client.pem", "client-key.pem"].map(|name| fs::read(dir.join(name)).unwrap());
    Identity::from_pem(&parts.concat()).unwrap()
}

/// The answer's status and the server's certificate, on a connection of its own.
async fn ask(client: ClientBuilder, address: &str) -> Result<(u16, Vec<u8>), reqwest::Error> {
    let answer = client.build()?.get(format!("{address}/v1/status/leader")).send().await?;
    let info = answer.extensions().get::<TlsInfo>().expect("it is asked for");
    Ok((answer.status().as_u16(), info.peer_certificate().expect("a server shows one").to_vec()))
}

#[tokio::test]
async fn clients_need_a_certificate_where_one_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let told = created(dir, &["registry.example", "10.0.0.5"]);
    assert!(told.contains("CONSUL_HTTP_ADDR=https://registry.example:8501"), "{told}");
    let open = agent(dir, &[]);
    assert!(open.address.starts_with("https://127.0.0.1:"), "{}", open.address);
    assert_eq!(ask(trusting(dir), &open.address).await.unwrap().0, 200);
    // The name that it was made for counts, and no other does.
    let port = open.address.rsplit_once(':').unwrap().1;
    for (name, expected) in [("registry.example", true), ("other.example", false)] {
        let resolved = trusting(dir).resolve(name, ([127, 0, 0, 1], 0).into());
        assert_eq!(ask(resolved, &format!("https://{name}:{port}")).await.is_ok(), expected, "{name}");
    }
    // Whose authority is another does not trust it.
    let strange = tempfile::tempdir().unwrap();
    created(strange.path(), &[]);
    ask(trusting(strange.path()), &open.address).await.unwrap_err();

    let asking = agent(dir, &["--tls-client-ca", &dir.join("ca.pem").display().to_string()]);
    ask(trusting(dir), &asking.address).await.unwrap_err();
    ask(trusting(dir).identity(identity(strange.path())), &asking.address).await.unwrap_err();
    assert_eq!(ask(trusting(dir).identity(identity(dir)), &asking.address).await.unwrap().0, 200);
}

#[tokio::test]
async fn certificates_of_clients_that_are_expired_or_signed_by_themselves_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    created(dir, &[]);
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "clients");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let clients = dir.join("clients.pem");
    fs::write(&clients, authority.pem()).unwrap();
    let agent = agent(dir, &["--tls-client-ca", clients.to_str().unwrap()]);

    let key = KeyPair::generate().unwrap();
    let until = |year| {
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        params
    };
    for (certificate, taken) in [
        (until(4000).signed_by(&key, &authority), true),
        (until(2001).signed_by(&key, &authority), false),
        (until(4000).self_signed(&key), false),
    ] {
        let shown = Identity::from_pem((certificate.unwrap().pem() + &key.serialize_pem()).as_bytes()).unwrap();
        assert_eq!(ask(trusting(dir).identity(shown), &agent.address).await.is_ok(), taken);
    }
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    created(dir, &[]);
    let agent = agent(dir, &[]);
    let (_, old) = ask(trusting(dir), &agent.address).await.unwrap();
    // One that cannot be used changes nothing.
    fs::write(dir.join("server-key.pem"), "half").unwrap();
    assert_eq!(ask(trusting(dir), &agent.address).await.unwrap().1, old);
    created(dir, &["--renew"]);
    let renewed = async {
        while ask(trusting(dir), &agent.address).await.unwrap().1 == old {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(TAKEN_UP, renewed).await.expect("the new certificate is taken up");
}

#[tokio::test]
async fn who_never_shakes_hands_keeps_nobody_else_waiting() {
    let dir = tempfile::tempdir().unwrap();
    created(dir.path(), &[]);
    let agent = agent(dir.path(), &[]);
    let at = agent.address.strip_prefix("https://").unwrap();
    let silent: Vec<_> = (0..50).map(|_| TcpStream::connect(at).unwrap()).collect();
    assert_eq!(ask(trusting(dir.path()), &agent.address).await.unwrap().0, 200);
    drop(silent);
}

#[test]
fn files_that_cannot_be_used_are_named_at_the_start() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    created(dir.path(), &[]);
    created(other.path(), &[]);
    let file = |name: &str| dir.path().join(name).display().to_string();
    let foreign = other.path().join("server-key.pem").display().to_string();
    fs::write(file("empty.pem"), "").unwrap();
    let (cert, key) = (file("server.pem"), file("server-key.pem"));
    for (args, words) in [
        (["--tls-cert", &file("absent.pem"), "--tls-key", &key], ["absent.pem", "No such file"]),
        (["--tls-cert", &file("empty.pem"), "--tls-key", &key], ["empty.pem", "there is no certificate (PEM) in it"]),
        (["--tls-cert", &cert, "--tls-key", &cert], ["server.pem", "no items found"]),
        (["--tls-cert", &cert, "--tls-key", &foreign], ["server-key.pem", "cannot be used together"]),
    ] {
        let output = kvstore(&["agent", "--dev", "--https-addr=127.0.0.1:0"]).args(args).output().unwrap();
        refused(&output, 2, &words);
    }
}

#[test]
fn one_authority_vouches_for_several_hosts_and_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("a/b");
    created(&dir, &[]);
    let content = |name: &str| fs::read(dir.join(name)).unwrap();
    let (ca, client, server) = (content("ca.pem"), content("client.pem"), content("server.pem"));
    refused(&create(&dir, &[]), 1, &["server.pem is there already", "--renew", "--name"]);
    created(&dir, &["--name", "host2", "10.0.0.6"]);
    assert_eq!((content("ca.pem"), content("client.pem"), content("server.pem")), (ca.clone(), client, server.clone()));
    created(&dir, &["--renew", "10.0.0.5"]);
    assert_eq!(content("ca.pem"), ca);
    assert_ne!(content("server.pem"), server);
    for name in ["ca-key.pem", "server-key.pem", "client-key.pem", "host2-key.pem"] {
        assert_eq!(fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    for name in ["ca", "client", "../x", "", ".hidden"] {
        refused(&create(&dir, &["--name", name]), 2, &["neither ca nor client"]);
    }
    refused(&create(&dir, &["--name", "host3", "bad name\u{e9}"]), 2, &["no certificate can be made for host3"]);
    fs::remove_file(dir.join("ca.pem")).unwrap();
    refused(&create(&dir, &["--name", "host4"]), 1, &["ca.pem is missing beside its key"]);
    fs::write(dir.join("ca-key.pem"), "nonsense").unwrap();
    fs::write(dir.join("ca.pem"), ca).unwrap();
    refused(&create(&dir, &["--name", "host4"]), 1, &["ca-key.pem cannot be used"]);
}
