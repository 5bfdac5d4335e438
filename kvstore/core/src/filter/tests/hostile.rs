//! Texts made to break the filter: they are refused or understood, in little time and memory.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::*;

#[test]
fn length_depth_and_patterns_are_bounded() {
    let problem = |text: &str| taken("service", text).unwrap_err().problem;
    let long = format!("Service == \"{}\"", "x".repeat(MAX_BYTES));
    assert_eq!(problem(&long), Problem::TooLong { bytes: long.len() });
    let nested = |depth: usize| format!("{}Port == 81{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(taken("service", &nested(MAX_DEPTH)), Ok(true));
    assert_eq!(problem(&nested(MAX_DEPTH + 1)), Problem::TooDeep);
    assert_eq!(problem(&"(".repeat(MAX_BYTES)), Problem::TooDeep);
    assert_eq!(problem(&format!("{}Port == 81", "not ".repeat(1000))), Problem::TooDeep);
    assert_eq!(taken("service", &format!("{}in Tags", "not ".repeat(MAX_DEPTH))), Ok(false));
    // Both would take exponential time where each way of reading is tried anew.
    assert!(taken("service", &format!("{}x", "not (".repeat(MAX_DEPTH / 2))).is_err());
    assert!(taken("service", &format!("{}x", "(".repeat(MAX_DEPTH))).is_err());
    let matching = |count: usize| vec!["Service matches `web`"; count].join(" and ");
    assert_eq!(taken("service", &matching(MAX_PATTERNS)), Ok(true));
    assert_eq!(problem(&matching(MAX_PATTERNS + 1)), Problem::TooManyPatterns);
    // Many parts beside each other are no depth.
    let flat = vec!["Port == 1"; 1000].join(" or ");
    assert_eq!(taken("service", &flat), Ok(false));
}

/// An expression of random shape; some of its selectors and values fit some of the schemas.
fn random_expression(rng: &mut StdRng, depth: u32) -> String {
    const SELECTORS: &[&str] = &[
        "Node",
        "Address",
        "Meta.a",
        "Meta",
        "Service",
        "Tags",
        "Port",
        "Checks",
        "Checks.Status",
        "Node.Meta[\"x y\"]",
        "ServicePort",
        "ServiceTags",
        "Status",
        "Output",
        "ID",
        "nope",
        "not",
        "Proxy.Upstreams.LocalBindPort",
    ];
    const VALUES: &[&str] = &["81", "-1", "web", "v2", "\"Db-1\"", "`c.*`", "\"\\u00e4\"", "not", "in", "\"(\"", "0.5"];
    let mut any = |of: &[&'static str]| *of.choose(rng).expect("not empty");
    if depth == 0 {
        let (selector, value) = (any(SELECTORS), any(VALUES));
        return match any(&["==", "!=", " contains ", " matches ", " not contains ", " not matches ", "in", "is"]) {
            "in" => format!("{value}{}{selector}", any(&[" in ", " not in ", "\tin\n"])),
            "is" => format!("{selector} is {}", any(&["empty", "not empty"])),
            operator => format!("{selector}{operator}{value}"),
        };
    }
    match rng.random_range(0..5) {
        0 => format!("not {}", random_expression(rng, depth - 1)),
        1 => format!("({})", random_expression(rng, depth - 1)),
        2 => format!("{} and {}", random_expression(rng, depth - 1), random_expression(rng, depth / 2)),
        3 => format!("{} or {}", random_expression(rng, depth - 1), random_expression(rng, depth / 2)),
        _ => random_expression(rng, depth - 1),
    }
}

/// The text with some of its bytes changed, lost or doubled.
fn damaged(rng: &mut StdRng, text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len().max(1));
        match rng.random_range(0..4) {
            0 if at < bytes.len() => bytes[at] = rng.random(),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_within(at.min(bytes.len())..),
            _ => bytes.insert(at.min(bytes.len()), *b"()[]\"`\\. \n-=!n0".choose(rng).expect("not empty")),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Fixed seeds and one that nobody has tried.
#[test]
#[allow(clippy::disallowed_methods)] // the test is a shell around the core
fn no_text_panics_and_a_negation_takes_the_rest() {
    let new = std::time::UNIX_EPOCH.elapsed().map_or(0, |now| now.subsec_nanos().into());
    for seed in [1, 2, new] {
        println!("seed {seed}");
        random_texts(&mut StdRng::seed_from_u64(seed));
    }
}

fn random_texts(rng: &mut StdRng) {
    let state = state();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..3000 {
        let whole = random_expression(rng, 3);
        let text = match rng.random_range(0..3) {
            0 => whole,
            1 => damaged(rng, &whole),
            _ => String::from_utf8_lossy(&std::array::from_fn::<u8, 24, _>(|_| rng.random())).into_owned(),
        };
        with_records(&state, |_, schema, record| match Filter::parse(&text, schema) {
            Ok(filter) if filter.narrows() => {
                accepted += 1;
                let negated = Filter::parse(&format!("not ({text})"), schema).expect("what is whole can be grouped");
                assert_ne!(filter.takes(record), negated.takes(record), "{text:?}");
            }
            Ok(_) => assert!(text.is_empty()),
            Err(error) => {
                refused += 1;
                assert!(text.is_char_boundary(error.offset), "{text:?}: {error}");
                assert!(!error.to_string().contains("something else"), "{text:?}: {error}");
            }
        });
    }
    assert!(accepted > 100 && refused > 1000, "{accepted} were expressions, {refused} were not");
}
