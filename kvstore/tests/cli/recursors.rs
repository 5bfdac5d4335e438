//! `--recursor`: what is refused, what a HUP changes, and what the log says of those that lead back.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::harness::*;

/// `NUMBER.example. A`, a question that nobody has asked before.
fn question(number: u16) -> Vec<u8> {
    let label = format!("{number:05}");
    [b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x05", label.as_bytes(), b"\x07example\0\0\x01\0\x01"].concat()
}

/// The code of the reply to a question.
fn ask(to: SocketAddr, question: &[u8]) -> u8 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(START_LIMIT)).unwrap();
    socket.send_to(question, to).unwrap();
    let mut reply = [0; 512];
    let bytes = socket.recv(&mut reply).expect("a reply in time");
    assert!(bytes >= 12 && reply[..2] == question[..2]);
    reply[3] & 15
}

/// A recursor that denies everything; once it leads anywhere, it asks there instead.
struct Relay {
    address: SocketAddr,
    leads_to: Arc<Mutex<Option<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
}

impl Relay {
    fn start() -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let address = socket.local_addr().unwrap();
        let (leads_to, asked) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let relay = Self { address, leads_to: leads_to.clone(), asked: asked.clone() };
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((bytes, from)) = socket.recv_from(&mut packet) {
                asked.fetch_add(1, SeqCst);
                let (target, socket, packet) = (*leads_to.lock().unwrap(), socket.clone(), packet[..bytes].to_vec());
                std::thread::spawn(move || relay_one(&socket, packet, from, target));
            }
        });
        relay
    }
}

fn relay_one(socket: &UdpSocket, mut packet: Vec<u8>, from: SocketAddr, target: Option<SocketAddr>) {
    if let Some(target) = target {
        let onward = UdpSocket::bind("127.0.0.1:0").unwrap();
        onward.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        onward.send_to(&packet, target).unwrap();
        let mut reply = [0; 512];
        let Ok(bytes) = onward.recv(&mut reply) else { return };
        socket.send_to(&reply[..bytes], from).unwrap();
    } else {
        packet[2] |= 0x80;
        packet[3] = 3;
        socket.send_to(&packet, from).unwrap();
    }
}

#[test]
fn recursors_that_make_no_sense_are_refused() {
    let refuse = |recursor: &str, words: &[&str]| {
        refused(&run(&["agent", "--dev", "--dns-addr", "127.0.0.1:0", "--recursor", recursor]), 2, words);
    };
    refuse("dns.example", &["--recursor", "\"dns.example\" is not IP, IP:PORT"]);
    refuse("corp.example=x", &["\"x\" is not IP, IP:PORT"]);
    refuse("corp example=10.0.0.2", &["\"corp example\" is no domain"]);
    refuse("corp.example=auto", &["asked about all domains or none"]);
    refuse("dc2.consul=10.0.0.2", &["names in dc2.consul are answered here"]);
    refuse("Consul.=10.0.0.2", &["names in consul are answered here"]);
}

#[test]
fn recursors_change_by_signal_and_the_log_says_what_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    fs::write(&file, "datacenter: dc1\n").unwrap();
    let agent = Agent::on(&dir.path().join("data"), &["--config", file.to_str().unwrap()]);
    let (dns, relay) = (agent.dns(), Relay::start());
    assert_eq!(ask(dns, &question(1)), 5, "refused");
    let dns_config = "{recursor_timeout: 500ms, recursor_strategy: random, node_ttl: 5s}";
    let more = "domain: elsewhere\ndns_addr: ['127.0.0.1:1']\nroutable: [10.0.0.0/8]\n";
    let recursors = format!("recursors: ['{}', 'corp.example=127.0.0.1:1']", relay.address);
    fs::write(&file, format!("{recursors}\ndns_config: {dns_config}\naliases: {{a.example: web}}\n{more}")).unwrap();
    agent.signal(Signal::SIGHUP);
    eventually("the recursor denies it", || ask(dns, &question(2)) == 3);
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    let restart: Vec<&&str> = warnings.iter().filter(|line| line.contains("started anew")).collect();
    assert_eq!(restart.len(), 1, "{log}");
    // The address is a flag, and flags win.
    assert!(restart[0].contains("settings=\"domain, routable\""), "{log}");
}

#[test]
fn a_recursor_that_leads_back_is_named_once_in_the_log() {
    let relay = Relay::start();
    let recursor = relay.address.to_string();
    let agent = Agent::start(&[
        "--dev",
        "--node=n1",
        "--http-addr=127.0.0.1:0",
        "--dns-addr=127.0.0.1:0",
        "--recursor",
        &recursor,
    ]);
    let dns = agent.dns();
    assert_eq!(ask(dns, &question(0)), 3, "it denies at first");
    *relay.leads_to.lock().unwrap() = Some(dns);
    // All recursors are looked at when the configuration is read.
    agent.ok(&["reload"]);
    let number = AtomicUsize::new(1);
    eventually("it is asked no more", || {
        let before = relay.asked.load(SeqCst);
        let number = u16::try_from(number.fetch_add(1, SeqCst)).unwrap();
        ask(dns, &question(number)) == 2 && relay.asked.load(SeqCst) == before
    });
    agent.ok(&["reload"]);
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    let told: Vec<&str> = log.lines().filter(|line| line.contains("leads back to this agent")).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains("WARN") && told[0].contains(&format!("recursor={recursor}")), "{log}");
}
