//! `examples/hub`: its two compose files, as they run on the host that has the registry and on one of the others.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    time::Duration,
};

use flotilla_tests::{compose::Compose, dig::dig_at, docker::Dockerd, eventually, ports::free_port, web};
use reqwest::Method;

/// For one step on a busy machine, in which several containers start.
const LIMIT: Duration = Duration::from_mins(1);

pub(crate) async fn story() {
    let dockerd = Dockerd::shared();
    dockerd.make_images(&["kvstore", "registrar", "templater-haproxy"]);
    let token = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    fs::write(token.path(), "0123456789-of-this-story\n").expect("our own file");
    chown(token.path(), Some(10001), None).expect("we are root");
    let (address, dns, http) = (dockerd.gateway().await, free_port(), free_port());
    let env = [
        ("HUB_ADDRESS", address.clone()),
        ("HOST_ADDRESS", address.clone()),
        ("NODE", "host1".to_owned()),
        ("REGISTRY_TOKEN_FILE", token.path().display().to_string()),
        ("DOCKER_SOCKET", dockerd.socket().display().to_string()),
        ("DOCKER_GID", dockerd.socket().metadata().expect("the daemon listens").gid().to_string()),
        ("DNS_PORT", dns.to_string()),
        ("HTTP_PORT", http.to_string()),
    ];
    let hub = Compose::new(dockerd, "hub/hub.yaml", "hub", &env);
    let host = Compose::new(dockerd, "hub/host.yaml", "host", &env);
    hub.run(&["up", "--detach", "--no-build"]).await;
    host.run(&["up", "--detach", "--no-build", "--scale", "web=2"]).await;
    let url = format!("http://{address}:{http}/");
    eventually!("both are behind HAProxy", LIMIT, async {
        let found = web::who_answers(&url, 6).await?;
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let nodes = web::get(&format!("http://{address}:8500/v1/catalog/service/web")).await.expect("the hub answers");
    assert!(nodes.contains(r#""Node":"host1""#), "{nodes}");
    let put = web::ask(Method::PUT, &format!("http://{address}:8500/v1/kv/a")).await.expect("the hub answers");
    assert_eq!(put.status, 403, "without a token nobody writes: {}", put.body);
    eventually!("both are in DNS", LIMIT, async {
        let server = format!("{address}:{dns}").parse().expect("an address and a port");
        let found = dig_at(server, "web.service.consul", "SRV", &[]).await?.records;
        if found.len() == 2 { Ok(()) } else { Err(format!("{found:?}")) }
    });
}
