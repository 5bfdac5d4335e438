//! The API from outside: waiting, refusing, and what a hostile client gets.

use std::time::{Duration, Instant};

use kvstore::http::{Access, digest};
use kvstore_client::{Client, ClientConfig, KvPut, Wait, types};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::{Agent, settings};

fn client(agent: &Agent) -> Client {
    Client::new(&ClientConfig { addresses: vec![agent.base.clone()], ..ClientConfig::default() }).unwrap()
}

/// Sends bytes as they are and gives the status and the whole reply; the connection is closed after the first answer.
async fn raw(agent: &Agent, request: &[u8]) -> (u16, String) {
    exchange(agent, request, false).await
}

/// As [`raw`]; with `hang_up` the client will send no more, so that an unfinished request is not waited for.
async fn exchange(agent: &Agent, request: &[u8], hang_up: bool) -> (u16, String) {
    let mut stream = TcpStream::connect(agent.base.trim_start_matches("http://")).await.unwrap();
    // The server may refuse before it has read everything.
    let _ = stream.write_all(request).await;
    if hang_up {
        let _ = stream.shutdown().await;
    }
    let mut reply = Vec::new();
    // A reset after the answer is an end too.
    let read = stream.read_to_end(&mut reply);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await.expect("an answer in time");
    let text = String::from_utf8_lossy(&reply).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, text)
}

async fn send(agent: &Agent, method: &str, path: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    raw(agent, format!("{head}{body}").as_bytes()).await
}

async fn put(client: &Client, key: &str, value: &'static str) {
    assert!(client.kv_put(key, value, KvPut::default()).await.unwrap());
}

fn web(port: u16, status: &str) -> types::ServiceRegistration {
    types::ServiceRegistration {
        id: format!("web-{port}"),
        name: "web".into(),
        port,
        check: Some(types::CheckRegistration {
            status: Some(status.into()),
            ..types::CheckRegistration::ttl(Duration::from_mins(1))
        }),
        ..types::ServiceRegistration::default()
    }
}

