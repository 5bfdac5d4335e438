//! View by view: what is shown follows the registry, and what is pressed changes it.

use flotilla_tests::eventually;
use kvstore_client::{KvPut, types::CheckUpdate};
use serde_json::{Value, json};

use super::{DOWN, ENTER, ESCAPE, LIMIT, Page};

impl Page {
    pub(super) async fn services(&self) {
        self.sees("one('.row', 'web')?.querySelector('.passing')").await;
        self.sees(
            "one('.row', 'web').innerText.includes('5 passing') && one('.row', 'web').innerText.includes('v1 live')",
        )
        .await;
        self.sees("one('.row', 'postgres').innerText.includes('1 passing, 1 warning')").await;
        self.sees("one('.row', 'mail').innerText.includes('1 passing')").await;
        // It changes by itself.
        let failed = CheckUpdate { status: "critical".into(), output: "on fire".into() };
        self.registry.client.update_check("service:web-2", &failed).await.expect("it is taken");
        self.sees("one('.row', 'web').innerText.includes('4 passing, 1 critical')").await;
        // By the keyboard alone: search, into the list, through it, open.
        self.browser.press("/").await;
        self.sees("document.activeElement.type === 'search'").await;
        self.browser.press("no such").await;
        self.sees("all('.row').length === 0 && main.innerText.includes('No service fits')").await;
        self.browser.press(ESCAPE).await;
        self.browser.press("r").await;
        self.sees("all('.row').map((row) => row.innerText.split('\\n')[0]).join() === 'postgres,redis,worker'").await;
        self.browser.press(DOWN).await;
        self.sees("document.activeElement.innerText.startsWith('postgres')").await;
        self.browser.press(DOWN).await;
        self.sees("document.activeElement.innerText.startsWith('redis')").await;
        // What changes meanwhile does not take the focus away.
        self.far(3, "redis", "7", "passing", "PONG").await;
        self.sees("document.activeElement.innerText.includes('1 passing')").await;
        self.far(3, "redis", "7", "critical", "dial tcp 10.0.0.3:6379: connection refused").await;
        self.browser.press(ENTER).await;
        self.sees("location.hash === '#/service/redis'").await;
        self.browser.press("1").await;
        // The search is what it was.
        self.sees("document.querySelector('input[type=search]').value === 'r'").await;
        self.browser.press("/").await;
        self.browser.press(ESCAPE).await;
        self.run("all('.chip').find((chip) => chip.innerText.startsWith('critical')).click()").await;
        self.sees("all('.row').length === 2 && one('.row', 'redis') && one('.row', 'web')").await;
        self.run("all('.chip').find((chip) => chip.innerText.startsWith('all')).click()").await;
        self.sees("all('.row').length > 5").await;
        self.browser.press(DOWN).await;
        self.browser.press("?").await;
        self.sees("question()?.innerText.includes('search')").await;
        self.browser.press(ESCAPE).await;
        self.sees("!question()").await;
    }

    pub(super) async fn service(&self) {
        self.go("#/service/web", "web").await;
        self.sees("one('pre', 'on fire')").await;
        // What a check says is followed too, while it stays critical.
        let failed = CheckUpdate { status: "critical".into(), output: "still on fire".into() };
        self.registry.client.update_check("service:web-2", &failed).await.expect("it is taken");
        self.sees("one('pre', 'still on fire')").await;
        // A release, as `kvstore release` makes it.
        self.sees("one('.tag.live', 'v1')").await;
        self.click("Release", "one('.line', 'v2')").await;
        self.agree("").await;
        self.sees("one('.tag.live', 'v2')").await;
        let key = async |name: &str| {
            let entry = self.registry.client.kv_get(name, None).await.expect("it answers").value;
            entry.map(|entry| String::from_utf8(entry.value.to_vec()).expect("it is text"))
        };
        assert_eq!(key("release/web").await.as_deref(), Some("v2"));
        let history: Value =
            serde_json::from_str(&key("release-history/web").await.expect("it is kept")).expect("JSON");
        assert_eq!((&history[0]["Version"], &history[0]["By"]), (&json!("v2"), &json!("web UI")), "{history}");
        self.run("one('summary', 'History').click()").await;
        self.sees("one('details', 'v2 by web UI')").await;
        self.click("Clear", "one('.line', 'v2')").await;
        self.agree("").await;
        self.sees("!document.querySelector('.tag.live')").await;
        assert_eq!(key("release/web").await, None);

        // Through the agent, which has registered it.
        self.click("Maintenance", "one('section.card', 'web-1')").await;
        self.agree("new disk").await;
        self.sees("one('h3', 'web-1').querySelector('.maintenance') && one('summary', 'new disk')").await;
        self.has_check("web", "web-1", "_service_maintenance:web-1", true).await;
        self.click("End maintenance", "one('section.card', 'web-1')").await;
        self.has_check("web", "web-1", "_service_maintenance:web-1", false).await;
        self.click("Drain", "one('section.card', 'web-1')").await;
        self.agree("").await;
        self.sees("one('h3', 'web-1').querySelector('.draining')").await;
        self.has_check("web", "web-1", "_draining:web-1", true).await;
        self.click("End draining", "one('section.card', 'web-1')").await;
        self.sees("one('h3', 'web-1').querySelector('.passing')").await;
        self.has_check("web", "web-1", "_draining:web-1", false).await;
        // Who rather does not changes nothing.
        self.click("Drain", "one('section.card', 'web-1')").await;
        self.sees("question()").await;
        self.browser.press(ESCAPE).await;
        self.sees("!question()").await;
        self.has_check("web", "web-1", "_draining:web-1", false).await;
    }

