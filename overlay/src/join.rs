//! How a host that knows only a member, which may have no registry of its own, learns where the registries of the mesh are:
//! it asks at the TCP port of the same number as the tunnel's UDP port. Question and answer are encrypted by the mesh's
//! secret, so a stranger gets nothing, not even an answer, and nobody can make a host use other registries.
//!
//! ```text
//! question   epoch (4) · nonce (12) · challenge (32), sealed
//! answer     nonce (12) · JSON, sealed together with the challenge
//! ```

#[cfg(any(test, fuzzing))]
pub mod fuzzed;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rand::{TryRng, rngs::SysRng};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    identity::derive,
    mesh::{Mesh, Request},
    registry::Seen,
    secret::{Keyring, Secret},
};

const CHALLENGE_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
const EPOCH_BYTES: usize = 4;
const QUESTION_BYTES: usize = EPOCH_BYTES + NONCE_LEN + CHALLENGE_BYTES + TAG_BYTES;
/// No answer is longer.
const MAX_ANSWER_BYTES: u64 = 16 << 10;
/// Members name this many registries at the most.
pub const MAX_REGISTRIES: usize = 16;
/// For one question and its answer.
const LIMIT: Duration = Duration::from_secs(5);
/// So often members are asked as long as no registry answers.
const EVERY: Duration = Duration::from_secs(2);
/// Questions that are answered at once; others wait.
const AT_ONCE: usize = 8;

/// What a member knows.
#[derive(Clone, Debug)]
pub struct Known {
    /// The mesh's secrets.
    pub keyring: Keyring,
    /// Its registries, as others may reach them.
    pub registries: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    registries: Vec<String>,
}

/// Who asks has to remember this until the answer.
struct Challenge([u8; CHALLENGE_BYTES]);

fn key(secret: &Secret) -> LessSafeKey {
    let key = derive(secret.bytes(), &[b"overlay/v1 join"]);
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key).expect("it has 32 bytes"))
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes)
}

fn seal(secret: &Secret, aad: &[u8], text: &[u8]) -> io::Result<Vec<u8>> {
    let (nonce, mut sealed) = (random::<NONCE_LEN>()?, text.to_vec());
    let done = key(secret).seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut sealed);
    done.map_err(io::Error::other)?;
    Ok([&nonce[..], &sealed].concat())
}

fn open(secret: &Secret, aad: &[u8], bytes: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
    let (nonce, mut sealed) = (Nonce::try_assume_unique_for_key(nonce).ok()?, sealed.to_vec());
    Some(key(secret).open_in_place(nonce, Aad::from(aad), &mut sealed).ok()?.to_vec())
}

fn question(keyring: &Keyring) -> io::Result<(Vec<u8>, Challenge)> {
    let (secret, challenge) = (keyring.current(), random()?);
    let epoch = secret.epoch().to_be_bytes();
    Ok(([&epoch[..], &seal(secret, b"question", &challenge)?].concat(), Challenge(challenge)))
}

/// What to answer; nothing to who does not have the newest secret.
fn answer(known: &Known, question: &[u8]) -> Option<Vec<u8>> {
    let (epoch, sealed) = question.split_at_checked(EPOCH_BYTES)?;
    let secret = known.keyring.current();
    if *epoch != secret.epoch().to_be_bytes() {
        return None;
    }
    let challenge = open(secret, b"question", sealed).filter(|challenge| challenge.len() == CHALLENGE_BYTES)?;
    let text = serde_json::to_vec(&Answer { registries: known.registries.clone() }).expect("plain data");
    seal(secret, &challenge, &text).ok()
}

/// The registries that an answer names.
fn read(keyring: &Keyring, challenge: &Challenge, answer: &[u8]) -> Option<Vec<String>> {
    let text = open(keyring.current(), &challenge.0, answer)?;
    let mut registries = serde_json::from_slice::<Answer>(&text).ok()?.registries;
    registries.truncate(MAX_REGISTRIES);
    Some(registries)
}

