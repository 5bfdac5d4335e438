//! Packet -> [`Request`]: what the asker wants, and what to say if that cannot be read.

use domain::base::{
    Message,
    iana::{Class, Opcode, OptRcode, OptionCode, Rtype},
    name::ToName,
    opt::{ClientSubnet, Opt, OptRecord, UnknownOptData},
};

use super::question::Question;

/// What stands before the question. RFC 1035 §4.1.1.
const HEADER_BYTES: usize = 12;

/// A question's packet, without its name.
#[derive(Clone, Debug)]
pub struct Request {
    /// Echoed.
    pub id: u16,
    /// Echoed.
    pub opcode: Opcode,
    /// The asker wants us to ask others, if need be. Echoed.
    pub recursion_desired: bool,
    /// Echoed.
    pub checking_disabled: bool,
    /// Echoed; none if it could not be read.
    pub question: Option<Question>,
    /// If the asker speaks EDNS, so must the reply.
    pub edns: Option<Edns>,
}

/// What an OPT record of a question says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// The longest reply the asker takes over UDP.
    pub udp_bytes: u16,
    /// Echoed; we sign nothing.
    pub dnssec_ok: bool,
    /// On whose behalf a resolver asks.
    pub subnet: Option<ClientSubnet>,
}

/// What a packet turned out to be.
#[derive(Debug)]
pub enum Incoming {
    /// A question in class IN.
    Ask(Request, Question),
    /// Something to be answered with a mere code.
    Refuse(Request, OptRcode),
    /// No question, or so short that not even its id is known.
    Ignore,
}

/// Whether there may be a reply to `packet`, be it that it cannot be read.
pub fn is_question(packet: &[u8]) -> bool {
    Message::from_octets(packet).is_ok_and(|message| !message.header().qr())
}

/// Reads a packet from the net; it may hold anything.
///
/// Replies are ignored, so that two servers never answer each other for ever. Bytes behind the last record are too.
pub fn read(packet: &[u8]) -> Incoming {
    let Ok(message) = Message::from_octets(packet) else {
        return Incoming::Ignore;
    };
    let header = message.header();
    if header.qr() {
        return Incoming::Ignore;
    }
    let mut request = Request {
        id: header.id(),
        opcode: header.opcode(),
        recursion_desired: header.rd(),
        checking_disabled: header.cd(),
        question: None,
        edns: None,
    };
    match fill(&mut request, &message) {
        Ok(question) => Incoming::Ask(request, question),
        Err(rcode) => Incoming::Refuse(request, rcode),
    }
}

/// Reads what follows the header, as far as it can be read.
fn fill(request: &mut Request, message: &Message<&[u8]>) -> Result<Question, OptRcode> {
    if request.opcode != Opcode::QUERY {
        return Err(OptRcode::NOTIMP);
    }
    // More than one question has no meaning. RFC 9619.
    if message.header_counts().qdcount() != 1 {
        return Err(OptRcode::FORMERR);
    }
    let asked = message.sole_question().map_err(|_| OptRcode::FORMERR)?;
    let question = Question { name: asked.qname().to_name(), qtype: asked.qtype(), class: asked.qclass() };
    // By a pointer at the header a name may be longer than it is written, and so the reply than the question.
    if !message.as_slice()[HEADER_BYTES..].starts_with(question.name.as_slice()) {
        return Err(OptRcode::FORMERR);
    }
    request.question = Some(question.clone());
    let version = edns(request, message)?;
    match question.class {
        _ if version != 0 => Err(OptRcode::BADVERS),
        Class::IN => Ok(question),
        _ => Err(OptRcode::REFUSED),
    }
}

/// Reads the OPT record, if there is one: in the additional section, at the root, and once (RFC 6891 §6.1.1). Gives
/// the version asked for; without EDNS, 0.
fn edns(request: &mut Request, message: &Message<&[u8]>) -> Result<u8, OptRcode> {
    let broken = |_| OptRcode::FORMERR;
    let mut version = 0;
    for record in message.additional().map_err(broken)? {
        let record = record.map_err(broken)?;
        if record.rtype() != Rtype::OPT {
            continue;
        }
        let record = record.to_record::<Opt<_>>().map_err(broken)?;
        let Some(record) = record.filter(|r| request.edns.is_none() && r.owner().is_root()) else {
            return Err(OptRcode::FORMERR);
        };
        let opt = OptRecord::from_record(record);
        version = opt.version();
        let subnet = subnet(opt.opt())?;
        request.edns = Some(Edns { udp_bytes: opt.udp_payload_size(), dnssec_ok: opt.dnssec_ok(), subnet });
    }
    Ok(version)
}

/// On whose behalf the asker asks; family 0 is nobody's. A question tells no scope. RFC 7871 §6.
fn subnet(options: &Opt<&[u8]>) -> Result<Option<ClientSubnet>, OptRcode> {
    let is_nobody =
        |option: UnknownOptData<&[u8]>| option.code() == OptionCode::CLIENT_SUBNET && option.as_slice() == [0; 4];
    match options.iter::<ClientSubnet>().next() {
        None => Ok(None),
        Some(Ok(subnet)) if subnet.scope_prefix_len() == 0 => Ok(Some(subnet)),
        Some(_) if options.iter().flatten().any(is_nobody) => Ok(None),
        Some(_) => Err(OptRcode::FORMERR),
    }
}
