//! What a prepared query says, and which definitions are none.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{names::QueryId, row::Meta};

/// The only kind of template: it stands for every name that begins with its own.
pub const NAME_PREFIX_MATCH: &str = "name_prefix_match";

/// What Consul shows in place of a token that the reader may not see; never a token.
pub const HIDDEN_TOKEN: &str = "<hidden>";

/// Limits of a metadata filter, as of metadata.
const MAX_META_PAIRS: usize = 64;
const MAX_META_KEY_BYTES: usize = 128;
const MAX_META_VALUE_BYTES: usize = 512;

/// A question that is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreparedQuery {
    /// Chosen when it was made.
    pub id: QueryId,
    /// What it is asked by, in any case; empty: only by its id, or for a template, any name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// It goes when this session ends; empty: it stays.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// Kept and echoed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// Whether it stands for many names.
    #[serde(default, skip_serializing_if = "TemplateOptions::is_default")]
    pub template: TemplateOptions,
    /// What is asked.
    pub service: ServiceQuery,
    /// How long resolvers may remember an answer over DNS; none: as the service says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_ttl: Option<QueryTtl>,
}

/// Without the token, which is a secret.
impl fmt::Debug for PreparedQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("PreparedQuery");
        shown.field("id", &self.id).field("name", &self.name).field("session", &self.session);
        shown.field("template", &self.template).field("service", &self.service).field("dns_ttl", &self.dns_ttl);
        shown.finish_non_exhaustive()
    }
}

/// How a query stands for many names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateOptions {
    /// [`NAME_PREFIX_MATCH`]; empty: it is no template.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Asked of the name; its groups are `${match(1)}` and so on. Empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub regexp: String,
    /// Leave out tags of which nothing is left.
    #[serde(default, skip_serializing_if = "is_false")]
    pub remove_empty_tags: bool,
}

impl TemplateOptions {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Which instances a query finds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceQuery {
    /// Of which service.
    pub service: String,
    /// Where to look if nobody is here. We have one datacenter: it is kept and echoed.
    #[serde(default, skip_serializing_if = "Failover::is_default")]
    pub failover: Failover,
    /// Leave out instances with a warning too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub only_passing: bool,
    /// Checks that count for nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_check_ids: Option<Vec<String>>,
    /// The host whose neighbours come first, `_agent` or `_ip`; empty: by chance.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub near: String,
    /// Tags they must have, or with `!` in front, must not have; in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Metadata their hosts must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_meta: Option<Meta>,
    /// Metadata they must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_meta: Option<Meta>,
    /// Only those that are in a mesh. There is none here, so nobody.
    #[serde(default, skip_serializing_if = "is_false")]
    pub connect: bool,
    /// Those of another cluster. There is none here, so nobody.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer: String,
}

/// Where to look if nobody is here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failover {
    /// In so many of the nearest datacenters.
    #[serde(default)]
    pub nearest_n: i64,
    /// Then in these.
    #[serde(default)]
    pub datacenters: Option<Vec<String>>,
    /// Or in these places, in this order.
    #[serde(default)]
    pub targets: Option<Vec<FailoverTarget>>,
}

impl Failover {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A place to look in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailoverTarget {
    /// Another cluster.
    #[serde(default)]
    pub peer: String,
    /// Another datacenter.
    #[serde(default)]
    pub datacenter: String,
}

/// A time to live, and how it was spelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryTtl {
    /// As given; echoed.
    pub spelled: String,
    /// What that is, rounded down.
    pub seconds: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(b: &bool) -> bool {
    !*b
}

/// Why a definition is none. Clients know the first three texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// No name, and nothing that would end it.
    #[error("Must be bound to a session")]
    Unbound,
    /// What was shown instead of a token was put back.
    #[error("Bad Token '{HIDDEN_TOKEN}', it looks like a query definition with a redacted token was submitted")]
    HiddenToken,
    /// It asks for nothing.
    #[error("Must provide a Service name to query")]
    NoService,
    /// Below 0.
    #[error("Bad NearestN '{0}', must be >= 0")]
    NearestN(i64),
    /// Two ways to say where.
    #[error("Targets cannot be populated with NearestN or Datacenters")]
    Failover,
    /// A filter that no node can have.
    #[error("Invalid node metadata filters: {0}")]
    NodeMeta(String),
}

impl PreparedQuery {
    /// Whether it stands for many names.
    pub fn is_template(&self) -> bool {
        !self.template.kind.is_empty()
    }

