//! How long a reply takes at half of the rate that can be had, while 500 instances a second are registered: each with
//! another port, one service after the other, so that what is at hand is never right for long.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use flotilla_tests::registry::Registry;
use tokio::{task::JoinSet, time::interval};

use super::{Contest, Who, dnsperf};
use crate::{
    catalog,
    figures::Row,
    metrics,
    wire::{self, Wire},
    wrk::Rates,
};

const P99_LIMIT_MS: f64 = 2.0;
const AT_HAND_PERCENT: f64 = 90.0;

const A_SECOND: u32 = 500;
/// Connections that they come by.
const WRITERS: usize = 4;

pub(super) async fn at_half(contest: &Contest, reached: &Rates, registry: &Registry) -> Vec<Row> {
    let (registrations, before) = (Registrations::begin(registry).await, Counted::read(registry).await);
    let lost = Cell::new(0);
    let p99 = Rates::in_turns(&[Who::Ours, Who::Echo], async |who| {
        let (port, rate) = (contest.server(who).port, reached.of(who as usize) / 2.0);
        let (ran, times) = dnsperf::paced(port, &contest.questions, rate).await;
        lost.set(lost.get() + if let Who::Ours = who { ran.lost } else { 0 });
        times.at(99).as_secs_f64() * 1000.0
    })
    .await;
    let (a_second, after) = (registrations.end().await, Counted::read(registry).await);
    let (ours, at_hand) = (p99.of(0), after.percent_at_hand_since(&before));
    vec![
        Row {
            what: "DNS, A, p99 at half of the rate",
            found: format!("{ours:.2} ms ({a_second:.0} registrations a second)"),
            bound: Some((format!("under {P99_LIMIT_MS} ms"), ours < P99_LIMIT_MS)),
        },
        Row::told("  a bare echo's, at half of its own", &format!("{:.2} ms", p99.of(1))),
        Row::none("  kvstore, replies lost meanwhile", lost.get()),
        Row {
            what: "  answered by replies at hand meanwhile",
            found: format!("{at_hand:.1} %"),
            bound: Some((format!("over {AT_HAND_PERCENT} %"), at_hand > AT_HAND_PERCENT)),
        },
    ]
}

/// What the registry has counted of questions.
struct Counted {
    questions: f64,
    at_hand: f64,
}

impl Counted {
    async fn read(registry: &Registry) -> Self {
        let questions = metrics::of(registry, "kvstore_dns_questions_udp_total").await;
        Self { questions, at_hand: metrics::of(registry, "kvstore_dns_again_total").await }
    }

    fn percent_at_hand_since(&self, before: &Self) -> f64 {
        (self.at_hand - before.at_hand) / (self.questions - before.questions).max(1.0) * 100.0
    }
}

/// Registrations that go on.
struct Registrations {
    since: Instant,
    made: Arc<AtomicUsize>,
    writers: JoinSet<()>,
}

impl Registrations {
    async fn begin(registry: &Registry) -> Self {
        let instances: Arc<[_]> = catalog::instances().collect();
        let (made, mut writers) = (Arc::<AtomicUsize>::default(), JoinSet::new());
        for _ in 0..WRITERS {
            let mut wire = Wire::to(wire::address(&registry.url())).await;
            let (made, instances) = (made.clone(), instances.clone());
            let mut tick = interval(Duration::from_secs(1) * u32::try_from(WRITERS).expect("they are few") / A_SECOND);
            writers.spawn(async move {
                loop {
                    tick.tick().await;
                    wire.ask(&change(&instances, made.fetch_add(1, Ordering::Relaxed))).await;
                }
            });
        }
        Self { since: Instant::now(), made, writers }
    }

    /// How many a second there were.
    #[allow(clippy::cast_precision_loss)] // far below what a float holds exactly
    async fn end(mut self) -> f64 {
        let rate = self.made.load(Ordering::Relaxed) as f64 / self.since.elapsed().as_secs_f64();
        self.writers.shutdown().await;
        rate
    }
}

/// Puts another port on an instance; the next one with the next number.
fn change(instances: &[(String, usize, usize)], number: usize) -> Vec<u8> {
    let (service, place, host) = &instances[number % instances.len()];
    let mut registration = catalog::registration(service, *place, *host);
    if let Some(instance) = &mut registration.service {
        instance.port = 1000 + u16::try_from(number % 10_000).expect("it is below");
    }
    wire::put("/v1/catalog/register", &serde_json::to_string(&registration).expect("keys are strings"))
}
