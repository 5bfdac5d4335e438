//! The files of settings, `r` the registrar's, `o` the overlay's, a line end, and YAML or JSON: none panics, and what is
//! wrong is said, at a line that there is.

use overlay::config::Settings as Overlay;
use registrar::config::Settings as Registrar;

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "r\nregistry: http://127.0.0.1:8500\nip: 10.0.0.1\ntags: [a, 'port-{{ port }}']\nnode-ttl: 30s\nfamily: ipv4\n",
        "r\n{\"docker\": \"unix:///var/run/docker.sock\", \"internal\": true, \"name-from\": \"hostname\", \"explicit\": 7}",
        "o\nregistry: [http://10.0.0.1:8500]\njoin: [10.0.0.2, '[::1]:8500']\nport: 51820\ngrace: 24h\nmtu: 1420\nendpoint: 10.0.0.1\n",
        "o\n{\"interface\": \"ovl0\", \"docker\": \"none\", \"http-addr\": \"127.0.0.1:1\", \"log-format\": \"json\"}",
        "o\nmtu: 1\nmtu: 2\nname: &a x\njoin: *a\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into()
}

pub(crate) fn check(data: &[u8]) {
    let Some((whose, text)) = std::str::from_utf8(data).ok().and_then(|text| text.split_once('\n')) else { return };
    let mut faults = Vec::new();
    // YAML has more line ends than one, and tells an end that comes too early behind the last.
    let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 2;
    match whose {
        "r" => drop(kvstore_client::settings::read::<Registrar>("f", text, &mut faults)),
        "o" => {
            kvstore_client::settings::read::<Overlay>("f", text, &mut faults);
            if let Err(error) = overlay::config::Config::new(Overlay::default(), Some(("f", text)), "host") {
                assert!(error.0.len() >= faults.len() && !error.0.is_empty());
            }
        }
        _ => return,
    }
    for fault in &faults {
        let line = fault.strip_prefix("f:").and_then(|rest| rest.split_once(':')?.0.parse::<usize>().ok());
        assert!(line.is_none_or(|line| (1..=lines).contains(&line)), "{fault}");
    }
}