    /// What another host's registrar has put into the catalog; that one leaves a check alone that names its container.
    pub(super) async fn catalog_instance(&self) {
        let service = json!({"ID": "host-1:shop", "Service": "shop", "Meta": {"registrar-container": "4f1c2b3a4d5e"}});
        self.put("/v1/catalog/register", json!({"Node": "host-1", "Address": "10.0.0.1", "Service": service})).await;
        self.go("#/service/shop", "shop").await;
        self.sees("main.innerText.includes('It has no check')").await;
        for (begin, end, check) in [
            ("Drain", "End draining", "_draining:host-1:shop:4f1c2b3a4d5e"),
            ("Maintenance", "End maintenance", "_service_maintenance:host-1:shop"),
        ] {
            self.click(begin, "one('section.card', 'shop')").await;
            self.agree("somebody asked").await;
            self.has_check("shop", "host-1:shop", check, true).await;
            self.click(end, "one('section.card', 'shop')").await;
            self.has_check("shop", "host-1:shop", check, false).await;
        }
    }

    pub(super) async fn nodes(&self) {
        self.go("#/nodes", "Nodes").await;
        self.sees("all('.row').length === 4 && one('.row', 'host-3').innerText.includes('10.0.0.3')").await;
        for (node, instance) in [("test", "web-1"), ("host-3", "host-3:redis-7")] {
            self.go(&format!("#/node/{node}"), node).await;
            self.sees(&format!("one('.line', {instance:?})")).await;
            self.click("Maintenance", "main").await;
            self.agree("new kernel").await;
            self.sees("main.querySelector('.summary .maintenance') && one('summary', 'new kernel')").await;
            let checks = self.registry.client.health_node(node, None).await.expect("it answers").value;
            assert!(checks.iter().any(|check| check.check_id == "_node_maintenance"), "{checks:?}");
            self.click("End maintenance", "main").await;
            self.sees("!main.querySelector('.summary .maintenance')").await;
        }
        self.go("#/node/nobody", "nobody").await;
        self.sees("main.innerText.includes('No node nobody is registered')").await;
    }

