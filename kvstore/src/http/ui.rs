//! The web UI at `/ui/`: files in the binary. They read and write by the public API only, with what their user may.

use bytes::Bytes;
use hyper::{
    Method, Response, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};

use super::Body;

/// Scripts and styles from the files below alone, requests to this agent alone, in nobody's frame; no text becomes a
/// script or HTML.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and content of each file.
const FILES: &[(&str, &str, &str)] = &[
    ("", "text/html; charset=utf-8", include_str!("../ui/index.html")),
    ("style.css", "text/css; charset=utf-8", include_str!("../ui/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("../ui/icon.svg")),
    ("access.js", SCRIPT, include_str!("../ui/access.js")),
    ("actions.js", SCRIPT, include_str!("../ui/actions.js")),
    ("api.js", SCRIPT, include_str!("../ui/api.js")),
    ("app.js", SCRIPT, include_str!("../ui/app.js")),
    ("ask.js", SCRIPT, include_str!("../ui/ask.js")),
    ("bindings.js", SCRIPT, include_str!("../ui/bindings.js")),
    ("changes.js", SCRIPT, include_str!("../ui/changes.js")),
    ("dom.js", SCRIPT, include_str!("../ui/dom.js")),
    ("health.js", SCRIPT, include_str!("../ui/health.js")),
    ("hosts.js", SCRIPT, include_str!("../ui/hosts.js")),
    ("keys.js", SCRIPT, include_str!("../ui/keys.js")),
    ("list.js", SCRIPT, include_str!("../ui/list.js")),
    ("log.js", SCRIPT, include_str!("../ui/log.js")),
    ("registry.js", SCRIPT, include_str!("../ui/registry.js")),
    ("services.js", SCRIPT, include_str!("../ui/services.js")),
    ("theme.js", SCRIPT, include_str!("../ui/theme.js")),
];

/// The answer to a request for a file, or for where the UI begins; none if it is for something else.
pub(super) fn answer(method: &Method, path: &str) -> Option<Response<Body>> {
    if method != Method::GET {
        return None;
    }
    if path == "/" || path == "/ui" {
        return Some(moved());
    }
    let wanted = path.strip_prefix("/ui/")?;
    let (_, kind, content) = FILES.iter().find(|(name, ..)| *name == wanted)?;
    let mut response = Response::new(Body::new(Bytes::from_static(content.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // A newer agent has newer files under the same names.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

fn moved() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/ui/"));
    response
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_file_is_served_and_nothing_else() {
        let there = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ui")).unwrap();
        let there: BTreeSet<_> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let served = FILES.iter().map(|(name, ..)| if name.is_empty() { "index.html" } else { name });
        assert_eq!(served.map(String::from).collect::<BTreeSet<_>>(), there);
        let status = |path: &str| answer(&Method::GET, path).map(|answer| answer.status().as_u16());
        for (path, expected) in [
            ("/", Some(302)),
            ("/ui", Some(302)),
            ("/ui/", Some(200)),
            ("/ui/app.js", Some(200)),
            ("/ui/index.html", None),
            ("/ui/../lib.rs", None),
            ("/ui/%2e%2e/lib.rs", None),
            ("/uix", None),
            ("/v1/ui/", None),
        ] {
            assert_eq!(status(path), expected, "{path}");
        }
        assert!(answer(&Method::PUT, "/ui/").is_none());
    }

    #[test]
    fn files_keep_to_the_policy() {
        for (name, _, content) in FILES {
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "document.write", " style=", "onclick=\""]
            {
                assert!(!content.contains(forbidden), "{forbidden} in {name}");
            }
        }
    }
}
