//! Tags of an instance: its own, then those that `--tags` gives to every one, then its protocol. Pure.

use std::{collections::BTreeMap, fmt, net::Ipv4Addr, net::Ipv6Addr, sync::Arc};

use kvstore_client::with_causes;
use serde::Serialize;
use tera::{Context, Tera};

use super::usable;
use crate::{
    container::{Container, Port, Protocol},
    variables::{Variables, list},
};

/// Templates of tags, over what is known of a container. Each gives any number of tags, split at commas.
#[derive(Clone, Default)]
pub struct TagTemplates {
    texts: Vec<String>,
    /// Each under its text.
    parsed: Arc<Tera>,
}

impl PartialEq for TagTemplates {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for TagTemplates {}

impl fmt::Debug for TagTemplates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts.fmt(f)
    }
}

/// What a template sees as `container`.
#[derive(Serialize)]
struct Facts<'a> {
    id: &'a str,
    name: &'a str,
    image: &'a str,
    hostname: Option<&'a str>,
    env: BTreeMap<&'a str, &'a str>,
    labels: &'a BTreeMap<String, String>,
    networks: BTreeMap<&'a str, Addresses>,
}

#[derive(Serialize)]
struct Addresses {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

impl<'a> Facts<'a> {
    fn of(container: &'a Container) -> Self {
        let network = |(name, at): (&'a String, &crate::container::Endpoint)| {
            (name.as_str(), Addresses { ipv4: at.ipv4, ipv6: at.ipv6 })
        };
        Self {
            id: &container.id,
            name: &container.name,
            image: &container.image,
            hostname: container.hostname.as_deref(),
            env: container.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            labels: &container.labels,
            networks: container.networks.iter().map(network).collect(),
        }
    }
}

impl TagTemplates {
    /// Parses all of them.
    ///
    /// # Errors
    /// What is wrong with the first that is no template.
    pub fn new(texts: Vec<String>) -> Result<Self, String> {
        let mut parsed = Tera::new();
        for text in &texts {
            parsed.add_raw_template(text, text).map_err(|error| format!("{text:?}: {}", with_causes(&error)))?;
        }
        Ok(Self { texts, parsed: Arc::new(parsed) })
    }

    fn render(&self, container: &Container, warnings: &mut Vec<String>) -> Vec<String> {
        if self.texts.is_empty() {
            return Vec::new();
        }
        let mut context = Context::new();
        context.insert("container", &Facts::of(container));
        let one = |text: &String| match self.parsed.render(text, &context) {
            Ok(tags) => list(&tags),
            Err(error) => {
                warnings.push(format!("tag {text:?} is left out: {}", with_causes(&error)));
                Vec::new()
            }
        };
        self.texts.iter().flat_map(one).collect()
    }
}

pub(super) fn tags(
    container: &Container,
    variables: &Variables<'_>,
    templates: &TagTemplates,
    port: Port,
    warnings: &mut Vec<String>,
) -> Vec<String> {
    let mut tags = list(variables.get("tags").unwrap_or_default());
    tags.extend(templates.render(container, warnings));
    if port.protocol != Protocol::Tcp {
        tags.push(port.protocol.as_str().into());
    }
    tags.retain(|tag| match usable("tag", tag) {
        Ok(()) => true,
        Err(why) => {
            warnings.push(format!("a tag is left out: {why}"));
            false
        }
    });
    tags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::tests::container;
    use serde_json::json;

    fn render(texts: &[&str]) -> (Vec<String>, Vec<String>) {
        let templates = TagTemplates::new(texts.iter().map(|text| (*text).to_owned()).collect()).unwrap();
        let container = container(&json!({"Config": {"Hostname": "db", "Env": ["SERVICE_REGION=eu"],
            "Labels": {"com.example/team": "blue"}}}));
        let mut warnings = Vec::new();
        (templates.render(&container, &mut warnings), warnings)
    }

    #[test]
    fn templates_see_the_container() {
        for (text, tags) in [
            ("plain", &["plain"][..]),
            ("a,b", &["a", "b"]),
            ("host-{{ container.hostname | upper }}", &["host-DB"]),
            ("{{ container.env.SERVICE_REGION }}", &["eu"]),
            ("{{ container.labels['com.example/team'] }}", &["blue"]),
            ("{{ container.networks.bridge.ipv4 }}", &["172.17.0.2"]),
            ("{{ container.image }},{{ container.name }}", &["acme/hello:1", "web"]),
            ("{% if container.labels.nosuch is defined %}x{% endif %}", &[]),
        ] {
            assert_eq!(render(&[text]), (tags.iter().map(|tag| (*tag).to_owned()).collect(), vec![]), "{text}");
        }
    }

    #[test]
    fn a_template_that_fails_costs_its_own_tags_only() {
        let (tags, warnings) = render(&["{{ container.labels.nosuch }}", "good"]);
        assert_eq!(tags, ["good"]);
        assert!(warnings.len() == 1 && warnings[0].contains("container.labels.nosuch"), "{warnings:?}");
        let error = TagTemplates::new(vec!["{{ open".into()]).unwrap_err();
        assert!(error.contains("{{ open"), "{error}");
    }
}
