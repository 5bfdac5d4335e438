//! `/v1/acl/token`, and `/v1/acl/bootstrap`, which makes the first one.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use kvstore_client::types::{AclLink, AclPolicy, AclToken};
use kvstore_core::{
    Command, Index,
    credentials::{Credentials, Digest, Token},
    names::{PolicyId, TokenId},
    row::{Row, Stamped},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    hash, listing, needs_acl, one,
    policies::{self, policy_id},
    unknown,
};
use crate::{
    acl,
    http::{
        Answer, App, Call, access,
        blocking::{Found, Read},
        error::ApiError,
        json as to_json,
        json::{compact, decode_known},
    },
};

/// Where a secret is not shown: only its digest is known.
const HIDDEN: &str = "<hidden>";

/// A token lives at least and at most this long, if not for ever.
const MIN_TTL: Duration = Duration::from_mins(1);
const MAX_TTL: Duration = Duration::from_hours(24);

fn token_id(text: &str) -> Result<TokenId, ApiError> {
    TokenId::new(text).ok_or_else(|| ApiError::BadRequest(format!("the accessor id {text:?} is no UUID")))
}

/// A new secret and its digest.
fn new_secret() -> (String, Digest) {
    let secret = Uuid::new_v4().hyphenated().to_string();
    let digest = access::digest(&secret);
    (secret, digest)
}

pub(super) async fn bootstrap(app: &App, call: Call) -> Answer {
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
    answer(app, &accessor, &secret)
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
fn answer(app: &App, accessor: &TokenId, secret: &str) -> Answer {
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

pub(super) fn list(app: &App, call: &Call) -> Result<Read, ApiError> {
    let policy = call.query.get("policy").filter(|id| !id.is_empty()).map(policy_id).transpose()?;
    let read = listing(app, move |state| {
        let credentials = state.credentials();
        let has = |token: &Token| policy.as_ref().is_none_or(|policy| token.policies.contains(policy));
        let listed = credentials.tokens().filter(|token| has(token));
        Found::Json(compact(&listed.map(|token| shown(credentials, token, HIDDEN)).collect::<Vec<_>>()))
    });
    Ok(read?.shared())
}

pub(super) fn get(app: &App, call: &Call) -> Result<Read, ApiError> {
    let (accessor, with_rules) = (token_id(&call.rest)?, call.query.has("expanded"));
    one(app, move |credentials| {
        let token = credentials.token(&accessor)?;
        let policies = token.policies.iter().filter_map(|id| credentials.policy(id));
        let expanded = with_rules.then(|| policies.map(|policy| policies::shown(policy, true)).collect());
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
pub(super) fn own(app: &App, call: &Call) -> Answer {
    needs_acl(app)?;
    let accessor = call.caller.token.as_ref().ok_or_else(unknown)?;
    let secret = access::secret(&call.headers, &call.query);
    answer(app, accessor, secret.unwrap_or(HIDDEN))
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

pub(super) async fn create(app: &App, call: Call) -> Answer {
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
    answer(app, &accessor, &secret)
}

pub(super) async fn copy(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    let body: AclToken = if call.body.is_empty() { AclToken::default() } else { decode_known(&call.body)? };
    let of = app.registry.whole().credentials().token(&token_id(&call.rest)?).cloned().ok_or_else(unknown)?;
    let (secret, digest) = new_secret();
    let accessor = acl::new_token_id();
    let description = if body.description.is_empty() { of.description.clone() } else { body.description };
    let (secret_digest, made) = (Some(digest), acl::now());
    let token = Token { accessor: accessor.clone(), secret: secret_digest, description, made, ..of.value.clone() };
    app.submit(&call.caller, Command::CreateToken { token: Box::new(token) }).await?;
    answer(app, &accessor, &secret)
}

pub(super) async fn update(app: &App, call: Call) -> Answer {
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
    answer(app, &token, HIDDEN)
}

pub(super) async fn remove(app: &App, call: Call) -> Answer {
    needs_acl(app)?;
    app.submit(&call.caller, Command::DeleteToken { token: token_id(&call.rest)? }).await?;
    Ok(to_json(&true))
}
