//! Reads of one key over 32 connections, beside nginx serving a file with the same bytes, in turns.

use std::{fs, time::Duration};

use flotilla_tests::{
    eventually,
    ports::free_port,
    program::{Launch, Program},
    registry::Registry,
    web,
};
use kvstore_client::KvPut;
use tempfile::TempDir;

use crate::figures::Row;

const TURNS: usize = 3;
const LEAST_RATIO: f64 = 0.5;

pub(crate) async fn reads() -> Vec<Row> {
    let registry = Registry::in_memory().await;
    registry.client.kv_put("bench/key", "x".repeat(100), KvPut::default()).await.expect("the registry answers");
    let key = format!("{}/v1/kv/bench/key", registry.url());
    let body = web::get(&key).await.unwrap_or_else(|e| panic!("{e}"));
    let (_nginx, _dir, file) = nginx(&body).await;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        theirs.push(wrk(&file).await);
        ours.push(wrk(&key).await);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let ratio = ours / theirs;
    let bound = (format!("at least {LEAST_RATIO} of nginx"), ratio >= LEAST_RATIO);
    vec![
        Row { what: "KV GET, 32 connections", found: format!("{ratio:.2} of nginx"), bound: Some(bound) },
        Row::told("  kvstore, requests a second", &format!("{ours:.0}")),
        Row::told("  nginx, a file of the same size", &format!("{theirs:.0}")),
    ]
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// An nginx as its makers would have it for this: a worker for each core, nothing logged.
async fn nginx(body: &str) -> (Program, TempDir, String) {
    // Readable to nginx's workers, which are not root.
    let dir = tempfile::Builder::new().permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755)).tempdir();
    let dir = dir.expect("a temporary directory can be made");
    let (port, path) = (free_port(), dir.path().display());
    let config = format!(
        "worker_processes auto; pid nginx.pid; error_log stderr; events {{}}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; open_file_cache max=10;\n\
         server {{ listen 127.0.0.1:{port}; root {path}; default_type application/json; }} }}\n"
    );
    fs::write(dir.path().join("key"), body).expect("our own directory");
    let file = dir.path().join("nginx.conf");
    fs::write(&file, config).expect("our own directory");
    let launch = Launch::new("nginx").args(["-e", "stderr", "-g", "daemon off;", "-p"]).args([dir.path()]);
    let program = launch.args(["-c"]).args([&file]).start();
    let url = format!("http://127.0.0.1:{port}/key");
    let served = eventually!("nginx serves the file", Duration::from_secs(10), async { web::get(&url).await });
    assert_eq!(served, body);
    (program, dir, url)
}

/// Requests a second.
async fn wrk(url: &str) -> f64 {
    let ran = Launch::new("wrk").args(["-t2", "-c32", "-d5s", url]).run(Duration::from_mins(1)).await;
    let text = ran.ok().unwrap_or_else(|e| panic!("wrk: {e}"));
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let figure = text.lines().find_map(|l| l.strip_prefix("Requests/sec:")?.trim().parse().ok());
    figure.unwrap_or_else(|| panic!("wrk said nothing of requests: {text}"))
}
