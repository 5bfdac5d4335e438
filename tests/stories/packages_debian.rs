//! The Debian packages in a Debian with systemd: installed they run confined, an upgrade keeps data and configuration, a
//! removal keeps data, a purge nothing.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use flotilla_tests::{
    debian::Debian, eventually, fake_docker::FakeDocker, needs::Need, program::Launch, programs, workspace,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

pub(crate) fn needs() -> Vec<Need> {
    let mut needs = Debian::NEEDS.to_vec();
    needs.extend(["dpkg-deb", "rustc", "strip"].map(Need::Program));
    needs
}

/// For one step on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
const CONFIGURATION: &str = "/etc/kvstore/kvstore.yaml";

pub(crate) async fn story() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let debian = Debian::start().await;
    let packages = ["kvstore", "registrar", "templater", "overlay"];
    debian.install(&make(dir.path().join("1"), "1.0", &packages).await).await;
    debian.out(&["overlay", "version"]).await;
    for (unit, enabled) in [("kvstore", "enabled"), ("registrar", "enabled"), ("templater", "disabled")] {
        assert_eq!(debian.run(&["systemctl", "is-enabled", unit]).await.out.trim_end(), enabled, "{unit}");
        is_confined(&debian, unit).await;
    }
    looks_names_up(&debian, dir.path()).await;
    keeps(&debian).await;
    registers(&debian).await;
    renders(&debian).await;

    // Under systemd's eyes it is another process with the same data; what was edited is as edited.
    let before = main_pid(&debian, "kvstore").await;
    let edited = fs::read_to_string(debian.path(CONFIGURATION)).expect("it was installed") + "node_name: edited\n";
    fs::write(debian.path(CONFIGURATION), &edited).expect("our own Debian");
    let stopped = main_pid(&debian, "templater").await;
    debian.install(&make(dir.path().join("2"), "1.1", &packages[..3]).await).await;
    assert_eq!(debian.out(&["dpkg-query", "--show", "--showformat=${Version}", "kvstore"]).await, "1.1");
    assert_eq!(fs::read_to_string(debian.path(CONFIGURATION)).ok(), Some(edited));
    assert_ne!(main_pid(&debian, "kvstore").await, before);
    assert_ne!(main_pid(&debian, "templater").await, stopped);
    eventually!("the new one has the key, and the edited name", LIMIT, async {
        let value = debian.run(&["kvstore", "kv", "get", "colour"]).await.ok()?;
        let members = debian.run(&["kvstore", "members"]).await.ok()?;
        if value.trim_end() == "blue" && members.contains("edited") {
            Ok(())
        } else {
            Err(format!("{value} {members}"))
        }
    });

    // What the administrator has switched off stays off.
    debian.out(&["systemctl", "disable", "--now", "registrar"]).await;
    debian.install(&make(dir.path().join("3"), "1.2", &["registrar"]).await).await;
    assert_eq!(debian.run(&["systemctl", "is-active", "registrar"]).await.out, "inactive\n");

    let pids = [main_pid(&debian, "kvstore").await, main_pid(&debian, "templater").await];
    debian.out(&["dpkg", "--remove", "kvstore", "registrar", "templater"]).await;
    assert!(pids.iter().all(|pid| !debian.path(&format!("proc/{pid}")).exists()), "both were stopped");
    for (path, is_there) in [("usr/bin/kvstore", false), (CONFIGURATION, true), ("var/lib/kvstore/registry.redb", true)]
    {
        assert_eq!(debian.path(path).exists(), is_there, "{path} after the removal");
    }
    debian.out(&["dpkg", "--purge", "kvstore", "registrar", "templater"]).await;
    for name in &packages[..3] {
        for path in [format!("var/lib/{name}"), format!("etc/{name}/{name}.yaml")] {
            assert!(!debian.path(&path).exists(), "{path} after the purge");
        }
    }
    assert!(debian.path("etc/kvstore/dns.yaml").exists(), "what the administrator wrote is theirs");
    assert_eq!(debian.run(&["systemctl", "--failed", "--quiet"]).await.out, "");
}

