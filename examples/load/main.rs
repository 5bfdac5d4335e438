//! Asks a web server again and again, as a visitor would, and tells how often that failed and who answered.
//!
//! ```text
//! load [--keep-alive] http://HOST:PORT/PATH [VISITORS]
//! load --once http://HOST:PORT/PATH
//! ```
//!
//! Each of the `VISITORS` (4) looks HOST up, sends a request on a connection of its own, waits for the whole answer, pauses a
//! little and goes on; with `--keep-alive` on the same connection for as long as the server keeps it. A failure is told at once. On
//! USR1 it prints the count so far; on TERM or INT it prints the last one and exits with 1 if any request failed or none was
//! made. With `--once` it prints the one answer.
//!
//! Nothing is tried twice but what HTTP has every client do (RFC 9112, 9.3.1): a request on a kept connection that the
//! server closed while it was idle, before a single byte of an answer, is sent again on a new one.

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

/// The longest that connecting, and each read and write, may take.
const DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);
const MAX_ANSWER_BYTES: usize = 64 << 10;

struct Target {
    /// With the port.
    host: String,
    path: String,
    keep_alive: bool,
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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("load: {e}");
            ExitCode::from(2)
        }
    }
}

/// Whether nothing failed.
fn run() -> Result<bool, Box<dyn Error>> {
    let mut args = env::args().skip(1).peekable();
    let is_once = args.next_if(|arg| arg == "--once").is_some();
    let keep_alive = args.next_if(|arg| arg == "--keep-alive").is_some();
    let url = args.next().ok_or("usage: load [--once] [--keep-alive] http://HOST:PORT/PATH [VISITORS]")?;
    let target = Target { keep_alive, ..parse(&url)? };
    if is_once {
        return Ok(once(&target));
    }
    let visitors: usize = args.next().as_deref().unwrap_or("4").parse()?;
    let target = Arc::new(target);
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
    Ok(count.failed == 0 && count.requests > 0)
}

fn once(target: &Target) -> bool {
    let answer = ask(target, &mut None).and_then(|text| version(&text).map(|_| text));
    match &answer {
        Ok(text) => print!("{}", text.split_once("\r\n\r\n").map_or("", |(_, body)| body)),
        Err(e) => eprintln!("load: {}: {e}", target.host),
    }
    answer.is_ok()
}

fn locked(count: &Mutex<Count>) -> std::sync::MutexGuard<'_, Count> {
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(url: &str) -> Result<Target, Box<dyn Error>> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("{url:?} does not begin with http://"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let port = host.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    port.ok_or_else(|| format!("{host:?} is not HOST:PORT"))?;
    Ok(Target { host: host.into(), path: if path.is_empty() { "/".into() } else { path.into() }, keep_alive: false })
}

fn visit(target: &Target, count: &Mutex<Count>) {
    let mut kept = None;
    loop {
        let answer = ask(target, &mut kept).and_then(|text| version(&text));
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

/// Sends one request, on the kept connection if there is one, and reads its whole answer.
fn ask(target: &Target, kept: &mut Option<TcpStream>) -> io::Result<String> {
    if let Some(mut stream) = kept.take() {
        match exchange(target, &mut stream) {
            Err(error) if is_idle_close(&error) => {}
            answer => return keep(target, stream, answer, kept),
        }
    }
    let mut stream = connect(target)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let answer = exchange(target, &mut stream);
    keep(target, stream, answer, kept)
}

/// To the first of the host's addresses that takes it.
fn connect(target: &Target) -> io::Result<TcpStream> {
    let mut failed = io::Error::other("the name has no address");
    for address in target.host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, DEADLINE) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn keep(
    target: &Target,
    stream: TcpStream,
    answer: io::Result<String>,
    kept: &mut Option<TcpStream>,
) -> io::Result<String> {
    let answer = answer?;
    if target.keep_alive && header(&answer, "connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
        *kept = Some(stream);
    }
    Ok(answer)
}

fn exchange(target: &Target, stream: &mut TcpStream) -> io::Result<String> {
    let connection = if target.keep_alive { "keep-alive" } else { "close" };
    // In one piece: the second of two small writes would wait for the first one's acknowledgement.
    let Target { path, host, .. } = target;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: {connection}\r\n\r\n").as_bytes())?;
    read_answer(stream)
}

/// Nothing came, and nothing more will.
fn is_idle_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

/// Up to the length that the head names, or to the end if it names none.
fn read_answer(stream: &mut impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while !is_whole(&bytes) && bytes.len() <= MAX_ANSWER_BYTES {
        match stream.read(&mut chunk) {
            Ok(0) if bytes.is_empty() => return Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&chunk[..n]),
            Err(error) if bytes.is_empty() => return Err(error),
            // Whatever ends an answer that has begun is a failure.
            Err(error) => return Err(io::Error::other(format!("the answer was cut off: {error}"))),
        }
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once("\r\n\r\n")) else {
        return false;
    };
    header(head, "content-length").and_then(|n| n.parse().ok()).is_some_and(|n: usize| body.len() >= n)
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v.trim())
}

/// Takes only a complete 200; `-` if its body names no version.
fn version(answer: &str) -> io::Result<String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| io::Error::other("the answer was cut off"))?;
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(io::Error::other(first.to_owned()));
    }
    let length = header(answer, "content-length").and_then(|n| n.parse::<usize>().ok());
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
    fn an_answer_is_read_to_its_length_and_only_silence_is_an_idle_close() {
        let read = |mut text: &[u8]| read_answer(&mut text);
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(read(whole.as_bytes()).unwrap(), whole);
        assert!(read(b"").is_err_and(|e| is_idle_close(&e)));
        let cut = read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nh").unwrap();
        assert!(version(&cut).is_err_and(|e| !is_idle_close(&e)));
        assert!(version(&read(b"HTTP/1.1 200").unwrap()).is_err());
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
