use super::*;
use crate::{container::tests::container, mapping::tests::policy, plan::Actual};
use serde_json::{Value, json};

/// Start of the usual container.
const STARTED: i64 = 1_763_719_201_000_000_002;

pub(crate) fn world() -> World {
    let mut world = World::default();
    world.set_policy(policy());
    world
}

/// A container named `name`, whose id begins with it, published on `port`.
pub(crate) fn named(name: &str, port: u16, patch: &Value) -> Container {
    let mut all = json!({"Id": id(name), "Name": format!("/{name}"),
        "NetworkSettings": {"Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": port.to_string()}]}}});
    crate::container::tests::merge(&mut all, patch);
    container(&all)
}

pub(crate) fn id(name: &str) -> String {
    format!("{name:0<64}")
}

/// A look whose moment does not matter.
pub(crate) fn see(world: &mut World, container: Container) -> Change {
    world.observe(container, Moment { at: Instant::now(), docker: 0 })
}

fn touched(ids: &[&str]) -> Touched {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn hold_of(world: &World, id: &str) -> Option<Hold> {
    world.desired(id).and_then(|(desired, _)| desired.hold)
}

#[test]
fn containers_come_change_and_go() {
    let mut world = world();
    assert_eq!(see(&mut world, named("a", 1, &json!({}))).touched, touched(&["vm:a:80"]));
    assert!(world.desired("vm:a:80").is_some());
    let renamed = Container { name: "b".into(), ..named("a", 1, &json!({})) };
    assert_eq!(see(&mut world, renamed).touched, touched(&["vm:a:80", "vm:b:80"]));
    assert!(world.desired("vm:a:80").is_none(), "registrator kept the old id after a rename");
    assert_eq!(world.gone(&id("a")).touched, touched(&["vm:b:80"]));
    assert!(world.desired("vm:b:80").is_none() && world.wanted_ids().next().is_none());
    assert_eq!(world.gone(&id("a")), Change::default());
}

#[test]
fn nothing_follows_before_the_policy_is_known_and_everything_after() {
    let mut world = World::default();
    assert!(see(&mut world, named("a", 1, &json!({}))).touched.is_empty());
    assert_eq!(world.set_policy(policy()).touched, touched(&["vm:a:80"]));
    assert_eq!(world.set_policy(policy()), Change::default());
    let moved = Policy { address: "10.9.9.9".parse().unwrap(), ..policy() };
    assert_eq!(world.set_policy(moved).touched, touched(&["vm:a:80"]));
}

#[test]
fn registrator_deregistered_at_hup() {
    for (signal, stop_signal, drains) in [
        (1, "SIGTERM", false),
        (2, "SIGTERM", false),
        (15, "SIGTERM", true),
        (9, "SIGTERM", true),
        (3, "SIGTERM", false),
        (3, "SIGQUIT", true),
        (15, "SIGQUIT", true),
        (10, "SIGUSR1", true),
    ] {
        let (mut world, now) = (world(), Instant::now());
        see(&mut world, named("a", 1, &json!({"Config": {"StopSignal": stop_signal}})));
        let got = world.killed(&id("a"), signal, STARTED + 1, now);
        assert_eq!(got.is_empty(), !drains, "{signal} {stop_signal}");
        assert_eq!(hold_of(&world, "vm:a:80"), drains.then_some(Hold::Draining));
    }
}

#[test]
fn a_drain_lasts_until_the_end_of_that_life() {
    let (mut world, now) = (world(), Instant::now());
    see(&mut world, named("a", 1, &json!({})));
    world.killed(&id("a"), 15, STARTED + 1, now);
    // health_status events may still come between kill and die
    see(&mut world, named("a", 1, &json!({"State": {"Health": {"Status": "healthy"}}})));
    assert_eq!(hold_of(&world, "vm:a:80"), Some(Hold::Draining));
    see(&mut world, named("a", 1, &json!({"State": {"StartedAt": "2025-11-21T10:00:09Z"}})));
    assert_eq!(hold_of(&world, "vm:a:80"), None);
}

#[test]
fn a_container_that_does_not_stop_is_back_in_service() {
    let (mut world, now) = (world(), Instant::now());
    see(&mut world, named("a", 1, &json!({"Config": {"StopTimeout": 60}})));
    world.killed(&id("a"), 15, STARTED + 1, now);
    let until = now + Duration::from_secs(65);
    assert_eq!(world.next_deadline(), Some(until));
    assert_eq!(world.pass(until.checked_sub(Duration::from_millis(1)).unwrap()), Passed::default());
    let passed = world.pass(until);
    assert_eq!((passed.back, passed.did_not_stop), (touched(&["vm:a:80"]), vec!["a".to_owned()]));
    assert_eq!((hold_of(&world, "vm:a:80"), world.next_deadline()), (None, None));
}

#[test]
fn news_of_a_former_life_are_none() {
    let (mut world, now) = (world(), Instant::now());
    see(&mut world, named("a", 1, &json!({})));
    assert!(world.killed(&id("a"), 15, STARTED - 1, now).is_empty());
    assert_eq!(world.died(&id("a"), STARTED - 1, now), Change::default());
    assert_eq!(world.died(&id("a"), STARTED + 1, now).touched, touched(&["vm:a:80"]));
    assert_eq!(world.died(&id("a"), STARTED + 1, now), Change::default());
}

#[test]
fn a_stop_that_is_faster_than_the_first_look_counts() {
    for (time, hold) in [(STARTED + 1, Some(Hold::Draining)), (STARTED - 1, None)] {
        let (mut world, now) = (world(), Instant::now());
        assert!(world.killed(&id("a"), 15, time, now).is_empty());
        see(&mut world, named("a", 1, &json!({})));
        assert_eq!(hold_of(&world, "vm:a:80"), hold);
        assert!(world.early_stops.is_empty());
    }
}

#[test]
fn registrator_left_the_paused_in_use() {
    let mut world = world();
    see(&mut world, named("a", 1, &json!({})));
    assert_eq!(see(&mut world, named("a", 1, &json!({"State": {"Paused": true}}))).touched, touched(&["vm:a:80"]));
    assert_eq!(hold_of(&world, "vm:a:80"), Some(Hold::Paused));
    see(&mut world, named("a", 1, &json!({})));
    assert_eq!(hold_of(&world, "vm:a:80"), None);
}

#[test]
fn registrator_ignored_the_healthcheck() {
    for (docker, status, output) in [
        ("starting", "critical", "starting"),
        ("healthy", "passing", "healthy"),
        ("unhealthy", "critical", "unhealthy: refused"),
    ] {
        let mut world = world();
        let log = if docker == "unhealthy" { json!([{"Output": "refused"}]) } else { json!([]) };
        see(&mut world, named("a", 1, &json!({"State": {"Health": {"Status": docker, "Log": log}}})));
        let health = world.desired("vm:a:80").unwrap().0.health.unwrap();
        assert_eq!((health.status.as_str(), health.output.as_str()), (status, output));
    }
}

#[test]
fn two_containers_that_claim_one_id() {
    let (mut world, now) = (world(), Instant::now());
    let claim = |name: &str, second: u8| {
        named(
            name,
            1,
            &json!({"Config": {"Env": ["SERVICE_ID=one"]},
            "State": {"StartedAt": format!("2025-11-21T10:00:{second:02}Z")}}),
        )
    };
    let winner = |world: &World| world.desired("one").map(|(_, container)| container.name.clone());
    see(&mut world, claim("new", 30));
    assert!(world.rivals("one").is_empty());
    see(&mut world, claim("old", 10));
    assert_eq!(winner(&world).as_deref(), Some("old"));
    assert_eq!(world.rivals("one"), ["new", "old"]);
    world.killed(&id("old"), 15, i64::MAX, now);
    assert_eq!(winner(&world).as_deref(), Some("new"), "the one that takes work");
    world.gone(&id("new"));
    assert_eq!(winner(&world).as_deref(), Some("old"));
    world.gone(&id("old"));
    assert_eq!(winner(&world), None);
}

#[test]
fn guests_follow_the_container_whose_network_they_use() {
    let mut world = world();
    let guest = |name: &str, of: &str| {
        named(
            name,
            1,
            &json!({"HostConfig": {"NetworkMode": format!("container:{of}")},
            "NetworkSettings": {"Ports": {"80/tcp": null}, "Networks": {"bridge": null}}}),
        )
    };
    see(&mut world, guest("guest", &id("home")));
    see(&mut world, guest("second", "guest"));
    assert!(world.wanted_ids().next().is_none());
    let change = see(&mut world, named("home", 18080, &json!({})));
    assert_eq!(change.touched, touched(&["vm:guest:80", "vm:home:80", "vm:second:80"]));
    let port = |world: &World| world.desired("vm:guest:80").unwrap().0.instance.service.port;
    assert_eq!(port(&world), 18080);
    see(&mut world, named("home", 18081, &json!({})));
    assert_eq!(port(&world), 18081, "registrator kept the address of the first start");
    assert_eq!(world.gone(&id("home")).touched.len(), 3);
    assert!(world.desired("vm:guest:80").is_none());
    see(&mut world, guest("home", "guest"));
    assert!(world.wanted_ids().next().is_none(), "a circle ends");
}

#[test]
fn complaints_are_made_once() {
    let mut world = world();
    let bad = || named("a", 1, &json!({"Config": {"Env": ["SERVICE_NAME=not a name"]}}));
    let first = see(&mut world, bad()).warnings;
    assert!(first.len() == 1 && first[0].starts_with("a: "), "{first:?}");
    assert!(see(&mut world, bad()).warnings.is_empty());
}

#[test]
fn drains_of_a_former_run_are_taken_over() {
    let (mut world, now) = (world(), Instant::now());
    see(&mut world, named("a", 1, &json!({})));
    see(&mut world, named("b", 2, &json!({})));
    let marked = |id: &str, mark: &str| {
        let mut actual = Actual::default();
        actual.meta.insert(crate::plan::META_MARK.into(), mark.into());
        actual.checks.insert(Hold::Draining.check_id(id), CheckStatus::Critical);
        (id.to_owned(), actual)
    };
    let registered = [marked("vm:a:80", "DOCK:ER/uuid"), marked("vm:b:80", "other/mark"), marked("x", "DOCK:ER/uuid")];
    assert_eq!(world.resume_drains(&registered.into(), now), touched(&["vm:a:80"]));
    assert_eq!((hold_of(&world, "vm:a:80"), hold_of(&world, "vm:b:80")), (Some(Hold::Draining), None));
}

#[test]
fn what_cannot_be_read_is_remembered_until_it_can() {
    let mut world = world();
    world.unreadable(&id("a"));
    assert!(world.is_unreadable(short_id(&id("a"))));
    see(&mut world, named("a", 1, &json!({})));
    assert!(!world.is_unreadable(short_id(&id("a"))));
}

#[test]
fn registrator_offered_what_crashed_at_once_again_and_again() {
    let lives = Lives { min_uptime: Duration::from_secs(5), ..Lives::default() };
    let mut world = World::new(lives);
    world.set_policy(policy());
    let now = Moment { at: Instant::now(), docker: STARTED + 2_000_000_000 };
    world.observe(named("a", 1, &json!({})), now);
    assert!(world.desired("vm:a:80").is_none(), "it has run for 2 s");
    let until = now.at + Duration::from_secs(3);
    assert_eq!(world.next_deadline(), Some(until));
    let later = Moment { at: now.at + Duration::from_secs(1), docker: now.docker };
    world.observe(named("a", 1, &json!({"State": {"Health": {"Status": "healthy"}}})), later);
    assert_eq!(world.next_deadline(), Some(until), "another look does not begin anew");
    assert_eq!(world.pass(until).grown, touched(&["vm:a:80"]));
    assert!(world.desired("vm:a:80").is_some() && world.next_deadline().is_none());
    let again = named("a", 1, &json!({"State": {"StartedAt": "2025-11-21T10:00:09Z"}}));
    world.observe(again, Moment { at: until, docker: 0 });
    assert!(world.desired("vm:a:80").is_none(), "a new life begins young");
}

#[test]
fn what_failed_is_kept_until_it_is_removed_or_reaped_or_starts_again() {
    let lives = Lives { deregister: Deregister::OnSuccess, ..Lives::default() };
    let exited = |code: i64| {
        named(
            "a",
            1,
            &json!({"State": {"Running": false, "ExitCode": code, "FinishedAt": "2025-11-21T10:00:09Z"},
            "NetworkSettings": {"Ports": {}, "Networks": {"bridge": {"IPAddress": ""}}}}),
        )
    };
    let start = || {
        let mut world = World::new(lives);
        world.set_policy(policy());
        see(&mut world, named("a", 1, &json!({})));
        world
    };
    let (now, short) = (Moment { at: Instant::now(), docker: STARTED + 9_000_000_000 }, short_id(&id("a")).to_owned());
    for (code, kept) in [(0, false), (143, false), (3, true)] {
        let mut world = start();
        assert_eq!(world.died(&id("a"), STARTED + 1, now.at).touched, touched(&["vm:a:80"]));
        assert_eq!(hold_of(&world, "vm:a:80"), Some(Hold::Draining), "out of use before it is known how it ended");
        assert_eq!(world.observe(exited(code), now).touched, touched(&["vm:a:80"]));
        assert!(world.desired("vm:a:80").is_none());
        assert_eq!(world.is_kept(&short), kept, "{code}");
    }
    let ended = || {
        let mut world = start();
        world.observe(exited(3), now);
        world
    };
    let mut world = ended();
    see(&mut world, named("a", 1, &json!({})));
    assert!(!world.is_kept(&short), "it runs again");
    let mut world = ended();
    world.gone(&id("a"));
    assert!(!world.is_kept(&short), "it was removed");
    let mut world = ended();
    let until = world.next_deadline().unwrap();
    assert_eq!(world.pass(until).reaped, std::slice::from_ref(&short));
    assert!(!world.is_kept(&short) && world.next_deadline().is_none());
}
