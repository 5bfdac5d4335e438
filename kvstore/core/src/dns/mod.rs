//! What the registry answers to DNS questions; pure: bytes of a packet and a [`State`] in, bytes of a reply out.
//!
//! ```text
//! request: packet -> Request            question: name -> Lookup
//! answer: Lookup + State -> Answer      fit: Answer + size -> message and TC bit
//! ```
//!
//! [`respond`] strings them together. Sockets, time, the random seed and other domains' names are the shell's part.

pub mod answer;
mod config;
mod fit;
mod question;
mod rate;
mod records;
mod replies;
mod request;

use std::net::IpAddr;

pub use answer::Answer;
pub use config::{ConfigError, DnsConfig, ServiceTtls, Soa, Zone};
pub use fit::{Borders, FitError, Room, fit};
pub use question::{Lookup, Question};
pub use rate::{Allowed, RateLimit};
pub use records::{Data, DnsName, Record};
use replies::Made;
pub use replies::{Basis, Replies};
pub use request::{Edns, Incoming, Request, is_question, read};

use domain::base::{
    iana::{OptRcode, Rtype},
    opt::ClientSubnet,
};

use crate::{State, near::Distances, version::Caller};

/// What carried the question, and so how long the reply may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// 512 bytes, or what the asker offers by EDNS, up to [`DnsConfig::max_udp_bytes`].
    Udp,
    /// 65 535 bytes.
    Tcp,
}

/// What the shell knows about a question besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub from: IpAddr,
    /// By which transport.
    pub by: Transport,
    /// Shuffles the answer; a fresh one for each question.
    pub seed: u64,
    /// Seconds since 1970: the serial number of the zone.
    pub unix_seconds: u32,
    /// How far hosts are from each other, for prepared queries that sort by it.
    pub distances: &'a dyn Distances,
}

/// What is to be done with a packet.
#[derive(Debug)]
pub enum Reaction {
    /// Nothing: it is no question, or so broken that nobody could be told.
    Ignore,
    /// Send what was written.
    Reply,
    /// The name, or what it is an alias of, is in other hands: ask the upstream resolvers, then [`Forward::finish`].
    Forward(Box<Forward>),
}

/// A question that others must answer before we can.
#[derive(Debug)]
pub struct Forward {
    request: Request,
    /// What to ask.
    pub question: Question,
    /// What we could say ourselves: aliases that lead out of our zone.
    known: Option<Answer>,
}

/// Answers `packet` from `state`; a reply is written over `out`.
pub fn respond(packet: &[u8], asked: &Asked<'_>, state: &State, zone: &Zone, out: &mut Vec<u8>) -> Reaction {
    make(packet, asked, state, zone, out).0
}

impl Replies {
    /// The same over UDP, where a reply that is at hand will do. Between two zones stands [`Replies::keep_to`].
    pub fn respond(
        &mut self,
        packet: &[u8],
        asked: &Asked<'_>,
        state: &State,
        zone: &Zone,
        out: &mut Vec<u8>,
    ) -> Reaction {
        debug_assert_eq!(asked.by, Transport::Udp, "replies over TCP are longer");
        let version = || zone.config().callers.as_ref()?.version(state, asked.from);
        if self.find(packet, version, (state, asked.unix_seconds), out) {
            return Reaction::Reply;
        }
        let (reaction, made) = make(packet, asked, state, zone, out);
        if let (Reaction::Reply, Some(made)) = (&reaction, made) {
            self.keep(packet, out, made, version(), (state.index(), asked.unix_seconds));
        }
        reaction
    }
}

/// Tells who asked `packet` over UDP to come over TCP, which only those can who are where they say; written over `out`.
pub fn cut(packet: &[u8], zone: &Zone, out: &mut Vec<u8>) -> Reaction {
    const TC: u8 = 2;
    let (request, rcode, flags) = match read(packet) {
        Incoming::Ask(request, _) => (request, OptRcode::NOERROR, TC),
        Incoming::Refuse(request, rcode) => (request, rcode, 0),
        Incoming::Ignore => return Reaction::Ignore,
    };
    let answer = Answer { recursion_available: zone.has_recursion(), ..Answer::error(rcode) };
    let (reaction, _) = finish(&request, &answer, Transport::Udp, zone, out);
    if let Some(byte) = out.get_mut(2) {
        *byte |= flags;
    }
    reaction
}

