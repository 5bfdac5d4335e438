//! Who asks the proxies of both hosts all the time, and keeps a record of each request.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use flotilla_tests::{bed::Bed, eventually, web::hello, whole::requests::Request};
use reqwest::Client;
use tokio::task::JoinHandle;

/// On each host.
pub(super) const VISITORS: usize = 5;
/// Every other answer takes so long, so that something is in flight when somebody dies.
const SLOW: &str = "slow/250";
const PAUSE: Duration = Duration::from_millis(15);
/// A visitor who waits for so long gives up. A proxy that tries everything four times, each for 2 s, has given up by then.
const PATIENCE: Duration = Duration::from_mins(1);

/// See the module.
pub(super) struct Visitors {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    requests: Vec<Request>,
    /// When each visitor's request under way, or its last one, was sent.
    begun: Vec<Option<Instant>>,
}

impl Visitors {
    /// They come to these URLs, one for each host.
    pub(super) fn begin(bed: &Bed, urls: &[String]) -> Self {
        let record = Record { begun: vec![None; VISITORS * urls.len()], ..Record::default() };
        let (record, stop) = (Arc::new(Mutex::new(record)), Arc::new(AtomicBool::new(false)));
        kvstore_client::choose_crypto();
        let mut tasks = Vec::new();
        for (host, url) in urls.iter().enumerate() {
            for _ in 0..VISITORS {
                let visitor = visit(tasks.len(), host, url.clone(), record.clone(), stop.clone());
                tasks.push(bed.host(host).spawn(visitor));
            }
        }
        Self { record, stop, tasks }
    }

    /// Takes the record of all requests that were sent before now; waits for their answers.
    pub(super) async fn taken(&self) -> Vec<Request> {
        let now = Instant::now();
        eventually!("all requests that are under way are answered", 2 * PATIENCE, async {
            let record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
            let late = record.begun.iter().filter(|begun| begun.is_none_or(|begun| begun <= now)).count();
            if late == 0 { Ok(()) } else { Err(format!("{late} are not")) }
        });
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, left) = std::mem::take(&mut record.requests).into_iter().partition(|one| one.begun <= now);
        record.requests = left;
        taken
    }

    /// They go home.
    pub(super) async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a visitor does not panic");
        }
    }
}

async fn visit(number: usize, host: usize, url: String, record: Arc<Mutex<Record>>, stop: Arc<AtomicBool>) {
    // Each time on a new connection.
    let client = Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).no_proxy().build();
    let client = client.expect("no part of it can fail");
    for n in number.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let begun = Instant::now();
        record.lock().unwrap_or_else(PoisonError::into_inner).begun[number] = Some(begun);
        let url = if n % 2 == 0 { url.clone() } else { format!("{url}{SLOW}") };
        let (server, failed) = ask(&client, &url).await;
        let request = Request { host, begun, ended: Instant::now(), server, failed };
        record.lock().unwrap_or_else(PoisonError::into_inner).requests.push(request);
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whose good answer has begun, and why there is no whole one.
async fn ask(client: &Client, url: &str) -> (Option<String>, Option<String>) {
    let told = |error: reqwest::Error| {
        let first: &dyn std::error::Error = &error;
        let causes = std::iter::successors(Some(first), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    let response = match client.get(url).send().await {
        Ok(response) => response,
        Err(error) => return (None, Some(told(error))),
    };
    let status = response.status().as_u16();
    let server = response.headers().get("x-server").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = response.text().await;
    if status != 200 {
        let last = server.unwrap_or_else(|| "nobody".to_owned());
        return (None, Some(format!("{status}; {last} was asked last")));
    }
    (server, body.map_err(told).and_then(|body| hello(&body)).err())
}
