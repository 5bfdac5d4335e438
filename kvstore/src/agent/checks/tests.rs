use std::{collections::BTreeMap, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};

use super::*;

mod secure;

const TIMEOUT: Duration = Duration::from_millis(500);

/// Listens on a free port and gives every connection `answer`; each request's head goes to the receiver. A connection is
/// held open if `answer` ends with `...`.
async fn serve(answer: impl Into<Vec<u8>>) -> (String, mpsc::UnboundedReceiver<String>) {
    let mut answer: Vec<u8> = answer.into();
    let hold = answer.ends_with(b"...");
    answer.truncate(answer.len() - if hold { 3 } else { 0 });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (heads, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 8192];
            let read = stream.read(&mut head).await.unwrap_or(0);
            let _ = heads.send(String::from_utf8_lossy(&head[..read]).into_owned());
            let _ = stream.write_all(&answer).await;
            if hold {
                held.push(stream);
            }
        }
    });
    (address, received)
}

fn http_probe(url: &str) -> Probe {
    let kind = ProbeKind::Http {
        url: url.into(),
        method: "GET".into(),
        header: BTreeMap::new(),
        body: String::new(),
        no_redirects: false,
        tls_skip_verify: false,
        tls_server_name: String::new(),
    };
    Probe::new(kind, Duration::from_secs(1), TIMEOUT)
}

fn tcp_probe(address: &str) -> Probe {
    let kind = ProbeKind::Tcp { address: address.into(), tls: None };
    Probe::new(kind, Duration::from_secs(1), TIMEOUT)
}

/// A port on which nobody listens.
async fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

async fn run(probe: &Probe) -> (Status, String) {
    run_trusting(tls::Trust::default(), probe).await
}

async fn run_trusting(trust: tls::Trust, probe: &Probe) -> (Status, String) {
    match Prober::new(trust, Outputs::default()).run(probe, true).await {
        Finding::Found { status, output } => (status, output),
        Finding::NotTried(why) => panic!("not tried: {why}"),
    }
}

#[tokio::test]
async fn the_answers_status_is_the_checks() {
    for (answer, status, said) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", Status::Passing, "200 OK Output: hi"),
        ("HTTP/1.1 204 No Content\r\n\r\n", Status::Passing, "204 No Content Output: "),
        (
            "HTTP/1.1 429 Too Many Requests\r\nContent-Length: 4\r\n\r\nslow",
            Status::Warning,
            "429 Too Many Requests Output: slow",
        ),
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", Status::Critical, "404 Not Found Output: "),
        ("HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\ndown", Status::Critical, "503 Service Unavailable Output: down"),
        // A body that breaks off, or never ends, does not take the status back.
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", Status::Passing, "200 OK Output: half"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf...", Status::Passing, "200 OK Output: half"),
    ] {
        let (address, _heads) = serve(answer).await;
        let url = format!("http://{address}/health");
        assert_eq!(run(&http_probe(&url)).await, (status, format!("HTTP GET {url}: {said}")), "{answer}");
    }
}

#[tokio::test]
async fn a_long_output_is_cut_between_characters() {
    let body = "\u{e4}".repeat(5000);
    let (address, _heads) = serve(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    let (status, output) = run(&http_probe(&format!("http://{address}/"))).await;
    assert_eq!(status, Status::Passing);
    assert!((MAX_OUTPUT_BYTES - 1..=MAX_OUTPUT_BYTES).contains(&output.len()), "{}", output.len());
    assert!(output.ends_with('\u{e4}'));
}

#[tokio::test]
async fn the_request_is_as_registered() {
    let (address, mut heads) = serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let mut probe = http_probe(&format!("http://{address}/a?b=c"));
    let ProbeKind::Http { method, header, body, .. } = &mut probe.kind else { unreachable!() };
    *method = "POST".into();
    *body = "ping".into();
    header.insert("Host".into(), vec!["web.example".into()]);
    header.insert("X-Two".into(), vec!["1".into(), "2".into()]);
    assert_eq!(run(&probe).await.0, Status::Passing);
    let head = heads.recv().await.unwrap().to_lowercase();
    assert!(head.starts_with("post /a?b=c http/1.1\r\n"), "{head}");
    for line in ["host: web.example", "x-two: 1", "x-two: 2", "user-agent: consul health check", "connection: close"] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line} in {head}");
    }
    assert!(head.ends_with("\r\n\r\nping") || heads.recv().await.is_some_and(|rest| rest == "ping"), "{head}");
    assert_eq!(head.matches("\r\nhost:").count(), 1, "{head}");
}

