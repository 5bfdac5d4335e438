//! The images: each runs with nothing to write to but its volume, and without any right; the variants have what they call.

use std::{fs, time::Duration};

use flotilla_tests::{
    docker::{Container, Dockerd, HELLO_WEB},
    eventually,
    needs::Need,
    web, workspace,
};

use crate::resolver_only::address_on;

pub(crate) fn needs() -> Vec<Need> {
    let mut needs = Need::DOCKER.to_vec();
    needs.push(Need::Program("haproxy"));
    needs
}

/// For one step on a busy machine, in which a container starts.
const LIMIT: Duration = Duration::from_mins(1);
const CONFINED: [&str; 5] = ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    let names = ["kvstore", "registrar", "templater", "overlay", "kvstore-shell", "templater-haproxy"];
    dockerd.make_images(&names);
    for name in names {
        describes_itself(dockerd, name).await;
    }
    let network = dockerd.network("images").await;
    let confined = [&CONFINED[..], &["--network", &network.name]].concat();
    let hello = dockerd.run(&[&confined[..], &[HELLO_WEB]].concat()).await;

    // A script decides whether the container is offered.
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let check =
        serde_json::json!({"args": ["sh", "-c", "test \"$HOME\" && exit 0"], "interval": "1s", "timeout": "5s"});
    let web = serde_json::json!({
        "name": "web", "address": address_on(dockerd, &hello, &network.name).await, "port": 8080, "checks": [check],
    });
    let definition = serde_json::json!({"enable_local_script_checks": true, "services": [web]});
    fs::write(dir.path().join("web.json"), definition.to_string()).expect("our own directory");
    let mount = format!("{}:/etc/kvstore:ro", dir.path().display());
    let agent = "agent --data-dir /data --http-addr 0.0.0.0:8500 --config /etc/kvstore";
    let usual = ["--name", "images-registry", "--volume", &mount, "flotilla/kvstore-shell"];
    let registry = dockerd.run(&[&confined[..], &usual, &agent.split(' ').collect::<Vec<_>>()].concat()).await;

    // HAProxy and its templater in one container.
    let templates = format!("{}:/templates:ro", workspace().join("examples/haproxy").display());
    let usual = ["--publish", "8080", "--volume", &templates, "flotilla/templater-haproxy"];
    let job = ["--registry", "http://images-registry:8500", "--template", "/templates/haproxy.tmpl:/out/haproxy.cfg"];
    let proxy = dockerd.run(&[&confined[..], &usual, &job].concat()).await;
    eventually!("HAProxy leads to the container", LIMIT, async {
        let answers = web::who_answers(&format!("http://127.0.0.1:{}/", proxy.try_port().await?), 1).await;
        match answers {
            Ok(all) if all.iter().any(|one| hello.id.starts_with(&one.id)) => Ok(()),
            other => Err(format!("{other:?}\n{}\n{}", proxy.logs().await, registry.logs().await)),
        }
    });
    for container in [&registry, &proxy] {
        is_healthy(dockerd, container).await;
    }
    proxy.stop().await;
    let ended = dockerd.docker(&["inspect", "--format", "{{.State.ExitCode}}", &proxy.id]).await;
    assert_eq!(ended, "0", "it ends with its proxy: {}", proxy.logs().await);
}

/// What it is, that it is not root's, and whom its program trusts.
async fn describes_itself(dockerd: &Dockerd, name: &str) {
    let tag = format!("flotilla/{name}");
    let label = |key: &str| format!("{{{{index .Config.Labels \"org.opencontainers.image.{key}\"}}}}");
    let format = format!("{} {} {{{{.Config.User}}}}", label("title"), label("licenses"));
    let told = dockerd.docker(&["image", "inspect", "--format", &format, &tag]).await;
    assert_eq!(told, format!("{name} MIT OR Apache-2.0 10001:10001"));
    let container = dockerd.create(&[&tag]).await;
    let copy = format!("{}:/etc/ssl/certs/ca-certificates.crt", container.id);
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let to = dir.path().join("roots").display().to_string();
    dockerd.docker(&["cp", &copy, &to]).await;
    assert!(fs::read_to_string(to).expect("it was copied").contains("BEGIN CERTIFICATE"), "{name}");
}

async fn is_healthy(dockerd: &Dockerd, container: &Container<'_>) {
    eventually!("its HEALTHCHECK finds it well", LIMIT, async {
        let health = dockerd.docker(&["inspect", "--format", "{{json .State.Health}}", &container.id]).await;
        if health.contains(r#""Status":"healthy""#) { Ok(()) } else { Err(health) }
    });
}
