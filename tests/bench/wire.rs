//! HTTP with nothing in between: a request made beforehand, the answer read as it comes.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A connection that is kept.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What came back.
pub(crate) struct Answer {
    /// `X-Consul-Index`; 0 if there is none.
    pub(crate) index: u64,
    /// Head and body as they came.
    pub(crate) whole: Vec<u8>,
}

impl Wire {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|e| panic!("{address}: {e}"));
        stream.set_nodelay(true).expect("a connected socket takes it");
        Self { stream, buffer: Vec::with_capacity(8 << 10) }
    }

    pub(crate) async fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("the server reads");
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        loop {
            if let Some((index, length)) = measured(&self.buffer)
                && self.buffer.len() >= length
            {
                let whole = std::mem::take(&mut self.buffer);
                assert_eq!(whole.len(), length, "an answer to each request");
                self.buffer.reserve(length);
                return Answer { index, whole };
            }
            let read = self.stream.read_buf(&mut self.buffer).await.expect("the server writes");
            assert!(read > 0, "the server closes the connection");
        }
    }

    pub(crate) async fn ask(&mut self, request: &[u8]) -> Answer {
        self.send(request).await;
        self.answer().await
    }
}

/// The index and the whole length that a head tells, once it is complete.
fn measured(answer: &[u8]) -> Option<(u64, usize)> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&answer[..end]).expect("a head is text");
    assert!(head.starts_with("HTTP/1.1 200 "), "{}", String::from_utf8_lossy(answer));
    let number = |name: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(": "));
        headers.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let parsed = |name| number(name).map(|text| text.parse::<u64>().expect("it is a number"));
    let length = usize::try_from(parsed("content-length").unwrap_or(0)).expect("it fits into memory");
    Some((parsed("x-consul-index").unwrap_or(0), end + length))
}

pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").into_bytes()
}

pub(crate) fn put(path: &str, body: &str) -> Vec<u8> {
    format!("PUT {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// The address in a URL without a path.
pub(crate) fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").parse().expect("an address and a port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_where_its_head_says() {
        assert_eq!(measured(b"HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\ncontent-length: 5\r\n\r\nab").unwrap(), (7, 62));
        assert_eq!(measured(b"HTTP/1.1 200 OK\r\ncontent-le"), None);
    }
}
