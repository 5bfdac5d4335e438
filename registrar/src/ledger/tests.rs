use super::*;
use crate::{
    checks::docker_check_id,
    plan::Actual,
    world::tests::{id, named, see, world},
};
use kvstore_client::types::CheckStatus;
use serde_json::json;

const A: &str = "vm:a:80";

fn host(names: &[&str]) -> World {
    let mut world = world();
    for (n, name) in (1..).zip(names) {
        see(&mut world, named(name, n, &json!({})));
    }
    world.set_all_seen();
    world
}

fn refusal(status: u16) -> Error {
    Error::Status { call: "PUT /x".into(), address: "http://r".into(), status, message: "no".into() }
}

fn timeout() -> Error {
    Error::Timeout { call: "PUT /x".into(), address: "http://r".into(), after: Duration::from_secs(1) }
}

/// A ledger that has seen an empty registry, and the time of that.
fn online(world: &World) -> (Ledger, Instant) {
    let (mut ledger, now) = (Ledger::default(), Instant::now());
    ledger.view(Registered::new(), now, world, "view");
    (ledger, now)
}

/// All calls that are made without a failure, as `WHAT ID`.
fn run(ledger: &mut Ledger, world: &World, now: Instant) -> Vec<String> {
    let mut done = Vec::new();
    while let Some(call) = ledger.next(world, now) {
        let what = format!("{:?}", call.action);
        done.push(format!("{} {}", what.split(['(', ' ']).next().unwrap(), call.id));
        assert!(matches!(ledger.done(&call, Ok(()), now), Outcome::Done));
        assert!(done.len() < 100);
    }
    done
}

#[test]
fn nothing_is_called_before_the_registry_is_seen() {
    let world = host(&["a"]);
    let mut ledger = Ledger::default();
    ledger.touch_all(&world, "start");
    assert_eq!(ledger.next(&world, Instant::now()), None);
    let (mut ledger, now) = online(&world);
    assert_eq!(run(&mut ledger, &world, now), [format!("Register {A}")]);
    assert!(ledger.dirty.is_empty() && ledger.busy.is_empty());
}

#[test]
fn registrator_resync_wrote_what_was_there_already() {
    let world = host(&["a", "b", "c"]);
    let (mut ledger, now) = online(&world);
    assert_eq!(run(&mut ledger, &world, now).len(), 3);
    let same = ledger.registered().clone();
    ledger.view(same, now + Duration::from_secs(1), &world, "resync");
    assert_eq!(run(&mut ledger, &world, now + Duration::from_secs(1)), [""; 0]);
}

#[test]
fn one_call_at_a_time_about_one_id() {
    let mut world = host(&["a"]);
    let (mut ledger, now) = online(&world);
    let first = ledger.next(&world, now).unwrap();
    ledger.touch(world.gone(&id("a")).touched, "die");
    assert_eq!(ledger.next(&world, now), None);
    ledger.done(&first, Ok(()), now);
    assert_eq!(run(&mut ledger, &world, now), [format!("Deregister {A}")], "the start that was under way is undone");
}

