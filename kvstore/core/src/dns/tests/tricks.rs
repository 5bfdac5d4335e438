//! Packets that nobody would send who means well, each with what comes back. Also sent through real sockets by
//! `kvstore/tests/it/dns/hostile.rs`, so nothing here but the standard library.

/// What it is; the packet; `dropped`, or the code of the reply.
pub(crate) type Trick = (&'static str, Vec<u8>, &'static str);

const ID: [u8; 2] = [0x12, 0x34];

/// `IN A`, `IN AXFR`...
const A: [u8; 4] = [0, 1, 0, 1];
const ANY: [u8; 4] = [0, 255, 0, 1];

/// A root name, OPT, 4096 bytes, version 0, without options.
const OPT: &[u8] = &[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0];

/// The zone's own name, which every agent answers for.
const APEX: &[u8] = b"\x06consul\0";

/// A packet with those two bytes of flags, counts of questions, answers, authority, additional, and what follows.
fn packet(flags: [u8; 2], counts: [u16; 4], rest: &[&[u8]]) -> Vec<u8> {
    let counts = counts.iter().flat_map(|count| count.to_be_bytes());
    ID.into_iter().chain(flags).chain(counts).chain(rest.concat()).collect()
}

/// One question about the apex, with those flags.
fn apex(flags: [u8; 2], qtype_and_class: [u8; 4]) -> Vec<u8> {
    packet(flags, [1, 0, 0, 0], &[APEX, &qtype_and_class])
}

/// A question with those bytes for its name.
fn name(bytes: &[u8]) -> Vec<u8> {
    packet([1, 0], [1, 0, 0, 0], &[bytes, &A])
}

/// A question about the apex with `count` additional records.
fn with(count: u16, additional: &[&[u8]]) -> Vec<u8> {
    packet([1, 0], [1, 0, 0, count], &[&[APEX, &A], additional].concat())
}

/// The same with an OPT record of those options.
fn option(options: &[u8]) -> Vec<u8> {
    let bytes = u16::try_from(options.len()).expect("few options").to_be_bytes();
    with(1, &[&OPT[..9], &bytes, options])
}

/// The same with EDNS Client Subnet: family, lengths of source and scope, address.
fn subnet(data: &[u8]) -> Vec<u8> {
    option(&[&[0, 8, 0, u8::try_from(data.len()).expect("it is short")], data].concat())
}

/// `count` labels of one byte each.
fn labels(count: usize) -> Vec<u8> {
    [b"\x01x".repeat(count), vec![0]].concat()
}

pub(crate) fn tricks() -> Vec<Trick> {
    let mut all = headers();
    all.extend([names(), opcodes_classes_and_types(), records(), edns(), subnets()].into_iter().flatten());
    all
}

fn headers() -> Vec<Trick> {
    let good = apex([1, 0], A);
    vec![
        ("nothing", vec![], "dropped"),
        ("one byte", vec![0x12], "dropped"),
        ("half a header", good[..11].to_vec(), "dropped"),
        ("a header alone", good[..12].to_vec(), "FORMERR"),
        ("a reply", apex([0x80, 0], A), "dropped"),
        ("a reply that refuses", apex([0x81, 0x85], A), "dropped"),
        ("a reply that is broken", packet([0x84, 0], [9, 9, 9, 9], &[&[0xc0; 40]]), "dropped"),
        ("no question", packet([1, 0], [0, 0, 0, 0], &[]), "FORMERR"),
        ("no question, but EDNS", packet([1, 0], [0, 0, 0, 1], &[OPT]), "FORMERR"),
        ("two questions", packet([1, 0], [2, 0, 0, 0], &[APEX, &A, APEX, &A]), "FORMERR"),
        ("two questions, one by pointer", packet([1, 0], [2, 0, 0, 0], &[APEX, &A, &[0xc0, 12], &A]), "FORMERR"),
        ("65535 questions", packet([1, 0], [65535, 0, 0, 0], &[APEX, &A]), "FORMERR"),
        ("a question with something behind it", [&good[..], &[0xff; 300]].concat(), "NOERROR"),
        ("a question that says it was cut", apex([3, 0], A), "NOERROR"),
        ("a question with all flags of a reply", apex([0x07, 0xf0], A), "NOERROR"),
        ("a question with the code of an error", apex([1, 0x0f], A), "NOERROR"),
    ]
}

