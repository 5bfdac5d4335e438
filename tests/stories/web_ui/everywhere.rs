//! What holds in all views: nobody else's text or page does anything, and who may not, does not look, has a phone, many
//! services, or a registry that is gone, is served too.

use flotilla_tests::{browser::Browser, registry::Registry};
use kvstore_client::{
    KvPut,
    types::{CheckStatus, CheckUpdate, ServiceRegistration},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{ENTER, HEIGHT, Page, WIDTH};

/// A name that is a script to whoever does not escape it.
const SCRIPT: &str = "<script>document.title='run'</script><img src=x onerror=document.title='run'>";

/// More services than a page can hold.
const MANY: usize = 1000;

impl Page {
    /// What is shown is what was registered, and nothing of it is carried out; nor is what somebody smuggles in.
    pub(super) async fn hostile_names(&self) {
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

    /// Light or dark as the whole desktop is, unless somebody wants it otherwise here.
    pub(super) async fn themes(&self) {
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
    pub(super) async fn other_sites(&self) {
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
    pub(super) async fn many(&self) {
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
    pub(super) async fn phone(&self) {
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

    /// Who does not look asks for nothing, and sees the newest when looking again.
    pub(super) async fn hidden(&self) {
        self.go("#/services", "Services").await;
        let look = async |is_hidden: bool| {
            self.run(&format!(
                "Object.defineProperty(document, 'hidden', {{value: {is_hidden}, configurable: true}});
                 document.dispatchEvent(new Event('visibilitychange'));"
            ))
            .await;
        };
        // Those that wait are ended, and asked anew.
        self.run(
            "window.waiting = 0;
             const real = window.fetch;
             window.fetch = (...all) => { window.waiting += 1; return real(...all).finally(() => (window.waiting -= 1)); };",
        )
        .await;
        look(true).await;
        look(false).await;
        self.sees("window.waiting === 3").await;
        look(true).await;
        self.sees("window.waiting === 0").await;
        self.far(1, "meanwhile", "v1", "passing", "").await;
        look(false).await;
        self.sees("one('.row', 'meanwhile') && window.waiting === 3").await;
    }
}

/// Who may not is told, and who shows a token may.
pub(super) async fn tokens(browser: &Browser) {
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
    browser.sees("document.querySelector('.problem')?.innerText.includes('“Token” above takes one')").await;
    browser.run("document.getElementById('token').click()").await.expect("there is a button");
    browser.press(&format!("a-long-enough-secret{ENTER}")).await;
    browser.sees("document.querySelector('#token.set') && document.querySelector('textarea')").await;
    browser.sees("document.querySelector('main').innerText.includes('It does not exist yet')").await;
    browser.run(save).await.expect("there is an editor");
    browser.sees("document.querySelector('main').innerText.includes('Index')").await;
    browser.sees("!JSON.stringify(localStorage).includes('secret') && !location.href.includes('secret')").await;
}

/// A registry that is gone is told of, and what it says when it is back is shown.
pub(super) async fn away(browser: &Browser, mut registry: Registry) {
    browser.open(&registry.url()).await;
    browser.sees("document.querySelector('.row')").await;
    registry.kill();
    browser.sees("document.getElementById('connection').innerText.includes('does not answer')").await;
    registry.start_again().await;
    browser
        .sees("document.getElementById('connection').hidden && document.querySelectorAll('.row').length === 1")
        .await;
}
