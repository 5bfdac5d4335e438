//! The program as people and scripts meet it: help, flags, files, exit codes, and a whole agent behind it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;

/// A start takes a few milliseconds; a loaded machine may take a while longer.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The program without anything of the caller's environment that would reach it.
fn kvstore(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvstore"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CONSUL_") || name.starts_with("KVSTORE_")) {
        command.env_remove(name);
    }
    command.env_remove("RUST_LOG").args(args).stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    kvstore(args).output().expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It must end with `code`, and each of `words` must stand on standard error.
fn refused(output: &Output, code: i32, words: &[&str]) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// A running agent; killed when dropped.
struct Agent {
    child: Child,
    address: String,
    log: Option<JoinHandle<String>>,
}

impl Agent {
    /// Starts one with `args`, and waits until it says where it listens.
    fn start(args: &[&str]) -> Self {
        let mut child = kvstore(&["agent"]).args(args).stderr(Stdio::piped()).spawn().expect("the program starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let (found, listening) = mpsc::channel();
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            while let Some(Ok(line)) = lines.next() {
                if let Some((_, address)) = line.split_once("http is listening address=") {
                    let _ = found.send(address.trim().to_owned());
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
        Self { child, address, log: Some(log) }
    }

    fn dev() -> Self {
        Self::start(&["--dev", "--node", "n1", "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0"])
    }

    /// Starts on `data`.
    fn on(data: &Path, more: &[&str]) -> Self {
        let data = data.to_str().expect("a plain path");
        let args = ["--data-dir", data, "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0", "--node", "n1"];
        Self::start(&[&args[..], more].concat())
    }

    /// A client's command against it.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = kvstore(args);
        command.env("CONSUL_HTTP_ADDR", &self.address);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the program starts")
    }

    /// The output of a command that succeeds.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Sends a request without a body.
    fn request(&self, method: &str, path: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address.trim_start_matches("http://")).expect("it listens");
        stream.set_read_timeout(Some(START_LIMIT)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        BufReader::new(stream)
    }

    /// Sends a request without a body, and gives the status and the answer's body.
    fn send(&self, method: &str, path: &str) -> (u16, String) {
        let mut reply = String::new();
        self.request(method, path).read_to_string(&mut reply).expect("an answer in time");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), body.to_owned())
    }

    fn signal(&self, signal: Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().expect("the kernel's ids fit"));
        nix::sys::signal::kill(pid, signal).expect("it runs");
    }

    /// Sends TERM, and gives the exit code and the log.
    fn stop(mut self) -> (Option<i32>, String) {
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

#[test]
fn help_and_version_are_no_failure() {
    for args in [&["--help"][..], &["agent", "--help"], &["kv", "put", "-help"], &["help", "catalog"]] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}");
        assert!(text(&output.stdout).contains("Examples:"), "{args:?}");
    }
    let version = format!("kvstore {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&run(&["version"]).stdout), version);
    assert_eq!(text(&run(&["--version"]).stdout), version);
}

#[test]
fn wrong_flags_are_named() {
    refused(&run(&["agent", "--no-such-flag"]), 2, &["--no-such-flag", "--help"]);
    refused(&run(&["frobnicate"]), 2, &["frobnicate"]);
    refused(&run(&[]), 2, &["agent"]);
    refused(&run(&["agent", "--http-addr", "localhost"]), 2, &["localhost", "IP:PORT"]);
    refused(&run(&["agent", "--engine", "etcd://127.0.0.1:2379"]), 2, &["etcd", "not supported"]);
    refused(
        &run(&["agent", "--dev", "--https-addr", "127.0.0.1:0", "--replica-of", "http://127.0.0.1:1"]),
        2,
        &["2 faults", "--https-addr  not supported", "--replica-of  not supported"],
    );
    refused(&run(&["kv", "delete", "--cas", "k"]), 2, &["--modify-index"]);
    refused(&run(&["services", "register"]), 2, &["--name"]);
}

