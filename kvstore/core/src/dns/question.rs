//! Name -> [`Lookup`]: what a name of the zone stands for, by its form alone.
//!
//! Labels are read from the right: the first that is a kind (`service`, `node`, `addr`...) parts the name, to its
//! left, from the place (`dc1`), to its right. Case never matters.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::{
    iana::{Class, Rtype},
    name::ToLabelIter,
};

use super::{config::Zone, records::DnsName};
use crate::{
    State,
    names::{NodeKey, ServiceKey},
    overlay,
};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// As the asker spells it.
    pub name: DnsName,
    /// The type of record wanted.
    pub qtype: Rtype,
    /// `IN`; other classes are refused.
    pub class: Class,
}

/// What a name stands for. Says nothing about whether the state has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A name in somebody else's zone.
    Foreign,
    /// A name in the reverse tree, and the address if it stands for a whole one.
    Reverse(Option<IpAddr>),
    /// No name of the zone has this form: NXDOMAIN.
    Missing,
    /// Only a step on the way to other names, such as `node.consul`: it exists but holds nothing. RFC 8020.
    Step,
    /// The registry itself: `consul`, `service.consul`.
    Registry,
    /// `ns.consul`: the registry as the zone's name server.
    NameServer,
    /// `_services._dns-sd._udp.service.consul`: the list of services. RFC 6763 §9.
    ServiceTypes,
    /// Instances of a service.
    Service {
        /// Which.
        service: ServiceKey,
        /// Only those with this tag; may have dots.
        tag: Option<String>,
    },
    /// A name of another domain that stands for a service.
    Alias(ServiceKey),
    /// A name in the network of the overlay that the asker is in.
    Member {
        /// What stands for the name.
        service: ServiceKey,
        /// Whose addresses alone are meant.
        network: String,
    },
    /// A prepared query, by its name or id in lower case; may have dots.
    Query(String),
    /// A host.
    Node(NodeKey),
    /// `0a050001.addr.consul`: the address that is written in the name.
    Address(IpAddr),
    /// Under `addr`, but no address.
    NoAddress,
}

impl Lookup {
    /// What `question` is about, for this zone.
    pub fn of(question: &Question, zone: &Zone) -> Self {
        let labels: Option<Vec<&str>> = question
            .name
            .iter_labels()
            .filter(|label| !label.is_root())
            .map(|label| std::str::from_utf8(label.as_slice()).ok().filter(|text| !text.contains('.')))
            .collect();
        if let Some(domain) = zone.domain_of(&question.name) {
            // A label that is no text, or has a dot inside, belongs to nobody here.
            let Some(labels) = labels else { return Self::Missing };
            let own = labels.len() + 1 - domain.apex.label_count();
            return Place { zone }.of_zone(&labels[..own], question.qtype);
        }
        if let Some(alias) = zone.stands_for(&question.name) {
            return alias;
        }
        match labels.as_deref() {
            Some([.., last]) if last.eq_ignore_ascii_case("arpa") => {
                Self::Reverse(reverse(&labels.unwrap_or_default()))
            }
            _ => Self::Foreign,
        }
    }
}

/// What a name in nobody's zone stands for, for who asks from an address in a network of the overlay: a single label and
/// `NAME.NETWORK.overlay` are names there, and are answered out of no other network. None if that is in other hands.
pub(super) fn in_network(question: &Question, from: IpAddr, state: &State) -> Option<Lookup> {
    // So it costs nothing where there is no overlay.
    if state.networks().are_none() {
        return None;
    }
    let name = question.name.to_string().to_lowercase();
    let network = state.networks().of(from);
    let whole = name.strip_suffix(overlay::DOMAIN);
    let label = match whole {
        Some(rest) => network.and_then(|network| rest.strip_suffix(&*network.to_lowercase())?.strip_suffix('.')),
        None if network.is_none() || name.is_empty() || name.contains('.') => return None,
        None => Some(&*name),
    };
    let named = network.zip(label).and_then(|(network, label)| Some((overlay::service(label, network)?, network)));
    match named.filter(|(service, _)| state.has_service(service)) {
        Some((service, network)) => Some(Lookup::Member { service, network: network.to_owned() }),
        // Of a top-level domain a resolver asks for such, and takes no for an answer about all below it.
        None if whole.is_none() && is_about_zones(question.qtype) => None,
        None => Some(Lookup::Missing),
    }
}

