//! Runs the stories one after the other: they measure times and share a machine of few cores, so none disturbs another.

use std::{
    pin::pin,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::Builder;

use crate::{
    docker,
    needs::{Need, Verdict, verdict},
};

/// A story that takes longer hangs, unless it says how long it takes.
const LIMIT: Duration = Duration::from_mins(4);

/// One story: what it needs, and how it goes.
pub struct Story {
    name: &'static str,
    needs: Vec<Need>,
    limit: Duration,
    tell: Box<dyn FnOnce(Duration) + Send>,
}

impl Story {
    /// The story `tell`, which panics where something is not as it should be.
    pub fn new<F: Future<Output = ()>>(
        name: &'static str,
        needs: impl IntoIterator<Item = Need>,
        tell: impl FnOnce() -> F + Send + 'static,
    ) -> Self {
        let tell = Box::new(move |limit| block_on(tell(), limit));
        Self { name, needs: needs.into_iter().collect(), limit: LIMIT, tell }
    }

    /// The same, which may take so long.
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}

/// A number that a person may give by this variable.
///
/// # Panics
/// If it is something else.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text:?}")))
}

/// What is decided by chance follows from it: a person's `SEED`, else any; told, so that it can be given again.
///
/// # Panics
/// If `SEED` is no number.
pub fn seed() -> u64 {
    let seed = number("SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    println!("  SEED={seed}");
    seed
}

fn block_on(story: impl Future<Output = ()>, limit: Duration) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads can be made");
    runtime.block_on(async {
        // Dropped by the panic itself, so that the story's programs see it and show their logs.
        let mut story = pin!(story);
        assert!(tokio::time::timeout(limit, story.as_mut()).await.is_ok(), "the story did not end within {limit:?}");
    });
}

/// Runs the stories that the command line asks for, says how long each took, and takes the shared Docker daemon down.
/// None of them where `STORIES` is `beside`: then a process of its own has them (`tests/run.sh`).
pub fn run(stories: Vec<Story>) -> ExitCode {
    if std::env::var_os("STORIES").is_some_and(|how| how == "beside") {
        println!("the stories run beside");
        return ExitCode::SUCCESS;
    }
    let mut args = Arguments::from_args();
    args.test_threads = Some(1);
    let strict = std::env::var("CI").is_ok_and(|v| v == "true");
    let times = Arc::new(Mutex::new(Vec::new()));
    let trials = stories.into_iter().map(|story| trial(story, strict, &times)).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    docker::remove_shared();
    for (name, seconds) in times.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        println!("story {name}: {seconds:.1} s");
    }
    conclusion.exit_code()
}

type Times = Arc<Mutex<Vec<(&'static str, f64)>>>;

fn trial(story: Story, strict: bool, times: &Times) -> Trial {
    let Story { name, needs, limit, tell } = story;
    match verdict(&needs, strict) {
        Verdict::Run => {
            let times = Arc::clone(times);
            Trial::test(name, move || {
                // Behind "test NAME ... ", so that what the story tells stands on lines of its own.
                println!();
                let start = Instant::now();
                tell(limit);
                let took = start.elapsed().as_secs_f64();
                times.lock().unwrap_or_else(PoisonError::into_inner).push((name, took));
                Ok(())
            })
        }
        Verdict::Skip(missing) => {
            println!("SKIPPED {name}: this machine lacks {missing}");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
        Verdict::Refuse(missing) => Trial::test(name, move || {
            Err(format!("this machine lacks {missing}, and tests/allowed-skips.txt does not allow that in CI").into())
        }),
    }
}
