use std::{
    net::{IpAddr, TcpListener, TcpStream},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use ipnet::IpNet;

use super::*;

/// A network namespace of a test's own.
struct Room {
    name: String,
    links: Links,
}

impl Room {
    /// None, said aloud, where this is not root.
    fn new() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED: making network namespaces needs root");
            return None;
        }
        let name = format!("overlay-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        ip(&["netns", "add", &name]);
        let namespace = Namespace::at(format!("/run/netns/{name}").as_ref()).unwrap();
        Some(Self { links: Links::inside(&namespace).unwrap(), name })
    }

    /// What `ip` shows in there.
    fn ip(&self, args: &str) -> String {
        ip(&[&["-n", &self.name], &args.split(' ').collect::<Vec<_>>()[..]].concat())
    }

    /// All that `ip` can see, to be compared.
    fn all(&self) -> String {
        ["-o link", "-o address", "route show table all", "-6 route show table all"].map(|what| self.ip(what)).concat()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().expect("ip can be run");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn peer(name: &str) -> Peer {
    Peer { name: name.into(), mtu: 1400, mac: Some(Mac([2, 0x42, 10, 0, 0, 2])) }
}

const MAC: Mac = Mac([2, 0x42, 10, 0, 0, 1]);

#[tokio::test]
async fn a_bridge_with_a_container_carries_packets_and_goes_without_a_trace() {
    let (Some(host), Some(container)) = (Room::new(), Room::new()) else { return };
    let (links, inside) = (&host.links, &container.links);
    let before = host.all();
    // Twice: whatever is there already stays as it is.
    for _ in 0..2 {
        links.bridge("ovb-app", "overlay: network app", 1400, MAC).await.unwrap();
        for address in ["10.1.0.1/24", "fd00:1::1/64"] {
            links.add_address("ovb-app", net(address)).await.unwrap();
        }
        links.veth("ovp-1", &peer("ovt-1"), "overlay: container 1", Some("ovb-app")).await.unwrap();
    }
    links.give("ovt-1", inside.namespace(), "eth0").await.unwrap();
    inside.set_addresses("eth0", &[net("10.1.0.2/24"), net("fd00:1::2/64")].into()).await.unwrap();
    inside.up("eth0").await.unwrap();
    inside
        .add_route(Owner::Containers, &Route::new(net("10.0.0.0/8"), Way::Via("10.1.0.1".parse().unwrap())))
        .await
        .unwrap();
    for to in ["10.1.0.1", "fd00:1::1"] {
        let to: IpAddr = to.parse().unwrap();
        let listener = links.namespace().enter(|| TcpListener::bind((to, 0))).unwrap().unwrap();
        let server = listener.local_addr().unwrap();
        let reached = inside.namespace().enter(|| TcpStream::connect_timeout(&server, Duration::from_secs(3)));
        assert!(reached.as_ref().is_ok_and(Result::is_ok), "{server}: {reached:?}");
    }
    assert!(container.ip("link show eth0").contains("mtu 1400"), "{}", container.ip("link show eth0"));
    assert!(host.ip("link show ovb-app").contains("02:42:0a:00:00:01"), "{}", host.ip("link show ovb-app"));
    assert_eq!(links.get("ovp-1").await.unwrap().bridge, Some(links.get("ovb-app").await.unwrap().index));
    links.add_route(Owner::Mesh, &Route::new(net("10.9.0.0/16"), Way::Unreachable)).await.unwrap();
    let mut removed = links.reset().await.unwrap();
    removed.sort();
    assert_eq!(removed, ["ovb-app", "ovp-1"]);
    assert_eq!(host.all(), before);
    assert_eq!(inside.find("eth0").await.unwrap(), None, "it went with its other end");
}

#[tokio::test]
async fn what_others_made_is_left_alone() {
    let Some(room) = Room::new() else { return };
    room.ip("link add ovb-app type bridge");
    let before = room.all();
    let made = room.links.bridge("ovb-app", "overlay: network app", 1400, MAC).await;
    assert!(matches!(made, Err(LinkError::Foreign(_))), "{made:?}");
    assert!(matches!(room.links.remove("ovb-app").await, Err(LinkError::Foreign(_))));
    assert_eq!(room.links.reset().await.unwrap(), Vec::<String>::new());
    assert_eq!(room.all(), before);
    assert!(!room.links.remove("no-such").await.unwrap());
    assert!(matches!(room.links.up("no-such").await, Err(LinkError::Refused { .. })));
}

#[tokio::test]
async fn routes_become_what_is_wanted_and_others_stay() {
    let Some(room) = Room::new() else { return };
    let links = &room.links;
    room.ip("link add ovl0 type bridge");
    links.adopt("ovl0", "overlay: tunnel", 1380).await.unwrap();
    links.set_addresses("ovl0", &[net("10.1.0.1/32"), net("fd00:1::1/128")].into()).await.unwrap();
    room.ip("route add 10.7.0.0/16 dev ovl0");
    let out = || Way::Link("ovl0".into());
    let a =
        Route { mtu: Some(1300), source: Some("10.1.0.1".parse().unwrap()), ..Route::new(net("10.2.0.0/24"), out()) };
    let b = Route::new(net("fd00:2::/64"), out());
    let none = Route { metric: 4_000_000, ..Route::new(net("10.0.0.0/8"), Way::Unreachable) };
    let none6 = Route { metric: 4_000_000, ..Route::new(net("fd00::/16"), Way::Unreachable) };
    let first = [a.clone(), b.clone(), none.clone(), none6.clone()];
    for _ in 0..2 {
        links.set_routes(Owner::Mesh, &first).await.unwrap();
        assert_eq!(links.routes(Owner::Mesh).await.unwrap(), first.iter().cloned().collect());
    }
    assert_eq!(links.routes(Owner::Containers).await.unwrap(), [].into());
    assert!(room.ip("route get 10.2.0.9").contains("src 10.1.0.1"));
    assert!(links.overlapping(net("10.2.0.0/16")).await.unwrap().contains(&net("10.2.0.0/24")));

    let b = Route { mtu: Some(1280), ..b };
    links.set_routes(Owner::Mesh, &[b.clone(), none.clone()]).await.unwrap();
    assert_eq!(links.routes(Owner::Mesh).await.unwrap(), [b, none].into());
    links.set_routes(Owner::Mesh, &[]).await.unwrap();
    assert!(room.ip("route").contains("10.7.0.0/16"), "somebody else's");
    links.set_addresses("ovl0", &[net("10.1.0.3/32")].into()).await.unwrap();
    assert_eq!(links.addresses("ovl0").await.unwrap(), [net("10.1.0.3/32")].into());
}

#[tokio::test]
async fn a_container_joins_the_network_behind_a_link_of_the_host() {
    let (Some(host), Some(container)) = (Room::new(), Room::new()) else { return };
    host.ip("link add lan0 type bridge");
    let made = host.links.macvlan(&peer("ovt-1"), "overlay: container 1", "lan0").await;
    if made.as_ref().is_err_and(|e| matches!(e, LinkError::Refused { source, .. } if source.raw_os_error() == Some(95)))
    {
        eprintln!("SKIPPED: this kernel has no macvlan");
        return;
    }
    made.unwrap();
    host.links.give("ovt-1", container.links.namespace(), "lan").await.unwrap();
    assert!(container.ip("-d link show lan").contains("macvlan mode bridge"), "{}", container.ip("-d link show lan"));
}

#[tokio::test]
async fn settings_are_those_of_the_namespace() {
    let Some(room) = Room::new() else { return };
    room.links.bridge("ovb-app", "overlay: network app", 1400, MAC).await.unwrap();
    let setting = "net/ipv4/conf/ovb-app/forwarding";
    room.links.set(setting, "1").unwrap();
    assert_eq!(room.links.setting(setting).unwrap(), "1");
    let elsewhere = Links::here().unwrap().setting(setting);
    assert!(elsewhere.unwrap_err().to_string().contains("net/ipv4/conf/ovb-app/forwarding"));
}
