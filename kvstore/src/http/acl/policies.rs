//! `/v1/acl/policy`: rules by name.

use kvstore_client::types::AclPolicy;
use kvstore_core::{
    Command,
    credentials::Policy,
    names::PolicyId,
    row::{Row, Stamped},
};
use uuid::Uuid;

use super::{hash, listing, needs_acl, one, unknown};
use crate::http::{
    Answer, App, Call,
    blocking::{Found, Read},
    error::ApiError,
    json as to_json,
    json::{compact, decode_known},
};

pub(super) fn policy_id(text: &str) -> Result<PolicyId, ApiError> {
    PolicyId::new(text).ok_or_else(|| ApiError::BadRequest(format!("the policy id {text:?} is no UUID")))
}

/// A policy as the API shows it; lists are without the rules.
pub(super) fn shown(policy: &Stamped<Policy>, with_rules: bool) -> AclPolicy {
    AclPolicy {
        id: policy.id.to_string(),
        name: policy.name.clone(),
        description: policy.description.clone(),
        rules: with_rules.then(|| policy.rules.clone()),
        datacenters: policy.datacenters.clone(),
        hash: Some(hash(&Row::Policy(policy.value.clone()))),
        create_index: policy.created.0,
        modify_index: policy.modified.0,
    }
}

pub(super) fn list(app: &App, _: &Call) -> Result<Read, ApiError> {
    let read = listing(app, |state| {
        let listed = state.credentials().policies().map(|policy| shown(policy, false));
        Found::Json(compact(&listed.collect::<Vec<_>>()))
    });
    Ok(read?.shared())
}

pub(super) fn get(app: &App, call: &Call) -> Result<Read, ApiError> {
    let id = policy_id(&call.rest)?;
    one(app, move |credentials| credentials.policy(&id).map(|policy| shown(policy, true)))
}

pub(super) fn by_name(app: &App, call: &Call) -> Result<Read, ApiError> {
    let name = call.rest.clone();
    one(app, move |credentials| credentials.policy_named(&name).map(|policy| shown(policy, true)))
}

pub(super) async fn create(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    let body: AclPolicy = decode_known(&call.body)?;
    if !body.id.is_empty() {
        return Err(ApiError::BadRequest("Cannot specify the ID when creating a new policy".into()));
    }
    let id = policy_id(&Uuid::new_v4().hyphenated().to_string())?;
    let policy = policy_of(body, id.clone());
    app.submit(&call.caller, Command::CreatePolicy { policy: Box::new(policy) }).await?;
    answer(app, &id)
}

pub(super) async fn update(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    let (body, id): (AclPolicy, _) = (decode_known(&call.body)?, policy_id(&call.rest)?);
    if !body.id.is_empty() && policy_id(&body.id)? != id {
        return Err(ApiError::BadRequest("Policy ID in URL and payload do not match".into()));
    }
    app.submit(&call.caller, Command::UpdatePolicy { policy: Box::new(policy_of(body, id.clone())) }).await?;
    answer(app, &id)
}

fn policy_of(body: AclPolicy, id: PolicyId) -> Policy {
    let AclPolicy { name, description, rules, datacenters, .. } = body;
    Policy { id, name, description, rules: rules.unwrap_or_default(), datacenters }
}

fn answer(app: &App, id: &PolicyId) -> Answer {
    let state = app.registry.whole();
    Ok(to_json(&shown(state.credentials().policy(id).ok_or_else(unknown)?, true)))
}

pub(super) async fn remove(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    app.submit(&call.caller, Command::DeletePolicy { policy: policy_id(&call.rest)? }).await?;
    Ok(to_json(&true))
}