pub(crate) fn overlay_needs() -> Vec<Need> {
    [&needs()[..], &[Need::Tun]].concat()
}

/// The overlay's units, in a network of their own: what they forbid is nothing that it needs.
pub(crate) async fn overlay() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let debian = Debian::start().await;
    debian.install(&make(dir.path().join("1"), "1.0", &["kvstore", "overlay"]).await).await;
    is_confined(&debian, "overlay").await;
    assert_eq!(debian.run(&["systemctl", "is-active", "overlay"]).await.out, "inactive\n", "there is no secret yet");
    let make_secret = "overlay secret new | install -m 600 /dev/stdin /etc/overlay/secret";
    debian.out(&["sh", "-c", make_secret]).await;
    // It notifies, so that it is active when this returns.
    debian.out(&["systemctl", "start", "overlay"]).await;
    eventually!("it has met the registry", LIMIT, async {
        debian.run(&["overlay", "network", "create", "app"]).await.ok()
    });
    let before = runs_whole(&debian).await;
    // CAP_NET_ADMIN and CAP_NET_RAW; CAP_SYS_PTRACE and CAP_SYS_ADMIN.
    for (key, value) in [("NoNewPrivs", "1"), ("CapBnd", "0000000000283000")] {
        assert_eq!(status(&debian, "overlay", key).await, value, "{key}");
    }

    // As its comment says; then it is Docker's call that starts the daemon.
    let configuration = debian.path("etc/overlay/overlay.yaml");
    let edited = fs::read_to_string(&configuration).expect("it was installed") + "docker: unix:///run/docker.sock\n";
    fs::write(&configuration, &edited).expect("our own Debian");
    debian.out(&["systemctl", "stop", "overlay"]).await;
    assert!(!debian.path("run/overlay.sock").exists(), "it was stopped");
    debian.out(&["systemctl", "enable", "--now", "overlay.socket"]).await;
    for _ in 0..2 {
        docker_calls(&debian).await;
        assert_eq!(runs_whole(&debian).await, before, "the same host with the same block");
        debian.out(&["systemctl", "stop", "overlay"]).await;
    }

    debian.out(&["systemctl", "start", "overlay"]).await;
    let pid = main_pid(&debian, "overlay").await;
    debian.install(&make(dir.path().join("2"), "1.1", &["overlay"]).await).await;
    assert_ne!(main_pid(&debian, "overlay").await, pid);
    assert_eq!(runs_whole(&debian).await, before);
    assert_eq!(fs::read_to_string(&configuration).ok(), Some(edited));

    let pid = main_pid(&debian, "overlay").await;
    debian.out(&["dpkg", "--remove", "overlay"]).await;
    for unit in ["overlay.service", "overlay.socket"] {
        assert_ne!(debian.run(&["systemctl", "is-active", unit]).await.out, "active\n", "{unit}");
    }
    assert!(!debian.path(&format!("proc/{pid}")).exists() && debian.path("var/lib/overlay/key").exists());
    debian.out(&["dpkg", "--purge", "overlay"]).await;
    for (path, is_there) in
        [("var/lib/overlay", false), ("etc/overlay/overlay.yaml", false), ("etc/overlay/secret", true)]
    {
        assert_eq!(debian.path(path).exists(), is_there, "{path} after the purge");
    }
    assert_eq!(debian.run(&["systemctl", "--failed", "--quiet"]).await.out, "");
}

/// Nothing is amiss; who the host is, and what it holds.
async fn runs_whole(debian: &Debian) -> [String; 2] {
    debian.out(&["overlay", "wait"]).await;
    let told = debian.out(&["overlay", "status", "--json"]).await;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!((&told["state"], &told["troubles"]), (&json!("up"), &json!([])), "{told:#}");
    assert!(told["plane"].is_string(), "there is a tunnel: {told:#}");
    let rules = debian.out(&["nft", "list", "table", "inet", "overlay"]).await;
    assert!(rules.contains("another network"), "{rules}");
    [&told["node"], &told["networks"][0]["blocks"]].map(ToString::to_string)
}

