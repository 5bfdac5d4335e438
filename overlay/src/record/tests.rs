use uuid::Uuid;

use super::*;
use crate::{
    keys::PrivateKey,
    network::{Network, NetworkId},
    secret::Secret,
};

fn identity() -> Identity {
    Identity::new(PrivateKey::generate().unwrap())
}

fn keyring(byte: u8) -> Keyring {
    Keyring::new(Secret::new(1, [byte; 32]))
}

fn node(name: &str) -> Body {
    Body::Node(Box::new(NodeRecord { name: name.into(), relay: true, ..NodeRecord::default() }))
}

#[test]
fn a_record_is_read_where_it_was_written_by_those_who_have_the_secret() {
    let (me, ring) = (identity(), keyring(1));
    let key = Key::Node(me.node());
    let record = Record::write(&me, &ring, &key, 7, node("h1"));
    assert_eq!(Record::read(&ring, &key, record.text.as_bytes()), Ok(record.clone()));
    let text = record.text.as_bytes();
    assert_eq!(Record::read(&keyring(2), &key, text), Err(RecordError::Forged), "another mesh");
    let moved = Key::Node(identity().node());
    assert_eq!(Record::read(&ring, &moved, text), Err(RecordError::Forged), "it stands elsewhere");
    let later = record.text.replacen("\"epoch\":1", "\"epoch\":2", 1);
    assert_eq!(Record::read(&ring, &key, later.as_bytes()), Err(RecordError::Epoch(2)));
    let newer = record.text.replacen("\"v\":1", "\"v\":2", 1);
    assert_eq!(Record::read(&ring, &key, newer.as_bytes()), Err(RecordError::Newer(2)));
    let raised = record.text.replacen("\"rev\":7", "\"rev\":8", 1);
    assert_eq!(Record::read(&ring, &key, raised.as_bytes()), Err(RecordError::Forged));
}

#[test]
fn nobody_speaks_for_another_host() {
    let (me, other, ring) = (identity(), identity(), keyring(1));
    let key = Key::Node(other.node());
    let text = Record::write(&me, &ring, &key, 7, node("other")).text;
    let error = RecordError::Author { speaks_for: other.node(), by: me.node() };
    assert_eq!(Record::read(&ring, &key, text.as_bytes()), Err(error));
    // With the other's keys on it, but without his signature; the secret alone is not enough.
    let by = serde_json::to_string(&me.keys()).unwrap();
    let body = serde_json::to_string(&node("other")).unwrap();
    let mut all = message(&key, 1, 7, &other.keys(), &body);
    let signature = me.sign(&all);
    all.extend_from_slice(&signature);
    let (sig, mac) = (BASE64_STANDARD.encode(signature), BASE64_STANDARD.encode(ring.authenticate(&all)));
    let by = by.replace(&me.keys().wireguard.to_string(), &other.keys().wireguard.to_string());
    let by = by.replace(&me.keys().signing.to_string(), &other.keys().signing.to_string());
    let text =
        format!("{{\"v\":1,\"epoch\":1,\"rev\":7,\"by\":{by},\"body\":{body},\"sig\":\"{sig}\",\"mac\":\"{mac}\"}}");
    assert_eq!(Record::read(&ring, &key, text.as_bytes()), Err(RecordError::Signature));
}

#[test]
fn bodies_that_cannot_be_are_refused() {
    let (me, ring) = (identity(), keyring(1));
    let id = NetworkId(Uuid::from_u128(9));
    let network = Network::new("web".parse().unwrap(), id, "10.210.0.0/16".parse().unwrap(), 24, 1).unwrap();
    let refused = |key: &Key, body: Body| {
        let text = Record::write(&me, &ring, key, 7, body).text;
        matches!(Record::read(&ring, key, text.as_bytes()), Err(RecordError::Malformed(_)))
    };
    let key = Key::Network("web".parse().unwrap());
    let of = |network| Body::Network(NetworkRecord { network: Some(network) });
    assert!(!refused(&key, of(network.clone())) && !refused(&key, Body::Network(NetworkRecord { network: None })));
    assert!(refused(&Key::Network("other".parse().unwrap()), of(network.clone())));
    assert!(refused(&key, of(Network { local: true, ..network.clone() })));
    assert!(refused(&key, of(Network { block_bits: 8, ..network.clone() })));
    assert!(refused(&key, of(Network { subnet: "0.0.0.0/0".parse().unwrap(), ..network })));
    let mine = Key::Node(me.node());
    let many = Candidate { source: Source::Local, address: "10.0.0.1:1".parse().unwrap() };
    let of = |node| Body::Node(Box::new(node));
    assert!(refused(&mine, of(NodeRecord { endpoints: vec![many; 33], ..NodeRecord::default() })));
    assert!(refused(&mine, of(NodeRecord { name: "a\nb".into(), ..NodeRecord::default() })));
    assert!(
        refused(&mine, Body::Gone(GoneRecord { name: "no node".into() })) || !refused(&mine, of(NodeRecord::default()))
    );
    assert!(Record::read(&ring, &mine, &vec![b' '; MAX_BYTES + 1]).is_err());
}

/// What strangers might put there: noise, and records with some bytes changed. Nothing of it is taken, nothing panics.
#[test]
fn nothing_that_was_tampered_with_is_believed() {
    let (me, ring) = (identity(), keyring(1));
    let key = Key::Node(me.node());
    let good = Record::write(&me, &ring, &key, 7, node("h1")).text.into_bytes();
    let seed = u64::from(std::process::id()) << 20 | 1;
    println!("seed {seed}");
    let mut random = seed;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    for _ in 0..20_000 {
        let mut bytes = if next(4) == 0 { (0..next(200)).map(|_| 0).collect() } else { good.clone() };
        for _ in 0..=next(4) {
            match next(3) {
                _ if bytes.is_empty() => {}
                0 => {
                    let at = next(bytes.len());
                    bytes[at] = u8::try_from(next(256)).unwrap();
                }
                1 => drop(bytes.remove(next(bytes.len()))),
                _ => bytes.insert(next(bytes.len()), b"{}[]\",:0a\\"[next(10)]),
            }
        }
        match Record::read(&ring, &key, &bytes) {
            // A blank between two fields is none of the message.
            Ok(record) => assert_eq!((record.rev, record.body), (7, node("h1")), "{}", String::from_utf8_lossy(&bytes)),
            Err(error) => drop(error.to_string()),
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Ok(key) = text.parse::<Key>() {
            assert_eq!(key.to_string(), text);
        }
    }
}
