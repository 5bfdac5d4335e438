//! Parsers of bytes from outside that nobody else may call, for `kvstore/fuzz`; its corpus is tried again here.

pub use crate::{device::fuzzed as packets, join::fuzzed as join, plugin::fuzzed as book};

#[cfg(test)]
#[path = "../../kvstore/fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{book, join, packets, replay::replay};

    #[test]
    fn nothing_in_the_corpus_breaks_anything() {
        replay("book", book::check, book::seeds);
        replay("join", join::check, join::seeds);
        replay("packets", packets::check, packets::seeds);
    }
}
