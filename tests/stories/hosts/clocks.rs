//! The clocks of two hosts are wrong, one an hour ahead and one an hour behind: nothing that has a time ends sooner or later
//! for it, and what one of them makes or forgets it takes from nobody.

use std::{
    fs,
    time::{Duration, Instant},
};

use flotilla_tests::{
    bed::{Agent, Bed, Cluster},
    eventually,
    program::Launch,
    web, workspace,
};
use kvstore_client::{
    Client, ClientConfig, GoDuration,
    types::{AclToken, CheckStatus},
};
use reqwest::Method;
use tempfile::TempDir;
use tokio::time::sleep;

use super::{
    Lab, by,
    forgotten::{LIFETIME, Taken},
};

const LIMIT: Duration = Duration::from_secs(30);
/// By how much each host's clock is ahead, in seconds.
const AHEAD: [i64; 3] = [0, 3600, -3600];
const ROOT: &str = "11111111-2222-4333-8444-555555555555";
/// The shortest that a token which expires may live.
const TOKEN: Duration = Duration::from_mins(1);
/// Of a check.
const TTL: Duration = Duration::from_secs(5);
/// A lease is counted in whole seconds and looked at twice in one; then it has to be heard of.
const NOTICE: Duration = Duration::from_secs(5);

pub(crate) async fn story() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let mut lab = lab(&dir).await;
    eventually!("all are alive to all", LIMIT, async {
        for host in 0..AHEAD.len() {
            if lab.alive(host).await?.iter().any(|(_, alive)| !alive) {
                return Err(format!("not as host {host} sees it"));
            }
        }
        Ok(())
    });
    let mut tokens = Vec::new();
    let begun = Instant::now();
    for host in 0..AHEAD.len() {
        let token = AclToken { expiration_ttl: Some(GoDuration(TOKEN)), ..AclToken::default() };
        let client = root(&lab, host);
        let made = lab.bed.host(host).run(async move { client.acl_token_create(&token).await }).await;
        tokens.push(made.expect("whoever may everything makes tokens").accessor_id);
    }
    let made = Instant::now();
    // Whoever starts reads all that are there, with its own clock at hand.
    for host in 1..AHEAD.len() {
        lab.agents[host].kill();
        lab.agents[host].start_again(&lab.bed).await;
    }
    check_goes_by_its_ttl(&lab).await;
    assert_eq!(there(&lab, &tokens).await, tokens, "all are there {:?} after the first was made", begun.elapsed());
    let taken = Taken::take(&lab, "skewed").await;
    taken.is_handed_on(&lab, "by clocks that differ", LIFETIME).await;
    while begun.elapsed() < TOKEN {
        let left = there(&lab, &tokens).await;
        // The answer may have taken until it was time.
        assert!(left == tokens || begun.elapsed() >= TOKEN, "{left:?} are left after {:?}", begun.elapsed());
        sleep(Duration::from_millis(500)).await;
    }
    by("tokens are gone", made, TOKEN + NOTICE, async || match there(&lab, &tokens).await {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?} are left")),
    })
    .await;
}

/// Three hosts with those clocks, and an etcd on the first.
async fn lab(dir: &TempDir) -> Lab {
    let library = dir.path().join("clock.so").display().to_string();
    let source = workspace().join("tests/fixtures/clock/clock.c");
    let made = Launch::new("cc").args(["-shared", "-fPIC", "-o", &library]).args([source]).args(["-ldl"]);
    made.run(LIMIT).await.ok().unwrap_or_else(|e| panic!("cc: {e}"));
    let config = dir.path().join("acl.yaml");
    let acl = format!("acl: {{enabled: true, default_policy: allow, tokens: {{initial_management: {ROOT}}}}}\n");
    fs::write(&config, acl).expect("our own directory");
    let config = config.display().to_string();

    let bed = Bed::new(AHEAD.len());
    let cluster = Cluster::start(&bed, &[0]).await;
    let mut agents = Vec::new();
    for (host, ahead) in AHEAD.iter().enumerate() {
        let env =
            [("LD_PRELOAD", library.clone()), ("CLOCK_AHEAD", ahead.to_string()), ("KVSTORE_CONFIG", config.clone())];
        agents.push(Agent::start_in(&bed, host, &cluster.engine(&bed, host), &env).await);
    }
    let lab = Lab { agents, cluster, bed };
    // Or nothing of this would show anything.
    for (host, ahead) in AHEAD.iter().enumerate() {
        let said: jiff::Timestamp = eventually!("a line of its log, with its time", LIMIT, async {
            let log = lab.agents[host].log();
            log.lines().find_map(|line| line.split(' ').next()?.parse().ok()).ok_or(log)
        });
        let is_ahead = said.as_second() - jiff::Timestamp::now().as_second();
        assert!((is_ahead - ahead).abs() < 120, "the clock of host {host} is {is_ahead} s ahead, and not {ahead} s");
    }
    lab
}

/// Who may everything, through the kvstore of a host.
fn root(lab: &Lab, host: usize) -> Client {
    let (addresses, token) = (vec![lab.agents[host].url()], Some(ROOT.to_owned()));
    Client::new(&ClientConfig { addresses, token, ..ClientConfig::default() }).expect("the address is well formed")
}

/// Which of the tokens the host whose clock is right has.
async fn there(lab: &Lab, tokens: &[String]) -> Vec<String> {
    let client = root(lab, 0);
    let all = lab.bed.host(0).run(async move { client.acl_token_list().await }).await.expect("it is listed");
    let has = |token: &&String| all.iter().any(|one| one.accessor_id == **token);
    tokens.iter().filter(has).cloned().collect()
}

/// Two hosts' checks stay passing while they are reported, and are critical to a third when their TTL is over.
async fn check_goes_by_its_ttl(lab: &Lab) {
    let put = async |host: usize, path: &str, body: &str| {
        let (url, body) = (format!("{}/v1/agent/check/{path}", lab.agents[host].url()), body.to_owned());
        let answer = lab.bed.host(host).run(async move { web::send(Method::PUT, &url, body).await }).await;
        let answer = answer.expect("it answers");
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    let status = async |host: usize| {
        let (name, client) = (lab.bed.host(host).name.clone(), lab.agents[0].client.clone());
        let checks = lab.bed.host(0).run(async move { client.health_node(&name, None).await }).await;
        let checks = checks.map_err(|error| error.to_string())?.value;
        checks.iter().find(|check| check.check_id == "ttl").map(|check| check.status).ok_or("no check".to_owned())
    };
    for host in 1..AHEAD.len() {
        put(host, "register", &format!(r#"{{"Name": "ttl", "TTL": "{}s", "Status": "passing"}}"#, TTL.as_secs())).await;
    }
    let start = Instant::now();
    while start.elapsed() < 2 * TTL {
        for host in 1..AHEAD.len() {
            put(host, "pass/ttl", "").await;
            eventually!("the check shows", LIMIT, status(host));
            assert_eq!(status(host).await, Ok(CheckStatus::Passing), "it was reported");
        }
        sleep(Duration::from_millis(300)).await;
    }
    let silent = Instant::now();
    for host in 1..AHEAD.len() {
        let what = format!("a silent check of {} is critical", lab.bed.host(host).name);
        let took = by(&what, silent, TTL + NOTICE, async || match status(host).await? {
            CheckStatus::Critical => Ok(()),
            other => Err(format!("{other:?}")),
        });
        // The last report was a little earlier.
        let took = took.await;
        assert!(took + Duration::from_secs(1) >= TTL, "{what} after {took:?}");
    }
}