fn is_about_zones(qtype: Rtype) -> bool {
    matches!(qtype, Rtype::NS | Rtype::SOA | Rtype::DS | Rtype::DNSKEY)
}

/// Reads names as seen from one zone.
struct Place<'a> {
    zone: &'a Zone,
}

const KINDS: [&str; 7] = ["service", "connect", "virtual", "ingress", "node", "query", "addr"];

impl Place<'_> {
    /// `labels` are those left of the zone's own.
    fn of_zone(&self, labels: &[&str], qtype: Rtype) -> Lookup {
        for (i, label) in labels.iter().enumerate().rev() {
            let (kind, name) = match KINDS.iter().find(|kind| kind.eq_ignore_ascii_case(label)) {
                Some(kind) => (*kind, &labels[..i]),
                // RFC 2782 names may leave `service` out, if they ask for SRV.
                None if qtype == Rtype::SRV && label.starts_with('_') => ("service", &labels[..=i]),
                None => continue,
            };
            return if self.is_here(&labels[i + 1..]) { of_kind(kind, name) } else { Lookup::Missing };
        }
        match labels {
            [] => Lookup::Registry,
            [one] if one.eq_ignore_ascii_case("ns") => Lookup::NameServer,
            [one] if one.eq_ignore_ascii_case("dc") => Lookup::Step,
            place if self.is_here(place) => Lookup::Step,
            [one] => service(one, None),
            _ => Lookup::Missing,
        }
    }

    /// Whether the labels right of the kind name our datacenter: none, `dc1`, or `dc1.dc`.
    fn is_here(&self, labels: &[&str]) -> bool {
        let own = |label: &str| label.eq_ignore_ascii_case(&self.zone.config().datacenter);
        match labels {
            [] => true,
            [dc] => own(dc),
            [dc, word] => own(dc) && word.eq_ignore_ascii_case("dc"),
            _ => false,
        }
    }
}

fn of_kind(kind: &str, labels: &[&str]) -> Lookup {
    match (kind, labels) {
        ("service", []) => Lookup::Registry,
        ("node" | "addr" | "query", []) => Lookup::Step,
        ("service", labels) => of_service(labels),
        ("node", labels) => NodeKey::new(&labels.join(".")).map_or(Lookup::Missing, Lookup::Node),
        ("query", labels) => Lookup::Query(of_query(labels).to_lowercase()),
        ("addr", [label]) => address(label).map_or(Lookup::NoAddress, Lookup::Address),
        _ => Lookup::Missing,
    }
}

/// Names under `query`; `labels` is not empty. RFC 2782 names say the protocol too, which means nothing here.
fn of_query(labels: &[&str]) -> String {
    match labels {
        [first, middle @ .., last] if first.starts_with('_') && last.starts_with('_') => {
            [&[&first[1..]], middle].concat().join(".")
        }
        labels => labels.join("."),
    }
}

/// Names under `service`; `labels` is not empty.
fn of_service(labels: &[&str]) -> Lookup {
    let is = |names: &[&str]| {
        let equal = |(a, b): (&&str, &&str)| a.eq_ignore_ascii_case(b);
        labels.len() == names.len() && labels.iter().zip(names).all(equal)
    };
    if is(&["_services", "_dns-sd", "_udp"]) {
        return Lookup::ServiceTypes;
    }
    if is(&["_dns-sd", "_udp"]) || is(&["_udp"]) || is(&["_tcp"]) {
        return Lookup::Step;
    }
    match labels {
        // RFC 2782, with the tag in the place of the protocol; `_tcp` is no tag.
        [name, tag] if name.starts_with('_') && tag.starts_with('_') => {
            let tag = (!tag.eq_ignore_ascii_case("_tcp")).then(|| tag[1..].to_owned());
            service(&name[1..], tag)
        }
        [name] => service(name, None),
        [tags @ .., name] => service(name, Some(tags.join("."))),
        [] => Lookup::Registry,
    }
}

