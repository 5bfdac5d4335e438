//! Domains that have recursors of their own.

use super::*;

fn of(domain: &str, upstream: &Upstream) -> Recursor {
    Recursor::For { domain: domain.into(), at: upstream.address }
}

/// Knows every address as `ip`.
fn always(ip: [u8; 4]) -> Upstream {
    upstream(move |message, _| add(message, 60, RData::A(A(Ipv4Addr::from(ip)))))
}

fn serve_split(recursors: &[Recursor]) -> Running {
    start_with("127.0.0.1:0", state(&addresses(1)), Some(forwarder_of(recursors, None)))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_domain_is_asked_of_its_own_recursors_only() {
    let (plain, corp, deep) = (always([192, 0, 2, 1]), always([192, 0, 2, 2]), always([192, 0, 2, 3]));
    let recursors = [
        Recursor::At(plain.address),
        of("corp.example", &corp),
        of("deep.corp.example", &deep),
        of("10.in-addr.arpa", &deep),
    ];
    let server = serve_split(&recursors);
    for (name, want) in [
        ("www.example.", "192.0.2.1"),
        ("notcorp.example.", "192.0.2.1"),
        ("corp.example.", "192.0.2.2"),
        ("a.b.CORP.example.", "192.0.2.2"),
        ("deep.corp.example.", "192.0.2.3"),
        ("x.deep.corp.example.", "192.0.2.3"),
        ("9.9.9.10.in-addr.arpa.", "192.0.2.3"),
        ("9.9.9.11.in-addr.arpa.", "192.0.2.1"),
        ("web.service.consul.", "10.0.0.1"),
    ] {
        assert_eq!(shown(&ask(&server, name).await), [want], "{name}");
    }
    assert_eq!([&plain, &corp, &deep].map(|upstream| upstream.asked.load(SeqCst)), [3, 2, 3]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_is_asked_when_those_of_a_domain_fail() {
    let failing = upstream(|message, _| message.metadata.response_code = ResponseCode::ServFail);
    let (second, plain) = (always([192, 0, 2, 2]), always([192, 0, 2, 1]));
    let recursors = [of("corp.example", &failing), Recursor::At(plain.address), of("other.example", &failing)];
    let server = serve_split(&recursors);
    assert_eq!(code(&ask(&server, "www.corp.example.").await), ResponseCode::ServFail);
    assert_eq!(plain.asked.load(SeqCst), 0, "what is inside stays inside");
    server.stop().await;
    let server = serve_split(&[of("corp.example", &failing), of("corp.example", &second)]);
    assert_eq!(shown(&ask(&server, "www.corp.example.").await), ["192.0.2.2"], "the domain's second one");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_for_the_rest_that_is_refused() {
    let corp = always([192, 0, 2, 2]);
    let server = serve_split(&[of("corp.example", &corp)]);
    assert_eq!(shown(&ask(&server, "www.corp.example.").await), ["192.0.2.2"]);
    for reply in [ask(&server, "www.example.").await, over_tcp(server.address, packet(1, "www.example.")).await] {
        assert_eq!(code(&reply), ResponseCode::Refused);
    }
    assert_eq!(corp.asked.load(SeqCst), 1);
    server.stop().await;
}

/// A server that knows only its own domain refuses the target of an alias; who knows that is asked then.
#[tokio::test(flavor = "multi_thread")]
async fn an_alias_out_of_the_domain_is_followed_by_others() {
    let narrow = upstream(|message, _| {
        let query = message.queries[0].clone();
        if !query.name.to_ascii().ends_with("corp.example.") {
            message.metadata.response_code = ResponseCode::Refused;
            return;
        }
        add(message, 60, RData::CNAME(CNAME(Name::from_ascii("www.example.").unwrap())));
    });
    let plain = upstream(knows("www.example.", [198, 51, 100, 7]));
    let server = serve_split(&[of("corp.example", &narrow), Recursor::At(plain.address)]);
    let reply = ask(&server, "www.corp.example.").await;
    assert_eq!(shown(&reply), ["198.51.100.7", "www.example."]);
    assert_eq!(reply.answers[0].name.to_ascii(), "www.corp.example.", "the alias comes first");
    server.stop().await;
    let alone = serve_split(&[of("corp.example", &narrow), of("other.example", &plain)]);
    let reply = ask(&alone, "www.corp.example.").await;
    assert_eq!((shown(&reply), code(&reply)), (vec!["www.example.".to_owned()], ResponseCode::NoError));
    alone.stop().await;
}
