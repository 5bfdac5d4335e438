//! `make bench`: how fast the main job is on this machine, each figure beside what it is compared with.
//!
//! Every measurement runs alone, in this order: a container's start until the catalog has it; a change in the catalog
//! until the new file is live; reads of a key beside nginx serving a file. Exits with 1 if a bound is missed.

mod change;
mod figures;
mod kv;
mod start;

use std::process::ExitCode;

use figures::Row;
use flotilla_tests::{
    docker,
    needs::{Need, Verdict, verdict},
};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let mut needs = Need::DOCKER.to_vec();
    needs.extend(["curl", "haproxy", "nginx", "wrk"].map(Need::Program));
    if let Verdict::Skip(missing) | Verdict::Refuse(missing) = verdict(&needs, false) {
        eprintln!("bench: this machine lacks {missing}; tests/setup.sh installs programs");
        return ExitCode::FAILURE;
    }
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be made");
    let rows = runtime.block_on(measure());
    docker::remove_shared();
    for row in &rows {
        println!("{row}");
    }
    if rows.iter().all(Row::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn measure() -> Vec<Row> {
    eprintln!("bench: container start -> catalog...");
    let mut rows = vec![start::to_catalog().await];
    eprintln!("bench: catalog change -> file...");
    rows.extend(change::to_file().await);
    eprintln!("bench: reads of a key, and nginx...");
    rows.extend(kv::reads().await);
    rows
}
