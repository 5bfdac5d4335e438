//! What a browser shows of the registry, and what it can change there.

use std::{path::Path, time::Duration};

use flotilla_tests::{browser::Browser, needs::Need, registry::Registry, web};
use kvstore_client::{
    KvPut,
    types::{CheckRegistration, CheckUpdate, ServiceRegistration},
};
use reqwest::Method;

/// A name that is a script to whoever does not escape it.
const SCRIPT: &str = "<img src=x onerror=document.title='run'>";

/// More services than a page can hold.
const MANY: usize = 1000;

pub(crate) fn needs() -> Vec<Need> {
    ["chromium", "chromedriver"].map(Need::Program).into()
}

fn instance(id: &str, name: &str, version: &str) -> ServiceRegistration {
    let check = CheckRegistration { status: Some("passing".into()), ..CheckRegistration::ttl(Duration::from_hours(1)) };
    ServiceRegistration {
        id: id.into(),
        name: name.into(),
        port: 80,
        tags: vec!["blue".into()],
        meta: [("version".to_owned(), version.to_owned())].into(),
        check: Some(check),
        ..ServiceRegistration::default()
    }
}

pub(crate) async fn story() {
    let registry = Registry::beyond_consul(&[]).await;
    let client = &registry.client;
    for (id, version) in [("web-1", "v1"), ("web-2", "v2")] {
        client.register_service(&instance(id, "web", version)).await.expect("it is taken");
    }
    let strange = ServiceRegistration { tags: vec![SCRIPT.into()], ..instance("strange", SCRIPT, SCRIPT) };
    client.register_service(&strange).await.expect("it is taken");
    client.kv_put("release/web", "v2", KvPut::default()).await.expect("it is taken");
    client.kv_put("a/b", "one", KvPut { flags: 7, ..KvPut::default() }).await.expect("it is taken");

    let browser = Browser::start(1000, 700).await;
    browser.open(&registry.url()).await;
    services(&browser, &registry).await;
    picture(&browser, "services").await;
    one_service(&browser, &registry).await;
    picture(&browser, "service").await;
    keys(&browser, &registry).await;
    sessions(&browser, &registry).await;
    many(&browser, &registry).await;
}

/// For README, where `PICTURES` names a folder.
async fn picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("PICTURES") {
        browser.picture(&Path::new(&folder).join(format!("{name}.png"))).await;
    }
}

async fn services(browser: &Browser, registry: &Registry) {
    let row =
        |name: &str| format!("[...document.querySelectorAll('.row')].find((row) => row.innerText.includes({name:?}))");
    browser.sees("location.pathname === '/ui/' && location.hash === '#/services'").await;
    browser.sees(&format!("{}?.querySelector('.passing')", row("web"))).await;
    // As it is, and nothing of it was carried out.
    browser.sees(&format!("{} && document.title !== 'run' && !document.querySelector('main img')", row(SCRIPT))).await;
    // It changes by itself.
    let failed = CheckUpdate { status: "critical".into(), output: "on fire".into() };
    registry.client.update_check("service:web-1", &failed).await.expect("it is taken");
    browser.sees(&format!("{}?.querySelector('.critical')", row("web"))).await;
    let search = "const search = document.querySelector('input[type=search]'); search.value = 'no such'; \
                  search.dispatchEvent(new Event('input'));";
    browser.run(search).await.expect("there is a search");
    browser.sees("document.querySelectorAll('.row').length === 0").await;
    browser.run(&search.replace("no such", "")).await.expect("there is a search");
    browser.sees("document.querySelectorAll('.row').length === 3").await;
}

