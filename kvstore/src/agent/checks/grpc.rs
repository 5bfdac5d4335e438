//! The gRPC probe: asks the standard health service (`grpc.health.v1`), `SERVING` passes.
//!
//! One unary call of one fixed method, so it is made by hand over HTTP/2: a message of one field in a frame of five
//! bytes, and a status in the trailers.

#[cfg(any(test, fuzzing))]
pub mod fuzzed;

use std::{io, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use h2::RecvStream;
use hyper::{HeaderMap, Request, StatusCode, Version};
use kvstore_core::{health::Status, row::ProbeTls};
use percent_encoding::percent_decode;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Finding, dial, failed, found, silent,
    tls::{Speaks, Tls},
};

/// What services see in their logs, as from Consul.
const USER_AGENT: &str = "Consul Health Check";

/// A health answer has two bytes.
const MAX_ANSWER_BYTES: usize = 4096;

/// Of headers and trailers together.
const MAX_HEADERS_BYTES: u32 = 16 << 10;

/// Where to ask, and after what.
pub(super) struct Target<'a> {
    /// `HOST:PORT`
    pub(super) address: &'a str,
    /// Empty: the server as a whole.
    pub(super) service: &'a str,
    pub(super) tls: Option<&'a ProbeTls>,
}

pub(super) async fn probe(tls: &Tls, target: Target<'_>, within: Duration) -> Finding {
    let slash = if target.service.is_empty() { "" } else { "/" };
    let what = format!("gRPC check {}{slash}{}", target.address, target.service);
    match timeout(within, ask(tls, target, within)).await {
        Ok(Ok(())) => found(Status::Passing, format!("{what}: success")),
        Ok(Err(error)) => failed(&what, &error),
        Err(_) => silent(&what, within),
    }
}

async fn ask(tls: &Tls, target: Target<'_>, within: Duration) -> io::Result<()> {
    let stream = dial::with(tls, target.address, target.tls, Speaks::Http2).await?;
    let mut builder = h2::client::Builder::new();
    builder.enable_push(false).max_header_list_size(MAX_HEADERS_BYTES);
    let (requests, connection) = builder.handshake(stream).await.map_err(io::Error::other)?;
    let _driving = AbortOnDropHandle::new(tokio::spawn(connection));

    let mut requests = requests.ready().await.map_err(io::Error::other)?;
    let request = request(&target, within).map_err(io::Error::other)?;
    let (answer, mut body) = requests.send_request(request, false).map_err(io::Error::other)?;
    body.send_data(framed(&question(target.service)), true).map_err(io::Error::other)?;
    let answer = answer.await.map_err(io::Error::other)?;
    if answer.status() != StatusCode::OK {
        return Err(io::Error::other(format!("HTTP status {}; this is no gRPC server", answer.status())));
    }
    // A refusal may come without a body and so without trailers.
    of_call(answer.headers(), false)?;
    let (message, trailers) = read(answer.into_body()).await?;
    of_call(&trailers, true)?;
    judge(&message)
}

fn request(target: &Target<'_>, within: Duration) -> Result<Request<()>, hyper::http::Error> {
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let named = target.tls.map(|tls| &*tls.server_name).filter(|name| !name.is_empty());
    let authority = named.unwrap_or(target.address);
    Request::post(format!("{scheme}://{authority}/grpc.health.v1.Health/Check"))
        .version(Version::HTTP_2)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .header("grpc-timeout", format!("{}m", within.as_millis().min(99_999_999)))
        .body(())
}

/// `HealthCheckRequest { string service = 1 }`
fn question(service: &str) -> Vec<u8> {
    if service.is_empty() {
        return Vec::new();
    }
    let mut message = vec![0x0a];
    let mut length = service.len();
    while length >= 0x80 {
        message.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).expect("less than 0x80"));
    message.extend_from_slice(service.as_bytes());
    message
}

/// Not compressed, then the length, then the message.
fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(5 + message.len());
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).expect("a service's name is short"));
    frame.put_slice(message);
    frame.freeze()
}

/// The whole body, and what came after it.
async fn read(mut body: RecvStream) -> io::Result<(Vec<u8>, HeaderMap)> {
    let mut read = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(io::Error::other)?;
        if read.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(io::Error::other("the answer is too long for one of a health service"));
        }
        body.flow_control().release_capacity(chunk.len()).map_err(io::Error::other)?;
        read.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.map_err(io::Error::other)?.unwrap_or_default();
    Ok((read, trailers))
}

