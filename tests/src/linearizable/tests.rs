use super::*;
use crate::objects::{Held, Lock, OnLock, OnRegister, Register};

use OnLock::{Acquire, End, Holder, Release};
use OnRegister::{Put, Read};

/// The clients' lines, `CALL..RETURN OPERATION`; `..` with nothing behind it for what never returned.
fn timed<O>(lines: Vec<(&str, O)>) -> Vec<Timed<O>> {
    let at = |text: &str| text.parse().ok();
    let parsed = |(when, operation): (&str, O)| {
        let (called, returned) = when.split_once("..").unwrap();
        Timed { operation, called: at(called).unwrap(), returned: at(returned) }
    };
    lines.into_iter().map(parsed).collect()
}

fn register(lines: Vec<(&str, OnRegister)>) -> Result<(), usize> {
    check::<Register>(None, &timed(lines)).map_err(|refuted| refuted.at)
}

fn lock(lines: Vec<(&str, OnLock)>) -> Result<(), usize> {
    check::<Lock>(Held::default(), &timed(lines)).map_err(|refuted| refuted.at)
}

fn cas(expected: impl Into<Option<u64>>, new: u64, done: impl Into<Option<bool>>) -> OnRegister {
    OnRegister::Cas { expected: expected.into(), new, done: done.into() }
}

#[test]
fn what_follows_each_other_is_seen_in_order() {
    assert_eq!(register(vec![("0..1", Read(None)), ("2..3", Put(1)), ("4..5", Read(Some(1)))]), Ok(()));
    assert_eq!(register(vec![("0..1", Put(1)), ("2..3", Put(2)), ("4..5", Read(Some(1)))]), Err(2), "stale");
    assert_eq!(register(vec![("0..1", Put(1)), ("2..3", Read(None))]), Err(1), "lost");
    assert_eq!(register(vec![("0..1", Read(Some(1))), ("2..3", Put(1))]), Err(0), "before it was written");
}

#[test]
fn what_is_under_way_together_may_be_in_any_order() {
    for seen in [1, 2] {
        assert_eq!(register(vec![("0..9", Put(1)), ("1..8", Put(2)), ("10..11", Read(Some(seen)))]), Ok(()));
    }
    // Seen by one while it is written, it stays seen.
    let both = |second| vec![("0..9", Put(1)), ("1..2", Read(Some(1))), ("3..4", Read(second))];
    assert_eq!((register(both(Some(1))), register(both(None))), (Ok(()), Err(2)));
    // Two who read in turn while two write cannot see the writes in opposite orders.
    let opposite = vec![
        ("0..99", Put(1)),
        ("0..99", Put(2)),
        ("1..2", Read(Some(1))),
        ("3..4", Read(Some(2))),
        ("5..6", Read(Some(1))),
    ];
    assert_eq!(register(opposite), Err(4));
}

#[test]
fn a_compare_and_set_succeeds_once_and_on_what_is_there() {
    let two = |second| vec![("0..1", Put(1)), ("2..9", cas(1, 2, true)), ("3..8", cas(1, 3, second))];
    assert_eq!((register(two(false)), register(two(true))), (Ok(()), Err(1)));
    assert_eq!(register(vec![("0..1", cas(None, 1, true)), ("2..3", cas(None, 2, true))]), Err(1));
    assert_eq!(register(vec![("0..1", Put(1)), ("2..3", cas(1, 2, false))]), Err(1), "it must not be refused either");
}

#[test]
fn of_unknown_outcome_it_happens_once_or_never() {
    let unknown = ("2..", cas(1, 2, None));
    for (seen, want) in [(1, Ok(())), (2, Ok(())), (3, Err(2))] {
        assert_eq!(register(vec![("0..1", Put(1)), unknown.clone(), ("4..5", Read(Some(seen)))]), want, "{seen}");
    }
    // Late, but not before its call, and not twice.
    let late = |first, last| vec![("0..1", Put(1)), unknown.clone(), ("4..5", Read(first)), ("6..7", Read(last))];
    assert_eq!(register(late(Some(1), Some(2))), Ok(()));
    assert_eq!(register(late(Some(2), Some(1))), Err(3));
    assert_eq!(register(vec![("0..1", Read(Some(2))), ("2..", Put(2))]), Err(0));
    let twice = vec![("0..", Put(1)), ("1..2", Read(Some(1))), ("3..4", Put(2)), ("5..6", Read(Some(1)))];
    assert_eq!(register(twice), Err(3));
}

