//! Access control, from the first token to its end: who sees and changes what, and how a wait ends when that changes.

use std::{
    fs,
    time::{Duration, Instant},
};

use kvstore::{
    config::{self, Engine},
    http::{Acl, AgentTokens, digest},
};
use kvstore_client::{
    Client, ClientConfig, Error, ExecuteQuery, GoDuration, KvPut, Read, Wait,
    types::{AclLink, AclPolicy, AclToken, KvEntry, PreparedQuery, ServiceQuery, ServiceRegistration},
};
use kvstore_core::acl::DefaultPolicy;

use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::{
    common::{Agent, settings},
    dns,
};

const MANAGEMENT: &str = "11111111-2222-4333-8444-555555555555";

fn guarded(default_policy: DefaultPolicy) -> config::Agent {
    let mut settings = settings("n");
    settings.guard.access.acl = Some(Acl { default_policy, tokens: AgentTokens::default() });
    settings
}

/// An agent that denies what no policy allows, and a client that may everything.
async fn denying() -> (Agent, Client) {
    let mut settings = guarded(DefaultPolicy::Deny);
    settings.acl_management = Some(digest(MANAGEMENT));
    let agent = Agent::with(settings).await;
    let root = client(&agent, MANAGEMENT);
    (agent, root)
}

fn client(agent: &Agent, token: &str) -> Client {
    let token = (!token.is_empty()).then(|| token.to_owned());
    Client::new(&ClientConfig { addresses: vec![agent.base.clone()], token, ..ClientConfig::default() }).unwrap()
}

async fn policy(root: &Client, name: &str, rules: &str) -> AclPolicy {
    let policy = AclPolicy { name: name.into(), rules: Some(rules.into()), ..AclPolicy::default() };
    root.acl_policy_create(&policy).await.unwrap()
}

fn with_policy(name: &str) -> AclToken {
    let policies = vec![AclLink { name: name.into(), ..AclLink::default() }];
    AclToken { policies, ..AclToken::default() }
}

/// A client whose token has a policy of these rules.
async fn holder(agent: &Agent, root: &Client, name: &str, rules: &str) -> (Client, AclToken) {
    policy(root, name, rules).await;
    let token = root.acl_token_create(&with_policy(name)).await.unwrap();
    (client(agent, &token.secret_id), token)
}

async fn put(client: &Client, key: &str) -> Result<bool, Error> {
    client.kv_put(key, "v", KvPut::default()).await
}

fn keys(read: &Read<Vec<KvEntry>>) -> Vec<&str> {
    read.value.iter().map(|entry| entry.key.as_str()).collect()
}

/// The status and text of a refusal.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result.unwrap_err() {
        Error::Status { status, message, .. } => (status, message),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_access_control_there_are_no_tokens() {
    let agent = Agent::start("n").await;
    let anybody = client(&agent, "");
    assert_eq!(refused(anybody.acl_token_list().await), (401, "ACL support disabled".into()));
    assert_eq!(refused(anybody.acl_bootstrap().await).0, 401);
}

#[tokio::test]
async fn the_first_token_is_made_once_and_makes_the_others() {
    let agent = Agent::with(guarded(DefaultPolicy::Deny)).await;
    let anybody = client(&agent, "");
    assert_eq!(refused(anybody.acl_token_list().await).0, 403);
    let first = anybody.acl_bootstrap().await.unwrap();
    assert_eq!(first.policies[0].name, "global-management");
    let (status, why) = refused(anybody.acl_bootstrap().await);
    let index = first.create_index;
    assert_eq!(
        (status, why),
        (403, format!("Permission denied: ACL bootstrap no longer allowed (reset index: {index})"))
    );

    let root = client(&agent, &first.secret_id);
    let own = root.acl_token_self().await.unwrap();
    assert_eq!((&own.secret_id, &own.accessor_id), (&first.secret_id, &first.accessor_id));
    let listed = root.acl_token_list().await.unwrap();
    assert_eq!(listed.len(), 2, "the anonymous one and the first: {listed:?}");
    assert!(listed.iter().all(|token| token.secret_id == "<hidden>"));
    assert_eq!(refused(client(&agent, "nobody's").acl_token_self().await), (403, "ACL not found".into()));
}

