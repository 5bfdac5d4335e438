//! What is under way: each frame until its time has come. Pure.

use std::{cmp::Reverse, collections::BinaryHeap, time::Instant};

/// Frames by the time at which they arrive; those of one time in the order in which they were sent.
pub(crate) struct Queue {
    frames: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    sent: u64,
    limit: usize,
}

impl Queue {
    /// One that holds up to `limit` frames.
    pub(crate) fn new(limit: usize) -> Self {
        Self { frames: BinaryHeap::new(), sent: 0, limit }
    }

    /// Takes a frame that arrives at `due`; when the queue is full, it is lost.
    pub(crate) fn push(&mut self, due: Instant, frame: Vec<u8>) {
        if self.frames.len() < self.limit {
            self.frames.push(Reverse((due, self.sent, frame)));
            self.sent += 1;
        }
    }

    /// The next frame that has arrived at `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.next().filter(|next| *next <= now)?;
        self.frames.pop().map(|Reverse((_, _, frame))| frame)
    }

    /// When the next one arrives.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.frames.peek().map(|Reverse((due, _, _))| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn frames_arrive_in_their_time_and_overtake_each_other() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut queue = Queue::new(4);
        for (ms, frame) in [(30, b"a"), (10, b"b"), (10, b"c"), (20, b"d"), (0, b"e")] {
            queue.push(at(ms), frame.to_vec());
        }
        let mut arrived = |ms| std::iter::from_fn(|| queue.due(at(ms))).flatten().map(char::from).collect::<String>();
        assert_eq!((arrived(9), arrived(20), arrived(29)), (String::new(), "bcd".into(), String::new()));
        assert_eq!(queue.next(), Some(at(30)), "the fifth was one too many");
        assert_eq!(queue.due(at(31)), Some(b"a".to_vec()));
        assert_eq!((queue.due(at(99)), queue.next()), (None, None));
    }
}
