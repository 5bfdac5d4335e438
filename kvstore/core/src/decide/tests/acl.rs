//! Tokens and policies: the first token, what is unique, what is always there, and what goes with a policy.

use super::*;
use crate::{
    credentials::{ANONYMOUS, Digest, GLOBAL_MANAGEMENT, Policy, Token},
    names::{PolicyId, TokenId},
};

fn token_id(number: u8) -> TokenId {
    TokenId::new(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
}

fn policy_id(number: u8) -> PolicyId {
    PolicyId::new(token_id(number).as_str()).unwrap()
}

/// The token of that number and secret.
fn token(number: u8, secret: u8, policies: &[PolicyId]) -> Box<Token> {
    Box::new(Token {
        accessor: token_id(number),
        secret: Some(Digest([secret; 32])),
        description: String::new(),
        policies: policies.to_vec(),
        local: false,
        made: Duration::from_secs(1),
        ends: Duration::ZERO,
    })
}

#[allow(clippy::unnecessary_box_returns)] // as the commands want it
fn policy(number: u8, name: &str, rules: &str) -> Box<Policy> {
    let (description, datacenters) = (String::new(), Vec::new());
    Box::new(Policy { id: policy_id(number), name: name.into(), description, rules: rules.into(), datacenters })
}

fn prepare(management: Option<Box<Token>>) -> Command {
    Command::PrepareAcl { now: Duration::from_secs(1), management }
}

fn bootstrap(number: u8, reset: Option<u64>) -> Command {
    Command::BootstrapAcl { token: token(number, number, &[]), reset: reset.map(Index) }
}

fn row(sign: &str, table: &str, number: u8) -> String {
    format!("{sign}a/{table}/{}", token_id(number))
}

/// Policy 1 is `p`, token 2 has it.
fn state() -> State {
    let all = [
        prepare(None),
        Command::CreatePolicy { policy: policy(1, "p", r#"key "a" { policy = "read" }"#) },
        Command::CreateToken { token: token(2, 2, &[policy_id(1)]) },
    ];
    given(all)
}

const BUILTIN: &str = "+a/p/00000000-0000-0000-0000-000000000001";

#[test]
fn what_is_always_there_is_put_once_and_a_management_token_is_the_first() {
    let anonymous = format!("+a/t/{ANONYMOUS}");
    let empty = State::empty(Index(1));
    case(&empty, &prepare(None), &format!("{BUILTIN} {anonymous}"));
    let first = format!("{} +a/bootstrap", row("+", "t", 9));
    case(&empty, &prepare(Some(token(9, 9, &[]))), &format!("{BUILTIN} {anonymous} {first}"));
    case(&state(), &prepare(None), "");
    case(&state(), &prepare(Some(token(9, 9, &[]))), &first);
    case(&state(), &prepare(Some(token(9, 2, &[]))), "");
    let bootstrapped = given([bootstrap(3, None), prepare(None)]);
    case(&bootstrapped, &prepare(Some(token(9, 9, &[]))), &row("+", "t", 9));
}

#[test]
fn the_first_token_is_made_once_or_by_who_knows_the_index() {
    let all = format!("{BUILTIN} {} +a/bootstrap", row("+", "t", 3));
    case(&State::empty(Index(1)), &bootstrap(3, None), &all);
    let done = given([bootstrap(3, None)]);
    let index = done.index().0;
    let refused = format!("Permission denied: ACL bootstrap no longer allowed (reset index: {index})");
    case(&done, &bootstrap(4, None), &refused);
    case(&done, &bootstrap(4, Some(index + 1)), &refused);
    case(&done, &bootstrap(4, Some(index)), &format!("{} +a/bootstrap", row("+", "t", 4)));
    let token = done.credentials().token(&token_id(3)).unwrap();
    assert_eq!(token.policies, [PolicyId::new(GLOBAL_MANAGEMENT).unwrap()]);
}

#[test]
fn tokens_have_ids_and_secrets_of_their_own_and_policies_that_are_there() {
    let state = state();
    let create = |token, expected: &str| case(&state, &Command::CreateToken { token }, expected);
    create(token(3, 3, &[]), &row("+", "t", 3));
    create(token(2, 3, &[]), "Invalid Token: AccessorID is already in use");
    create(token(3, 2, &[]), "Invalid Token: SecretID is already in use");
    let unknown = format!("No such ACL policy with ID {:?}", policy_id(7));
    create(token(3, 3, &[policy_id(7)]), &unknown);
    let update = |number, policies: &[PolicyId], expected: &str| {
        let (description, policies) = ("d".into(), policies.to_vec());
        case(&state, &Command::UpdateToken { token: token_id(number), description, policies }, expected);
    };
    update(2, &[], &row("+", "t", 2));
    update(2, &[policy_id(7)], &unknown);
    update(3, &[], "token does not exist: ACL not found");
    let delete = |token, expected: &str| case(&state, &Command::DeleteToken { token }, expected);
    delete(token_id(2), &row("-", "t", 2));
    delete(token_id(3), "token does not exist: ACL not found");
    delete(TokenId::new(ANONYMOUS).unwrap(), "Delete operation not permitted on the anonymous token");
    let lasting = Token { made: Duration::from_secs(5), ends: Duration::from_secs(65), ..*token(3, 3, &[]) };
    let id = RowKey::Token(lasting.accessor.clone());
    let made = decide(&state, &Command::CreateToken { token: lasting.into() }).unwrap().changes;
    assert_eq!(made.renews, [Renewal { row: id.clone(), within: Duration::from_mins(1) }]);
    let expired = decide(&state, &Command::ExpireToken { token: token_id(3) }).unwrap().changes;
    assert!(expired.expects.contains(&Expect::Lapsed(id)), "{expired:?}");
    case(&state, &Command::ExpireToken { token: token_id(2) }, &row("-", "t", 2));
    case(&state, &Command::ExpireToken { token: token_id(3) }, "");
}

#[test]
fn a_token_that_changes_keeps_its_secret_and_one_that_goes_is_not_found_by_it() {
    let (secret, token) = (Digest([2; 32]), token_id(2));
    let update = Command::UpdateToken { token: token.clone(), description: "d".into(), policies: vec![] };
    let mut state = state();
    for (command, found) in [(update, Some("d")), (Command::DeleteToken { token }, None)] {
        let changes = decide(&state, &command).unwrap().changes;
        let touched = state.apply(state.index().next(), &changes);
        assert!(touched.contains(&crate::WatchKey::Acl));
        assert_eq!(state.index_of(&crate::WatchKey::Acl), state.index());
        assert_eq!(state.credentials().token_of(&secret).map(|token| token.description.as_str()), found);
    }
}

#[test]
fn policies_have_names_of_their_own_and_go_from_the_tokens_that_have_them() {
    let state = state();
    let create = |policy, expected: &str| case(&state, &Command::CreatePolicy { policy }, expected);
    create(policy(3, "q", ""), &row("+", "p", 3));
    create(policy(3, "p", ""), "Invalid Policy: A Policy with Name \"p\" already exists");
    create(policy(1, "q", ""), "the rows changed while the command was decided; try again");
    for name in ["", "a b", "\u{e4}", &"x".repeat(129)] {
        create(policy(3, name, ""), &AclRefusal::Name.to_string());
    }
    let refused = decide(&state, &Command::CreatePolicy { policy: policy(3, "q", "key \"a\" {\n  policy = 7 }") });
    let refused = refused.unwrap_err().to_string();
    assert!(refused.starts_with("Invalid Policy: the rules cannot be read: line 2, column 12: "), "{refused}");
    let update = |policy, expected: &str| case(&state, &Command::UpdatePolicy { policy }, expected);
    update(policy(1, "q", ""), &row("+", "p", 1));
    update(policy(3, "q", ""), "policy does not exist: ACL not found");
    let delete = |policy, expected: &str| case(&state, &Command::DeletePolicy { policy }, expected);
    delete(policy_id(1), &format!("{} {}", row("+", "t", 2), row("-", "p", 1)));
    delete(policy_id(3), "policy does not exist: ACL not found");
}

#[test]
fn the_policy_that_permits_everything_is_always_there_and_the_same() {
    let (state, id) = (state(), PolicyId::new(GLOBAL_MANAGEMENT).unwrap());
    let builtin = state.credentials().policy(&id).unwrap().value.clone();
    crate::acl::Rules::parse(&builtin.rules).unwrap();
    let changed = |rules: &str, description: &str| {
        let (description, rules) = (description.to_owned(), rules.to_owned());
        Command::UpdatePolicy { policy: Box::new(Policy { description, rules, ..builtin.clone() }) }
    };
    case(&state, &changed("", ""), "Changing the Rules for the builtin global-management policy is not permitted");
    case(&state, &changed(&builtin.rules, "other"), BUILTIN);
    let refused = "Delete operation not permitted on the builtin global-management policy";
    case(&state, &Command::DeletePolicy { policy: id }, refused);
}
