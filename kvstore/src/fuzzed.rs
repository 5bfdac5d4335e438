//! Parsers of bytes from outside that nobody else may call, for `kvstore/fuzz`; its corpus is tried again here.

pub use crate::{
    agent::fuzzed as grpc, config::fuzzed as config, engine::fuzzed as journal, replica::fuzzed as changes,
};

#[cfg(test)]
#[path = "../fuzz/src/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::{
        changes, config, grpc, journal,
        replay::{kept, replay},
    };
    use crate::http::harness::Harness;

    #[test]
    fn nothing_in_the_corpus_breaks_anything() {
        replay("changes", changes::check, changes::seeds);
        replay("config", config::check, config::seeds);
        replay("grpc", grpc::check, grpc::seeds);
        replay("journal", journal::check, journal::seeds);
    }

    #[test]
    fn no_request_in_the_corpus_breaks_anything() {
        let harness = Harness::start();
        for data in kept("request") {
            println!("{}", data.escape_ascii());
            harness.endure(&data);
        }
    }
}
