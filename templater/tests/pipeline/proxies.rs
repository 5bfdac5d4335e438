//! A HAProxy and an nginx of this machine, found, checked and reloaded without a word of configuration.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::place::{Place, SOON, Templater};

/// Of each HAProxy here.
const DEFAULTS: &str = "defaults\n  mode http\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n";

/// The configuration of an nginx with one server, which has this and listens on `port`.
pub(crate) fn nginx_conf(place: &Place, port: u16, server: &str) -> String {
    let dir = place.dir.path().display();
    format!(
        "daemon off;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {{}}\nhttp {{\n  access_log off;\n  \
         server {{\n    listen 127.0.0.1:{port};\n    {server}\n  }}\n}}\n"
    )
}

/// A program of the machine that is ended with this value.
struct Proxy {
    child: Child,
}

impl Proxy {
    fn start(program: &Path, args: &[&str], place: &Place) -> Self {
        let log = File::create(place.at("proxy.log")).unwrap();
        let mut command = Command::new(program);
        command.args(args).current_dir(place.dir.path()).stdout(Stdio::null()).stderr(log);
        Self { child: command.spawn().unwrap() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let found = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"];
    let found = found.iter().map(|dir| Path::new(dir).join(program)).find(|p| p.exists());
    if found.is_none() {
        eprintln!("SKIP: {program} is not installed");
    }
    found
}

pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

/// What `GET /` on `port` answers, as far as it comes.
async fn page(port: u16) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut text = String::new();
    if let Ok(mut stream) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        let _ = stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await;
        let read = tokio::time::timeout(Duration::from_secs(2), stream.read_to_string(&mut text));
        let _ = read.await;
    }
    text
}

