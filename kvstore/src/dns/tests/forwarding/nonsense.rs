//! Upstream resolvers that answer wrongly, hugely, or not at all.

use super::*;

/// Sends each of the packets that `reply` makes of a question, over UDP only.
fn raw(reply: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 4096];
        while let Ok((bytes, from)) = socket.recv_from(&mut packet).await {
            for reply in reply(&packet[..bytes]) {
                socket.send_to(&reply, from).await.unwrap();
            }
        }
    });
    address
}

/// The reply to a question, changed by `change`, with the address 198.51.100.`last`.
fn reply(packet: &[u8], last: u8, change: impl Fn(&mut Message)) -> Vec<u8> {
    let mut message = Message::from_vec(packet).unwrap();
    message.metadata.message_type = MessageType::Response;
    add(&mut message, 60, RData::A(A(Ipv4Addr::new(198, 51, 100, last))));
    change(&mut message);
    message.to_vec().unwrap()
}

fn to_another_question(message: &mut Message) {
    message.queries[0].name = Name::from_ascii("other.example.").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_to_what_was_not_asked_are_ignored() {
    let recursor = raw(|packet| {
        vec![
            reply(packet, 1, |message| message.metadata.id ^= 1),
            reply(packet, 2, to_another_question),
            vec![packet[0] ^ 1, packet[1], 0x80, 0xff, 0xff],
            vec![packet[0]],
            Vec::new(),
            reply(packet, 9, |_| {}),
        ]
    });
    let server = serve(&[recursor]);
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.9"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replies_of_somebody_else_are_ignored() {
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 4096];
        let (bytes, from) = socket.recv_from(&mut packet).unwrap();
        stranger.send_to(&reply(&packet[..bytes], 1, |_| {}), from).unwrap();
        socket.send_to(&reply(&packet[..bytes], 9, |_| {}), from).unwrap();
    });
    let server = serve(&[address]);
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.9"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_talks_nonsense_is_passed_over() {
    let knowing = upstream(knows("www.example.", [198, 51, 100, 7]));
    let confused = raw(|packet| vec![reply(packet, 1, to_another_question)]);
    let broken = raw(|packet| vec![packet[..2].to_vec(), [&packet[..2], &[0x80, 0, 0, 9, 0, 9, 0, 0, 0, 0]].concat()]);
    let strange =
        raw(|packet| vec![reply(packet, 1, |message| message.metadata.response_code = ResponseCode::NotAuth)]);
    let elsewhere = upstream(|message, _| {
        let ns = RData::NS(NS(Name::from_ascii("ns.example.").unwrap()));
        message.add_authority(Record::from_rdata(Name::from_ascii("example.").unwrap(), 60, ns));
    });
    let asking = raw(|packet| vec![packet.to_vec()]);
    for odd in [confused, broken, asking, strange, elsewhere.address] {
        let server = serve_hastily(&[odd, knowing.address]);
        assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.7"]);
        server.stop().await;
    }
    let server = serve_hastily(&[confused, broken]);
    assert_eq!(code(&ask(&server, "www.example.").await), ResponseCode::ServFail);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_names_that_were_not_asked_for_are_left_out() {
    let upstream = upstream(|message, _| {
        let record = |name: &str, data| Record::from_rdata(Name::from_ascii(name).unwrap(), 60, data);
        let a = |last| RData::A(A(Ipv4Addr::new(198, 51, 100, last)));
        let cname = |to: &str| RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
        // In no order: the chain is www, real, last.
        message.add_answer(record("last.example.", a(9)));
        message.add_answer(record("bank.example.", a(1)));
        message.add_answer(record("real.example.", cname("last.example.")));
        message.add_answer(record("www.example.", cname("real.example.")));
        message.add_answer(record("web.service.consul.", a(2)));
        message.add_additional(record("www.example.", a(3)));
    });
    let server = serve(&[upstream.address]);
    let reply = ask(&server, "www.example.").await;
    assert_eq!(shown(&reply), ["198.51.100.9", "last.example.", "real.example."]);
    assert_eq!((reply.authorities.len(), reply.additionals.len()), (0, 0));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_that_go_round_come_to_an_end() {
    let round = upstream(|message, _| {
        let other = if message.queries[0].name.to_ascii().starts_with('a') { "b.example." } else { "a.example." };
        add(message, 60, RData::CNAME(CNAME(Name::from_ascii(other).unwrap())));
    });
    let endless = upstream(|message, _| {
        let label: u32 = message.queries[0].name.to_ascii().split('.').next().unwrap().parse().unwrap_or(0);
        let next = Name::from_ascii(format!("{}.example.", label + 1)).unwrap();
        add(message, 60, RData::CNAME(CNAME(next)));
    });
    for upstream in [round, endless] {
        let server = serve(&[upstream.address]);
        let reply = ask(&server, "a.example.").await;
        assert_eq!(reply.answers.iter().filter(|record| record.record_type() == RecordType::A).count(), 0);
        let asked = upstream.asked.load(SeqCst);
        assert!(asked < 40, "{asked} questions");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_answers_come_over_tcp() {
    // 2300 addresses take some 63 000 bytes, since this encoder shortens only the first names.
    let upstream = upstream(|message, tcp| {
        message.metadata.truncation = !tcp;
        for i in 0..if tcp { 2300_u16 } else { 0 } {
            let [high, low] = i.to_be_bytes();
            add(message, 300, RData::A(A(Ipv4Addr::new(10, 9, high, low))));
        }
    });
    let server = serve(&[upstream.address]);
    assert_eq!(over_tcp(server.address, packet(1, "many.example.")).await.answers.len(), 2300);
    assert!(ask(&server, "many.example.").await.metadata.truncation);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cuts_and_takes_no_connection_is_passed_over() {
    let cutting = raw(|packet| vec![reply(packet, 1, |message| message.metadata.truncation = true)]);
    let knowing = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve(&[cutting, knowing.address]);
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.7"]);
    server.stop().await;
}

/// However many there are that do not answer, each has its turn, and the asker hears in time.
#[tokio::test(flavor = "multi_thread")]
async fn many_silent_recursors_keep_nobody_waiting_for_long() {
    let deaf: Vec<_> = (0..20).map(|_| silent()).collect();
    let recursors: Vec<Recursor> = deaf.iter().map(|(_, at)| Recursor::At(*at)).collect();
    let settings = DnsSettings { recursor_timeout: Duration::from_secs(2), ..DnsSettings::default() };
    let forwarder = Forwarder::new(&recursors, &[], &settings, None).unwrap();
    let server = start_with("127.0.0.1:0", state(&addresses(1)), forwarder);
    let since = Instant::now();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    send(&mut stream, &packet(1, "www.example.")).await;
    let length = timeout(Duration::from_secs(20), stream.read_u16()).await.expect("a reply in time").unwrap();
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(code(&Message::from_vec(&reply).unwrap()), ResponseCode::ServFail);
    assert!(since.elapsed() < Duration::from_secs(20), "one after the other they would take 40 s");
    for (socket, at) in deaf {
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 512]).is_ok(), "{at} was asked too");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_is_asked_by_edns_for_packets_that_fit_every_path() {
    let sizes = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = sizes.clone();
    let upstream = upstream(move |message, _| {
        let edns = message.edns.as_ref().map(|edns| (edns.max_payload(), edns.flags().dnssec_ok));
        seen.lock().unwrap().push((edns, message.metadata.recursion_desired));
        message.metadata.authentic_data = true;
        add(message, 60, RData::A(A(Ipv4Addr::new(198, 51, 100, 7))));
    });
    let server = serve(&[upstream.address]);
    let mut question = question(1, "www.example.", RecordType::A);
    question.metadata.authentic_data = true;
    question.metadata.checking_disabled = true;
    let mut edns = trust_dns_resolver::proto::op::Edns::new();
    edns.set_max_payload(4096).set_dnssec_ok(true);
    question.set_edns(edns);
    let reply = over_udp(server.address, question.to_vec().unwrap()).await;
    assert_eq!(*sizes.lock().unwrap(), [(Some((1232, false)), true)]);
    let meta = &reply.metadata;
    assert_eq!((meta.authentic_data, meta.checking_disabled), (false, true), "we verify nothing, and claim nothing");
    assert_eq!(reply.edns.expect("OPT").max_payload(), 1232);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_no_recursion_gets_none() {
    let upstream = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve(&[upstream.address]);
    ask(&server, "www.example.").await;
    let mut question = question(1, "www.example.", RecordType::A);
    question.metadata.recursion_desired = false;
    let reply = over_udp(server.address, question.to_vec().unwrap()).await;
    assert_eq!((code(&reply), reply.answers.len()), (ResponseCode::Refused, 0), "nor what is remembered");
    assert_eq!(upstream.asked.load(SeqCst), 1);
    server.stop().await;
}

/// Types that this program knows nothing of pass through as they are.
#[tokio::test(flavor = "multi_thread")]
async fn all_types_of_records_pass_through() {
    let upstream = upstream(|message, _| {
        let name = Name::from_ascii("mail.example.").unwrap();
        match message.queries[0].query_type {
            RecordType::MX => add(message, 60, RData::MX(MX::new(10, name))),
            RecordType::TXT => add(message, 60, RData::TXT(TXT::new(vec!["a b".into(), "c".into()]))),
            RecordType::SRV => add(message, 60, RData::SRV(SRV::new(1, 2, 3, name))),
            code => add(message, 60, RData::Unknown { code, rdata: NULL::with(vec![1, 2, 3]) }),
        }
    });
    let server = serve(&[upstream.address]);
    for (qtype, want) in [
        (RecordType::MX, "10 mail.example."),
        (RecordType::TXT, "a bc"),
        (RecordType::SRV, "1 2 3 mail.example."),
        (RecordType::Unknown(65_280), "AQID"),
    ] {
        let reply = over_udp(server.address, question(1, "www.example.", qtype).to_vec().unwrap()).await;
        assert_eq!(shown(&reply), [want], "{qtype}");
    }
    server.stop().await;
}