/// How the call itself ended. Without a status it is not over, unless these are the `last` headers.
fn of_call(headers: &HeaderMap, last: bool) -> io::Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(code) = text("grpc-status") else {
        return if last { Err(io::Error::other("the answer has no gRPC status")) } else { Ok(()) };
    };
    if code == "0" {
        return Ok(());
    }
    let why = percent_decode(text("grpc-message").unwrap_or_default().as_bytes()).decode_utf8_lossy();
    Err(io::Error::other(format!("rpc error: code = {} desc = {why}", name(code))))
}

/// A code as people and Go call it.
fn name(code: &str) -> &str {
    const NAMES: [&str; 17] = [
        "OK",
        "Canceled",
        "Unknown",
        "InvalidArgument",
        "DeadlineExceeded",
        "NotFound",
        "AlreadyExists",
        "PermissionDenied",
        "ResourceExhausted",
        "FailedPrecondition",
        "Aborted",
        "OutOfRange",
        "Unimplemented",
        "Internal",
        "Unavailable",
        "DataLoss",
        "Unauthenticated",
    ];
    code.parse().ok().and_then(|code: usize| NAMES.get(code).copied()).unwrap_or(code)
}

fn judge(body: &[u8]) -> io::Result<()> {
    const STATES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
    let strange = || io::Error::other("the answer is not one of a health service");
    let (head, message) = body.split_at_checked(5).ok_or_else(strange)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    if head[0] != 0 || usize::try_from(length) != Ok(message.len()) {
        return Err(strange());
    }
    let state = state(message).ok_or_else(strange)?;
    if state == 1 {
        return Ok(());
    }
    let word = usize::try_from(state).ok().and_then(|n| STATES.get(n).copied()).unwrap_or("a state that has no name");
    Err(io::Error::other(format!("gRPC application didn't report service healthy: {word}")))
}

/// `HealthCheckResponse { ServingStatus status = 1 }`: 0 where it is not said, the last where it is said twice. Fields
/// that are not known are passed over; `None` if this is no message.
fn state(mut message: &[u8]) -> Option<u64> {
    let mut state = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                state = if tag >> 3 == 1 { value } else { state };
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(state)
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_one_field() {
        assert_eq!(question(""), b"");
        assert_eq!(question("web"), b"\x0a\x03web");
        let long = "x".repeat(300);
        assert_eq!(question(&long)[..3], [0x0a, 0xac, 0x02]);
        assert_eq!(&framed(b"ab")[..], b"\0\0\0\0\x02ab");
    }

    #[test]
    fn the_answer_is_serving_or_critical() {
        for (body, why) in [
            (&b"\0\0\0\0\x02\x08\x01"[..], ""),
            // Unknown fields of every type around it, and a second status, which counts.
            (b"\0\0\0\0\x07\x08\x02\x12\x01x\x08\x01", ""),
            (b"\0\0\0\0\x10\x11abcdefgh\x25abcd\x08\x01", ""),
            (b"\0\0\0\0\0", "gRPC application didn't report service healthy: UNKNOWN"),
            (b"\0\0\0\0\x02\x08\x02", "gRPC application didn't report service healthy: NOT_SERVING"),
            (b"\0\0\0\0\x02\x08\x63", "gRPC application didn't report service healthy: a state that has no name"),
            (b"", "the answer is not one of a health service"),
            (b"\0\0\0\0\x09\x08\x01", "the answer is not one of a health service"),
            (b"\x01\0\0\0\x02\x08\x01", "the answer is not one of a health service"),
            (b"\0\0\0\0\x02\x12\x7f", "the answer is not one of a health service"),
            (b"\0\0\0\0\x02\x0b\x01", "the answer is not one of a health service"),
            (b"\0\0\0\0\x01\x08", "the answer is not one of a health service"),
            (
                b"\0\0\0\0\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                "the answer is not one of a health service",
            ),
        ] {
            let found = judge(body).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(found, why, "{body:?}");
        }
    }

    #[test]
    fn a_refused_call_says_why() {
        let headers = |pairs: &[(&'static str, &str)]| {
            pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect::<HeaderMap>()
        };
        for (pairs, last, why) in [
            (&[("grpc-status", "0")][..], true, ""),
            (&[], false, ""),
            (&[], true, "the answer has no gRPC status"),
            (
                &[("grpc-status", "5"), ("grpc-message", "no%20such%20one")],
                false,
                "rpc error: code = NotFound desc = no such one",
            ),
            (&[("grpc-status", "99")], true, "rpc error: code = 99 desc = "),
        ] {
            let found = of_call(&headers(pairs), last).err().map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(found, why);
        }
    }
}
