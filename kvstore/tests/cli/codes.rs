//! Exit codes, of every command there is: 0 done, 1 failed, 2 the command is wrong.

use std::{fs, net::TcpListener, path::Path};

use crate::harness::*;

/// What a command line is tried with; in this order, against one agent.
struct Case {
    line: &'static str,
    /// The code with an agent; none if it ends with the agent only.
    code: Option<i32>,
    /// Whether it asks the agent, and so fails without one.
    asks: bool,
}

const fn asks(line: &'static str, code: i32) -> Case {
    Case { line, code: Some(code), asks: true }
}

const fn alone(line: &'static str, code: i32) -> Case {
    Case { line, code: Some(code), asks: false }
}

/// DIR, SESSION and AGENT are filled in.
const CASES: &[Case] = &[
    Case { line: "agent --dev", code: None, asks: false },
    asks("kv put a 1", 0),
    asks("kv put --cas --modify-index 1 a 1", 1),
    asks("kv get a", 0),
    asks("kv get absent", 1),
    asks("kv export", 0),
    asks(r#"kv import [{"key":"b","flags":0,"value":""}]"#, 0),
    alone("kv import {", 1),
    asks("kv delete a", 0),
    asks("catalog datacenters", 0),
    asks("catalog nodes", 0),
    asks("catalog nodes --service absent", 1),
    asks("catalog services", 0),
    asks("catalog services --node absent", 1),
    asks("services register --name web", 0),
    asks("services deregister --id web", 0),
    asks("services deregister --id web", 1),
    asks("session list", 0),
    asks("session info SESSION", 0),
    asks("session renew SESSION", 0),
    asks("session create --ttl 1ns", 1),
    asks("session create", 0),
    asks("session destroy SESSION", 0),
    asks("session destroy SESSION", 1),
    asks(r#"query create {"Name":"q","Service":{"Service":"web"}}"#, 0),
    alone(r#"query create {"Nmae":"q"}"#, 2),
    asks("query list", 0),
    asks("query read q", 0),
    asks("query execute q", 0),
    asks("query explain q", 0),
    asks(r#"query update q {"Name":"r","Service":{"Service":"web"}}"#, 0),
    asks("query delete r", 0),
    asks("query delete r", 1),
    // This agent has no access control; with it, `acl.rs` tries them.
    asks("acl bootstrap", 1),
    asks("acl token create", 1),
    alone("acl token create --expires-ttl soon", 2),
    asks("acl token read --self", 1),
    asks("acl token list", 1),
    asks("acl token update --id x", 1),
    asks("acl token clone --id x", 1),
    asks("acl token delete --id x", 1),
    asks("acl policy create --name p", 1),
    asks("acl policy read --name p", 1),
    asks("acl policy list", 1),
    asks("acl policy update --name p", 1),
    asks("acl policy delete --name p", 1),
    asks("release web v2", 0),
    asks("release web --history", 0),
    asks("release web --clear", 0),
    asks("release", 0),
    asks("release absent", 1),
    asks("lock l true", 0),
    asks("lock l false", 0),
    asks("lock --child-exit-code l false", 2),
    asks("lock l /no/such/program -x", 1),
    asks("watch --type nodes", 0),
    asks("watch --type nodes false", 1),
    asks("event --name e", 0),
    asks("event --name e --tag blue", 1),
    asks("snapshot save DIR/snap", 0),
    alone("snapshot inspect DIR/snap", 0),
    alone("snapshot inspect DIR/absent", 1),
    asks("snapshot restore DIR/snap", 0),
    asks("migrate --from AGENT", 0),
    asks("maint", 0),
    asks("maint --enable --service absent", 1),
    asks("members", 0),
    asks("members --status failed", 2),
    asks("join 127.0.0.1", 0),
    asks("join 10.255.0.1", 1),
    asks("force-leave nobody", 1),
    asks("rtt nobody", 1),
    asks("info", 0),
    Case { line: "monitor", code: None, asks: true },
    asks("reload", 0),
    asks("operator raft list-peers", 0),
    alone("tls create --dir DIR/tls", 0),
    alone("tls create --dir DIR/tls", 1),
    alone("validate DIR/good.yaml", 0),
    alone("validate DIR/bad.yaml", 1),
    alone("completions bash", 0),
    alone("reference metrics", 0),
    alone("reference nothing", 2),
    alone("man DIR/pages", 0),
    alone("man /proc/nowhere", 1),
    alone("version", 0),
    asks("leave", 0),
];

/// The commands without commands of their own, by the names of their manual pages.
fn leaves(dir: &Path) -> Vec<String> {
    assert!(run(&["man", dir.to_str().unwrap()]).status.success());
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let pages: Vec<_> =
        names.filter_map(|name| Some(name.strip_prefix("kvstore-")?.strip_suffix(".1")?.to_owned())).collect();
    let is_leaf = |page: &&String| !pages.iter().any(|other| other.starts_with(&format!("{page}-")));
    pages.iter().filter(is_leaf).filter(|page| !page.contains("help")).cloned().collect()
}

#[test]
fn every_command_ends_with_the_codes_of_its_help() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    fs::write(dir.path().join("good.yaml"), "dev: true\n").unwrap();
    fs::write(dir.path().join("bad.yaml"), "no_such_key: 1\n").unwrap();
    let leaves = leaves(&dir.path().join("man"));
    assert!(leaves.len() > 30, "{leaves:?}");
    let agent = Agent::dev();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let session = agent.ok(&["session", "create"]);
    let mut tried = Vec::new();
    for case in CASES {
        let line = case.line.replace("DIR", path).replace("SESSION", session.trim());
        let line = line.replace("AGENT", &agent.address);
        let words: Vec<_> = line.split(' ').collect();
        let length = (1..=words.len()).find(|n| leaves.contains(&words[..*n].join("-")));
        println!("{line}");
        let (command, rest) = words.split_at(length.unwrap_or_else(|| panic!("{line:?} is no command")));
        tried.push(command.join("-"));
        let wrong = run(&[command, &["--no-such-option"], rest].concat());
        refused(&wrong, 2, &[]);
        if case.asks {
            let away = run(&[command, &["--http-addr", &closed], rest].concat());
            refused(&away, 1, &[&closed]);
        }
        if let Some(code) = case.code {
            let output = agent.command(&words).env("SHELL", "/bin/sh").output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output.stderr));
        }
    }
    let forgotten: Vec<_> = leaves.iter().filter(|leaf| !tried.contains(leaf)).collect();
    assert!(forgotten.is_empty(), "{forgotten:?} have no case");
}

/// An option that does not exist is no program to run.
#[test]
fn a_childs_name_is_no_option() {
    for line in [
        &["watch", "--type", "nodes", "--no-such-option"][..],
        &["watch", "--type", "nodes", "-passing-only", "true"],
        &["lock", "l", "--no-such-option", "true"],
    ] {
        let wrong = line.iter().rev().find(|word| word.starts_with('-')).unwrap();
        refused(&run(line), 2, &[wrong, "is no option"]);
    }
}

/// Whoever reads the manual finds the codes there, too.
#[test]
fn help_and_manual_tell_the_codes() {
    let dir = tempfile::tempdir().unwrap();
    for leaf in leaves(dir.path()) {
        let page = fs::read_to_string(dir.path().join(format!("kvstore-{leaf}.1"))).unwrap();
        assert!(page.contains("Exit code") && page.contains("Example"), "{leaf}: {page}");
    }
    let said = text(&run(&["lock", "--help"]).stdout);
    assert!(said.contains("2 CHILD failed and --child-exit-code was given"), "{said}");
    assert!(text(&run(&["leave", "--help"]).stdout).contains("1 the registry refused or did not answer"));
    let version: serde_json::Value = serde_json::from_str(&text(&run(&["version", "-format=json"]).stdout)).unwrap();
    assert_eq!(version["Version"], env!("CARGO_PKG_VERSION"));
}
