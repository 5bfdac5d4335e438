//! A cable between two devices that holds back what goes through it: the delay and the reordering of a long way.
//!
//! ```text
//! relay ONE OTHER DELAY_US JITTER_US
//! ```
//!
//! Makes the Ethernet devices `ONE` and `OTHER`, prints `ready`, and carries each frame from one to the other after the
//! delay and a random part of the jitter. Ends when it is killed.

mod queue;

use std::{
    env,
    error::Error,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rand::RngExt as _;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use queue::Queue;

/// The longest frame: one of 1,500 bytes with its header.
const MAX_FRAME_BYTES: usize = 2048;
/// Frames under way; what comes when there are more is lost, as in a switch.
const MAX_FRAMES: usize = 4096;

/// What is under way in one direction.
struct Way {
    queue: Mutex<Queue>,
    changed: Condvar,
}

impl Way {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [one, other, delay, jitter] = &arguments[..] else { return Err("relay ONE OTHER DELAY_US JITTER_US".into()) };
    let (delay, jitter) = (Duration::from_micros(delay.parse()?), Duration::from_micros(jitter.parse()?));
    let (one, other) = (Arc::new(device(one)?), Arc::new(device(other)?));
    let mut threads = Vec::new();
    for (from, to) in [(&one, &other), (&other, &one)] {
        let way = Arc::new(Way { queue: Mutex::new(Queue::new(MAX_FRAMES)), changed: Condvar::new() });
        let (from, to, taking) = (from.clone(), to.clone(), way.clone());
        threads.push(thread::spawn(move || take(&from, &taking, delay, jitter)));
        threads.push(thread::spawn(move || give(&to, &way)));
    }
    println!("ready");
    threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a direction broke down".into()))
}

fn device(name: &str) -> std::io::Result<SyncDevice> {
    DeviceBuilder::new().layer(Layer::L2).name(name).build_sync()
}

fn take(from: &SyncDevice, way: &Way, delay: Duration, jitter: Duration) {
    let mut frame = [0; MAX_FRAME_BYTES];
    loop {
        match from.recv(&mut frame) {
            Ok(length) => {
                let due = Instant::now() + delay + jitter.mul_f64(rand::rng().random());
                way.queue().push(due, frame[..length].to_vec());
                way.changed.notify_one();
            }
            // A device that is down has nothing to tell.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

fn give(to: &SyncDevice, way: &Way) {
    let mut queue = way.queue();
    loop {
        let now = Instant::now();
        while let Some(frame) = queue.due(now) {
            // What a device that is down does not take is lost.
            let _ = to.send(&frame);
        }
        queue = match queue.next() {
            None => way.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            Some(next) => {
                let left = next.saturating_duration_since(now);
                way.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0
            }
        };
    }
}
