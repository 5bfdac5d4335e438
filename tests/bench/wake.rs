//! From sending a registration until a waiting blocking query has its answer: with nothing kept, and with each change made
//! durable first.

use std::{path::Path, time::Instant};

use flotilla_tests::registry::Registry;

use crate::{
    catalog,
    figures::{Row, Times},
    floor, peers,
    wire::{self, Wire},
};

const ROUNDS: u16 = 300;
const LIMIT_MS: f64 = 1.0;

/// What is written beside the fsync itself must not take longer than half of one.
const FSYNCS: f64 = 1.5;

/// As long as it takes for a request that was sent to wait for sure.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(3);

pub(crate) async fn to_answer() -> Vec<Row> {
    let in_memory = rounds(&Registry::in_memory().await, None).await.0;
    let dir = peers::dir();
    let (durable, fsync) = rounds(&Registry::on_disk_in(dir.path()).await, Some(dir.path())).await;
    let commit = floor::commits(1);
    let ms = |times: &Times| times.median().as_secs_f64() * 1000.0;
    let more = ms(&durable) - ms(&in_memory);
    let within = |what, found: &Times, limit: f64, reached| Row {
        what,
        found: found.to_string(),
        bound: Some((format!("median at most {limit:.2} ms"), reached)),
    };
    let limit = ms(&in_memory) + FSYNCS * ms(&commit);
    vec![
        within("registration -> answer, memory", &in_memory, LIMIT_MS, ms(&in_memory) <= LIMIT_MS),
        within("registration -> answer, embedded", &durable, limit, ms(&durable) <= limit),
        Row::told("  more than with nothing kept", &format!("{more:.2} ms")),
        Row::told("  one row in a bare redb, made durable", &commit),
        Row::told("  append and fdatasync", &fsync),
    ]
}

/// Times to the answer, and, between them, of appending to a file in `dir` with one fsync.
async fn rounds(registry: &Registry, dir: Option<&Path>) -> (Times, Times) {
    let address = wire::address(&registry.url());
    let (mut reader, mut writer) = (Wire::to(address).await, Wire::to(address).await);
    let path = "/v1/health/service/web?passing";
    let (mut times, mut fsyncs) = (Times::default(), Times::default());
    let mut index = reader.ask(&wire::get(path)).await.index;
    for round in 0..ROUNDS {
        reader.send(&wire::get(&format!("{path}&index={index}"))).await;
        tokio::time::sleep(SETTLE).await;
        let mut registration = catalog::registration("web", 1, 0);
        if let Some(instance) = &mut registration.service {
            instance.port = 1000 + round;
        }
        let body = serde_json::to_string(&registration).expect("keys are strings");
        let change = wire::put("/v1/catalog/register", &body);
        let sent = Instant::now();
        let answered = async {
            let answer = reader.answer().await;
            (answer.index, sent.elapsed())
        };
        let ((newer, took), _) = tokio::join!(answered, writer.ask(&change));
        times.push(took);
        index = newer;
        if let Some(dir) = dir {
            fsyncs.push(floor::append(dir, 4096));
        }
    }
    (times, fsyncs)
}