#[test]
fn every_fault_of_all_files_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("a.yaml"), "node: n1\ndata_dri: /x\n").unwrap();
    fs::write(path("b.json"), "{\n \"ports\": {\"http\": \"x\"}\n}").unwrap();
    fs::write(path("c.hcl"), "node_name = \"x\"").unwrap();
    fs::write(path("notes.txt"), "not read").unwrap();
    let all = [
        "3 faults",
        "a.yaml:2  data_dri: unknown key; did you mean \"data_dir\"?",
        "b.json:2  ports.http:",
        "c.hcl  HCL is not read",
    ];
    let directory = dir.path().display().to_string();
    refused(&run(&["agent", "--dev", "--config", &directory]), 2, &all);
    refused(&run(&["agent", "-dev", "-config-dir", &directory]), 2, &all);
    refused(&run(&["validate", &directory]), 1, &all);
    refused(&run(&["agent", "--dev", "--config", &path("absent.yaml")]), 2, &["absent.yaml", "No such file"]);
    let mut local = kvstore(&["agent", "--dev"]);
    let output = local.env("CONSUL_LOCAL_CONFIG", "{\"htp\": 1}").output().unwrap();
    refused(&output, 2, &["$CONSUL_LOCAL_CONFIG:1  htp: unknown key"]);
}

/// Scripts of the agent's own files are one thing; taking them from whoever reaches the API is another.
#[test]
fn local_scripts_alone_open_no_door() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("agent.json"), dir.path().join("data"));
    fs::write(&file, serde_json::json!({"data_dir": data, "enable_local_script_checks": true}).to_string()).unwrap();
    let output = run(&["validate", file.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(said.contains("without effect in this version: enable_local_script_checks"), "{said}");
}

#[test]
fn validate_starts_nothing_and_shows_the_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("agent.json"), dir.path().join("data"));
    fs::write(&file, serde_json::json!({"data_dir": data, "bootstrap": true, "server": true}).to_string()).unwrap();
    let output = run(&["validate", file.to_str().unwrap()]);
    let said = text(&output.stdout);
    assert!(
        output.status.success() && said.contains("bootstrap") && said.ends_with("Configuration is valid!\n"),
        "{said}"
    );
    assert!(!data.exists());
}

#[test]
fn keys_are_written_and_read() {
    let agent = Agent::dev();
    assert_eq!(agent.ok(&["kv", "put", "dir/a", "one"]), "Success! Data written to: dir/a\n");
    agent.ok(&["kv", "put", "-flags=42", "dir/b", "two words"]);
    agent.ok(&["kv", "put", "dir/sub/c", "-5"]);
    agent.ok(&["kv", "put", "empty"]);
    assert_eq!(agent.ok(&["kv", "get", "dir/a"]), "one");
    assert_eq!(agent.ok(&["kv", "get", "empty"]), "");
    assert_eq!(agent.ok(&["kv", "get", "-recurse", "dir/"]), "dir/a:one\ndir/b:two words\ndir/sub/c:-5\n");
    assert_eq!(agent.ok(&["kv", "get", "-keys", "dir/"]), "dir/a\ndir/b\ndir/sub/\n");
    assert_eq!(agent.ok(&["kv", "get", "-keys", "-separator=", "dir/"]), "dir/a\ndir/b\ndir/sub/c\n");
    let details = agent.ok(&["kv", "get", "-detailed", "dir/b"]);
    assert!(details.contains("Flags        42\n") && details.ends_with("Value        two words\n"), "{details}");
    refused(&agent.run(&["kv", "get", "nope"]), 1, &["there is no key \"nope\""]);
    refused(&agent.run(&["kv", "put", "-cas", "dir/a", "x"]), 1, &["\"dir/a\" was not written"]);
    assert_eq!(agent.ok(&["kv", "delete", "dir/a"]), "Success! Deleted key: dir/a\n");
    agent.ok(&["kv", "delete", "-recurse", "dir/"]);
    assert_eq!(agent.ok(&["kv", "get", "-keys"]), "empty\n");
}

#[test]
fn values_are_bytes() {
    let agent = Agent::dev();
    let bytes: Vec<u8> = (0..=255).collect();
    let mut put = agent.command(&["kv", "put", "bin", "-"]);
    let mut child = put.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(agent.run(&["kv", "get", "bin"]).stdout, bytes);

    let export = agent.ok(&["kv", "export"]);
    agent.ok(&["kv", "delete", "bin"]);
    assert_eq!(agent.ok(&["kv", "import", "-prefix", "copy/", &export]), "Imported: copy/bin\n");
    assert_eq!(agent.run(&["kv", "get", "copy/bin"]).stdout, bytes);
    refused(&agent.run(&["kv", "import", "[{"]), 1, &["no export", "nothing was written"]);
}