/// With what the reply was made of.
fn make(packet: &[u8], asked: &Asked<'_>, state: &State, zone: &Zone, out: &mut Vec<u8>) -> (Reaction, Option<Made>) {
    let (request, question) = match read(packet) {
        Incoming::Ask(request, question) => (request, question),
        Incoming::Refuse(request, rcode) => {
            return (finish(&request, &Answer::error(rcode), asked.by, zone, out).0, None);
        }
        Incoming::Ignore => return (Reaction::Ignore, None),
    };
    let lookup = match Lookup::of(&question, zone) {
        Lookup::Foreign => question::in_network(&question, asked.from, state).unwrap_or(Lookup::Foreign),
        ours => ours,
    };
    let subnet = request.edns.and_then(|edns| edns.subnet);
    // Any resolver that says for whom it asks is believed as far as the order of an answer goes.
    let on_behalf = Asked { from: subnet.map_or(asked.from, |subnet| subnet.addr()), ..*asked };
    let caller = caller(asked.from, subnet, zone);
    let known = answer::answer(&lookup, &question, state, zone, &on_behalf, caller);
    if zone.has_recursion() && request.recursion_desired && may_recurse(asked.from) {
        let abroad = match &known {
            None if is_transfer(question.qtype) => None,
            None => Some(question.clone()),
            Some(answer) => answer::leads_abroad(answer, &question, zone),
        };
        if let Some(question) = abroad.filter(|question| zone.recurses(&question.name)) {
            return (Reaction::Forward(Box::new(Forward { request, question, known })), None);
        }
    }
    let answer = known.unwrap_or_else(|| answer::not_ours(&lookup, &question, zone));
    let (reaction, borders) = finish(&request, &answer, asked.by, zone, out);
    let any_order = if answer.any_order() { borders } else { Borders::new() };
    (reaction, Some(Made { basis: answer.basis, any_order }))
}

/// The one host that asks; none if that is not known.
fn caller(from: IpAddr, subnet: Option<ClientSubnet>, zone: &Zone) -> Option<Caller> {
    let trusted = || zone.config().trusted_resolvers.iter().any(|net| net.contains(&from.to_canonical()));
    match subnet {
        Some(subnet) if trusted() => {
            let whole = if subnet.addr().is_ipv4() { 32 } else { 128 };
            (subnet.source_prefix_len() == whole).then(|| Caller { address: subnet.addr(), through: Some(from) })
        }
        _ => Some(from.into()),
    }
}

impl Forward {
    /// Writes the reply over `out`, made of what the upstream resolvers said.
    pub fn finish(self, found: Answer, by: Transport, zone: &Zone, out: &mut Vec<u8>) -> Reaction {
        let answer = match self.known {
            Some(known) => known.followed_by(found),
            None => Answer { recursion_available: true, ..found },
        };
        finish(&self.request, &answer, by, zone, out).0
    }
}

fn finish(request: &Request, answer: &Answer, by: Transport, zone: &Zone, out: &mut Vec<u8>) -> (Reaction, Borders) {
    let config = zone.config();
    let (bytes, limit) = match (by, &request.edns) {
        (Transport::Tcp, _) => (usize::from(u16::MAX), 0),
        (Transport::Udp, None) => (MIN_UDP_BYTES, config.udp_answer_limit),
        // Who wants all there is over UDP mostly wants it sent to somebody else. RFC 8482 §4.
        (Transport::Udp, Some(_)) if request.question.as_ref().is_some_and(|q| q.qtype == Rtype::ANY) => {
            (MIN_UDP_BYTES, 0)
        }
        (Transport::Udp, Some(edns)) => {
            let most = usize::from(config.max_udp_bytes).max(MIN_UDP_BYTES);
            (usize::from(edns.udp_bytes).clamp(MIN_UDP_BYTES, most), 0)
        }
    };
    let room = Room { bytes, answers: most(limit), tell: config.truncate };
    match fit(request, answer, room, out) {
        Ok(borders) => (Reaction::Reply, borders),
        Err(FitError::Question) => (Reaction::Ignore, Borders::new()),
    }
}

/// A limit of which 0 means that there is none.
fn most(limit: usize) -> usize {
    if limit == 0 { usize::MAX } else { limit }
}

/// What every asker takes over UDP. RFC 1035 §4.2.1.
const MIN_UDP_BYTES: usize = 512;

/// Whether `from` may have us ask others: hosts of private networks only, or anybody could hide behind us.
fn may_recurse(from: IpAddr) -> bool {
    is_private(from.to_canonical())
}

/// Addresses that have a meaning only inside somebody's network, and so no name in the public tree. RFC 6303.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = u32::from(ip) >> 22 == u32::from_be_bytes([100, 64, 0, 0]) >> 22; // RFC 6598
            ip.is_private() || ip.is_loopback() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Whether a packet from this port may be answered. Nobody has port 0, and what was once common below port 40 (echo,
/// daytime, a quote, characters, time) answers whatever it gets, so that two would go on for ever.
pub fn may_answer(port: u16) -> bool {
    !matches!(port, 0 | 7 | 13 | 17 | 19 | 37)
}

/// A transfer of the whole zone, which we do not offer.
fn is_transfer(qtype: Rtype) -> bool {
    matches!(qtype, Rtype::AXFR | Rtype::IXFR)
}

#[cfg(test)]
mod tests;
