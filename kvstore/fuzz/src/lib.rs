//! Bytes of strangers for every parser, made up by a fuzzer that follows the coverage (`make fuzz`). A target is a module
//! here; where the parser is private, it is a module `fuzzed` beside it, which tests and the fuzzer alone have. What was
//! found worth keeping is in `corpus`, and is tried again with the other tests.

mod container;
mod dns;
mod filter;
mod given;
mod hosts;
mod plugin;
mod proxies;
mod record;
#[cfg(fuzzing)]
mod request;
mod row;
mod rules;
mod settings;
mod snapshot;
mod template;
mod values;

/// A parser, or a few of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// That of its corpus, too.
    pub name: &'static str,
    /// Panics if what stands at the top of its file does not hold for these bytes.
    pub check: fn(&[u8]),
    /// First inputs.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident of $module:path),* $(,)?) => {
        &[$({
            use $module as target;
            Target { name: stringify!($name), check: target::check, seeds: target::seeds }
        }),*]
    };
}

/// Those that everybody may ask.
pub const TARGETS: &[Target] = targets![
    container of crate::container,
    dns of crate::dns,
    filter of crate::filter,
    hosts of crate::hosts,
    plugin of crate::plugin,
    proxies of crate::proxies,
    record of crate::record,
    row of crate::row,
    rules of crate::rules,
    settings of crate::settings,
    snapshot of crate::snapshot,
    template of crate::template,
    values of crate::values,
];

/// Those that their own crates try again.
#[cfg(fuzzing)]
pub const PRIVATE: &[Target] = targets![
    book of overlay::fuzzed::book,
    changes of kvstore::fuzzed::changes,
    config of kvstore::fuzzed::config,
    grpc of kvstore::fuzzed::grpc,
    jobs of templater::fuzzed::jobs,
    join of overlay::fuzzed::join,
    journal of kvstore::fuzzed::journal,
    kept of templater::fuzzed::kept,
    packets of overlay::fuzzed::packets,
    request of crate::request,
];

/// The target of this name, found by the compiler.
///
/// # Panics
/// If there is none.
#[cfg(fuzzing)]
pub const fn named(name: &str) -> Target {
    let mut n = 0;
    while n < TARGETS.len() + PRIVATE.len() {
        let target = if n < TARGETS.len() { TARGETS[n] } else { PRIVATE[n - TARGETS.len()] };
        let (mut at, ours) = (0, target.name.as_bytes());
        while at < ours.len() && at < name.len() && ours[at] == name.as_bytes()[at] {
            at += 1;
        }
        if at == ours.len() && at == name.len() {
            return target;
        }
        n += 1;
    }
    panic!("FUZZ_TARGET names none")
}

#[cfg(test)]
mod replay;

#[cfg(test)]
mod tests {
    use super::{TARGETS, Target, replay::replay};

    #[test]
    fn nothing_in_the_corpus_breaks_anything() {
        for Target { name, check, seeds } in TARGETS {
            replay(name, *check, *seeds);
        }
    }
}
