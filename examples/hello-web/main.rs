//! A web server with nothing but what an example needs: it says who answered, can fall ill, and drains when stopped.
//!
//! ```text
//! GET  /health          200 "ok", or 503 "ill" after one of the next two
//! POST /health/ill      falls ill; /health/well recovers. The signal USR1 switches between the two
//! GET  /slow/MS         as what follows, but its body takes so many milliseconds
//! GET  anything else    200 "hello from ID version VERSION path PATH"
//! ```
//!
//! `PORT` (8080), `VERSION` (v1) and `DRAIN_MS` (1000) are read from the environment. On TERM it goes on serving for
//! `DRAIN_MS`, closing each connection after its answer, so that proxies have the time to leave; then it ends.
//!
//! `hello-web check` asks the one at `PORT` for its health and exits with 0 if that is good: a HEALTHCHECK for an image
//! that has no other program.

use std::{
    env,
    error::Error,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::ExitCode,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use nix::sys::signal::{SigSet, Signal};

/// A client that says nothing for this long is hung up on.
const PATIENCE: Duration = Duration::from_mins(1);
/// Each connection is a thread; one beyond this is closed at once.
const MAX_CONNECTIONS: usize = 1024;
/// Longer request lines and headers are refused.
const MAX_LINE_BYTES: u64 = 8 << 10;
const MAX_HEADERS: usize = 100;

struct Site {
    id: String,
    version: String,
    ill: AtomicBool,
    draining: AtomicBool,
    connections: AtomicUsize,
}

struct Request {
    method: String,
    path: String,
    keep_alive: bool,
}

fn main() -> ExitCode {
    let told = if env::args().nth(1).as_deref() == Some("check") { check() } else { run() };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("hello-web: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let port: u16 = setting("PORT", 8080)?;
    let drain = Duration::from_millis(setting("DRAIN_MS", 1000)?);
    // Blocked in every thread, so that only `wait` sees them; it also lifts PID 1's immunity to them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1]);
    signals.thread_block()?;

    let listener = TcpListener::bind(("0.0.0.0", port)).map_err(|e| format!("cannot listen on port {port}: {e}"))?;
    let site = Arc::new(Site {
        id: setting("HOSTNAME", "localhost".to_owned())?,
        version: setting("VERSION", "v1".to_owned())?,
        ill: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        connections: AtomicUsize::new(0),
    });
    println!("hello-web {} listening on {}", site.version, listener.local_addr()?);
    let serving = Arc::clone(&site);
    thread::spawn(move || accept(&listener, &serving));

    while signals.wait()? == Signal::SIGUSR1 {
        site.ill.fetch_xor(true, Ordering::Relaxed);
    }
    site.draining.store(true, Ordering::Relaxed);
    println!("hello-web {} draining for {} ms", site.version, drain.as_millis());
    thread::sleep(drain);
    Ok(())
}

fn check() -> Result<(), Box<dyn Error>> {
    let mut stream = TcpStream::connect(("127.0.0.1", setting("PORT", 8080)?))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let first = read_line(&mut BufReader::new(stream))?.unwrap_or_default();
    if first == "HTTP/1.1 200 OK" { Ok(()) } else { Err(first.into()) }
}

fn setting<T: FromStr>(name: &str, default: T) -> Result<T, String> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| format!("{name}: {text:?} is not understood")),
        Err(_) => Ok(default),
    }
}

