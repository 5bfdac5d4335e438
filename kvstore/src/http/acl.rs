//! `/v1/acl` while there is no access control: 401, as Consul answers with ACLs switched off; 410 for what it dropped.

use hyper::StatusCode;

use super::{Answer, App, Call, Route, delete, plain, post, put, text};

/// Every endpoint of access control.
pub(super) static ROUTES: &[Route] = &[
    put("/v1/acl/bootstrap", later!(off)),
    post("/v1/acl/login", later!(off)),
    post("/v1/acl/logout", later!(off)),
    plain("/v1/acl/replication", off_to_read),
    plain("/v1/acl/tokens", off_to_read),
    put("/v1/acl/token", later!(off)),
    plain("/v1/acl/token/self", off_to_read),
    plain("/v1/acl/token/", off_to_read),
    put("/v1/acl/token/", later!(off)),
    delete("/v1/acl/token/", later!(off)),
    plain("/v1/acl/policies", off_to_read),
    put("/v1/acl/policy", later!(off)),
    plain("/v1/acl/policy/", off_to_read),
    put("/v1/acl/policy/", later!(off)),
    delete("/v1/acl/policy/", later!(off)),
    plain("/v1/acl/roles", off_to_read),
    put("/v1/acl/role", later!(off)),
    plain("/v1/acl/role/", off_to_read),
    put("/v1/acl/role/", later!(off)),
    delete("/v1/acl/role/", later!(off)),
    plain("/v1/acl/auth-methods", off_to_read),
    put("/v1/acl/auth-method", later!(off)),
    plain("/v1/acl/auth-method/", off_to_read),
    put("/v1/acl/auth-method/", later!(off)),
    delete("/v1/acl/auth-method/", later!(off)),
    plain("/v1/acl/binding-rules", off_to_read),
    put("/v1/acl/binding-rule", later!(off)),
    plain("/v1/acl/binding-rule/", off_to_read),
    put("/v1/acl/binding-rule/", later!(off)),
    delete("/v1/acl/binding-rule/", later!(off)),
    post("/v1/internal/acl/authorize", later!(off)),
    put("/v1/agent/token/", later!(off)),
    put("/v1/acl/create", later!(legacy_create)),
    put("/v1/acl/update", later!(legacy_update)),
    put("/v1/acl/destroy/", later!(legacy_destroy)),
    plain("/v1/acl/info/", legacy_info),
    put("/v1/acl/clone/", later!(legacy_clone)),
    plain("/v1/acl/list", legacy_list),
    post("/v1/acl/rules/translate", later!(legacy_rules)),
    plain("/v1/acl/rules/translate/", legacy_rules_of),
];

fn off_to_read(_: &App, _: &Call) -> Answer {
    Ok(text(StatusCode::UNAUTHORIZED, "ACL support disabled"))
}

async fn off(app: &App, call: Call) -> Answer {
    off_to_read(app, &call)
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