/// What a daemon of Docker asks first, at the driver's socket; it takes as long as the overlay's start.
async fn docker_calls(debian: &Debian) {
    let socket = debian.path("run/docker/plugins/flotilla.sock");
    let call = async {
        let mut stream = UnixStream::connect(&socket).await?;
        stream
            .write_all(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(LIMIT, call).await.expect("it is answered").expect("the socket is there");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("NetworkDriver"), "{answer}");
}

/// The packages of these programs.
async fn make(dir: PathBuf, version: &str, names: &[&str]) -> Vec<PathBuf> {
    let make = Launch::new(workspace().join("examples/packages/make.sh")).env("VERSION", version);
    make.args([&programs(), &dir]).args(names).run(LIMIT).await.ok().unwrap_or_else(|e| panic!("packages: {e}"));
    let made = fs::read_dir(dir)
        .expect("it was made")
        .map(|entry| entry.expect("it can be listed").path())
        .collect::<Vec<_>>();
    assert_eq!(made.len(), names.len(), "{made:?}");
    made
}

async fn main_pid(debian: &Debian, unit: &str) -> String {
    let pid = debian.out(&["systemctl", "show", "--property=MainPID", "--value", unit]).await;
    assert_ne!(pid, "0", "{unit} runs: {}", debian.out(&["journalctl", "--no-pager", "--unit", unit]).await);
    pid
}

/// systemd understands the whole unit, and rates how much it could do.
async fn is_confined(debian: &Debian, unit: &str) {
    let service = format!("{unit}.service");
    let verified = debian.run(&["systemd-analyze", "verify", "--man=no", &service]).await;
    assert!(verified.status.success() && verified.err.is_empty(), "{verified:?}");
    // 0 is nothing at all, 100 everything.
    let threshold = match unit {
        "templater" => "--threshold=40",
        // It is root, and changes the network.
        "overlay" => "--threshold=35",
        _ => "--threshold=20",
    };
    debian.out(&["systemd-analyze", "security", "--no-pager", threshold, &service]).await;
}

/// Says what a running unit may do: `NoNewPrivs` and so on, as the kernel has it.
async fn status(debian: &Debian, unit: &str, key: &str) -> String {
    let status = format!("proc/{}/status", main_pid(debian, unit).await);
    let status = fs::read_to_string(debian.path(&status)).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {status}")).trim().to_owned()
}

/// What a static program does before all else: it knows hosts by files and DNS, and loads no module, whatever is configured.
async fn looks_names_up(debian: &Debian, dir: &Path) {
    let own = |name: &str| dir.join(name).display().to_string();
    let object = format!("-Clink-arg={}", own("static.o"));
    let source = workspace().join("examples/static.c");
    let cc = Launch::new("cc").args(["-c", "-o", &own("static.o")]).args([&source]);
    cc.run(LIMIT).await.ok().unwrap_or_else(|e| panic!("cc: {e}"));
    let main =
        "fn main() { std::net::ToSocketAddrs::to_socket_addrs(&(\"localhost\", 80)).expect(\"it is in /etc/hosts\"); }";
    fs::write(dir.join("looks.rs"), main).expect("our own directory");
    for (name, with) in [("plain", &[][..]), ("ours", &[object.as_str()])] {
        let rustc = Launch::new("rustc").args(["--edition=2024", "-Ctarget-feature=+crt-static"]).args(with);
        let rustc = rustc.args(["-o", &debian.path("root").join(name).display().to_string(), &own("looks.rs")]);
        rustc.run(LIMIT).await.ok().unwrap_or_else(|e| panic!("rustc: {e}"));
    }
    fs::write(debian.path("etc/hosts"), "127.0.0.1 localhost\n").expect("our own Debian");
    fs::write(debian.path("etc/nsswitch.conf"), "hosts: nowhere\n").expect("our own Debian");
    assert!(debian.run(&["/root/plain"]).await.ok().is_err(), "this glibc does not go by its configuration");
    debian.out(&["/root/ours"]).await;
    fs::remove_file(debian.path("etc/nsswitch.conf")).expect("our own Debian");
}

/// The registry runs, not as root, and keeps its data to itself; port 53 is open to it.
async fn keeps(debian: &Debian) {
    eventually!("a key can be put", LIMIT, async {
        debian.run(&["kvstore", "kv", "put", "colour", "blue"]).await.ok()
    });
    for (key, value) in [("NoNewPrivs", "1"), ("Seccomp", "2"), ("CapEff", "0000000000000400")] {
        assert_eq!(status(debian, "kvstore", key).await, value, "{key}");
    }
    let data = debian.path("var/lib/kvstore").metadata().expect("it was made");
    let user = debian.out(&["id", "--user", "kvstore"]).await;
    assert_eq!((data.uid().to_string(), data.mode() & 0o7777), (user, 0o750));

    fs::write(debian.path("etc/kvstore/dns.yaml"), "dns_addr: ['127.0.0.1:53']\n").expect("our own Debian");
    debian.out(&["systemctl", "restart", "kvstore"]).await;
    logs(debian, "kvstore", "dns is listening address=127.0.0.1:53").await;
    debian.out(&["systemctl", "reload", "kvstore"]).await;
    logs(debian, "kvstore", "the configuration was read again").await;
}

/// The registrar may use the socket of Docker's group, and puts what runs into the registry.
async fn registers(debian: &Debian) {
    let docker = FakeDocker::start(&debian.path("run"));
    debian.out(&["chown", "root:docker", "/run/docker.sock"]).await;
    debian.out(&["chmod", "660", "/run/docker.sock"]).await;
    docker.run("web", 8080, &json!({}));
    eventually!("the container is in the registry", LIMIT, async {
        let services = debian.run(&["kvstore", "catalog", "services"]).await.ok()?;
        if services.contains("hello") { Ok(()) } else { Err(services) }
    });
    assert_eq!(status(debian, "registrar", "CapBnd").await, "0000000000000000");
    debian.out(&["registrar", "health", "--config", "/etc/registrar/registrar.yaml"]).await;
}

/// Once the templater is told what to render it is ready when that is there, as its owner has it, and has been loaded.
async fn renders(debian: &Debian) {
    let job = "templates: [{source: colour.tmpl, destination: /etc/colour, user: registrar, mode: '0640', \
               reload_cmd: touch /run/loaded}]\n";
    fs::write(debian.path("etc/templater/colour.yaml"), job).expect("our own Debian");
    fs::write(debian.path("etc/templater/colour.tmpl"), r#"{{ key(path="colour") }}"#).expect("our own Debian");
    debian.out(&["systemctl", "enable", "--now", "templater"]).await;
    assert_eq!(fs::read_to_string(debian.path("etc/colour")).ok().as_deref(), Some("blue"));
    let file = debian.path("etc/colour").metadata().expect("it is there");
    let user = debian.out(&["id", "--user", "registrar"]).await;
    assert_eq!((file.uid().to_string(), file.mode() & 0o7777), (user, 0o640));
    assert!(debian.path("run/loaded").exists(), "the command has run");
    debian.out(&["systemctl", "reload", "templater"]).await;
}

async fn logs(debian: &Debian, unit: &str, what: &str) {
    eventually!(format!("{unit} logs {what:?}"), LIMIT, async {
        let log = debian.out(&["journalctl", "--no-pager", "--output=cat", "--unit", unit]).await;
        if log.contains(what) { Ok(()) } else { Err(log) }
    });
}
