//! Replicas of kvstores that share an etcd: their hub is started anew, or another takes its place, while they are asked.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use kvstore_client::{KvPut, Wait};
use tokio::task::JoinHandle;

use super::{IDS, of, server::Server};
use crate::{
    common::Agent,
    replica::{apart, at, client, eventually, everything, has_contact, put, replica_of, value, web_of},
};

/// Asks an agent over and over; what it is told never changes and never fails, and its index never goes back.
struct Asking {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Asking {
    fn begin(agent: &Arc<Agent>) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn({
            let (agent, stop, answers) = (agent.clone(), stop.clone(), answers.clone());
            async move {
                let (client, mut index) = (client(&agent), 0);
                while !stop.load(Ordering::Relaxed) {
                    let read = client.kv_get("steady", None).await.unwrap();
                    assert_eq!(read.value.expect("it was there before").value, "same");
                    assert!(read.index >= index, "{} after {index}", read.index);
                    index = read.index;
                    assert_eq!(web_of(&agent).await, "10.0.0.1");
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { stop, answers, task }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.answers.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_answers_without_a_gap_while_its_hub_is_started_anew() {
    let Some(server) = Server::start() else { return };
    let one = Agent::with(apart(6, of(&server, "one", IDS[0]))).await;
    let other = Agent::with(apart(7, of(&server, "other", IDS[1]))).await;
    let (base, at_other) = (one.base.clone(), client(&other));
    put(&at_other, "steady", "same").await;
    let web = serde_json::json!({"Node": "h9", "Address": "10.0.0.1", "Service": {"Service": "web", "Port": 80}});
    let registered = reqwest::Client::new().put(format!("{base}/v1/catalog/register")).body(web.to_string()).send();
    assert_eq!(registered.await.unwrap().status(), 200);

    // One follows a single hub; the other has two.
    let alone = Arc::new(Agent::with(replica_of(&[&base])).await);
    let either = Arc::new(Agent::with(replica_of(&[&base, &other.base])).await);
    for edge in [&alone, &either] {
        eventually("it has everything", async || everything(edge, None).await == everything(&other, None).await).await;
        put(&client(edge), "through", "a replica").await;
        eventually("the other hub hears of it", async || value(&at_other, "through").await.is_some()).await;
    }
    let index = client(&alone).kv_get("steady", None).await.unwrap().index;
    assert_eq!(at_other.kv_get("steady", None).await.unwrap().index, index, "an index means the same everywhere");
    let asking = [&alone, &either].map(Asking::begin);

    one.stop().await;
    eventually("it notices", async || !has_contact(&alone).await).await;
    // What is made, changed and taken away meanwhile.
    put(&at_other, "new", "1").await;
    at_other.kv_delete("through", false, None).await.unwrap();
    let in_time =
        eventually("the other hub is followed", async || value(&client(&either), "new").await.is_some()).await;
    assert_eq!(value(&client(&alone), "new").await, None, "it cannot know");
    assert_eq!(value(&client(&alone), "through").await.as_deref(), Some("a replica"));

    let waiting = tokio::spawn({
        let client = client(&alone);
        async move {
            let mut read = client.kv_get("new", None).await.unwrap();
            while read.value.is_none() {
                let wait = Wait { index: read.index, wait: std::time::Duration::from_mins(1) };
                read = client.kv_get("new", Some(wait)).await.unwrap();
            }
            read.value.unwrap().value
        }
    });
    let one = Agent::with(at(&base, of(&server, "one", IDS[0]))).await;
    let caught_up = eventually("it has what came", async || value(&client(&alone), "new").await.is_some()).await;
    assert_eq!(waiting.await.unwrap(), "1", "who waited is woken");
    assert_eq!(value(&client(&alone), "through").await, None, "what is gone is gone");
    for edge in [&alone, &either] {
        assert!(client(edge).kv_put("last", "1", KvPut::default()).await.unwrap());
        eventually("all have the same", async || everything(edge, None).await == everything(&one, None).await).await;
    }
    let mut answers = Vec::new();
    for asking in asking {
        answers.push(asking.end().await);
    }
    println!(
        "the other hub was followed after {in_time:?}, the old one again after {caught_up:?}; answers: {answers:?}"
    );
    assert!(answers.iter().all(|count| *count > 20), "{answers:?}");
}