#[test]
fn a_lock_has_one_holder() {
    let second = |got| vec![("0..1", Acquire(1, Some(true))), ("2..3", Acquire(2, Some(got)))];
    assert_eq!((lock(second(false)), lock(second(true))), (Ok(()), Err(1)));
    let given =
        |when| vec![("0..1", Acquire(1, Some(true))), (when, Release(1, Some(true))), ("4..5", Acquire(2, Some(true)))];
    assert_eq!((lock(given("2..3")), lock(given("6..7"))), (Ok(()), Err(2)));
    assert_eq!(lock(vec![("0..1", Acquire(1, Some(true))), ("2..3", Holder(Some(2)))]), Err(1));
    assert_eq!(lock(vec![("0..1", Acquire(1, Some(true))), ("2..3", Acquire(1, Some(true)))]), Ok(()), "it has it");
}

#[test]
fn the_end_of_a_session_frees_its_lock_for_good() {
    let ended = |end| {
        vec![
            ("0..1", Acquire(1, Some(true))),
            (end, End(1, end.ends_with(char::is_numeric).then_some(true))),
            ("4..5", Acquire(2, Some(true))),
        ]
    };
    assert_eq!((lock(ended("2..3")), lock(ended("2..")), lock(ended("6.."))), (Ok(()), Ok(()), Err(2)));
    assert_eq!(lock(vec![("0..1", End(1, Some(true))), ("2..3", Acquire(1, Some(true)))]), Err(1));
    // It was seen to be free, so the session had ended.
    let back = vec![
        ("0..1", Acquire(1, Some(true))),
        ("2..", End(1, None)),
        ("4..5", Holder(None)),
        ("6..7", Acquire(1, Some(true))),
    ];
    assert_eq!(lock(back), Err(3));
}

/// Many unknown outcomes do not multiply: hundreds of them are judged at once.
#[test]
fn unknown_outcomes_are_cheap() {
    let mut lines = Vec::new();
    for n in 0..200 {
        lines.push(Timed { operation: Put(1_000_000 + n), called: 10 * n, returned: None });
        lines.push(Timed { operation: Put(n), called: 10 * n + 1, returned: Some(10 * n + 8) });
        lines.push(Timed { operation: Read(Some(n)), called: 10 * n + 9, returned: Some(10 * n + 9) });
    }
    let start = std::time::Instant::now();
    assert_eq!(check::<Register>(None, &lines), Ok(()));
    assert!(start.elapsed() < std::time::Duration::from_mins(1), "{:?}", start.elapsed());
}

/// Nor does what was tried a thousand times in vain.
#[test]
fn attempts_in_vain_are_cheap() {
    let attempt = |n: u64| Timed { operation: cas(1, 2, None), called: 10 + n, returned: None };
    let mut lines = vec![Timed { operation: Put(1), called: 0, returned: Some(1) }];
    lines.extend((0..1000).map(attempt));
    let read = |at: u64, seen| Timed { operation: Read(Some(seen)), called: at, returned: Some(at + 1) };
    lines.extend((0..1000).map(|n| read(2000 + 10 * n, 1 + n / 500)));
    assert_eq!(check::<Register>(None, &lines), Ok(()));
    lines.push(read(20_000, 1));
    assert!(check::<Register>(None, &lines).is_err());
}

/// Against the definition itself: every small history is judged as by trying every order.
#[test]
fn it_agrees_with_trying_every_order() {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    let mut rng = StdRng::seed_from_u64(7);
    let mut verdicts = [0, 0];
    for _ in 0..3000 {
        let history: Vec<_> = (0..rng.random_range(1..6)).map(|_| random(&mut rng)).collect();
        let (found, wanted) = (check::<Register>(None, &history).is_ok(), by_definition(None, &history));
        assert_eq!(found, wanted, "{history:#?}");
        verdicts[usize::from(found)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 300), "both kinds were among them: {verdicts:?}");
}

fn random(rng: &mut impl rand::RngExt) -> Timed<OnRegister> {
    let value = |rng: &mut _| rand::RngExt::random_range(rng, 0..3u64);
    let maybe = |n: u64| (n > 0).then_some(n);
    let called = rng.random_range(0..8);
    let returned = rng.random_bool(0.75).then(|| called + rng.random_range(0..8));
    let operation = match rng.random_range(0..3) {
        0 if returned.is_some() => Read(maybe(value(rng))),
        1 => Put(1 + value(rng) % 2),
        _ => cas(maybe(value(rng)), 1 + value(rng) % 2, returned.map(|_| rng.random_bool(0.6))),
    };
    Timed { operation, called, returned }
}

/// Takes one after the other of what may come first; what has an outcome must come at some time.
fn by_definition(state: Option<u64>, left: &[Timed<OnRegister>]) -> bool {
    left.iter().all(|timed| timed.returned.is_none())
        || (0..left.len()).any(|at| {
            let first = &left[at];
            let may = left.iter().all(|other| other.returned.is_none_or(|returned| returned >= first.called));
            let others = [&left[..at], &left[at + 1..]].concat();
            may && Register::step(&state, &first.operation).is_some_and(|state| by_definition(state, &others))
        })
}