#[tokio::test]
async fn tokens_and_policies_are_made_read_changed_cloned_and_deleted() {
    let (_agent, root) = denying().await;
    let p = policy(&root, "p", r#"key_prefix "a/" { policy = "read" }"#).await;
    assert_eq!(root.acl_policy_read(&p.id).await.unwrap(), p);
    assert_eq!(root.acl_policy_read_by_name("p").await.unwrap(), p);
    let names: Vec<_> = root.acl_policy_list().await.unwrap().into_iter().map(|p| (p.name, p.rules)).collect();
    assert!(names.contains(&("p".into(), None)) && names.contains(&("global-management".into(), None)), "{names:?}");

    let given = AclToken { description: "d".into(), secret_id: MANAGEMENT.replace('1', "9"), ..with_policy("p") };
    let token = root.acl_token_create(&given).await.unwrap();
    assert_eq!((&token.secret_id, &token.policies[0].id), (&given.secret_id, &p.id));
    let read = root.acl_token_read(&token.accessor_id).await.unwrap();
    assert_eq!(read, AclToken { secret_id: "<hidden>".into(), ..token.clone() });
    let clone = root.acl_token_clone(&token.accessor_id, "twin").await.unwrap();
    assert!(clone.secret_id != token.secret_id && clone.policies == token.policies && clone.description == "twin");
    let changed = AclToken { description: "other".into(), policies: vec![], ..read };
    assert_eq!(root.acl_token_update(&changed).await.unwrap().description, "other");
    root.acl_token_delete(&token.accessor_id).await.unwrap();
    assert_eq!(refused(root.acl_token_read(&token.accessor_id).await), (404, "ACL not found".into()));
    assert_eq!(refused(root.acl_token_delete(&token.accessor_id).await).0, 404);

    root.acl_policy_delete(&p.id).await.unwrap();
    assert_eq!(root.acl_token_read(&clone.accessor_id).await.unwrap().policies, []);
    assert_eq!(refused(root.acl_policy_delete("00000000-0000-0000-0000-000000000001").await).0, 400);
    assert_eq!(refused(root.acl_token_delete("00000000-0000-0000-0000-000000000002").await).0, 400);
}

#[tokio::test]
async fn what_is_wrong_is_said_with_its_place() {
    let (_agent, root) = denying().await;
    let policy = |rules: &str| AclPolicy { name: "p".into(), rules: Some(rules.into()), ..AclPolicy::default() };
    let (status, why) = refused(root.acl_policy_create(&policy("key \"a\" {\n  policy = \"reed\"\n}")).await);
    assert!(status == 400 && why.contains("line 2, column 12") && why.contains("reed"), "{status} {why}");
    let (status, why) = refused(root.acl_token_create(&with_policy("never")).await);
    assert_eq!((status, &*why), (400, "No such ACL policy with name \"never\""));
    let bad = AclToken { secret_id: "guess-me".into(), ..AclToken::default() };
    let (status, why) = refused(root.acl_token_create(&bad).await);
    assert!(status == 400 && !why.contains("guess-me"), "{why}");
    let bad = AclToken { expiration_ttl: Some(GoDuration(Duration::from_secs(1))), ..AclToken::default() };
    assert_eq!(refused(root.acl_token_create(&bad).await).0, 400);
}

#[tokio::test]
async fn lists_are_filtered_and_writes_are_refused() {
    let (agent, root) = denying().await;
    for key in ["a/1", "a/2", "b"] {
        put(&root, key).await.unwrap();
    }
    for name in ["web", "db"] {
        let service = ServiceRegistration { name: name.into(), port: 80, ..ServiceRegistration::default() };
        root.register_service(&service).await.unwrap();
    }
    let rules = r#"
        key_prefix "a/" { policy = "read" }
        key "a/2" { policy = "write" }
        service "web" { policy = "write" }
        node_prefix "" { policy = "read" }
    "#;
    let (limited, _) = holder(&agent, &root, "limited", rules).await;
    assert_eq!(keys(&limited.kv_list("", None).await.unwrap()), ["a/1", "a/2"]);
    assert!(limited.kv_get("a/1", None).await.unwrap().value.is_some());
    let (status, why) = refused(limited.kv_get("b", None).await);
    assert!(status == 403 && why.contains("lacks permission 'key:read' on \"b\""), "{why}");
    assert!(put(&limited, "a/2").await.unwrap());
    assert_eq!(refused(put(&limited, "a/1").await).0, 403);
    let services: Vec<_> = limited.catalog_services(None).await.unwrap().value.into_keys().collect();
    assert_eq!(services, ["web"]);
    let web = ServiceRegistration { name: "web".into(), port: 81, ..ServiceRegistration::default() };
    limited.register_service(&web).await.unwrap();
    let db = ServiceRegistration { name: "db".into(), ..ServiceRegistration::default() };
    assert_eq!(refused(limited.register_service(&db).await).0, 403);
    assert_eq!(refused(limited.acl_token_list().await).0, 403);
    assert!(client(&agent, "").kv_list("", None).await.unwrap().value.is_empty());
}

#[tokio::test]
async fn without_a_default_to_deny_only_what_policies_say_is_closed() {
    let mut settings = guarded(DefaultPolicy::Allow);
    settings.acl_management = Some(digest(MANAGEMENT));
    let agent = Agent::with(settings).await;
    let root = client(&agent, MANAGEMENT);
    assert!(put(&client(&agent, ""), "a").await.unwrap());
    assert_eq!(refused(client(&agent, "").acl_token_list().await).0, 403);
    let (limited, _) = holder(&agent, &root, "no-a", r#"key "a" { policy = "deny" }"#).await;
    assert_eq!(refused(put(&limited, "a").await).0, 403);
    assert!(put(&limited, "b").await.unwrap());
}

#[tokio::test]
async fn a_wait_ends_when_its_token_is_revoked_and_shows_more_when_it_may_more() {
    let (agent, root) = denying().await;
    put(&root, "a/1").await.unwrap();
    put(&root, "b/1").await.unwrap();
    let (limited, token) = holder(&agent, &root, "limited", r#"key_prefix "a/" { policy = "read" }"#).await;
    let first = limited.kv_list("", None).await.unwrap();
    assert_eq!(keys(&first), ["a/1"]);

    let wait = |index| Some(Wait { index, wait: Duration::from_mins(1) });
    let more = AclPolicy {
        rules: Some(r#"key_prefix "" { policy = "read" }"#.into()),
        ..root.acl_policy_read_by_name("limited").await.unwrap()
    };
    let (seen, _) = tokio::join!(limited.kv_list("", wait(first.index)), root.acl_policy_update(&more));
    let seen = seen.unwrap();
    assert_eq!(keys(&seen), ["a/1", "b/1"]);

    let services = limited.catalog_services(None).await.unwrap().index;
    let (waited, listed, ()) =
        tokio::join!(limited.kv_list("", wait(seen.index)), limited.catalog_services(wait(services)), async {
            // Time for both to be held; whoever comes later is refused as well.
            tokio::time::sleep(Duration::from_millis(300)).await;
            root.acl_token_delete(&token.accessor_id).await.unwrap();
        });
    assert_eq!(refused(waited), (403, "ACL not found".into()));
    assert_eq!(refused(listed), (403, "ACL not found".into()));
}

#[tokio::test]
async fn requests_without_a_token_have_that_of_the_agent() {
    let (agent, root) = denying().await;
    put(&root, "a").await.unwrap();
    let (_, token) = holder(&agent, &root, "reads-a", r#"key "a" { policy = "read" }"#).await;
    let anybody = client(&agent, "");
    assert_eq!(refused(anybody.kv_get("a", None).await).0, 403);
    let http = reqwest::Client::new();
    let give = |name: &str, secret: &str| {
        let request = http.put(format!("{}/v1/agent/token/{name}?token={MANAGEMENT}", agent.base));
        request.body(serde_json::json!({"Token": secret}).to_string()).send()
    };
    assert_eq!(give("default", &token.secret_id).await.unwrap().status(), 200);
    assert!(anybody.kv_get("a", None).await.unwrap().value.is_some());
    assert_eq!(give("never", &token.secret_id).await.unwrap().status(), 404);
    root.acl_token_delete(&token.accessor_id).await.unwrap();
    assert_eq!(refused(anybody.kv_get("a", None).await).0, 403);
}

#[tokio::test]
async fn a_prepared_query_finds_what_its_token_sees_and_hides_it() {
    let (agent, root) = denying().await;
    let service = ServiceRegistration { name: "web".into(), port: 80, ..ServiceRegistration::default() };
    root.register_service(&service).await.unwrap();
    let rules = r#"service "web" { policy = "read" } node_prefix "" { policy = "read" }"#;
    let (sees_web, web_token) = holder(&agent, &root, "web", rules).await;
    let (reader, _) = holder(&agent, &root, "queries", r#"query_prefix "" { policy = "read" }"#).await;
    let query = |name: &str, token: &str| PreparedQuery {
        name: name.into(),
        token: token.into(),
        service: ServiceQuery { service: "web".into(), ..ServiceQuery::default() },
        ..PreparedQuery::default()
    };
    root.query_create(&query("plain", "")).await.unwrap();
    root.query_create(&query("with-token", &web_token.secret_id)).await.unwrap();
    let found = async |client: &Client, name| {
        client.query_execute(name, &ExecuteQuery::default()).await.unwrap().unwrap().nodes.len()
    };
    assert_eq!((found(&sees_web, "plain").await, found(&reader, "plain").await), (1, 0));
    assert_eq!(found(&reader, "with-token").await, 1);
    let tokens = |read: Read<Vec<PreparedQuery>>| {
        read.value.into_iter().map(|query| query.token).filter(|token| !token.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(tokens(reader.query_list(None).await.unwrap()), ["<hidden>"]);
    assert_eq!(tokens(root.query_list(None).await.unwrap()), [web_token.secret_id]);
    assert_eq!(tokens(sees_web.query_list(None).await.unwrap()), [""; 0]);
}

#[tokio::test]
async fn dns_shows_what_its_token_sees() {
    let (agent, root) = denying().await;
    let service = ServiceRegistration {
        name: "web".into(),
        address: "10.0.0.7".into(),
        port: 80,
        ..ServiceRegistration::default()
    };
    root.register_service(&service).await.unwrap();
    let ask = async || dns::shown(&dns::ask(&agent, "web.service.consul.", RecordType::A).await);
    assert_eq!(ask().await, "NXDomain", "the anonymous token sees nothing");
    let rules = r#"service "web" { policy = "read" } node_prefix "" { policy = "read" }"#;
    let (_, token) = holder(&agent, &root, "web", rules).await;
    let http = reqwest::Client::new();
    let give = http.put(format!("{}/v1/agent/token/dns?token={MANAGEMENT}", agent.base));
    let given = give.body(serde_json::json!({"Token": token.secret_id}).to_string()).send().await.unwrap();
    assert_eq!(given.status(), 200);
    assert_eq!(ask().await, "10.0.0.7");
    assert_eq!(ask().await, "10.0.0.7", "from what is at hand");
    root.acl_token_delete(&token.accessor_id).await.unwrap();
    assert_eq!(ask().await, "NXDomain", "a reply of before is not given again");
}

/// An agent that denies what no policy allows, of what is kept in `dir`.
async fn kept(dir: &TempDir) -> Agent {
    let mut settings = guarded(DefaultPolicy::Deny);
    settings.engine = Engine::Embedded { data_dir: dir.path().into() };
    Agent::with(settings).await
}

#[tokio::test]
async fn the_first_token_is_made_again_by_who_may_write_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let agent = kept(&dir).await;
    let first = client(&agent, "").acl_bootstrap().await.unwrap();
    let file = dir.path().join("acl-bootstrap-reset");
    let again = async |agent: &Agent, index: u64| {
        fs::write(&file, format!("{index}\n")).unwrap();
        client(agent, "").acl_bootstrap().await
    };
    let (status, why) = refused(again(&agent, first.create_index + 1).await);
    assert!(status == 403 && why.contains(&format!("reset index: {})", first.create_index)), "{why}");
    agent.stop().await;

    let agent = kept(&dir).await;
    let second = again(&agent, first.create_index).await.unwrap();
    assert!(!file.exists(), "it is good for one");
    for token in [&first, &second] {
        client(&agent, &token.secret_id).acl_token_list().await.unwrap();
    }
    let (status, why) = refused(again(&agent, first.create_index).await);
    assert!(status == 403 && why.contains(&format!("reset index: {})", second.create_index)), "{why}");
    agent.stop().await;
}

#[tokio::test]
async fn tokens_come_back_with_a_snapshot_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let agent = kept(&dir).await;
    let root = client(&agent, "").acl_bootstrap().await.unwrap().secret_id;
    let all = client(&agent, &root);
    let (limited, token) = holder(&agent, &all, "limited", r#"key_prefix "a/" { policy = "write" }"#).await;
    assert_eq!(refused(limited.snapshot_save().await).0, 403);
    let mut download = all.snapshot_save().await.unwrap();
    let mut snapshot = Vec::new();
    while let Some(piece) = download.next().await.unwrap() {
        snapshot.extend_from_slice(&piece);
    }
    let before = all.acl_token_list().await.unwrap().len();

    all.acl_token_delete(&token.accessor_id).await.unwrap();
    all.acl_policy_delete(&token.policies[0].id).await.unwrap();
    let later = all.acl_token_create(&AclToken::default()).await.unwrap();
    let nobody = (403, "ACL not found".to_owned());
    assert_eq!(refused(put(&limited, "a/1").await), nobody);
    assert_eq!(refused(limited.snapshot_restore(snapshot.clone()).await), nobody);
    all.snapshot_restore(snapshot).await.unwrap();
    assert!(put(&limited, "a/1").await.unwrap(), "the same secret, with its policy");
    assert_eq!(refused(client(&agent, &later.secret_id).acl_token_self().await), nobody, "it was not in there");
    agent.stop().await;

    let agent = kept(&dir).await;
    let limited = client(&agent, &token.secret_id);
    assert!(put(&limited, "a/2").await.unwrap());
    assert_eq!(refused(put(&limited, "b").await).0, 403);
    assert_eq!(client(&agent, &root).acl_token_list().await.unwrap().len(), before);
    agent.stop().await;
}

/// As long as the shortest such token lives.
#[tokio::test]
async fn a_token_that_ends_does_so_at_its_time_whoever_restarts_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let agent = kept(&dir).await;
    let root = client(&agent, "").acl_bootstrap().await.unwrap().secret_id;
    let all = client(&agent, &root);
    policy(&all, "look", r#"key_prefix "" { policy = "read" }"#).await;
    put(&all, "a").await.unwrap();
    let made = Instant::now();
    let lives = Some(GoDuration(Duration::from_mins(1)));
    let token = all.acl_token_create(&AclToken { expiration_ttl: lives, ..with_policy("look") }).await.unwrap();
    agent.stop().await;

    let agent = kept(&dir).await;
    let holder = client(&agent, &token.secret_id);
    let own = holder.acl_token_self().await.unwrap();
    assert!(own.expiration_time.is_some() && own.expiration_time == token.expiration_time, "{own:?}");
    let seen = holder.kv_list("", None).await.unwrap();
    assert_eq!(keys(&seen), ["a"]);
    let waited = holder.kv_list("", Some(Wait { index: seen.index, wait: Duration::from_mins(5) })).await;
    assert_eq!(refused(waited), (403, "ACL not found".into()));
    let lived = made.elapsed();
    assert!((59..180).contains(&lived.as_secs()), "{lived:?}, on a busy machine");
    assert_eq!(refused(holder.acl_token_self().await).0, 403);
    assert_eq!(refused(client(&agent, &root).acl_token_read(&token.accessor_id).await).0, 404);
    agent.stop().await;
}
