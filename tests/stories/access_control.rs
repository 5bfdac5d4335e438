//! Where nothing is permitted without a token, each program does its work with one that may what `examples/acl` says, and
//! tells what is lacking while it has none of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use flotilla_tests::{
    dig::dig,
    docker::Dockerd,
    eventually,
    program::{Launch, Program, Ran},
    registry::Registry,
    workspace,
};
use tempfile::TempDir;

use crate::stage::{AGREE_LIMIT as LIMIT, Registrar};

const TEMPLATE: &str =
    "{{ key(path=\"config/greeting\") }}\n{% for i in service(name=\"web\") %}{{ i.port }}\n{% endfor %}";

/// The registry, and the files of whoever set it up.
struct Guarded {
    registry: Registry,
    dir: TempDir,
    root: String,
}

impl Guarded {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        write(dir.path(), "agent.yaml", "acl: {enabled: true, default_policy: deny}\n");
        let file = dir.path().join("agent.yaml").display().to_string();
        let registry = Registry::beyond_consul(&["--strict-consul", "--config-file", &file]).await;
        let mut guarded = Self { registry, dir, root: String::new() };
        guarded.root = guarded.secret(&["acl", "bootstrap"]).await;
        guarded
    }

    async fn try_as(&self, secret: &str, args: &[&str]) -> Ran {
        let launch = Launch::ours("kvstore").env("CONSUL_HTTP_ADDR", self.registry.url());
        launch.env("CONSUL_HTTP_TOKEN", secret).args(args).run(LIMIT).await
    }

    /// A command of who may everything.
    async fn ok(&self, args: &[&str]) -> String {
        self.try_as(&self.root, args).await.ok().unwrap_or_else(|e| panic!("{args:?}: {e}"))
    }

    /// The secret of the token that a command makes.
    async fn secret(&self, args: &[&str]) -> String {
        let token = self.ok(&[args, &["--format", "json"]].concat()).await;
        let token: serde_json::Value = serde_json::from_str(&token).expect("it is JSON");
        token["SecretID"].as_str().expect("a new token shows its secret").to_owned()
    }

    /// A token with the policy of an example.
    async fn token(&self, policy: &str) -> String {
        let rules = format!("@{}", example(policy).display());
        self.ok(&["acl", "policy", "create", "--name", policy, "--rules", &rules]).await;
        self.secret(&["acl", "token", "create", "--policy-name", policy]).await
    }

    fn token_file(&self, program: &str) -> String {
        self.dir.path().join(format!("{program}.token")).display().to_string()
    }

    fn templater(&self) -> Program {
        write(self.dir.path(), "list.tmpl", TEMPLATE);
        write(self.dir.path(), "templater.yaml", "templates: [{source: list.tmpl}]\n");
        let launch = Launch::ours("templater").env("CONSUL_HTTP_ADDR", self.registry.url()).dir(self.dir.path());
        launch.args(["--config", "templater.yaml", "--token-file", "templater.token"]).start()
    }

    async fn written(&self, wanted: &str) {
        eventually!(format!("{wanted:?} is written"), LIMIT, async {
            let text = fs::read_to_string(self.dir.path().join("list")).map_err(|e| e.to_string())?;
            if text == wanted { Ok(()) } else { Err(text) }
        });
    }
}

fn example(policy: &str) -> PathBuf {
    workspace().join(format!("examples/acl/{policy}.hcl"))
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("our own directory");
}

async fn tells(log: impl Fn() -> String, words: &[&str]) {
    eventually!(format!("{words:?} are in the log"), LIMIT, async {
        let log = log();
        if words.iter().all(|word| log.contains(word)) { Ok(()) } else { Err(log) }
    });
}

