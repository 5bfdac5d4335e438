//! `examples/elastic`: a version replaces another one on two hosts of a mesh, by DNS alone, and nobody notices.

use std::time::{Duration, Instant};

use flotilla_tests::{eventually, web::hello};
use futures_util::future::join;

use crate::readme::{LIMIT, Readme, Stack, join_two};

const BOTH: [usize; 2] = [0, 1];
/// How long the slow answer takes.
const SLOW: Duration = Duration::from_secs(5);
/// As `compose.yaml` has it.
const DRAIN: Duration = Duration::from_secs(6);

pub(crate) async fn story() {
    let stack = Stack::start(2, 0, &[]);
    join_two(&stack).await;
    let readme = Readme::of(&stack, "elastic");
    readme.done("On a", &[0]).await;
    for _ in ["v1", "visitors", "v2"] {
        readme.done("On both", &BOTH).await;
    }
    let asked = readme.next("On a, and b");
    meet(&readme, &asked, ["v1", "v2"]).await;

    let (begun, slow) = (Instant::now(), readme.shell(1, &readme.next("On b, meanwhile")));
    let slow = async { (slow.await.expect("it ends whole"), begun.elapsed()) };
    let replaced = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let released = Instant::now();
        readme.done("On a", &[0]).await;
        let asked = readme.next("On a, and b");
        meet(&readme, &asked, ["v2", "v1"]).await;
        println!("  callers on both hosts meet the version of their own {:?} after the release", released.elapsed());
        drained(&readme).await;
        begun.elapsed()
    };
    let ((answer, took), replaced) = join(slow, replaced).await;
    assert_eq!(hello(&answer).expect("hello-web answers").version, "v1");
    assert!(took >= SLOW, "the answer took {took:?}");
    println!("  an answer that v1 had begun ended whole after {took:?}; v1 was gone after {replaced:?}");

    for said in readme.done("On both", &BOTH).await {
        let count = said.lines().last().unwrap_or_default();
        println!("  a host's visitors: {count}");
        let has = |part: &str| count.split(' ').any(|word| word.starts_with(part) && word != format!("{part}0"));
        assert!(count.contains("failed=0 ") && has("v1=") && has("v2="), "{said}");
    }
    readme.end();
}

/// What who is of no version, and who is of one, meet on each host.
async fn meet(readme: &Readme<'_>, asked: &str, versions: [&str; 2]) {
    for number in BOTH {
        eventually!(format!("host {number} meets {versions:?}"), LIMIT, async {
            let said = readme.shell(number, asked).await?;
            let met: Result<Vec<_>, _> = said.lines().map(|line| hello(line).map(|hello| hello.version)).collect();
            if met.as_ref().is_ok_and(|met| *met == versions) { Ok(()) } else { Err(said) }
        });
    }
}

/// v1 is told to stop on both hosts: it is offered nowhere any more at once, while it serves what it has.
async fn drained(readme: &Readme<'_>) {
    let begun = Instant::now();
    let offered = {
        let shell = |number| readme.shell(number, "curl --silent http://127.0.0.1:8500/v1/health/service/web?passing");
        let passing = async move |number: usize| match shell(number).await?.matches("\"version\":\"v1\"").count() {
            0 => Ok(()),
            count => Err(format!("{count} of v1 are offered")),
        };
        async move {
            for number in BOTH {
                eventually!("v1 is offered no more", LIMIT, passing(number));
            }
            begun.elapsed()
        }
    };
    let (offered, _) = join(offered, readme.done("On both", &BOTH)).await;
    let took = begun.elapsed();
    assert!(offered < DRAIN && took >= DRAIN, "offered for {offered:?}, drained for {took:?}");
    let left = readme.shell(0, "docker ps --all --format '{{.Names}}'").await.expect("Docker answers");
    assert!(!left.contains("v1") && left.contains("v2"), "{left}");
    println!("  v1 was offered no more after {offered:?}, and had drained after {took:?}");
}
