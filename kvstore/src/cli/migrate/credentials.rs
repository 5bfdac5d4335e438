//! Which policies and tokens can be carried, and as what. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kvstore_client::types::{AclLink, AclPolicy, AclToken};
use kvstore_core::{
    acl::Rules,
    credentials::{ANONYMOUS, GLOBAL_MANAGEMENT},
};
use uuid::Uuid;

/// Consul's builtin policies beside the one that permits everything begin so.
const BUILTIN: &str = "builtin/";

/// What of a policy its owner said. Its id is another elsewhere: it is known by its name.
pub(super) fn of_policy(policy: &AclPolicy) -> AclPolicy {
    let AclPolicy { name, description, rules, datacenters, .. } = policy.clone();
    AclPolicy { name, description, rules: Some(rules.unwrap_or_default()), datacenters, ..AclPolicy::default() }
}

/// What of a token its owner said, but for the secret, which is not shown to everybody.
pub(super) fn of_token(token: &AclToken) -> AclToken {
    let mut policies: Vec<_> = token.policies.iter().map(link).collect();
    policies.sort_by(|one, other| (&one.id, &one.name).cmp(&(&other.id, &other.name)));
    AclToken {
        accessor_id: token.accessor_id.clone(),
        description: token.description.clone(),
        policies,
        local: token.local,
        expiration_time: token.expiration_time.as_deref().map(in_milliseconds),
        ..AclToken::default()
    }
}

/// Policies are known by their names; the one that permits everything can have another name.
fn link(link: &AclLink) -> AclLink {
    if link.id == GLOBAL_MANAGEMENT {
        AclLink { id: link.id.clone(), name: String::new() }
    } else {
        AclLink { id: String::new(), name: link.name.clone() }
    }
}

/// Registries keep times more or less exactly.
fn in_milliseconds(time: &str) -> String {
    let at = time.parse::<Timestamp>().ok().and_then(|at| Timestamp::from_millisecond(at.as_millisecond()).ok());
    at.map_or_else(|| time.to_owned(), |at| at.to_string())
}

/// It is the same in every registry.
pub(super) fn is_builtin_policy(policy: &AclPolicy) -> bool {
    policy.id == GLOBAL_MANAGEMENT
}

/// It is in every registry, and has no rights of its own.
pub(super) fn is_builtin_token(token: &AclToken) -> bool {
    token.accessor_id == ANONYMOUS && token.policies.is_empty() && token.other_rights().next().is_none()
}

/// Why a policy cannot be carried.
pub(super) fn policy_fault(policy: &AclPolicy) -> Option<String> {
    if policy.name.starts_with(BUILTIN) {
        return Some("it is Consul's own; give tokens another policy".into());
    }
    if !policy.datacenters.is_empty() {
        return Some("it is for some datacenters, and would count everywhere here; make it anew".into());
    }
    let rules = Rules::parse(policy.rules.as_deref().unwrap_or_default());
    rules.err().map(|error| format!("its rules cannot be read here: {error}"))
}

/// Why a token cannot be made here as it is, where the policies of these names are `here` as they are there.
pub(super) fn token_fault(token: &AclToken, here: &BTreeSet<String>) -> Option<String> {
    if token.accessor_id == ANONYMOUS {
        return Some("it is builtin; give the one here what it may do".into());
    }
    if let Some(name) = token.other_rights().next() {
        return Some(format!("it has {name}, which are not here; make it anew with policies"));
    }
    let missing = token.policies.iter().find(|link| link.id != GLOBAL_MANAGEMENT && !here.contains(&link.name));
    missing.map(|link| format!("its policy {:?} is not here as it is there", link.name))
}

/// Why a token's secret cannot be made one here.
pub(super) fn secret_fault(secret: &str) -> Option<&'static str> {
    if matches!(secret, "" | "<hidden>") {
        return Some("its secret is not shown to the token of --from-token-file, which needs acl = \"write\"");
    }
    let is_uuid = Uuid::try_parse(secret).is_ok_and(|uuid| uuid.hyphenated().to_string() == secret);
    (!is_uuid).then_some("its secret is no UUID; make it anew")
}