/// Answers at `port` until `stop`.
pub async fn serve(port: u16, known: watch::Receiver<Known>, stop: CancellationToken) {
    let listener = match listen(port).await {
        Ok(listener) => listener,
        Err(error) => {
            return warn!("hosts cannot join by this one alone: cannot listen at TCP port {port}: {error}");
        }
    };
    let (tasks, places) = (TaskTracker::new(), Arc::new(Semaphore::new(AT_ONCE)));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, from)) = accepted else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let known = known.borrow().clone();
        tasks.spawn(async move {
            if !matches!(timeout(LIMIT, reply(stream, &known)).await, Ok(Ok(true))) {
                debug!("{from} asked for the registries and does not have the mesh's secret");
            }
            drop(place);
        });
    }
    tasks.close();
    tasks.wait().await;
}

async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((std::net::Ipv6Addr::UNSPECIFIED, port)).await {
        Err(e) if e.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await
        }
        bound => bound,
    }
}

async fn reply(mut stream: TcpStream, known: &Known) -> io::Result<bool> {
    let mut question = [0; QUESTION_BYTES];
    stream.read_exact(&mut question).await?;
    let Some(answer) = answer(known, &question) else { return Ok(false) };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    Ok(true)
}

/// As long as no registry answers, asks `members`, each HOST or HOST:PORT of its tunnel, and tells the daemon.
pub async fn learn(
    members: Vec<String>,
    known: watch::Receiver<Known>,
    seen: watch::Receiver<Seen>,
    mesh: Mesh,
    stop: CancellationToken,
) {
    let ask_all = async {
        loop {
            let away = { seen.borrow().away.is_some() };
            for member in members.iter().filter(|_| away) {
                let keyring = known.borrow().keyring.clone();
                match timeout(LIMIT, ask(member, &keyring)).await {
                    Ok(Ok(Some(registries))) => {
                        info!("{member} names the registries {}", registries.join(", "));
                        // The daemon ends when this does.
                        let _ = mesh.ask(Request::Learn(registries)).await;
                    }
                    Ok(Ok(None)) => warn!("what {member} answers is not by the mesh's secret"),
                    Ok(Err(error)) => debug!("{member} does not name registries: {error}"),
                    Err(_) => debug!("{member} does not answer"),
                }
            }
            sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = ask_all => {}
    }
}

async fn ask(member: &str, keyring: &Keyring) -> io::Result<Option<Vec<String>>> {
    let (question, challenge) = question(keyring)?;
    let mut stream = match member.parse::<SocketAddr>() {
        Ok(address) => TcpStream::connect(address).await?,
        Err(_) => TcpStream::connect(member).await?,
    };
    stream.write_all(&question).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(read(keyring, &challenge, &answer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(epoch: u32, byte: u8) -> Keyring {
        Keyring::new(Secret::new(epoch, [byte; 32]))
    }

    fn known(keyring: Keyring) -> Known {
        Known { keyring, registries: vec!["http://10.0.0.1:8500".into()] }
    }

    #[test]
    fn who_has_the_secret_learns_the_registries() {
        let (text, challenge) = question(&ring(2, 7)).unwrap();
        assert_eq!(text.len(), QUESTION_BYTES);
        let said = answer(&known(ring(2, 7)), &text).unwrap();
        assert_eq!(read(&ring(2, 7), &challenge, &said), Some(vec!["http://10.0.0.1:8500".into()]));
        assert!(!said.windows(4).any(|part| part == b"8500"), "nobody else does");
    }

    #[test]
    fn nobody_else_asks_or_answers() {
        let (mut text, challenge) = question(&ring(2, 7)).unwrap();
        for other in [ring(2, 8), ring(1, 7), ring(3, 7)] {
            assert!(answer(&known(other), &text).is_none());
        }
        let said = answer(&known(ring(2, 7)), &text).unwrap();
        let (_, another) = question(&ring(2, 7)).unwrap();
        assert_eq!(read(&ring(2, 7), &another, &said), None, "an answer of another time");
        assert_eq!(read(&ring(2, 8), &challenge, &said), None);
        for at in 0..said.len() {
            let mut changed = said.clone();
            changed[at] ^= 1;
            assert_eq!(read(&ring(2, 7), &challenge, &changed), None, "byte {at}");
        }
        text[20] ^= 1;
        assert!(answer(&known(ring(2, 7)), &text).is_none());
        for length in 0..QUESTION_BYTES {
            assert!(
                answer(&known(ring(2, 7)), &text[..length]).is_none()
                    && read(&ring(2, 7), &challenge, &text[..length]).is_none()
            );
        }
    }
}
