use std::sync::Mutex;

use flotilla_tests::switch::Switch;

use super::*;
use crate::{
    device::{DeviceError, Peer},
    firewall::Rules,
    keys::{PresharedKey, PrivateKey},
};

/// A data plane that refuses what it is given for as long as it is told to, and remembers how many peers it was given.
#[derive(Clone, Default)]
struct Refusing(Arc<Mutex<(usize, Vec<usize>)>>);

impl device::Dataplane for Refusing {
    fn plane(&self) -> Plane {
        Plane::User
    }

    fn set_peers(&self, peers: &[Peer]) -> Result<(), DeviceError> {
        let (refusals, given) = &mut *self.0.lock().unwrap();
        given.push(peers.len());
        if *refusals == 0 {
            return Ok(());
        }
        *refusals -= 1;
        Err(DeviceError { interface: "ovl0".into(), why: "not now".into() })
    }

    fn peers(&self) -> Vec<PeerStatus> {
        Vec::new()
    }

    fn dropped(&self) -> Dropped {
        Dropped::default()
    }
}

#[test]
fn refused_peers_are_given_again_until_they_are_taken_and_then_no_more() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: making network namespaces needs root");
        return;
    }
    let switch = Switch::new(1);
    switch.on(1, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let plane = Refusing::default();
            plane.0.lock().unwrap().0 = 2;
            let mut tunnel = Tunnel::unopened("ovl0", 51820, 1420);
            tunnel.kernel = Some(Kernel::connect().unwrap());
            tunnel.plane = Some(Opened { tunnel: Box::new(plane.clone()), why: String::new() });
            let peer = Peer {
                key: PrivateKey::generate().unwrap().public(),
                preshared: PresharedKey::new([7; 32]),
                endpoint: None,
                allowed: BTreeSet::new(),
                keepalive: None,
            };
            let rules = Rules { interface: "ovl0".into(), ..Rules::default() };
            let mut wanted = Wanted { peers: vec![peer.clone()], rules, ..Wanted::default() };
            let given = || plane.0.lock().unwrap().1.clone();
            for times in [1, 2] {
                tunnel.apply(&wanted).await;
                assert_eq!(given().len(), times);
                assert_eq!(tunnel.troubles().len(), 1, "{:?}", tunnel.troubles());
            }
            for _ in 0..3 {
                tunnel.apply(&wanted).await;
                assert_eq!(given(), [1, 1, 1], "taken");
                assert!(tunnel.troubles().is_empty(), "{:?}", tunnel.troubles());
            }
            wanted.peers.push(Peer { key: PrivateKey::generate().unwrap().public(), ..peer });
            tunnel.apply(&wanted).await;
            assert_eq!(given(), [1, 1, 1, 2]);
        });
    });
}
