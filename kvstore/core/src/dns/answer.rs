//! [`Lookup`] + [`State`] -> [`Answer`]: which records, and whether the name exists at all.
//!
//! Answers as Consul does, with a few deliberate differences: the zone's apex and names that only lead to others exist
//! (NODATA instead of NXDOMAIN, so that resolvers that walk a name label by label get on), the apex has the registry's
//! addresses, and TXT of a service is its metadata.

mod query;
mod service;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use domain::{
    base::{
        Serial, Ttl,
        iana::{OptRcode, Rtype},
    },
    rdata::Soa,
};

use super::{
    Asked,
    config::{Names, Zone},
    is_private, is_transfer,
    question::{Lookup, Question},
    records::{
        self, Data, DnsName, Record, address, address_label, below, cname, meta_text, name, ns, ptr, record, txt,
    },
    replies::Basis,
};
use crate::{
    State,
    names::NodeKey,
    overlay,
    row::{Meta, Node, Stamped},
    version::Caller,
};

/// How many names inside the zone one answer follows, each being an alias of the next.
const MAX_ALIASES: u8 = 3;

/// What a reply holds, whatever its size.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How it went.
    pub rcode: OptRcode,
    /// The zone is ours, so this is the truth.
    pub authoritative: bool,
    /// We would ask others.
    pub recursion_available: bool,
    /// What was asked for.
    pub answers: Vec<Record>,
    /// Who says so: the SOA of a negative answer.
    pub authority: Vec<Record>,
    /// What the asker will want next. The first to go when space is short, from the end.
    pub additional: Vec<Record>,
    /// Another asker may get another answer: resolvers may share this one inside the asker's subnet only.
    pub for_subnet: bool,
    /// What it follows from.
    pub basis: Basis,
}

impl Answer {
    /// Nothing but a code.
    pub fn error(rcode: OptRcode) -> Self {
        Self {
            rcode,
            authoritative: false,
            recursion_available: false,
            answers: Vec::new(),
            authority: Vec::new(),
            additional: Vec::new(),
            for_subnet: false,
            basis: Basis::More,
        }
    }

    /// An alias of ours, with what others say about the name it leads to, if they know it.
    pub(super) fn followed_by(mut self, found: Self) -> Self {
        self.answers.extend(found.answers);
        self
    }

    fn ours(zone: &Zone) -> Self {
        Self {
            authoritative: true,
            recursion_available: zone.has_recursion(),
            basis: Basis::State,
            ..Self::error(OptRcode::NOERROR)
        }
    }

    /// Whether its answers may be told in any order: all are of the name asked for, and none is an alias.
    pub(super) fn any_order(&self) -> bool {
        let mut answers = self.answers.iter();
        let alike = |r: &Record| matches!(r.rtype(), Rtype::A | Rtype::AAAA | Rtype::SRV);
        answers.next().is_some_and(|first| alike(first) && answers.all(|r| alike(r) && r.owner() == first.owner()))
    }

    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.additional.is_empty()
    }
}

/// The answer to `question`, which is about `lookup`, for `caller`; `None` if that is in other hands.
pub fn answer(
    lookup: &Lookup,
    question: &Question,
    state: &State,
    zone: &Zone,
    asked: &Asked<'_>,
    caller: Option<Caller>,
) -> Option<Answer> {
    if is_transfer(question.qtype) {
        return None;
    }
    let (name, qtype) = (&question.name, question.qtype);
    let names = zone.answers_for(name).unwrap_or(&zone.main);
    let asking = Asking { state, zone, names, asked, caller, name, qtype, aliases_left: MAX_ALIASES };
    match lookup {
        Lookup::Foreign => None,
        Lookup::Reverse(ip) => asking.reverse((*ip)?),
        Lookup::Member { service, network } => Some(asking.member(service, network)),
        _ => Some(asking.in_zone(lookup)),
    }
}

