//! Whatever answers a replica, none of it panics; changes that are taken are told on as they came, and a state that they
//! are made to can be stored.

use kvstore_core::{State, row::Row};

use super::*;

fn row(key: &str, value: &str) -> Op {
    let row = Row::decode_unstamped(key, value.as_bytes(), Index(1)).expect("a row").value;
    Op::Put(Put { row, created: Some(Index(3)) })
}

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let ops = [
        vec![
            row("n/h", r#"{"name":"h","address":"10.0.0.1"}"#),
            row("k/a", r#"{"key":"a","value":{"base64":"/wA="}}"#),
        ],
        vec![
            row("n/h/i/web", r#"{"node":"h","id":"web","service":"web","port":80,"tags":["a"]}"#),
            row("n/h/c/c", r#"{"node":"h","id":"c","status":"passing","service":"web"}"#),
            row(
                "s/11111111-1111-4111-8111-000000000001",
                r#"{"id":"11111111-1111-4111-8111-000000000001","node":"h","lock_delay":0,"behavior":"delete","node_checks":[],"service_checks":[]}"#,
            ),
        ],
        vec![Op::Delete(RowKey::decode("k/a").expect("a key")), Op::DeleteRange(RowRange::KvPrefix("x/".into()))],
        vec![Op::Delete(RowKey::decode("n/h").expect("a key")), Op::DeleteRange(RowRange::All)],
    ];
    let commit =
        |(n, ops)| encode(&Commit { index: Index(5 + n as u64), changes: Changes { ops, ..Changes::default() } });
    let lines: Vec<_> = ops.into_iter().enumerate().map(commit).collect();
    let head = |index| Head::new(Position { life: Life(7), index: Index(index) }, vec![Life(1)], true);
    vec![answer(&head(10), &lines).into(), answer(&head(10), &lines[..2]).into(), answer(&head(1), &[]).into()]
}

/// One input.
pub fn check(data: &[u8]) {
    let Ok((head, commits)) = decode(data) else { return };
    let lines: Vec<_> = commits.iter().map(encode).collect();
    let (again, told) = decode(&answer(&head, &lines)).expect("what was taken is told on");
    let same = |(a, b): (&Commit, &Commit)| (a.index, &a.changes) == (b.index, &b.changes);
    assert!(again == head && told.len() == commits.len() && told.iter().zip(&commits).all(same));
    // Whoever follows looks at this.
    let mut state = State::empty(Index(0));
    if commits.first().is_none_or(|commit| commit.index <= state.index()) {
        return;
    }
    for commit in commits {
        state.apply(commit.index, &commit.changes);
    }
    for row in state.rows() {
        let (key, value) = (row.value.key().encode(), row.value.encode(row.created, row.modified));
        assert_eq!(Row::decode(&key, &value).expect("a row"), row);
    }
}
