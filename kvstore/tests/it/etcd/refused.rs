//! Where an agent does not start: what somebody else, or a later kvstore, has put; and where another runs.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_does_not_start_on_a_newer_format_or_under_somebody_elses_prefix() {
    let Some(server) = Server::start() else { return };
    server.ctl(&["put", "/newer/store", r#"{"format":2}"#]);
    server.ctl(&["put", "/registry/pods/default/web", "1"]);
    for (prefix, why) in [
        ("/newer", "it has format 2, and this kvstore understands 1; run the kvstore that the other hosts run"),
        ("/registry", "such as \"/registry/pods/default/web\"; choose another prefix"),
    ] {
        let mut settings = of(&server, "one", IDS[0]);
        let address = format!("etcd://127.0.0.1:{}?prefix={prefix}", server.port).parse().unwrap();
        settings.engine = config::Engine::Etcd { address: Box::new(address), data_dir: server.place("refused") };
        let started = agent::start(settings, CancellationToken::new()).await;
        let said = started.map(drop).map_err(|error| with_causes(&error)).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
    let left = server.ctl(&["get", "--prefix", "/", "--keys-only"]);
    assert_eq!(
        left.split_whitespace().collect::<Vec<_>>(),
        ["/newer/store", "/registry/pods/default/web"],
        "all is as it was"
    );
}

/// A second one where one runs would take its place, so it does not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_is_one_agents_at_a_time() {
    let Some(server) = Server::start() else { return };
    let settings = of(&server, "one", IDS[0]);
    let agent = Agent::with(settings.clone()).await;
    let started = agent::start(settings.clone(), CancellationToken::new()).await;
    let said = started.map(drop).map_err(|error| with_causes(&error)).unwrap_err();
    assert!(said.contains("uses it; stop that one or choose another --data-dir"), "{said}");
    let put = reqwest::Client::new().put(format!("{}/v1/kv/a", agent.base)).body("1").send().await.unwrap();
    assert_eq!(put.status(), 200, "the first goes on");
    agent.stop().await;
    Agent::with(settings).await.stop().await;
}
