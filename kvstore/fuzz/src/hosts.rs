//! What hosts of the overlay hand on or keep, a word for its kind, a line end, and the text: none panics, a secret that was
//! sealed for somebody else is not read, and what is taken says the same when it is written and read again.

use std::{fmt::Display, str::FromStr, sync::LazyLock};

use overlay::{
    clients::NewClient,
    keys::{PrivateKey, PublicKey},
    network::{Network, NetworkName, NodeId},
    seal,
    secret::Secret,
    state::Saved,
};
use serde::{Serialize, de::DeserializeOwned};

static KEY: LazyLock<PrivateKey> = LazyLock::new(|| PrivateKey::generate().expect("the system has randomness"));

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let secret = Secret::new(3, [7; 32]);
    let sealed = seal::seal(&KEY, KEY.public(), &secret).expect("the system has randomness");
    let network = r#"{"name":"web","id":"01234567-89ab-4def-8123-456789abcdef","subnet":"10.210.0.0/16","subnet6":"fd67:89ab:cdef::/48","block_bits":24,"since":1}"#;
    let key = KEY.public();
    [
        format!("secret\n{}", *secret.text()),
        format!("sealed\n{sealed}"),
        format!("client\n{{\"name\":\"laptop\",\"network\":\"web\",\"key\":\"{key}\",\"endpoint\":\"10.0.0.1:1\"}}"),
        format!("network\n{network}"),
        format!("saved\n{{\"format\":1,\"local\":[{network}],\"records\":{{\"nodes/a\":\"{{}}\"}},\"alive\":{{\"07070707070707070707070707070707\":7}},\"blocks\":[],\"clients\":[{{\"name\":\"l\",\"network\":\"01234567-89ab-4def-8123-456789abcdef\",\"key\":\"{key}\",\"v4\":\"10.210.7.2\",\"v6\":\"fd00::2\"}}],\"registries\":[\"http://10.0.0.1:8500\"],\"left\":true}}"),
        "name\nweb".into(),
        "node\n07070707070707070707070707070707".into(),
        format!("key\n{key}"),
    ]
    .map(String::into_bytes)
    .into()
}

pub(crate) fn check(data: &[u8]) {
    let Some((kind, text)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    match kind {
        "secret" => {
            let Ok(secret) = text.parse::<Secret>() else { return };
            assert_eq!(*secret.text().parse::<Secret>().expect("what was written").text(), *secret.text());
        }
        "sealed" => assert!(seal::open(&KEY, KEY.public(), 4, text).is_none(), "nobody sealed it"),
        "client" => {
            let Ok(client) = serde_json::from_str::<NewClient>(text) else { return };
            again(&client);
            assert!(client.check().is_err() || client.name.len() <= 63);
        }
        "network" => read::<Network>(text),
        "saved" => read::<Saved>(text),
        "name" => spelled::<NetworkName>(text),
        "node" => spelled::<NodeId>(text),
        "key" => spelled::<PublicKey>(text),
        _ => {}
    }
}

fn read<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(text: &str) {
    if let Ok(value) = serde_json::from_str::<T>(text) {
        again(&value);
    }
}

fn again<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(value: &T) {
    let written = serde_json::to_string(value).expect("it can be written");
    assert_eq!(&serde_json::from_str::<T>(&written).expect("what was written"), value);
}

fn spelled<T: FromStr + Display + PartialEq + std::fmt::Debug>(text: &str) {
    let Ok(value) = text.parse::<T>() else { return };
    assert_eq!(value.to_string().parse::<T>().ok(), Some(value));
}