fn names() -> Vec<Trick> {
    let longest = [&[63; 64][..], &[63; 64], &[63; 64], &[61; 62], &[0]].concat();
    let too_long = [&[63; 64][..], &[63; 64], &[63; 64], &[62; 63], &[0]].concat();
    vec![
        ("a name that points at itself", name(&[0xc0, 12]), "FORMERR"),
        ("a name that points ahead", name(&[0xc0, 20]), "FORMERR"),
        ("a name that points beyond the packet", name(&[0xff, 0xff]), "FORMERR"),
        ("a name that points at its own middle", name(b"\x01a\xc0\x0c"), "FORMERR"),
        ("half a pointer", packet([1, 0], [1, 0, 0, 0], &[&[0xc0]]), "FORMERR"),
        ("a pointer at a pointer at it", packet([1, 0], [1, 0, 0, 0], &[&[0xc0, 14, 0xc0, 12], &A]), "FORMERR"),
        ("a pointer at the header", name(&[0xc0, 4]), "FORMERR"),
        ("an extended label", name(&[0x41, 0]), "FORMERR"),
        ("a label of a type that nobody defined", name(&[0x81, 0]), "FORMERR"),
        ("a label of 63 bytes", name(&[&[63][..], &[b'a'; 63], APEX].concat()), "NXDOMAIN"),
        ("a label of 64 bytes", name(&[&[64][..], &[b'a'; 64], APEX].concat()), "FORMERR"),
        ("a name of 255 bytes", name(&longest), "REFUSED"),
        ("a name of 256 bytes", name(&too_long), "FORMERR"),
        ("a name of 127 labels", name(&labels(127)), "REFUSED"),
        ("a name of 128 labels", name(&labels(128)), "FORMERR"),
        ("a name without an end", packet([1, 0], [1, 0, 0, 0], &[b"\x06consul"]), "FORMERR"),
        ("a label longer than the packet", packet([1, 0], [1, 0, 0, 0], &[b"\x3fconsul"]), "FORMERR"),
        ("a question without a class", packet([1, 0], [1, 0, 0, 0], &[APEX, &[0, 1]]), "FORMERR"),
        ("the root", name(&[0]), "REFUSED"),
        ("a name with a zero byte", name(b"\x01\0\x07service\x06consul\0"), "NXDOMAIN"),
        ("a label with a dot inside", name(b"\x0bweb.service\x06consul\0"), "NXDOMAIN"),
        ("a name that is no text", name(b"\x02\xff\xfe\x07service\x06consul\0"), "NXDOMAIN"),
    ]
}

fn opcodes_classes_and_types() -> Vec<Trick> {
    let of = |opcode: u8| apex([opcode << 3 | 1, 0], A);
    let typed = |qtype: [u8; 2]| apex([1, 0], [qtype[0], qtype[1], 0, 1]);
    let classed = |class: u8| apex([1, 0], [0, 1, 0, class]);
    let soa = [&[0xc0, 12, 0, 6, 0, 1, 0, 0, 0, 0, 0, 22, 0, 0][..], &[0; 20]].concat();
    let mut all: Vec<Trick> = (1..16).map(|opcode| ("another opcode", of(opcode), "NOTIMP")).collect();
    all.extend([
        ("an update", packet([0x28, 0], [1, 1, 1, 1], &[APEX, &[0, 6, 0, 1], &[0xff; 60]]), "NOTIMP"),
        ("an opcode nobody has and nothing else", packet([0x78, 0], [0; 4], &[]), "NOTIMP"),
        ("class 0", classed(0), "REFUSED"),
        ("class CH", classed(3), "REFUSED"),
        ("class HS", classed(4), "REFUSED"),
        ("class NONE", classed(254), "REFUSED"),
        ("class ANY", classed(255), "REFUSED"),
        ("our version", packet([1, 0], [1, 0, 0, 0], &[b"\x07version\x04bind\0", &[0, 16, 0, 3]]), "REFUSED"),
        ("a transfer", typed([0, 252]), "NOTIMP"),
        ("a transfer of what is new", packet([1, 0], [1, 0, 1, 0], &[APEX, &[0, 251, 0, 1], &soa]), "NOTIMP"),
        ("a transfer of another zone", packet([1, 0], [1, 0, 0, 0], &[b"\x07example\0", &[0, 252, 0, 1]]), "REFUSED"),
        ("type 0", typed([0, 0]), "NOERROR"),
        ("type OPT", typed([0, 41]), "NOERROR"),
        ("type TSIG", typed([0, 250]), "NOERROR"),
        ("type MAILB", typed([0, 253]), "NOERROR"),
        ("type ANY", apex([1, 0], ANY), "NOERROR"),
        ("a type nobody has", typed([0xff, 0]), "NOERROR"),
    ]);
    all
}