#[tokio::test]
async fn what_the_owner_closed_is_refused_and_his_headers_are_on_every_answer() {
    let mut settings = settings("n");
    settings.guard.blocked = vec!["/v1/agent/maintenance".into()];
    settings.guard.writers = vec!["192.0.2.0/24".parse().unwrap()];
    settings.guard.headers.insert("x-frame-options", "DENY".parse().unwrap());
    let agent = Agent::with(settings).await;
    for (method, path, want, says) in [
        ("PUT", "/v1/agent/maintenance?enable=true", 403, "Endpoint is blocked by agent configuration"),
        ("PUT", "/v1/kv/a", 403, "Access is restricted"),
        ("DELETE", "/v1/kv/a", 403, "Access is restricted"),
        ("GET", "/v1/agent/check/pass/x", 403, "Access is restricted"),
        ("GET", "/v1/kv/a", 404, ""),
        ("GET", "/v1/agent/self", 200, "Config"),
        ("GET", "/v1/nope", 404, "Invalid URL path"),
    ] {
        let (status, reply) = send(&agent, method, path, "").await;
        assert_eq!(status, want, "{method} {path}: {reply}");
        assert!(reply.contains(says) && reply.contains("x-frame-options: DENY"), "{method} {path}: {reply}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_write() {
    let agent = Agent::start("n").await;
    let own = agent.base.trim_start_matches("http://").to_owned();
    for (method, path, origin, want) in [
        ("PUT", "/v1/kv/a", "http://evil.example", 403),
        ("POST", "/v1/query", "http://evil.example", 403),
        ("GET", "/v1/agent/check/pass/x", "http://evil.example", 403),
        ("GET", "/v1/snapshot", "http://evil.example", 403),
        ("GET", "/v1/agent/self", "http://evil.example", 200),
        ("PUT", "/v1/kv/a", &*format!("http://{own}"), 200),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {own}\r\nOrigin: {origin}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        let (status, reply) = raw(&agent, request.as_bytes()).await;
        assert_eq!(status, want, "{method} {path} from {origin}: {reply}");
    }
}

#[tokio::test]
async fn tokens_can_be_exchanged_while_it_runs() {
    let mut settings = settings("n");
    let only = |secret: &str| Access { readers: vec![digest("reader")], writers: vec![digest(secret)], acl: None };
    settings.guard.access = only("old");
    let (agent, reread) = Agent::with_reread(settings).await;
    let put = |token: &'static str| {
        let path = format!("/v1/kv/a?token={token}");
        let agent = &agent;
        async move { send(agent, "PUT", &path, token).await.0 }
    };
    assert_eq!((put("old").await, put("new").await, put("reader").await), (200, 403, 403));
    let index = send(&agent, "GET", "/v1/kv/a?token=old", "").await.1;
    let index = index.split_once("x-consul-index: ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    let waiting = format!("/v1/kv/a?token=old&wait=30s&index={index}");
    let (waited, ()) = tokio::join!(send(&agent, "GET", &waiting, ""), async {
        reread.lock().unwrap().guard.access = only("new");
        assert_eq!(send(&agent, "PUT", "/v1/agent/reload?token=old", "").await.0, 200);
        assert_eq!((put("old").await, put("new").await), (403, 200));
    });
    assert_eq!(waited.0, 403, "who waited with a token that no longer counts: {}", waited.1);
    let (status, reply) = send(&agent, "GET", "/v1/agent/self", "").await;
    assert!(status == 403 && reply.contains("a token is needed"), "{reply}");
    assert!(reply.contains("x-consul-default-acl-policy: deny"), "{reply}");
}

#[tokio::test]
async fn a_blocking_query_ends_with_the_change_it_waits_for() {
    let agent = Agent::start("n").await;
    let registry = client(&agent);
    put(&registry, "a/b", "1").await;
    let index = registry.kv_get("a/b", None).await.unwrap().index;
    let wait = Some(Wait { index, wait: Duration::from_secs(30) });
    let key = tokio::spawn({
        let registry = registry.clone();
        async move { registry.kv_get("a/b", wait).await.unwrap() }
    });
    let prefix = tokio::spawn({
        let registry = registry.clone();
        async move { registry.kv_list("a/", wait).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    put(&registry, "other", "x").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!key.is_finished() && !prefix.is_finished(), "an unrelated key wakes nobody");
    registry.kv_delete("a/b", false, None).await.unwrap();
    let (key, prefix) = (key.await.unwrap(), prefix.await.unwrap());
    assert!(key.value.is_none() && key.index > index, "the deletion shows");
    assert!(prefix.value.is_empty() && prefix.index > index);
}

#[tokio::test]
async fn what_a_check_says_does_not_wake_who_waits_for_passing_instances() {
    let agent = Agent::start("n").await;
    let registry = client(&agent);
    registry.register_service(&web(80, "passing")).await.unwrap();
    let read = registry.health_service("web", true, None).await.unwrap();
    let wait = Some(Wait { index: read.index, wait: Duration::from_secs(30) });
    let waiting = tokio::spawn({
        let registry = registry.clone();
        async move { registry.health_service("web", true, wait).await.unwrap() }
    });
    let report = |status: &str, output: &str| types::CheckUpdate { status: status.into(), output: output.into() };
    registry.update_check("service:web-80", &report("passing", "still fine")).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    registry.update_check("service:web-80", &report("critical", "not at all")).await.unwrap();
    assert!(waiting.await.unwrap().value.is_empty());
}

#[tokio::test]
async fn waiting_ends_in_time_and_an_index_from_another_life_is_answered_at_once() {
    let agent = Agent::start("n").await;
    let registry = client(&agent);
    put(&registry, "k", "1").await;
    let index = registry.kv_get("k", None).await.unwrap().index;
    let started = Instant::now();
    let short = Some(Wait { index, wait: Duration::from_millis(200) });
    assert_eq!(registry.kv_get("k", short).await.unwrap().index, index);
    assert!(started.elapsed() >= Duration::from_millis(200));
    let ahead = Some(Wait { index: index + 1_000_000, wait: Duration::from_secs(30) });
    let started = Instant::now();
    assert_eq!(registry.kv_get("k", ahead).await.unwrap().index, index);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_stop_answers_who_waits() {
    let agent = Agent::start("n").await;
    let registry = client(&agent);
    put(&registry, "k", "1").await;
    let index = registry.kv_get("k", None).await.unwrap().index;
    let wait = Some(Wait { index, wait: Duration::from_mins(5) });
    let waiting = tokio::spawn(async move { registry.kv_get("k", wait).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    agent.stop().await;
    assert_eq!(waiting.await.unwrap().unwrap().index, index);
}

#[tokio::test]
async fn bad_requests_are_refused_in_words() {
    let agent = Agent::start("n").await;
    let long = "x".repeat(600 * 1024);
    for (method, path, body, status, says) in [
        ("GET", "/v1/nope", "", 404, "not a recognized HTTP API endpoint"),
        ("GET", "/nope", "", 404, "ensure the path starts with '/v1/'"),
        ("POST", "/v1/agent/self", "", 405, "method POST not allowed"),
        ("DELETE", "/v1/status/leader", "", 405, "method DELETE not allowed"),
        ("GET", "/v1/kv/%zz", "", 400, "%XX"),
        ("GET", "/v1/kv/%ff", "", 400, "%XX"),
        ("GET", "/v1/kv/a?x=%zz", "", 400, "%XX"),
        ("GET", "/v1/kv/", "", 400, "Missing key name"),
        ("GET", "/v1/kv/a?index=x", "", 400, "Invalid index"),
        ("GET", "/v1/kv/a?index=1&wait=10", "", 400, "\"10\" is not a duration"),
        ("GET", "/v1/kv/a?stale&consistent", "", 400, "conflicting semantics"),
        ("GET", "/v1/kv/a?dc=elsewhere", "", 500, "No path to datacenter"),
        ("PUT", "/v1/kv/a?cas=x", "1", 500, "invalid syntax"),
        ("PUT", "/v1/kv/a?cas=1&acquire=z", "1", 400, "Conflicting flags: acquire=z&cas=1"),
        ("PUT", "/v1/kv/a", &long, 413, "614400 bytes) too large, max size: 524288 bytes"),
        ("PUT", "/v1/agent/service/register", "{", 400, "Request decode failed: unexpected EOF"),
        ("PUT", "/v1/agent/service/register", "{\"Nam\":1}", 400, "json: unknown field \"Nam\""),
        ("PUT", "/v1/agent/service/register", "{}", 400, "Missing service name"),
        ("PUT", "/v1/agent/service/deregister/x", "", 404, "Unknown service ID \"x\""),
        ("PUT", "/v1/agent/check/pass/x", "", 404, "Unknown check ID \"x\""),
        ("PUT", "/v1/catalog/register", "{}", 500, "Must provide node"),
        ("GET", "/v1/catalog/service/", "", 400, "Missing service name"),
        ("GET", "/v1/health/state/", "", 400, "Missing check state"),
    ] {
        let (got, reply) = send(&agent, method, path, body).await;
        assert!(got == status && reply.contains(says), "{method} {path}: {status} {says:?} wanted, got {reply}");
    }
    let (status, reply) = send(&agent, "OPTIONS", "/v1/kv/a", "").await;
    assert!(status == 200 && reply.contains("OPTIONS,GET,PUT,DELETE"), "{reply}");
    let (status, reply) = send(&agent, "HEAD", "/v1/status/leader", "").await;
    assert!(status == 200 && reply.ends_with("\r\n\r\n"), "{reply}");
}

#[tokio::test]
async fn hostile_bytes_end_their_connection_and_nothing_else() {
    let agent = Agent::start("n").await;
    let chunk = "x".repeat(64 * 1024);
    let chunked = format!("10000\r\n{chunk}\r\n").repeat(10);
    let head = "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (status, reply) = raw(&agent, format!("{head}{chunked}0\r\n\r\n").as_bytes()).await;
    assert!(status == 413, "a chunked body is measured too: {reply}");
    let endless = "a".repeat(100_000);
    for bytes in [&b"\0\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", endless.as_bytes()] {
        let (status, reply) = exchange(&agent, bytes, true).await;
        assert!(matches!(status, 0 | 400 | 414 | 431), "{reply}");
    }
    let deep = "[".repeat(200_000);
    assert_eq!(send(&agent, "PUT", "/v1/catalog/register", &deep).await.0, 400);
    let (status, _) = send(&agent, "GET", "/v1/status/leader", "").await;
    assert_eq!(status, 200, "the agent goes on");
}

#[tokio::test]
async fn who_sends_too_much_hears_so_once_all_is_sent() {
    let agent = Agent::start("n").await;
    let (long, chunk) = ("x".repeat(6 << 20), "x".repeat(1 << 20));
    let declared = format!("Content-Length: {}\r\n\r\n{long}", long.len());
    let chunked =
        "Transfer-Encoding: chunked\r\n\r\n".to_owned() + &format!("100000\r\n{chunk}\r\n").repeat(6) + "0\r\n\r\n";
    for body in [declared, chunked] {
        let request = format!("PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{body}");
        let mut stream = TcpStream::connect(agent.base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(request.as_bytes()).await.expect("it is taken to its end");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.expect("the connection ends in order");
        assert!(reply.starts_with("HTTP/1.1 413 "), "{reply}");
    }
}

#[tokio::test]
async fn heads_are_bounded() {
    let agent = Agent::start("n").await;
    let get = |path: &str, headers: &str| {
        format!("GET /v1/kv/{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").into_bytes()
    };
    let long = "x".repeat(200 << 10);
    for (request, want) in [
        (get(&long[..60 << 10], ""), 404),
        (get(&long, ""), 431),
        (get("a", &format!("X-Long: {}\r\n", &long[..100 << 10])), 404),
        (get("a", &format!("X-Long: {long}\r\n")), 431),
        (get("a", &"X-Many: x\r\n".repeat(1000)), 431),
    ] {
        let (status, reply) = raw(&agent, &request).await;
        assert_eq!(status, want, "{reply}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_never_finishes_a_request_is_cut_off() {
    let agent = Agent::start("n").await;
    let head = "PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n";
    for (request, want) in [(format!("{head}\r\nhalf"), 408), (head.to_owned(), 0), (String::new(), 0)] {
        let mut stream = TcpStream::connect(agent.base.trim_start_matches("http://")).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.unwrap();
        assert_eq!(reply.split(' ').nth(1).map_or(0, |status| status.parse().unwrap()), want, "{request}: {reply}");
    }
}

#[tokio::test]
async fn nothing_but_the_files_of_the_web_ui_is_below_its_path() {
    let agent = Agent::start("n").await;
    for path in [
        "/ui/../../../../etc/passwd",
        "/ui/..%2f..%2f..%2f..%2fetc/passwd",
        "/ui/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/ui/..\\..\\..\\etc\\passwd",
        "/ui//etc/passwd",
        "/ui/app.js%00.html",
        "/ui/app.js/../../Cargo.toml",
        "/ui/....//....//etc/passwd",
    ] {
        let (status, reply) = send(&agent, "GET", path, "").await;
        assert!(matches!(status, 301 | 404), "{path}: {reply}");
        assert!(!reply.contains("root:"), "{path}: {reply}");
        if let Some((_, location)) = reply.split_once("location: ") {
            assert!(location.starts_with('/') && !location.starts_with("//"), "{path} stays on this host: {reply}");
        }
    }
    assert_eq!(send(&agent, "GET", "/ui/app.js", "").await.0, 200);
}

#[tokio::test]
async fn a_value_is_kept_to_the_bit() {
    let agent = Agent::start("n").await;
    let registry = client(&agent);
    for (key, value) in
        [("bin", &b"\x00\xff\r\n\"\\"[..]), ("a//b c/%2F?#", b"x"), ("\u{e4}\u{1f6a2}", "\u{fc}".as_bytes())]
    {
        let put = KvPut { flags: u64::MAX, cas: Some(0), ..KvPut::default() };
        assert!(registry.kv_put(key, value.to_vec(), put).await.unwrap(), "{key}");
        assert!(!registry.kv_put(key, value.to_vec(), put).await.unwrap(), "{key} is there now");
        let got = registry.kv_get(key, None).await.unwrap().value.unwrap();
        assert_eq!((got.key.as_str(), &got.value[..], got.flags), (key, value, u64::MAX));
    }
}

#[tokio::test]
async fn a_unix_socket_serves_the_same_api() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let mut settings = settings("n");
    settings.http.push(kvstore::config::HttpAddr::Unix(path.clone()));
    let agent = Agent::with(settings).await;
    let addresses = vec![format!("unix://{}", path.display())];
    let local = Client::new(&ClientConfig { addresses, ..ClientConfig::default() }).unwrap();
    put(&local, "k", "v").await;
    assert_eq!(client(&agent).kv_get("k", None).await.unwrap().value.unwrap().value, "v");
    agent.stop().await;
    assert!(!path.exists(), "the socket file goes with the agent");
}

#[tokio::test]
async fn a_host_that_lost_its_id_takes_over_its_name_and_keeps_its_services() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings("n");
    settings.engine = kvstore::config::Engine::Embedded { data_dir: dir.path().into() };
    let first = Agent::with(settings.clone()).await;
    client(&first).register_service(&web(80, "passing")).await.unwrap();
    first.stop().await;

    settings.node_id = "22222222-2222-4222-8222-222222222222".into();
    let second = Agent::with(settings.clone()).await;
    let found = client(&second).health_service("web", true, None).await.unwrap().value;
    assert_eq!(found.len(), 1, "the service survives the restart");
    assert_eq!(found[0].node.id, settings.node_id);
    second.stop().await;
}

#[tokio::test]
async fn a_catalog_check_with_a_ttl_turns_critical_unless_it_is_put_again() {
    let agent = Agent::start("n").await;
    let registry = client(&agent);
    let ttl = Some(kvstore_client::GoDuration(Duration::from_millis(1500)));
    let check = types::HealthCheck {
        check_id: "alive".into(),
        status: types::CheckStatus::Passing,
        definition: types::CheckDefinition { ttl, ..types::CheckDefinition::default() },
        ..types::HealthCheck::default()
    };
    let host = types::CatalogRegistration {
        node: "host".into(),
        address: "10.0.0.1".into(),
        checks: vec![check],
        ..types::CatalogRegistration::default()
    };
    registry.catalog_register(&host).await.unwrap();
    let before = registry.health_node("host", None).await.unwrap();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        registry.catalog_register(&host).await.unwrap();
    }
    assert_eq!(registry.health_node("host", None).await.unwrap(), before, "a renewal changes nothing");
    let wait = Some(Wait { index: before.index, wait: Duration::from_secs(20) });
    let lapsed = registry.health_node("host", wait).await.unwrap().value;
    assert_eq!(lapsed[0].status, types::CheckStatus::Critical);
    registry.catalog_register(&host).await.unwrap();
    assert_eq!(registry.health_node("host", None).await.unwrap().value[0].status, types::CheckStatus::Passing);
}

#[tokio::test]
async fn a_caller_is_told_of_instances_of_its_own_version() {
    let agent = Agent::start("n").await;
    let registry = client(&agent);
    let instance = |name: &str, id: &str, address: &str, version: &str| types::ServiceRegistration {
        id: id.into(),
        name: name.into(),
        address: address.into(),
        port: 80,
        meta: [("version".to_owned(), version.to_owned())].into(),
        ..types::ServiceRegistration::default()
    };
    for (name, id, address, version) in [
        ("web", "web-1", "172.17.0.2", "v1"),
        ("web", "web-2", "172.17.0.3", "v2"),
        ("api", "api-1", "172.17.0.4", "v1"),
        ("api", "api-2", "172.17.0.5", "v2"),
    ] {
        registry.register_service(&instance(name, id, address, version)).await.unwrap();
    }
    let ids = async |query: &str| {
        let (status, reply) = send(&agent, "GET", &format!("/v1/health/service/api?passing{query}"), "").await;
        assert_eq!(status, 200, "{reply}");
        let ids = ["api-1", "api-2"].into_iter().filter(|id| reply.contains(&format!("\"ID\":\"{id}\"")));
        ids.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(ids("").await, "api-1 api-2");
    assert_eq!(ids("&for=172.17.0.2").await, "api-1");
    assert_eq!(ids("&for=172.17.0.3").await, "api-2");
    assert_eq!(ids("&for=192.0.2.1").await, "api-1 api-2", "nobody's address");
    assert_eq!(send(&agent, "GET", "/v1/health/service/api?for=web", "").await.0, 400);

    // Who waits is woken by a release, and by the caller's own change.
    let index = async |url: &str| {
        let headers = reqwest::get(url).await.unwrap().headers().clone();
        headers["x-consul-index"].to_str().unwrap().to_owned()
    };
    let get = |url: String| tokio::spawn(async move { reqwest::get(url).await.unwrap().text().await.unwrap() });
    let url = |from: &str| format!("{}/v1/health/service/api?passing&for={from}", agent.base);
    let (stranger, old) = (url("192.0.2.1"), url("172.17.0.2"));
    let (soon, a_moment) = (Duration::from_secs(10), Duration::from_millis(200));
    let waiting = get(format!("{stranger}&index={}&wait=30s", index(&stranger).await));
    tokio::time::sleep(a_moment).await;
    put(&registry, "release/api", "v2").await;
    let reply = tokio::time::timeout(soon, waiting).await.expect("in time").unwrap();
    assert!(reply.contains("api-2") && !reply.contains("api-1"), "{reply}");
    let waiting = get(format!("{stranger}&index={}&wait=30s", index(&stranger).await));
    tokio::time::sleep(a_moment).await;
    put(&registry, "callers/n/192.0.2.1/job", "v1").await;
    let reply = tokio::time::timeout(soon, waiting).await.expect("in time").unwrap();
    assert!(reply.contains("api-1") && !reply.contains("api-2"), "{reply}");
    let waiting = get(format!("{old}&index={}&wait=30s", index(&old).await));
    tokio::time::sleep(a_moment).await;
    assert!(!waiting.is_finished());
    registry.register_service(&instance("web", "web-1", "172.17.0.2", "v2")).await.unwrap();
    let reply = tokio::time::timeout(soon, waiting).await.expect("in time").unwrap();
    assert!(reply.contains("api-2") && !reply.contains("api-1"), "{reply}");
}

/// Only the files of the UI are below `/ui/`, however a path is spelled.
#[tokio::test]
async fn no_path_leads_out_of_the_ui() {
    let agent = Agent::start("n").await;
    assert_eq!(send(&agent, "GET", "/ui/app.js", "").await.0, 200);
    for path in [
        "/ui/../Cargo.toml",
        "/ui/../../../../../etc/passwd",
        "/ui/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/ui/..%2f..%2f..%2fetc%2fpasswd",
        "/ui/..%5c..%5cetc%5cpasswd",
        "/ui/%252e%252e/etc/passwd",
        "/ui//etc/passwd",
        "/ui/./../etc/passwd",
        "/ui/app.js/../../etc/passwd",
        "/ui/app.js%00.html",
        "/ui/app.js/",
    ] {
        let (status, text) = send(&agent, "GET", path, "").await;
        assert!(matches!(status, 301 | 400 | 404), "{path}: {status} {text}");
        assert!(!text.contains("root:") && !text.contains("[package]"), "{path}: {text}");
    }
}
