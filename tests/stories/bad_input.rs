//! What users and strangers get wrong: each time a clear word, no panic, and the rest goes on.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use flotilla_tests::{
    dig::dig,
    docker::Dockerd,
    eventually,
    ports::free_port,
    program::{Launch, Program, Ran},
    registry::Registry,
    web,
};
use kvstore_client::KvPut;
use nix::sys::signal::Signal;
use reqwest::Method;
use tempfile::TempDir;

use crate::stage::{Registrar, View};

const LIMIT: Duration = Duration::from_secs(10);

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

fn file(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("our own directory");
    path.display().to_string()
}

/// The program must end with `code` and name each of `words` on standard error.
fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.status.code(), Some(code), "{ran:?}");
    let missing: Vec<_> = words.iter().filter(|w| !ran.err.contains(**w)).collect();
    assert!(missing.is_empty() && !ran.err.contains("panicked"), "{missing:?} should be in: {}", ran.err);
}

/// Wrong flags, configurations and templates.
pub(crate) async fn commands() {
    let dir = folder();
    for (program, command) in [("kvstore", &["agent"][..]), ("registrar", &[]), ("templater", &[])] {
        let ran = Launch::ours(program).args(command).args(["--no-such-flag"]).run(LIMIT).await;
        refused(&ran, 2, &["--no-such-flag", "--help"]);
    }
    let config = file(&dir, "agent.yaml", "node: n1\nhtp-addr: 127.0.0.1:0\n");
    let ran = Launch::ours("kvstore").args(["agent", "--dev", "--config", &config]).run(LIMIT).await;
    refused(&ran, 2, &["htp-addr", "agent.yaml", "2"]);
    let config = file(&dir, "templater.yaml", "registry: http://127.0.0.1:1\ntemplats: []\n");
    let ran = Launch::ours("templater").args(["--config", &config]).run(LIMIT).await;
    refused(&ran, 2, &["templats", "templater.yaml", "2"]);

    let absent = dir.path().join("absent.tmpl").display().to_string();
    let ran = Launch::ours("templater").args(["--template", &absent, "--once"]).run(LIMIT).await;
    refused(&ran, 1, &[&absent, "No such file"]);
    let ran = Launch::ours("templater").args(["--template", "/", "--once"]).run(LIMIT).await;
    assert!(!ran.status.success() && !ran.err.contains("panicked"), "a directory is no template: {ran:?}");
}

/// A template that is wrong: where, and what there would have been.
pub(crate) async fn templates() {
    let registry = Registry::in_memory().await;
    let dir = folder();
    registry.client.kv_put("colour", "blue", KvPut::default()).await.expect("the registry answers");
    for (name, text, words) in [
        ("syntax.tmpl", "one\n{% for x in %}\n", &["syntax.tmpl", ":2:"][..]),
        ("function.tmpl", "one\n  {{ servic(name=\"web\") }}\n", &["function.tmpl", ":2:", "servic"]),
        ("argument.tmpl", "{{ key(pth=\"colour\") }}\n", &["argument.tmpl", ":1:", "pth", "path"]),
        ("field.tmpl", "{% set n = {\"a\": 1} %}\n{{ n.b }}\n", &["field.tmpl", ":2:", "b"]),
    ] {
        let path = file(&dir, name, text);
        let launch = Launch::ours("templater").args(["--registry", &registry.url(), "--template", &path, "--once"]);
        refused(&launch.run(LIMIT).await, 1, words);
        assert!(!Path::new(&path).with_extension("").exists(), "{name}: nothing may be written");
    }
}

/// What strangers send to the registry.
pub(crate) async fn strangers() {
    let mut registry = Registry::in_memory().await;
    let url = registry.url();
    for (method, path, body, status) in [
        (Method::PUT, "/v1/agent/service/register", "{\"Name\": \"web\"".to_owned(), 400),
        (Method::PUT, "/v1/agent/service/register", "[]".to_owned(), 400),
        (Method::PUT, "/v1/catalog/register", "\u{1}".to_owned(), 400),
        (Method::GET, "/v1/health/service/web?wait=10minutes&index=1", String::new(), 400),
        (Method::PUT, "/v1/kv/big", "x".repeat(600 << 10), 413),
        (Method::DELETE, "/v1/status/leader", String::new(), 405),
        (Method::GET, "/v1/no/such", String::new(), 404),
    ] {
        let answer = web::send(method.clone(), &format!("{url}{path}"), body).await;
        let answer = answer.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        assert!(!answer.body.trim().is_empty(), "{method} {path} says why");
    }
    packets(registry.dns_port());
    let name = dig(registry.dns_port(), "consul.service.consul", "A", &[]).await.expect("DNS goes on");
    assert_eq!(name.status, "NOERROR");
    assert!(registry.client.kv_list("", None).await.expect("HTTP goes on").value.is_empty());
    let log = registry.program().log();
    assert!(!log.contains("panicked"), "{log}");
}

