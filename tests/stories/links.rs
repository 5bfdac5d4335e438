//! `examples/links`: containers that need each other find each other by DNS, and one that cannot use DNS has a hosts file
//! and an environment that are true, whoever moves and whoever starts again.

use flotilla_tests::{
    docker::{Container, Dockerd, HAPROXY, HELLO_WEB},
    eventually,
    ports::free_port,
    registry::Registry,
    resolver::port_53,
    web::{get, hello},
    workspace,
};

use crate::{
    resolver_only::{Asking, LIMIT},
    stage::Registrar,
    versions::{SITE, make_site},
};

/// Each of two containers asks the other one.
pub(crate) async fn circular() {
    let dockerd = Dockerd::shared();
    make_site(dockerd).await;
    let gateway = dockerd.gateway().await;
    let registry = Registry::beyond_consul(&["--dns-addr", &port_53(&gateway).to_string()]).await;
    let _registrar = Registrar::start(&registry, dockerd, &["--internal"]);
    let asking = Asking { dockerd, network: "bridge", gateway: &gateway };
    let start = async |name: &str| asking.run(&["--env", &format!("SERVICE_NAME={name}"), SITE]).await;
    let left = start("left").await;
    assert!(asks(&left, "right").await.is_err(), "it is not there yet");
    let right = start("right").await;
    eventually!("the one that was there first finds the other", LIMIT, meets(&left, "right", &right));
    eventually!("and is found by it", LIMIT, meets(&right, "left", &left));
    let moved = start("left").await;
    left.remove().await;
    eventually!("with its new address", LIMIT, meets(&right, "left", &moved));
    let moved_too = start("right").await;
    right.remove().await;
    eventually!("and the other way", LIMIT, meets(&moved, "right", &moved_too));
}

async fn asks(container: &Container<'_>, service: &str) -> Result<String, String> {
    container.curl(&format!("http://{service}.service.consul:8080/")).await
}

async fn meets(container: &Container<'_>, service: &str, wanted: &Container<'_>) -> Result<(), String> {
    let met = hello(&asks(container, service).await?)?.id;
    if met == wanted.short() { Ok(()) } else { Err(met) }
}

/// A program that reads files and its environment only.
pub(crate) async fn files() {
    let dockerd = Dockerd::shared();
    dockerd.make_images(&["templater"]);
    let folder = workspace().join("examples/links");
    let dockerfile = std::fs::read_to_string(folder.join("Dockerfile")).expect("it is there");
    // Any base will do that has a shell.
    let dockerfile = dockerfile.replace("debian:bookworm-slim", HAPROXY);
    dockerd.build_in(&folder, "flotilla/links", &dockerfile).await;
    let gateway = dockerd.gateway().await;
    let inside = format!("{gateway}:{}", free_port());
    let registry = Registry::beyond_consul(&["--http-addr", &inside]).await;
    let _registrar = Registrar::start(&registry, dockerd, &["--internal", "--explicit"]);
    let db = || dockerd.run(&["--env", "SERVICE_NAME=db", HELLO_WEB]);

    let first = db().await;
    let at = format!("CONSUL_HTTP_ADDR=http://{inside}");
    let app = dockerd.run(&["--env", &at, "--publish", "8080", "flotilla/links"]).await;
    eventually!("it is told where db is", LIMIT, knows(&app, &first));
    let second = db().await;
    first.remove().await;
    eventually!("and where it has moved", LIMIT, knows(&app, &second));
    dockerd.docker(&["restart", &app.id]).await;
    eventually!("also after it was started again", LIMIT, knows(&app, &second));
    app.stop().await;
    let third = db().await;
    second.remove().await;
    eventually!("the registry knows who is there", LIMIT, async {
        let there = registry.client.health_service("db", true, None).await.map_err(|e| e.to_string())?.value;
        if there.len() == 1 && there[0].service.address == third.address().await {
            Ok(())
        } else {
            Err(format!("{}", there.len()))
        }
    });
    dockerd.docker(&["start", &app.id]).await;
    // What it says first is true.
    let said = eventually!("it answers", LIMIT, told(&app));
    assert_eq!(said, wanted(&third).await);
    eventually!("as its hosts file is", LIMIT, knows(&app, &third));
}

/// What its environment says.
async fn told(app: &Container<'_>) -> Result<String, String> {
    Ok(hello(&get(&format!("http://127.0.0.1:{}/", app.try_port().await?)).await?)?.version)
}

async fn wanted(db: &Container<'_>) -> String {
    format!("tcp://{}:8080", db.address().await)
}

async fn knows(app: &Container<'_>, db: &Container<'_>) -> Result<(), String> {
    let (said, wanted, address) = (told(app).await?, wanted(db).await, db.address().await);
    if said != wanted {
        return Err(format!("its environment says {said}, not {wanted}"));
    }
    let hosts = app.exec(&["sh", "-c", "while read -r line; do echo \"$line\"; done </etc/hosts"]).await?;
    let lines: Vec<_> = hosts.lines().filter(|line| line.ends_with(" db")).collect();
    if lines == [format!("{address} db")] { Ok(()) } else { Err(hosts) }
}
