//! Durable writes over 32 connections, beside etcd's, in turns; and what the disk allows.

use std::cell::{Cell, RefCell};

use flotilla_tests::registry::Registry;

use crate::{
    figures::{Row, Times},
    floor, metrics,
    peers::{self, Etcd, Nginx},
    wrk::{self, CONNECTIONS, Rates},
};

/// About as long as a value that is written.
const FILE_BYTES: usize = 100;

/// One key's row as stored, about.
const ROW_BYTES: usize = 200;

#[derive(Clone, Copy)]
enum Server {
    Ours,
    Etcd,
    Nginx,
    /// As many rows in a commit as ours had.
    Redb,
    Append,
}

pub(crate) async fn keys() -> Vec<Row> {
    let dir = peers::dir();
    let (registry, etcd, nginx) = (Registry::on_disk_in(dir.path()).await, Etcd::start().await, Nginx::start().await);
    let (script, file) = (peers::file("put.lua"), nginx.serve("file", &"x".repeat(FILE_BYTES)).await);
    let (redb, append) = (floor::Redb::create(), floor::Appends::create());
    let (batch, p99) = (Cell::new(1.0), [RefCell::new(Times::default()), RefCell::new(Times::default())]);
    let noted = |load: wrk::Load, of: Server| {
        p99[of as usize].borrow_mut().push(load.p99);
        load.rate
    };
    let rate = async |server| match server {
        Server::Ours => {
            let before = Batches::read(&registry).await;
            let load = wrk::scripted(&script, &registry.url(), "kvstore").await;
            batch.set(Batches::read(&registry).await.mean_since(&before));
            noted(load, server)
        }
        Server::Etcd => noted(wrk::scripted(&script, &etcd.url, "etcd").await, server),
        Server::Nginx => wrk::get(&file).await,
        Server::Redb => redb.rate(rows(batch.get())),
        Server::Append => append.rate(rows(batch.get()), ROW_BYTES),
    };
    let servers = [Server::Ours, Server::Etcd, Server::Nginx, Server::Redb, Server::Append];
    let rates = Rates::in_turns(&servers, rate).await;
    let of = |server: Server| rates.of(server as usize);
    let to = |server: Server| rates.ratio(Server::Ours as usize, server as usize);
    vec![
        Row::ratio("durable KV PUT, 32 connections", to(Server::Etcd), "etcd", 2.0),
        Row::ratio("  and", to(Server::Nginx), "nginx, a file of 100 bytes", 0.25),
        Row::rate("  kvstore, writes a second", of(Server::Ours))
            .note(format!("{:.1} of {CONNECTIONS} in one commit", batch.get())),
        Row::told("  kvstore, p99 of a write", &p99[0].borrow()),
        Row::rate("  etcd", of(Server::Etcd)),
        Row::told("  etcd, p99 of a write", &p99[1].borrow()),
        Row::rate("  nginx, a file of 100 bytes", of(Server::Nginx)),
        Row::rate("  bare redb, as many in one commit", of(Server::Redb)),
        Row::rate("  append and fdatasync of as many", of(Server::Append)),
    ]
}

/// A mean size of batches as a number of rows.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 and the number of connections
fn rows(batch: f64) -> usize {
    batch.round().max(1.0) as usize
}

/// How many batches the registry has carried out, and how many commands in them.
struct Batches {
    count: f64,
    commands: f64,
}

impl Batches {
    async fn read(registry: &Registry) -> Self {
        let count = metrics::of(registry, "kvstore_store_batch_count").await;
        Self { count, commands: metrics::of(registry, "kvstore_store_batch_sum").await }
    }

    fn mean_since(&self, before: &Self) -> f64 {
        (self.commands - before.commands) / (self.count - before.count).max(1.0)
    }
}
