//! Running the program, and an agent of it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

/// A start takes a few milliseconds; a loaded machine may take a while longer.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);

/// The program without anything of the caller's environment that would reach it.
pub(crate) fn kvstore(args: &[&str]) -> Command {
    clean(env!("CARGO_BIN_EXE_kvstore"), args)
}

/// The same, which may have no more than so many files and connections open.
pub(crate) fn with_open_files(limit: u64, args: &[&str]) -> Command {
    let limited = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    clean("sh", &[&["-c", &limited, env!("CARGO_BIN_EXE_kvstore")], args].concat())
}

/// A program without anything of the caller's environment that would reach ours.
pub(crate) fn clean(program: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CONSUL_") || name.starts_with("KVSTORE_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(args).stdin(Stdio::null());
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    kvstore(args).output().expect("the program starts")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It must end with `code`, and each of `words` must stand on standard error.
pub(crate) fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Sends `signal` to a process of ours.
pub(crate) fn send(id: u32, signal: Signal) {
    let id = nix::unistd::Pid::from_raw(id.try_into().expect("the kernel's ids fit"));
    nix::sys::signal::kill(id, signal).expect("it runs");
}

/// A running agent; killed when dropped.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) address: String,
    dns: mpsc::Receiver<String>,
    log: Option<JoinHandle<String>>,
}

impl Agent {
    /// Starts one with `args`, and waits until it says where it listens.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::from(kvstore(&["agent"]).args(args))
    }

    /// Starts one by `command`, and waits until it says where it listens.
    pub(crate) fn from(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let ((found, listening), (found_dns, dns)) = (mpsc::channel(), mpsc::channel());
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            while let Some(Ok(line)) = lines.next() {
                if let Some((_, address)) = line.split_once("http is listening address=") {
                    let _ = found.send(address.trim().to_owned());
                }
                if let Some((_, address)) = line.split_once("dns is listening address=") {
                    let _ = found_dns.send(address.trim().to_owned());
                }
                log.push_str(&line);
                log.push('\n');
            }
            log
        });
        let Ok(address) = listening.recv_timeout(START_LIMIT) else {
            let _ = child.kill();
            panic!("it never listened:\n{}", log.join().unwrap());
        };
        Self { child, address, dns, log: Some(log) }
    }

    pub(crate) fn dev() -> Self {
        Self::start(&["--dev", "--node", "n1", "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0"])
    }

    /// Starts on `data`.
    pub(crate) fn on(data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().expect("a plain path");
        let args = ["--data-dir", data, "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0", "--node", "n1"];
        Self::start(&[&args[..], more].concat())
    }

    /// Where it answers DNS; to be asked for once.
    pub(crate) fn dns(&self) -> SocketAddr {
        self.dns.recv_timeout(START_LIMIT).expect("it serves DNS").parse().expect("an address")
    }

    /// A client's command against it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = kvstore(args);
        command.env("CONSUL_HTTP_ADDR", &self.address);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// The output of a command that succeeds.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Sends a request without a body.
    pub(crate) fn request(&self, method: &str, path: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address.trim_start_matches("http://")).expect("it listens");
        stream.set_read_timeout(Some(START_LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        BufReader::new(stream)
    }

    /// Sends a request without a body, and gives the status and the answer's body.
    pub(crate) fn send(&self, method: &str, path: &str) -> (u16, String) {
        let mut reply = String::new();
        self.request(method, path).read_to_string(&mut reply).expect("an answer in time");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
    }

    /// Sends `body`, which must be taken.
    pub(crate) fn put(&self, path: &str, body: &str) {
        assert_eq!(self.try_put(path, body), 200, "{path}");
    }

    /// Sends `body`, and gives the status.
    pub(crate) fn try_put(&self, path: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address.trim_start_matches("http://")).expect("it listens");
        stream.set_read_timeout(Some(START_LIMIT)).unwrap();
        let length = body.len();
        write!(stream, "PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}")
            .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("an answer in time");
        reply.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// Sends TERM, and gives the exit code and the log.
    pub(crate) fn stop(mut self) -> (Option<i32>, String) {
        self.signal(Signal::SIGTERM);
        let status = self.child.wait().expect("it ends");
        (status.code(), self.log.take().expect("it is taken once").join().expect("the reader does not panic"))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, and no longer than a start may take.
pub(crate) fn eventually(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + START_LIMIT;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Answers the first `count` requests on `listener` with `answer`, and gives their heads in small letters.
pub(crate) fn heads_of(listener: TcpListener, count: usize, answer: &'static [u8]) -> JoinHandle<Vec<String>> {
    std::thread::spawn(move || {
        let mut heads = Vec::new();
        for stream in listener.incoming().take(count) {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).unwrap();
            heads.push(text(&head[..read]).to_lowercase());
            stream.write_all(answer).unwrap();
        }
        heads
    })
}