/// The answer where [`answer`] had none and nobody else is asked.
pub(super) fn not_ours(lookup: &Lookup, question: &Question, zone: &Zone) -> Answer {
    let recursion_available = zone.has_recursion();
    let error = |rcode| Answer { recursion_available, ..Answer::error(rcode) };
    match lookup {
        Lookup::Foreign => error(OptRcode::REFUSED),
        _ if is_transfer(question.qtype) => error(OptRcode::NOTIMP),
        _ if zone.recurses(&question.name) => error(OptRcode::REFUSED),
        // Nobody else could know the name of a private address.
        Lookup::Reverse(Some(ip)) if is_private(*ip) => {
            Answer { authoritative: true, ..Answer::error(OptRcode::NXDOMAIN) }
        }
        // As Consul does.
        _ => Answer { recursion_available: true, ..Answer::error(OptRcode::SERVFAIL) },
    }
}

/// What is to be asked of others, if the answer ends with an alias of their name.
pub(super) fn leads_abroad(answer: &Answer, question: &Question, zone: &Zone) -> Option<Question> {
    let Data::Cname(alias) = answer.answers.last()?.data() else { return None };
    let target = Question { name: alias.cname().clone(), ..question.clone() };
    let foreign = zone.answers_for(&target.name).is_none() && question.qtype != Rtype::CNAME;
    foreign.then_some(target)
}

/// One question, on its way to an answer.
#[derive(Clone, Copy)]
struct Asking<'a> {
    state: &'a State,
    zone: &'a Zone,
    names: &'a Names,
    asked: &'a Asked<'a>,
    /// The host that asks, where versions matter.
    caller: Option<Caller>,
    name: &'a DnsName,
    qtype: Rtype,
    aliases_left: u8,
}

