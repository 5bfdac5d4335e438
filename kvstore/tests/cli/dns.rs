//! DNS of a whole agent: what it takes of the machine.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use crate::harness::*;

/// The most memory that the process had so far.
fn peak_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel tells");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends until nothing is taken any more, or the place was needed for another, which is a bound as well.
fn fill(stream: &mut TcpStream, bytes: &[u8]) {
    stream.set_nonblocking(true).unwrap();
    let _taken = (0..100).take_while(|_| stream.write(bytes).is_ok()).count();
}

/// More clients than there are places, each with the longest questions there are, many at once, for long replies which it
/// does not take.
#[test]
fn greedy_clients_cost_little_memory() {
    let value = "x".repeat(500);
    let meta: Vec<String> = (0..60).flat_map(|i| ["--node-meta".to_owned(), format!("key-{i}:{value}")]).collect();
    let args = ["--dev", "--node", "n1", "--http-addr", "127.0.0.1:0", "--dns-addr", "127.0.0.1:0"];
    let agent = Agent::start(&[&args[..], &meta.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let to = agent.dns();

    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x02n1\x04node\x06consul\0\0\x10\0\x01";
    let mut packet = [&[0xff, 0xff][..], question].concat();
    packet.resize(2 + 0xffff, 0);
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(START_LIMIT)).unwrap();
        stream.write_all(&packet).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).expect("a reply");
        let mut reply = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut reply).unwrap();
        assert!(reply.len() > 30_000, "a long reply: {} bytes", reply.len());
    };
    ask(&mut TcpStream::connect(to).unwrap());

    let before = peak_kib(agent.child.id());
    let mut greedy: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(to).unwrap()).collect();
    for _ in 0..3 {
        for stream in &mut greedy {
            fill(stream, &packet);
        }
    }
    ask(&mut TcpStream::connect(to).unwrap());
    let grown = peak_kib(agent.child.id()) - before;
    println!("{grown} KiB more for 300 greedy clients");
    assert!(grown < 64 << 10, "{grown} KiB more");
}