/// Why the token that is `here` cannot become as is `wanted`.
pub(super) fn change_fault(wanted: &AclToken, here: &AclToken) -> Option<&'static str> {
    let is_same = (wanted.local, &wanted.expiration_time) == (here.local, &here.expiration_time);
    (!is_same).then_some("neither its end nor that it is local can be changed here; delete the one that is here")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn token(value: Value) -> AclToken {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn what_registries_add_of_their_own_is_no_difference() {
        let theirs =
            token(json!({"AccessorID": "a", "SecretID": "s", "ExpirationTime": "2030-01-02T03:04:05.123456789Z",
            "Policies": [{"ID": "2", "Name": "b"}, {"ID": "1", "Name": "a"}, {"ID": GLOBAL_MANAGEMENT, "Name": "all"}],
            "CreateIndex": 4, "Hash": "x"}));
        let ours =
            token(json!({"AccessorID": "a", "SecretID": "<hidden>", "ExpirationTime": "2030-01-02T03:04:05.123Z",
            "Policies": [{"ID": "9", "Name": "a"}, {"ID": "8", "Name": "b"},
                {"ID": GLOBAL_MANAGEMENT, "Name": "global-management"}]}));
        assert_eq!(of_token(&theirs), of_token(&ours));
        let local = token(json!({"AccessorID": "a", "Local": true}));
        let common = token(json!({"AccessorID": "a"}));
        assert_ne!(of_token(&local), of_token(&common));
        assert!(change_fault(&local, &common).is_some() && change_fault(&common, &common).is_none());
    }

    #[test]
    fn a_policy_that_would_mean_something_else_is_not_carried() {
        let check = |name: &str, rules: &str, datacenters: &[&str], want: &str| {
            let policy: AclPolicy =
                serde_json::from_value(json!({"Name": name, "Rules": rules, "Datacenters": datacenters})).unwrap();
            let fault = policy_fault(&policy).unwrap_or_default();
            assert!(fault.contains(want) && fault.is_empty() == want.is_empty(), "{name} {rules}: {fault}");
        };
        check("p", r#"key_prefix "" { policy = "read" }"#, &[], "");
        check("p", "", &[], "");
        check("p", "key_prefix {", &[], "cannot be read here");
        check("p", "", &["dc2"], "datacenters");
        check("builtin/global-read-only", "", &[], "Consul's own");
    }

    #[test]
    fn a_token_that_could_do_something_else_is_not_carried() {
        let here = BTreeSet::from(["p".to_owned()]);
        let check = |more: Value, want: &str| {
            let mut value = json!({"AccessorID": "a"});
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let fault = token_fault(&token(value), &here).unwrap_or_default();
            assert!(fault.contains(want) && fault.is_empty() == want.is_empty(), "{more}: {fault}");
        };
        check(json!({"Policies": [{"ID": "1", "Name": "p"}, {"ID": GLOBAL_MANAGEMENT, "Name": "x"}]}), "");
        check(json!({"Policies": [{"ID": "1", "Name": "q"}]}), "\"q\" is not here");
        check(json!({"Policies": null, "Roles": [{"ID": "1", "Name": "r"}]}), "it has Roles");
        check(json!({"ServiceIdentities": [{"ServiceName": "web"}]}), "it has ServiceIdentities");
        check(json!({"NodeIdentities": [{"NodeName": "n"}]}), "it has NodeIdentities");
        check(json!({"AccessorID": ANONYMOUS, "Policies": [{"ID": "1", "Name": "p"}]}), "builtin");
    }

    #[test]
    fn a_secret_must_be_one_that_is_found_again() {
        assert_eq!(secret_fault("11111111-2222-4333-8444-55555555abcd"), None);
        for secret in ["", "<hidden>", "root", "11111111-2222-4333-8444-55555555ABCD"] {
            assert!(secret_fault(secret).is_some(), "{secret}");
        }
    }
}