pub(crate) async fn story() {
    let guarded = Guarded::start().await;
    let dir = guarded.dir.path();
    guarded.ok(&["kv", "put", "config/greeting", "hello"]).await;
    let nothing = guarded.secret(&["acl", "token", "create"]).await;
    for name in ["registrar.token", "templater.token"] {
        write(dir, name, &nothing);
    }
    let dockerd = Dockerd::shared();
    let token_file = guarded.token_file("registrar");
    let container = dockerd.run_web(&["SERVICE_NAME=web", "SERVICE_VERSION=v1"]).await;
    let registrar = Registrar::start(&guarded.registry, dockerd, &["--ip", "127.0.0.1", "--token-file", &token_file]);
    let templater = guarded.templater();
    tells(|| registrar.log(), &["Permission denied", "agent:read", "--token-file"]).await;
    tells(|| templater.log(), &["Permission denied", "key:read", "config/greeting"]).await;

    // The registrar takes up another token by itself.
    let rules = "agent_prefix \"\" { policy = \"read\" }";
    guarded.ok(&["acl", "policy", "create", "--name", "look", "--rules", rules]).await;
    write(dir, "registrar.token", &guarded.secret(&["acl", "token", "create", "--policy-name", "look"]).await);
    tells(|| registrar.log(), &["Permission denied", "service:write", "\"web\""]).await;
    let secrets = [guarded.token("registrar").await, guarded.token("templater").await];
    // So does the templater, but with its next question; lists that it waits for may take a minute.
    drop(templater);
    write(dir, "templater.token", &secrets[1]);
    let templater = guarded.templater();
    guarded.written("hello\n").await;
    write(dir, "registrar.token", &secrets[0]);
    let line = format!("hello\n{}\n", container.port().await);
    guarded.written(&line).await;
    eventually!("callers have their versions", LIMIT, async {
        let keys = guarded.try_as(&guarded.root, &["kv", "get", "--recurse", "callers/"]).await.ok()?;
        if keys.contains(&format!("/{}:v1", container.short())) { Ok(()) } else { Err(keys) }
    });

    // Neither may more.
    for secret in &secrets {
        let ran = guarded.try_as(secret, &["kv", "put", "config/greeting", "bye"]).await;
        assert!(ran.err.contains("Permission denied") && ran.err.contains("key:write"), "{}", ran.err);
    }
    let ran = guarded.try_as(&secrets[1], &["services", "register", "--name", "web"]).await;
    assert!(ran.err.contains("Permission denied") && ran.err.contains("service:write"), "{}", ran.err);

    let ask = async || dig(guarded.registry.dns_port(), "web.service.consul", "A", &[]).await;
    assert!(ask().await.expect("it answers").records.is_empty(), "DNS shows nothing without a token");
    let dns = guarded.token("dns").await;
    let config = format!("acl: {{enabled: true, default_policy: deny, tokens: {{dns: {dns}}}}}\n");
    write(dir, "agent.yaml", &config);
    guarded.ok(&["reload"]).await;
    eventually!("DNS shows what its token may read", LIMIT, async {
        let found = ask().await?.records;
        if found == ["127.0.0.1"] { Ok(()) } else { Err(format!("{found:?}")) }
    });

    // A host without an agent needs its node, too.
    drop(registrar);
    let args = ["--ip", "127.0.0.1", "--node", "far", "--token-file", &token_file];
    let far = Registrar::start(&guarded.registry, dockerd, &args);
    tells(|| far.log(), &["Permission denied", "node:write", "far"]).await;
    let rules =
        fs::read_to_string(example("registrar")).expect("it is there").replace("# node \"NAME\"", "node \"far\"");
    guarded.ok(&["acl", "policy", "update", "--name", "registrar", "--rules", &rules]).await;
    eventually!("the host has its instance", LIMIT, async {
        let found = guarded.try_as(&guarded.root, &["catalog", "services", "--node", "far"]).await.ok()?;
        if found.lines().any(|line| line == "web") { Ok(()) } else { Err(found) }
    });
    for log in [far.log(), templater.log()] {
        assert!(secrets.iter().chain([&nothing]).all(|secret| !log.contains(secret)), "no secret is told:\n{log}");
    }
}
