//! Asks a web server again and again, as a visitor would, and tells how often that failed and who answered.
//!
//! ```text
//! load http://HOST:PORT/PATH [VISITORS]
//! ```
//!
//! Each of the `VISITORS` (4) sends a request on a connection of its own, waits for the whole answer, pauses a little and
//! goes on. A failure is told at once. On USR1 it prints the count so far; on TERM or INT it prints the last one and
//! exits with 1 if any request failed or none was made.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

/// The longest that connecting, and each read and write, may take.
const DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
const MAX_ANSWER_BYTES: u64 = 64 << 10;

struct Target {
    address: SocketAddr,
    host: String,
    path: String,
}

#[derive(Default)]
struct Count {
    requests: u64,
    failed: u64,
    /// Answers by the word after "version" in them.
    versions: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    match run() {
        Ok(count) if count.failed == 0 && count.requests > 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("load: {e}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<Count, Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let url = args.next().ok_or("usage: load http://HOST:PORT/PATH [VISITORS]")?;
    let visitors: usize = args.next().as_deref().unwrap_or("4").parse()?;
    let target = Arc::new(parse(&url)?);
    let count = Arc::new(Mutex::new(Count::default()));

    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1]);
    signals.thread_block()?;
    for _ in 0..visitors {
        let (target, count) = (Arc::clone(&target), Arc::clone(&count));
        thread::spawn(move || visit(&target, &count));
    }
    while signals.wait()? == Signal::SIGUSR1 {
        println!("{}", told(&locked(&count)));
    }
    let count = std::mem::take(&mut *locked(&count));
    println!("{}", told(&count));
    Ok(count)
}

fn locked(count: &Mutex<Count>) -> std::sync::MutexGuard<'_, Count> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(url: &str) -> Result<Target, Box<dyn Error>> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = host.to_socket_addrs().map_err(|e| format!("{host:?}: {e}"))?.next();
    Ok(Target {
        address: address.ok_or_else(|| format!("{host:?} has no address"))?,
        host: host.into(),
        path: if path.is_empty() { "/".into() } else { path.into() },
    })
}

fn visit(target: &Target, count: &Mutex<Count>) {
    loop {
        let answer = ask(target).and_then(|text| version(&text));
        {
            let mut count = locked(count);
            count.requests += 1;
            match answer {
                Ok(version) => *count.versions.entry(version).or_default() += 1,
                Err(e) => {
                    count.failed += 1;
                    println!("request {} failed: {e}", count.requests);
                }
            }
        }
        thread::sleep(PAUSE);
    }
}

/// Sends one request and reads its whole answer.
fn ask(target: &Target) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&target.address, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    // In one piece: the second of two small writes would wait for the first one's acknowledgement.
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", target.path, target.host);
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Takes only a complete 200; `-` if its body names no version.
fn version(answer: &str) -> io::Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("the answer was cut off"))?;
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(first.to_owned()));
    }
    let length = head.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    if length.is_some_and(|n| n != body.len()) {
        return Err(io::Error::other("the body was cut off"));
    }
    let mut words = body.split_whitespace().skip_while(|w| *w != "version");
    Ok(words.nth(1).unwrap_or("-").to_owned())
}

fn told(count: &Count) -> String {
    let by: Vec<_> = count.versions.iter().map(|(v, n)| format!("{v}={n}")).collect();
    format!("requests={} failed={} {}", count.requests, count.failed, by.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complete_200_counts() {
        for (answer, want) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nversion v2", Some("v2")),
            ("HTTP/1.1 200 OK\r\n\r\nhello", Some("-")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nversion v2", None),
            ("HTTP/1.1 503 Service Unavailable\r\n\r\nversion v2", None),
            ("HTTP/1.1 200 OK\r\n", None),
            ("", None),
        ] {
            assert_eq!(version(answer).ok().as_deref(), want, "{answer:?}");
        }
    }

    #[test]
    fn tells_what_is_wrong_with_an_address() {
        assert_eq!(parse("http://127.0.0.1:80").unwrap().path, "/");
        assert_eq!(parse("http://127.0.0.1:80/a?b").unwrap().path, "/a?b");
        for bad in ["127.0.0.1:80", "http://127.0.0.1", "http://127.0.0.1:x/"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