/// Packets that are no questions, over UDP and TCP.
fn packets(port: u16) {
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let bad: [Vec<u8>; 5] = [
        Vec::new(),
        vec![0xff; 3],
        vec![0xff; 600],
        header.to_vec(),
        // A name that points at itself.
        [&header[..], &[0xc0, 12, 0, 1, 0, 1]].concat(),
    ];
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket can be made");
    for packet in &bad {
        socket.send_to(packet, ("127.0.0.1", port)).expect("loopback takes it");
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("DNS listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("it is a valid time");
        let length = u16::try_from(packet.len()).expect("they are short").to_be_bytes();
        stream.write_all(&[&length[..], packet].concat()).expect("loopback takes it");
        stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
        // An answer or none, but not a connection that hangs.
        let ended = stream.read_to_end(&mut Vec::new());
        let hangs = ended.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!hangs, "TCP hangs after {packet:?}");
    }
}

/// It must say so once, with the address, however often it tries.
async fn says_once(program: &mut Program, address: &str) {
    program.wait_for_log(address, LIMIT).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(program.is_running(), "it goes on:\n{}", program.log());
    let log = program.log();
    let complaints = log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).count();
    assert_eq!(complaints, 1, "{log}");
}

/// The registry is not there when the others start; then it is.
pub(crate) async fn registry_unreachable() {
    let dockerd = Dockerd::shared();
    let mut registry = Registry::in_memory().await;
    registry.kill();
    let dir = folder();
    let list = file(&dir, "list.tmpl", "{% for i in service(name=\"web\") %}{{ i.port }}\n{% endfor %}end\n");
    let mut templater = Launch::ours("templater").args(["--registry", &registry.url(), "--template", &list]).start();
    let mut registrar = Registrar::start(&registry, dockerd, &["--ip", "127.0.0.1"]);
    let container = dockerd.run_web(&["SERVICE_NAME=web"]).await;
    let address = registry.url().replace("http://", "");
    says_once(&mut templater, &address).await;
    says_once(registrar.program(), &address).await;
    assert!(!dir.path().join("list").exists(), "nothing is written without the registry");

    registry.start_again().await;
    View { service: "web", registry: &registry, fronts: &[] }.agrees("the registry is there", &[&container]).await;
    let wanted = format!("{}\nend\n", container.port().await);
    eventually!("the file is written", LIMIT, async {
        let text = fs::read_to_string(dir.path().join("list")).map_err(|e| e.to_string())?;
        if text == wanted { Ok(()) } else { Err(text) }
    });
}

/// Docker is not there when the registrar starts; then it is.
pub(crate) async fn docker_unreachable() {
    let dockerd = Dockerd::start();
    let registry = Registry::in_memory().await;
    dockerd.halt(Signal::SIGTERM);
    let mut registrar = Registrar::start(&registry, &dockerd, &["--ip", "127.0.0.1"]);
    says_once(registrar.program(), "docker.sock").await;
    dockerd.start_again();
    let container = dockerd.run_web(&["SERVICE_NAME=web"]).await;
    View { service: "web", registry: &registry, fronts: &[] }.agrees("Docker is there", &[&container]).await;
}

/// An address that somebody else has: said, with the address, and the program ends.
pub(crate) async fn port_taken() {
    let port = free_port();
    let _holder = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let address = format!("127.0.0.1:{port}");
    let dns = format!("127.0.0.1:{}", free_port());
    let args = ["agent", "--dev", "--http-addr", &address, "--dns-addr", &dns];
    let ran = Launch::ours("kvstore").args(args).run(LIMIT).await;
    refused(&ran, 1, &[&address, "in use"]);
}
