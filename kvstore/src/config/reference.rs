//! The keys of a configuration file, for readers. Pure; its test holds it against the keys that are read.

use kvstore_client::reference::{code, prose, table};

use super::keys::{CLUSTER_ONLY, INACTIVE};

/// Each key with the sections before it, what it says and what holds without it.
const KEYS: &[(&str, &str)] = &[
    ("node_name, node", "this host's name in the catalog; else its host name"),
    ("node_id", "this host's UUID; else one that is kept in the data directory"),
    ("node_meta", "pairs of this host's metadata"),
    ("datacenter", "the datacenter's name, dc1"),
    ("domain", "the zone that DNS answers for, `consul`"),
    ("alt_domain", "a second zone with the same answers"),
    (
        "data_dir",
        "where the state is kept; else `/var/lib/flotilla/kvstore` for root, `~/.local/state/flotilla/kvstore`",
    ),
    ("engine", "`embedded` (in the data directory), `memory`, or `etcd://HOST:PORT,...`; see `docs/engines.md`"),
    (
        "replica_of",
        "the registry to be a replica of, one URL or a list, of which the next is used where one fails; see `docs/replica.md`",
    ),
    ("hub.token", "the token that a replica shows its hub: one that may everything, as for a snapshot"),
    ("hub.token_file", "a file with it, read again when it changes"),
    ("hub.ca_file", "whose certificates of the hub are believed, beside those that this host trusts"),
    ("hub.ca_path", "a directory of such files"),
    ("hub.client_cert", "the certificate to show a hub that asks for one"),
    ("hub.client_key", "its private key"),
    ("hub.tls_server_name", "the name in the hub's certificate, where it is not that in its URL"),
    ("hub.ssl_verify", "`false` believes any certificate: then whoever is on the way can read everything; true"),
    ("dev", "keep nothing, stay on this host"),
    ("bind_addr, bind", "this host's address for others; else the one that its default route leaves from"),
    ("advertise_addr, advertise", "the same, if others reach this host by another address"),
    ("http_addr", "where HTTP is served, one or a list: `IP:PORT` or `unix:///PATH`; 127.0.0.1:8500"),
    ("https_addr", "where HTTPS is served; nowhere"),
    ("dns_addr", "where DNS is served, UDP and TCP; 127.0.0.1:8600"),
    ("client_addr", "where HTTP and DNS are served, both, at their ports; blanks between several"),
    ("ports.http", "the port of HTTP at the client addresses, 8500; -1: none"),
    ("ports.https", "the port of HTTPS there; none"),
    ("ports.dns", "the port of DNS there, 8600; -1: none"),
    ("ports.server", "what is shown as the server's port, 8300; nothing listens there"),
    ("addresses.http", "instead of client_addr, for HTTP; also `unix:///PATH`"),
    ("addresses.https", "the same for HTTPS"),
    ("addresses.dns", "the same for DNS"),
    (
        "recursors, recursor",
        "who answers for other domains: `IP`, `IP:PORT` or `auto`, with `DOMAIN=` before for one domain; nobody",
    ),
    ("aliases", "names of other domains, `*.` before a domain for all below, and the service each stands for"),
    ("routable", "networks whose addresses mean the same on every host"),
    ("trusted_resolvers", "networks of resolvers that are believed when they say on whose behalf they ask"),
    ("dns_config.node_ttl", "TTL of answers about hosts, 0s"),
    ("dns_config.service_ttl", "TTL by service; `prefix*` and `*` stand for many; 0s"),
    ("dns_config.only_passing", "leave out instances that warn; false"),
    ("dns_config.a_record_limit", "most addresses in one answer; 0: as many as fit"),
    ("dns_config.udp_answer_limit", "most answers over UDP without EDNS; 0: as many as fit"),
    ("dns_config.enable_truncate", "set the TC bit when size cut an answer; true"),
    ("dns_config.max_udp_bytes", "the longest reply over UDP, whatever the asker offers; 4096"),
    (
        "dns_config.response_rate_limit",
        "replies a second over UDP to one network (/24, /56); 0: as many as are asked for",
    ),
    ("dns_config.enable_additional_node_meta_txt", "send a host's metadata as TXT beside its address; true"),
    ("dns_config.recursor_strategy", "`sequential` or `random`"),
    ("dns_config.recursor_timeout", "for one question to one recursor, 2s"),
    ("dns_config.soa.refresh", "the SOA record's times, in seconds"),
    ("dns_config.soa.retry", "likewise"),
    ("dns_config.soa.expire", "likewise"),
    ("dns_config.soa.min_ttl", "likewise; also for how long a name is known not to exist"),
    ("limits.kv_max_value_size", "most bytes of a key's value, 512 KiB"),
    ("limits.txn_max_req_len", "most bytes of a transaction"),
    ("limits.snapshot_max_size", "most bytes of a snapshot to be restored"),
    (
        "snapshots.directory",
        "where the agent puts snapshots that it takes by itself, a directory of its own; it takes none",
    ),
    ("snapshots.every", "the time from one snapshot to the next, 1h"),
    ("snapshots.keep", "how many of them to keep, 24"),
    ("session_ttl_min", "the shortest TTL of a session, 10s"),
    (
        "service, services",
        "services that this host has, one or a list: the API's fields in lower case with underscores",
    ),
    ("check, checks", "checks of the host, or of a service by `service_id`"),
    ("enable_script_checks", "allow programs as checks, from the API too; false"),
    ("enable_local_script_checks", "allow programs as checks in files only; false"),
    ("check_update_interval", "how often a check's new output alone, without a new status, is written; 30s"),
    ("check_output_max_size", "most bytes that are kept of what a check says, 4096"),
    ("discard_check_output", "keep nothing of it; false"),
    ("enable_agent_tls_for_checks", "checks that speak TLS trust `ca_file` and show `cert_file`; false"),
    ("ca_file", "who vouches for clients of HTTPS"),
    ("ca_path", "a directory of such files"),
    ("cert_file", "the certificate of HTTPS, with those of its issuers behind it"),
    ("key_file", "its private key"),
    ("verify_incoming", "clients of HTTPS must show a certificate; false"),
    ("verify_incoming_https", "the same"),
    ("tls.defaults.ca_file", "as without `tls`, and so are the following"),
    ("tls.defaults.ca_path", ""),
    ("tls.defaults.cert_file", ""),
    ("tls.defaults.key_file", ""),
    ("tls.defaults.verify_incoming", ""),
    ("tls.https.ca_file", "instead of those, for HTTPS, and so are the following"),
    ("tls.https.ca_path", ""),
    ("tls.https.cert_file", ""),
    ("tls.https.key_file", ""),
    ("tls.https.verify_incoming", ""),
    ("http_config.block_endpoints", "beginnings of paths that nobody may use"),
    ("http_config.allow_write_http_from", "networks that may write; everybody"),
    ("http_config.response_headers", "headers of every answer"),
    ("access.read_tokens", "tokens of which a request must show one to read; everybody may"),
    ("access.write_tokens", "tokens of which a request must show one to write; they read, too; everybody may"),
    ("access.read_token_file", "a file of such tokens, one a line"),
    ("access.write_token_file", "the same"),
    ("acl.enabled", "whether tokens and policies count; false"),
    ("acl.default_policy", "`allow` or `deny` what no policy is about; allow"),
    (
        "acl.tokens.initial_management, acl.tokens.master",
        "the secret of a token that may do everything; `PUT /v1/acl/bootstrap` gives one to who asks first",
    ),
    ("acl.tokens.default", "the secret of the token of requests that show none; the anonymous token"),
    ("acl.tokens.dns", "the secret of the token whose view DNS shows; as the default"),
    ("strict_consul", "refuse what Consul does not have; false"),
    ("log_level", "`trace`, `debug`, `info`, `warn` or `error`; info, or as `RUST_LOG` says"),
    ("log_format", "`text` or `json`"),
    ("log_json", "the same as Consul says it"),
    ("server", "false has no effect: there is no agent without the state"),
];

