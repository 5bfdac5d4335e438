//! Texts and what they say, and what is said of texts that are wrong.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use super::*;

/// One line a rule: `RESOURCE "NAME"… LEVEL`, a `*` behind the names of prefix rules.
fn said(text: &str) -> Result<Vec<String>, String> {
    let line = |rule: &Rule| {
        let (resource, level) = (rule.resource.word(), rule.level.word());
        match &rule.scope {
            Scope::All => format!("{resource} {level}"),
            Scope::Exact(name) => format!("{resource} {name:?} {level}"),
            Scope::Prefix(name) => format!("{resource} {name:?}* {level}"),
        }
    };
    Rules::parse(text).map(|rules| rules.rules.iter().map(line).collect()).map_err(|error| error.to_string())
}

fn check(text: &str, rules: &[&str]) {
    assert_eq!(said(text), Ok(rules.iter().map(|&rule| rule.to_owned()).collect()), "{text}");
}

fn refused(text: &str, why: &str) {
    let error = said(text).expect_err(text);
    assert!(error.starts_with(why), "{text}\n{error}\n{why}");
}

#[test]
fn every_resource_has_its_rules_in_hcl() {
    check(
        r#"
        # What Consul's documentation shows.
        agent "n1" { policy = "write" }
        agent_prefix "" {
          policy = "read"   // anybody's
        }
        event_prefix "deploy" { policy = "write" } event "" { policy = "deny" }
        key "a/b" { policy = "read" }
        key_prefix "a/" { policy = "list" }
        keyring = "write"  /* there
        is none */
        node "n1" { policy = "write" }
        node_prefix "" { policy = "read" }
        operator = "read"
        acl = "write"
        mesh = "read", peering = "deny"
        query "q" { policy = "write" }
        query_prefix "" { policy = "read" }
        service "web" { policy = "write" intentions = "read" }
        service_prefix "" { intentions = "deny", policy = "read", }
        session "n1" { policy = "write" }
        session_prefix "" { policy = "read" }
        "#,
        &[
            r#"agent "n1" write"#,
            r#"agent ""* read"#,
            r#"event "deploy"* write"#,
            r#"event "" deny"#,
            r#"key "a/b" read"#,
            r#"key "a/"* list"#,
            "keyring write",
            r#"node "n1" write"#,
            r#"node ""* read"#,
            "operator read",
            "acl write",
            "mesh read",
            "peering deny",
            r#"query "q" write"#,
            r#"query ""* read"#,
            r#"service "web" write"#,
            r#"service ""* read"#,
            r#"session "n1" write"#,
            r#"session ""* read"#,
        ],
    );
}

