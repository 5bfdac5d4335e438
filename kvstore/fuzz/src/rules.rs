//! Rules of policies: no text panics, mistakes have a place, and what rules say is found again under their names.

use kvstore_core::acl::{Authority, DefaultPolicy, Level, Resource, Rules};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "# comment\nkey_prefix \"\" { policy = \"list\" }\nkey \"a/b\" { policy = \"deny\" }\n",
        "service \"web\" { policy = \"write\" intentions = \"read\" } node_prefix \"\" { policy = \"read\" } /* one line */",
        "operator = \"read\", acl = \"write\" // both\nkeyring = \"deny\"",
        "{\"key\": {\"a\\u00e4\\/\": {\"policy\": \"write\"}}, \"session_prefix\": [{\"\": [{\"policy\": \"read\"}]}], \"mesh\": \"read\"}",
        "agent = { \"n\" = { policy = \"read\" } } event_prefix deploy { policy = \"write\" } query \"q\" { policy = \"read\" }",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let rules = match Rules::parse(text) {
        Ok(rules) => rules,
        Err(error) => {
            let line = text.split('\n').nth(error.line - 1).expect("it is at a line of the text");
            assert!(error.column <= line.chars().count() + 1, "{error}");
            assert!(error.to_string().len() < 1000);
            return;
        }
    };
    let authority = Authority::of([&rules], DefaultPolicy::Deny);
    assert_eq!(authority, Authority::of([&rules, &rules], DefaultPolicy::Deny));
    for name in text.split('"') {
        assert!(authority.key(name) <= Authority::of([&rules], DefaultPolicy::Allow).key(name));
        if authority.key_prefix_write(name) {
            assert_eq!(authority.key(&format!("{name}\0")), Level::Write);
        }
        assert!(authority.require(Resource::Service, name, authority.service(name)).is_ok());
    }
}