#[test]
fn services_are_registered_and_listed() {
    let agent = Agent::dev();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("db.yaml");
    fs::write(&file, "service:\n  name: db\n  port: 5432\n  check: {ttl: 30s}\n").unwrap();
    let file = file.to_str().unwrap();
    agent.ok(&["services", "register", "-name=web", "-id=web-1", "-port=80", "-tag=v1", "-tag=blue", "-meta=a=b"]);
    assert_eq!(agent.ok(&["services", "register", file]), "Registered service: db\n");
    assert_eq!(agent.ok(&["catalog", "services"]), "consul\ndb\nweb\n");
    assert_eq!(agent.ok(&["catalog", "services", "-tags", "-node=n1"]), "consul\ndb\nweb     blue,v1\n");
    assert!(agent.ok(&["catalog", "nodes", "-service=web"]).contains("n1 "));
    refused(&agent.run(&["catalog", "nodes", "-service=nope"]), 1, &["nope"]);
    refused(&agent.run(&["catalog", "services", "-node=nope"]), 1, &["nope"]);
    assert_eq!(agent.ok(&["services", "deregister", "-id=web-1"]), "Deregistered service: web-1\n");
    assert_eq!(agent.ok(&["services", "deregister", file]), "Deregistered service: db\n");
    refused(&agent.run(&["services", "deregister", "-id=web-1"]), 1, &["404", "web-1"]);
    assert!(agent.ok(&["info"]).contains("NodeName = n1"));
    fs::write(dir.path().join("bad.yaml"), "service:\n  nam: x\n").unwrap();
    let bad = dir.path().join("bad.yaml").display().to_string();
    refused(&agent.run(&["services", "register", &bad]), 2, &["bad.yaml:2  service.nam: unknown key"]);
}

#[test]
fn a_registry_that_is_away_is_named() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    refused(&run(&["kv", "get", "a", "-http-addr", &closed]), 1, &[&closed, "refused", "--http-addr"]);
    refused(&run(&["kv", "get", "a", "--http-addr", "https://x"]), 2, &["https is not supported"]);
    refused(&run(&["kv", "get", "a", "--token-file", "/no/such/file"]), 1, &["/no/such/file"]);
}

#[test]
fn the_token_is_sent_and_never_printed() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heads = std::thread::spawn(move || {
        let mut heads = Vec::new();
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).unwrap();
            heads.push(text(&head[..read]).to_lowercase());
            stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno").unwrap();
        }
        heads
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "s3cret\n").unwrap();
    let with = |command: &mut Command| {
        let output = command.env("CONSUL_HTTP_ADDR", &address).output().unwrap();
        refused(&output, 1, &["403", "no", "--token"]);
        assert!(!text(&output.stderr).contains("s3cret"));
    };
    with(&mut kvstore(&["kv", "get", "a", "-token=s3cret"]));
    with(kvstore(&["kv", "get", "a"]).env("CONSUL_HTTP_TOKEN", "s3cret"));
    with(kvstore(&["kv", "get", "a"]).env("CONSUL_HTTP_TOKEN_FILE", &file));
    for head in heads.join().unwrap() {
        assert!(head.contains("x-consul-token: s3cret\r\n"), "{head}");
    }
    let help = kvstore(&["kv", "--help"]).env("CONSUL_HTTP_TOKEN", "s3cret").output().unwrap();
    assert!(!text(&help.stdout).contains("s3cret"));
}

#[test]
fn a_configuration_of_consul_starts_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("api.sock");
    let config = serde_json::json!({
        "server": true, "bootstrap": true, "node_name": "wire-node",
        "node_id": "11111111-1111-4111-8111-111111111111", "datacenter": "dc1",
        "data_dir": dir.path().join("data"), "bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
        "addresses": {"http": format!("unix://{}", socket.display())},
        "ports": {"dns": -1, "server": 39300, "serf_lan": 39301},
        "enable_script_checks": true, "node_meta": {"wire": "yes"},
    });
    let file = dir.path().join("agent.json");
    fs::write(&file, config.to_string()).unwrap();
    let agent = Agent::start(&["-config-file", file.to_str().unwrap()]);
    assert_eq!(agent.address, format!("unix://{}", socket.display()));
    let nodes = agent.ok(&["catalog", "nodes", "-detailed"]);
    for word in ["wire-node", "11111111-1111-4111-8111-111111111111", "127.0.0.1", "wire=yes"] {
        assert!(nodes.contains(word), "{word} in {nodes}");
    }
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(log.contains("ports.serf_lan, bootstrap"), "{log}");
}

