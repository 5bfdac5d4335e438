//! What rules give, by Consul's documentation.

use super::{
    DefaultPolicy::{Allow, Deny},
    Level::{List, Read, Write},
    *,
};

fn authority(policies: &[&str], default: DefaultPolicy) -> Authority {
    let rules: Vec<Rules> = policies.iter().map(|text| Rules::parse(text).unwrap()).collect();
    Authority::of(&rules, default)
}

#[test]
fn the_nearest_rule_holds_and_else_the_default() {
    let one = r#"
        key_prefix "" { policy = "read" }
        key_prefix "app/" { policy = "write" }
        key "app/secret" { policy = "deny" }
        key_prefix "app/secret/" { policy = "list" }
    "#;
    let given = authority(&[one], Deny);
    for (key, level) in
        [("", Read), ("b", Read), ("app", Read), ("app/", Write), ("app/secret", Level::Deny), ("app/secret/x", List)]
    {
        assert_eq!(given.key(key), level, "{key}");
    }
    assert_eq!(given.service("web"), Level::Deny);
    assert_eq!(authority(&[one], Allow).service("web"), Write);
    assert_eq!(authority(&[r#"key "a" { policy = "read" }"#], Allow).key("a"), Read);
    assert_eq!(authority(&[r#"key "a" { policy = "read" }"#], Allow).key("a/b"), Write, "an exact rule is about one");
}

#[test]
fn every_resource_is_asked_for_its_own_rules() {
    let text = r#"
        service "x" { policy = "write" } node "x" { policy = "read" } session "x" { policy = "write" }
        event "x" { policy = "read" } query "x" { policy = "write" } agent "x" { policy = "read" }
        operator = "write" keyring = "read" acl = "write"
    "#;
    let given = authority(&[text], Deny);
    assert_eq!((given.service("x"), given.node("x"), given.session("x")), (Write, Read, Write));
    assert_eq!((given.event("x"), given.query("x"), given.agent("x")), (Read, Write, Read));
    assert_eq!((given.operator(), given.keyring(), given.acl(), given.key("x")), (Write, Read, Write, Level::Deny));
}

#[test]
fn among_policies_deny_goes_before_write_before_list_before_read() {
    let rule = |level: &str| {
        format!("key_prefix \"a\" {{ policy = \"{level}\" }} operator = \"{}\"", level.replace("list", "read"))
    };
    let order = ["deny", "write", "list", "read"];
    for (rank, stronger) in order.iter().enumerate() {
        for weaker in &order[rank..] {
            for policies in [[rule(stronger), rule(weaker)], [rule(weaker), rule(stronger)]] {
                let given = authority(&policies.each_ref().map(String::as_str), Allow);
                assert_eq!(given.key("ab").word(), *stronger);
                assert_eq!(given.operator().word(), stronger.replace("list", "read"));
            }
        }
    }
    // An exact rule of one policy holds over the prefix rule of another.
    let given = authority(&[r#"key_prefix "" { policy = "deny" }"#, r#"key "a" { policy = "write" }"#], Deny);
    assert_eq!((given.key("a"), given.key("ab")), (Write, Level::Deny));
}

#[test]
fn tokens_and_policies_are_nobodys_without_a_rule() {
    assert_eq!((authority(&[], Allow).acl(), authority(&[], Allow).operator()), (Level::Deny, Write));
    assert_eq!((authority(&[], Deny).acl(), authority(&[], Deny).operator()), (Level::Deny, Level::Deny));
    assert_eq!((Authority::everything().acl(), Authority::everything().key("a")), (Write, Write));
    assert_eq!((Authority::reader().acl(), Authority::reader().key("a")), (Level::Deny, Read));
}

#[test]
fn case_counts_where_it_counts_in_the_registry() {
    let text = r#"
        service "Web" { policy = "write" } node_prefix "\u00c4DB-" { policy = "write" } query "Q" { policy = "write" }
        key "K" { policy = "write" } event "E" { policy = "write" }
    "#;
    let given = authority(&[text], Deny);
    assert_eq!(
        (given.service("web"), given.service("WEB"), given.node("\u{e4}db-1"), given.query("q")),
        (Write, Write, Write, Write)
    );
    assert_eq!(
        (given.key("K"), given.key("k"), given.event("E"), given.event("e")),
        (Write, Level::Deny, Write, Level::Deny)
    );
}

#[test]
fn the_same_rules_are_the_same_authority() {
    use std::collections::HashSet;
    let (one, other) = (r#"key "a" { policy = "read" }"#, r#"service "a" { policy = "read" }"#);
    let set: HashSet<Authority> = [
        authority(&[one, other], Deny),
        authority(&[other, one, one], Deny),
        authority(&[&format!("{one} {other}")], Deny),
        authority(&[one], Deny),
        authority(&[one, other], Allow),
        Authority::everything(),
        Authority::everything(),
        Authority::reader(),
    ]
    .into();
    assert_eq!(set.len(), 5);
}

#[test]
fn who_is_denied_learns_what_is_lacking() {
    let given = authority(&[r#"key "a/b" { policy = "read" }"#], Deny);
    assert_eq!(given.require(Resource::Key, "a/b", Read), Ok(()));
    let denied = given.require(Resource::Key, "a/b", Write).unwrap_err();
    assert_eq!(denied.to_string(), r#"Permission denied: token lacks permission 'key:write' on "a/b""#);
    let denied = denied.to("1d3f");
    assert_eq!(
        denied.to_string(),
        r#"Permission denied: token with AccessorID '1d3f' lacks permission 'key:write' on "a/b""#
    );
    let denied = given.require(Resource::Operator, "", Read).unwrap_err();
    assert_eq!(denied.to_string(), "Permission denied: token lacks permission 'operator:read'");
}
