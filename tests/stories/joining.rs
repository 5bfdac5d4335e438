//! `examples/joining`: hosts become a mesh by one secret and one command each; one with another secret is nobody; and a machine
//! outside reaches a service in it.

use std::time::Instant;

use flotilla_tests::{eventually, web::hello};

use crate::readme::{LIMIT, Readme, Stack, hand_on_secret};

/// The hosts, and the machine outside.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;
const LAPTOP: usize = 3;

pub(crate) async fn story() {
    let stack = Stack::start(3, 1, &[]);
    let readme = Readme::of(&stack, "joining");
    readme.done_on("On a", A).await;
    hand_on_secret(&stack, A, B);
    let began = Instant::now();
    readme.done_on("On b", B).await;
    println!("  the second host is a member {:?} after its one command was begun", began.elapsed());
    readme.done_on("On a", A).await;
    answered(&readme, "On b", B).await;

    readme.done_on("On c", C).await;
    refused(&stack, &readme).await;
    hand_on_secret(&stack, A, C);
    let began = Instant::now();
    readme.done_on("On c", C).await;
    println!("  the third is one {:?} after the same", began.elapsed());
    answered(&readme, "On c, answered", C).await;
    answered(&readme, "On b", B).await;
    let hosts = readme.shell(C, "overlay status peers").await.expect("it runs");
    assert!(["a ", "b "].iter().all(|name| hosts.lines().any(|line| line.starts_with(name))), "{hosts}");

    let outside = readme.after_next();
    readme.shell(LAPTOP, &outside).await.expect_err("nothing leads there yet");
    readme.done_on("On a", A).await;
    let said = readme.done_on("On the laptop", LAPTOP).await;
    let stall = readme.shell(C, "docker inspect --format '{{.Config.Hostname}}' stall").await.expect("it runs");
    assert_eq!(hello(&said).expect("hello-web answers").id, stall.trim(), "the container on c, by the address of a");
    readme.done_on("On a", A).await;
    readme.shell(LAPTOP, &outside).await.expect_err("it is hidden");
    readme.end();
}

/// Names are there some tenths of a second after their containers.
async fn answered(readme: &Readme<'_>, title: &str, on: usize) {
    let commands = readme.next(title);
    let said = eventually!(format!("{title}: {commands}"), LIMIT, readme.shell(on, &commands));
    hello(said.lines().last().unwrap_or_default()).expect("hello-web answers");
}

/// It knows why; nobody takes anything of it.
async fn refused(stack: &Stack, readme: &Readme<'_>) {
    let why = readme.shell(C, &readme.next("On c, refused")).await.expect_err("it has no part in it");
    assert!(why.contains("every other host in the registry has another secret"), "{why}");
    println!("  {}", why.lines().last().unwrap_or_default());
    for number in [A, B] {
        let told = readme.shell(number, "docker logs overlay 2>&1; overlay status").await.expect("it runs");
        assert!(told.contains("was not written with this mesh's secret"), "{told}");
        let status = told.split("data plane").last().unwrap_or_default();
        assert!(!status.lines().any(|line| line.starts_with("c ")) && !status.contains("TROUBLE"), "{status}");
    }
    let networks = readme.shell(C, "docker network ls --format '{{.Name}}'").await.expect("Docker answers");
    assert!(!networks.lines().any(|name| name == "app"), "{networks}");
    // Not even where it is told the way: neither through its tunnel nor in clear.
    let asked = "docker inspect --format '{{.NetworkSettings.Networks.app.IPAddress}}' shop";
    let shop = readme.shell(A, asked).await.expect("it runs").trim().to_owned();
    for way in ["dev ovl0", &format!("via {}", stack.bed.host(A).address)] {
        let try_it = format!("ip route add {shop} {way}; curl --silent --max-time 2 http://{shop}:8080/");
        let said = readme.shell(C, &try_it).await.expect_err("nothing of it is taken");
        assert!(said.contains("exit status: 28") || said.contains("exit status: 7"), "{said}");
        readme.shell(C, &format!("ip route del {shop}")).await.expect("it was there");
    }
}