#[tokio::test]
async fn a_name_in_the_url_is_told_to_its_host_only() {
    let (end, mut at_end) = serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = end.rsplit_once(':').unwrap().1;
    let moved = format!("HTTP/1.1 307 x\r\nLocation: http://localhost:{port}/\r\nContent-Length: 0\r\n\r\n");
    let (start, mut at_start) = serve(moved).await;
    let mut probe = http_probe(&format!("http://me:p%40ss@{start}/"));
    let ProbeKind::Http { method, body, header, .. } = &mut probe.kind else { unreachable!() };
    (*method, *body) = ("PUT".into(), "ping".into());
    header.insert("Host".into(), vec!["web.example".into()]);
    header.insert("Cookie".into(), vec!["a=b".into()]);
    assert_eq!(run(&probe).await.0, Status::Passing);
    let (start, end) = (at_start.recv().await.unwrap(), at_end.recv().await.unwrap());
    let start = start.to_lowercase();
    assert!(start.contains("authorization: basic bwu6cebzcw==") && start.contains("cookie: a=b"), "{start}");
    assert!(end.starts_with("PUT / HTTP/1.1\r\n") && end.to_lowercase().contains("host: localhost:"), "{end}");
    assert!(!end.to_lowercase().contains("authorization") && !end.to_lowercase().contains("cookie"), "{end}");
}

#[tokio::test]
async fn redirects_are_followed_unless_they_shall_not() {
    let (end, _heads) = serve("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend").await;
    let moved = format!("HTTP/1.1 302 Found\r\nLocation: http://{end}/\r\nContent-Length: 0\r\n\r\n");
    let (start, _heads) = serve(moved).await;
    let mut probe = http_probe(&format!("http://{start}/"));
    assert_eq!(run(&probe).await.0, Status::Passing);
    let ProbeKind::Http { no_redirects, .. } = &mut probe.kind else { unreachable!() };
    *no_redirects = true;
    let (status, output) = run(&probe).await;
    assert!(status == Status::Critical && output.contains("302 Found"), "{output}");
    // One that never ends.
    let (circle, _heads) = serve("HTTP/1.1 301 x\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n").await;
    let (status, output) = run(&http_probe(&format!("http://{circle}/"))).await;
    assert!(status == Status::Critical && output.contains("stopped after 10 redirects"), "{output}");
    let (strange, _heads) = serve("HTTP/1.1 301 x\r\nLocation: ftp://h/\r\nContent-Length: 0\r\n\r\n").await;
    assert!(run(&http_probe(&format!("http://{strange}/"))).await.1.contains("ftp: is not supported"));
}

#[tokio::test]
async fn what_does_not_answer_is_critical_and_says_why() {
    let closed = closed_port().await;
    let (mute, _heads) = serve("...").await;
    for (probe, text) in [
        (http_probe(&format!("http://{closed}/")), "Connection refused"),
        (http_probe(&format!("http://{mute}/")), "no answer within 500ms"),
        (http_probe("http://[nonsense/"), "this is no URL"),
        (http_probe("ftp://127.0.0.1/"), "ftp: is not supported"),
        (http_probe(&format!("https://{closed}/")), "Connection refused"),
        (tcp_probe(&closed), "Connection refused"),
        (tcp_probe("127.0.0.1"), "invalid socket address"),
    ] {
        let (status, output) = run(&probe).await;
        assert!(status == Status::Critical && output.contains(text), "{text} in {output}");
    }
    let mut bad = http_probe("http://127.0.0.1/");
    let ProbeKind::Http { method, .. } = &mut bad.kind else { unreachable!() };
    *method = "G T".into();
    assert!(run(&bad).await.1.contains("is no method"));
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let (address, _heads) = serve("").await;
    assert_eq!(run(&tcp_probe(&address)).await, (Status::Passing, format!("TCP connect {address}: Success")));
}