impl Asking<'_> {
    fn in_zone(&self, lookup: &Lookup) -> Answer {
        match self.qtype {
            Rtype::SOA => return self.start_of_authority(),
            Rtype::NS => return self.name_servers(),
            _ => {}
        }
        match lookup {
            Lookup::Missing | Lookup::Foreign | Lookup::Reverse(_) | Lookup::Member { .. } => {
                self.negative(OptRcode::NXDOMAIN)
            }
            Lookup::Step => self.nodata(),
            Lookup::Registry => self.registry(true),
            Lookup::NameServer => self.registry(false),
            Lookup::ServiceTypes => self.service_types(),
            Lookup::Service { service, tag } => self.service(service, tag.as_deref()),
            Lookup::Alias(service) => self.standing_for(service),
            Lookup::Query(name) => self.query(name),
            Lookup::Node(node) => self.node(node),
            Lookup::Address(ip) => self.address(*ip),
            Lookup::NoAddress => Answer { basis: Basis::More, ..Answer::ours(self.zone) },
        }
    }

    /// The name does not exist, or has nothing of this type; how long that may be believed.
    fn negative(&self, rcode: OptRcode) -> Answer {
        let mut answer = Answer::ours(self.zone);
        answer.rcode = rcode;
        answer.authority.push(self.soa());
        answer
    }

    fn nodata(&self) -> Answer {
        self.negative(OptRcode::NOERROR)
    }

    fn soa(&self) -> Record {
        let soa = self.zone.config().soa;
        let data = Soa::new(
            self.names.primary.clone(),
            self.names.mailbox.clone(),
            Serial(self.asked.unix_seconds),
            Ttl::from_secs(soa.refresh),
            Ttl::from_secs(soa.retry),
            Ttl::from_secs(soa.expire),
            Ttl::from_secs(soa.min_ttl),
        );
        record(&self.names.apex, Duration::from_secs(soa.min_ttl.into()), data.into())
    }

    /// Every name of the zone tells the zone's.
    fn start_of_authority(&self) -> Answer {
        let mut answer = Answer::ours(self.zone);
        let (ns, glue) = self.name_server();
        answer.answers.push(self.soa());
        answer.authority.push(ns);
        answer.additional = glue;
        answer
    }

    fn name_servers(&self) -> Answer {
        let mut answer = Answer::ours(self.zone);
        let (ns, glue) = self.name_server();
        answer.answers.push(ns);
        answer.additional = glue;
        answer
    }

    /// This registry's node as name server, and its addresses.
    fn name_server(&self) -> (Record, Vec<Record>) {
        let (names, config, ttl) = (self.names, self.zone.config(), self.zone.config().node_ttl);
        let target = below(&config.node, &names.local_nodes).unwrap_or_else(|| names.primary.clone());
        let glue = config.addresses.iter();
        let glue = glue.map(|ip| record(&target, ttl, address(*ip))).collect();
        (record(&names.apex, ttl, ns(target)), glue)
    }

    /// The registry's own addresses and, at the apex, the names of all services.
    fn registry(&self, services: bool) -> Answer {
        let ttl = self.zone.config().node_ttl;
        let mut answer = Answer::ours(self.zone);
        let addresses = self.zone.config().addresses.iter().filter(|ip| self.wants(**ip));
        answer.answers = addresses.map(|ip| record(self.name, ttl, address(*ip))).collect();
        if services && self.qtype == Rtype::TXT {
            let names = self.state.services().filter_map(|service| txt(service.as_str()));
            answer.answers = names.map(|text| record(self.name, ttl, text)).collect();
        }
        self.or_nodata(answer)
    }

    /// One PTR for each service that has a name in DNS, to its RFC 2782 name.
    fn service_types(&self) -> Answer {
        let mut answer = Answer::ours(self.zone);
        if matches!(self.qtype, Rtype::PTR | Rtype::ANY) {
            let ttl = self.zone.config().node_ttl;
            let single = self.state.services().filter(|service| !service.as_str().contains('.'));
            let names = single.filter_map(|service| below(&format!("_{service}._tcp"), &self.names.services));
            answer.answers = names.map(|target| record(self.name, ttl, ptr(target))).collect();
        }
        self.or_nodata(answer)
    }

    fn or_nodata(&self, answer: Answer) -> Answer {
        if answer.is_empty() { self.nodata() } else { answer }
    }

    /// Whether an address of this family was asked for.
    fn wants(&self, ip: IpAddr) -> bool {
        match self.qtype {
            Rtype::A => ip.is_ipv4(),
            Rtype::AAAA => ip.is_ipv6(),
            qtype => qtype == Rtype::ANY,
        }
    }

    /// A host: its address or alias, and its metadata.
    fn node(&self, key: &NodeKey) -> Answer {
        let Some(node) = self.state.node(key) else {
            return self.without_node(key);
        };
        let ttl = self.zone.config().node_ttl;
        let mut answer = Answer::ours(self.zone);
        answer.answers = self.host_records(&node.address, node, ttl);
        let meta = node.meta.as_ref().map(|meta| meta_records(self.name, meta, ttl)).unwrap_or_default();
        match self.qtype {
            Rtype::TXT | Rtype::ANY => answer.answers.extend(meta),
            Rtype::A | Rtype::AAAA if self.zone.config().node_meta_txt => answer.additional = meta,
            _ => {}
        }
        answer
    }

    /// The records of a host at the name asked for.
    fn host_records(&self, host: &str, node: &Stamped<Node>, ttl: Duration) -> Vec<Record> {
        if host.parse::<IpAddr>().is_err() {
            let alias = matches!(self.qtype, Rtype::A | Rtype::AAAA | Rtype::ANY | Rtype::CNAME);
            return if alias { self.alias(host, ttl) } else { Vec::new() };
        }
        let found = node_addresses(node).into_iter().filter(|ip| self.wants(*ip));
        found.map(|ip| record(self.name, ttl, address(ip))).collect()
    }

    /// A name below which hosts have theirs exists, without being a host.
    fn without_node(&self, key: &NodeKey) -> Answer {
        let below = format!(".{key}");
        let leads_on = self.state.nodes().any(|(node, _)| node.as_str().ends_with(&below));
        if leads_on { self.nodata() } else { self.negative(OptRcode::NXDOMAIN) }
    }

    /// The address in the name. Of the wrong family it is told aside, as Consul does.
    fn address(&self, ip: IpAddr) -> Answer {
        // There are more such names than could be kept.
        let mut answer = Answer { basis: Basis::More, ..Answer::ours(self.zone) };
        let record = record(self.name, self.zone.config().node_ttl, address(ip));
        let section = if self.wants(ip) { &mut answer.answers } else { &mut answer.additional };
        section.push(record);
        answer
    }

    /// Who has the address: hosts, or if there is none, services. `None` if nobody is known.
    fn reverse(&self, ip: IpAddr) -> Option<Answer> {
        let holders: Vec<_> = self.state.holders_of(ip).collect();
        let nodes = holders.iter().filter(|(_, instance)| instance.is_none());
        let nodes = nodes.filter_map(|(node, _)| below(&self.state.node(node)?.name, &self.names.local_nodes));
        let mut targets: Vec<DnsName> = nodes.collect();
        if targets.is_empty() {
            let instances = holders.iter().filter_map(|(node, id)| self.state.instance(node, (*id)?));
            // Names in networks are for those in them.
            let instances = instances.filter(|instance| !instance.service.ends_with(overlay::DOMAIN));
            let services: BTreeMap<_, _> = instances.map(|i| (i.service_key(), i.service.as_str())).collect();
            targets.extend(services.values().filter_map(|name| below(name, &self.names.local_services)));
        }
        if targets.is_empty() {
            return None;
        }
        let mut answer = Answer::ours(self.zone);
        if matches!(self.qtype, Rtype::PTR | Rtype::ANY) {
            let ttl = self.zone.config().node_ttl;
            answer.answers = targets.into_iter().map(|target| record(self.name, ttl, ptr(target))).collect();
        }
        Some(answer)
    }

    /// The name asked for as an alias of `host`, followed by what that leads to, as far as it is ours.
    fn alias(&self, host: &str, ttl: Duration) -> Vec<Record> {
        let Some(target) = name(host) else { return Vec::new() };
        let mut records = vec![record(self.name, ttl, cname(target.clone()))];
        if self.qtype != Rtype::CNAME {
            records.extend(self.follow(&target, self.qtype));
        }
        records
    }

    /// The addresses of a name of this zone, with the aliases on the way.
    fn follow(&self, target: &DnsName, qtype: Rtype) -> Vec<Record> {
        let Some(aliases_left) = self.aliases_left.checked_sub(1) else {
            return Vec::new();
        };
        let question = Question { name: target.clone(), qtype, class: domain::base::iana::Class::IN };
        let lookup = Lookup::of(&question, self.zone);
        let Some(names) = self.zone.answers_for(target) else {
            return Vec::new();
        };
        let asking = Asking { names, name: target, qtype, aliases_left, ..*self };
        let mut records = asking.in_zone(&lookup).answers;
        records.retain(|r| matches!(r.rtype(), Rtype::A | Rtype::AAAA | Rtype::CNAME));
        records
    }

    /// The name of a host in this datacenter; by its address if its name does not fit into DNS.
    fn node_name(&self, node: &Node) -> Option<DnsName> {
        let by_address = || self.address_name(node.address.parse().ok()?);
        below(&node.name, &self.names.local_nodes).or_else(by_address)
    }

    fn address_name(&self, ip: IpAddr) -> Option<DnsName> {
        below(&address_label(ip), &self.names.local_addresses)
    }
}

/// A host's addresses: its own, and those it names for the other family.
fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let tagged = |tag: &str| node.tagged_addresses.as_ref()?.get(tag).map(String::as_str);
    by_family(&node.address, tagged)
}

/// `main`, unless `lan_ipv4` or `lan_ipv6` say otherwise for their family.
fn by_family<'a>(main: &str, tagged: impl Fn(&str) -> Option<&'a str>) -> Vec<IpAddr> {
    let main: Option<IpAddr> = main.parse().ok();
    let tagged = |tag: &str| tagged(tag)?.parse::<IpAddr>().ok();
    let v4 = tagged("lan_ipv4").filter(IpAddr::is_ipv4);
    let v6 = tagged("lan_ipv6").filter(IpAddr::is_ipv6);
    let v4 = v4.or_else(|| main.filter(IpAddr::is_ipv4));
    let v6 = v6.or_else(|| main.filter(IpAddr::is_ipv6));
    v4.into_iter().chain(v6).collect()
}

fn meta_records(owner: &DnsName, meta: &Meta, ttl: Duration) -> Vec<Record> {
    let texts = meta.iter().filter_map(|(key, value)| txt(&meta_text(key, value)));
    texts.map(|text| record(owner, ttl, text)).collect()
}
