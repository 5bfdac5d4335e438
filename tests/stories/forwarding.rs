//! Other domains: the registry asks real dnsmasqs about them, each domain's own, and answers some with a service of its
//! own; who is asked changes by a HUP.

use std::{fs, net::SocketAddr, time::Duration};

use flotilla_tests::{
    dig::{Answer, dig},
    eventually,
    needs::Need,
    ports::free_port,
    registry::Registry,
    resolver::Resolver,
};
use kvstore_client::types::{CheckRegistration, ServiceRegistration};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn needs() -> Vec<Need> {
    ["dig", "dnsmasq"].map(Need::Program).into()
}

pub(crate) async fn story() {
    let world = upstream("address=/www.example/192.0.2.80\naddress=/db.corp.example/192.0.2.66\n").await;
    let mut office = upstream("address=/db.corp.example/10.1.2.3\naddress=/x.corp.example/10.1.2.4\n").await;
    let branch = upstream("address=/db.corp.example/10.9.9.9\n").await;
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("registry.yaml");
    let asked = |corp: SocketAddr| {
        let text = format!(
            "recursors: ['{}', 'corp.example={corp}']\naliases: {{'*.apps.example': haproxy}}\n",
            world.address
        );
        fs::write(&file, text).expect("our own directory");
    };
    asked(office.address);
    let mut registry = Registry::beyond_consul(&["--config", &file.display().to_string()]).await;
    answers(&registry, "www.example", "192.0.2.80").await;
    answers(&registry, "db.corp.example", "10.1.2.3").await;

    // While the office's own is away nobody else is asked about its names, and all else goes on.
    office.program.stop();
    let away = dig(registry.dns_port(), "x.corp.example", "A", &["+time=10"]).await;
    assert_eq!(away.map(|answer| answer.status), Ok("SERVFAIL".into()));
    answers(&registry, "www.example", "192.0.2.80").await;

    asked(branch.address);
    registry.program().signal(Signal::SIGHUP);
    answers(&registry, "db.corp.example", "10.9.9.9").await;

    for (port, status) in [(1, "passing"), (2, "critical")] {
        let check =
            CheckRegistration { status: Some(status.into()), ..CheckRegistration::ttl(Duration::from_hours(1)) };
        let proxy = ServiceRegistration {
            id: format!("haproxy-{port}"),
            name: "haproxy".into(),
            address: format!("10.0.0.{port}"),
            port: 80,
            check: Some(check),
            ..ServiceRegistration::default()
        };
        registry.client.register_service(&proxy).await.expect("the registry takes it");
    }
    answers(&registry, "shop.apps.example", "10.0.0.1").await;
    answers(&registry, "a.b.apps.example", "10.0.0.1").await;
}

async fn upstream(lines: &str) -> Resolver {
    Resolver::for_others(([127, 0, 0, 1], free_port()).into(), lines).await
}

async fn answers(registry: &Registry, name: &str, address: &str) {
    let want = Answer { status: "NOERROR".into(), records: vec![address.into()] };
    eventually!(format!("{name} is {address}"), LIMIT, async {
        let found = dig(registry.dns_port(), name, "A", &[]).await?;
        if found == want { Ok(()) } else { Err(format!("{found:?}")) }
    });
}