#[test]
fn json_and_hcl_are_one_language() {
    let rules = [r#"key "a\"\u00e4" deny"#.replace(r"\u00e4", "\u{e4}"), r#"key ""* read"#.into(), "acl read".into()];
    for text in [
        r#"{"key": {"a\"\u00e4": {"policy": "deny"}}, "key_prefix": {"": {"policy": "read"}}, "acl": "read"}"#,
        r#"{"key": [{"a\"\u00e4": [{"policy": "deny"}]}], "key_prefix": [{"": {"policy": "read"}}], "acl": "read"}"#,
        "key \"a\\\"\u{e4}\" { policy = \"deny\" } key_prefix \"\" { policy = \"read\" } acl = \"read\"",
        "\"key\" \"a\\\"\u{e4}\" { \"policy\" = \"deny\" }\r\nkey_prefix = { \"\" = { policy = \"read\" } }\r\nacl = \"read\"",
    ] {
        assert_eq!(said(text).as_deref(), Ok(&rules[..]), "{text}");
    }
    check(r#"{"key_prefix": {"app\/\ud83e\udd80": {"policy": "read"}}}"#, &["key \"app/\u{1f980}\"* read"]);
    for nothing in ["", " \n", "# only a comment", "{}", "key {}", "{\"key\": []}"] {
        check(nothing, &[]);
    }
    check(r#"key "a" { policy = "read" policy = "deny" }"#, &[r#"key "a" deny"#]);
    check(r#"key "${a}" { policy = "read" }"#, &[r#"key "${a}" read"#]);
    check("key a { policy = \"read\" }", &[r#"key "a" read"#]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    // Of meaning.
    refused("\nkeys \"a\" {}", "line 2, column 1: unknown resource \"keys\"; use one of: key, key_prefix, service,");
    refused("operator_prefix \"a\" {}", "line 1, column 1: unknown resource \"operator_prefix\"");
    refused(
        "{\n  \"key\": {\"a\": {\"policy\": \"wirte\"}}\n}",
        "line 2, column 27: \"wirte\" is no level of key; use one of: deny, read, list, write",
    );
    refused(
        "service \"\u{e4}\" { policy = \"list\" }",
        "line 1, column 24: \"list\" is no level of service; use one of: deny, read, write",
    );
    refused("acl = \"Write\"", "line 1, column 7: \"Write\" is no level of acl");
    refused("acl = write", "line 1, column 7: expected a level in quotes, found a word without quotes");
    refused("{\"acl\": {\"policy\": \"write\"}}", "line 1, column 9: expected a level in quotes, found an object");
    refused("{\"acl\": null}", "line 1, column 9: expected a level in quotes, found a word without quotes");
    refused("key \"a\" {}", "line 1, column 5: the rule for key \"a\" has no \"policy\"");
    refused(
        "service \"a\" { intentions = \"read\" }",
        "line 1, column 9: the rule for service \"a\" has no \"policy\"",
    );
    refused(
        "service \"a\" { policy = \"read\" intentions = \"x\" }",
        "line 1, column 44: \"x\" is no level of service",
    );
    refused(
        "key \"a\" {\n  policy = \"read\"\n  sentinel {}\n}",
        "line 3, column 3: unknown setting \"sentinel\" of a rule for key; use \"policy\"",
    );
    refused("key \"a\" { intentions = \"read\" }", "line 1, column 11: unknown setting \"intentions\"");
    refused("key = \"read\"", "line 1, column 7: expected an object, found a text");
    refused("key \"a\" \"b\" { policy = \"read\" }", "line 1, column 9: unknown setting \"b\"");
    refused("{\"key\": {\"a\": \"read\"}}", "line 1, column 15: expected an object, found a text");
    refused("key = [[]]", "line 1, column 8: expected an object, found a list");
    // Of syntax.
    refused("key \"a\" { policy = \"read\"\n", "line 1, column 9: a `{` that is never closed");
    refused("key \"a", "line 1, column 5: a `\"` that is never closed");
    refused("key \"a\n\" {}", "line 1, column 5: a line that ends within quotes");
    refused("key \"\\x41\" {}", "line 1, column 5: a line that ends within quotes, or an unknown escape");
    refused("\n /* x", "line 2, column 2: a comment that is never closed");
    refused("key \"a\" policy", "line 1, column 15: expected `=`, `{` or another name, found the end");
    refused("acl = \n", "line 2, column 1: expected a value, found the end");
    refused("acl = }\n", "line 1, column 7: expected a value, found \"}\"");
    refused("key = [\"a\" \"b\"]", "line 1, column 12: expected `,` or `]`, found \"\\\"b\\\"]\"");
    refused("key \"a\" { = }", "line 1, column 11: expected a name or `}`, found \"= }\"");
    refused("{} {}", "line 1, column 4: expected the end, found \"{}\"");
    refused("}", "line 1, column 1: expected the end, found \"}\"");
}

#[test]
fn length_depth_and_what_is_quoted_are_bounded() {
    let problem = |text: &str| Rules::parse(text).unwrap_err().problem;
    let long = format!("# {}", "x".repeat(MAX_BYTES));
    assert_eq!(problem(&long), Problem::TooLong { bytes: long.len() });
    for opening in ["a={", "a{", "a ", "\"a\" ", "a=[{"] {
        assert_eq!(problem(&opening.repeat(100_000)), Problem::TooDeep, "{opening}");
    }
    assert_eq!(problem(&format!("a={}", "[".repeat(100_000))), Problem::TooDeep);
    let many = "key \"k\" { policy = \"read\" }\n".repeat(10_000);
    assert_eq!(Rules::parse(&many).unwrap().rules.len(), 10_000);
    let name = "x".repeat(1000);
    for text in [
        name.clone(),
        format!("{name} {{}}"),
        format!("acl = \"{name}\""),
        format!("key \"{name}\" {{}}"),
        format!("key a {{ {name} = [] }}"),
        format!("= {name}"),
    ] {
        assert!(said(&text).unwrap_err().len() < 400, "{text}");
    }
}

#[test]
fn no_text_panics() {
    const PARTS: &[&str] = &[
        "key",
        "key_prefix",
        "service",
        "acl",
        "policy",
        "intentions",
        "\"a\"",
        "\"\"",
        "\"read\"",
        "\"",
        "\\",
        "{",
        "}",
        "[",
        "]",
        "=",
        ":",
        ",",
        "#",
        "//",
        "/*",
        "*/",
        "\n",
        " ",
        "\u{e4}",
        "\u{0}",
        "\\ud83e",
        "1",
        "-",
        "<<EOF",
        "key \"a\" { policy = \"read\" }",
    ];
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let mut taken = 0;
    for _ in 0..20_000 {
        let text: String = (0..rng.random_range(0..12)).map(|_| *PARTS.choose(&mut rng).unwrap()).collect();
        match Rules::parse(&text) {
            Ok(_) => taken += 1,
            Err(error) => {
                let line = text.split('\n').nth(error.line - 1).expect("the error is at a line of the text");
                assert!(error.column <= line.chars().count() + 1, "{text:?} {error}");
            }
        }
    }
    assert!(taken > 20, "only {taken} texts were rules");
}
