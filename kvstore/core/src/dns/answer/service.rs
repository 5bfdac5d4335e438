//! Instances of a service: which are offered, and as which records.

use std::{collections::HashSet, net::IpAddr, time::Duration};

use domain::base::iana::{OptRcode, Rtype};

use super::{
    Answer, Asking, Basis, by_family, meta_records, node_addresses,
    records::{DnsName, Record, address, name, record, srv},
};
use crate::{
    InstanceView,
    dns::most,
    health::Status,
    names::ServiceKey,
    shuffle::Shuffle,
    version::{Callers, choose, release_key, version_of},
};

/// An instance with a weight for its state.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    view: InstanceView<'a>,
    weight: u16,
}

/// In which order instances are told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By chance, heavy ones first more often.
    Chance,
    /// As they come.
    Given,
}

impl<'a> Offer<'a> {
    /// With the weight for its state; a critical one has none.
    pub(super) fn of(view: InstanceView<'a>) -> Self {
        let weights = view.instance.weights;
        let weight = match view.status() {
            Status::Passing => weights.passing,
            Status::Warning => weights.warning,
            Status::Critical => 0,
        };
        Self { view, weight }
    }

    /// Where it is reached, by family; empty if that is a host name.
    fn addresses(&self) -> Vec<IpAddr> {
        let instance = &self.view.instance;
        let tagged = |tag: &str| instance.tagged_addresses.get(tag).map(|t| t.address.as_str());
        let own = by_family(&instance.address, tagged);
        if own.is_empty() && instance.address.is_empty() { node_addresses(self.view.node) } else { own }
    }
}

impl<'a> Asking<'a> {
    pub(super) fn service(&self, service: &ServiceKey, tag: Option<&str>) -> Answer {
        let offers = self.offers(service, tag);
        if offers.is_empty() {
            return self.nobody(service, tag);
        }
        self.told(offers, service, self.zone.config().service_ttl.of(service.as_str()))
    }

    /// A name of another domain, which exists whether anybody is there or not.
    pub(super) fn standing_for(&self, service: &ServiceKey) -> Answer {
        self.standing_for_those(service, |_| true)
    }

    fn standing_for_those(&self, service: &ServiceKey, is_meant: impl Fn(&Offer) -> bool) -> Answer {
        let mut offers = self.offers(service, None);
        offers.retain(|offer| offer.view.status() == Status::Passing && is_meant(offer));
        if offers.is_empty() { self.nodata() } else { self.told(offers, service, Duration::ZERO) }
    }

    /// A name in a network of the overlay, which others know as another one: so no reply is given again.
    /// Whoever is registered with an address of another network is not meant: names with dots may be written alike.
    pub(super) fn member(&self, service: &ServiceKey, network: &str) -> Answer {
        let within = |ip: &IpAddr| self.state.networks().of(*ip) == Some(network);
        let answer = self.standing_for_those(service, |offer| offer.addresses().iter().all(within));
        Answer { basis: Basis::More, for_subnet: true, ..answer }
    }

    /// Instances of a service, of which there is one, as far as who asks gets them.
    fn told(&self, offers: Vec<Offer>, service: &ServiceKey, ttl: Duration) -> Answer {
        // A host name may lead to anything.
        let hosts = offers.iter().any(|offer| self.host(offer).is_some());
        if let Some(callers) = &self.zone.config().callers
            && offers.iter().any(|offer| version_of(offer.view.instance).is_some())
        {
            let answer = self.of_version(offers, callers, service);
            let basis = if hosts { Basis::More } else { Basis::Versions(service.clone(), release_key(service)) };
            return Answer { basis, for_subnet: true, ..answer };
        }
        let basis = if hosts { Basis::State } else { Basis::Service(service.clone()) };
        Answer { basis, ..self.offered(offers, Order::Chance, ttl) }
    }

    /// Of the version that is right for who asks; with TTL 0, or a cache between us would give it to others too.
    fn of_version(&self, mut offers: Vec<Offer>, callers: &Callers, service: &ServiceKey) -> Answer {
        let caller = self.caller.and_then(|caller| callers.version(self.state, caller));
        let version = choose(self.state, service, offers.iter().map(|offer| offer.view), caller);
        offers.retain(|offer| version.is_none() || version_of(offer.view.instance) == version);
        self.offered(offers, Order::Chance, Duration::ZERO)
    }

    /// The records of instances, of which there is one.
    pub(super) fn offered(&self, offers: Vec<Offer>, order: Order, ttl: Duration) -> Answer {
        let mut answer = Answer::ours(self.zone);
        match self.qtype {
            Rtype::SRV => self.service_srv(offers, order, ttl, &mut answer),
            _ => answer.answers = self.service_records(&offers, order, ttl),
        }
        self.or_nodata(answer)
    }

