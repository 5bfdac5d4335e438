//! Three agents on one etcd as one registry: who is a member, who goes, and who may what.

use std::time::{Duration, Instant};

use kvstore::{
    config,
    http::{Acl, AgentTokens},
    server as agent,
};
use kvstore_client::{
    Client, ClientConfig, Error, KvPut, Wait,
    types::{AclLink, AclPolicy, AclToken, Member, ServiceRegistration},
};
use kvstore_core::acl::DefaultPolicy;
use tokio_util::sync::CancellationToken;

use super::{IDS, of, server::Server};
use crate::common::Agent;

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_mins(1);

const THIRD: &str = "33333333-3333-4333-8333-333333333333";

fn client(agent: &Agent, token: Option<&str>) -> Client {
    let (addresses, token) = (vec![agent.base.clone()], token.map(str::to_owned));
    Client::new(&ClientConfig { addresses, token, ..ClientConfig::default() }).unwrap()
}

/// Names with what they are: 1 alive, 4 failed.
fn standing(mut members: Vec<Member>) -> Vec<(String, u8)> {
    members.sort_by(|one, other| one.name.cmp(&other.name));
    members.into_iter().map(|member| (member.name, member.status)).collect()
}

fn named(members: &[(&str, u8)]) -> Vec<(String, u8)> {
    members.iter().map(|(name, status)| ((*name).to_owned(), *status)).collect()
}

