//! Who is woken, and which index they see; the random model in `tests/model` covers the rest.

use crate::{
    Command, Index, State, WatchKey,
    health::Status::{Critical, Passing},
    names::ServiceKey,
    row::{Check, Instance},
    tests::*,
};

fn service(name: &str) -> WatchKey {
    WatchKey::Service(ServiceKey::new(name).unwrap())
}

fn status(name: &str) -> WatchKey {
    WatchKey::ServiceStatus(ServiceKey::new(name).unwrap())
}

/// A host with one instance each of `web` and `db`, `web`'s with a check.
fn two_services() -> State {
    let web = register(node("n", ""), Some(instance("n", "w", "web")), vec![tcp_check("n", "c", "w")]);
    given([web, register(node("n", ""), Some(instance("n", "d", "db")), vec![])])
}

#[test]
fn who_sees_a_change_is_woken_and_nobody_else() {
    let (n, m) = (|| WatchKey::Node(node_key("n")), || WatchKey::NodeChecks(node_key("n")));
    let probe = tcp("10.0.0.1:80");
    let tagged = Instance { tags: vec!["v1".into()], ..instance("n", "d", "db") };
    let noted = Check { notes: "new".into(), ..tcp_check("n", "c", "w") };
    let (checks, services, nodes) = (WatchKey::Checks, WatchKey::Services, WatchKey::Nodes);
    let statuses = || WatchKey::CheckStatuses;
    for (command, woken) in [
        (put("a/b", "1"), vec![WatchKey::Key(key("a/b"))]),
        (probed("n", "c", &probe, Passing, "open"), vec![service("web"), m(), checks.clone()]),
        (probed("n", "c", &probe, Critical, ""), vec![service("web"), status("web"), m(), checks.clone(), statuses()]),
        (
            register(node("n", ""), None, vec![noted]),
            vec![service("web"), status("web"), m(), checks.clone(), statuses()],
        ),
        (register(node("n", ""), Some(tagged), vec![]), vec![service("db"), status("db"), n(), services.clone()]),
        (
            register(node("n", "uuid"), None, vec![]),
            vec![service("web"), status("web"), service("db"), status("db"), n(), nodes.clone()],
        ),
        (
            register(node("n", ""), None, vec![check("n", "host", "")]),
            vec![service("web"), status("web"), service("db"), status("db"), m(), checks.clone(), statuses()],
        ),
        (
            deregister("n/i/w"),
            vec![service("web"), status("web"), n(), m(), checks.clone(), statuses(), services.clone()],
        ),
        (host("other"), vec![WatchKey::Node(node_key("other")), nodes.clone()]),
    ] {
        let touched = carry_out(&mut two_services(), &command);
        assert_eq!(touched, woken.into_iter().collect(), "{command:?}");
    }
}

#[test]
fn a_deletion_is_not_forgotten() {
    let mut state = given([put("a", "1"), put("b", "1"), delete("a"), put("c", "1")]);
    let at = |state: &State, name: &str| state.index_of(&WatchKey::Key(key(name))).0;
    let below = |state: &State, prefix: &str| state.index_of(&WatchKey::KeyPrefix(prefix.into())).0;
    assert_eq!((at(&state, "a"), at(&state, "b"), at(&state, "c"), at(&state, "never")), (103, 102, 104, 100));
    assert_eq!((below(&state, "a"), below(&state, "b"), below(&state, "")), (103, 102, 104));

    // More deletions than are remembered one by one: the oldest stands for all that are not there.
    state.remember_deletions(1);
    carry_out(&mut state, &delete("b"));
    assert_eq!((at(&state, "a"), at(&state, "b"), at(&state, "never")), (103, 105, 103));
    carry_out(&mut state, &put("b", "2"));
    carry_out(&mut state, &delete("c"));
    assert_eq!((at(&state, "a"), at(&state, "b"), at(&state, "c")), (103, 106, 107));

    // A restart forgets single deletions, and says so to everybody.
    let loaded = State::load(state.index(), state.rows());
    assert_eq!((at(&loaded, "a"), at(&loaded, "b"), at(&loaded, "c")), (107, 106, 107));
}

#[test]
fn a_host_that_appears_does_not_turn_back_the_index_of_its_checks() {
    let mut state = given([host("gone"), host("n"), deregister("gone")]);
    let checks = |state: &State| state.index_of(&WatchKey::NodeChecks(node_key("new"))).0;
    assert_eq!(checks(&state), 103);
    carry_out(&mut state, &host("new"));
    assert_eq!(checks(&state), 103);
}

#[test]
fn many_deletions_at_once_keep_the_bound() {
    let mut state = given((0..50).map(|n| put(&format!("k{n}"), "")));
    state.remember_deletions(10);
    let touched = carry_out(&mut state, &Command::KvDeleteTree { prefix: "k".into() });
    assert_eq!(touched.len(), 50);
    assert!((0..50).all(|n| state.index_of(&WatchKey::Key(key(&format!("k{n}")))) == Index(151)));
}

#[test]
fn a_restore_takes_the_place_of_all_there_was_and_wakes_all_who_see_it() {
    let then = two_services();
    let rows: Vec<_> = then.rows().collect();
    let mut state = given([put("a", "1"), put("b", "1"), host("m"), host("n")]);
    let keys = [
        WatchKey::Key(key("a")),
        WatchKey::KeyPrefix(String::new()),
        service("web"),
        status("db"),
        WatchKey::Services,
        WatchKey::Nodes,
        WatchKey::Node(node_key("n")),
        WatchKey::Node(node_key("m")),
        WatchKey::NodeChecks(node_key("n")),
        WatchKey::Checks,
        WatchKey::CheckStatuses,
    ];
    let before = keys.each_ref().map(|key| state.index_of(key));
    let command = Command::Restore { rows: rows.clone(), index: Index(5000) };
    let changes = crate::decide(&state, &command).unwrap().changes;
    let index = changes.index_after(state.index());
    assert_eq!(index, Index(5001), "above all that the snapshot's registry gave out");
    let touched = state.apply(index, &changes);
    for (key, before) in keys.iter().zip(before) {
        assert!(state.index_of(key) > before, "{key:?} went from {before} to {}", state.index_of(key));
        assert!(touched.contains(key) || matches!(key, WatchKey::KeyPrefix(_)), "{key:?}");
    }
    let created = |state: &State| state.rows().map(|row| (row.value, row.created)).collect::<Vec<_>>();
    assert_eq!(created(&state), created(&then));
    assert!(state.rows().all(|row| row.modified == index));
    assert_eq!(state.instances_of(&ServiceKey::new("web").unwrap()).count(), 1, "what is derived is there too");
}
