//! A hundred containers are started and removed as fast as Docker can, again and again: what the catalog missed, and what it
//! was left with.

use std::time::{Duration, Instant};

use flotilla_tests::wait::poll;
use futures_util::future::join_all;

use crate::{
    figures::{Row, Times},
    lives::Lives,
};

const ROUNDS: usize = 10;
const CONTAINERS: usize = 100;
/// Docker's clients side by side, so that Docker is never without work.
const LANES: usize = 4;
const SERVICE: &str = "churn";
/// What the catalog does not say by then it never will.
const LIMIT: Duration = Duration::from_secs(10);

pub(crate) async fn missed_and_left() -> Vec<Row> {
    // No port is published: that is the fastest for Docker.
    let lives = Lives::begin(&["--internal"]).await;
    let (mut missed, mut left) = (0, 0);
    let (mut complete, mut empty) = (Times::default(), Times::default());
    for _ in 0..ROUNDS {
        let lanes: Vec<Vec<String>> = join_all((0..LANES).map(|_| create(&lives))).await;
        docker(&lives, &["start"], &lanes).await;
        let (difference, took) = until(&lives, CONTAINERS).await;
        missed += difference;
        complete.push(took);
        docker(&lives, &["rm", "--force"], &lanes).await;
        let (difference, took) = until(&lives, 0).await;
        left += difference;
        empty.push(took);
    }
    let others = format!("{ROUNDS} rounds of {CONTAINERS}; Registrator, of 100 in tens");
    vec![
        Row::none("containers started at once, missed", missed).note(format!("{others}: 6")),
        Row::none("  removed at once, left over", left).note(format!("{others}: 27")),
        Row::told("  the last start -> all in the catalog", &complete),
        Row::told("  the last removal -> none in the catalog", &empty),
    ]
}

async fn create(lives: &Lives) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..CONTAINERS / LANES {
        ids.push(lives.create(SERVICE, 0, &[]).await);
    }
    ids
}

/// Runs one of Docker's commands on the containers, those of each lane in one client.
async fn docker(lives: &Lives, command: &[&str], lanes: &[Vec<String>]) {
    join_all(lanes.iter().map(async |ids| {
        let ids = ids.iter().map(String::as_str);
        lives.dockerd.docker(&command.iter().copied().chain(ids).collect::<Vec<_>>()).await
    }))
    .await;
}

/// Waits until the catalog has so many that pass; by how many it differs in the end, and how long that took.
async fn until(lives: &Lives, count: usize) -> (usize, Duration) {
    let (start, mut difference) = (Instant::now(), 0);
    let same = poll("the catalog says the same as Docker", LIMIT, async || {
        let read = lives.registry.client.health_service(SERVICE, true, None).await.map_err(|e| e.to_string())?;
        difference = read.value.len().abs_diff(count);
        if difference == 0 { Ok(()) } else { Err(format!("it differs by {difference}")) }
    });
    match same.await {
        Ok(()) => (0, start.elapsed()),
        Err(_) => (difference, start.elapsed()),
    }
}