    /// Checks what can be told from the definition alone; templates are checked by [`super::Template::compile`].
    ///
    /// # Errors
    /// [`InvalidQuery`].
    pub fn check(&self) -> Result<(), InvalidQuery> {
        if self.name.is_empty() && self.session.is_empty() && !self.is_template() {
            return Err(InvalidQuery::Unbound);
        }
        if self.token == HIDDEN_TOKEN {
            return Err(InvalidQuery::HiddenToken);
        }
        if self.service.service.is_empty() {
            return Err(InvalidQuery::NoService);
        }
        let failover = &self.service.failover;
        if failover.nearest_n < 0 {
            return Err(InvalidQuery::NearestN(failover.nearest_n));
        }
        let has_places = failover.datacenters.as_ref().is_some_and(|list| !list.is_empty());
        let has_targets = failover.targets.as_ref().is_some_and(|list| !list.is_empty());
        if has_targets && (has_places || failover.nearest_n > 0) {
            return Err(InvalidQuery::Failover);
        }
        self.service.node_meta.as_ref().map_or(Ok(()), check_meta).map_err(InvalidQuery::NodeMeta)
    }
}

fn check_meta(meta: &Meta) -> Result<(), String> {
    if meta.len() > MAX_META_PAIRS {
        return Err(format!("Node metadata cannot contain more than {MAX_META_PAIRS} key/value pairs"));
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    for (key, value) in meta {
        let why = if key.is_empty() {
            "Key cannot be blank".to_owned()
        } else if !key.bytes().all(is_plain) {
            "Key contains invalid characters".to_owned()
        } else if key.len() > MAX_META_KEY_BYTES {
            format!("Key is too long (limit: {MAX_META_KEY_BYTES} characters)")
        } else if value.len() > MAX_META_VALUE_BYTES {
            format!("Value is too long (limit: {MAX_META_VALUE_BYTES} characters)")
        } else {
            continue;
        };
        return Err(format!("Couldn't load metadata pair ({key:?}, {value:?}): {why}"));
    }
    Ok(())
}

impl ServiceQuery {
    /// The same with `change` made to each of its texts, always in the same order; it learns the name of the field.
    ///
    /// # Errors
    /// The first of `change`.
    pub(super) fn try_map<E>(
        &self,
        mut change: impl FnMut(&'static str, &str) -> Result<String, E>,
    ) -> Result<Self, E> {
        let mut list = |field, texts: &Option<Vec<String>>| {
            let changed = |texts: &Vec<String>| texts.iter().map(|text| change(field, text)).collect::<Result<_, E>>();
            texts.as_ref().map(changed).transpose()
        };
        let ignore_check_ids = list("IgnoreCheckIDs", &self.ignore_check_ids)?;
        let tags = list("Tags", &self.tags)?;
        let datacenters = list("Failover.Datacenters", &self.failover.datacenters)?;
        let mut pairs = |field, meta: &Option<Meta>| {
            let changed = |(key, value): (&String, &String)| Ok((key.clone(), change(field, value)?));
            meta.as_ref().map(|meta| meta.iter().map(changed).collect::<Result<Meta, E>>()).transpose()
        };
        let (node_meta, service_meta) =
            (pairs("NodeMeta", &self.node_meta)?, pairs("ServiceMeta", &self.service_meta)?);
        let mut target = |target: &FailoverTarget| {
            let peer = change("Failover.Targets.Peer", &target.peer)?;
            Ok(FailoverTarget { peer, datacenter: change("Failover.Targets.Datacenter", &target.datacenter)? })
        };
        let targets = self.failover.targets.as_ref();
        let targets = targets.map(|list| list.iter().map(&mut target).collect::<Result<_, E>>()).transpose()?;
        Ok(Self {
            service: change("Service", &self.service)?,
            failover: Failover { nearest_n: self.failover.nearest_n, datacenters, targets },
            only_passing: self.only_passing,
            ignore_check_ids,
            near: change("Near", &self.near)?,
            tags,
            node_meta,
            service_meta,
            connect: self.connect,
            peer: change("Peer", &self.peer)?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    /// A UUID made of a number.
    pub(crate) fn id(number: u32) -> QueryId {
        QueryId::new(&format!("{number:08x}-0000-4000-8000-000000000000")).unwrap()
    }

    /// The query number `number`, named `name`, with the fields of `service` for its `service`.
    #[allow(clippy::needless_pass_by_value)] // as json! makes it
    pub(crate) fn query(number: u32, name: &str, service: serde_json::Value) -> PreparedQuery {
        serde_json::from_value(json!({"id": id(number), "name": name, "service": service})).unwrap()
    }

    #[test]
    fn ids_are_uuids_in_any_case() {
        let text = "108728f0-BC9F-f0a0-f889-9c0b90ff0e7e";
        assert_eq!(QueryId::new(text).unwrap().as_str(), text.to_lowercase());
        for bad in
            ["", "x", "108728f0bc9ff0a0f8899c0b90ff0e7e", "108728f0-bc9f-f0a0-f889-9c0b90ff0e7g", &"-".repeat(36)]
        {
            assert_eq!(QueryId::new(bad), None, "{bad}");
        }
        assert_eq!(QueryId::new(&"\u{e4}".repeat(18)), None);
        assert!(serde_json::from_value::<QueryId>(json!(text)).is_err(), "a row has its own spelling");
    }

    #[test]
    fn definitions_are_checked() {
        let with = |change: &dyn Fn(&mut PreparedQuery)| {
            let mut query = query(1, "q", json!({"service": "web"}));
            change(&mut query);
            query.check().map_err(|e| e.to_string())
        };
        assert_eq!(with(&|_| ()), Ok(()));
        assert_eq!(with(&|q| (q.name, q.session) = (String::new(), "s".into())), Ok(()));
        assert_eq!(with(&|q| (q.name, q.template.kind) = (String::new(), "x".into())), Ok(()));
        assert_eq!(with(&|q| q.service.failover.datacenters = Some(vec!["dc9".into()])), Ok(()));
        assert_eq!(with(&|q| q.service.node_meta = Some(Meta::from([("a_B-1".into(), String::new())]))), Ok(()));
        let says = |change: &dyn Fn(&mut PreparedQuery), why: &str| {
            let said = with(change).unwrap_err();
            assert!(said.starts_with(why), "{said}");
        };
        says(&|q| q.name.clear(), "Must be bound to a session");
        says(&|q| q.token = "<hidden>".into(), "Bad Token '<hidden>'");
        says(&|q| q.service.service.clear(), "Must provide a Service name to query");
        says(&|q| q.service.failover.nearest_n = -1, "Bad NearestN '-1'");
        let target = FailoverTarget { datacenter: "dc2".into(), ..FailoverTarget::default() };
        let to = |n, target: &FailoverTarget| Failover {
            nearest_n: n,
            datacenters: None,
            targets: Some(vec![target.clone()]),
        };
        assert_eq!(with(&|q| q.service.failover = to(0, &target)), Ok(()));
        says(&|q| q.service.failover = to(1, &target), "Targets cannot be populated");
        for (key, value) in [("", ""), ("a b", ""), (&"k".repeat(129), ""), ("k", &"v".repeat(513))] {
            let meta = Meta::from([(key.to_owned(), value.to_owned())]);
            says(&|q| q.service.node_meta = Some(meta.clone()), "Invalid node metadata filters");
        }
        let many: Meta = (0..65).map(|i| (format!("k{i}"), String::new())).collect();
        says(&|q| q.service.node_meta = Some(many.clone()), "Invalid node metadata filters");
    }

    #[test]
    fn a_token_is_not_printed() {
        let query = PreparedQuery { token: "secret".into(), ..query(1, "q", json!({"service": "web"})) };
        assert!(!format!("{query:?}").contains("secret"));
    }

    #[test]
    fn every_text_is_visited_once_and_stays_in_its_place() {
        let service: ServiceQuery = serde_json::from_value(json!({
            "service": "a", "near": "b", "peer": "c", "tags": ["d", "e"], "ignore_check_ids": ["f"],
            "node_meta": {"k": "g"}, "service_meta": {"k": "h"},
            "failover": {"nearest_n": 2, "datacenters": ["i"], "targets": [{"peer": "j", "datacenter": "k"}]},
            "only_passing": true, "connect": true,
        }))
        .unwrap();
        let mut seen = Vec::new();
        let same = service.try_map(|_, text| {
            seen.push(text.to_owned());
            Ok::<_, ()>(text.into())
        });
        assert_eq!(same.as_ref(), Ok(&service));
        seen.sort();
        assert_eq!(seen.concat(), "abcdefghijk");
        assert_eq!(service.try_map(|field, _| Err::<String, _>(field)), Err("IgnoreCheckIDs"));
    }
}
