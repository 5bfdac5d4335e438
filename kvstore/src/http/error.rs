//! What goes wrong in a request, and the status and text a client gets for it: here and nowhere else.
//!
//! Clients match on some of the texts and statuses, so they are Consul's: many mistakes of the client are a 500 there.

use hyper::{Response, StatusCode, header::RETRY_AFTER};
use kvstore_core::{AclRefusal, Refusal, acl::Denied, names::NameError};

use super::{Body, text};
use crate::{agent::registration::InvalidRegistration, store::WriteError};

/// Why a request gets no ordinary answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// No endpoint there.
    #[error("Invalid URL path: {0}")]
    NoSuchPath(&'static str),
    /// The path cannot be decoded.
    #[error("the path is not text once its %XX are decoded")]
    BadPath,
    /// A parameter or body that is wrong by itself; the text is for the client.
    #[error("{0}")]
    BadRequest(String),
    /// What is named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// What Consul answers with a 500 although it is the client's mistake.
    #[error("{0}")]
    Rejected(String),
    /// Over the limit.
    #[error("{}", too_large(*.bytes, *.max_bytes))]
    BodyTooLarge {
        /// If the client said it.
        bytes: Option<u64>,
        /// The limit.
        max_bytes: usize,
    },
    /// A transaction with more than is done at once.
    #[error("Transaction contains too many operations ({steps} > {max})")]
    TooManySteps {
        /// How many it has.
        steps: usize,
        /// The limit.
        max: usize,
    },
    /// The connection broke or the chunks are wrong.
    #[error("the body cannot be read: {0}")]
    BrokenBody(String),
    /// The body did not come in time.
    #[error("the body took too long to arrive")]
    SlowBody,
    /// The agent's owner does not want it.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Asked about tokens and policies, and none count.
    #[error("ACL support disabled")]
    NoAccessControl,
    /// Its token does not permit it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// As much is under way as may be.
    #[error("{0}; try again")]
    Busy(&'static str),
    /// A replica's hub cannot be asked; nothing was changed.
    #[error("{0}")]
    HubAway(String),
    /// A replica's hub was asked, and did not answer.
    #[error("{0}; whether it was done is not known")]
    HubSilent(String),
    /// Replicas pass it on to each other.
    #[error("replicas pass this request on in a circle; one of them must name a registry that is no replica")]
    Circle,
    /// The store said no.
    #[error(transparent)]
    Write(#[from] WriteError),
}

fn too_large(bytes: Option<u64>, max_bytes: usize) -> String {
    let bytes = bytes.map_or_else(|| format!("more than {max_bytes}"), |b| b.to_string());
    format!("Request body({bytes} bytes) too large, max size: {max_bytes} bytes.")
}

impl ApiError {
    pub(super) fn no_such_path(path: &str) -> Self {
        Self::NoSuchPath(if path.contains("/v1/") {
            "not a recognized HTTP API endpoint\n"
        } else {
            "if attempting to use the HTTP API, ensure the path starts with '/v1/'\n"
        })
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoSuchPath(_) | Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::BadPath | Self::BadRequest(_) | Self::BrokenBody(_) => StatusCode::BAD_REQUEST,
            Self::BodyTooLarge { .. } | Self::TooManySteps { .. } | Self::Write(WriteError::TooLarge(_)) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            Self::Forbidden(_) | Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::NoAccessControl => StatusCode::UNAUTHORIZED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Rejected(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Write(WriteError::Refused(refusal)) => match refusal {
                Refusal::UnknownInstance(_)
                | Refusal::UnknownCheck(_)
                | Refusal::CheckOfUnknownInstance(_)
                | Refusal::UnknownSession(_)
                | Refusal::Acl(AclRefusal::UnknownToken | AclRefusal::UnknownPolicy) => StatusCode::NOT_FOUND,
                Refusal::Acl(AclRefusal::Bootstrapped(_)) => StatusCode::FORBIDDEN,
                Refusal::Acl(_) => StatusCode::BAD_REQUEST,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::HubSilent(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Circle => StatusCode::LOOP_DETECTED,
            Self::Busy(_) | Self::HubAway(_) | Self::Write(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let status = self.status();
        let mut response = text(status, self.to_string());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<InvalidRegistration> for ApiError {
    fn from(error: InvalidRegistration) -> Self {
        Self::BadRequest(error.to_string())
    }
}

impl From<NameError> for ApiError {
    fn from(error: NameError) -> Self {
        Self::BadRequest(error.to_string())
    }
}