#[test]
fn a_lack_on_this_host_is_not_the_services_fault() {
    let errno = |code: nix::errno::Errno| failed("x", &io::Error::from(code));
    assert!(matches!(errno(nix::errno::Errno::EMFILE), Finding::NotTried(_)));
    assert!(matches!(errno(nix::errno::Errno::EADDRNOTAVAIL), Finding::NotTried(_)));
    assert!(matches!(errno(nix::errno::Errno::ECONNREFUSED), Finding::Found { status: Status::Critical, .. }));
}

#[test]
fn a_password_is_not_shown() {
    assert_eq!(http::without_password("http://me:secret@h/x"), "http://me:xxxxx@h/x");
    assert_eq!(http::without_password("http://h/x"), "http://h/x");
    assert_eq!(http::without_password("no url"), "no url");
}

fn probe_of(kind: ProbeKind) -> Probe {
    Probe::new(kind, Duration::from_secs(1), TIMEOUT)
}

fn script(line: &str) -> Probe {
    probe_of(ProbeKind::Script { args: ["sh", "-c", line].map(String::from).into() })
}

#[tokio::test]
async fn a_scripts_exit_code_is_the_status() {
    for (line, status, output) in [
        ("echo fine", Status::Passing, "fine\n"),
        ("echo out; echo err >&2; echo again; exit 1", Status::Warning, "out\nerr\nagain\n"),
        ("exit 2", Status::Critical, ""),
        ("kill -9 $$", Status::Critical, ""),
        // It closes its output and goes on.
        ("exec >&- 2>&-; exit 1", Status::Warning, ""),
        ("cat", Status::Passing, ""),
        ("echo start; sleep 10", Status::Critical, "Timed out (500ms) running check\n\nstart\n"),
        ("sleep 10", Status::Critical, "Timed out (500ms) running check"),
    ] {
        assert_eq!(run(&script(line)).await, (status, output.to_owned()), "{line}");
    }
    let (status, output) = run(&probe_of(ProbeKind::Script { args: vec!["/no/such/program".into()] })).await;
    assert!(status == Status::Critical && output.contains("No such file"), "{output}");
}

#[tokio::test]
async fn a_long_output_of_a_script_is_its_end() {
    let mut probe = script("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done");
    probe.timeout = Duration::from_secs(20);
    let (status, output) = run(&probe).await;
    assert!(output.starts_with("Captured 4096 of 28890 bytes\n...\n"), "{output}");
    assert!(status == Status::Passing && output.ends_with("line 2999\n"), "{output}");
    probe.output_max_bytes = Some(5);
    assert_eq!(run(&probe).await.1, "Captured 5 of 28890 bytes\n...\n2999\n");
    // More than the agent's limit is not to be had.
    probe.output_max_bytes = Some(1 << 20);
    assert!(run(&probe).await.1.starts_with("Captured 4096 of"));
}

/// Whether the process is there; one that ended but was not reaped yet is not.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.starts_with(" Z"))
}

