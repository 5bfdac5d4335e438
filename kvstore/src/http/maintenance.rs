//! Maintenance: a critical check put beside the others takes an instance, or the whole node, out of use until it goes.

use kvstore_core::{
    Command, Refusal, State, Target,
    health::Status,
    names::{CheckId, InstanceId},
    row::{Check, Owner},
};
use serde_json::Value;

use super::{Answer, App, Call, empty, error::ApiError};
use crate::store::WriteError;

/// The node's check.
const NODE_CHECK: &str = "_node_maintenance";

/// What the id of an instance's check begins with; the instance's id follows.
const INSTANCE_CHECK: &str = "_service_maintenance:";

/// What an instance is said to be in, instead of its checks' states; `Type` of the checks too.
pub(super) const WORD: &str = "maintenance";

/// Whether `check` is there because somebody switched maintenance on.
pub(super) fn is_maintenance(check: &Check) -> bool {
    check.id.as_str() == NODE_CHECK || check.id.as_str().starts_with(INSTANCE_CHECK)
}

pub(super) async fn of_instance(app: &App, call: Call) -> Answer {
    if call.rest.is_empty() {
        return Err(ApiError::BadRequest("Missing service ID".into()));
    }
    let enable = wanted(&call)?;
    let id = InstanceId::new(&call.rest)?;
    let known = app.state(&call.caller).instance(&app.about.node, &id).is_some_and(|i| i.owner == Owner::Agent);
    if !known {
        return Err(WriteError::from(Refusal::UnknownInstance(id)).into());
    }
    let check = CheckId::new(&format!("{INSTANCE_CHECK}{id}"))?;
    switch(app, &call, enable, row(app, check, Some(id), "Service Maintenance Mode", reason(&call, "service"))).await
}

pub(super) async fn of_node(app: &App, call: Call) -> Answer {
    let enable = wanted(&call)?;
    let check = CheckId::new(NODE_CHECK).expect("a constant name");
    switch(app, &call, enable, row(app, check, None, "Node Maintenance Mode", reason(&call, "node"))).await
}

/// Whether maintenance is to begin or to end.
fn wanted(call: &Call) -> Result<bool, ApiError> {
    let word = call.query.get("enable").ok_or_else(|| ApiError::BadRequest("Missing value for enable".into()))?;
    match word {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(ApiError::BadRequest(format!("Invalid value for enable: {word:?}"))),
    }
}

fn reason(call: &Call, what: &str) -> String {
    let given = call.query.get("reason").filter(|reason| !reason.is_empty()).map(ToOwned::to_owned);
    given.unwrap_or_else(|| {
        format!("Maintenance mode is enabled for this {what}, but no reason was provided. This is a default message.")
    })
}

fn row(app: &App, id: CheckId, service: Option<InstanceId>, name: &str, notes: String) -> Check {
    Check {
        node: app.about.node.clone(),
        id,
        name: name.into(),
        status: Status::Critical,
        notes,
        output: String::new(),
        service,
        kind: WORD.into(),
        probe: None,
        interval: String::new(),
        timeout: String::new(),
        definition: Value::Null,
        owner: Owner::Agent,
        from_file: false,
    }
}

/// What is on stays as it is when it is switched on again, its reason too; what is off stays off.
async fn switch(app: &App, call: &Call, enable: bool, check: Check) -> Answer {
    let is_on = |state: &State| state.check(&check.node, &check.id).is_some();
    if is_on(&app.state(&call.caller)) == enable {
        return Ok(empty());
    }
    let (node, id) = (check.node.clone(), check.id.clone());
    tracing::info!(check = %id, enable, reason = check.notes, request = %call.id, "maintenance is switched");
    let command = if enable {
        Command::RegisterCheck { check: Box::new(check) }
    } else {
        Command::DeregisterOwn { node, target: Target::Check(id) }
    };
    match app.submit(&call.caller, command).await {
        // Somebody else has ended it in between.
        Ok(_) | Err(ApiError::Write(WriteError::Refused(Refusal::UnknownCheck(_)))) => Ok(empty()),
        Err(error) => Err(error),
    }
}
