//! WireGuard in this process. Three threads: one for each direction, so that no packet of a flow overtakes another, and
//! one for what time brings. What costs is not the encryption but the calls of the system, so packets go in bursts:
//!
//! ```text
//! kernel ─ 64 KiB of a flow ─► cut ─► seal each ─► one send of up to 64 datagrams      outbound
//! kernel ◄─ 64 KiB of a flow ─ join ◄─ open each ◄─ up to 64 datagrams in a buffer     inbound
//! ```
//!
//! `packet`, `vnet`, `cut` and `join` are pure; boringtun's `Tunn` is the protocol, without I/O.

mod cut;
mod dropped;
#[cfg(any(test, fuzzing))]
pub mod fuzzed;
mod inbound;
mod join;
#[cfg(any(test, fuzzing))]
mod made;
mod outbound;
mod packet;
mod remote;
mod socket;
mod timers;
mod tun;
mod vnet;
mod wait;

use std::{
    io::{self, PipeReader, PipeWriter},
    net::SocketAddr,
    os::fd::AsFd,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use arc_swap::ArcSwap;
use boringtun::noise::rate_limiter::RateLimiter;
use tun_rs::SyncDevice;

use self::{
    dropped::Counters,
    remote::Table,
    socket::Socket,
    wait::{Wait, Woken},
};
use super::{Dataplane, DeviceError, Dropped, Peer, PeerStatus, Plane, Settings};
use crate::keys::PrivateKey;

/// Messages of handshakes each second, beyond which who begins one has to prove its address. One costs about 0.2 ms.
const HANDSHAKES_PER_SECOND: u64 = 500;

/// How long a full send buffer is waited for before a burst is dropped.
const SEND_WAIT: Duration = Duration::from_millis(100);

/// What the threads share.
struct Shared {
    tun: SyncDevice,
    socket: Socket,
    key: PrivateKey,
    public: x25519_dalek::PublicKey,
    /// Counts all messages of handshakes that are for this host.
    limiter: RateLimiter,
    table: ArcSwap<Table>,
    dropped: Counters,
    /// Hangs up when the tunnel is to end.
    closed: PipeReader,
}

/// A tunnel by threads of this process.
pub(super) struct User {
    settings: Settings,
    shared: Arc<Shared>,
    /// The peers' own limiters: what reached them was counted before, so they let all pass.
    unlimited: Arc<RateLimiter>,
    /// One change of the peers at a time.
    changing: Mutex<()>,
    /// Dropped first, to end the threads.
    close: Option<(PipeWriter, mpsc::Sender<()>)>,
    threads: Vec<JoinHandle<()>>,
}

impl User {
    /// Makes the interface, binds the port and starts.
    ///
    /// # Errors
    /// [`DeviceError`]; then nothing of it is left.
    pub(super) fn open(settings: &Settings) -> Result<Self, DeviceError> {
        let system = |what: &str| {
            let what = what.to_owned();
            move |e: io::Error| settings.error(&format!("{what}: {e}"))
        };
        let socket = Socket::open(settings.port).map_err(|e| settings.error(&port_error(settings.port, &e)))?;
        let tun = tun::open(settings)?;
        let (closed, close) = io::pipe().map_err(system("a pipe"))?;
        let public = x25519_dalek::PublicKey::from(*settings.key.public().as_bytes());
        let shared = Arc::new(Shared {
            tun,
            socket,
            key: settings.key.clone(),
            public,
            limiter: RateLimiter::new(&public, HANDSHAKES_PER_SECOND),
            table: ArcSwap::default(),
            dropped: Counters::default(),
            closed,
        });
        let (stop, stopped) = mpsc::channel();
        let mut user = Self {
            settings: settings.clone(),
            shared,
            unlimited: Arc::new(RateLimiter::new(&public, u64::MAX)),
            changing: Mutex::default(),
            close: Some((close, stop)),
            threads: Vec::new(),
        };
        user.start("overlay-out", outbound::run).map_err(system("a thread"))?;
        user.start("overlay-in", inbound::run).map_err(system("a thread"))?;
        user.start("overlay-timers", move |shared| timers::run(shared, &stopped)).map_err(system("a thread"))?;
        Ok(user)
    }

    fn start(&mut self, name: &str, run: impl FnOnce(&Shared) + Send + 'static) -> io::Result<()> {
        let shared = self.shared.clone();
        self.threads.push(thread::Builder::new().name(name.into()).spawn(move || run(&shared))?);
        Ok(())
    }
}

fn port_error(port: u16, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("UDP port {port} is taken by another program (ss -ulpn shows by whom); choose another")
        }
        io::ErrorKind::PermissionDenied => {
            format!("UDP port {port} may not be used by this user; choose one above 1023")
        }
        _ => format!("cannot use UDP port {port}: {error}"),
    }
}

impl Dataplane for User {
    fn plane(&self) -> Plane {
        Plane::User
    }

    fn set_peers(&self, peers: &[Peer]) -> Result<(), DeviceError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        super::disjoint(&self.settings, peers)?;
        let table = self.shared.table.load().with(peers, &self.settings.key, &self.unlimited);
        self.shared.table.store(Arc::new(table));
        Ok(())
    }

    fn peers(&self) -> Vec<PeerStatus> {
        let mut all: Vec<_> = self.shared.table.load().all().map(|remote| remote.status()).collect();
        all.sort_by_key(|status| status.key);
        all
    }

    fn dropped(&self) -> Dropped {
        self.shared.dropped.read()
    }
}

impl Drop for User {
    fn drop(&mut self) {
        drop(self.close.take());
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!(interface = self.settings.interface, "a thread of the tunnel had panicked");
            }
        }
    }
}

impl Shared {
    fn wait(&self, on: &impl AsFd, what: Wait, limit: Option<Duration>) -> Woken {
        wait::wait(on, what, limit, &self.closed)
    }

    /// Sends, or counts what could not be sent.
    fn send(&self, to: SocketAddr, bytes: &[u8], size: usize, ecn: u8) {
        if self.socket.send(to, bytes, size, ecn).is_err() {
            self.dropped.unsent(bytes.len().div_ceil(size) as u64);
        }
    }

    /// As [`Self::send`], but waits for a while if the network is slower than we are.
    fn send_all(&self, to: SocketAddr, bytes: &[u8], size: usize, ecn: u8) {
        match self.socket.send(to, bytes, size, ecn) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.wait(&self.socket, Wait::Writable, Some(SEND_WAIT));
                self.send(to, bytes, size, ecn);
            }
            Err(_) => self.dropped.unsent(bytes.len().div_ceil(size) as u64),
            Ok(()) => {}
        }
    }

    /// Hands a packet to the kernel, behind its header.
    fn write(&self, packet: &[u8]) {
        if self.tun.send(packet).is_err() {
            self.dropped.unsent(1);
        }
    }
}
