//! What is sent between hosts, and who listens to it.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use flotilla_tests::switch::Switch;
use socket2::{Domain, Protocol, Socket, Type};

/// Nothing that works takes longer.
const LIMIT: Duration = Duration::from_secs(40);
const BLOCK: usize = 65_536;

/// Has `rules` be in the place of the table `name` on the `n`th host.
pub(crate) fn nft(switch: &Switch, n: u8, name: &str, rules: &str) {
    let text = format!("table {name} {{}}\ndelete table {name}\ntable {name} {{\n{rules}\n}}\n");
    let mut nft = switch.command(n, "nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "{text}");
}

pub(crate) fn shell(switch: &Switch, n: u8, command: &str) {
    let output = switch.command(n, "sh").args(["-ec", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Sends `bytes` from one host to another over TCP, from `source` to `to`; how long that took.
pub(crate) fn transfer(switch: &Switch, from: (u8, &str), to: (u8, &str), bytes: usize) -> Duration {
    let listener = switch.on(to.0, || TcpListener::bind((to.1, 0))).unwrap();
    let at = listener.local_addr().unwrap();
    let start = Instant::now();
    let mut stream = switch.on(from.0, || connect(from.1, at));
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    let sender = thread::spawn(move || {
        let block = vec![b'x'; BLOCK];
        (0..bytes / BLOCK).for_each(|_| stream.write_all(&block).expect("it gets through"));
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut block = vec![0; BLOCK];
    (0..bytes / BLOCK).for_each(|n| {
        stream.read_exact(&mut block).unwrap_or_else(|e| panic!("after {n} blocks of {BLOCK} bytes: {e}"));
    });
    sender.join().unwrap();
    start.elapsed()
}

fn connect(source: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&format!("{source}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect_timeout(&to.into(), LIMIT).unwrap();
    socket.into()
}

/// A socket of the `n`th host.
pub(crate) fn udp(switch: &Switch, n: u8, address: &str) -> UdpSocket {
    switch.on(n, || UdpSocket::bind((address, 0))).unwrap()
}

/// Something that goes on in a thread until it is ended.
pub(crate) struct Ongoing<T> {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Ongoing<T> {
    fn start(run: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let told = ended.clone();
        Self { ended, thread: thread::spawn(move || run(&told)) }
    }

    pub(crate) fn end(self) -> T {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Counts the frames on the switch, and those of them that hold `marker`.
pub(crate) fn listen(switch: &Switch, marker: &'static [u8]) -> Ongoing<(usize, usize)> {
    const ETH_P_ALL: u16 = 3;
    let all = Some(Protocol::from(i32::from(ETH_P_ALL.to_be())));
    let mut tap = switch.on(0, || Socket::new(Domain::PACKET, Type::RAW, all)).unwrap();
    tap.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    Ongoing::start(move |ended| {
        let (mut frame, mut counts) = (vec![0; 65_536], (0, 0));
        while !ended.load(Ordering::Relaxed) {
            if let Ok(n) = tap.read(&mut frame) {
                counts.0 += 1;
                counts.1 += usize::from(frame[..n].windows(marker.len()).any(|part| part == marker));
            }
        }
        counts
    })
}

/// Sends `payload` every millisecond, and counts how often.
pub(crate) fn shout(from: UdpSocket, to: SocketAddr, payload: &'static [u8]) -> Ongoing<usize> {
    Ongoing::start(move |ended| {
        let mut sent = 0;
        while !ended.load(Ordering::Relaxed) {
            // Where there is no way it is refused, which is as it should be.
            let _ = from.send_to(payload, to);
            sent += 1;
            thread::sleep(Duration::from_millis(1));
        }
        sent
    })
}

/// Counts the datagrams with `payload` that arrive.
pub(crate) fn count(to: UdpSocket, payload: &'static [u8]) -> Ongoing<usize> {
    to.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    Ongoing::start(move |ended| {
        let (mut buffer, mut count) = ([0; 2048], 0);
        loop {
            match to.recv_from(&mut buffer) {
                Ok((n, _)) => count += usize::from(buffer[..n] == *payload),
                Err(_) if ended.load(Ordering::Relaxed) => return count,
                Err(_) => {}
            }
        }
    })
}
