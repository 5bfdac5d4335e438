//! No change is missed by who watches, at a hub or at its replica, whenever it comes.

use kvstore_client::Watch;
use tokio::sync::watch::{Receiver, Sender};

use super::*;

const ROUNDS: u32 = 300;

/// One query waits for longer than [`LIMIT`], so what is missed is not found by the next.
const WAIT: Duration = Duration::from_mins(5);

/// Follows all that is there, and tells the highest number in it.
async fn follow(client: Client, seen: Sender<u32>) {
    let mut watch = Watch::new(WAIT);
    loop {
        let entries = watch.next(async |wait| client.kv_list("w/", wait).await).await.expect("it answers");
        let numbers = entries.iter().filter_map(|entry| str::from_utf8(&entry.value).ok()?.parse().ok());
        seen.send_replace(numbers.max().unwrap_or(0));
    }
}

async fn sees(seen: &mut Receiver<u32>, number: u32) -> Duration {
    let began = Instant::now();
    let told = tokio::time::timeout(LIMIT, seen.wait_for(|seen| *seen >= number)).await;
    assert!(told.is_ok(), "change {number} is not seen");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_sees_each_change_whenever_it_comes() {
    let hub = Agent::start("hub").await;
    let edge = Agent::with(replica_of(&[&hub.base])).await;
    let (mut watchers, mut tasks) = (Vec::new(), tokio::task::JoinSet::new());
    for agent in [&hub, &edge] {
        let (tell, seen) = tokio::sync::watch::channel(0);
        tasks.spawn(follow(client(agent), tell));
        watchers.push((seen, Duration::ZERO));
    }
    let (writers, mut random) = ([client(&hub), client(&edge)], StdRng::seed_from_u64(7));
    let mut number = 0;
    for _ in 0..ROUNDS {
        // While the watchers ask anew, or long after that.
        tokio::time::sleep(Duration::from_micros(random.random_range(0..15_000))).await;
        for _ in 0..random.random_range(1..=3) {
            number += 1;
            let key = format!("w/{}", random.random_range(0..5));
            put(&writers[random.random_range(0..2)], &key, &number.to_string()).await;
        }
        // Nothing comes after it that would wake whoever missed it.
        for (seen, longest) in &mut watchers {
            *longest = sees(seen, number).await.max(*longest);
        }
    }
    println!("{number} changes, the slowest seen after {:?} and {:?}", watchers[0].1, watchers[1].1);
    tasks.shutdown().await;
    edge.stop().await;
    hub.stop().await;
}
