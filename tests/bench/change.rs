//! From sending a change to the catalog until the new file has its name; first without a check command, then with those
//! of HAProxy and nginx, whose own time is told apart.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use flotilla_tests::{
    program::{Launch, Program},
    proxy::{Kind, Site},
    registry::Registry,
};
use kvstore_client::{Client, types::ServiceRegistration};

use crate::figures::{Row, Times};

const ROUNDS: u16 = 30;
const LIMIT: Duration = Duration::from_millis(5);
/// Longer than any wait for quiet, so that each change is a first one after a pause.
const PAUSE: Duration = Duration::from_millis(800);

pub(crate) async fn to_file() -> Vec<Row> {
    let mut rows = Vec::new();
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let (template, file) = (dir.path().join("list.tmpl"), dir.path().join("list"));
    let text = "{% for i in service(name=\"web\") %}{{ i.address }}:{{ i.port }}\n{% endfor %}";
    fs::write(&template, text).expect("our own directory");
    let registry = Registry::in_memory().await;
    let templater = Launch::ours("templater").args(["--registry", &registry.url(), "--template"]).args([&template]);
    let plain = changes(&registry.client, &file, templater.start()).await;
    rows.push(Row::within("catalog change -> file live, no check", &plain, LIMIT, "consul-template, no wait, 7"));
    for (kind, what, alone) in [
        (Kind::Haproxy, "catalog change -> haproxy.cfg live", "  of which haproxy -c by itself"),
        (Kind::Nginx, "catalog change -> nginx.conf live", "  of which nginx -t by itself"),
    ] {
        let registry = Registry::in_memory().await;
        let site = Site::new(kind);
        let templater = site.templater(&registry.url()).start();
        rows.push(Row::told(what, &changes(&registry.client, &site.config(), templater).await));
        rows.push(Row::told(alone, &check(kind, &site.config())));
    }
    rows
}

async fn changes(client: &Client, file: &Path, templater: Program) -> Times {
    let mut times = Times::default();
    for round in 0..=ROUNDS {
        let service = ServiceRegistration {
            id: "web-1".into(),
            name: "web".into(),
            address: "127.0.0.1".into(),
            port: 10_000 + round,
            ..ServiceRegistration::default()
        };
        let (path, wanted) = (file.to_owned(), format!("127.0.0.1:{}", service.port));
        let seen = tokio::task::spawn_blocking(move || live(&path, &wanted));
        tokio::time::sleep(PAUSE).await;
        let sent = Instant::now();
        client.register_service(&service).await.expect("the registry answers");
        let Some(seen) = seen.await.expect("it does not panic") else {
            panic!("{} did not change:\n{}", file.display(), templater.log());
        };
        // The first round is the first file of all.
        if round > 0 {
            times.push(seen - sent);
        }
    }
    times
}

/// When `path` has `wanted` in it.
fn live(path: &PathBuf, wanted: &str) -> Option<Instant> {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(10) {
        if fs::read_to_string(path).is_ok_and(|text| text.contains(wanted)) {
            return Some(Instant::now());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    None
}

/// The checker by itself.
fn check(kind: Kind, config: &Path) -> Times {
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let mut command = match kind {
            Kind::Haproxy => Command::new("/usr/sbin/haproxy"),
            Kind::Nginx => Command::new("/usr/sbin/nginx"),
        };
        match kind {
            Kind::Haproxy => command.args([Path::new("-c"), Path::new("-f"), config]),
            Kind::Nginx => command
                .arg("-t")
                .args([Path::new("-p"), config.parent().expect("it is in a folder")])
                .args([Path::new("-c"), config]),
        };
        let start = Instant::now();
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        times.push(start.elapsed());
        assert!(status.is_ok_and(|s| s.success()), "{kind:?} accepts {}", config.display());
    }
    times
}
