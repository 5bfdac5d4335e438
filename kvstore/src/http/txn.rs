//! `/v1/txn`: many changes, all or none.

use hyper::{Response, StatusCode};
use kvstore_client::types::{HealthCheck, KvEntry, Node, NodeService};
use kvstore_core::{
    Command, KvVerb, Outcome, Refusal, RowVerb, State, TxnError, TxnResult, TxnStep, decide,
    names::{Key, NodeKey, SessionId},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Answer, App, Body, Call, blocking,
    catalog::shape,
    error::ApiError,
    json as to_json,
    json::decode_steps,
    register,
    shape::{self, Shape},
    strict,
};
use crate::store::WriteError;

/// As with Consul.
const MAX_STEPS: usize = 128;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Operation {
    #[serde(rename = "KV")]
    kv: Option<KvOperation>,
    node: Option<NodeOperation>,
    service: Option<ServiceOperation>,
    check: Option<CheckOperation>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct KvOperation {
    verb: String,
    key: String,
    #[serde(with = "kvstore_client::types::base64_or_null")]
    value: bytes::Bytes,
    flags: u64,
    index: u64,
    session: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NodeOperation {
    verb: String,
    node: Node,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ServiceOperation {
    verb: String,
    node: String,
    service: NodeService,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CheckOperation {
    verb: String,
    check: HealthCheck,
}

pub(super) async fn run(app: &App, call: Call) -> Answer {
    let operations: Vec<Operation> = decode_steps(&call.body)?;
    if operations.len() > MAX_STEPS {
        return Err(ApiError::TooManySteps { steps: operations.len(), max: MAX_STEPS });
    }
    let checks = operations.iter().filter_map(|operation| Some(&operation.check.as_ref()?.check));
    if app.about.strict_consul
        && let Some(extension) = strict::by_checks(checks)
    {
        return Err(extension.refused());
    }
    let steps = operations.into_iter().map(step).collect::<Result<Vec<_>, _>>()?;
    let shape = shape(app);
    if steps.iter().all(TxnStep::reads) {
        let state = app.state(&call.caller);
        let outcome = decide(&state, &Command::Txn { steps }).map(|decision| decision.outcome);
        return Ok(read_only(&shape, &state, &outcome));
    }
    let mut command = Command::Txn { steps };
    if app.about.strict_consul {
        register::only_echo(&mut command);
    }
    match app.submit(&call.caller, command).await {
        Ok((mut outcome, _)) => {
            if let (Outcome::Txn(results), Some(authority)) = (&mut outcome, call.caller.authority()) {
                authority.retain_readable(results);
            }
            Ok(to_json(&answer(&shape, &app.state(&call.caller), &Ok(outcome))))
        }
        Err(ApiError::Write(WriteError::Refused(refusal @ Refusal::Txn(_)))) => {
            Ok(conflict(&answer(&shape, &app.state(&call.caller), &Err(refusal))))
        }
        Err(error) => Err(error),
    }
}

/// What changed nothing also says where it stood, as a read does, but for an index to wait on.
fn read_only(shape: &Shape, state: &State, outcome: &Result<Outcome, Refusal>) -> Response<Body> {
    let mut body = answer(shape, state, outcome);
    for (name, value) in [
        ("Index", json!(state.index().0)),
        ("LastContact", json!(0)),
        ("KnownLeader", json!(true)),
        ("ConsistencyLevel", json!("")),
        ("NotModified", json!(false)),
        ("Backend", json!(0)),
        ("ResultsFilteredByACLs", json!(false)),
    ] {
        body[name] = value;
    }
    let mut response = if outcome.is_ok() { to_json(&body) } else { conflict(&body) };
    blocking::describe_without_index(response.headers_mut());
    response
}

fn conflict(body: &Value) -> Response<Body> {
    let mut response = to_json(body);
    *response.status_mut() = StatusCode::CONFLICT;
    response
}

fn answer(shape: &Shape, state: &State, outcome: &Result<Outcome, Refusal>) -> Value {
    match outcome {
        Ok(Outcome::Txn(results)) => {
            let results: Vec<_> = results.iter().map(|result| shown(shape, state, result)).collect();
            json!({"Results": results, "Errors": null})
        }
        Err(Refusal::Txn(errors)) => {
            let error = |error: &TxnError| json!({"OpIndex": error.step, "What": error.what});
            json!({"Results": null, "Errors": errors.iter().map(error).collect::<Vec<_>>()})
        }
        other => unreachable!("a transaction ends as one: {other:?}"),
    }
}

fn shown(shape: &Shape, state: &State, result: &TxnResult) -> Value {
    match result {
        TxnResult::Kv { entry, with_value } => {
            let entry = shape::kv(entry);
            json!({"KV": if *with_value { entry } else { KvEntry { value: bytes::Bytes::new(), ..entry } }})
        }
        TxnResult::NoSuchKey(key) => {
            json!({"KV": {"LockIndex": 0, "Key": key, "Flags": 0, "Value": null, "CreateIndex": 0, "ModifyIndex": 0}})
        }
        TxnResult::Node(node) => json!({"Node": shape.node(node)}),
        TxnResult::Instance(instance) => {
            json!({"Service": no_tags_as_null(json!(shape::node_service(instance)), "Tags")})
        }
        TxnResult::Check(check) => {
            json!({"Check": no_tags_as_null(json!(shape::check(state, check)), "ServiceTags")})
        }
    }
}

/// Here, unlike in the catalog, Consul shows no tags as `null`.
fn no_tags_as_null(mut row: Value, field: &str) -> Value {
    if row[field].as_array().is_some_and(Vec::is_empty) {
        row[field] = Value::Null;
    }
    row
}

fn step(operation: Operation) -> Result<TxnStep, ApiError> {
    let step = match operation {
        Operation { kv: Some(kv), .. } => kv_step(kv),
        Operation { node: Some(node), .. } => node_step(node),
        Operation { service: Some(service), .. } => service_step(service),
        Operation { check: Some(check), .. } => check_step(check),
        _ => {
            let why = "an operation is an object with one of \"KV\", \"Node\", \"Service\" and \"Check\"";
            return Err(ApiError::BadRequest(format!("Failed to parse body: {why}")));
        }
    };
    Ok(step.unwrap_or_else(|what| TxnStep::Wrong { what }))
}

fn kv_step(kv: KvOperation) -> Result<TxnStep, String> {
    let session = || SessionId::new(&kv.session).map_err(|_| format!("invalid session {:?}", kv.session));
    let verb = match kv.verb.as_str() {
        "get-tree" => return Ok(TxnStep::KvGetTree(kv.key)),
        "delete-tree" => return Ok(TxnStep::KvDeleteTree(kv.key)),
        "set" => KvVerb::Set,
        "cas" => KvVerb::Cas(kv.index),
        "lock" => KvVerb::Lock { session: session()?, delayed: false },
        "unlock" => KvVerb::Unlock(session()?),
        "get" => KvVerb::Get,
        "get-or-empty" => KvVerb::GetOrEmpty,
        "check-index" => KvVerb::CheckIndex(kv.index),
        "check-session" => KvVerb::CheckSession(kv.session),
        "check-not-exists" => KvVerb::CheckNotExists,
        "delete" => KvVerb::Delete,
        "delete-cas" => KvVerb::DeleteCas(kv.index),
        other => return Err(format!("unknown KV verb {other:?}")),
    };
    let key = Key::new(&kv.key).ok_or("Missing key name")?;
    Ok(TxnStep::Kv { verb, key, value: kv.value, flags: kv.flags })
}

fn row_verb(verb: &str, what: &str, index: u64) -> Result<RowVerb, String> {
    Ok(match verb {
        "get" => RowVerb::Get,
        "set" => RowVerb::Set,
        "cas" => RowVerb::Cas(index),
        "delete" => RowVerb::Delete,
        "delete-cas" => RowVerb::DeleteCas(index),
        other => return Err(format!("unknown {what} verb {other:?}")),
    })
}

fn node_step(operation: NodeOperation) -> Result<TxnStep, String> {
    let verb = row_verb(&operation.verb, "Node", operation.node.modify_index)?;
    let body = operation.node;
    let name = if body.node.is_empty() { None } else { Some(node_key(&body.node)?) };
    if matches!(verb, RowVerb::Set | RowVerb::Cas(_)) {
        if name.is_none() {
            return Err("Must provide node".into());
        }
        if body.address.is_empty() {
            return Err("Must provide address".into());
        }
    }
    let node = register::node(body).map_err(|e| e.to_string())?;
    Ok(TxnStep::Node { verb, name, node: Box::new(node) })
}

fn service_step(operation: ServiceOperation) -> Result<TxnStep, String> {
    let verb = row_verb(&operation.verb, "Service", operation.service.modify_index)?;
    let node = node_key(&operation.node)?;
    let body = operation.service;
    let id = if body.id.is_empty() { &body.service } else { &body.id };
    let id = kvstore_core::names::InstanceId::new(id).map_err(|e| e.to_string())?;
    let writes = matches!(verb, RowVerb::Set | RowVerb::Cas(_));
    let instance = writes.then(|| register::instance(&node, body)).transpose().map_err(|e| e.to_string())?;
    Ok(TxnStep::Instance { verb, node, id, instance: instance.map(Box::new) })
}

fn check_step(operation: CheckOperation) -> Result<TxnStep, String> {
    let body = operation.check;
    let verb = row_verb(&operation.verb, "Check", body.modify_index)?;
    let (node, name) = (node_key(&body.node)?, body.node.clone());
    let check = register::check(&name, &node, body).map_err(|e| e.to_string())?;
    Ok(TxnStep::Check { verb, node, id: check.id.clone(), check: Some(Box::new(check)) })
}

fn node_key(name: &str) -> Result<NodeKey, String> {
    NodeKey::new(name).map_err(|e| e.to_string())
}