async fn one_service(browser: &Browser, registry: &Registry) {
    browser.run("location.hash = '#/service/web'").await.expect("it goes there");
    browser.sees("document.querySelector('.live')?.innerText === 'v2'").await;
    browser.sees("[...document.querySelectorAll('pre')].some((pre) => pre.innerText === 'on fire')").await;
    let maintain = "[...document.querySelectorAll('.card')].find((card) => card.innerText.includes('web-2'))\
                    .querySelector('button').click()";
    browser.run(maintain).await.expect("there is a button");
    browser.sees("document.querySelectorAll('h3 .maintenance').length === 1").await;
    let checks = registry.client.health_service("web", false, None).await.expect("it answers").value;
    let maintained =
        checks.iter().filter(|entry| entry.checks.iter().any(|check| check.check_id == "_service_maintenance:web-2"));
    assert_eq!(maintained.count(), 1);
}

async fn keys(browser: &Browser, registry: &Registry) {
    let value = async || {
        let entry = registry.client.kv_get("a/b", None).await.expect("it answers").value.expect("it is there");
        (String::from_utf8(entry.value.to_vec()).expect("it is text"), entry.flags)
    };
    let write = |text: &str| {
        format!(
            "const area = document.querySelector('textarea'); area.value = {text:?}; area.dispatchEvent(new Event('input'));"
        )
    };
    let save = "[...document.querySelectorAll('button')].find((button) => button.innerText === 'Save').click();";
    browser.run("location.hash = '#/keys/a/'").await.expect("it goes there");
    browser.sees("[...document.querySelectorAll('.row')].some((row) => row.innerText === 'b')").await;
    browser.run("document.querySelector('.row').click()").await.expect("there is a row");
    browser.sees("document.querySelector('textarea')?.value === 'one'").await;
    browser.run(&format!("{}{save}", write("two"))).await.expect("there is an editor");
    browser.sees("document.querySelector('main').innerText.includes('Index') && document.querySelector('textarea').value === 'two'").await;
    let saved = async { while value().await.0 != "two" {} };
    tokio::time::timeout(Duration::from_secs(20), saved).await.expect("it is saved");
    assert_eq!(value().await, ("two".to_owned(), 7), "its flags stay");

    // Somebody else was faster: nothing of theirs is lost.
    browser.run(&write("mine")).await.expect("there is an editor");
    registry.client.kv_put("a/b", "theirs", KvPut::default()).await.expect("it is taken");
    browser.sees("document.querySelector('.problem')?.innerText.includes('Somebody else')").await;
    browser.run(save).await.expect("there is a button");
    browser.sees("document.querySelector('.problem')?.innerText.includes('Refused')").await;
    assert_eq!(value().await.0, "theirs");
}

async fn sessions(browser: &Browser, registry: &Registry) {
    let url = format!("{}/v1/session/create", registry.url());
    let answer = web::send(Method::PUT, &url, "{\"Name\": \"holder\"}".into());
    assert_eq!(answer.await.expect("it answers").status, 200);
    browser.run("location.hash = '#/sessions'").await.expect("it goes there");
    browser.sees("document.querySelector('h3')?.innerText === 'holder'").await;
    browser.run("setTimeout(() => document.querySelector('.danger').click())").await.expect("there is a button");
    browser.accept().await;
    browser.sees("document.querySelector('main').innerText.includes('no session')").await;
}

/// Only what is in view is in the page.
async fn many(browser: &Browser, registry: &Registry) {
    for n in 0..MANY {
        let id = format!("many-{n:04}");
        registry.client.register_service(&instance(&id, &id, "v1")).await.expect("it is taken");
    }
    browser.run("location.hash = '#/services'").await.expect("it goes there");
    browser.sees(&format!("document.querySelector('.bar .quiet')?.innerText === '{}'", MANY + 3)).await;
    browser
        .sees("document.querySelectorAll('.row').length > 10 && document.querySelectorAll('.row').length < 60")
        .await;
    browser.run("scrollTo(0, document.body.scrollHeight)").await.expect("it scrolls");
    browser.sees("[...document.querySelectorAll('.row')].some((row) => row.innerText.includes('many-0999'))").await;
}
