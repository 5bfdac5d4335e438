//! Durable writes over 32 connections, beside etcd's, in turns; and what the disk allows.

use flotilla_tests::{registry::Registry, web};

use crate::{
    figures::Row,
    floor, peers, reads,
    wrk::{self, CONNECTIONS, TURNS, median},
};

/// One key's row as stored, about.
const ROW_BYTES: usize = 200;

pub(crate) async fn keys() -> Vec<Row> {
    let dir = peers::dir();
    let (registry, etcd) = (Registry::on_disk_in(dir.path()).await, peers::Etcd::start().await);
    let script = peers::file("put.lua");
    let (mut ours, mut theirs, mut nginx) = (Vec::new(), Vec::new(), Vec::new());
    let mut batch = 0.0;
    for _ in 0..TURNS {
        theirs.push(wrk::scripted(&script, &etcd.url, "etcd").await);
        let before = Batches::read(&registry).await;
        ours.push(wrk::scripted(&script, &registry.url(), "kvstore").await);
        batch = Batches::read(&registry).await.mean_since(&before);
        nginx.push(reads::nginx_rate(100).await);
    }
    drop((etcd, registry));
    let (ours, theirs, nginx) = (median(ours), median(theirs), median(nginx));
    let rows = batch.round().max(1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 and the number of connections
    let count = rows as usize;
    let rate = |median: std::time::Duration| rows / median.as_secs_f64();
    let (redb, append) = (floor::commits(count), floor::appends(count * ROW_BYTES));
    vec![
        Row::ratio("durable KV PUT, 32 connections", ours / theirs, "etcd", 2.0),
        Row::ratio("  and", ours / nginx, "nginx, a file of 100 bytes", 0.25),
        Row::rate("  kvstore, writes a second", ours).note(format!("{batch:.1} of {CONNECTIONS} in one commit")),
        Row::rate("  etcd", theirs),
        Row::rate("  nginx, a file of 100 bytes", nginx),
        Row::rate("  bare redb, as many in one commit", rate(redb.median())),
        Row::rate("  append and fdatasync of as many", rate(append.median())),
    ]
}

/// How many batches the registry has carried out, and how many commands in them.
struct Batches {
    count: f64,
    commands: f64,
}

impl Batches {
    async fn read(registry: &Registry) -> Self {
        let url = format!("{}/v1/agent/metrics?format=prometheus", registry.url());
        let text = web::get(&url).await.unwrap_or_else(|e| panic!("{e}"));
        let number = |name: &str| {
            let found = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
            found.unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        Self { count: number("kvstore_store_batch_count "), commands: number("kvstore_store_batch_sum ") }
    }

    fn mean_since(&self, before: &Self) -> f64 {
        (self.commands - before.commands) / (self.count - before.count).max(1.0)
    }
}