    pub(super) async fn keys(&self) {
        let client = &self.registry.client;
        client.kv_put("a/b", "one", KvPut { flags: 7, ..KvPut::default() }).await.expect("it is taken");
        let value = async || {
            let entry = client.kv_get("a/b", None).await.expect("it answers").value.expect("it is there");
            (String::from_utf8(entry.value.to_vec()).expect("it is text"), entry.flags)
        };
        let write = async |text: &str| {
            let script = "const area = document.querySelector('textarea');";
            self.run(&format!("{script} area.value = {text:?}; area.dispatchEvent(new Event('input'));")).await;
        };
        self.go("#/keys/a/", "a/").await;
        self.sees("one('.row', 'b')").await;
        self.run("one('.row', 'b').click()").await;
        self.sees("document.querySelector('textarea')?.value === 'one'").await;
        write("two").await;
        self.click("Save", "main").await;
        eventually!("it is saved, and its flags stay", LIMIT, async {
            let found = value().await;
            if found == ("two".to_owned(), 7) { Ok(()) } else { Err(format!("{found:?}")) }
        });
        self.sees("main.innerText.includes('Index') && document.querySelector('textarea').value === 'two'").await;
        self.sees("!document.querySelector('textarea').disabled").await;

        // Somebody else was faster: nothing of theirs is lost.
        write("mine").await;
        client.kv_put("a/b", "theirs", KvPut::default()).await.expect("it is taken");
        self.sees("document.querySelector('.problem')?.innerText.includes('Somebody else')").await;
        self.click("Save", "main").await;
        self.sees("document.querySelector('.problem')?.innerText.includes('Refused')").await;
        assert_eq!(value().await.0, "theirs");
        self.click("Reload", "main").await;
        self.sees("document.querySelector('textarea').value === 'theirs'").await;
        self.click("Delete", "main").await;
        self.agree("").await;
        self.sees("main.innerText.includes('It does not exist yet')").await;

        // A new one; what is no text is not changed by who cannot see it.
        self.go("#/keys", "Keys").await;
        self.click("New key", "main").await;
        self.sees("question()").await;
        self.browser.press(&format!("a/new{ENTER}")).await;
        self.sees("document.querySelector('h1').innerText === 'a/new'").await;
        self.sees("main.innerText.includes('It does not exist yet')").await;
        self.run("document.querySelector('textarea').focus()").await;
        self.browser.press("typed").await;
        self.click("Save", "main").await;
        self.sees("main.innerText.includes('Index')").await;
        client.kv_put("a/new", vec![0xff, 0xfe], KvPut::default()).await.expect("it is taken");
        self.sees("main.innerText.includes('no text') && button('Save').disabled").await;
    }

    pub(super) async fn sessions(&self) {
        self.go("#/sessions", "Sessions and locks").await;
        self.sees("main.innerText.includes('There is no session')").await;
        let answer = self.put("/v1/session/create", json!({"Name": "holder"})).await;
        let id = serde_json::from_str::<Value>(&answer.body).expect("JSON")["ID"].as_str().expect("an id").to_owned();
        self.put(&format!("/v1/kv/jobs/lock?acquire={id}"), json!("x")).await;
        self.sees("one('.card', 'holder')?.innerText.includes('jobs/lock')").await;
        self.click("End it", "one('.card', 'holder')").await;
        self.agree("").await;
        self.sees("main.innerText.includes('There is no session')").await;
    }

    pub(super) async fn events(&self) {
        self.go("#/events", "Events").await;
        self.sees("main.innerText.includes('No event was fired')").await;
        self.click("Fire an event", "main").await;
        self.agree("deploy").await;
        self.sees("one('.card', 'deploy')").await;
    }

    pub(super) async fn access(&self) {
        self.go("#/access", "Access").await;
        self.sees("main.innerText.includes('runs without ACLs') && !one('[role=alert]', '')").await;
    }

    /// All that the story has done so far, and only what is looked for.
    pub(super) async fn changes(&self) {
        self.go("#/changes", "Changes").await;
        for text in [
            "check “HTTP /health”: critical → passing",
            "no version is live any more",
            "maintenance began: new disk",
            "maintenance ended",
            "draining began",
            "a/new made",
            "locked by session",
            "session on test ended",
            "shop is a new service",
        ] {
            self.sees(&format!("one('.log li', {text:?})")).await;
        }
        self.sees("one('.log pre', 'on fire')").await;
        self.browser.press("/").await;
        self.browser.press("replaced").await;
        self.sees("main.innerText.includes('No change fits')").await;
        self.far(1, "replaced", "v1", "critical", "not yet").await;
        self.sees("all('.log li').length === 3 && one('.log pre', 'not yet')").await;
        self.click("Hold", "main").await;
        self.far(1, "replaced", "v1", "passing", "now").await;
        self.sees("one('button', 'Go on (2 new)')").await;
        self.sees("all('.log li').length === 3").await;
        self.run("one('button', 'Go on').click()").await;
        self.sees("all('.log li').length === 5 && all('.log li')[0].innerText.includes('is up again')").await;
        self.browser.press("/").await;
        self.browser.press(ESCAPE).await;
    }
}