fn records() -> Vec<Trick> {
    let record = |bytes: u8, data: &[u8]| [&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, bytes][..], data].concat();
    let of = |counts, rest: &[&[u8]]| packet([1, 0], counts, &[&[APEX, &A], rest].concat());
    vec![
        ("an answer in the question", of([1, 1, 0, 0], &[&record(4, &[10, 0, 0, 1])]), "NOERROR"),
        ("a record too few", of([1, 0, 0, 1], &[]), "FORMERR"),
        ("an answer too few", of([1, 1, 0, 0], &[]), "FORMERR"),
        ("65535 records announced", of([1, 65535, 65535, 65535], &[]), "FORMERR"),
        ("a record longer than the packet", of([1, 0, 0, 1], &[&record(200, &[1, 2, 3])]), "FORMERR"),
        ("a record without its length", of([1, 0, 0, 1], &[&record(0, &[])[..11]]), "FORMERR"),
        ("a record whose name points ahead", of([1, 0, 0, 1], &[&[0xc0, 60], &A, &[0; 6]]), "FORMERR"),
        ("a signature", of([1, 0, 0, 1], &[&[0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]]), "NOERROR"),
    ]
}

fn edns() -> Vec<Trick> {
    let opt = |at: usize, byte: u8| {
        let mut opt = OPT.to_vec();
        opt[at] = byte;
        with(1, &[&opt])
    };
    vec![
        ("EDNS", with(1, &[OPT]), "NOERROR"),
        ("EDNS for replies of no bytes", opt(3, 0), "NOERROR"),
        ("EDNS version 1", opt(6, 1), "BADVERS"),
        ("EDNS version 255", opt(6, 255), "BADVERS"),
        ("EDNS with the code of an error", opt(5, 255), "NOERROR"),
        ("EDNS with flags nobody has", opt(8, 255), "NOERROR"),
        (
            "EDNS version 1 and class CH",
            packet([1, 0], [1, 0, 0, 1], &[APEX, &[0, 1, 0, 3], &OPT[..6], &[1], &OPT[7..]]),
            "BADVERS",
        ),
        ("two OPT records", with(2, &[OPT, OPT]), "FORMERR"),
        ("an OPT record with a name", with(1, &[b"\x01x", OPT]), "FORMERR"),
        ("an OPT record by pointer", with(1, &[&[0xc0, 12], &OPT[1..]]), "FORMERR"),
        ("an OPT record that is cut", with(1, &[&OPT[..10]]), "FORMERR"),
        ("an OPT record longer than the packet", with(1, &[&OPT[..10], &[9]]), "FORMERR"),
        ("an option without its length", option(&[0, 10, 0]), "FORMERR"),
        ("an option longer than the record", option(&[0, 10, 0, 9, 1, 2, 3]), "FORMERR"),
        ("an option behind the last", option(&[0, 10, 0, 1, 7, 0]), "FORMERR"),
        ("an option nobody has", option(&[0xfd, 0xe9, 0, 2, 1, 2]), "NOERROR"),
        ("a cookie", option(&[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]), "NOERROR"),
        ("a wish for our name", option(&[0, 3, 0, 0]), "NOERROR"),
    ]
}

fn subnets() -> Vec<Trick> {
    vec![
        ("a subnet", subnet(&[0, 1, 24, 0, 10, 0, 0]), "NOERROR"),
        ("a subnet of all", subnet(&[0, 1, 0, 0]), "NOERROR"),
        ("a subnet of no family, and so none", subnet(&[0, 0, 0, 0]), "NOERROR"),
        ("a subnet of no family with a length", subnet(&[0, 0, 8, 0, 10]), "FORMERR"),
        ("a subnet of a family nobody has", subnet(&[0, 3, 24, 0, 10, 0, 0]), "FORMERR"),
        ("an empty subnet", subnet(&[]), "FORMERR"),
        ("a subnet that is cut", subnet(&[0, 1, 24, 0, 10, 0]), "FORMERR"),
        ("a subnet with a byte too many", subnet(&[0, 1, 24, 0, 10, 0, 0, 0]), "FORMERR"),
        ("a subnet with bits beyond its length", subnet(&[0, 1, 20, 0, 10, 0, 0xff]), "FORMERR"),
        ("a subnet longer than an address", subnet(&[0, 1, 33, 0, 10, 0, 0, 0, 0]), "FORMERR"),
        (
            "a subnet longer than any address",
            subnet(&[0, 2, 129, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            "FORMERR",
        ),
        ("a subnet that tells the scope", subnet(&[0, 1, 24, 24, 10, 0, 0]), "FORMERR"),
    ]
}
