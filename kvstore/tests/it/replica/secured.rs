//! A hub that speaks TLS, asks for a certificate and for tokens.

use std::fs;

use kvstore::http::ServerTls;
use kvstore_client::{TlsConfig, tls::Identity};

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_follows_over_tls_with_a_token_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let made = rcgen::generate_simple_self_signed(vec!["127.0.77.5".to_owned()]).unwrap();
    fs::write(file("cert.pem"), made.cert.pem()).unwrap();
    fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(file("token"), MANAGEMENT).unwrap();
    let identity = Identity { certificates: file("cert.pem"), key: file("key.pem") };
    let guarded = |mut settings: config::Agent| {
        settings.guard.access.acl = Some(Acl { default_policy: DefaultPolicy::Deny, tokens: AgentTokens::default() });
        settings
    };
    let hub = |plain: u16, secured: u16| {
        let http =
            vec![HttpAddr::Tcp(([127, 0, 77, 5], plain).into()), HttpAddr::Tls(([127, 0, 77, 5], secured).into())];
        let tls = Some(ServerTls { identity: identity.clone(), clients: vec![file("cert.pem")] });
        let settings = kept_in(&file("hub"), guarded(settings("hub")));
        Agent::with(config::Agent { http, tls, acl_management: Some(digest(MANAGEMENT)), ..settings })
    };
    let running = hub(0, 0).await;
    let (plain, secured) = (running.base.clone(), running.https());
    let tls =
        TlsConfig { authorities: vec![file("cert.pem")], identity: Some(identity.clone()), ..TlsConfig::default() };
    let edge = |tls: &TlsConfig, token: &str| {
        let mut settings = guarded(replica_of(&[&secured]));
        let (tls, token_file) = (tls.clone(), Some(file(token)));
        settings.replica_of = settings.replica_of.map(|hub| ClientConfig { tls, token_file, ..hub });
        settings
    };
    fs::write(file("wrong"), "22222222-2222-4333-8444-555555555555").unwrap();
    let stranger = TlsConfig { authorities: Vec::new(), ..tls.clone() };
    let anonymous = TlsConfig { identity: None, ..tls.clone() };
    for settings in [edge(&stranger, "token"), edge(&anonymous, "token"), edge(&tls, "wrong")] {
        let stop = CancellationToken::new();
        let started = tokio::time::timeout(Duration::from_secs(1), server::start(settings, stop.clone())).await;
        stop.cancel();
        assert!(started.is_err(), "it shows something");
    }
    let edge = Agent::with(edge(&tls, "token")).await;
    let (at_hub, at_edge) = (with_token(&plain, Some(MANAGEMENT)), with_token(&edge.base, Some(MANAGEMENT)));
    put(&at_edge, "a", "1").await;
    assert_eq!(value(&at_hub, "a").await.as_deref(), Some("1"), "it is passed on");
    let refused = with_token(&edge.base, None).kv_put("a", "2", KvPut::default()).await.unwrap_err();
    assert_eq!(refused.status(), Some(403), "with the caller's token, and not that of the replica");
    assert_eq!(everything(&edge, Some(MANAGEMENT)).await, everything(&running, Some(MANAGEMENT)).await);

    running.stop().await;
    eventually("it notices", async || at_edge.kv_put("a", "2", KvPut::default()).await.is_err()).await;
    assert_eq!(value(&at_edge, "a").await.as_deref(), Some("1"));
    let port = |base: &str| base.rsplit(':').next().unwrap().parse().unwrap();
    let running = hub(port(&plain), port(&secured)).await;
    put(&at_hub, "a", "3").await;
    eventually("it has what is new", async || value(&at_edge, "a").await.as_deref() == Some("3")).await;
    assert_eq!(everything(&edge, Some(MANAGEMENT)).await, everything(&running, Some(MANAGEMENT)).await);
}
