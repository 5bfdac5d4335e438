//! What a browser shows of the registry, and what it can change there.

mod everywhere;
mod policies;
mod views;

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
    types::{CheckRegistration, CheckStatus, ServiceEntry, ServiceRegistration},
};
use reqwest::Method;
use serde_json::{Value, json};

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
    page.note_troubles().await;
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
    page.was_well().await;
    page.themes().await;
    page.other_sites().await;
    page.hidden().await;
    page.many().await;
    page.phone().await;
    let Page { registry, browser } = page;
    everywhere::tokens(&browser).await;
    let browser = policies::story(browser).await;
    everywhere::away(&browser, registry).await;
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

    /// Notes whatever goes wrong from now on; [`Page::was_well`] shows it.
    async fn note_troubles(&self) {
        self.run(
            "const told = document.getElementById('connection');
             window.troubles = [];
             new MutationObserver(() => told.textContent && window.troubles.push(told.textContent))
                 .observe(told, { childList: true });",
        )
        .await;
    }

    /// No request of the page was refused.
    async fn was_well(&self) {
        assert_eq!(self.run("return window.troubles").await, json!([]));
    }

    /// What the modules decide that show nothing.
    async fn pure(&self) {
        self.sees("location.pathname === '/ui/' && location.hash === '#/services'").await;
        let cases = self.run(&format!("return (async () => {{ {} }})()", include_str!("web_ui/pure.js"))).await;
        assert!(cases.as_u64() > Some(30), "{cases} cases");
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
