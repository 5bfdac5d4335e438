//! From sending a registration until a waiting blocking query has its answer: with nothing kept, and with each change made
//! durable first. Both take turns, with bare commits and appends in between.

use std::time::{Duration, Instant};

use flotilla_tests::registry::Registry;

use crate::{
    catalog,
    figures::{Row, Times},
    floor::{Appends, Redb},
    peers,
    wire::{self, Wire},
};

const ROUNDS: u16 = 300;
const LIMIT_MS: f64 = 1.0;

/// What is done beside the append itself must not take longer than half of one.
const APPENDS: f64 = 1.5;

/// As long as it takes for a request that was sent to wait for sure.
const SETTLE: Duration = Duration::from_millis(3);

const PATH: &str = "/v1/health/service/web?passing";

pub(crate) async fn to_answer() -> Vec<Row> {
    let dir = peers::dir();
    let registries = (Registry::in_memory().await, Registry::on_disk_in(dir.path()).await);
    let (mut in_memory, mut durable) = (Watched::on(&registries.0).await, Watched::on(&registries.1).await);
    let (redb, appends) = (Redb::create(), Appends::create());
    let mut times: [Times; 4] = Default::default();
    for round in 0..ROUNDS {
        times[0].push(in_memory.change(round).await);
        times[1].push(durable.change(round).await);
        times[2].push(timed(|| redb.commit(1)));
        times[3].push(timed(|| appends.append(4096)));
    }
    rows(&times)
}

fn rows([in_memory, durable, commit, append]: &[Times; 4]) -> Vec<Row> {
    let ms = |times: &Times| times.median().as_secs_f64() * 1000.0;
    let within = |what, found: &Times, limit: f64| Row {
        what,
        found: found.to_string(),
        bound: Some((format!("median at most {limit:.2} ms"), ms(found) <= limit)),
    };
    vec![
        within("registration -> answer, memory", in_memory, LIMIT_MS),
        within("registration -> answer, embedded", durable, ms(in_memory) + APPENDS * ms(append)),
        Row::told("  more than with nothing kept", &format!("{:.2} ms", ms(durable) - ms(in_memory))),
        Row::told("  one row in a bare redb, made durable", commit),
        Row::told("  append and fdatasync", append),
    ]
}

fn timed(once: impl FnOnce()) -> Duration {
    let start = Instant::now();
    once();
    start.elapsed()
}

/// A registry with one who waits and one who writes.
pub(crate) struct Watched {
    reader: Wire,
    writer: Wire,
    index: u64,
}

impl Watched {
    pub(crate) async fn on(registry: &Registry) -> Self {
        let address = wire::address(&registry.url());
        let (mut reader, writer) = (Wire::to(address).await, Wire::to(address).await);
        let index = reader.ask(&wire::get(PATH)).await.index;
        Self { reader, writer, index }
    }

    /// The time from sending a change until who waits has the answer.
    pub(crate) async fn change(&mut self, by: u16) -> Duration {
        self.reader.send(&wire::get(&format!("{PATH}&index={}", self.index))).await;
        tokio::time::sleep(SETTLE).await;
        let mut registration = catalog::registration("web", 1, 0);
        if let Some(instance) = &mut registration.service {
            instance.port = 1000 + by;
        }
        let body = serde_json::to_string(&registration).expect("keys are strings");
        let change = wire::put("/v1/catalog/register", &body);
        let sent = Instant::now();
        let answered = async {
            let answer = self.reader.answer().await;
            (answer.index, sent.elapsed())
        };
        let ((newer, took), _) = tokio::join!(answered, self.writer.ask(&change));
        self.index = newer;
        took
    }
}
