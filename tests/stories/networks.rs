//! `examples/networks`: networks of Docker's driver with subnets of the user's choice on two hosts, names in each, local ones
//! beside them, and containers that come and go while they run.

use std::time::Instant;

use flotilla_tests::eventually;

use crate::readme::{LIMIT, Readme, Stack, join_two};

const BOTH: [usize; 2] = [0, 1];

pub(crate) async fn story() {
    let stack = Stack::start(2, 0, &[]);
    join_two(&stack).await;
    let readme = Readme::of(&stack, "networks");
    readme.done("On a", &[0]).await;
    for said in readme.done("On both", &BOTH).await {
        assert!(["shop", "data", "scratch"].iter().all(|network| said.contains(network)), "{said}");
    }
    readme.done("On a", &[0]).await;
    readme.done("On b", &[1]).await;
    names(&readme).await;
    come_and_go(&readme).await;
    readme.done("On both", &BOTH).await;
    readme.end();
}

/// Each answers its own, and no other.
async fn names(readme: &Readme<'_>) {
    let began = Instant::now();
    let answered = readme.next("On b, answered");
    eventually!("names of the other host", LIMIT, readme.shell(1, &answered));
    println!("  names of the other host are answered {:?} after they were asked for first", began.elapsed());
    let (web, db, tool) = (
        address(readme, 0, "web", "shop").await,
        address(readme, 0, "db", "data").await,
        address(readme, 0, "tool", "scratch").await,
    );
    assert!(web.starts_with("10.80.") && db.starts_with("10.81."), "{web} {db}");
    let last: u8 = tool.strip_prefix("10.82.0.").and_then(|last| last.parse().ok()).expect("an address of scratch");
    assert!(last >= 128, "{tool} is not in the range");
    let gateway = "docker inspect --format '{{.NetworkSettings.Networks.data.Gateway}}' db";
    assert_eq!(readme.shell(0, gateway).await.expect("Docker answers").trim(), "10.81.255.254");
    // The answers themselves, as Docker passes them on.
    for (asker, name, want) in [
        ("visitor", "web", &*web),
        ("visitor", "db", ""),
        ("clerk", "db", &db),
        ("clerk", "store", &db),
        ("clerk", "web", ""),
        ("near", "tool", ""),
    ] {
        assert_eq!(dig(readme, 1, asker, name).await, want, "{name} for {asker}");
    }
    for line in readme.next("On b, refused").lines() {
        let why = readme.shell(1, line).await.expect_err(line);
        assert!(why.contains("load: "), "{line} {why}");
    }
    for to in [&db, &tool] {
        let why = readme.shell(1, &format!("docker exec visitor load --once http://{to}:8080/")).await;
        why.expect_err("an address of another network");
    }
}

async fn come_and_go(readme: &Readme<'_>) {
    let attached = readme.done_on("On b", 1).await;
    let late = attached.split(|c: char| c != '.' && !c.is_ascii_digit()).find(|word| word.starts_with("10.80."));
    let late = late.unwrap_or_else(|| panic!("{attached}")).to_owned();
    let said = readme.done_on("On b", 1).await;
    let second = said.lines().last().expect("an address").to_owned();
    assert!(second.starts_with("10.80.") && second.ends_with(".77"), "{said}");
    readme.done("On a", &[0]).await;
    let answered = readme.next("On a, answered");
    eventually!("a container that was connected later", LIMIT, readme.shell(0, &answered));
    assert_eq!(dig(readme, 0, "asker", "other").await, second);
    let reached = async |to: &str| readme.shell(0, &format!("docker exec asker load --once http://{to}:8080/")).await;
    reached(&late).await.expect("it was attached");
    readme.done("On b", &[1]).await;
    reached(&late).await.expect_err("it was detached");
    reached(&second).await.expect_err("it was disconnected");
    eventually!("its name goes, too", LIMIT, async {
        match dig(readme, 0, "asker", "other").await {
            found if found.is_empty() => Ok(()),
            found => Err(found),
        }
    });
}

async fn address(readme: &Readme<'_>, number: usize, container: &str, network: &str) -> String {
    let said = readme.shell(number, &format!("address {container} {network}")).await.expect("Docker answers");
    said.trim().to_owned()
}

/// What Docker's resolver tells a container.
async fn dig(readme: &Readme<'_>, number: usize, container: &str, name: &str) -> String {
    let pid = format!("\"$(docker inspect --format '{{{{.State.Pid}}}}' {container})\"");
    let dig = format!("nsenter --net --target {pid} dig +short +time=2 +tries=2 @127.0.0.11 {name}");
    readme.shell(number, &dig).await.expect("it answers").trim().to_owned()
}
