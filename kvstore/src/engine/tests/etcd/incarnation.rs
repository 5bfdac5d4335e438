//! Two processes of one host: the one that was started last writes, and the other does not, whatever it does.

use super::*;

impl Server {
    fn process(&self, host: &str) -> Writer {
        Writer::start(Box::new(engine_of(self.port, "/flotilla", host)))
    }
}

fn refusal(writer: &mut Writer, command: &Command) -> String {
    let changes = decide(&writer.state, command).unwrap().changes;
    match writer.engine.commit(vec![Proposal { changes, lazy: false }]) {
        Err(error) => kvstore_client::with_causes(&error),
        Ok(results) => match &results[..] {
            [Err(Rejected::Lost(why))] => why.clone(),
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn the_process_that_was_started_last_writes_and_no_other_of_its_host() {
    let Some(server) = Server::start() else { return };
    let (mut old, mut other) = (server.process("h1"), server.process("h2"));
    for command in [register(&mut StdRng::seed_from_u64(1), "n0", "i0"), with_ttl("s", Duration::from_mins(1))] {
        old.commit(&[command]).unwrap();
    }
    let mut new = server.process("h1");
    new.commit(&[put_key("of the new one")]).unwrap();
    let later = "another kvstore that was started later has this host's node-id";
    // Also before it has heard of the other.
    assert!(refusal(&mut old, &put_key("of the old one")).contains(later));
    let renewal = decide(&old.state, &Command::RenewSession { session: SessionId::new("s").unwrap() }).unwrap().changes;
    assert!(old.engine.renew(vec![renewal]).is_err(), "nor does it show that its host lives");
    assert!(old.engine.catch_up().is_err(), "nor does it promise that what it shows is the newest");
    until("what the new one wrote", || {
        for entry in old.engine.log() {
            apply(&mut old.state, entry);
        }
        old.state.key(&Key::new("of the new one").unwrap()).is_some()
    });
    other.catch_up();
    other.commit(&[put_key("of another host")]).unwrap();
    new.catch_up();
    new.commit(&[put_key("again")]).unwrap();
    assert!(refusal(&mut old, &put_key("of the old one")).contains(later), "it stays so");
    new.catch_up();
    assert_eq!(new.state.keys("").count(), 3);
}

/// Nobody hears that a process was replaced but by the watch; the watch is enough.
#[test]
fn who_only_listens_hears_that_it_was_replaced() {
    let Some(server) = Server::start() else { return };
    let (mut old, mut new) = (server.process("h1"), server.process("h1"));
    for (writer, key) in [(&mut old, "a"), (&mut new, "b")] {
        // Who has written nothing replaces nobody.
        writer.catch_up();
        writer.commit(&[put_key(key)]).unwrap();
    }
    until("the news", || old.engine.catch_up().is_err());
}

/// Whoever takes the row away by hand, or brings back an older etcd, stops no kvstore for long.
#[test]
fn a_lost_number_is_put_again() {
    let Some(server) = Server::start() else { return };
    let mut writer = server.process("h1");
    writer.commit(&[put_key("before")]).unwrap();
    assert_eq!(server.ctl(&["get", "/flotilla/agents/h1"]), "/flotilla/agents/h1\n1\n");
    server.ctl(&["del", "/flotilla/agents/h1"]);
    until("a write", || {
        let changes = decide(&writer.state, &put_key("a")).unwrap().changes;
        let committed = writer.engine.commit(vec![Proposal { changes, lazy: false }]);
        committed.is_ok_and(|results| results[0].is_ok())
    });
    assert_eq!(server.ctl(&["get", "/flotilla/agents/h1"]), "/flotilla/agents/h1\n1\n");
}
