//! `/v1/acl`: tokens and policies; 401 while there is no access control, as Consul answers with ACLs switched off; 410 for
//! what Consul dropped.

mod legacy;
mod policies;
mod tokens;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use kvstore_core::{Index, State, WatchKey, credentials::Credentials, row::Row};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    Answer, App, Call, Route, Rule, access,
    blocking::{Found, Read},
    delete,
    error::ApiError,
    json as to_json,
    json::{compact, decode_known},
    plain, post, put, read, text,
};

/// Every endpoint of access control.
pub(super) static ROUTES: &[Route] = &[
    // Who makes the first token has none yet.
    put("/v1/acl/bootstrap", Rule::Rows, later!(tokens::bootstrap)),
    post("/v1/acl/login", Rule::Rows, later!(not_here)),
    post("/v1/acl/logout", Rule::Rows, later!(not_here)),
    plain("/v1/acl/replication", Rule::ACL_READ, replication),
    read("/v1/acl/tokens", Rule::ACL_READ, tokens::list),
    put("/v1/acl/token", Rule::ACL_WRITE, later!(tokens::create)),
    plain("/v1/acl/token/self", Rule::Rows, tokens::own),
    put("/v1/acl/token/*/clone", Rule::ACL_WRITE, later!(tokens::copy)),
    read("/v1/acl/token/", Rule::ACL_READ, tokens::get),
    put("/v1/acl/token/", Rule::ACL_WRITE, later!(tokens::update)),
    delete("/v1/acl/token/", Rule::ACL_WRITE, later!(tokens::remove)),
    read("/v1/acl/policies", Rule::ACL_READ, policies::list),
    put("/v1/acl/policy", Rule::ACL_WRITE, later!(policies::create)),
    read("/v1/acl/policy/name/", Rule::ACL_READ, policies::by_name),
    read("/v1/acl/policy/", Rule::ACL_READ, policies::get),
    put("/v1/acl/policy/", Rule::ACL_WRITE, later!(policies::update)),
    delete("/v1/acl/policy/", Rule::ACL_WRITE, later!(policies::remove)),
    read("/v1/acl/roles", Rule::ACL_READ, none),
    put("/v1/acl/role", Rule::ACL_WRITE, later!(not_here)),
    plain("/v1/acl/role/", Rule::ACL_READ, not_there),
    put("/v1/acl/role/", Rule::ACL_WRITE, later!(not_here)),
    delete("/v1/acl/role/", Rule::ACL_WRITE, later!(not_here)),
    read("/v1/acl/auth-methods", Rule::ACL_READ, none),
    put("/v1/acl/auth-method", Rule::ACL_WRITE, later!(not_here)),
    plain("/v1/acl/auth-method/", Rule::ACL_READ, not_there),
    put("/v1/acl/auth-method/", Rule::ACL_WRITE, later!(not_here)),
    delete("/v1/acl/auth-method/", Rule::ACL_WRITE, later!(not_here)),
    read("/v1/acl/binding-rules", Rule::ACL_READ, none),
    put("/v1/acl/binding-rule", Rule::ACL_WRITE, later!(not_here)),
    plain("/v1/acl/binding-rule/", Rule::ACL_READ, not_there),
    put("/v1/acl/binding-rule/", Rule::ACL_WRITE, later!(not_here)),
    delete("/v1/acl/binding-rule/", Rule::ACL_WRITE, later!(not_here)),
    post("/v1/internal/acl/authorize", Rule::Rows, later!(not_here)),
    put("/v1/agent/token/", Rule::AGENT_WRITE, later!(agent_token)),
    put("/v1/acl/create", Rule::Rows, later!(legacy::create)),
    put("/v1/acl/update", Rule::Rows, later!(legacy::update)),
    put("/v1/acl/destroy/", Rule::Rows, later!(legacy::destroy)),
    plain("/v1/acl/info/", Rule::Rows, legacy::info),
    put("/v1/acl/clone/", Rule::Rows, later!(legacy::clone)),
    plain("/v1/acl/list", Rule::Rows, legacy::list),
    post("/v1/acl/rules/translate", Rule::Rows, later!(legacy::rules)),
    plain("/v1/acl/rules/translate/", Rule::Rows, legacy::rules_of),
];

/// # Errors
/// [`ApiError::NoAccessControl`] if there is none.
fn needs_acl(app: &App) -> Result<(), ApiError> {
    if app.counts_tokens() { Ok(()) } else { Err(ApiError::NoAccessControl) }
}

fn unknown() -> ApiError {
    ApiError::NotFound("ACL not found".into())
}

/// Of a row's content: another one once that is another.
fn hash(row: &Row) -> String {
    STANDARD.encode(Sha256::digest(row.encode(Index(0), Index(0))))
}

/// A read of tokens and policies, which are in nobody's view; the rules of the routes guard them.
fn listing(app: &App, render: impl Fn(&State) -> Found + Send + Sync + 'static) -> Result<Read, ApiError> {
    needs_acl(app)?;
    Ok(Read::of([WatchKey::Acl], render).of_all())
}

/// The same of one of them, which must be there.
fn one<T: Serialize>(
    app: &App,
    find: impl Fn(&Credentials) -> Option<T> + Send + Sync + 'static,
) -> Result<Read, ApiError> {
    needs_acl(app)?;
    find(app.registry.whole().credentials()).ok_or_else(unknown)?;
    listing(app, move |state| find(state.credentials()).map_or(Found::Nothing, |found| Found::Json(compact(&found))))
}

/// Nothing is replicated: there is one datacenter.
fn replication(app: &App, _: &Call) -> Answer {
    needs_acl(app)?;
    Ok(to_json(&json!({
        "Enabled": false, "Running": false, "SourceDatacenter": "", "ReplicationType": "", "ReplicatedIndex": 0,
        "ReplicatedRoleIndex": 0, "ReplicatedTokenIndex": 0, "LastSuccess": "0001-01-01T00:00:00Z",
        "LastError": "0001-01-01T00:00:00Z", "LastErrorMessage": "",
    })))
}

fn none(app: &App, _: &Call) -> Result<Read, ApiError> {
    needs_acl(app)?;
    Ok(Read::unchanging(compact(&json!([]))))
}

fn not_there(app: &App, _: &Call) -> Answer {
    needs_acl(app)?;
    Err(unknown())
}

async fn not_here(app: &App, _: Call) -> Answer {
    needs_acl(app)?;
    let why =
        "only tokens and policies are kept here: no roles, auth methods or binding rules, and nobody logs in by them";
    Ok(text(StatusCode::NOT_IMPLEMENTED, why))
}

/// Gives this agent another token, until it is started anew or its configuration is read again.
async fn agent_token(app: &App, call: Call) -> Answer {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Body {
        token: String,
    }
    needs_acl(app)?;
    let body: Body = decode_known(&call.body)?;
    let given = (!body.token.is_empty()).then(|| access::digest(&body.token));
    let name = call.rest.as_str();
    match name {
        "default" | "acl_token" => app.about.guard.change_tokens(|tokens| tokens.default = given),
        "dns" => app.about.guard.change_tokens(|tokens| tokens.dns = given),
        // This agent does its own work without a token, and there is nothing to replicate.
        "agent"
        | "acl_agent_token"
        | "agent_recovery"
        | "agent_master"
        | "acl_agent_master_token"
        | "replication"
        | "acl_replication_token"
        | "config_file_service_registration" => {}
        _ => return Err(ApiError::NotFound(format!("Token {name:?} is unknown"))),
    }
    tracing::info!(token = name, "a client has given this agent a token");
    Ok(super::empty())
}
