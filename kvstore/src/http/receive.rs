//! The body of a request: within its bounds, and in time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::{Received, error::ApiError};

/// Any other body has at most this many bytes: a registration with all its metadata is far below.
pub(super) const MAX_BODY_BYTES: usize = 4 << 20;

/// The time a client may take to send a body.
pub(super) const BODY_DEADLINE: Duration = Duration::from_mins(1);

/// Of a body that is refused, this much is waited for, and so long.
const DISCARDED_BYTES: usize = 8 << 20;
const DISCARD_DEADLINE: Duration = Duration::from_secs(2);

/// The whole body, if it comes in time and is not too long; chunked ones are measured too.
pub(super) async fn read_body(mut body: Received, max_bytes: usize, deadline: Duration) -> Result<Bytes, ApiError> {
    let declared = hyper::body::Body::size_hint(&body).lower();
    let too_large = |bytes: Option<u64>| ApiError::BodyTooLarge { bytes, max_bytes };
    if declared > max_bytes as u64 {
        discard(&mut body).await;
        return Err(too_large(Some(declared)));
    }
    let collect = Limited::new(&mut body, max_bytes).collect();
    match tokio::time::timeout(deadline, collect).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(&mut body).await;
            Err(too_large(None))
        }
        Ok(Err(error)) => Err(ApiError::BrokenBody(error.to_string())),
        Err(_) => Err(ApiError::SlowBody),
    }
}

/// Takes what is left of a refused body, within bounds. Most clients listen only once they have sent all, and a connection
/// that is closed before that takes the refusal with it.
async fn discard(body: &mut Received) {
    let all = async {
        let mut left = DISCARDED_BYTES;
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        }
    };
    let _ = tokio::time::timeout(DISCARD_DEADLINE, all).await;
}
