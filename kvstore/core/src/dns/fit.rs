//! [`Answer`] + size -> message: what fits, and the TC bit if an answer does not.

use domain::base::{
    MessageBuilder, Question as WireQuestion,
    message_builder::{HashCompressor, OptBuilder},
    opt::ClientSubnet,
    wire::Composer,
};

use super::{
    answer::Answer,
    request::{Edns, Request},
};

/// The longest question packet we take; told to askers that speak EDNS. Fits into every path's packets.
const UDP_BYTES: u16 = 1232;

/// Why a reply cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FitError {
    /// Not even the question fits.
    #[error("the question is longer than the reply may be")]
    Question,
}

/// How much a reply may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// 512, the EDNS size, or 65 535 over TCP.
    pub bytes: usize,
    /// Records in the answer section.
    pub answers: usize,
    /// Whether to set TC if an answer does not fit.
    pub tell: bool,
}

/// Lays `answer` out as the reply to `request`, over `out`, so that the whole message fits the room.
///
/// Drops additionals first, then authority, then answers, each from the end; sets TC only if an answer went. The OPT
/// record of the reply always stays.
///
/// # Errors
/// [`FitError::Question`] if even the question does not fit; `out` is then empty. RFC 2181 §9, RFC 6891 §6.2.3.
pub fn fit(request: &Request, answer: &Answer, room: Room, out: &mut Vec<u8>) -> Result<Borders, FitError> {
    let (message, borders) = compose(request, answer, room, std::mem::take(out)).ok_or(FitError::Question)?;
    *out = message;
    Ok(borders)
}

/// Where the first answer begins in a message, and where it and each one after it ends.
pub type Borders = Vec<u16>;

fn compose(request: &Request, answer: &Answer, room: Room, out: Vec<u8>) -> Option<(Vec<u8>, Borders)> {
    let mut builder = MessageBuilder::from_target(HashCompressor::new(out)).ok()?;
    header(builder.header_mut(), request, answer);
    // The builder wants every record to end before its limit.
    builder.set_push_limit(room.bytes.checked_sub(opt_bytes(request.edns.as_ref()))? + 1);

    let mut questions = builder.question();
    if let Some(q) = &request.question {
        questions.push(WireQuestion::new(&q.name, q.qtype, q.class)).ok()?;
    }
    let mut answers = questions.answer();
    let mut borders = vec![u16::try_from(answers.as_slice().len()).ok()?];
    for record in answer.answers.iter().take(room.answers) {
        if answers.push(record).is_err() {
            break;
        }
        borders.push(u16::try_from(answers.as_slice().len()).ok()?);
    }
    let cut = borders.len() <= answer.answers.len();
    answers.header_mut().set_tc(cut && room.tell);
    let mut authority = answers.authority();
    let cut = cut || answer.authority.iter().any(|record| authority.push(record).is_err());
    let mut additional = authority.additional();
    if !cut {
        let _full = answer.additional.iter().any(|record| additional.push(record).is_err());
    }
    if let Some(edns) = &request.edns {
        additional.clear_push_limit();
        additional.opt(|opt| options(opt, edns, answer)).ok()?;
    }
    Some((additional.finish().into_target(), borders))
}

fn header(header: &mut domain::base::Header, request: &Request, answer: &Answer) {
    header.set_id(request.id);
    header.set_qr(true);
    header.set_opcode(request.opcode);
    header.set_aa(answer.authoritative);
    header.set_rd(request.recursion_desired);
    header.set_ra(answer.recursion_available);
    header.set_cd(request.checking_disabled);
    header.set_rcode(answer.rcode.rcode());
}

fn options<T: Composer>(opt: &mut OptBuilder<'_, T>, edns: &Edns, answer: &Answer) -> Result<(), T::AppendError> {
    opt.set_udp_payload_size(UDP_BYTES);
    opt.set_rcode(answer.rcode);
    opt.set_dnssec_ok(edns.dnssec_ok);
    match subnet(edns, answer.for_subnet) {
        Some(subnet) => opt.push(&subnet),
        None => Ok(()),
    }
}

/// The asker's subnet, with whom the answer may be shared: scope 0 is everybody. RFC 7871 §7.2.1.
fn subnet(edns: &Edns, only_there: bool) -> Option<ClientSubnet> {
    let subnet = edns.subnet?;
    let scope = if only_there { subnet.source_prefix_len() } else { 0 };
    Some(ClientSubnet::new(subnet.source_prefix_len(), scope, subnet.addr()))
}

/// What [`options`] will take: a fixed header of 11 bytes, and the subnet with 8 of its own.
fn opt_bytes(edns: Option<&Edns>) -> usize {
    let Some(edns) = edns else { return 0 };
    11 + subnet(edns, false).map_or(0, |subnet| 8 + usize::from(subnet.source_prefix_len()).div_ceil(8))
}
