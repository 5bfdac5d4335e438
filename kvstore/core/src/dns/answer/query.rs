//! Prepared queries: the instances that a kept question finds, as records.

use std::time::Duration;

use domain::base::iana::OptRcode;

use super::{
    Answer, Asking, Basis,
    service::{Offer, Order},
};
use crate::{
    names::NodeKey,
    prepared_query::{Ask, ServiceQuery, Unresolved, execute},
};

impl Asking<'_> {
    pub(super) fn query(&self, name: &str) -> Answer {
        // By the asker's place, and by distances.
        Answer { for_subnet: true, basis: Basis::More, ..self.found_by_query(name) }
    }

    fn found_by_query(&self, name: &str) -> Answer {
        let query = match self.state.resolve_query(name) {
            Ok(Some(found)) => found.value,
            Ok(None) | Err(Unresolved::Empty) => return self.no_query(name),
            // There is one, and nobody can say what it means for this name.
            Err(_) => return Answer { rcode: OptRcode::SERVFAIL, ..Answer::ours(self.zone) },
        };
        let service = &query.service;
        let offers = self.offers_of_query(service);
        if offers.is_empty() {
            return self.negative(OptRcode::NXDOMAIN);
        }
        let by_service = || self.zone.config().service_ttl.of(&service.service.to_lowercase());
        let own = query.dns_ttl.as_ref().map(|ttl| Duration::from_secs(ttl.seconds.into()));
        let order = if service.near.is_empty() { Order::Chance } else { Order::Given };
        self.offered(offers, order, own.unwrap_or_else(by_service))
    }

    fn offers_of_query(&self, service: &ServiceQuery) -> Vec<Offer<'_>> {
        let Ok(agent) = NodeKey::new(&self.zone.config().node) else { return Vec::new() };
        let ask = Ask {
            near: "",
            agent: &agent,
            from: Some(self.asked.from.to_canonical()),
            distances: self.asked.distances,
            limit: 0,
            connect: false,
            seed: self.asked.seed,
        };
        execute(self.state, service, &ask).into_iter().map(Offer::of).collect()
    }

    /// NXDOMAIN, unless queries with dots in their names are found below this one.
    fn no_query(&self, name: &str) -> Answer {
        if self.state.queries.leads_on(name) { self.nodata() } else { self.negative(OptRcode::NXDOMAIN) }
    }
}
