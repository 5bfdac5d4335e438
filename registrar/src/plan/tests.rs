use super::*;
use crate::{
    container::tests::container,
    mapping::{Network, map, tests::policy},
};
use serde_json::json;

const ID: &str = "vm:web:80";

fn instance(env: &[&str]) -> Instance {
    map(&container(&json!({"Config": {"Env": env}})), Network::Own, &policy()).instances.remove(0)
}

fn health(status: CheckStatus) -> CheckUpdate {
    CheckUpdate { status: status.to_string(), output: String::new() }
}

fn desired(instance: &Instance) -> Desired<'_> {
    Desired { instance, health: None, hold: None }
}

struct Case<'a> {
    desired: Option<Desired<'a>>,
    registered: Registered,
    all_seen: bool,
}

impl Case<'_> {
    fn step(&self, renew: bool) -> Step {
        let mark = policy().mark;
        let now = Circumstances { mark: &mark, all_seen: self.all_seen, kept: false, renew };
        step(ID, self.desired.as_ref(), self.registered.get(ID), now)
    }

    /// Does what is to be done until nothing is; what was done, in words.
    fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        while let Step::Do(action) = self.step(false) {
            done.push(match &action {
                Action::Register(service) => format!("register with {} checks", service.checks.len()),
                Action::Report(update) => format!("report {}", update.status),
                Action::Hold(hold) => format!("hold {}", hold.as_str()),
                Action::Ask(container) => format!("ask {container}"),
                Action::DropCheck(check) => format!("drop {check}"),
                Action::Deregister => "deregister".into(),
            });
            apply(ID, &action, &mut self.registered);
            assert!(done.len() < 10, "never settles: {done:?}");
        }
        done
    }
}

