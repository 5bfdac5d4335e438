//! gzip for clients that take it and bodies that are worth it.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use hyper::{
    Response,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, HeaderMap, HeaderValue},
};

use super::Body;

/// A shorter body fits into one packet anyway.
const MIN_BYTES: usize = 1400;

/// A longer body is packed on a thread that may take its time: this is about 2 ms of work.
const MAX_INLINE_BYTES: usize = 128 << 10;

/// Whether the client takes gzip: named, or by `*`, and not with a weight of 0.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let given = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let weight = |coding: &str| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let q = parameters.trim().strip_prefix("q=").map_or(Some(1.0), |q| q.trim().parse::<f32>().ok());
        Some((name.trim().to_ascii_lowercase(), q?))
    };
    let codings: Vec<_> = given.flat_map(|list| list.split(',')).filter_map(weight).collect();
    let named = |name: &str| codings.iter().find(|(coding, _)| coding == name).map(|(_, q)| *q > 0.0);
    named("gzip").or_else(|| named("*")).unwrap_or(false)
}

/// `response` packed, if that makes it shorter; what comes in pieces stays as it is.
pub(super) async fn worth_it(response: Response<Body>) -> Response<Body> {
    let Some(bytes) = response.body().whole().filter(|bytes| bytes.len() >= MIN_BYTES).cloned() else {
        return response;
    };
    let (plain_bytes, shared) = (bytes.len(), response.body().rendered().cloned());
    let at_once = plain_bytes <= MAX_INLINE_BYTES || shared.as_ref().is_some_and(|rendered| rendered.is_packed());
    let pack = move || match &shared {
        Some(rendered) => rendered.packed(pack),
        None => pack(&bytes),
    };
    let packed = if at_once { pack() } else { tokio::task::spawn_blocking(pack).await.ok().flatten() };
    let Some(packed) = packed.filter(|packed| packed.len() < plain_bytes) else { return response };
    let mut response = response.map(|_| Body::new(packed));
    response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    response
}

/// The fastest level: JSON shrinks to a tenth with it, and to little less with the others.
fn pack(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn clients_say_what_they_take() {
        for (says, takes) in [
            (&["gzip"][..], true),
            (&["deflate, GZIP;q=0.5, br"], true),
            (&["deflate", "gzip"], true),
            (&["*"], true),
            (&[], false),
            (&["identity"], false),
            (&["gzip;q=0"], false),
            (&["*;q=0.1, gzip; q=0.0"], false),
            (&["gzip;q=x"], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in says {
                headers.append(ACCEPT_ENCODING, HeaderValue::from_static(value));
            }
            assert_eq!(accepted(&headers), takes, "{says:?}");
        }
    }

    #[tokio::test]
    async fn long_bodies_are_packed_and_come_out_as_they_went_in() {
        for (bytes, packs) in [(MIN_BYTES - 1, false), (MIN_BYTES, true), (MAX_INLINE_BYTES + 1, true)] {
            let plain = Bytes::from(vec![b'x'; bytes]);
            let response = worth_it(Response::new(Body::new(plain.clone()))).await;
            assert_eq!(response.headers().contains_key(CONTENT_ENCODING), packs, "{bytes}");
            let mut unpacked = Vec::new();
            if packs {
                flate2::read::GzDecoder::new(&response.body().whole().unwrap()[..]).read_to_end(&mut unpacked).unwrap();
                assert_eq!(unpacked, plain);
            }
        }
        let noise: Vec<u8> = (0..4000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let noise = worth_it(Response::new(Body::new(noise))).await;
        assert!(noise.body().whole().is_some());
    }
}
