//! `/v1/acl`: tokens and policies; 401 while there is no access control, as Consul answers with ACLs switched off; 410 for
//! what Consul dropped.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::StatusCode;
use jiff::Timestamp;
use kvstore_client::types::{AclLink, AclPolicy, AclToken};
use kvstore_core::{
    Command, Index, State, WatchKey,
    credentials::{Credentials, Digest, Policy, Token},
    names::{PolicyId, TokenId},
    row::{Row, Stamped},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::{path::Path, time::Duration};
use uuid::Uuid;

use super::{
    Answer, App, Call, Route, Rule, access,
    blocking::{Found, Read},
    delete,
    error::ApiError,
    json as to_json,
    json::{compact, decode_known},
    plain, post, put, read, text,
};
use crate::acl;

/// Every endpoint of access control.
pub(super) static ROUTES: &[Route] = &[
    // Who makes the first token has none yet.
    put("/v1/acl/bootstrap", Rule::Rows, later!(bootstrap)),
    post("/v1/acl/login", Rule::Rows, later!(not_here)),
    post("/v1/acl/logout", Rule::Rows, later!(not_here)),
    plain("/v1/acl/replication", Rule::ACL_READ, replication),
    read("/v1/acl/tokens", Rule::ACL_READ, tokens),
    put("/v1/acl/token", Rule::ACL_WRITE, later!(create_token)),
    plain("/v1/acl/token/self", Rule::Rows, own_token),
    put("/v1/acl/token/*/clone", Rule::ACL_WRITE, later!(clone_token)),
    read("/v1/acl/token/", Rule::ACL_READ, token),
    put("/v1/acl/token/", Rule::ACL_WRITE, later!(update_token)),
    delete("/v1/acl/token/", Rule::ACL_WRITE, later!(delete_token)),
    read("/v1/acl/policies", Rule::ACL_READ, policies),
    put("/v1/acl/policy", Rule::ACL_WRITE, later!(create_policy)),
    read("/v1/acl/policy/name/", Rule::ACL_READ, policy_by_name),
    read("/v1/acl/policy/", Rule::ACL_READ, policy),
    put("/v1/acl/policy/", Rule::ACL_WRITE, later!(update_policy)),
    delete("/v1/acl/policy/", Rule::ACL_WRITE, later!(delete_policy)),
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
    put("/v1/acl/create", Rule::Rows, later!(legacy_create)),
    put("/v1/acl/update", Rule::Rows, later!(legacy_update)),
    put("/v1/acl/destroy/", Rule::Rows, later!(legacy_destroy)),
    plain("/v1/acl/info/", Rule::Rows, legacy_info),
    put("/v1/acl/clone/", Rule::Rows, later!(legacy_clone)),
    plain("/v1/acl/list", Rule::Rows, legacy_list),
    post("/v1/acl/rules/translate", Rule::Rows, later!(legacy_rules)),
    plain("/v1/acl/rules/translate/", Rule::Rows, legacy_rules_of),
];

/// Where a secret is not shown: only its digest is known.
const HIDDEN: &str = "<hidden>";

/// A token lives at least and at most this long, if not for ever.
const MIN_TTL: Duration = Duration::from_mins(1);
const MAX_TTL: Duration = Duration::from_hours(24);

/// # Errors
/// [`ApiError::NoAccessControl`] if there is none.
fn needs_acl(app: &App) -> Result<(), ApiError> {
    if app.counts_tokens() { Ok(()) } else { Err(ApiError::NoAccessControl) }
}

fn unknown() -> ApiError {
    ApiError::NotFound("ACL not found".into())
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

fn token_id(text: &str) -> Result<TokenId, ApiError> {
    TokenId::new(text).ok_or_else(|| ApiError::BadRequest(format!("the accessor id {text:?} is no UUID")))
}

fn policy_id(text: &str) -> Result<PolicyId, ApiError> {
    PolicyId::new(text).ok_or_else(|| ApiError::BadRequest(format!("the policy id {text:?} is no UUID")))
}

/// A new secret and its digest.
fn new_secret() -> (String, Digest) {
    let secret = Uuid::new_v4().hyphenated().to_string();
    let digest = access::digest(&secret);
    (secret, digest)
}

async fn bootstrap(app: &App, call: Call) -> Answer {
    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Body {
        bootstrap_secret: String,
    }
    needs_acl(app)?;
    let body: Body = if call.body.is_empty() { Body::default() } else { decode_known(&call.body)? };
    let (secret, digest) =
        if body.bootstrap_secret.is_empty() { new_secret() } else { given_secret(&body.bootstrap_secret)? };
    let file = app.about.bootstrap_reset.as_deref();
    let reset = file.and_then(reset_index);
    let token = acl::management(digest);
    let accessor = token.accessor.clone();
    let token = Box::new(Token { description: "Bootstrap Token (Global Management)".into(), ..token });
    app.submit(&call.caller, Command::BootstrapAcl { token, reset }).await?;
    tracing::warn!(%accessor, "the first token was made: it may do everything");
    if let Some(file) = file.filter(|_| reset.is_some())
        && let Err(error) = std::fs::remove_file(file)
    {
        tracing::error!(file = %file.display(), %error, "remove this file: it lets a first token be made again");
    }
    answer_token(app, &accessor, &secret)
}

/// The index that an operator has written into the file by which a first token is made again.
fn reset_index(file: &Path) -> Option<Index> {
    let text = std::fs::read_to_string(file).ok()?;
    text.trim().parse().ok().map(Index)
}

fn given_secret(secret: &str) -> Result<(String, Digest), ApiError> {
    let uuid = Uuid::try_parse(secret).map_err(|_| ApiError::BadRequest("a SecretID must be a UUID".into()))?;
    let secret = uuid.hyphenated().to_string();
    let digest = access::digest(&secret);
    Ok((secret, digest))
}

/// The token as the state has it now, with its secret for who has just made it.
fn answer_token(app: &App, accessor: &TokenId, secret: &str) -> Answer {
    let state = app.registry.whole();
    let credentials = state.credentials();
    // Somebody else may have deleted it meanwhile.
    let token = credentials.token(accessor).ok_or_else(unknown)?;
    Ok(to_json(&shown(credentials, token, secret)))
}

/// A token as the API shows it.
fn shown(credentials: &Credentials, token: &Stamped<Token>, secret: &str) -> AclToken {
    let name = |id: &PolicyId| credentials.policy(id).map(|policy| policy.name.clone()).unwrap_or_default();
    AclToken {
        accessor_id: token.accessor.to_string(),
        secret_id: secret.into(),
        description: token.description.clone(),
        policies: token.policies.iter().map(|id| AclLink { id: id.to_string(), name: name(id) }).collect(),
        local: token.local,
        expiration_time: (!token.ends.is_zero()).then(|| time(token.ends)),
        create_time: time(token.made),
        hash: Some(hash(&Row::Token(token.value.clone()))),
        create_index: token.created.0,
        modify_index: token.modified.0,
        ..AclToken::default()
    }
}

fn time(since_1970: Duration) -> String {
    let at = i64::try_from(since_1970.as_millis()).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.unwrap_or(Timestamp::MAX).to_string()
}

/// Of a row's content: another one once that is another.
fn hash(row: &Row) -> String {
    STANDARD.encode(Sha256::digest(row.encode(Index(0), Index(0))))
}

fn tokens(app: &App, call: &Call) -> Result<Read, ApiError> {
    let policy = call.query.get("policy").filter(|id| !id.is_empty()).map(policy_id).transpose()?;
    let read = listing(app, move |state| {
        let credentials = state.credentials();
        let has = |token: &Token| policy.as_ref().is_none_or(|policy| token.policies.contains(policy));
        let listed = credentials.tokens().filter(|token| has(token));
        Found::Json(compact(&listed.map(|token| shown(credentials, token, HIDDEN)).collect::<Vec<_>>()))
    });
    Ok(read?.shared())
}

fn token(app: &App, call: &Call) -> Result<Read, ApiError> {
    let (accessor, with_rules) = (token_id(&call.rest)?, call.query.has("expanded"));
    one(app, move |credentials| {
        let token = credentials.token(&accessor)?;
        let policies = token.policies.iter().filter_map(|id| credentials.policy(id));
        let expanded = with_rules.then(|| policies.map(|policy| shown_policy(policy, true)).collect());
        Some(Expanded { token: shown(credentials, token, HIDDEN), expanded_policies: expanded })
    })
}

/// A token, and where that is asked for, its policies with their rules.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Expanded {
    #[serde(flatten)]
    token: AclToken,
    #[serde(skip_serializing_if = "Option::is_none")]
    expanded_policies: Option<Vec<AclPolicy>>,
}

/// The token that the caller shows, which it knows already.
fn own_token(app: &App, call: &Call) -> Answer {
    needs_acl(app)?;
    let accessor = call.caller.token.as_ref().ok_or_else(unknown)?;
    let secret = access::secret(&call.headers, &call.query);
    answer_token(app, accessor, secret.unwrap_or(HIDDEN))
}

/// The token that a body says, and the ids of its policies.
fn wanted(app: &App, call: &Call) -> Result<(AclToken, Vec<PolicyId>), ApiError> {
    needs_acl(app)?;
    let body: AclToken = decode_known(&call.body)?;
    if let Some(name) = body.other_rights().next() {
        return Err(ApiError::BadRequest(format!("{name} are not supported here; give the token policies")));
    }
    let state = app.registry.whole();
    let mut policies = Vec::new();
    for link in &body.policies {
        let id = if link.id.is_empty() {
            let policy = state.credentials().policy_named(&link.name);
            let unknown = || ApiError::BadRequest(format!("No such ACL policy with name {:?}", link.name));
            policy.ok_or_else(unknown)?.id.clone()
        } else {
            policy_id(&link.id)?
        };
        if !policies.contains(&id) {
            policies.push(id);
        }
    }
    Ok((body, policies))
}

/// When a token ends, since 1970; zero: never. Go's clients send the year 1 where they mean nothing.
fn end(body: &AclToken, made: Duration) -> Result<Duration, ApiError> {
    let at = match &body.expiration_time {
        None => None,
        Some(text) => Some(text.parse::<Timestamp>().map_err(|error| {
            ApiError::BadRequest(format!("ExpirationTime {text:?} is no time as RFC 3339 has it: {error}"))
        })?),
    };
    let at = at.and_then(|at| u64::try_from(at.as_millisecond()).ok()).map(Duration::from_millis);
    let ttl = body.expiration_ttl.map(|ttl| ttl.0).filter(|ttl| !ttl.is_zero());
    let ends = match (at, ttl) {
        (Some(_), Some(_)) => {
            let why = "Token Expiration TTL and Expiration Time cannot both be set";
            return Err(ApiError::BadRequest(why.into()));
        }
        (at, ttl) => at.or_else(|| ttl.map(|ttl| made + ttl)),
    };
    let Some(ends) = ends else { return Ok(Duration::ZERO) };
    let lives = ends.saturating_sub(made);
    if (MIN_TTL..=MAX_TTL).contains(&lives) {
        return Ok(ends);
    }
    let (min, max) = (MIN_TTL.as_secs(), MAX_TTL.as_secs());
    Err(ApiError::BadRequest(format!("a token that ends lives for {min} to {max} seconds")))
}

async fn create_token(app: &App, call: Call) -> Answer {
    let (body, policies) = wanted(app, &call)?;
    let (secret, digest) = if body.secret_id.is_empty() { new_secret() } else { given_secret(&body.secret_id)? };
    let accessor = if body.accessor_id.is_empty() { acl::new_token_id() } else { token_id(&body.accessor_id)? };
    let made = acl::now();
    let token = Token {
        accessor: accessor.clone(),
        secret: Some(digest),
        ends: end(&body, made)?,
        description: body.description,
        policies,
        local: body.local,
        made,
    };
    app.submit(&call.caller, Command::CreateToken { token: Box::new(token) }).await?;
    answer_token(app, &accessor, &secret)
}

async fn clone_token(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    let body: AclToken = if call.body.is_empty() { AclToken::default() } else { decode_known(&call.body)? };
    let of = app.registry.whole().credentials().token(&token_id(&call.rest)?).cloned().ok_or_else(unknown)?;
    let (secret, digest) = new_secret();
    let accessor = acl::new_token_id();
    let description = if body.description.is_empty() { of.description.clone() } else { body.description };
    let (secret_digest, made) = (Some(digest), acl::now());
    let token = Token { accessor: accessor.clone(), secret: secret_digest, description, made, ..of.value.clone() };
    app.submit(&call.caller, Command::CreateToken { token: Box::new(token) }).await?;
    answer_token(app, &accessor, &secret)
}

async fn update_token(app: &App, call: Call) -> Answer {
    let (body, policies) = wanted(app, &call)?;
    let token = token_id(&call.rest)?;
    if !body.accessor_id.is_empty() && token_id(&body.accessor_id)? != token {
        return Err(ApiError::BadRequest("Token Accessor ID in URL and payload do not match".into()));
    }
    let old = app.registry.whole().credentials().token(&token).cloned().ok_or_else(unknown)?;
    let names_another = |secret: &str| old.secret != Some(access::digest(secret));
    if !matches!(body.secret_id.as_str(), "" | HIDDEN | "anonymous") && names_another(&body.secret_id) {
        return Err(ApiError::BadRequest("Changing a token's SecretID is not permitted".into()));
    }
    let description = body.description;
    app.submit(&call.caller, Command::UpdateToken { token: token.clone(), description, policies }).await?;
    answer_token(app, &token, HIDDEN)
}

async fn delete_token(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    app.submit(&call.caller, Command::DeleteToken { token: token_id(&call.rest)? }).await?;
    Ok(to_json(&true))
}

/// A policy as the API shows it; lists are without the rules.
fn shown_policy(policy: &Stamped<Policy>, with_rules: bool) -> AclPolicy {
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

fn policies(app: &App, _: &Call) -> Result<Read, ApiError> {
    let read = listing(app, |state| {
        let listed = state.credentials().policies().map(|policy| shown_policy(policy, false));
        Found::Json(compact(&listed.collect::<Vec<_>>()))
    });
    Ok(read?.shared())
}

fn policy(app: &App, call: &Call) -> Result<Read, ApiError> {
    let id = policy_id(&call.rest)?;
    one(app, move |credentials| credentials.policy(&id).map(|policy| shown_policy(policy, true)))
}

fn policy_by_name(app: &App, call: &Call) -> Result<Read, ApiError> {
    let name = call.rest.clone();
    one(app, move |credentials| credentials.policy_named(&name).map(|policy| shown_policy(policy, true)))
}

async fn create_policy(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    let body: AclPolicy = decode_known(&call.body)?;
    if !body.id.is_empty() {
        return Err(ApiError::BadRequest("Cannot specify the ID when creating a new policy".into()));
    }
    let id = policy_id(&Uuid::new_v4().hyphenated().to_string())?;
    let policy = policy_of(body, id.clone());
    app.submit(&call.caller, Command::CreatePolicy { policy: Box::new(policy) }).await?;
    answer_policy(app, &id)
}

async fn update_policy(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    let (body, id): (AclPolicy, _) = (decode_known(&call.body)?, policy_id(&call.rest)?);
    if !body.id.is_empty() && policy_id(&body.id)? != id {
        return Err(ApiError::BadRequest("Policy ID in URL and payload do not match".into()));
    }
    app.submit(&call.caller, Command::UpdatePolicy { policy: Box::new(policy_of(body, id.clone())) }).await?;
    answer_policy(app, &id)
}

fn policy_of(body: AclPolicy, id: PolicyId) -> Policy {
    let AclPolicy { name, description, rules, datacenters, .. } = body;
    Policy { id, name, description, rules: rules.unwrap_or_default(), datacenters }
}

fn answer_policy(app: &App, id: &PolicyId) -> Answer {
    let state = app.registry.whole();
    Ok(to_json(&shown_policy(state.credentials().policy(id).ok_or_else(unknown)?, true)))
}

async fn delete_policy(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    app.submit(&call.caller, Command::DeletePolicy { policy: policy_id(&call.rest)? }).await?;
    Ok(to_json(&true))
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

fn gone(path: &str, rest: &str) -> Answer {
    Ok(text(StatusCode::GONE, format!("Endpoint {path}{rest} for the legacy ACL system was removed in Consul 1.11.")))
}

async fn legacy_create(_: &App, _: Call) -> Answer {
    gone("/v1/acl/create", "")
}

async fn legacy_update(_: &App, _: Call) -> Answer {
    gone("/v1/acl/update", "")
}

async fn legacy_destroy(_: &App, call: Call) -> Answer {
    gone("/v1/acl/destroy/", &call.rest)
}

fn legacy_info(_: &App, call: &Call) -> Answer {
    gone("/v1/acl/info/", &call.rest)
}

async fn legacy_clone(_: &App, call: Call) -> Answer {
    gone("/v1/acl/clone/", &call.rest)
}

fn legacy_list(_: &App, _: &Call) -> Answer {
    gone("/v1/acl/list", "")
}

async fn legacy_rules(_: &App, _: Call) -> Answer {
    gone("/v1/acl/rules/translate", "")
}

fn legacy_rules_of(_: &App, call: &Call) -> Answer {
    gone("/v1/acl/rules/translate/", &call.rest)
}