async fn ends(pid: &str) {
    for _ in 0..200 {
        if !is_alive(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{pid} lives");
}

#[tokio::test]
async fn nothing_that_a_script_started_outlives_it() {
    // The child holds the output open; the script ends at once in one case and never in the other.
    for (line, status) in [("sleep 100 & echo $!", Status::Passing), ("sleep 100 & echo $!; wait", Status::Critical)] {
        let begun = std::time::Instant::now();
        let (found, output) = run(&script(line)).await;
        assert_eq!(found, status, "{output}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        ends(output.lines().last().unwrap()).await;
    }
}

#[tokio::test]
async fn a_script_ends_with_the_agent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let mut probe = script(&format!("sleep 100 & echo $! $$ > {}; wait", file.display()));
    probe.timeout = Duration::from_secs(100);
    let running = tokio::spawn(async move { run(&probe).await });
    let pids = loop {
        match std::fs::read_to_string(&file) {
            Ok(text) if text.ends_with('\n') => break text,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    running.abort();
    for pid in pids.split_whitespace() {
        ends(pid).await;
    }
}

#[tokio::test]
async fn no_script_is_run_where_that_is_not_allowed_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ran");
    let probe = script(&format!("touch {}", file.display()));
    let found = Prober::new(tls::Trust::default(), Outputs::default()).run(&probe, false).await;
    assert_eq!(found, Finding::Found { status: Status::Critical, output: SCRIPTS_DISABLED.into() });
    assert!(!file.exists());
}

#[tokio::test]
async fn a_datagram_passes_unless_it_is_refused() {
    let udp = |address: &str| probe_of(ProbeKind::Udp { address: address.into() });
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let success = (Status::Passing, format!("UDP connect {address}: Success"));
    let begun = std::time::Instant::now();
    assert_eq!(run(&udp(&address)).await, success, "silence");
    assert!(begun.elapsed() >= TIMEOUT);
    let answering = tokio::spawn(async move {
        // The first datagram is that of the run before.
        for _ in 0..2 {
            let (_, from) = socket.recv_from(&mut [0; 16]).await.unwrap();
            let _ = socket.send_to(b"hi", from).await;
        }
        drop(socket);
    });
    assert_eq!(run(&udp(&address)).await, success, "an answer");
    answering.await.unwrap();
    // A machine under load may tell of the refusal later than the probe waits: then this once it is silence.
    let mut found = run(&udp(&address)).await;
    for _ in 0..20 {
        if found.0 != Status::Critical {
            found = run(&udp(&address)).await;
        }
    }
    assert!(found.0 == Status::Critical && found.1.contains("Connection refused"), "{found:?}");
    assert_eq!(run(&udp("127.0.0.1")).await.0, Status::Critical);
}

#[tokio::test]
async fn the_agent_has_the_last_word_on_outputs() {
    let (address, _heads) = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let mut probe = http_probe(&format!("http://{address}/"));
    for (max_bytes, own, discard, expected) in
        [(4, None, false, "HTTP"), (4, Some(2), false, "HT"), (4, Some(9), false, "HTTP"), (4, None, true, "")]
    {
        probe.output_max_bytes = own;
        let found = Prober::new(tls::Trust::default(), Outputs { max_bytes, discard }).run(&probe, true).await;
        assert_eq!(found, Finding::Found { status: Status::Passing, output: expected.into() });
    }
}

#[test]
fn a_report_is_cut_with_a_word_on_it() {
    let mut probe = probe_of(ProbeKind::Ttl { ttl: TIMEOUT });
    let outputs = |max_bytes, discard| Outputs { max_bytes, discard };
    for (outputs, own, expected) in [
        (outputs(9, false), None, "abcd\u{e4}f"),
        (outputs(7, false), None, "abcd\u{e4}f"),
        (outputs(5, false), None, "abcd ... (captured 5 of 7 bytes)"),
        (outputs(5, false), Some(2), "ab ... (captured 2 of 7 bytes)"),
        (outputs(5, true), Some(2), ""),
    ] {
        probe.output_max_bytes = own;
        assert_eq!(outputs.of_report(Some(&probe), "abcd\u{e4}f".into()), expected);
    }
    assert_eq!(outputs(2, false).of_report(None, "abc".into()), "ab ... (captured 2 of 3 bytes)");
}

#[tokio::test]
async fn output_is_cut_where_the_registration_says() {
    let (address, _heads) = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
    let mut probe = http_probe(&format!("http://{address}/"));
    probe.output_max_bytes = Some(8);
    assert_eq!(run(&probe).await, (Status::Passing, "HTTP GET".to_owned()));
}