/// The keys, and those of Consul's that do nothing here.
pub(crate) fn page() -> String {
    let keys = |names: &str| names.split(", ").map(code).collect::<Vec<_>>().join(", ");
    let all =
        table(["key", "meaning; what holds without it"], KEYS.iter().map(|(k, meaning)| [keys(k), prose(meaning)]));
    let list = |names: &[&str]| names.iter().map(|name| code(name)).collect::<Vec<_>>().join(", ");
    format!(
        "{all}\nOf Consul's keys these are taken without effect and named in the log at the start, since there is no Raft, \
         Serf, gRPC or Connect here: {}.\n\nAnd these, which tune or report what is not here: {}.\n",
        list(CLUSTER_ONLY),
        list(INACTIVE)
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Map, Value};

    use super::{
        super::{
            Layer,
            document::{Document, Format},
            keys,
        },
        *,
    };

    /// A file with every section of `keys` in it, all of them empty.
    fn sections(keys: &BTreeSet<String>) -> String {
        let mut root = Map::new();
        for key in keys {
            let mut steps = key.split('.').collect::<Vec<_>>();
            steps.pop();
            steps.into_iter().fold(&mut root, |map, step| {
                let inner = map.entry(step).or_insert_with(|| Map::new().into());
                inner.as_object_mut().expect("only sections are put there")
            });
        }
        Value::Object(root).to_string()
    }

    #[test]
    fn every_key_that_is_read_is_told_and_no_other() {
        let told: BTreeSet<_> = KEYS.iter().flat_map(|(names, _)| names.split(", ")).map(str::to_owned).collect();
        let document = Document::parse("f", sections(&told), Format::Json).unwrap();
        let mut faults = Vec::new();
        keys::read(document.section(&mut faults), &mut Layer::default());
        let read = document.asked.take();
        let is_section = |key: &&String| read.iter().any(|other| other.starts_with(&format!("{key}.")));
        let read: BTreeSet<_> = read.iter().filter(|key| !is_section(key)).cloned().collect();
        assert_eq!(read.difference(&told).collect::<Vec<_>>(), [""; 0], "not told");
        assert_eq!(told.difference(&read).collect::<Vec<_>>(), [""; 0], "told, but not read");
    }
}