fn service(name: &str, tag: Option<String>) -> Lookup {
    ServiceKey::new(name).map_or(Lookup::Missing, |service| Lookup::Service { service, tag })
}

/// Eight hexadecimal digits are an IPv4 address, 32 an IPv6 one.
fn address(label: &str) -> Option<IpAddr> {
    if !label.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    match label.len() {
        8 => Some(Ipv4Addr::from(u32::from_str_radix(label, 16).ok()?).into()),
        32 => Some(Ipv6Addr::from(u128::from_str_radix(label, 16).ok()?).into()),
        _ => None,
    }
}

/// The address whose reverse name has these labels.
fn reverse(labels: &[&str]) -> Option<IpAddr> {
    let [parts @ .., kind, _] = labels else { return None };
    if kind.eq_ignore_ascii_case("in-addr") {
        let mut octets = [0; 4];
        for (octet, part) in octets.iter_mut().zip(digits::<4>(parts)?.iter().rev()) {
            *octet = part.parse().ok().filter(|_| plain(part))?;
        }
        return Some(octets.into());
    }
    if kind.eq_ignore_ascii_case("ip6") {
        let mut nibbles = digits::<32>(parts)?.iter().rev();
        let append = |all: u128, nibble: &&str| {
            let one = Some(nibble).filter(|n| n.len() == 1)?;
            Some(all << 4 | u128::from(u8::from_str_radix(one, 16).ok()?))
        };
        return Some(Ipv6Addr::from(nibbles.try_fold(0, append)?).into());
    }
    None
}

