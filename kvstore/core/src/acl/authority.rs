//! What the holder of a token may do: the rules of all its policies as one.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, LazyLock},
};

use super::{
    DefaultPolicy, Denied, Level, Resource, Rules,
    names::{ByName, Names},
    rules::Scope,
};

/// Merged rules, and what holds where there is none. A clone is O(1); a comparison of those of different rules too, so
/// that it can be the key of what is kept for all whose rules are the same.
#[derive(Clone, Debug)]
pub struct Authority {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    hash: u64,
    reads_everything: bool,
    grants: Grants,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Grants {
    /// By [`Resource::NAMED`].
    names: [Names; 7],
    /// By [`Resource::PLAIN`].
    plain: [Option<Level>; 5],
    default: Level,
    /// Of tokens and policies, where no rule says anything.
    acl_default: Level,
}

impl PartialEq for Authority {
    fn eq(&self, other: &Self) -> bool {
        let (one, other) = (&self.shared, &other.shared);
        Arc::ptr_eq(one, other) || one.hash == other.hash && one.grants == other.grants
    }
}

impl Eq for Authority {}

impl Hash for Authority {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shared.hash.hash(state);
    }
}

impl Authority {
    /// Write to all: a management token's, and everybody's where there is no access control.
    pub fn everything() -> Self {
        Self::new(Grants::by_default(Level::Write, Level::Write))
    }

    /// Read to all but tokens and policies.
    pub fn reader() -> Self {
        static READER: LazyLock<Authority> =
            LazyLock::new(|| Authority::new(Grants::by_default(Level::Read, Level::Deny)));
        READER.clone()
    }

    /// What the policies of one token give. Where they say different things of the same name, deny goes before write,
    /// write before list and read. `default` never gives access to tokens and policies: as in Consul, that takes a rule.
    pub fn of<'a>(rules: impl IntoIterator<Item = &'a Rules>, default: DefaultPolicy) -> Self {
        let default = match default {
            DefaultPolicy::Allow => Level::Write,
            DefaultPolicy::Deny => Level::Deny,
        };
        let mut grants = Grants::by_default(default, Level::Deny);
        let mut names: [ByName; 7] = Default::default();
        for rule in rules.into_iter().flat_map(|rules| &rules.rules) {
            let level = match &rule.scope {
                Scope::All => grants.plain_mut(rule.resource),
                Scope::Exact(name) => &mut said_of(&mut names, rule.resource, name).0,
                Scope::Prefix(name) => &mut said_of(&mut names, rule.resource, name).1,
            };
            *level = Some(level.map_or(rule.level, |before| before.merged(rule.level)));
        }
        grants.names = names.map(Names::new);
        Self::new(grants)
    }

    fn new(grants: Grants) -> Self {
        let mut hasher = DefaultHasher::new();
        grants.hash(&mut hasher);
        let seen = [Resource::Key, Resource::Service, Resource::Node, Resource::Session, Resource::Query];
        let reads_everything = seen.into_iter().all(|resource| {
            grants.names(resource).is_some_and(|names| names.all_below("", Level::Read, grants.default))
        });
        Self { shared: Arc::new(Shared { hash: hasher.finish(), reads_everything, grants }) }
    }

    /// On the key of that name.
    pub fn key(&self, key: &str) -> Level {
        self.level(Resource::Key, key)
    }

    /// Whether every key that begins with `prefix` may be written, those not yet there included.
    pub fn key_prefix_write(&self, prefix: &str) -> bool {
        let grants = &self.shared.grants;
        grants.names(Resource::Key).is_none_or(|keys| keys.all_below(prefix, Level::Write, grants.default))
    }

    /// On the instances of a service and their checks.
    pub fn service(&self, service: &str) -> Level {
        self.level(Resource::Service, service)
    }

    /// On a host and its checks.
    pub fn node(&self, node: &str) -> Level {
        self.level(Resource::Node, node)
    }

    /// On the sessions of a host.
    pub fn session(&self, node: &str) -> Level {
        self.level(Resource::Session, node)
    }

    /// On events of that name.
    pub fn event(&self, event: &str) -> Level {
        self.level(Resource::Event, event)
    }

    /// On the prepared query of that name.
    pub fn query(&self, query: &str) -> Level {
        self.level(Resource::Query, query)
    }

    /// On the agent of a host.
    pub fn agent(&self, node: &str) -> Level {
        self.level(Resource::Agent, node)
    }

    /// On the cluster as a whole.
    pub fn operator(&self) -> Level {
        self.level(Resource::Operator, "")
    }

    /// On tokens and policies.
    pub fn acl(&self) -> Level {
        self.level(Resource::Acl, "")
    }

    /// On the keys of gossip.
    pub fn keyring(&self) -> Level {
        self.level(Resource::Keyring, "")
    }

    /// On anything; `name` is of no meaning where there is one only.
    pub fn level(&self, resource: Resource, name: &str) -> Level {
        let grants = &self.shared.grants;
        let said = match grants.names(resource) {
            Some(names) => names.level(&folded(resource, name)),
            None => place(&Resource::PLAIN, resource).and_then(|at| grants.plain[at]),
        };
        said.unwrap_or(if resource == Resource::Acl { grants.acl_default } else { grants.default })
    }

    /// Whether there is nothing but tokens and policies that it may not see.
    pub(super) fn reads_everything(&self) -> bool {
        self.shared.reads_everything
    }

    /// # Errors
    /// [`Denied`] if it has less than `level` on that.
    pub fn require(&self, resource: Resource, name: &str, level: Level) -> Result<(), Denied> {
        if self.level(resource, name) >= level { Ok(()) } else { Err(Denied::new(resource, name, level)) }
    }
}

impl Grants {
    fn by_default(default: Level, acl_default: Level) -> Self {
        Self { names: Default::default(), plain: [None; 5], default, acl_default }
    }

    fn names(&self, resource: Resource) -> Option<&Names> {
        place(&Resource::NAMED, resource).map(|at| &self.names[at])
    }

    fn plain_mut(&mut self, resource: Resource) -> &mut Option<Level> {
        &mut self.plain[place(&Resource::PLAIN, resource).expect("a rule without a name is about one thing")]
    }
}

fn said_of<'a>(names: &'a mut [ByName; 7], resource: Resource, name: &str) -> &'a mut (Option<Level>, Option<Level>) {
    let place = place(&Resource::NAMED, resource).expect("a rule with a name is about what has names");
    names[place].entry(folded(resource, name).into()).or_default()
}

fn place(resources: &[Resource], resource: Resource) -> Option<usize> {
    resources.iter().position(|each| *each == resource)
}

fn folded(resource: Resource, name: &str) -> Cow<'_, str> {
    let is_folded = |byte: u8| byte.is_ascii() && !byte.is_ascii_uppercase();
    if resource.minds_case() || name.bytes().all(is_folded) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.to_lowercase())
    }
}

#[cfg(test)]
mod tests;
