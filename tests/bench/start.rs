//! From the moment that Docker's own event names as a container's start, until a waiting reader of the catalog has it as
//! passing.

use std::time::Duration;

use crate::{
    figures::{Row, Times},
    lives::Lives,
};

/// Enough for the worst of a hundred.
const ROUNDS: usize = 200;
const MEDIAN: Duration = Duration::from_micros(3500);
const P99: Duration = Duration::from_millis(15);

pub(crate) async fn to_passing() -> Vec<Row> {
    let lives = Lives::begin(&["--ip", "127.0.0.1"]).await;
    let mut times = Times::default();
    // The first round warms up.
    for round in 0..=ROUNDS {
        let took = once(&lives, &format!("start{round}")).await;
        if round > 0 {
            times.push(took);
        }
    }
    vec![
        Row::within("container start -> passing in the catalog", &times, MEDIAN, "Registrator with Consul 3.8"),
        Row::p99_within("  p99", &times, P99, "Registrator's worst of 45: 7.8"),
    ]
}

async fn once(lives: &Lives, service: &str) -> Duration {
    let id = lives.create(service, 0, &["--publish", "8080"]).await;
    let reader = lives.reader(service, 1).await;
    lives.dockerd.docker(&["start", &id]).await;
    let seen = reader.await.expect("the reader does not panic");
    let started = lives.time_of("start", &id).await;
    lives.dockerd.docker(&["rm", "--force", &id]).await;
    seen.saturating_sub(started)
}
