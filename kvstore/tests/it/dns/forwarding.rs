//! An agent as the only resolver of a host: names of other domains too, from recursors made for the test.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use hickory_proto::{
    op::MessageType,
    rr::{
        RData, Record,
        rdata::{A, PTR},
    },
};
use kvstore::config::{self, DnsSettings, Recursor};
use serde_json::json;

use super::*;
use crate::common::settings;

/// A recursor that has one address for all names, and one name for all addresses.
struct Upstream {
    address: SocketAddr,
    /// Who asks, when not itself: questions are passed on there.
    leads_to: Arc<Mutex<Option<SocketAddr>>>,
    asked: Arc<AtomicUsize>,
}

impl Upstream {
    async fn start(last: u8) -> Self {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        let (leads_to, asked) = (Arc::new(Mutex::new(None)), Arc::new(AtomicUsize::new(0)));
        let upstream = Self { address, leads_to: leads_to.clone(), asked: asked.clone() };
        tokio::spawn(async move {
            let mut packet = [0; 4096];
            while let Ok((bytes, from)) = socket.recv_from(&mut packet).await {
                let message = Message::from_vec(&packet[..bytes]).unwrap();
                if !message.queries[0].name.to_ascii().starts_with("kvstore-loop-") {
                    asked.fetch_add(1, SeqCst);
                }
                let (target, socket) = (*leads_to.lock().unwrap(), socket.clone());
                tokio::spawn(async move {
                    let reply = match target {
                        Some(target) => over_udp(target, &message).await,
                        None => reply(message, last),
                    };
                    socket.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
                });
            }
        });
        upstream
    }

    fn asked(&self) -> usize {
        self.asked.load(SeqCst)
    }
}

fn reply(mut message: Message, last: u8) -> Message {
    let query = message.queries[0].clone();
    message.metadata.message_type = MessageType::Response;
    let data = match query.query_type {
        RecordType::A => RData::A(A(Ipv4Addr::new(198, 51, 100, last))),
        RecordType::PTR => RData::PTR(PTR(Name::from_ascii("host.example.").unwrap())),
        _ => return message,
    };
    message.add_answer(Record::from_rdata(query.name, 60, data));
    message
}

/// An agent's settings with these recursors, which have half a second.
fn with_recursors(recursors: &[Recursor]) -> config::Agent {
    let dns_settings = DnsSettings { recursor_timeout: Duration::from_millis(500), ..DnsSettings::default() };
    config::Agent { recursors: recursors.to_vec(), dns_settings, ..settings("n") }
}

async fn register(agent: &Agent, node: &str, address: &str, service: &str) {
    let body = json!({"Node": node, "Address": address, "Service": {"Service": service, "Port": 80}});
    call(agent, Method::PUT, "/v1/catalog/register", &body).await;
}

