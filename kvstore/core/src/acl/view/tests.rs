//! What the random model in `tests/model` does not come by: states that are not the next of the last one, and what is
//! shared.

use super::*;
use crate::{
    Command, Index, WatchKey,
    acl::{DefaultPolicy, Rules},
    decide,
    row::Row,
    tests::*,
};

fn view(rules: &str) -> View {
    View::new(Authority::of([&Rules::parse(rules).unwrap()], DefaultPolicy::Deny))
}

fn keys(state: &State) -> Vec<String> {
    state.rows().map(|row| row.value.key().encode()).collect()
}

#[test]
fn a_restored_or_reloaded_state_is_seen_as_if_for_the_first_time() {
    let mut view = view(
        r#"key_prefix "a" { policy = "read" } node_prefix "" { policy = "read" } service "web" { policy = "read" }"#,
    );
    let mut state =
        given([put("a1", "old"), put("b", ""), register(node("n", "id"), Some(instance("n", "w", "web")), vec![])]);
    assert_eq!(keys(&view.at(&state)), ["n/n", "n/n/i/w", "k/a1"]);
    // The same instance is of another service, and the id is of another host.
    let then = given([
        put("a1", "new"),
        put("a2", ""),
        register(node("n", ""), Some(instance("n", "w", "db")), vec![check("n", "c", "w")]),
        register(node("m", "id"), Some(instance("m", "w", "web")), vec![check("m", "c", "w")]),
    ]);
    let command = Command::Restore { rows: then.rows().collect(), index: Index(5000) };
    let changes = decide(&state, &command).unwrap().changes;
    state.apply(changes.index_after(state.index()), &changes);
    let seen = view.at(&state);
    assert_eq!(keys(&seen), ["n/m", "n/n", "n/m/i/w", "n/m/c/c", "k/a1", "k/a2"]);
    assert_eq!(seen.node_by_id.get("id"), Some(&node_key("m")));
    assert_eq!((seen.index(), seen.index_of(&WatchKey::Nodes)), (Index(5001), Index(5001)));

    // Read anew from the disk, at a floor of its own; and then an older one of another life.
    let loaded = State::load(Index(6000), state.rows());
    let seen = view.at(&loaded);
    assert_eq!((keys(&seen).len(), seen.index_of(&WatchKey::Key(key("gone")))), (6, Index(6000)));
    let seen = view.at(&then);
    assert_eq!((keys(&seen), seen.index()), (keys(&view.clone().at(&then)), then.index()));
    assert_eq!(keys(&view.at(&State::empty(Index(1)))), [""; 0]);
}

#[test]
fn rows_are_shared_with_the_whole_and_who_reads_all_is_given_it() {
    let state =
        given([put("a", ""), put("b", ""), Command::PrepareAcl { now: std::time::Duration::ZERO, management: None }]);
    assert!(state.rows().any(|row| matches!(row.value, Row::Policy(_))));
    let seen = view(r#"key "a" { policy = "read" }"#).at(&state);
    assert_eq!(keys(&seen), ["k/a"]);
    assert!(Arc::ptr_eq(seen.key(&key("a")).unwrap(), state.key(&key("a")).unwrap()));
    for authority in [Authority::everything(), Authority::reader()] {
        let seen = View::new(authority).at(&state);
        assert!(seen.kv.ptr_eq(&state.kv) && seen.instances.ptr_eq(&state.instances));
        assert_eq!(keys(&seen), ["k/a", "k/b"], "no tokens and policies");
        assert_eq!(seen.index_of(&WatchKey::Acl), state.index_of(&WatchKey::Acl));
    }
}