    /// The instances that are in order and have the tag; if nobody has one with dots, those that have all its parts.
    fn offers(&self, service: &ServiceKey, tag: Option<&str>) -> Vec<Offer<'a>> {
        let found = self.offers_with(service, tag.as_slice());
        match tag {
            Some(tag) if found.is_empty() && tag.contains('.') => {
                self.offers_with(service, &tag.split('.').collect::<Vec<_>>())
            }
            _ => found,
        }
    }

    fn offers_with(&self, service: &ServiceKey, tags: &[&str]) -> Vec<Offer<'a>> {
        let has = |view: &InstanceView, tag: &str| view.instance.tags.iter().any(|own| own.eq_ignore_ascii_case(tag));
        let tagged = |view: &InstanceView| tags.iter().all(|tag| has(view, tag));
        let offer = |view: InstanceView<'a>| {
            let (status, only_passing) = (view.status(), self.zone.config().only_passing);
            let offered = status == Status::Passing || status == Status::Warning && !only_passing;
            offered.then(|| Offer::of(view))
        };
        self.state.instances_of(service).filter(tagged).filter_map(offer).collect()
    }

    /// NXDOMAIN, unless tags with dots lead on from this name.
    fn nobody(&self, service: &ServiceKey, tag: Option<&str>) -> Answer {
        let leads_on = tag.is_some_and(|tag| {
            let below = format!(".{}", tag.to_lowercase());
            let offers = self.offers(service, None);
            let mut tags = offers.iter().flat_map(|offer| &offer.view.instance.tags);
            tags.any(|own| own.to_lowercase().ends_with(&below))
        });
        if leads_on { self.nodata() } else { self.negative(OptRcode::NXDOMAIN) }
    }

    /// One record for each address there is; an alias if there is none but host names.
    fn service_records(&self, offers: &[Offer], order: Order, ttl: Duration) -> Vec<Record> {
        let mut seen = HashSet::new();
        let addresses = offers.iter().flat_map(|o| self.reached_at(o)).filter(|ip| seen.insert(*ip));
        let mut addresses: Vec<IpAddr> = addresses.collect();
        if addresses.is_empty() {
            let host = offers.iter().find_map(|offer| self.host(offer));
            return host.map(|host| self.alias(host, ttl)).unwrap_or_default();
        }
        if self.qtype == Rtype::TXT {
            return self.service_meta(offers, ttl);
        }
        addresses.retain(|ip| self.wants(*ip));
        if order == Order::Chance {
            Shuffle::new(self.asked.seed).shuffle(&mut addresses);
        }
        addresses.truncate(most(self.zone.config().a_record_limit));
        addresses.into_iter().map(|ip| record(self.name, ttl, address(ip))).collect()
    }

    fn service_meta(&self, offers: &[Offer], ttl: Duration) -> Vec<Record> {
        let mut seen = HashSet::new();
        let metas = offers.iter().filter_map(|offer| offer.view.instance.meta.as_ref());
        let texts = metas.flat_map(|meta| meta_records(self.name, meta, ttl));
        texts.filter(|text| seen.insert(text.data().clone())).collect()
    }

    /// Its host name, if it has no address.
    fn host<'o>(&self, offer: &Offer<'o>) -> Option<&'o str> {
        let host = offer.view.address();
        (host.parse::<IpAddr>().is_err() && !self.names_itself(host)).then_some(host)
    }

    /// An instance whose address is the very name that is asked for is reached at its node.
    fn names_itself(&self, host: &str) -> bool {
        name(host).is_some_and(|name| name == *self.name)
    }

    fn reached_at(&self, offer: &Offer) -> Vec<IpAddr> {
        let found = offer.addresses();
        if found.is_empty() && self.names_itself(offer.view.address()) {
            return node_addresses(offer.view.node);
        }
        found
    }

    /// One SRV for each node, address and port, with the targets' addresses and the nodes' metadata.
    fn service_srv(&self, mut offers: Vec<Offer>, order: Order, ttl: Duration, answer: &mut Answer) {
        if order == Order::Chance {
            // Heavy ones first more often, so that what is cut off for want of space is a fair sample.
            Shuffle::new(self.asked.seed).by_weight(&mut offers, |offer| offer.weight);
        }
        let (mut seen, mut targets, mut nodes) = (HashSet::new(), HashSet::new(), HashSet::new());
        let mut metas = Vec::new();
        for offer in &offers {
            let (node, instance) = (offer.view.node, offer.view.instance);
            if !seen.insert((&instance.node, offer.view.address(), instance.port)) {
                continue;
            }
            let Some(target) = self.target(offer) else { continue };
            answer.answers.push(record(self.name, ttl, srv(offer.weight, instance.port, target.clone())));
            if targets.insert(target.clone()) {
                answer.additional.extend(self.target_records(offer, &target, ttl));
            }
            if self.zone.config().node_meta_txt && nodes.insert(&instance.node) {
                let name = self.node_name(node);
                metas.extend(name.zip(node.meta.as_ref()).map(|(name, meta)| meta_records(&name, meta, ttl)));
            }
        }
        answer.additional.extend(metas.into_iter().flatten());
    }

    /// The name under which an SRV record tells where an instance is.
    fn target(&self, offer: &Offer) -> Option<DnsName> {
        let (node, own) = (offer.view.node, &offer.view.instance.address);
        if let Ok(ip) = own.parse() {
            return self.address_name(ip);
        }
        match self.host(offer) {
            Some(host) => name(host),
            None => self.node_name(node),
        }
    }

    fn target_records(&self, offer: &Offer, target: &DnsName, ttl: Duration) -> Vec<Record> {
        if self.host(offer).is_some() {
            return self.follow(target, Rtype::ANY);
        }
        let addresses = match offer.view.instance.address.parse::<IpAddr>() {
            // The target is this address spelt out: it has no other.
            Ok(own) => vec![own],
            Err(_) => node_addresses(offer.view.node),
        };
        addresses.into_iter().map(|ip| record(target, ttl, address(ip))).collect()
    }
}
