//! What somebody has edited with etcdctl, or a later kvstore has put: the log names each row of it, and all else works.

use crate::{harness::*, moving::server::Server};

/// Rows with what is put there: nonsense, another row's content, a kind that only a later kvstore knows, a row of a known
/// kind as no kvstore writes it. The last is the one that is waited for.
const EDITED: [(&str, &str); 5] = [
    ("z/1", r#"{"key":"1"}"#),
    ("k/swapped", r#"{"key":"good","value":"x"}"#),
    ("n/h9/i/web", r#"{"node":"h9","id":"web","port":"eighty"}"#),
    ("n/h9/c/", "{}"),
    ("k/bad", "{nonsense"),
];

#[test]
fn the_log_names_each_row_that_cannot_be_read_and_the_rest_works() {
    let Some(server) = Server::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let address = format!("etcd://127.0.0.1:{}", server.port);
    let start = |name: &str| {
        let data = dir.path().join(name).display().to_string();
        let listen = ["--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0"];
        Agent::start(&[&["--engine", &address, "--node", name, "--data-dir", &data], &listen[..]].concat())
    };
    let web = r#"{"Node": "h9", "Address": "10.0.0.1", "Service": {"Service": "web", "Port": 80}}"#;
    let first = start("first");
    first.put("/v1/catalog/register", web);
    for key in ["good", "bad", "swapped"] {
        first.put(&format!("/v1/kv/{key}"), "x");
    }
    for (row, text) in EDITED {
        server.ctl(&["put", &format!("/flotilla/rows/{row}"), text]);
    }
    eventually("the last is left out", || first.send("GET", "/v1/kv/bad").0 == 404);
    let second = start("second");
    for agent in [&first, &second] {
        assert_eq!(agent.send("GET", "/v1/kv/?keys"), (200, r#"["good"]"#.to_owned()));
        assert_eq!(agent.send("GET", "/v1/catalog/service/web").1, "[]");
        assert!(
            agent.send("GET", "/v1/catalog/nodes").1.contains(r#""Node":"h9""#),
            "the host itself is a row of its own"
        );
    }
    // Each can be put anew through the API, of whichever kvstore.
    second.put("/v1/kv/bad", "good again");
    first.put("/v1/catalog/register", web);
    for agent in [first, second] {
        eventually("what was put", || agent.send("GET", "/v1/kv/bad?raw") == (200, "good again".to_owned()));
        eventually("what was put", || agent.send("GET", "/v1/catalog/service/web").1.contains("10.0.0.1"));
        let log = agent.stop().1;
        let names = |row: &str| log.lines().any(|line| line.contains("is left out") && line.contains(row));
        let missing: Vec<_> = EDITED.iter().map(|(row, _)| row).filter(|row| !names(row)).collect();
        assert!(missing.is_empty(), "{missing:?} are not named:\n{log}");
    }
}
