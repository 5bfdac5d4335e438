//! Free ports for programs that must know theirs beforehand or keep it over a restart.

use std::{
    net::{TcpListener, UdpSocket},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

/// Below the range from which the system and Docker take theirs, so that nobody takes one before it is bound.
const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A port that is free for TCP and UDP, and that no other call gives.
///
/// # Panics
/// If none is free.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Runs side by side begin at different places.
    let start = u16::try_from(process::id() % u32::from(COUNT)).expect("COUNT is a u16");
    (0..COUNT)
        .map(|_| FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT)
        .find(|&port| TcpListener::bind(("0.0.0.0", port)).is_ok() && UdpSocket::bind(("0.0.0.0", port)).is_ok())
        .expect("one of ten thousand ports is free")
}

#[cfg(test)]
mod tests {
    use super::free_port;

    #[test]
    fn no_port_is_given_twice() {
        let (a, b) = (free_port(), free_port());
        assert_ne!(a, b);
        std::net::TcpListener::bind(("127.0.0.1", a)).unwrap();
    }
}
