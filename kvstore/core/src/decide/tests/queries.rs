//! Prepared queries: names, ids, sessions and templates.

use serde_json::json;

use super::*;
use crate::prepared_query::{NAME_PREFIX_MATCH, PreparedQuery, QueryId};

fn id(number: u32) -> QueryId {
    QueryId::new(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
}

/// The query of that number and name for `web`, with these other fields.
#[allow(clippy::needless_pass_by_value)] // as json! makes it
fn query(number: u32, name: &str, fields: serde_json::Value) -> Box<PreparedQuery> {
    let mut row = json!({"id": id(number), "name": name, "service": {"service": "web"}});
    for (field, value) in fields.as_object().unwrap() {
        row[field] = value.clone();
    }
    Box::new(serde_json::from_value(row).unwrap())
}

fn keep(query: Box<PreparedQuery>) -> Command {
    Command::CreateQuery { query }
}

fn template() -> serde_json::Value {
    json!({"template": {"kind": NAME_PREFIX_MATCH}})
}

/// Query 1 is `web`, 2 a template for every name.
fn state() -> State {
    given([keep(query(1, "Web", json!({}))), keep(query(2, "", template()))])
}

const ROW_1: &str = "+q/00000001-0000-4000-8000-000000000000";
const ROW_3: &str = "+q/00000003-0000-4000-8000-000000000000";

#[test]
fn names_are_unique_in_any_case_and_no_ids() {
    let state = state();
    let create = |name: &str, fields, expected: &str| case(&state, &keep(query(3, name, fields)), expected);
    create("other", json!({}), ROW_3);
    create("wEB", json!({}), "raft apply failed: name 'wEB' aliases an existing query name");
    create("wEB", template(), "raft apply failed: name 'wEB' aliases an existing query name");
    create("", template(), "raft apply failed: a query template with an empty name already exists");
    let name = id(1).as_str().to_uppercase();
    create(&name, json!({}), &format!("raft apply failed: name '{name}' aliases an existing query ID"));
    create(id(9).as_str(), json!({}), ROW_3);
    case(&state, &keep(query(1, "other", json!({}))), "the rows changed while the command was decided; try again");
}

#[test]
fn an_update_is_of_something_and_may_keep_its_name() {
    let state = state();
    let update = |number, name: &str, fields| Command::UpdateQuery { query: query(number, name, fields) };
    case(&state, &update(1, "Web", json!({})), "");
    case(&state, &update(1, "web", json!({})), ROW_1);
    case(&state, &update(1, "other", json!({})), ROW_1);
    case(
        &state,
        &update(2, "", json!({"template": {"kind": NAME_PREFIX_MATCH, "regexp": "x"}})),
        &ROW_1.replace('1', "2"),
    );
    case(&state, &update(2, "web", json!({})), "raft apply failed: name 'web' aliases an existing query name");
    let unknown = "Cannot modify non-existent prepared query: '00000003-0000-4000-8000-000000000000'";
    // Whether it is there is asked first.
    case(&state, &update(3, "", json!({})), unknown);
    case(&state, &Command::DeleteQuery { query: id(3) }, unknown);
    case(&state, &Command::DeleteQuery { query: id(1) }, &ROW_1.replace('+', "-"));
}

#[test]
fn definitions_and_templates_are_checked() {
    let state = state();
    let create = |name: &str, fields, expected: &str| case(&state, &keep(query(3, name, fields)), expected);
    create("", json!({}), "Invalid prepared query: Must be bound to a session");
    create("x", json!({"service": {"service": ""}}), "Invalid prepared query: Must provide a Service name to query");
    create(
        "x",
        json!({"template": {"kind": "nope"}}),
        "raft apply failed: failed compiling template: Bad Template.Type 'nope'",
    );
}

#[test]
fn a_query_goes_with_its_session() {
    let bound = |number, name: &str| keep(query(number, name, json!({"session": "s"})));
    case(&state(), &bound(3, ""), "raft apply failed: invalid session \"s\"");
    let all = [host("n"), create(session("s")), create(session("t")), lock("k", "s"), bound(3, ""), bound(4, "b")];
    let state = given(all.into_iter().chain([keep(query(5, "free", json!({})))]));
    let gone = "+k/k 1x nobody -q/00000003-0000-4000-8000-000000000000 -q/00000004-0000-4000-8000-000000000000 -s/s";
    case(&state, &Command::DestroySession { session: session_id("s") }, gone);
    case(&state, &Command::DestroySession { session: session_id("t") }, "-s/t");
    case(&state, &Command::ExpireSession { session: session_id("s") }, gone);
    case(&state, &deregister("n"), &format!("-n/n* {gone} -s/t"));
}
