use uuid::Uuid;

use super::*;
use crate::network::{self, NodeId};

const APP: u128 = 0x0123_4567_89ab_4def_8123_4567_89ab_cdef;

fn held(blocks: &[u32], mtu: u16) -> Held {
    let id = NetworkId(Uuid::from_u128(APP));
    let app = network::Network::new("app".parse().unwrap(), id, "10.77.0.0/16".parse().unwrap(), 24, 1).unwrap();
    let app = HeldNetwork { blocks: blocks.iter().map(|n| app.block(*n)).collect(), network: app, mtu };
    Held { node: NodeId([1; 16]), host: "a".into(), tunnel: "wg7".into(), networks: vec![app] }
}

fn made(local: bool) -> Made {
    let id = protocol::Id::try_from("d".repeat(64)).unwrap();
    Made { id, subnet: "10.90.0.0/16".parse().unwrap(), subnet6: None, local }
}

/// A network of Docker's as it is once this was made.
fn there(wanted: &Wanted, in_use: bool) -> Network {
    Network {
        id: "b1".into(),
        name: wanted.name.clone(),
        driver: "bridge".into(),
        labels: wanted.labels.clone(),
        options: wanted.options.clone(),
        subnets: wanted.ranges.iter().map(|range| range.subnet).collect(),
        in_use,
        trouble: None,
    }
}

fn created(actions: &[Action]) -> Wanted {
    let [Action::Create { wanted, .. }] = actions else { panic!("{actions:?}") };
    wanted.clone()
}

#[test]
fn a_network_of_the_mesh_is_made_once_this_host_has_a_block_of_it() {
    assert_eq!(plan(&held(&[], 1380), &[], &[]), []);
    let wanted = created(&plan(&held(&[7], 1380), &[], &[]));
    assert_eq!(wanted.name, "app");
    assert_eq!(wanted.options[BRIDGE_NAME], "ovb-0123456789a");
    assert_eq!(wanted.options[BRIDGE_MTU], "1380");
    assert_eq!(wanted.options[BRIDGE_TRUSTS], "wg7");
    let range = &wanted.ranges[0];
    let texts = (range.subnet.to_string(), range.given.to_string(), range.gateway.to_string());
    assert_eq!(texts, ("10.77.7.0/24".into(), "10.77.7.0/25".into(), "10.77.7.1".into()));
    assert_eq!(beside(range.subnet).to_string(), "10.77.7.128/25");
    assert_eq!(plan(&held(&[7], 1380), &[there(&wanted, true)], &[]), [], "all is as it should be");
}

#[test]
fn what_does_not_fit_any_more_is_made_anew_unless_it_is_in_use() {
    let wanted = created(&plan(&held(&[7], 1380), &[], &[]));
    let remove = Action::Remove { id: "b1".into(), name: "app".into(), bridge: Some("ovb-0123456789a".into()) };
    let elsewhere = Held { tunnel: "wg8".into(), ..held(&[7], 1380) };
    let nothing = Held { networks: Vec::new(), ..held(&[], 1380) };
    for now in [held(&[9], 1380), held(&[7], 1300), elsewhere, nothing] {
        assert_eq!(plan(&now, &[there(&wanted, false)], &[]), std::slice::from_ref(&remove));
        let [Action::Warn(text)] = &plan(&now, &[there(&wanted, true)], &[])[..] else { panic!() };
        assert!(text.contains("in use"), "{text}");
    }
    let grown = held(&[7, 9], 1380);
    assert_eq!(plan(&grown, &[there(&wanted, true)], &[]), [], "its first block is still ours");
}

#[test]
fn somebody_elses_network_of_the_name_is_left_alone() {
    let other = Network { name: "app".into(), ..Network::default() };
    let [Action::Warn(text)] = &plan(&held(&[7], 1380), &[other], &[])[..] else { panic!() };
    assert!(text.contains("of its own"), "{text}");
}

#[test]
fn what_the_driver_made_is_told_to_the_mesh_and_has_no_bridge_beside() {
    let docker = Network { id: "d".repeat(64), name: "web".into(), driver: "flotilla".into(), ..Network::default() };
    let nothing = Held { networks: Vec::new(), ..held(&[], 1380) };
    let announced = |local| {
        let actions = plan(&nothing, std::slice::from_ref(&docker), &[made(local)]);
        let [Action::Announce { network, .. }] = &actions[..] else { panic!("{actions:?}") };
        (network.name.to_string(), network.subnet.unwrap().to_string(), network.block_bits, network.local)
    };
    assert_eq!(announced(false), ("web".into(), "10.90.0.0/16".into(), None, false));
    assert_eq!(announced(true), ("web".into(), "10.90.0.0/16".into(), Some(16), true));
    assert_eq!(plan(&nothing, &[], &[made(false)]), [], "Docker does not list it yet");
    let six = Made { subnet6: "fd00:1::/48".parse().ok(), ..made(false) };
    let actions = plan(&nothing, std::slice::from_ref(&docker), std::slice::from_ref(&six));
    let [Action::Announce { network, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(network.subnet6, six.subnet6, "as Docker has it");

    let same = Made { subnet: "10.77.0.0/16".parse().unwrap(), ..made(false) };
    let app = Network { name: "app".into(), ..docker.clone() };
    assert_eq!(plan(&held(&[7], 1380), &[app], std::slice::from_ref(&same)), [], "the mesh has it");
    let [Action::Warn(text)] = &plan(&held(&[7], 1380), &[docker], &[same])[..] else { panic!() };
    assert!(text.contains("other hosts know it as app"), "{text}");
    let named = Network {
        id: "d".repeat(64),
        name: "app".into(),
        labels: [(LABEL.into(), "x".into())].into(),
        in_use: true,
        ..Network::default()
    };
    let actions = plan(&held(&[], 1380), &[named], &[made(false)]);
    let texts: Vec<_> = actions.iter().map(|a| if let Action::Warn(text) = a { text.as_str() } else { "" }).collect();
    assert!(texts.iter().any(|text| text.contains("other addresses")), "{texts:?}");
}
