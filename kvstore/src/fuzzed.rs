//! Parsers of bytes from outside that nobody else may call, for `kvstore/fuzz`; its corpus is tried again here.

pub use crate::{
    agent::fuzzed as grpc, config::fuzzed as config, engine::fuzzed as journal, replica::fuzzed as changes,
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{changes, config, grpc, journal};
    use crate::http::harness::Harness;

    fn kept(name: &str) -> Vec<Vec<u8>> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = std::fs::read_dir(dir).expect("each target has a corpus").map(|entry| entry.unwrap().path());
        files.map(|file| std::fs::read(file).unwrap()).collect()
    }

    #[test]
    fn nothing_in_the_corpus_breaks_anything() {
        type Parser = (&'static str, fn(&[u8]), fn() -> Vec<Vec<u8>>);
        let parsers: [Parser; 4] = [
            ("changes", changes::check, changes::seeds),
            ("config", config::check, config::seeds),
            ("grpc", grpc::check, grpc::seeds),
            ("journal", journal::check, journal::seeds),
        ];
        for (name, check, seeds) in parsers {
            for data in seeds().into_iter().chain(kept(name)) {
                println!("{name}: {}", data.escape_ascii());
                check(&data);
            }
        }
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