#[test]
fn calls_are_bounded() {
    let names: Vec<String> = (0..40).map(|n| format!("{n:x}x")).collect();
    let world = host(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let (mut ledger, now) = online(&world);
    let calls: Vec<_> = std::iter::from_fn(|| ledger.next(&world, now)).collect();
    assert_eq!(calls.len(), MAX_CALLS);
    assert_eq!(ledger.next_deadline(), None);
    ledger.done(&calls[0], Ok(()), now);
    assert!(ledger.next(&world, now).is_some());
}

#[test]
fn a_view_that_is_older_than_a_call_does_not_undo_it() {
    let mut world = host(&["a", "b"]);
    let (mut ledger, now) = online(&world);
    let at = |s| now + Duration::from_secs(s);
    let empty = Registered::new();
    run(&mut ledger, &world, at(2));
    ledger.view(empty.clone(), at(1), &world, "view");
    assert_eq!(run(&mut ledger, &world, at(3)), [""; 0]);
    // a call under way counts as newer, too
    ledger.touch(world.gone(&id("a")).touched, "die");
    let call = ledger.next(&world, at(4)).unwrap();
    let old = ledger.registered().clone();
    ledger.done(&call, Ok(()), at(5));
    ledger.view(old, at(4), &world, "view");
    assert_eq!(run(&mut ledger, &world, at(6)), [""; 0]);
    ledger.view(empty, at(7), &world, "view");
    assert_eq!(run(&mut ledger, &world, at(8)), ["Register vm:b:80"], "a newer view counts");
}

#[test]
fn registrator_never_retried() {
    let world = host(&["a"]);
    let (mut ledger, now) = online(&world);
    let at = |s| now + Duration::from_secs(s);
    let call = ledger.next(&world, now).unwrap();
    assert!(matches!(ledger.done(&call, Err(timeout()), at(1)), Outcome::Lost(_)));
    assert_eq!(ledger.next(&world, at(100)), None, "nothing until the registry is back");
    ledger.view(Registered::new(), now, &world, "view");
    assert_eq!(ledger.next(&world, at(100)), None, "a view from before the loss says nothing");
    ledger.view(Registered::new(), at(101), &world, "view");
    assert_eq!(run(&mut ledger, &world, at(101)), [format!("Register {A}")]);
}

#[test]
fn a_refusal_is_told_once_and_retried_ever_more_rarely() {
    let world = host(&["a", "b"]);
    let (mut ledger, now) = online(&world);
    let call = ledger.next(&world, now).unwrap();
    assert!(matches!(ledger.done(&call, Err(refusal(400)), now), Outcome::Refused(Some(_))));
    assert_eq!(run(&mut ledger, &world, now), ["Register vm:b:80"], "others are not held up");
    let mut at = now;
    let mut last = Duration::ZERO;
    for _ in 0..3 {
        let next = ledger.next_deadline().unwrap();
        assert!(next - at > last);
        last = next - at;
        at = next;
        let again = ledger.next(&world, at).unwrap();
        assert!(matches!(ledger.done(&again, Err(refusal(400)), at), Outcome::Refused(None)));
    }
    ledger.touch([A.to_owned()], "update");
    assert!(ledger.next(&world, at).is_some(), "a change of the container is worth an attempt");
}

#[test]
fn a_registry_without_disk_holds_nobody_up_for_ever() {
    let world = host(&["a", "b"]);
    let (mut ledger, now) = online(&world);
    let told = |outcome| match outcome {
        Outcome::Unwilling(error) => error.is_some(),
        other => panic!("{other:?}"),
    };
    let (a, b) = (ledger.next(&world, now).unwrap(), ledger.next(&world, now).unwrap());
    assert!(told(ledger.done(&a, Err(refusal(503)), now)));
    assert!(!told(ledger.done(&b, Err(refusal(503)), now)));
    let later = now + Duration::from_secs(1);
    assert_eq!(run(&mut ledger, &world, later), ["Register vm:a:80", "Register vm:b:80"]);
}

#[test]
fn what_is_gone_already_counts_as_removed() {
    let mut world = host(&["a"]);
    let (mut ledger, now) = online(&world);
    run(&mut ledger, &world, now);
    ledger.touch(world.gone(&id("a")).touched, "die");
    let call = ledger.next(&world, now).unwrap();
    assert!(matches!(ledger.done(&call, Err(refusal(404)), now), Outcome::Done));
    assert!(ledger.next(&world, now).is_none() && ledger.registered().is_empty());
}

#[test]
fn a_missing_check_asks_for_a_new_view() {
    let mut world = host(&[]);
    let healthy = |status: &str| named("a", 1, &json!({"State": {"Health": {"Status": status}}}));
    see(&mut world, healthy("starting"));
    let (mut ledger, now) = online(&world);
    run(&mut ledger, &world, now);
    ledger.touch(see(&mut world, healthy("healthy")).touched, "health_status");
    let call = ledger.next(&world, now).unwrap();
    assert!(matches!(ledger.done(&call, Err(refusal(404)), now), Outcome::Surprise));
    let later = now + Duration::from_secs(2);
    ledger.view(Registered::new(), later, &world, "view");
    assert_eq!(run(&mut ledger, &world, later), [format!("Register {A}")]);
    assert_eq!(ledger.registered()[A].checks[&docker_check_id(A)], CheckStatus::Passing);
}

#[test]
fn the_word_about_a_healthcheck_is_renewed() {
    let mut world = host(&[]);
    see(&mut world, named("a", 1, &json!({"State": {"Health": {"Status": "healthy"}}})));
    let (mut ledger, now) = online(&world);
    run(&mut ledger, &world, now);
    let due = ledger.next_deadline().unwrap();
    assert_eq!(due - now, RENEW_AFTER);
    ledger.renew(due);
    assert_eq!(run(&mut ledger, &world, due), [format!("Report {A}")]);
    assert_eq!(ledger.next_deadline(), Some(due + RENEW_AFTER));
    // after a restart it is repeated soon, since nobody knows when it was last said
    let mut second = Ledger::default();
    second.view(ledger.registered().clone(), now, &world, "view");
    assert_eq!(run(&mut second, &world, now), [""; 0]);
    assert!(second.next_deadline().unwrap() <= now + FIRST_RENEWALS);
}

#[test]
fn a_renewal_that_is_refused_does_not_spin() {
    let mut world = host(&[]);
    see(&mut world, named("a", 1, &json!({"State": {"Health": {"Status": "healthy"}}})));
    let (mut ledger, now) = online(&world);
    run(&mut ledger, &world, now);
    let due = ledger.next_deadline().unwrap();
    ledger.renew(due);
    let call = ledger.next(&world, due).unwrap();
    ledger.done(&call, Err(refusal(403)), due);
    assert!(ledger.next_deadline().unwrap() > due);
}

#[test]
fn ids_of_others_are_left_and_named_until_they_are_free() {
    let mut world = host(&[]);
    see(&mut world, named("a", 1, &json!({"Config": {"Env": ["SERVICE_ID=mine"]}})));
    let (mut ledger, now) = online(&world);
    let foreign: Registered = [("mine".to_owned(), Actual::default())].into();
    ledger.view(foreign, now, &world, "view");
    assert_eq!(run(&mut ledger, &world, now), [""; 0]);
    assert!(ledger.taken().contains_key("mine"));
    ledger.view(Registered::new(), now, &world, "view");
    assert_eq!(run(&mut ledger, &world, now), ["Register mine"]);
    assert!(ledger.taken().is_empty());
}

#[test]
fn ghosts_are_removed_but_not_what_docker_could_not_tell() {
    let mut world = host(&["a"]);
    world.unreadable("bbbbbbbbbbbbbbbb");
    let marked = |container: &str| {
        let mut actual = Actual::default();
        actual.meta.insert("registrar".into(), "DOCK:ER/uuid".into());
        actual.meta.insert(META_CONTAINER.into(), container.into());
        actual
    };
    let (mut ledger, now) = online(&world);
    let seen: Registered =
        [("ghost".to_owned(), marked("cccccccccccc")), ("unread".to_owned(), marked("bbbbbbbbbbbb"))].into();
    ledger.view(seen, now, &world, "view");
    assert_eq!(run(&mut ledger, &world, now), ["Deregister ghost", "Register vm:a:80"]);
}