fn accept(listener: &TcpListener, site: &Arc<Site>) {
    for stream in listener.incoming().flatten() {
        if site.connections.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
            site.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let site = Arc::clone(site);
        thread::spawn(move || {
            // A client that goes away is its own affair.
            let _ = converse(&stream, &site);
            site.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Answers the requests of one connection, one after the other.
fn converse(stream: &TcpStream, site: &Site) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        let (status, body) = answer(&request, site);
        let keep_alive = request.keep_alive && !site.draining.load(Ordering::Relaxed);
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
            body.len()
        );
        let body = if request.method == "HEAD" { "" } else { &body };
        match slowness(&request.path) {
            None => (&*stream).write_all(format!("{head}{body}").as_bytes())?,
            Some(time) => trickle(stream, &head, body, time)?,
        }
        if !keep_alive {
            break;
        }
    }
    Ok(())
}

/// How long the body is to take, if that is asked for; nobody may keep a thread for longer than [`PATIENCE`].
fn slowness(path: &str) -> Option<Duration> {
    path.strip_prefix("/slow/")?.parse().ok().map(Duration::from_millis).map(|time| time.min(PATIENCE))
}

/// Sends the head at once and the body bit by bit.
fn trickle(mut stream: &TcpStream, head: &str, body: &str, time: Duration) -> io::Result<()> {
    const MOST_BITS: usize = 20;
    stream.write_all(head.as_bytes())?;
    let bits = body.as_bytes().chunks(body.len().div_ceil(MOST_BITS).max(1));
    let pause = time / u32::try_from(bits.len()).unwrap_or(u32::MAX).max(1);
    for bit in bits {
        thread::sleep(pause);
        stream.write_all(bit)?;
    }
    Ok(())
}

fn answer(request: &Request, site: &Site) -> (&'static str, String) {
    let ill = match (request.method.as_str(), request.path.as_str()) {
        ("POST" | "PUT", "/health/ill") => true,
        ("POST" | "PUT", "/health/well") => false,
        ("GET" | "HEAD", "/health") if site.ill.load(Ordering::Relaxed) => {
            return ("503 Service Unavailable", "ill\n".into());
        }
        ("GET" | "HEAD", "/health") => return ("200 OK", "ok\n".into()),
        ("GET" | "HEAD", path) => {
            let Site { id, version, .. } = site;
            return ("200 OK", format!("hello from {id} version {version} path {path}\n"));
        }
        _ => {
            return ("405 Method Not Allowed", "GET and HEAD; POST only to /health/ill and /health/well\n".into());
        }
    };
    site.ill.store(ill, Ordering::Relaxed);
    ("200 OK", if ill { "ill\n" } else { "ok\n" }.into())
}

/// The next request, its body unread; none once the client has said its last.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let Some(line) = read_line(reader)? else {
        return Ok(None);
    };
    let mut words = line.split_whitespace();
    let (Some(method), Some(path), Some(version)) = (words.next(), words.next(), words.next()) else {
        return Err(io::Error::other("not HTTP"));
    };
    let mut request = Request { method: method.into(), path: path.into(), keep_alive: version == "HTTP/1.1" };
    for _ in 0..MAX_HEADERS {
        let line = read_line(reader)?.unwrap_or_default().to_ascii_lowercase();
        match line.split_once(':') {
            None => return Ok(Some(request)),
            Some(("connection", value)) => request.keep_alive = value.trim() != "close",
            // A body would be taken for the next request, so there is none.
            Some(("content-length" | "transfer-encoding", value)) if value.trim() != "0" => request.keep_alive = false,
            Some(_) => {}
        }
    }
    Err(io::Error::other("too many headers"))
}

fn read_line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut line = String::new();
    io::Read::take(&mut *reader, MAX_LINE_BYTES).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    match line.strip_suffix('\n') {
        Some(line) => Ok(Some(line.trim_end_matches('\r').to_owned())),
        None => Err(io::Error::other("a line is too long or cut off")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site {
            id: "4f1c".into(),
            version: "v2".into(),
            ill: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
        }
    }

    fn ask(site: &Site, text: &str) -> (&'static str, String) {
        let request = read_request(&mut text.as_bytes()).unwrap().unwrap();
        answer(&request, site)
    }

    #[test]
    fn says_who_answered() {
        let (status, body) = ask(&site(), "GET /a/b HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!((status, body.as_str()), ("200 OK", "hello from 4f1c version v2 path /a/b\n"));
    }

    #[test]
    fn is_as_slow_as_it_is_asked_to_be() {
        assert_eq!(slowness("/slow/1500"), Some(Duration::from_millis(1500)));
        assert_eq!(slowness("/slow/99999999"), Some(PATIENCE));
        assert_eq!((slowness("/slow/x"), slowness("/slow")), (None, None));
    }

    #[test]
    fn falls_ill_and_recovers_when_told() {
        let site = site();
        for (line, want) in [
            ("GET /health", "200 OK"),
            ("POST /health/ill", "200 OK"),
            ("GET /health", "503 Service Unavailable"),
            ("GET /", "200 OK"),
            ("POST /health/well", "200 OK"),
            ("GET /health", "200 OK"),
            ("POST /", "405 Method Not Allowed"),
        ] {
            assert_eq!(ask(&site, &format!("{line} HTTP/1.1\r\n\r\n")).0, want, "{line}");
        }
    }

    #[test]
    fn keeps_a_connection_only_if_both_can() {
        for (text, want) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
            ("POST /health/ill HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", false),
        ] {
            let request = read_request(&mut text.as_bytes()).unwrap().unwrap();
            assert_eq!(request.keep_alive, want, "{text:?}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_request() {
        assert!(read_request(&mut &b""[..]).unwrap().is_none());
        for bad in ["\r\n", "GET /\r\n\r\n", "GET / HTTP/1.1", &"x".repeat(9000)] {
            assert!(read_request(&mut bad.as_bytes()).is_err(), "{bad:.20?}");
        }
    }
}
