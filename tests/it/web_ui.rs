//! What a browser shows of the registry, and what it can change there.

use std::{path::Path, time::Duration};

use flotilla_tests::{
    browser::Browser,
    eventually,
    needs::Need,
    registry::Registry,
    web::{self, Answer},
};
use kvstore_client::{
    KvPut,
    types::{CheckRegistration, CheckStatus, CheckUpdate, ServiceEntry, ServiceRegistration},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// A name that is a script to whoever does not escape it.
const SCRIPT: &str = "<script>document.title='run'</script><img src=x onerror=document.title='run'>";

/// More services than a page can hold.
const MANY: usize = 1000;

/// The size of a page, unless it is about a phone.
const WIDTH: u32 = 1200;
const HEIGHT: u32 = 720;

/// A change in the browser takes no longer, on a busy machine either.
const LIMIT: Duration = Duration::from_secs(30);

/// Keys of the keyboard, as `WebDriver` names them.
const ENTER: &str = "\u{E007}";
const ESCAPE: &str = "\u{E00C}";
const DOWN: &str = "\u{E015}";

/// What scripts below look for: what is seen of a kind and has a text, a button, the question that is asked.
const HELPERS: &str = "const all = (css) => [...document.querySelectorAll(css)].filter((one) => one.checkVisibility());
    const one = (css, text) => all(css).find((found) => found.innerText.includes(text));
    const button = (text, within = document) =>
        [...within.querySelectorAll('button')].find((found) => found.innerText.trim() === text);
    const question = () => document.querySelector('dialog[open]');
    const main = document.querySelector('main');";

pub(crate) fn needs() -> Vec<Need> {
    ["chromium", "chromedriver"].map(Need::Program).into()
}

/// A registry, and a browser that shows it.
struct Page {
    registry: Registry,
    browser: Browser,
}

/// The UI asks for nothing that a genuine Consul does not have.
pub(crate) async fn story() {
    let registry = Registry::in_memory().await;
    let browser = Browser::start(WIDTH, HEIGHT).await;
    browser.resize(WIDTH, HEIGHT).await;
    let page = Page { registry, browser };
    page.fleet().await;
    page.browser.open(&page.registry.url()).await;
    page.pure().await;
    page.services().await;
    page.pictures().await;
    page.hostile_names().await;
    page.service().await;
    page.catalog_instance().await;
    page.nodes().await;
    page.keys().await;
    page.sessions().await;
    page.events().await;
    page.access().await;
    page.changes().await;
    page.themes().await;
    page.other_sites().await;
    page.many().await;
    page.phone().await;
    let Page { registry, browser } = page;
    tokens(&browser).await;
    away(&browser, registry).await;
}

impl Page {
    async fn run(&self, script: &str) -> Value {
        let found = self.browser.run(&format!("{HELPERS} {script}")).await;
        found.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn sees(&self, expression: &str) {
        self.browser.sees(&format!("(() => {{ {HELPERS} return {expression}; }})()")).await;
    }

    async fn go(&self, place: &str, title: &str) {
        self.run(&format!("location.hash = {place:?}")).await;
        self.sees(&format!("document.querySelector('h1')?.innerText === {title:?}")).await;
    }

    /// Presses the button with this text within what an expression finds.
    async fn click(&self, text: &str, within: &str) {
        self.sees(&format!("button({text:?}, {within})")).await;
        self.run(&format!("button({text:?}, {within}).click()")).await;
    }

    /// Answers the question that the page asks: fills in its line, where there is one, and agrees.
    async fn agree(&self, text: &str) {
        self.sees("question()").await;
        let fill = format!("const input = question().querySelector('input'); if (input) input.value = {text:?};");
        self.run(&format!("{fill} question().querySelector('.primary').click()")).await;
    }

    async fn put(&self, path: &str, body: Value) -> Answer {
        let answer = web::send(Method::PUT, &format!("{}{path}", self.registry.url()), body.to_string()).await;
        let answer = answer.expect("it answers");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer
    }

    /// An instance of the agent here, with a check.
    async fn own(&self, id: &str, name: &str, version: &str) {
        let passing = CheckRegistration::ttl(Duration::from_hours(1)).starting_as(CheckStatus::Passing);
        let service = ServiceRegistration {
            id: id.into(),
            name: name.into(),
            port: 80,
            tags: vec!["blue".into()],
            meta: [("version".to_owned(), version.to_owned())].into(),
            check: Some(passing),
            ..ServiceRegistration::default()
        };
        self.registry.client.register_service(&service).await.expect("it is taken");
    }

    /// An instance on another host.
    async fn far(&self, node: u8, name: &str, version: &str, status: &str, output: &str) {
        let tags = match name {
            "web" | "api" => vec!["http"],
            "worker" => vec!["jobs"],
            _ => vec!["db", "internal"],
        };
        let id = format!("host-{node}:{name}-{version}");
        let check = json!({"CheckID": format!("service:{id}"), "Name": "HTTP /health", "ServiceID": id,
            "Status": status, "Output": output});
        let service = json!({"ID": id, "Service": name, "Port": 8000, "Tags": tags, "Meta": {"version": version}});
        let body = json!({"Node": format!("host-{node}"), "Address": format!("10.0.0.{node}"), "Service": service,
            "Check": check});
        self.put("/v1/catalog/register", body).await;
    }

    async fn entry(&self, service: &str, id: &str) -> ServiceEntry {
        let all = self.registry.client.health_service(service, false, None).await.expect("it answers").value;
        all.into_iter().find(|entry| entry.service.id == id).unwrap_or_else(|| panic!("{id} is registered"))
    }

    /// Waits until an instance has, or has not, a check whose id begins like this.
    async fn has_check(&self, service: &str, id: &str, check: &str, wanted: bool) {
        eventually!(format!("{id} has the check {check}: {wanted}"), LIMIT, async {
            let checks = self.entry(service, id).await.checks;
            let has = checks.iter().any(|one| one.check_id == check && !one.notes.is_empty());
            if has == wanted { Ok(()) } else { Err(format!("{checks:?}")) }
        });
    }

    /// What a small company runs.
    async fn fleet(&self) {
        for (id, version) in [("web-1", "v1"), ("web-2", "v2")] {
            self.own(id, "web", version).await;
        }
        for node in 1..4 {
            self.far(node, "web", "v1", "passing", "200 OK").await;
            self.far(node, "api", "v3", "passing", "200 OK").await;
            self.far(node, "worker", "v7", "passing", "").await;
        }
        self.far(1, "postgres", "16", "passing", "").await;
        self.far(2, "postgres", "16", "warning", "replication is 14 s behind").await;
        self.far(3, "redis", "7", "critical", "dial tcp 10.0.0.3:6379: connection refused").await;
        // No check at all.
        let plain = json!({"Node": "host-1", "Address": "10.0.0.1", "Service": {"ID": "mail-1", "Service": "mail"}});
        self.put("/v1/catalog/register", plain).await;
        for (key, value) in [("release/web", "v1"), ("release/api", "v3"), ("app/config/log", "info"), ("motd", "hi")] {
            self.registry.client.kv_put(key, value, KvPut::default()).await.expect("it is taken");
        }
    }

    /// What the modules decide that show nothing.
    async fn pure(&self) {
        self.sees("location.pathname === '/ui/' && location.hash === '#/services'").await;
        let cases = self.run(&format!("return (async () => {{ {} }})()", include_str!("web_ui/pure.js"))).await;
        assert!(cases.as_u64() > Some(30), "{cases} cases");
    }

    async fn services(&self) {
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

    /// What is shown is what was registered, and nothing of it is carried out; nor is what somebody smuggles in.
    async fn hostile_names(&self) {
        self.go("#/services", "Services").await;
        self.own("strange", SCRIPT, SCRIPT).await;
        let failed = CheckUpdate { status: "critical".into(), output: SCRIPT.into() };
        self.registry.client.update_check("service:strange", &failed).await.expect("it is taken");
        self.registry
            .client
            .kv_put(&format!("{SCRIPT}/{SCRIPT}"), SCRIPT, KvPut::default())
            .await
            .expect("it is taken");
        self.sees("one('.row', '<script>document.title')").await;
        self.run("one('.row', '<script>').click()").await;
        self.sees("document.querySelector('h1').innerText.startsWith('<script>') && one('pre', '<script>')").await;
        self.go("#/changes", "Changes").await;
        self.sees("one('.log li', '<script>')").await;
        self.go("#/keys", "Keys").await;
        self.sees("one('.row', '<script>')").await;
        // An element of a page that could be tricked would still do nothing.
        self.run(
            "const script = document.createElement('script');
             try { script.textContent = \"document.title = 'run'\"; document.head.append(script); } catch {}",
        )
        .await;
        self.sees("document.title === 'Keys - Registry' && !document.querySelector('main img, main script')").await;
        self.registry.client.deregister_service("strange").await.expect("it is taken");
    }

    async fn service(&self) {
        self.go("#/service/web", "web").await;
        self.sees("one('pre', 'on fire')").await;
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
    async fn catalog_instance(&self) {
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

    async fn nodes(&self) {
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

    async fn keys(&self) {
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

    async fn sessions(&self) {
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

    async fn events(&self) {
        self.go("#/events", "Events").await;
        self.sees("main.innerText.includes('No event was fired')").await;
        self.click("Fire an event", "main").await;
        self.agree("deploy").await;
        self.sees("one('.card', 'deploy')").await;
    }

    async fn access(&self) {
        self.go("#/access", "Access").await;
        self.sees("main.innerText.includes('runs without ACLs') && !one('[role=alert]', '')").await;
    }

    /// All that the story has done so far, and only what is looked for.
    async fn changes(&self) {
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

    /// Light or dark as the whole desktop is, unless somebody wants it otherwise here.
    async fn themes(&self) {
        let is = |dark: bool| {
            let light = "getComputedStyle(document.documentElement).backgroundColor === 'rgb(255, 255, 255)'";
            if dark { format!("!({light})") } else { light.to_owned() }
        };
        for (scheme, dark) in [("dark", true), ("light", false)] {
            self.browser.prefer(scheme).await;
            self.sees(&is(dark)).await;
        }
        self.run("document.getElementById('theme').click()").await;
        self.sees(&is(true)).await;
        self.browser.open(&self.registry.url()).await;
        self.sees(&is(true)).await;
        self.run("document.getElementById('theme').click()").await;
        self.sees(&is(false)).await;
        self.browser.prefer("dark").await;
        self.sees(&is(true)).await;
        self.browser.prefer("light").await;
    }

    /// A page of another site has the visitor's browser send what it likes, and changes nothing.
    async fn other_sites(&self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
        let evil = format!("http://{}/", listener.local_addr().expect("it has an address"));
        let serves = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let page =
                    "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\nConnection: close\r\n\r\nevil";
                let _ = stream.write_all(page.as_bytes()).await;
            }
        });
        self.browser.open(&evil).await;
        self.browser.sees("document.body.innerText === 'evil'").await;
        let attack = |method: &str, path: &str| {
            let url = format!("{}{path}", self.registry.url());
            let options =
                format!("{{method: {method:?}, mode: 'no-cors', body: {method:?} === 'GET' ? undefined : 'x'}}");
            // Whether it was sent or not: once the browser is done with it.
            format!("await fetch({url:?}, {options}).catch(() => {{}});")
        };
        let script = [
            attack("GET", "/v1/agent/check/fail/service:web-1"),
            attack("POST", "/v1/kv/evil"),
            attack("POST", "/v1/kv/evil?_method=PUT"),
            attack("PUT", "/v1/kv/evil").replace("no-cors", "cors"),
            attack("PUT", "/v1/agent/service/deregister/web-1").replace("no-cors", "cors"),
        ];
        self.browser.run(&format!("return (async () => {{ {} }})()", script.concat())).await.expect("it is tried");
        // Nor can it put the UI into a frame, to have its visitor press a button there.
        let frame = format!(
            "const frame = document.createElement('iframe'); frame.src = '{}/ui/'; document.body.append(frame);
             return new Promise((done) => frame.addEventListener('load', () => {{
                 try {{ done(frame.contentDocument !== null); }} catch {{ done(false); }} }}));",
            self.registry.url()
        );
        let _ = self.browser.run(&frame).await.expect("it is tried");
        let entry = self.entry("web", "web-1").await;
        assert!(entry.checks.iter().all(|check| check.status == CheckStatus::Passing), "{entry:?}");
        assert!(self.registry.client.kv_get("evil", None).await.expect("it answers").value.is_none());
        serves.abort();
        self.browser.open(&self.registry.url()).await;
    }

    /// Only what is in view is in the page.
    async fn many(&self) {
        self.go("#/services", "Services").await;
        for n in 0..MANY {
            let id = format!("many-{n:04}");
            let service = ServiceRegistration { name: id, port: 80, ..ServiceRegistration::default() };
            self.registry.client.register_service(&service).await.expect("it is taken");
        }
        self.sees(&format!("Number(one('.chip', 'all').querySelector('.count').innerText) > {MANY}")).await;
        self.sees("all('.row').length > 10 && all('.row').length < 60").await;
        self.run("scrollTo(0, document.body.scrollHeight / 2)").await;
        self.sees("one('.row', 'many-05') && all('.row').length < 60").await;
        self.run("document.querySelector('.row').focus()").await;
        self.browser.press("\u{E010}").await;
        self.sees("document.activeElement.innerText.startsWith('worker') && all('.row').length < 60").await;
        // All are told as changes too, as many as are kept.
        self.go("#/changes", "Changes").await;
        self.sees("all('.log li').length === 201 && one('.log li', '300 older ones')").await;
    }

    /// Nothing is wider than a phone.
    async fn phone(&self) {
        self.browser.resize(390, 844).await;
        for place in [
            "services",
            "service/web",
            "nodes",
            "node/host-1",
            "keys",
            "keys/motd",
            "sessions",
            "events",
            "changes",
            "access",
        ] {
            self.run(&format!("location.hash = '#/{place}'")).await;
            self.sees("document.querySelector('h1') && !document.querySelector('.loading')").await;
            self.sees("document.documentElement.scrollWidth <= 390 && innerWidth === 390").await;
        }
        self.go("#/services", "Services").await;
        self.sees("one('.row', 'web') && all('.row').every((row) => row.getBoundingClientRect().right <= 390)").await;
        self.browser.resize(WIDTH, HEIGHT).await;
    }

    /// For README, where `PICTURES` names a folder.
    async fn picture(&self, name: &str) {
        if let Some(folder) = std::env::var_os("PICTURES") {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
            self.browser.picture(&folder.join(format!("{name}.png"))).await;
        }
    }

    async fn pictures(&self) {
        self.run("document.activeElement.blur()").await;
        self.picture("services").await;
        self.go("#/service/web", "web").await;
        self.sees("one('pre', 'on fire')").await;
        self.picture("service").await;
        self.browser.prefer("dark").await;
        self.go("#/changes", "Changes").await;
        self.sees("one('.log li', 'web')").await;
        self.picture("changes").await;
        self.browser.prefer("light").await;
        self.browser.resize(390, 640).await;
        self.go("#/services", "Services").await;
        self.sees("all('.row').length > 5").await;
        self.picture("phone").await;
        self.browser.resize(WIDTH, HEIGHT).await;
    }
}

/// Who may not is told, and who shows a token may.
async fn tokens(browser: &Browser) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("writers");
    std::fs::write(&file, "a-long-enough-secret\n").expect("it can be written");
    let registry = Registry::beyond_consul(&["--write-token-file", &file.display().to_string()]).await;
    browser.open(&format!("{}/ui/#/keys/guarded", registry.url())).await;
    browser.sees("document.querySelector('main').innerText.includes('It does not exist yet')").await;
    let save =
        "const area = document.querySelector('textarea'); area.value = 'x'; area.dispatchEvent(new Event('input'));
                [...document.querySelectorAll('button')].find((one) => one.innerText === 'Save').click();";
    browser.run(save).await.expect("there is an editor");
    browser.sees("document.querySelector('.problem')?.innerText.includes('a token is needed. “Token” above')").await;
    browser.run("document.getElementById('token').click()").await.expect("there is a button");
    browser.press(&format!("a-long-enough-secret{ENTER}")).await;
    browser.sees("document.querySelector('#token.set') && document.querySelector('textarea')").await;
    browser.sees("document.querySelector('main').innerText.includes('It does not exist yet')").await;
    browser.run(save).await.expect("there is an editor");
    browser.sees("document.querySelector('main').innerText.includes('Index')").await;
    browser.sees("!JSON.stringify(localStorage).includes('secret') && !location.href.includes('secret')").await;
}

/// A registry that is gone is told of, and what it says when it is back is shown.
async fn away(browser: &Browser, mut registry: Registry) {
    browser.open(&registry.url()).await;
    browser.sees("document.querySelector('.row')").await;
    registry.kill();
    browser.sees("document.getElementById('connection').innerText.includes('does not answer')").await;
    registry.start_again().await;
    browser
        .sees("document.getElementById('connection').hidden && document.querySelectorAll('.row').length === 1")
        .await;
}
