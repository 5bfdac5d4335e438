//! Parsers of bytes from outside that nobody else may call, for `kvstore/fuzz`; its corpus is tried again here.

pub mod kept;

pub use crate::config::fuzzed as jobs;

#[cfg(test)]
#[path = "../../kvstore/fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{jobs, kept, replay::replay};

    #[test]
    fn nothing_in_the_corpus_breaks_anything() {
        replay("jobs", jobs::check, jobs::seeds);
        replay("kept", kept::check, kept::seeds);
    }
}