#[test]
fn data_and_identity_outlive_a_stop_and_one_directory_has_one_agent() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let agent = Agent::on(&data, &[]);
    agent.ok(&["kv", "put", "a", "kept"]);
    let id = fs::read_to_string(data.join("node-id")).unwrap();

    let second =
        ["agent", "--data-dir", data.to_str().unwrap(), "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0"];
    refused(&run(&second), 1, &[data.to_str().unwrap()]);
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");

    let again = Agent::on(&data, &["--log-format", "text"]);
    assert_eq!(again.ok(&["kv", "get", "a"]), "kept");
    assert_eq!(fs::read_to_string(data.join("node-id")).unwrap(), id);
}

/// Waits until `done`, and no longer than a start may take.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + START_LIMIT;
    while !done() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_configuration_is_read_again_by_signal_and_by_request() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("agent.yaml");
    let write = |rack: &str, more: &str| fs::write(&file, format!("node_meta: {{rack: {rack}}}\n{more}")).unwrap();
    write("r1", "log_level: info");
    let agent = Agent::on(&dir.path().join("data"), &["--config", file.to_str().unwrap()]);
    let rack = || agent.send("GET", "/v1/catalog/nodes").1;
    assert!(rack().contains("r1"));

    write("r2", "log_level: info\ndatacenter: elsewhere");
    agent.signal(Signal::SIGHUP);
    eventually("the new metadata", || rack().contains("r2"));
    write("r3", "log_level: debug");
    assert_eq!(agent.send("PUT", "/v1/agent/reload"), (200, String::new()));
    assert!(rack().contains("r3"));
    write("r4", "no_such_key: 1");
    let (status, why) = agent.send("PUT", "/v1/agent/reload");
    assert!(status == 500 && why.contains("agent.yaml:2  no_such_key: unknown key"), "{status} {why}");
    agent.signal(Signal::SIGHUP);
    assert!(rack().contains("r3"), "a wrong file changes nothing");
    // Signals are handled in order; the debug log shows every request after the reload.
    let (code, log) = agent.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("settings=\"datacenter\""), "{log}");
    assert!(log.contains("path=\"/v1/catalog/nodes\""), "{log}");
}

#[test]
fn the_log_is_followed_from_outside_at_a_level_of_its_own() {
    let agent = Agent::dev();
    let mut follow = agent.request("GET", "/v1/agent/monitor?loglevel=debug");
    let mut as_json = agent.request("GET", "/v1/agent/monitor?logjson");
    let mut found = |start: &str, want: &str| loop {
        let mut line = String::new();
        let reader = if start.is_empty() { &mut as_json } else { &mut follow };
        assert!(reader.read_line(&mut line).unwrap() > 0, "no line has {want:?}");
        if line.contains(want) && line.contains(start) {
            return line;
        }
    };
    agent.ok(&["kv", "put", "secret/name", "x"]);
    let line = found("[DEBUG]", "/v1/kv/secret/name");
    assert!(line.contains("kvstore::http: request: method=PUT path=/v1/kv/secret/name status=200"), "{line}");
    agent.send("PUT", "/v1/agent/maintenance?enable=true&reason=why&token=hidden");
    let line: serde_json::Value = serde_json::from_str(&found("", "maintenance is switched")).unwrap();
    assert_eq!((&line["@level"], &line["reason"]), (&"info".into(), &"why".into()));
    assert!(!found("[DEBUG]", "/v1/agent/maintenance").contains("hidden"));
    assert_eq!(agent.send("GET", "/v1/agent/monitor?loglevel=zzz"), (400, "Unknown log level: zzz".into()));

    assert_eq!(agent.send("PUT", "/v1/agent/leave").0, 200);
    let mut rest = String::new();
    follow.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("told this agent to leave"), "{rest}");
    let mut agent = agent;
    let code = agent.child.wait().unwrap().code();
    assert_eq!(code, Some(0), "it has left in order");
}

#[test]
fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refused(&run(&["agent", "--dev", "--http-addr", &address, "--dns-addr", "127.0.0.1:0"]), 1, &[&address, "in use"]);
}

#[test]
fn the_log_can_be_json() {
    let mut child = kvstore(&["agent", "-dev", "-log-json", "-http-addr=127.0.0.1:0", "-dns-addr=127.0.0.1:0"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let read = BufReader::new(child.stderr.take().unwrap()).read_line(&mut line);
    let _ = child.kill();
    let _ = child.wait();
    read.unwrap();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "INFO", "{line}");
}
