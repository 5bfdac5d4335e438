//! Names and records, as `domain` lays them out, made of what rows hold.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use domain::{
    base::{Name, NameBuilder, Ttl, iana::Class},
    rdata::{A, Aaaa, Cname, Ns, Ptr, Srv, Txt, ZoneRecordData},
};

/// An absolute name; a clone is cheap.
pub type DnsName = Name<Bytes>;
/// A record of an answer.
pub type Record = domain::base::Record<DnsName, Data>;
/// What a record holds.
pub type Data = ZoneRecordData<Bytes, DnsName>;

/// The absolute name that `text` spells, with or without the last dot; `None` if no DNS name has such labels.
pub(super) fn name(text: &str) -> Option<DnsName> {
    below(text.strip_suffix('.').unwrap_or(text), &Name::root_bytes())
}

/// The name of `labels`, separated by dots, below `origin`; `None` if it would not fit.
pub(super) fn below(labels: &str, origin: &DnsName) -> Option<DnsName> {
    let mut builder = NameBuilder::new_bytes();
    for label in labels.split('.') {
        if label.is_empty() {
            return None;
        }
        builder.append_label(label.as_bytes()).ok()?;
    }
    builder.append_origin(origin).ok()
}

/// `0a050001` or 32 hexadecimal digits: the label under `addr` that stands for an address.
pub(super) fn address_label(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("{:08x}", u32::from(ip)),
        IpAddr::V6(ip) => format!("{:032x}", u128::from(ip)),
    }
}

pub(super) fn record(owner: &DnsName, ttl: Duration, data: Data) -> Record {
    let seconds = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX);
    Record::new(owner.clone(), Class::IN, Ttl::from_secs(seconds), data)
}

pub(super) fn address(ip: IpAddr) -> Data {
    match ip {
        IpAddr::V4(ip) => A::new(ip).into(),
        IpAddr::V6(ip) => Aaaa::new(ip).into(),
    }
}

pub(super) fn cname(target: DnsName) -> Data {
    Cname::new(target).into()
}

pub(super) fn ptr(target: DnsName) -> Data {
    Ptr::new(target).into()
}

pub(super) fn ns(target: DnsName) -> Data {
    Ns::new(target).into()
}

/// Priority is always 1: every instance is as good as its weight says.
pub(super) fn srv(weight: u16, port: u16, target: DnsName) -> Data {
    Srv::new(1, weight, port, target).into()
}

/// One text, cut into strings of 255 bytes; `None` if it is longer than a record.
pub(super) fn txt(text: &str) -> Option<Data> {
    Some(Txt::<Bytes>::build_from_slice(text.as_bytes()).ok()?.into())
}

/// A pair of metadata as a text: `key=value`, with `=` and spaces of the key quoted as RFC 1464 says; keys that begin
/// with `rfc1035-` stand for free text and show their value alone.
pub(super) fn meta_text(key: &str, value: &str) -> String {
    if key.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("rfc1035-")) {
        return value.to_owned();
    }
    let inner = key.trim_matches(' ');
    let before = key.len() - key.trim_start_matches(' ').len();
    let after = key.len() - inner.len() - before;
    let quoted = inner.replace('`', "``").replace('=', "`=");
    let value = value.replace('`', "``");
    format!("{}{quoted}{}={value}", "` ".repeat(before), "` ".repeat(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_built_or_refused() {
        let long = "x".repeat(64);
        let many = vec!["abcdefg"; 32].join(".");
        for (text, want) in [
            ("alpha.node.consul", Some("alpha.node.consul")),
            ("alpha.node.consul.", Some("alpha.node.consul")),
            ("under_score", Some("under_score")),
            ("", None),
            ("a..b", None),
            (".a", None),
            (long.as_str(), None),
            (many.as_str(), None),
        ] {
            assert_eq!(name(text).map(|n| n.to_string()).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn metadata_is_quoted() {
        for (key, value, want) in [
            ("rack", "r1", "rack=r1"),
            ("a=b", "c=d", "a`=b=c=d"),
            (" k ", "v", "` k` =v"),
            ("t`k", "v`w", "t``k=v``w"),
            ("  ", "v", "` ` =v"),
            ("RFC1035-note", "free text", "free text"),
            ("rfc1035", "x", "rfc1035=x"),
        ] {
            assert_eq!(meta_text(key, value), want);
        }
    }
}
