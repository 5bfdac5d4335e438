//! Asks a program that runs here how it does, for a HEALTHCHECK where there is no other program.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(5);
/// Its answer is a few lines.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// Why a program is not well.
#[derive(Debug, thiserror::Error)]
pub enum NotWell {
    /// Nobody answers there, or somebody else.
    #[error("nobody at {address} tells how it does")]
    NoAnswer {
        /// Where it was asked.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It has these troubles.
    #[error("{0}")]
    Troubles(String),
}

/// Fails if the program that [serves](super::serve) at `address` is not well.
///
/// # Errors
/// [`NotWell`]
pub async fn ask(address: SocketAddr) -> Result<(), NotWell> {
    let address = from_here(address);
    let answer = timeout(LIMIT, get(address)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let failed = |source| NotWell::NoAnswer { address, source };
    let answer = answer.map_err(failed)?;
    let (head, troubles) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err(NotWell::Troubles(troubles.trim_end().to_owned())),
        _ => Err(failed(io::Error::other("what answers there is something else"))),
    }
}

/// All addresses of this host are reached at its own.
fn from_here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

async fn get(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())
        .await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_for_all_is_asked_at_this_host() {
        for (address, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(from_here(address.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
