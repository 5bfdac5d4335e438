//! `kvstore acl`: from the first token to one that may little, and what that is refused.

use std::fs;

use serde_json::Value;

use crate::harness::*;

/// An agent that permits nothing without a token.
fn closed() -> (Agent, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("acl.yaml");
    fs::write(&file, "acl: {enabled: true, default_policy: deny}\n").unwrap();
    let config = ["--config-file", file.to_str().unwrap()];
    let agent = ["--dev", "--node", "n1", "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0"];
    (Agent::start(&[&agent[..], &config].concat()), dir)
}

/// The cell after `name:`, as scripts cut it out.
fn field(shown: &str, name: &str) -> String {
    let line = shown.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("{name} in {shown}")).trim().to_owned()
}

/// A command's output as the holder of `secret`.
fn as_holder(agent: &Agent, secret: &str, line: &[&str]) -> std::process::Output {
    agent.command(line).env("CONSUL_HTTP_TOKEN", secret).output().unwrap()
}

fn ok_as(agent: &Agent, secret: &str, line: &[&str]) -> String {
    let output = as_holder(agent, secret, line);
    assert!(output.status.success(), "{line:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn from_bootstrap_to_a_token_that_may_little() {
    let (agent, dir) = closed();
    refused(&agent.run(&["acl", "token", "list"]), 1, &["403", "Permission denied", "--token"]);
    let root = field(&agent.ok(&["acl", "bootstrap"]), "SecretID");
    refused(&agent.run(&["acl", "bootstrap"]), 1, &["403", "acl-bootstrap-reset"]);

    let rules = dir.path().join("app.hcl");
    fs::write(&rules, "key_prefix \"app/\" { policy = \"write\" }\n").unwrap();
    let rules = format!("@{}", rules.display());
    let policy = ok_as(&agent, &root, &["acl", "policy", "create", "-name", "app", "-rules", &rules]);
    assert!(policy.contains("Rules:\nkey_prefix \"app/\" { policy = \"write\" }\n"), "{policy}");
    let line = ["acl", "token", "create", "-description=of the app", "-policy-name=app", "-expires-ttl=1h"];
    let made = ok_as(&agent, &root, &line);
    let (app, id) = (field(&made, "SecretID"), field(&made, "AccessorID"));
    assert!(made.contains(&format!("Policies:\n   {} - app\n", field(&policy, "ID"))), "{made}");
    assert!(!field(&made, "Expiration Time").is_empty());

    ok_as(&agent, &app, &["kv", "put", "app/x", "1"]);
    refused(&as_holder(&agent, &app, &["kv", "put", "other", "1"]), 1, &["403", "key:write", "--token"]);
    refused(&as_holder(&agent, &app, &["acl", "token", "list"]), 1, &["403", "acl:read"]);
    assert_eq!(field(&ok_as(&agent, &app, &["acl", "token", "read", "-self"]), "SecretID"), app);
    for name in ["-id", "-accessor-id"] {
        let shown = ok_as(&agent, &root, &["acl", "token", "read", name, &id]);
        assert_eq!(field(&shown, "SecretID"), "<hidden>");
        assert_eq!(field(&shown, "Description"), "of the app");
    }
    let listed = ok_as(&agent, &root, &["acl", "token", "list"]);
    assert!(listed.lines().any(|line| line.starts_with(&id) && line.contains(" app ")), "{listed}");

    let copy = ok_as(&agent, &root, &["acl", "token", "clone", "-id", &id, "-description", "a copy"]);
    let (copy, copied) = (field(&copy, "SecretID"), field(&copy, "AccessorID"));
    ok_as(&agent, &copy, &["kv", "put", "app/x", "2"]);
    assert_eq!(ok_as(&agent, &root, &["acl", "token", "delete", "-id", &copied]), format!("Token deleted: {copied}\n"));
    refused(&as_holder(&agent, &copy, &["kv", "get", "app/x"]), 1, &["403"]);
    ok_as(&agent, &app, &["kv", "get", "app/x"]);

    ok_as(&agent, &root, &["acl", "policy", "delete", "-name", "app"]);
    refused(&as_holder(&agent, &app, &["kv", "get", "app/x"]), 1, &["403", "key:read"]);
    refused(&as_holder(&agent, &root, &["acl", "policy", "read", "-name", "app"]), 1, &["404", "ACL not found"]);
    refused(&as_holder(&agent, &root, &["acl", "token", "read", "-id", &copied]), 1, &["404", "ACL not found"]);
}

#[test]
fn what_is_not_given_stays() {
    let (agent, dir) = closed();
    let json: Value = serde_json::from_str(&agent.ok(&["acl", "bootstrap", "-format=json"])).unwrap();
    let root = json["SecretID"].as_str().unwrap();
    for name in ["a", "b"] {
        ok_as(&agent, root, &["acl", "policy", "create", "-name", name, "-rules", r#"node "x" { policy = "read" }"#]);
    }
    let read = |line: &[&str]| -> Value {
        serde_json::from_str(&ok_as(&agent, root, &[line, &["-format", "json"]].concat())).unwrap()
    };
    let policy = read(&["acl", "policy", "update", "-name", "b", "-description", "the second"]);
    assert_eq!(policy["Rules"], r#"node "x" { policy = "read" }"#);
    let id = policy["ID"].as_str().unwrap();
    let renamed = read(&["acl", "policy", "update", "-id", id, "-name", "c"]);
    assert_eq!((&renamed["ID"], &renamed["Description"]), (&policy["ID"], &"the second".into()));
    assert_eq!(read(&["acl", "policy", "update", "-name", "c", "-no-merge"])["Rules"], "");
    let listed = ok_as(&agent, root, &["acl", "policy", "list"]);
    assert!(listed.contains("global-management") && listed.lines().any(|line| line.ends_with(" c")), "{listed}");

    let secret = dir.path().join("secret");
    fs::write(&secret, "a9b4ae4c-ef0e-4b1c-8f0c-2c4a4a5f0d11\n").unwrap();
    let accessor = "6a1253d2-1785-4fd9-91c2-f8e78c745511";
    let file = format!("@{}", secret.display());
    let line = ["acl", "token", "create", "-accessor", accessor, "-secret", &file, "-local", "-policy-name", "a"];
    let token = read(&[&line[..], &["-description", "old"]].concat());
    assert_eq!((&token["AccessorID"], &token["Local"]), (&accessor.into(), &true.into()));
    assert_eq!(token["SecretID"], "a9b4ae4c-ef0e-4b1c-8f0c-2c4a4a5f0d11");
    let names = |token: &Value| -> Vec<String> {
        let policies = token["Policies"].as_array().unwrap().iter();
        policies.map(|policy| policy["Name"].as_str().unwrap().to_owned()).collect()
    };
    let update = ["acl", "token", "update", "-id", accessor];
    let more = read(&[&update[..], &["-merge-policies", "-policy-id", id]].concat());
    assert_eq!((names(&more), &more["Description"]), (vec!["a".into(), "c".into()], &"old".into()));
    assert_eq!(names(&read(&[&update[..], &["-description", "new"]].concat())), ["a", "c"]);
    assert_eq!(names(&read(&[&update[..], &["-policy-name", "c"]].concat())), ["c"]);
    let bare = read(&[&update[..], &["-no-merge"]].concat());
    assert_eq!((names(&bare).len(), &bare["Description"]), (0, &"".into()));
}

#[test]
fn mistakes_are_told() {
    let (agent, _dir) = closed();
    let root = field(&agent.ok(&["acl", "bootstrap"]), "SecretID");
    let refused_as = |line: &[&str], code, words: &[&str]| refused(&as_holder(&agent, &root, line), code, words);
    refused_as(&["acl", "policy", "create", "-name", "x", "-rules", "key {"], 1, &["400", "line 1"]);
    refused_as(&["acl", "policy", "create", "-name", "x", "-rules", "@/no/such/file"], 1, &["/no/such/file"]);
    refused_as(&["acl", "policy", "read"], 2, &["--id", "--name"]);
    refused_as(&["acl", "token", "create", "-policy-name", "absent"], 1, &["400", "absent"]);
    refused_as(&["acl", "token", "read"], 2, &["--id"]);
    refused_as(&["acl", "token", "update", "-id", "x", "-merge-policies", "-no-merge"], 2, &["--no-merge"]);

    let open = Agent::dev();
    refused(&open.run(&["acl", "bootstrap"]), 1, &["401", "ACL support disabled", "acl.enabled"]);
}
