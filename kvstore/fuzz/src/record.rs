//! What hosts of the overlay write into the registry, a key, a line end, and what stands there: no bytes panic, and none are
//! believed that were not written with the mesh's secret. What a member may write, whatever it says, is read as it was
//! written, and leaves the plan of another member in one piece.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use overlay::{
    identity::Identity,
    keys::PrivateKey,
    network::NodeId,
    peers::{self, View},
    record::{Body, Key, PREFIX, Record},
    secret::{Keyring, Secret},
    world::{Entry, Now, World},
};

const NOW: Now = Now { seconds: 1_800_000_000, grace: 86_400 };
static MEMBER: LazyLock<Identity> =
    LazyLock::new(|| Identity::new(PrivateKey::generate().expect("the system has randomness")));
static RING: LazyLock<Keyring> = LazyLock::new(|| Keyring::new(Secret::new(1, [7; 32])));

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let network = r#"{"name":"web","id":"01234567-89ab-4def-8123-456789abcdef","subnet":"10.210.0.0/16","subnet6":"fd67:89ab:cdef::/48","block_bits":24,"since":1}"#;
    let id = "07070707070707070707070707070707";
    [
        format!("nets/web\n{{\"network\":{network}}}"),
        format!(
            "nodes/{id}\n{}",
            r#"{"name":"h1","version":"1","plane":"user","endpoints":[{"source":"local","address":"10.0.0.1:51820"},{"source":"set","address":"[2001:db8::1]:1"}],"mtu":1420,"relay":true,"blocks":[{"network":"01234567-89ab-4def-8123-456789abcdef","block":"10.210.7.0/24","since":5}],"lan":["192.168.7.0/24"],"registries":["http://10.0.0.1:8500"],"left":false}"#
        ),
        "blocks/0123456789ab4def8123456789abcdef/10.210.7.0-24\n{\"since\":5}".into(),
        format!("links/{id}\n{{\"to\":[\"{id}\"]}}"),
        format!("seen/{id}/{id}\n{{\"address\":\"203.0.113.1:7\"}}"),
        format!("gone/{id}\n{{\"name\":\"h1\"}}"),
        format!("secrets/2/{id}\n{{\"sealed\":\"AAAA\"}}"),
    ]
    .map(String::into_bytes)
    .into()
}

/// The same key, of the member who writes.
fn own(key: Key) -> Key {
    let me = MEMBER.node();
    match key {
        Key::Node(_) => Key::Node(me),
        Key::Links(_) => Key::Links(me),
        Key::Seen(id, _) => Key::Seen(id, me),
        other => other,
    }
}

pub(crate) fn check(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let Some(key) = std::str::from_utf8(&data[..end]).ok().and_then(|key| key.parse::<Key>().ok()) else { return };
    assert_eq!(key.to_string().as_bytes(), &data[..end]);
    let text = &data[end + 1..];
    assert!(Record::read(&RING, &key, text).is_err(), "nobody guesses the secret");
    let key = own(key);
    let Some(body) = std::str::from_utf8(text).ok().and_then(|text| Body::read(&key, text).ok()) else { return };

    let record = Record::write(&MEMBER, &RING, &key, 7, body);
    let Ok(read) = Record::read(&RING, &key, record.text.as_bytes()) else {
        // Only what is longer in our words than in theirs.
        assert!(record.text.len() > 60_000);
        return;
    };
    assert_eq!(read, record);
    let mut world = World::default();
    for (key, text) in [(key.path(), record.text.clone().into_bytes()), (format!("{PREFIX}x"), text.to_vec())] {
        world.absorb(&RING, &[Entry { key, value: text, modify_index: 1, locked: false }], NOW.seconds);
    }
    let (me, heard) = (NodeId([1; 16]), BTreeMap::new());
    let view = View { me, heard: &heard, endpoints: &BTreeMap::new() };
    let plan = peers::plan(&world, &RING, &view, NOW);
    let all: Vec<_> = plan.peers.iter().flat_map(|(_, peer)| &peer.allowed).collect();
    assert_eq!(all.len(), all.iter().collect::<BTreeSet<_>>().len(), "no prefix is behind two");
    world.holders(NOW);
    world.double_claims(NOW);
    world.kept_back(NOW);
    world.forget(Now { seconds: NOW.seconds * 2, ..NOW });
}
