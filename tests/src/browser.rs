//! A real browser, Chromium without a window, told what to do by `WebDriver` (<https://www.w3.org/TR/webdriver2/>).

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Client, Method};
use serde_json::{Value, json};

use crate::{
    eventually,
    ports::free_port,
    program::{Launch, Program},
};

/// A browser starts in a second or two; on a busy machine in many.
const START_LIMIT: Duration = Duration::from_secs(90);

/// Until a page shows what is expected of it.
const LIMIT: Duration = Duration::from_secs(30);

/// A browser with one tab. It ends with its driver, when dropped.
pub struct Browser {
    driver: Program,
    client: Client,
    /// Where the session's commands go.
    session: String,
}

impl Browser {
    /// Starts one with a page of this size, in pixels.
    pub async fn start(width: u32, height: u32) -> Self {
        kvstore_client::choose_crypto();
        let client = Client::builder().no_proxy().timeout(START_LIMIT).build().expect("no part of it can fail");
        let port = free_port();
        let driver = Launch::new("chromedriver").args([format!("--port={port}")]).start();
        let mut browser = Self { driver, client, session: format!("http://127.0.0.1:{port}") };
        let size = format!("--window-size={width},{height}");
        // The sandbox wants what root in a container may not have; the only pages seen are ours.
        let args = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", &size];
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": args}}}});
        let started = eventually!("a browser starts", START_LIMIT, async {
            assert!(browser.driver.is_running(), "chromedriver ended:\n{}", browser.driver.log());
            browser.command(Method::POST, "/session", &wanted).await
        });
        let id = started["sessionId"].as_str().expect("a session has an id");
        browser.session = format!("http://127.0.0.1:{port}/session/{id}");
        browser
    }

    async fn command(&self, method: Method, path: &str, body: &Value) -> Result<Value, String> {
        let request = self.client.request(method.clone(), format!("{}{path}", self.session));
        let request = if method == Method::GET { request } else { request.body(body.to_string()) };
        let answer = request.send().await.map_err(|e| e.to_string())?;
        let text = answer.text().await.map_err(|e| e.to_string())?;
        let mut answer: Value = serde_json::from_str(&text).map_err(|e| format!("{e}: {text}"))?;
        let value = answer["value"].take();
        if value["error"].is_null() { Ok(value) } else { Err(value["message"].to_string()) }
    }

    /// Opens a page.
    pub async fn open(&self, url: &str) {
        self.command(Method::POST, "/url", &json!({"url": url})).await.expect("the page opens");
    }

    /// What a function body, run in the page, returns.
    ///
    /// # Errors
    /// What it throws.
    pub async fn run(&self, script: &str) -> Result<Value, String> {
        self.command(Method::POST, "/execute/sync", &json!({"script": script, "args": []})).await
    }

    /// Waits until an expression holds in the page.
    pub async fn sees(&self, expression: &str) {
        eventually!(format!("the page has {expression}"), LIMIT, async {
            match self.run(&format!("return Boolean({expression})")).await? {
                Value::Bool(true) => Ok(()),
                _ => Err(self.run("return document.body.innerText").await?.to_string()),
            }
        });
    }

    /// Presses keys of the keyboard, one after the other; those without a character of their own as `WebDriver` names
    /// them, `\u{E007}` for Enter.
    pub async fn press(&self, keys: &str) {
        let each = keys.chars().flat_map(|key| ["keyDown", "keyUp"].map(|what| json!({"type": what, "value": key})));
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": each.collect::<Vec<_>>()}]});
        self.command(Method::POST, "/actions", &actions).await.expect("keys can be pressed");
    }

    /// Shows pages as a screen of this size does, that of a phone too.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size).await;
    }

    /// Shows pages as to somebody who wants everything dark, or light.
    pub async fn prefer(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &features).await;
    }

    async fn devtools(&self, command: &str, params: &Value) {
        let body = json!({"cmd": command, "params": params});
        self.command(Method::POST, "/goog/cdp/execute", &body).await.expect("Chromium does it");
    }

    /// Writes what the page looks like into a file, as PNG.
    pub async fn picture(&self, file: &Path) {
        let picture = self.command(Method::GET, "/screenshot", &Value::Null).await.expect("a picture is made");
        let png = STANDARD.decode(picture.as_str().unwrap_or_default()).expect("it is base64");
        std::fs::write(file, png).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}
