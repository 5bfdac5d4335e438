//! From the moment that Docker's own event names as that of the stop signal, until a waiting reader of the catalog has the
//! container no more as passing: long before its end, since it drains for two seconds.

use std::time::Duration;

use crate::{
    figures::{Row, Times},
    lives::Lives,
};

const ROUNDS: usize = 50;
const LIMIT: Duration = Duration::from_millis(5);
const DRAIN_MS: u16 = 2000;

pub(crate) async fn to_not_passing() -> Vec<Row> {
    let lives = Lives::begin(&["--ip", "127.0.0.1"]).await;
    let mut times = Times::default();
    for round in 0..=ROUNDS {
        let took = once(&lives, &format!("stop{round}")).await;
        if round > 0 {
            times.push(took);
        }
    }
    let others = "Registrator with Consul 2043, at the end of the process";
    vec![Row::within("stop signal -> not passing, drains for 2 s", &times, LIMIT, others)]
}

async fn once(lives: &Lives, service: &str) -> Duration {
    let docker = lives.dockerd;
    let id = lives.create(service, DRAIN_MS, &["--publish", "8080"]).await;
    let up = lives.reader(service, 1).await;
    docker.docker(&["start", &id]).await;
    up.await.expect("the reader does not panic");
    let gone = lives.reader(service, 0).await;
    // What `docker stop` begins with.
    docker.docker(&["kill", "--signal", "TERM", &id]).await;
    let seen = gone.await.expect("the reader does not panic");
    let running = docker.docker(&["inspect", "--format", "{{.State.Running}}", &id]).await;
    assert_eq!(running, "true", "it still drains when it is known to be on its way out");
    let told = lives.time_of("kill", &id).await;
    docker.docker(&["rm", "--force", &id]).await;
    seen.saturating_sub(told)
}