fn case(desired: Option<Desired<'_>>) -> Case<'_> {
    Case { desired, registered: Registered::new(), all_seen: true }
}

/// What the registry holds after `desired` was registered.
fn after(desired: Desired<'_>) -> Registered {
    let mut case = case(Some(desired));
    case.settle();
    case.registered
}

#[test]
fn a_new_instance_is_one_call_and_a_second_look_none() {
    let instance = instance(&["SERVICE_CHECK_TCP=1"]);
    let mut case = case(Some(Desired { health: Some(health(CheckStatus::Passing)), ..desired(&instance) }));
    assert_eq!(case.settle(), ["register with 2 checks"]);
    assert_eq!(case.settle(), [""; 0]);
}

#[test]
fn what_the_registry_adds_is_no_difference() {
    let instance = instance(&[]);
    let mut case = case(Some(desired(&instance)));
    case.settle();
    let actual = case.registered.get_mut(ID).unwrap();
    for name in ADDED_BY_REGISTRY {
        actual.tagged_addresses.insert(name.into(), ServiceAddress::default());
    }
    actual.checks.insert(format!("_service_maintenance:{ID}"), CheckStatus::Critical);
    actual.checks.insert("made-by-hand".into(), CheckStatus::Passing);
    assert_eq!(case.settle(), [""; 0]);
}

#[test]
fn every_difference_is_corrected() {
    let instance = instance(&["SERVICE_CHECK_TCP=1", "SERVICE_TAGS=a"]);
    let spoil: [fn(&mut Actual); 9] = [
        |a| a.name.push('x'),
        |a| a.tags.clear(),
        |a| drop(a.meta.insert("stray".into(), String::new())),
        |a| drop(a.meta.insert(META_CHECKS.into(), "other".into())),
        |a| a.port += 1,
        |a| a.address.clear(),
        |a| a.weights.passing = 9,
        |a| a.tagged_addresses.clear(),
        |a| a.checks.clear(),
    ];
    for (n, spoil) in spoil.iter().enumerate() {
        let mut case = case(Some(desired(&instance)));
        case.settle();
        spoil(case.registered.get_mut(ID).unwrap());
        assert_eq!(case.settle(), ["register with 1 checks"], "{n}");
    }
}

#[test]
fn health_is_reported_when_it_differs() {
    let instance = instance(&[]);
    let with = |status| Desired { health: Some(health(status)), ..desired(&instance) };
    let registered = after(with(CheckStatus::Critical));
    for (status, expected) in [(CheckStatus::Critical, &[][..]), (CheckStatus::Passing, &["report passing"])] {
        let mut case = Case { registered: registered.clone(), ..case(Some(with(status))) };
        assert_eq!(case.settle(), expected);
        assert!(matches!(case.step(true), Step::Do(Action::Report(_))), "renewal repeats it");
    }
}

#[test]
fn re_registering_keeps_the_status_so_it_is_reported_again() {
    let instance = instance(&[]);
    let mut case = case(Some(Desired { health: Some(health(CheckStatus::Critical)), ..desired(&instance) }));
    case.settle();
    case.registered.get_mut(ID).unwrap().port = 1;
    case.desired.as_mut().unwrap().health = Some(health(CheckStatus::Passing));
    assert_eq!(case.settle(), ["register with 1 checks", "report passing"]);
}

#[test]
fn draining_and_back() {
    let instance = instance(&[]);
    let mut case = case(Some(desired(&instance)));
    case.settle();
    case.desired.as_mut().unwrap().hold = Some(Hold::Draining);
    assert_eq!(case.settle(), ["hold draining"]);
    // whatever else changes now, it is on its way out
    case.registered.get_mut(ID).unwrap().port = 1;
    assert_eq!(case.settle(), [""; 0]);
    case.desired.as_mut().unwrap().hold = None;
    assert_eq!(case.settle(), ["register with 0 checks"]);
    assert!(case.registered[ID].checks.is_empty());
}

#[test]
fn pausing_and_back() {
    let instance = instance(&[]);
    let mut case = case(Some(desired(&instance)));
    case.settle();
    case.desired.as_mut().unwrap().hold = Some(Hold::Paused);
    assert_eq!(case.settle(), ["hold paused"]);
    case.desired.as_mut().unwrap().hold = Some(Hold::Draining);
    assert_eq!(case.settle(), ["hold draining"]);
    case.desired.as_mut().unwrap().hold = None;
    assert_eq!(case.settle(), [format!("drop _draining:{ID}"), format!("drop _paused:{ID}")]);
}

#[test]
fn a_healthcheck_that_is_no_longer_followed_loses_its_check() {
    let instance = instance(&[]);
    let mut case = case(Some(Desired { health: Some(health(CheckStatus::Passing)), ..desired(&instance) }));
    case.settle();
    case.desired.as_mut().unwrap().health = None;
    assert_eq!(case.settle(), [format!("drop docker-health:{ID}")]);
}

#[test]
fn registrator_resync_resurrected_the_dead() {
    let instance = instance(&[]);
    let mut case = case(Some(Desired { hold: Some(Hold::Draining), ..desired(&instance) }));
    assert_eq!(case.settle(), [""; 0], "a draining container is never newly registered");
    case.desired.as_mut().unwrap().hold = Some(Hold::Paused);
    assert_eq!(case.settle(), ["register with 1 checks"], "a paused one is, out of use from the first moment");
}

#[test]
fn only_our_own_is_removed_and_only_when_all_is_seen() {
    for (mark, all_seen, expected) in [
        (Some("DOCK:ER/uuid"), true, &["deregister"][..]),
        (Some("DOCK:ER/uuid"), false, &[]),
        (Some("DOCK:ER/other"), true, &[]),
        (Some("OTHER/uuid"), true, &[]),
        (Some(""), true, &[]),
        (None, true, &[]),
    ] {
        let mut actual = Actual::default();
        if let Some(mark) = mark {
            actual.meta.insert(META_MARK.into(), mark.into());
        }
        let registered = [(ID.to_owned(), actual)].into();
        let mut case = Case { desired: None, registered, all_seen };
        assert_eq!(case.settle(), expected, "{mark:?} {all_seen}");
    }
}

#[test]
fn an_id_that_is_taken_is_left_alone() {
    for (mark, id_is_generated, taken) in [
        (Some("DOCK:ER/uuid"), false, false),
        (Some("DOCK:ER/lost"), false, false),
        (Some("DOCK:ERS/uuid"), true, true),
        (None, true, false),
        (None, false, true),
    ] {
        let mut actual = Actual::default();
        actual.meta.extend(mark.map(|mark| (META_MARK.to_owned(), mark.to_owned())));
        let instance = Instance { id_is_generated, ..instance(&[]) };
        let case = Case { registered: [(ID.to_owned(), actual)].into(), ..case(Some(desired(&instance))) };
        assert_eq!(matches!(case.step(false), Step::Taken(_)), taken, "{mark:?} {id_is_generated}");
    }
}

#[test]
fn checks_go_to_their_instance() {
    let check = |id: &str, service: &str| HealthCheck {
        check_id: id.into(),
        service_id: service.into(),
        status: CheckStatus::Warning,
        ..HealthCheck::default()
    };
    let services = [("a".to_owned(), Actual::default()), ("b".to_owned(), Actual::default())];
    let all = registered(services, [check("1", "a"), check("2", "gone"), check("serfHealth", "")]);
    assert_eq!(all["a"].checks, [("1".to_owned(), CheckStatus::Warning)].into());
    assert!(all["b"].checks.is_empty());
}

#[test]
fn what_has_ended_is_kept_as_critical_and_only_if_it_is_ours() {
    let instance = instance(&[]);
    let mut registered = after(desired(&instance));
    let kept = |registered: &Registered| {
        let mark = policy().mark;
        let now = Circumstances { mark: &mark, all_seen: true, kept: true, renew: false };
        step(ID, None, registered.get(ID), now)
    };
    assert_eq!(kept(&registered), Step::Do(Action::Hold(Hold::Exited)));
    apply(ID, &Action::Hold(Hold::Exited), &mut registered);
    assert_eq!(kept(&registered), Step::Settled);
    let mut again = Case { desired: Some(desired(&instance)), registered: registered.clone(), all_seen: true };
    assert_eq!(again.settle(), [format!("drop _exited:{ID}")]);
    registered.get_mut(ID).unwrap().meta.remove(META_MARK);
    assert_eq!(kept(&registered), Step::Settled);
}

#[test]
fn a_drain_that_was_asked_for_lasts_for_one_life_of_one_container() {
    let instance = instance(&[]);
    let asked = |action: &str| format!("{action} _draining:{ID}:4f1c2b3a4d5e");
    let mut case = case(Some(desired(&instance)));
    case.settle();
    apply(ID, &Action::Ask("4f1c2b3a4d5e".into()), &mut case.registered);
    assert!(case.settle().is_empty(), "the registrar leaves it alone");
    case.registered.get_mut(ID).unwrap().tags.push("spoiled".into());
    assert_eq!(case.settle(), ["register with 1 checks"], "and keeps it when it registers anew");
    let mut other = instance.clone();
    other.service.meta.insert(META_CONTAINER.into(), "000000000000".into());
    let mut taken_over = Case { desired: Some(desired(&other)), registered: case.registered.clone(), all_seen: true };
    assert_eq!(taken_over.settle(), ["register with 0 checks"]);
    // a registry may keep checks that it was not told of
    let check = asked("").trim().to_owned();
    taken_over.registered.get_mut(ID).unwrap().checks.insert(check, CheckStatus::Critical);
    assert_eq!(taken_over.settle(), [asked("drop")]);
    apply(ID, &Action::Hold(Hold::Exited), &mut case.registered);
    assert_eq!(case.settle(), [asked("drop"), format!("drop _exited:{ID}")], "a new life");
}
