//! Recursors that would only ask us in turn.

use std::sync::Mutex;

use super::*;

/// Passes on every question that `passes` lets through, and knows all other addresses as 198.51.100.1.
struct Relay {
    address: SocketAddr,
    to: Arc<Mutex<Option<SocketAddr>>>,
    passed: Arc<AtomicUsize>,
}

impl Relay {
    fn start(passes: impl Fn(&str) -> bool + Send + 'static) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = Arc::new(tokio::net::UdpSocket::from_std(socket).unwrap());
        let (to, passed) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let relay = Self { address, to: to.clone(), passed: passed.clone() };
        tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((bytes, from)) = socket.recv_from(&mut packet).await {
                let mut message = Message::from_vec(&packet[..bytes]).unwrap();
                let target = to.lock().unwrap().filter(|_| passes(&message.queries[0].name.to_ascii()));
                let Some(target) = target else {
                    message.metadata.message_type = MessageType::Response;
                    add(&mut message, 0, RData::A(A(Ipv4Addr::new(198, 51, 100, 1))));
                    socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
                    continue;
                };
                passed.fetch_add(1, SeqCst);
                let (socket, packet) = (socket.clone(), packet[..bytes].to_vec());
                tokio::spawn(async move {
                    let onward = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
                    onward.send_to(&packet, target).await.unwrap();
                    let mut reply = [0; 4096];
                    if let Ok(Ok(bytes)) = timeout(SOON, onward.recv(&mut reply)).await {
                        socket.send_to(&reply[..bytes], from).await.unwrap();
                    }
                });
            }
        });
        relay
    }

    /// From now on it passes questions on to `target`.
    fn lead_to(&self, target: Option<SocketAddr>) {
        *self.to.lock().unwrap() = target;
    }
}

/// Serves, and watches the recursors.
fn watched(recursors: &[SocketAddr]) -> Running {
    let server = serve_hastily(recursors);
    let (dns, shutdown) = (server.dns.clone(), server.shutdown.clone());
    tokio::spawn(async move { shutdown.run_until_cancelled(dns.watch_recursors()).await });
    server
}

/// Asks for `name` until `relay` is asked about it no more.
async fn until_left_out(server: &Running, relay: &Relay, name: &str) {
    let until = Instant::now() + Duration::from_mins(1);
    while server.dns.forwarder().unwrap().asked_about(name).contains(&relay.address) {
        ask(server, name).await;
        assert!(Instant::now() < until, "it is still asked about {name}");
    }
}

fn knowing() -> Upstream {
    upstream(|message, _| add(message, 0, RData::A(A(Ipv4Addr::new(198, 51, 100, 9)))))
}

/// Before anybody asked anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_recursor_that_leads_back_is_found_and_left_out() {
    let (relay, knowing) = (Relay::start(|_| true), knowing());
    let server = serve_hastily(&[relay.address, knowing.address]);
    relay.lead_to(Some(server.address));
    server.dns.forwarder().unwrap().examine().await;
    let passed = relay.passed.load(SeqCst);
    assert!(passed > 0, "by what it passed on");
    for i in 0..20 {
        assert_eq!(shown(&ask(&server, &format!("x{i}.example.")).await), ["198.51.100.9"]);
    }
    assert_eq!(relay.passed.load(SeqCst), passed, "it is asked nothing more");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nobody_else_the_asker_hears_that_it_failed() {
    let relay = Relay::start(|_| true);
    let server = serve_hastily(&[relay.address]);
    relay.lead_to(Some(server.address));
    assert_eq!(code(&ask(&server, "www.example.").await), ResponseCode::ServFail, "after the timeout");
    server.dns.forwarder().unwrap().examine().await;
    let passed = relay.passed.load(SeqCst);
    assert_eq!(code(&ask(&server, "www.example.").await), ResponseCode::ServFail, "at once");
    assert_eq!(relay.passed.load(SeqCst), passed);
    assert_eq!(shown(&ask(&server, "web.service.consul.").await), ["10.0.0.1"]);
    server.stop().await;
}

/// It answers at first, and later is set up anew.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_to_lead_back_is_suspected() {
    let (relay, knowing) = (Relay::start(|_| true), knowing());
    let server = watched(&[relay.address, knowing.address]);
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.1"]);
    relay.lead_to(Some(server.address));
    until_left_out(&server, &relay, "www.example.").await;
    assert_eq!(server.dns.forwarder().unwrap().asked_about("any.name."), [knowing.address], "about nothing at all");
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.9"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_leads_back_for_one_name_answers_for_the_rest() {
    let relay = Relay::start(|name| name.ends_with("corp.example."));
    let knowing = knowing();
    let server = watched(&[relay.address, knowing.address]);
    relay.lead_to(Some(server.address));
    until_left_out(&server, &relay, "corp.example.").await;
    assert_eq!(shown(&ask(&server, "www.corp.example.").await), ["198.51.100.9"]);
    assert!(server.dns.forwarder().unwrap().asked_about("www.example.").contains(&relay.address));
    server.stop().await;
}

/// Many ask for the same name of a recursor that is merely down: it is suspected, and not left out.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_answer_is_no_loop() {
    let (_held, deaf) = silent();
    let server = watched(&[deaf]);
    for _ in 0..2 {
        let askers: Vec<_> =
            (0..9).map(|id| tokio::spawn(over_udp(server.address, packet(id, "www.example.")))).collect();
        for asker in askers {
            assert_eq!(code(&asker.await.unwrap()), ResponseCode::ServFail);
        }
    }
    server.dns.forwarder().unwrap().examine().await;
    assert_eq!(server.dns.forwarder().unwrap().asked_about("www.example."), [deaf]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_mended_is_asked_again() {
    let (relay, knowing) = (Relay::start(|_| true), knowing());
    let server = serve_hastily(&[relay.address, knowing.address]);
    relay.lead_to(Some(server.address));
    let forwarder = server.dns.forwarder().unwrap();
    forwarder.examine().await;
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.9"]);
    forwarder.examine_again().await;
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.9"], "it still does");
    relay.lead_to(None);
    forwarder.examine_again().await;
    assert_eq!(shown(&ask(&server, "www.example.").await), ["198.51.100.1"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_that_ask_each_other_both_find_out() {
    let (relay, knowing) = (Relay::start(|_| true), knowing());
    let one = serve_hastily(&[relay.address, knowing.address]);
    let other = serve_hastily(&[one.address, knowing.address]);
    relay.lead_to(Some(other.address));
    for server in [&one, &other] {
        server.dns.forwarder().unwrap().examine().await;
    }
    for server in [&one, &other] {
        let before = relay.passed.load(SeqCst);
        assert_eq!(shown(&ask(server, "www.example.").await), ["198.51.100.9"]);
        assert_eq!(relay.passed.load(SeqCst), before);
    }
    one.stop().await;
    other.stop().await;
}
