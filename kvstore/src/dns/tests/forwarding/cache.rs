//! What upstream said, remembered for as long as it may be.

use super::*;

/// Waits until `done`.
async fn eventually(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !done().await {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn addresses_with_ttl(ttl: u32) -> Upstream {
    upstream(move |message, _| add(message, ttl, RData::A(A(Ipv4Addr::new(198, 51, 100, 7)))))
}

/// Denies everything, as a zone that lets itself be believed for `ttl`, and says so by a record with a TTL of its own.
fn denying(rcode: ResponseCode, ttl: u32, minimum: u32) -> Upstream {
    upstream(move |message, _| {
        let zone = Name::from_ascii("example.").unwrap();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 2, 3, 4, minimum);
        message.metadata.response_code = rcode;
        message.add_authority(Record::from_rdata(zone, ttl, RData::SOA(soa)));
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn times_to_live_run_down() {
    let upstream = addresses_with_ttl(300);
    let server = serve(&[upstream.address]);
    assert_eq!(ask(&server, "www.example.").await.answers[0].ttl, 300);
    eventually("the time runs", async || ask(&server, "www.example.").await.answers[0].ttl < 300).await;
    assert!(ask(&server, "www.example.").await.answers[0].ttl > 200);
    assert_eq!(upstream.asked.load(SeqCst), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_lived_its_time_is_asked_again() {
    let upstream = addresses_with_ttl(1);
    let server = serve(&[upstream.address]);
    eventually("asked again", async || {
        let reply = ask(&server, "www.example.").await;
        assert!(reply.answers[0].ttl <= 1, "{}", reply.answers[0].ttl);
        upstream.asked.load(SeqCst) == 3
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_remembered_is_not() {
    let failing = upstream(|message, _| message.metadata.response_code = ResponseCode::ServFail);
    let denying_for_no_time = denying(ResponseCode::NXDomain, 60, 0);
    let denying_in_silence = upstream(|message, _| message.metadata.response_code = ResponseCode::NXDomain);
    for upstream in [addresses_with_ttl(0), failing, denying_for_no_time, denying_in_silence] {
        let server = serve(&[upstream.address]);
        for _ in 0..3 {
            ask(&server, "www.example.").await;
        }
        assert_eq!(upstream.asked.load(SeqCst), 3);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_no_is_remembered_as_long_as_its_zone_says() {
    for rcode in [ResponseCode::NXDomain, ResponseCode::NoError] {
        for (ttl, minimum) in [(60, 600), (600, 60)] {
            let upstream = denying(rcode, ttl, minimum);
            let server = serve(&[upstream.address]);
            for round in 0..3 {
                let reply = ask(&server, "none.example.").await;
                assert_eq!((code(&reply), reply.answers.len()), (rcode, 0));
                let told = reply.authorities[0].ttl;
                assert!((30..=60).contains(&told), "{told} of {ttl} and {minimum}, round {round}");
            }
            assert_eq!(upstream.asked.load(SeqCst), 1);
            server.stop().await;
        }
    }
}

/// Each type of record of a name is a question of its own; how the name is spelled is not.
#[tokio::test(flavor = "multi_thread")]
async fn types_are_remembered_apart() {
    let upstream = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve(&[upstream.address]);
    for name in ["www.example.", "WWW.Example."] {
        let aaaa = question(1, name, RecordType::AAAA).to_vec().unwrap();
        assert_eq!(ask(&server, name).await.answers.len(), 1);
        assert_eq!(over_udp(server.address, aaaa).await.answers.len(), 0);
    }
    assert_eq!(upstream.asked.load(SeqCst), 2);
    server.stop().await;
}

/// Whoever asks the same at the same time waits for the same answer.
#[tokio::test(flavor = "multi_thread")]
async fn many_askers_of_one_name_cost_one_question() {
    let upstream = upstream(|message, _| {
        std::thread::sleep(Duration::from_millis(100));
        add(message, 60, RData::A(A(Ipv4Addr::new(198, 51, 100, 7))));
    });
    let server = serve(&[upstream.address]);
    let askers: Vec<_> = (0..50).map(|id| tokio::spawn(over_udp(server.address, packet(id, "www.example.")))).collect();
    for asker in askers {
        assert_eq!(shown(&asker.await.unwrap()), ["198.51.100.7"]);
    }
    assert_eq!(upstream.asked.load(SeqCst), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recursors_that_stay_remember_through_a_change() {
    let (stays, goes) = (addresses_with_ttl(300), addresses_with_ttl(300));
    let server = serve(&[stays.address, goes.address]);
    assert_eq!(ask(&server, "www.example.").await.answers.len(), 1);
    let config = DnsConfig { node_ttl: Duration::from_secs(5), ..DnsConfig::default() };
    let corp = Recursor::For { domain: "corp.example".into(), at: goes.address };
    let new = forwarder_of(&[Recursor::At(stays.address), corp], server.dns.forwarder().as_deref());
    server.dns.change(Settings::new(config, Some(new)).unwrap());
    assert_eq!(ask(&server, "www.example.").await.answers.len(), 1);
    assert_eq!((stays.asked.load(SeqCst), goes.asked.load(SeqCst)), (1, 0));
    ask(&server, "www.corp.example.").await;
    assert_eq!((stays.asked.load(SeqCst), goes.asked.load(SeqCst)), (1, 1));
    server.dns.change(Settings::new(DnsConfig::default(), None).unwrap());
    let reply = ask(&server, "www.example.").await;
    assert_eq!((code(&reply), reply.metadata.recursion_available), (ResponseCode::Refused, false));
    server.stop().await;
}

/// Also where the reply to the same question is at hand already.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_the_settings_is_seen_at_once() {
    let server = start("127.0.0.1:0", 1);
    for seconds in [0, 5, 6, 0] {
        let ttl = [("web".to_owned(), Duration::from_secs(seconds))];
        let config = DnsConfig { service_ttl: ServiceTtls(ttl.into()), ..DnsConfig::default() };
        server.dns.change(Settings::new(config, None).unwrap());
        for _ in 0..20 {
            let reply = ask(&server, "web.service.consul.").await;
            assert_eq!(u64::from(reply.answers[0].ttl), seconds);
        }
    }
    server.stop().await;
}
