//! What Consul dropped in 1.11: 410, as there.

use hyper::StatusCode;

use crate::http::{Answer, App, Call, text};

fn gone(path: &str, rest: &str) -> Answer {
    Ok(text(StatusCode::GONE, format!("Endpoint {path}{rest} for the legacy ACL system was removed in Consul 1.11.")))
}

pub(super) async fn create(_: &App, _: Call) -> Answer {
    gone("/v1/acl/create", "")
}

pub(super) async fn update(_: &App, _: Call) -> Answer {
    gone("/v1/acl/update", "")
}

pub(super) async fn destroy(_: &App, call: Call) -> Answer {
    gone("/v1/acl/destroy/", &call.rest)
}

pub(super) fn info(_: &App, call: &Call) -> Answer {
    gone("/v1/acl/info/", &call.rest)
}

pub(super) async fn clone(_: &App, call: Call) -> Answer {
    gone("/v1/acl/clone/", &call.rest)
}

pub(super) fn list(_: &App, _: &Call) -> Answer {
    gone("/v1/acl/list", "")
}

pub(super) async fn rules(_: &App, _: Call) -> Answer {
    gone("/v1/acl/rules/translate", "")
}

pub(super) fn rules_of(_: &App, call: &Call) -> Answer {
    gone("/v1/acl/rules/translate/", &call.rest)
}
