//! Other people's WireGuard.

use std::{io::Write, process::Stdio, time::Duration};

use flotilla_tests::switch::Switch;

use crate::hosts::{Host, PORT, deliver, inner, inner_v6, transfer, udp};

/// wireguard-go, set up by `wg`, on the other host.
pub(crate) fn wireguard_go() {
    let switch = Switch::new(2);
    let ours = Host::new(&switch, 1);
    let program = switch.command(2, "wireguard-go").args(["-f", "other0"]).env("LOG_LEVEL", "error").spawn().unwrap();
    let _ended = Ended(program);
    let wg = |args: &[&str], input: &str| {
        let mut wg = switch.command(2, "wg").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        wg.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = wg.wait_with_output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
    };
    let secret = wg(&["genkey"], "").unwrap();
    let public = wg(&["pubkey"], &secret).unwrap();
    let configuration = format!(
        "[Interface]\nPrivateKey = {secret}\nListenPort = {PORT}\n[Peer]\nPublicKey = {}\nPresharedKey = {}\nAllowedIPs = {}/32, {}/128\n",
        ours.key.public(),
        "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        inner(1),
        inner_v6(1)
    );
    let set = (0..50).find_map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        wg(&["setconf", "other0", "/dev/stdin"], &configuration)
    });
    assert!(set.is_some(), "wg setconf");
    switch.ip(2, &format!("address add {}/16 dev other0", inner(2)));
    switch.ip(2, "link set other0 mtu 1420 up");
    let other = overlay::device::Peer {
        key: public.parse().unwrap(),
        endpoint: Some((Switch::address(2), PORT).into()),
        allowed: [format!("{}/32", inner(2)).parse().unwrap()].into(),
        ..ours.as_peer()
    };
    ours.tunnel.set_peers(&[other]).unwrap();
    let sockets = [1, 2].map(|n| udp(&switch, n, inner(n)));
    deliver(&sockets[0], &sockets[1], b"to the other");
    deliver(&sockets[1], &sockets[0], b"from the other");
    for (from, to) in [(1, 2), (2, 1)] {
        let took = transfer(&switch, from, to, inner(to), 20 << 20);
        println!("20 MiB from {from} to {to} in {took:.2?}");
    }
    assert_eq!(ours.tunnel.dropped().malformed, 0);
}

struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