async fn reload(agent: &Agent) {
    call(agent, Method::PUT, "/v1/agent/reload", &Value::Null).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_resolver_enough() {
    let (plain, corp) = (Upstream::start(1).await, Upstream::start(2).await);
    let for_corp = Recursor::For { domain: "corp.example".into(), at: corp.address };
    let agent = Agent::with(with_recursors(&[Recursor::At(plain.address), for_corp])).await;
    register(&agent, "here", "10.0.0.1", "web").await;
    register(&agent, "there", "www.corp.example", "out").await;
    for (name, qtype, want) in [
        ("web.service.consul.", RecordType::A, "10.0.0.1"),
        ("none.service.consul.", RecordType::A, "NXDomain"),
        ("www.example.", RecordType::A, "198.51.100.1"),
        ("www.corp.example.", RecordType::A, "198.51.100.2"),
        ("out.service.consul.", RecordType::A, "198.51.100.2, www.corp.example."),
        ("there.node.consul.", RecordType::A, "198.51.100.2, www.corp.example."),
        ("1.0.0.10.in-addr.arpa.", RecordType::PTR, "here.node.dc1.consul."),
        ("2.0.0.10.in-addr.arpa.", RecordType::PTR, "host.example."),
        ("localhost.", RecordType::A, "127.0.0.1"),
    ] {
        let question = question(name, qtype);
        for reply in [over_udp(agent.dns(), &question).await, over_tcp(agent.dns(), &question).await] {
            assert_eq!(shown(&reply), want, "{name} {qtype}");
            assert!(reply.metadata.recursion_available, "{name} {qtype}");
        }
    }
    assert_eq!((plain.asked(), corp.asked()), (2, 1), "all else came from the registry or what is remembered");
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_who_is_asked() {
    let (first, second) = (Upstream::start(1).await, Upstream::start(2).await);
    let (agent, settings) = Agent::with_reread(with_recursors(&[])).await;
    let set = |recursors: &[Recursor]| settings.lock().unwrap().recursors = recursors.to_vec();
    let [one, two] = [&first, &second].map(|upstream| Recursor::At(upstream.address));
    assert_eq!(shown(&ask(&agent, "www.example.", RecordType::A).await), "Refused");
    set(std::slice::from_ref(&one));
    assert_eq!(shown(&ask(&agent, "www.example.", RecordType::A).await), "Refused", "not before it is read");
    reload(&agent).await;
    assert_eq!(shown(&ask(&agent, "www.example.", RecordType::A).await), "198.51.100.1");
    set(&[one, Recursor::For { domain: "corp.example".into(), at: second.address }]);
    reload(&agent).await;
    assert_eq!(shown(&ask(&agent, "www.example.", RecordType::A).await), "198.51.100.1");
    assert_eq!(first.asked(), 1, "what stays remembers");
    assert_eq!(shown(&ask(&agent, "www.corp.example.", RecordType::A).await), "198.51.100.2");
    set(&[two]);
    reload(&agent).await;
    assert_eq!(shown(&ask(&agent, "www.example.", RecordType::A).await), "198.51.100.2");
    set(&[]);
    reload(&agent).await;
    let reply = ask(&agent, "www.example.", RecordType::A).await;
    assert_eq!((shown(&reply), reply.metadata.recursion_available), ("Refused".into(), false));
    agent.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_cannot_be_changes_nothing() {
    let upstream = Upstream::start(1).await;
    let (agent, settings) = Agent::with_reread(with_recursors(&[Recursor::At(upstream.address)])).await;
    {
        let mut settings = settings.lock().unwrap();
        settings.node_meta.insert("new".into(), "yes".into());
        settings.aliases.insert("a..b".into(), "web".into());
    }
    let response = reqwest::Client::new().put(format!("{}/v1/agent/reload", agent.base)).send().await.unwrap();
    let (status, why) = (response.status(), response.text().await.unwrap());
    assert!(status == 500 && why.contains("DNS answers as before") && why.contains("a..b"), "{status} {why}");
    assert_eq!(shown(&ask(&agent, "www.example.", RecordType::A).await), "198.51.100.1");
    let nodes = reqwest::get(format!("{}/v1/catalog/nodes", agent.base)).await.unwrap().text().await.unwrap();
    assert!(!nodes.contains("\"new\""), "{nodes}");
    agent.stop().await;
}

/// As where the host's resolver asks this agent about everything, and this agent asks the host's resolver.
#[tokio::test(flavor = "multi_thread")]
async fn a_recursor_that_leads_back_is_left_out_until_it_is_mended() {
    let (round, good) = (Upstream::start(1).await, Upstream::start(2).await);
    let recursors = [&round, &good].map(|upstream| Recursor::At(upstream.address));
    let (agent, _) = Agent::with_reread(with_recursors(&recursors)).await;
    *round.leads_to.lock().unwrap() = Some(agent.dns());
    // A reload looks at all recursors anew; when it has is seen by who is asked.
    reload(&agent).await;
    let until = std::time::Instant::now() + Duration::from_mins(1);
    let mut left_out = 0;
    for i in 0.. {
        let before = round.asked();
        assert_eq!(shown(&ask(&agent, &format!("x{i}.example."), RecordType::A).await), "198.51.100.2");
        left_out = if round.asked() == before { left_out + 1 } else { 0 };
        if left_out == 20 {
            break;
        }
        assert!(std::time::Instant::now() < until, "it is still asked");
    }
    *round.leads_to.lock().unwrap() = None;
    reload(&agent).await;
    for i in 0.. {
        if shown(&ask(&agent, &format!("y{i}.example."), RecordType::A).await) == "198.51.100.1" {
            break;
        }
        assert!(std::time::Instant::now() < until, "it is never asked again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    agent.stop().await;
}