fn digits<'a, const N: usize>(parts: &'a [&'a str]) -> Option<&'a [&'a str; N]> {
    parts.try_into().ok()
}

/// A number as it is written in reverse names: digits only, no zero in front.
fn plain(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_digit()) && (part == "0" || !part.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{DnsConfig, records::name};

    fn lookup(text: &str, qtype: Rtype) -> Lookup {
        let zone = Zone::new(DnsConfig::default()).unwrap();
        let name = if text == "." { DnsName::root_bytes() } else { name(text).expect(text) };
        let class = Class::IN;
        Lookup::of(&Question { name, qtype, class }, &zone)
    }

    fn of_service(service: &str, tag: Option<&str>) -> Lookup {
        let service = ServiceKey::new(service).unwrap();
        let tag = tag.map(Into::into);
        Lookup::Service { service, tag }
    }

    #[test]
    fn names_stand_for_what_their_form_says() {
        let node = |text| Lookup::Node(NodeKey::new(text).unwrap());
        let query = |text: &str| Lookup::Query(text.into());
        let ip = |text: &str| Lookup::Address(text.parse().unwrap());
        let reverse = |text: &str| Lookup::Reverse(Some(text.parse().unwrap()));
        let cases = [
            ("web.service.consul", of_service("web", None)),
            ("WEB.Service.CONSUL", of_service("web", None)),
            ("web.service.dc1.consul", of_service("web", None)),
            ("web.service.dc1.dc.consul", of_service("web", None)),
            ("web.service.dc2.consul", Lookup::Missing),
            ("web.service.x.dc1.consul", Lookup::Missing),
            ("V1.web.service.consul", of_service("web", Some("V1"))),
            ("a.b.web.service.consul", of_service("web", Some("a.b"))),
            ("_web._tcp.service.consul", of_service("web", None)),
            ("_web._v1.service.dc1.consul", of_service("web", Some("v1"))),
            ("_web._udp.service.consul", of_service("web", Some("udp"))),
            ("_web.service.consul", of_service("_web", None)),
            ("_a._b._c.service.consul", of_service("_c", Some("_a._b"))),
            ("service.service.consul", of_service("service", None).clone()),
            ("web.consul", of_service("web", None)),
            ("a.web.consul", Lookup::Missing),
            ("consul", Lookup::Registry),
            ("service.consul", Lookup::Registry),
            ("service.dc1.consul", Lookup::Registry),
            ("service.dc2.consul", Lookup::Missing),
            ("ns.consul", Lookup::NameServer),
            ("node.consul", Lookup::Step),
            ("addr.dc1.consul", Lookup::Step),
            ("query.consul", Lookup::Step),
            ("dc1.consul", Lookup::Step),
            ("dc.consul", Lookup::Step),
            ("dc1.dc.consul", Lookup::Step),
            ("_tcp.service.consul", Lookup::Step),
            ("_services._dns-sd._udp.service.consul", Lookup::ServiceTypes),
            ("_dns-sd._udp.service.consul", Lookup::Step),
            ("_udp.service.consul", Lookup::Step),
            ("Alpha.node.consul", node("alpha")),
            ("a.b.node.dc1.consul", node("a.b")),
            ("0a050001.addr.consul", ip("10.5.0.1")),
            ("0A050001.addr.dc1.consul", ip("10.5.0.1")),
            ("20010db8000000000000000000000006.addr.consul", ip("2001:db8::6")),
            ("zzzz.addr.consul", Lookup::NoAddress),
            ("+a050001.addr.consul", Lookup::NoAddress),
            ("x.0a050001.addr.consul", Lookup::Missing),
            ("WQ.query.consul", query("wq")),
            ("a.b.query.dc1.consul", query("a.b")),
            ("_wq._tcp.query.consul", query("wq")),
            ("_a.b._udp.query.consul", query("a.b")),
            ("_wq.query.consul", query("_wq")),
            ("_._tcp.query.consul", query("")),
            ("wq.query.dc2.consul", Lookup::Missing),
            ("web.connect.consul", Lookup::Missing),
            ("connect.consul", Lookup::Missing),
            ("x.y.consul", Lookup::Missing),
            ("example.com", Lookup::Foreign),
            ("notconsul", Lookup::Foreign),
            ("consul.example.com", Lookup::Foreign),
            (".", Lookup::Foreign),
            ("1.0.5.10.in-addr.arpa", reverse("10.5.0.1")),
            ("1.0.5.10.IN-ADDR.ARPA", reverse("10.5.0.1")),
            ("0.5.10.in-addr.arpa", Lookup::Reverse(None)),
            ("01.0.5.10.in-addr.arpa", Lookup::Reverse(None)),
            ("+1.0.5.10.in-addr.arpa", Lookup::Reverse(None)),
            ("256.0.5.10.in-addr.arpa", Lookup::Reverse(None)),
            ("1.2.3.0.5.10.in-addr.arpa", Lookup::Reverse(None)),
            ("arpa", Lookup::Reverse(None)),
            ("x.arpa", Lookup::Reverse(None)),
            ("6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", reverse("2001:db8::6")),
            ("6.0.ip6.arpa", Lookup::Reverse(None)),
        ];
        for (text, want) in cases {
            assert_eq!(lookup(text, Rtype::A), want, "{text}");
        }
    }

    #[test]
    fn srv_may_leave_service_out() {
        for (text, want) in [
            ("_web._tcp.consul", of_service("web", None)),
            ("_web._v1.dc1.consul", of_service("web", Some("v1"))),
            ("_web._tcp.dc2.consul", Lookup::Missing),
        ] {
            assert_eq!(lookup(text, Rtype::SRV), want, "{text}");
        }
        assert_eq!(lookup("_web._tcp.consul", Rtype::A), Lookup::Missing);
    }

    #[test]
    fn a_dot_inside_a_label_parts_nothing() {
        let zone = Zone::new(DnsConfig::default()).unwrap();
        for (wire, want) in [
            (&b"\x0bweb.service\x06consul\x00"[..], Lookup::Missing),
            (&b"\x0aweb.consul\x00"[..], Lookup::Foreign),
            (&b"\x02\xff\xfe\x07service\x06consul\x00"[..], Lookup::Missing),
            (&b"\x04\x00\x01\n\t\x07service\x06consul\x00"[..], Lookup::Missing),
        ] {
            let name = DnsName::from_octets(bytes::Bytes::from_static(wire)).unwrap();
            let (qtype, class) = (Rtype::A, Class::IN);
            assert_eq!(Lookup::of(&Question { name, qtype, class }, &zone), want, "{wire:?}");
        }
    }
}
