//! What is asked: the small services of the catalog, one after the other.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use flotilla_tests::{dig::dig, eventually};
use tokio::{net::UdpSocket, time::timeout};

use crate::catalog;

const START_LIMIT: Duration = Duration::from_secs(20);
const REPLY_LIMIT: Duration = Duration::from_secs(2);

/// The type of the records asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Srv,
}

impl Kind {
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::A => "DNS, A of 3 instances, 8 clients",
            Self::Srv => "DNS, SRV of 3 instances, 8 clients",
        }
    }

    fn name(self) -> &'static str {
        if self == Self::A { "A" } else { "SRV" }
    }

    /// One of the questions, as it goes over the wire.
    pub(super) fn packet(self) -> Vec<u8> {
        let mut packet = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in domain(catalog::SMALL).split('.') {
            packet.push(u8::try_from(label.len()).expect("labels are short"));
            packet.extend_from_slice(label.as_bytes());
        }
        let qtype = if self == Self::A { 1 } else { 33 };
        packet.extend_from_slice(&[0, 0, qtype, 0, 1]);
        packet
    }

    /// All of them, as dnsperf reads them.
    pub(super) fn file(self, dir: &Path) -> PathBuf {
        self.file_of(catalog::small_services(), dir)
    }

    /// The same for some of the services.
    pub(super) fn file_of(self, services: impl Iterator<Item = String>, dir: &Path) -> PathBuf {
        let path = dir.join(format!("questions-{}", self.name()));
        let lines = services.fold(String::new(), |mut lines, service| {
            writeln!(lines, "{} {}", domain(&service), self.name()).expect("a string takes anything");
            lines
        });
        fs::write(&path, lines).expect("our own directory");
        path
    }
}

/// A service's name in DNS, without the last dot.
pub(super) fn domain(service: &str) -> String {
    format!("{service}.service.consul")
}

/// Waits until each of these answers, and sees that the records are the same.
pub(super) async fn all_say_the_same(kind: Kind, ports: [u16; 3]) {
    let mut answers = Vec::new();
    for port in ports {
        let answer = eventually!("a server has its records", START_LIMIT, async {
            let answer = dig(port, &domain(catalog::SMALL), kind.name(), &[]).await?;
            if answer.records.len() == 3 { Ok(answer) } else { Err(format!("{answer:?}")) }
        });
        answers.push(answer);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

/// The reply to a packet.
pub(super) async fn ask(port: u16, packet: &[u8]) -> Result<Vec<u8>, String> {
    let told = |e: std::io::Error| e.to_string();
    let socket = UdpSocket::bind("127.0.0.1:0").await.map_err(told)?;
    socket.connect(("127.0.0.1", port)).await.map_err(told)?;
    socket.send(packet).await.map_err(told)?;
    let mut reply = vec![0; 4096];
    let bytes = timeout(REPLY_LIMIT, socket.recv(&mut reply)).await.map_err(|e| e.to_string())?.map_err(told)?;
    reply.truncate(bytes);
    Ok(reply)
}
