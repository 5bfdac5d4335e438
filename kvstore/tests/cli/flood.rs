//! Clients that open thousands of connections and let them lie, or send a byte now and then: all others are answered.

use std::{
    fs,
    io::Write,
    net::{IpAddr, SocketAddr, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reqwest::{Client, ClientBuilder};
use tokio::sync::oneshot;

use crate::{
    harness::*,
    tls::{created, serving, trusting},
};

/// As many as a hostile client opens, if this test may.
const CONNECTIONS: usize = 10_000;

/// What else the tests of this process have open.
const OTHER_FILES: u64 = 1000;

/// What one more connection may cost the agent, TLS included.
const BYTES_EACH: u64 = 32 << 10;

/// What a connection begins with that never says more than a byte at a time, and what those bytes are.
struct Drip {
    start: &'static [u8],
    byte: &'static [u8],
}

const HEAD: Drip = Drip { start: b"GET /v1/kv/a HTTP/1.1\r\nHost: x\r\nX-Drip: ", byte: b"x" };

/// A record of TLS's handshake that is to hold a `ClientHello` of 4 KiB.
const HANDSHAKE: Drip = Drip { start: b"\x16\x03\x01\x10\x04\x01\x00\x10\x00\x03\x03", byte: b"\0" };

/// Clients of another address than those who flood.
fn apart(client: ClientBuilder) -> Client {
    client.local_address(IpAddr::from([127, 0, 0, 2])).pool_max_idle_per_host(0).build().unwrap()
}

/// Opens connections, of which half are silent and the others have begun to send something.
fn open(to: SocketAddr, drip: &Drip, count: usize) -> Vec<TcpStream> {
    let mut connections: Vec<_> = (0..count).map(|_| TcpStream::connect(to).unwrap()).collect();
    for stream in connections.iter_mut().step_by(2) {
        // Who has been turned away already is not our concern.
        let _ = stream.write_all(drip.start);
    }
    connections
}

/// What the kernel says of the process' memory.
fn resident_bytes(id: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

async fn get(client: &Client, url: String) -> (u64, String) {
    let answer = client.get(url).send().await.unwrap().error_for_status().unwrap();
    let index = answer.headers()["x-consul-index"].to_str().unwrap().parse().unwrap();
    (index, answer.text().await.unwrap())
}

/// Floods an agent: others are answered, who waits is not cut off, and its memory is bounded.
async fn check(mut agent: Command, client: Client, drip: Drip, count: usize) {
    let agent = Agent::from(&mut agent);
    let key = format!("{}/v1/kv/a", agent.address);
    let put = |value: &'static str| {
        let put = client.put(&key).body(value).send();
        async { put.await.unwrap().error_for_status().unwrap() }
    };
    put("before").await;
    let (index, _) = get(&client, format!("{key}?raw")).await;
    let waiting = tokio::spawn({
        let (client, url) = (client.clone(), format!("{key}?raw&index={index}&wait=10m"));
        async move { get(&client, url).await.1 }
    });

    let before = resident_bytes(agent.child.id());
    let to = agent.address.rsplit_once('/').unwrap().1.parse().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (opened, all_opened) = oneshot::channel();
    let flooding = tokio::task::spawn_blocking({
        let stop = stop.clone();
        move || {
            let mut connections = open(to, &drip, count);
            opened.send(()).unwrap();
            while !stop.load(Relaxed) {
                for stream in connections.iter_mut().step_by(2) {
                    let _ = stream.write_all(drip.byte);
                }
            }
        }
    });
    all_opened.await.unwrap();
    for _ in 0..20 {
        assert_eq!(get(&client, format!("{key}?raw")).await.1, "before");
    }
    let grown = resident_bytes(agent.child.id()).saturating_sub(before);
    assert!(grown < BYTES_EACH * count as u64, "{grown} bytes more for {count} connections");
    put("after").await;
    assert_eq!(waiting.await.unwrap(), "after", "who waits keeps its place");
    stop.store(true, Relaxed);
    flooding.await.unwrap();
}

/// How many connections this process may open.
fn affordable() -> usize {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let count = usize::try_from(hard.saturating_sub(OTHER_FILES)).map_or(CONNECTIONS, |most| most.min(CONNECTIONS));
    if count < CONNECTIONS {
        println!("ulimit -Hn allows no more than {count} connections");
    }
    count
}

/// One after the other, since each takes half of what a process may have open.
#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_idle_connections_keep_nobody_from_an_answer() {
    let count = affordable();
    let dir = tempfile::tempdir().unwrap();
    created(dir.path(), &[]);
    let plain = ["agent", "--dev", "--http-addr=127.0.0.1:0", "--dns-addr=127.0.0.1:0"];
    let secure = [vec!["agent".to_owned()], serving(dir.path())].concat();
    let secure: Vec<&str> = secure.iter().map(String::as_str).collect();
    kvstore_client::choose_crypto();
    let client = || Client::builder().no_proxy();
    check(kvstore(&plain), apart(client()), HEAD, count).await;
    check(with_open_files(1024, &plain), apart(client()), HEAD, count).await;
    check(kvstore(&secure), apart(trusting(dir.path())), HANDSHAKE, count).await;
    check(with_open_files(1024, &secure), apart(trusting(dir.path())), HANDSHAKE, count).await;
}
