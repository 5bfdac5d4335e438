//! What an upstream resolver said, as the core has it.

use bytes::Bytes;
use domain::base::{
    Name, Ttl, UnknownRecordData,
    iana::{Class, OptRcode, Rtype},
};
use kvstore_core::dns::{Answer, Data, Record};
use trust_dns_resolver::{
    lookup::Lookup,
    net::NoRecords,
    proto::{
        op::ResponseCode,
        rr::{Name as UpstreamName, RData, Record as UpstreamRecord, RecordType},
        serialize::binary::{BinEncodable, BinEncoder, NameEncoding},
    },
};

/// The records that answer the question for `name`: its own, and those of the names it is an alias of. What else may
/// stand beside them is nobody's business.
pub(super) fn positive(found: &Lookup, name: &UpstreamName) -> Answer {
    let names = aliases(found.answers(), name);
    let belongs = |record: &&UpstreamRecord| match record.record_type() {
        // It stands above the names that it moves. RFC 6672.
        RecordType::DNAME => names.iter().any(|name| record.name.zone_of(name)),
        _ => names.contains(&&record.name),
    };
    let answers = found.answers().iter().filter(belongs).filter_map(record).collect();
    Answer { answers, ..Answer::error(OptRcode::NOERROR) }
}

/// `name`, what it is an alias of, what that is an alias of, and so on.
fn aliases<'a>(records: &'a [UpstreamRecord], name: &'a UpstreamName) -> Vec<&'a UpstreamName> {
    let target = |name: &UpstreamName| {
        records.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == *name => Some(&target.0),
            _ => None,
        })
    };
    let mut names = vec![name];
    while let Some(next) = names.last().and_then(|name| target(name)).filter(|next| !names.contains(next)) {
        names.push(next);
    }
    names
}

/// The alias that `name` is, and its target.
pub(super) fn alias(found: &Lookup, name: &UpstreamName) -> Option<(Record, UpstreamName)> {
    found.answers().iter().find_map(|found| match &found.data {
        RData::CNAME(target) if found.name == *name => Some((record(found)?, target.0.clone())),
        _ => None,
    })
}

/// `found` behind the aliases that led to it. A failure behind an alias is not the alias's: that is told.
pub(super) fn behind(aliases: Vec<Record>, found: Answer) -> Answer {
    if aliases.is_empty() {
        return found;
    }
    let failed = matches!(found.rcode, OptRcode::SERVFAIL | OptRcode::REFUSED);
    let rcode = if failed { OptRcode::NOERROR } else { found.rcode };
    let answers = aliases.into_iter().chain(found.answers).collect();
    Answer { answers, rcode, ..found }
}

/// The name does not exist, or has nothing of that type; for how long that may be believed. RFC 2308 §5.
pub(super) fn negative(nothing: NoRecords) -> Answer {
    let rcode = OptRcode::masked_from_int(nothing.response_code.into());
    let ttl = nothing.negative_ttl;
    let soa = nothing.soa.and_then(|soa| {
        let mut soa = soa.into_record_of_rdata();
        soa.ttl = ttl.unwrap_or(soa.ttl);
        record(&soa)
    });
    Answer { authority: soa.into_iter().collect(), ..Answer::error(rcode) }
}

/// Whether that is an answer, though without records; all else is a failure of the one who was asked. So is to send us
/// on to others: who does that does not resolve for us.
pub(super) fn is_no(nothing: &NoRecords) -> bool {
    match nothing.response_code {
        ResponseCode::NXDomain => true,
        ResponseCode::NoError => nothing.soa.is_some() || nothing.ns.is_none(),
        _ => false,
    }
}

/// A record as the core has it; none if it cannot be one, which no upstream resolver sends.
fn record(found: &UpstreamRecord) -> Option<Record> {
    let owner = Name::from_octets(Bytes::from(wire(&found.name)?)).ok()?;
    let rtype = Rtype::from_int(found.record_type().into());
    let data = UnknownRecordData::from_octets(rtype, Bytes::from(wire(&found.data)?)).ok()?;
    Some(Record::new(owner, Class::IN, Ttl::from_secs(found.ttl), Data::Unknown(data)))
}

/// On its own, and so without pointers to names elsewhere.
fn wire(part: &impl BinEncodable) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    part.emit(&mut encoder).ok()?;
    Some(bytes)
}
