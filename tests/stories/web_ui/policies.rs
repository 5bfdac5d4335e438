//! Tokens and policies, in a registry where who shows no token may do nothing.

use flotilla_tests::{browser::Browser, registry::Registry, web};
use reqwest::Method;
use serde_json::{Value, json};

use super::{ENTER, Page};
use crate::clients::ACL;

/// What is done to them, and who may not is told; gives the browser back.
pub(super) async fn story(browser: Browser) -> Browser {
    let page = Page { registry: Registry::configured(ACL).await, browser };
    page.browser.open(&format!("{}/ui/#/access", page.registry.url())).await;
    page.is_refused().await;
    let first = page.put("/v1/acl/bootstrap", json!({})).await;
    let first: Value = serde_json::from_str(&first.body).expect("it is JSON");
    let first = first["SecretID"].as_str().expect("it is told").to_owned();
    page.show_token(&first).await;
    page.sees("one('section', 'Your token')?.innerText.includes('Bootstrap Token')").await;
    page.sees("one('.card', 'Anonymous Token') && !button('Delete', one('.card', 'Anonymous Token'))").await;
    page.makes_a_policy().await;
    let secret = page.makes_a_token().await;

    page.show_token(&secret).await;
    page.sees("one('section', 'Your token')?.innerText.includes('for the pipeline')").await;
    page.is_refused().await;
    assert_eq!(page.reads_a_key(&secret).await.status, 404, "it may, and there is none");

    page.show_token(&first).await;
    page.deletes_both(&secret).await;
    page.browser
}

impl Page {
    /// Types a token where the UI asks for it; the page is loaded anew then.
    async fn show_token(&self, secret: &str) {
        self.run("document.getElementById('token').click(); document.activeElement.value = ''; window.isOld = true")
            .await;
        self.browser.press(&format!("{secret}{ENTER}")).await;
        self.sees("!window.isOld && document.querySelector('#token.set')").await;
    }

    /// What its rules let a token read.
    async fn reads_a_key(&self, secret: &str) -> web::Answer {
        let url = format!("{}/v1/kv/app/none?token={secret}", self.registry.url());
        web::send(Method::GET, &url, String::new()).await.expect("it answers")
    }

    /// Who may not see them is told so, and offered nothing.
    async fn is_refused(&self) {
        self.sees("all('[role=alert]').filter((told) => told.innerText.includes('Permission denied')).length === 2")
            .await;
        self.sees("one('[role=alert]', '“Token” above takes one') && !button('New token') && !button('New policy')")
            .await;
    }

    async fn makes_a_policy(&self) {
        self.click("New policy", "main").await;
        self.agree("readers").await;
        self.sees("one('summary', 'readers')").await;
        self.run("one('summary', 'readers').click()").await;
        self.sees("all('textarea').length === 1").await;
        for (rules, told) in [("key {", "Invalid"), (r#"key_prefix "app/" { policy = "read" }"#, "readers was saved")] {
            self.run(&format!("all('textarea')[0].value = {rules:?}")).await;
            self.click("Save", "one('details', 'readers')").await;
            self.sees(&format!("one('.told', {told:?})")).await;
        }
        // What comes with the registry stays as it is.
        self.run("one('summary', 'readers').click(); one('summary', 'global-management').click()").await;
        self.sees("all('textarea').length === 1 && all('textarea')[0].readOnly").await;
    }

    /// One that has the policy; its secret.
    async fn makes_a_token(&self) -> String {
        self.click("New token", "main").await;
        self.sees("question()").await;
        self.browser.press(&format!("for the pipeline{ENTER}")).await;
        self.sees("one('.check', 'readers')").await;
        self.run(
            "one('.check', 'readers').querySelector('input').click(); question().querySelector('.primary').click()",
        )
        .await;
        self.sees("one('pre.secret', '-')").await;
        let secret = self.run("return one('pre.secret', '-').innerText").await;
        let secret = secret.as_str().expect("it is text").to_owned();
        self.run("question().querySelector('.primary').click()").await;
        self.sees("one('.card', 'for the pipeline')?.innerText.includes('readers')").await;
        // It is shown once, and is nowhere else.
        self.sees(&format!("!document.documentElement.innerText.includes({secret:?})")).await;
        secret
    }

    /// The token and the policy.
    async fn deletes_both(&self, secret: &str) {
        self.click("Delete", "one('.card', 'for the pipeline')").await;
        self.agree("").await;
        self.sees("one('.card', 'Anonymous Token') && !one('.card', 'for the pipeline')").await;
        let refused = self.reads_a_key(secret).await;
        assert_eq!((refused.status, refused.body.trim()), (403, "ACL not found"));
        self.sees("one('summary', 'readers')").await;
        self.run("one('summary', 'readers').click()").await;
        self.click("Delete", "one('details', 'readers')").await;
        self.agree("").await;
        self.sees("one('summary', 'global-management') && !one('summary', 'readers')").await;
    }
}