/// `proxy` runs on the rendered file; a change of the registry must show in what it answers.
pub(crate) async fn follows(place: &Place, port: u16) {
    for id in ["one", "two"] {
        place.registry.register(&format!("web/{id} 10.0.0.1:80")).await;
        let started = Instant::now();
        while !page(port).await.contains(id) {
            assert!(started.elapsed() < SOON, "{id} is not served\n{}\n{}", place.read("log"), place.read("proxy.log"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn templater_with_a_template_alone_checks_and_reloads_a_running_haproxy() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let port = free_port();
    let text = format!(
        "global\n  maxconn 100\n{DEFAULTS}frontend web\n  bind 127.0.0.1:{port}\n  http-request return status 200 content-type text/plain string \
         \"[{{% for s in service(name='web') %}}{{{{ s.id }}}} {{% endfor %}}]\"\n{{{{ key(path='extra', default='') }}}}\n"
    );
    place.write("haproxy.tmpl", &text);
    // Nobody runs yet: the file is made for the one to come, checked, and that nothing was reloaded is said.
    let templater = place.start(&["--template", "haproxy.tmpl"]);
    place.wait_for_log("no running HAProxy uses this file; nothing to reload").await;
    drop(templater);
    let _proxy = Proxy::start(&haproxy, &["-W", "-f", "haproxy.cfg"], &place);
    let _templater = place.start(&["--template", "haproxy.tmpl"]);
    follows(&place, port).await;
    place.wait_for_log("HAProxy has reloaded it (pid ").await;
    place.registry.put("extra", "bogus line").await;
    place.wait_for_log("HAProxy refused the new").await;
    assert!(!place.read("haproxy.cfg").contains("bogus"));
    place.registry.put("extra", "# fine").await;
    place.registry.register("web/three 10.0.0.1:80").await;
    place.wait("the next good one goes live", || place.read("haproxy.cfg").contains("three")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn templater_with_a_template_alone_checks_and_reloads_a_running_nginx() {
    let Some(nginx) = installed("nginx") else { return };
    let place = Place::new().await;
    let port = free_port();
    let server = "location / { return 200 \"[{% for s in service(name='web') %}{{ s.id }} {% endfor %}]\"; }";
    place.write("nginx.tmpl", &nginx_conf(&place, port, server));
    place.once("nginx.tmpl");
    let _proxy = Proxy::start(&nginx, &["-c", &place.at("nginx.conf").display().to_string()], &place);
    let _templater = place.start(&["--template", "nginx.tmpl"]);
    follows(&place, port).await;
    place.wait_for_log("nginx has reloaded it (pid ").await;
}

/// A file that the checker takes, and that cannot be loaded: somebody else has the port that it asks for.
async fn is_rolled_back(place: &Place, port: u16, config: &str) {
    place.wait("the proxy listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    let before = place.read(config);
    let _templater = place.start(&["--template", &format!("{}.tmpl", config.split('.').next().unwrap())]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    place.registry.put("extra", &taken.local_addr().unwrap().port().to_string()).await;
    place.wait_for_log("the version before is back in use").await;
    assert_eq!(place.read(config), before);
    assert!(page(port).await.contains("200"), "{}", place.read("proxy.log"));
    drop(taken);
    // It is tried again, until it can be loaded.
    place.wait_for_log("all is well again").await;
    assert!(page(port).await.contains("200"), "{}", place.read("proxy.log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_nginx_cannot_load_is_rolled_back_and_tried_again() {
    let Some(nginx) = installed("nginx") else { return };
    let place = Place::new().await;
    let port = free_port();
    let server = "listen 127.0.0.1:{{ key(path='extra') }};\n    return 200;";
    place.write("nginx.tmpl", &nginx_conf(&place, port, server));
    place.registry.put("extra", &free_port().to_string()).await;
    place.once("nginx.tmpl");
    let _proxy = Proxy::start(&nginx, &["-c", &place.at("nginx.conf").display().to_string()], &place);
    is_rolled_back(&place, port, "nginx.conf").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_running_haproxy_cannot_load_is_rolled_back_and_tried_again() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let port = free_port();
    let text = format!(
        "{DEFAULTS}frontend web\n  bind 127.0.0.1:{port}\n  bind 127.0.0.1:{{{{ key(path='extra') }}}}\n  \
         http-request return status 200\n"
    );
    place.write("haproxy.tmpl", &text);
    place.registry.put("extra", &free_port().to_string()).await;
    place.once("haproxy.tmpl");
    let _proxy = Proxy::start(&haproxy, &["-W", "-f", "haproxy.cfg"], &place);
    is_rolled_back(&place, port, "haproxy.cfg").await;
}

/// A HAProxy on `port` that takes commands about these servers, and the templater that keeps its file.
async fn takes_commands(haproxy: &Path, place: &Place, port: u16, servers: &str) -> (Templater, Proxy) {
    let socket = place.at("h.sock");
    let text = format!(
        "global\n  stats socket {} mode 600 level admin\n{DEFAULTS}frontend web\n  bind 127.0.0.1:{port}\n  \
         default_backend web\nbackend web\n{servers}",
        socket.display()
    );
    place.write("haproxy.tmpl", &text);
    place.once("haproxy.tmpl");
    let proxy = Proxy::start(haproxy, &["-W", "-f", "haproxy.cfg"], place);
    place.wait("HAProxy takes commands", || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    (place.start(&["--template", "haproxy.tmpl"]), proxy)
}

/// A server that answers every request with `word`; ends with the test.
async fn answering(word: &'static str) -> u16 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", word.len());
                let _ = stream.write_all(format!("{head}{word}").as_bytes()).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_is_told_of_its_servers_without_a_reload() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let (port, one, two) = (free_port(), answering("one").await, answering("two").await);
    place.registry.put("s1", &format!("127.0.0.1:{one}")).await;
    place.registry.put("s2", "127.0.0.1:1 weight 10 disabled").await;
    let servers = "  server s1 {{ key(path='s1') }} weight 10\n  server s2 {{ key(path='s2') }}\n";
    let _kept = takes_commands(&haproxy, &place, port, servers).await;
    let serves = async |word: &str| {
        let started = Instant::now();
        while !page(port).await.ends_with(word) {
            assert!(
                started.elapsed() < SOON,
                "{word} is not served\n{}\n{}",
                place.read("log"),
                place.read("proxy.log")
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // What it runs is known once it has loaded it from us.
    place.registry.put("s1", &format!("127.0.0.1:{one} check")).await;
    place.wait_for_log("HAProxy has reloaded it").await;
    serves("one").await;

    place.registry.put("s1", &format!("127.0.0.1:{two} check")).await;
    place.wait_for_log("HAProxy was told of 1 servers, without a reload").await;
    serves("two").await;
    // A slot is filled, and the other one emptied: both are true of whoever asks from now on.
    place.registry.put("s2", &format!("127.0.0.1:{one} weight 10")).await;
    place.wait("the slot is filled", || place.log_count("without a reload") == 2).await;
    place.registry.put("s1", &format!("127.0.0.1:{two} check disabled")).await;
    place.wait("the other is emptied", || place.log_count("without a reload") == 3).await;
    for _ in 0..5 {
        assert!(page(port).await.ends_with("one"), "{}", place.read("log"));
    }
    assert_eq!(place.log_count("HAProxy has reloaded it"), 1, "{}", place.read("log"));
    // Another structure takes a reload, and leaves nothing behind of what was told before.
    place.registry.put("s1", &format!("127.0.0.1:{two} check inter 9s")).await;
    place.wait("it is reloaded", || place.log_count("HAProxy has reloaded it") == 2).await;
    serves("two").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_with_slots_is_scaled_without_a_reload() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let port = free_port();
    let servers = "{% for s in service(name='web') | slots(n=4) %}  server s{{ s.slot }} {{ s | hostport }}\
                   {% if not s.used %} disabled{% endif %}\n{% endfor %}";
    let _kept = takes_commands(&haproxy, &place, port, servers).await;
    let register = async |word: &'static str| {
        place.registry.register(&format!("web/{word} 127.0.0.1:{}", answering(word).await)).await;
    };
    // What it runs is known once it has loaded it from us.
    register("one").await;
    place.wait_for_log("HAProxy has reloaded it").await;
    for (told, word) in ["two", "three"].into_iter().enumerate() {
        register(word).await;
        place.wait("a slot is filled", || place.log_count("without a reload") == told + 1).await;
    }
    let mut met = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let page = page(port).await;
        met.extend(["one", "two", "three"].into_iter().filter(|word| page.ends_with(word)));
    }
    assert_eq!(met.len(), 3, "{met:?}\n{}", place.read("log"));
    place.registry.deregister("web/two").await;
    place.wait("its slot is empty", || place.log_count("without a reload") == 3).await;
    for _ in 0..4 {
        assert!(!page(port).await.ends_with("two"), "{}", place.read("log"));
    }
    assert_eq!(place.log_count("HAProxy has reloaded it"), 1, "{}", place.read("log"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_haproxy_that_a_signal_would_end_is_not_signalled() {
    let Some(haproxy) = installed("haproxy") else { return };
    let place = Place::new().await;
    let text = |n: u32| format!("# {n}\n{DEFAULTS}frontend web\n  bind unix@{}\n", place.at("sock").display());
    place.write("haproxy.cfg", &text(1));
    place.write("haproxy.tmpl", &text(2));
    let mut proxy = Proxy::start(&haproxy, &["-f", "haproxy.cfg"], &place);
    place.wait("HAProxy listens", || place.at("sock").exists()).await;
    let _templater = place.start(&["--template", "haproxy.tmpl"]);
    place.wait_for_log("start it with -W or -Ws").await;
    assert!(proxy.child.try_wait().unwrap().is_none(), "it lives");
}