/// Waits until `look` gives `wanted`.
async fn until<T: PartialEq + std::fmt::Debug>(wanted: T, look: impl AsyncFn() -> T) {
    let start = Instant::now();
    loop {
        let seen = look().await;
        if seen == wanted {
            return;
        }
        assert!(start.elapsed() < LIMIT, "{seen:?} does not become {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn members_are_those_that_share_the_etcd_until_they_are_taken_out() {
    let Some(server) = Server::start() else { return };
    let one = Agent::with(of(&server, "one", IDS[0])).await;
    let two = Agent::with(of(&server, "two", IDS[1])).await;
    let shutdown = CancellationToken::new();
    let three = agent::start(of(&server, "three", THIRD), shutdown.clone()).await.unwrap();
    let third = Client::new(&ClientConfig { addresses: vec![three.http[0].to_string()], ..ClientConfig::default() });
    let clients = [client(&one, None), client(&two, None), third.unwrap()];
    let alive = named(&[("one", 1), ("three", 1), ("two", 1)]);
    for seen_by in &clients {
        until(alive.clone(), async || standing(seen_by.members(false, None).await.unwrap())).await;
    }
    // Who is a member is joined; there is no other way to become one.
    for name in ["two", "THREE", "three:8301"] {
        clients[0].join(name, false).await.unwrap();
    }
    let refused = clients[0].join("10.9.9.9", false).await.unwrap_err().to_string();
    assert!(refused.contains("it is no member"), "{refused}");
    let stays = clients[0].force_leave("three", false).await.unwrap();
    assert!(stays.as_deref().is_some_and(|why| why.contains("alive")), "{stays:?}");
    assert_eq!(standing(clients[1].members(false, None).await.unwrap()), alive);

    let web =
        ServiceRegistration { name: "web".into(), id: "web-3".into(), port: 80, ..ServiceRegistration::default() };
    clients[2].register_service(&web).await.unwrap();
    clients[2].leave().await.unwrap();
    three.wait().await;
    assert!(shutdown.is_cancelled());
    let failed = named(&[("one", 1), ("three", 4), ("two", 1)]);
    for seen_by in &clients[..2] {
        until(failed.clone(), async || standing(seen_by.members(false, None).await.unwrap())).await;
    }
    assert_eq!(clients[1].catalog_service("web", None).await.unwrap().value.len(), 1, "what it had is known still");
    assert_eq!(clients[1].force_leave("three", false).await.unwrap(), None);
    let left = named(&[("one", 1), ("two", 1)]);
    for seen_by in &clients[..2] {
        until(left.clone(), async || standing(seen_by.members(false, None).await.unwrap())).await;
        assert_eq!(seen_by.catalog_service("web", None).await.unwrap().value.len(), 0);
    }
    // It may come again.
    let three = Agent::with(of(&server, "three", THIRD)).await;
    until(alive, async || standing(clients[1].members(false, None).await.unwrap())).await;
    for agent in [one, two, three] {
        agent.stop().await;
    }
}

fn guarded(server: &Server, node: &str, id: &str, prefix: &str) -> config::Agent {
    let mut settings = of(server, node, id);
    let address = format!("etcd://127.0.0.1:{}?prefix={prefix}", server.port).parse().unwrap();
    settings.engine = config::Engine::Etcd {
        address: Box::new(address),
        data_dir: server.place(&format!("{node}-{prefix}").replace('/', "-")),
    };
    settings.guard.access.acl = Some(Acl { default_policy: DefaultPolicy::Deny, tokens: AgentTokens::default() });
    settings
}

fn status(error: &Error) -> Option<u16> {
    error.status()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_token_is_made_once_on_all_hosts() {
    let Some(server) = Server::start() else { return };
    for round in 0..5 {
        let prefix = format!("/registry-{round}");
        let one = Agent::with(guarded(&server, "one", IDS[0], &prefix)).await;
        let two = Agent::with(guarded(&server, "two", IDS[1], &prefix)).await;
        let clients = [client(&one, None), client(&two, None)];
        let (a, b) = tokio::join!(clients[0].acl_bootstrap(), clients[1].acl_bootstrap());
        let (made, refused): (Vec<_>, Vec<_>) = [a, b].into_iter().partition(Result::is_ok);
        assert_eq!((made.len(), refused.len()), (1, 1), "round {round}");
        assert_eq!(refused[0].as_ref().err().and_then(status), Some(403), "{refused:?}");
        let token = made.into_iter().next().unwrap().unwrap();
        for agent in [&one, &two] {
            let root = client(agent, Some(&token.secret_id));
            until(true, async || root.acl_token_self().await.is_ok()).await;
        }
        one.stop().await;
        two.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_revoked_here_is_refused_there() {
    let Some(server) = Server::start() else { return };
    let one = Agent::with(guarded(&server, "one", IDS[0], "/flotilla")).await;
    let two = Agent::with(guarded(&server, "two", IDS[1], "/flotilla")).await;
    let first = client(&one, None).acl_bootstrap().await.unwrap();
    let root = client(&one, Some(&first.secret_id));
    let rules = Some(r#"key_prefix "" { policy = "write" }"#.into());
    root.acl_policy_create(&AclPolicy { name: "keys".into(), rules, ..AclPolicy::default() }).await.unwrap();
    let policies = vec![AclLink { name: "keys".into(), ..AclLink::default() }];
    let token = root.acl_token_create(&AclToken { policies, ..AclToken::default() }).await.unwrap();

    let there = client(&two, Some(&token.secret_id));
    until(Some(true), async || there.kv_put("a", "1", KvPut::default()).await.ok()).await;
    let read = there.kv_get("a", None).await.unwrap();
    let wait = Some(Wait { index: read.index, wait: LIMIT });
    let (waited, ()) = tokio::join!(there.kv_get("a", wait), async {
        // It waits by then, or is refused at its beginning; both are a refusal.
        tokio::time::sleep(Duration::from_millis(200)).await;
        root.acl_token_delete(&token.accessor_id).await.unwrap();
    });
    assert_eq!(waited.as_ref().err().and_then(status), Some(403), "a wait ends: {waited:?}");
    let refused = there.kv_put("a", "2", KvPut::default()).await;
    assert_eq!(refused.as_ref().err().and_then(status), Some(403), "{refused:?}");
    one.stop().await;
    two.stop().await;
}
