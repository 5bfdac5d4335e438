//! What a templater finds beside a destination after a start, a word for its kind, a line end, and the bytes: none panics,
//! and what is taken says the same when it is written and read again, and any of it can be rendered from.

use std::sync::Arc;

use jiff::Timestamp;
use kvstore_client::types::{CatalogServices, ServiceEntry};

use crate::{
    functions::Setting,
    kept::Kept,
    output::journal::{Before, decode, encode},
    render::{Sources, Template},
    state::{parse, text},
    values::{Answer, Dependency},
};

/// Reads something of each kind.
const TEMPLATE: &str = "{% for i in service(name='web', status='any') %}{{ i.id }} {{ i.address }}:{{ i.port }}{% endfor %}\
{% for s in services() %}{{ s.name }}{% endfor %}{% set n = node(name='n') %}{% if n %}{{ n.services | json_encode }}{% endif %}\
{{ nodes() | json_encode }}{{ datacenters() | join(sep=' ') }}{{ key(path='k', default='') }}{{ kv_list(prefix='p') | json_encode }}";

/// First inputs.
pub fn seeds() -> Vec<Vec<u8>> {
    let entry = r#"[{"Node":{"ID":"","Node":"n1","Address":"10.0.0.1","Datacenter":"dc1","Meta":{},"CreateIndex":1,"ModifyIndex":1},"Service":{"ID":"web-1","Service":"web","Tags":["v1"],"Address":"","Port":80,"Meta":{},"Weights":{"Passing":1,"Warning":1},"CreateIndex":1,"ModifyIndex":1},"Checks":[]}]"#;
    let entries: Vec<ServiceEntry> = serde_json::from_str(entry).expect("what the registry answers");
    let answers = [
        (Dependency::service("web", false), Answer::instances(entries)),
        (Dependency::Services, Answer::services(CatalogServices::from([("web".into(), vec!["v1".into()])]))),
        (Dependency::Node("n".into()), Answer::node(None)),
        (Dependency::Nodes { near: None }, Answer::nodes(Vec::new())),
        (Dependency::Datacenters.in_datacenter(Some("dc2".into())), Answer::datacenters(vec!["dc1".into()])),
        (Dependency::Key("k".into()), Answer::Key(Some("v".into()))),
        (Dependency::Prefix("p".into()), Answer::pairs(Vec::new())),
        // Which answers something else.
        (Dependency::Datacenters, Answer::Key(None)),
    ];
    let answers = answers.map(|(dependency, answer)| (Arc::new(dependency), Arc::new(answer)));
    let befores = [("/a", Some(b"x\n\0\xff".to_vec())), ("/b", None), ("/c", Some(Vec::new()))];
    let befores = befores.map(|(path, content)| Before { destination: path.into(), content });
    let with = |kind: &str, bytes: &[u8]| [kind.as_bytes(), b"\n", bytes].concat();
    let data = |count| Kept { as_of: Timestamp::UNIX_EPOCH, answers: answers[..count].to_vec() }.encode();
    vec![
        with("undo", &encode(&befores).expect("plain data")),
        with("undo", b"[{\"destination\":\"/a\",\"length\":18446744073709551615}]\nold"),
        with("data", &data(answers.len()).expect("plain data")),
        with("data", &data(2).expect("plain data")),
        with("state", text(parse("pid 7\nreloaded 6c62272e07bb014262b821756295c58d\n")).as_bytes()),
        with("state", b"pid 7\nreloaded unknown\n"),
        with("state", b"pid 7\n"),
    ]
}

/// One input.
pub fn check(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return };
    let rest = &data[end + 1..];
    match &data[..end] {
        b"undo" => {
            let Some(befores) = decode(rest) else { return };
            let held: usize = befores.iter().filter_map(|before| before.content.as_ref()).map(Vec::len).sum();
            assert!(held < rest.len(), "nothing is made up");
            let again = encode(&befores).expect("paths that JSON had");
            assert_eq!(decode(&again), Some(befores));
        }
        b"data" => {
            let Some(kept) = Kept::decode(rest) else { return };
            let again = kept.encode().expect("plain data");
            assert_eq!(Kept::decode(&again).as_ref(), Some(&kept));
            let sources = Sources { main: "t".into(), files: [("t".to_owned(), TEMPLATE.to_owned())].into() };
            let mut template = Template::parse(&sources, Setting::default()).expect("a template");
            template.render(kept.values(), kept.as_of);
        }
        b"state" => {
            let reloaded = parse(&String::from_utf8_lossy(rest));
            assert_eq!(parse(&text(reloaded)), reloaded);
        }
        _ => {}
    }
}
