//! Who may do and see what: policies in Consul's language, as pure decisions.
//!
//! A policy's text becomes [`Rules`]; those of all policies of a token become an [`Authority`], which is asked for the
//! [`Level`] that it has on something, and whether it permits a command. A [`View`] is what it may see of a state.
//! <https://developer.hashicorp.com/consul/docs/security/acl/acl-rules>
//!
//! ```
//! use kvstore_core::acl::{Authority, DefaultPolicy, Level, Rules};
//!
//! let rules = Rules::parse(r#"key_prefix "app/" { policy = "write" } key "app/secret" { policy = "deny" }"#).unwrap();
//! let authority = Authority::of([&rules], DefaultPolicy::Deny);
//! assert_eq!(authority.key("app/port"), Level::Write);
//! assert_eq!(authority.key("app/secret"), Level::Deny);
//! assert_eq!(authority.key("other"), Level::Deny);
//! let denied = authority.require(kvstore_core::acl::Resource::Key, "other", Level::Read).unwrap_err();
//! assert_eq!(denied.to_string(), r#"Permission denied: token lacks permission 'key:read' on "other""#);
//! ```

mod authority;
mod denied;
mod names;
mod permits;
mod rules;
mod syntax;
mod view;

pub use authority::Authority;
pub use denied::Denied;
pub use rules::{Problem, Rules, RulesError};
pub use view::View;

/// The longest text of a policy's rules, in bytes.
pub const MAX_BYTES: usize = 512 * 1024;

/// So many objects and lists may stand inside each other in a policy's rules; sensible ones have three.
pub const MAX_DEPTH: usize = 8;

/// What somebody may do with something; each allows what those before it allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Nothing.
    Deny,
    /// See it.
    Read,
    /// See all that is below it, where Consul is told to ask for more than [`Level::Read`] there; for keys only.
    List,
    /// Change it.
    Write,
}

impl Level {
    /// All of them.
    const ALL: [Self; 4] = [Self::Deny, Self::Read, Self::List, Self::Write];

    /// The word in rules and in what is said of them.
    pub fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Read => "read",
            Self::List => "list",
            Self::Write => "write",
        }
    }

    /// What two policies of one token give that say different things of the same name.
    fn merged(self, other: Self) -> Self {
        if self == Self::Deny || other == Self::Deny { Self::Deny } else { self.max(other) }
    }
}

/// What holds where no rule says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DefaultPolicy {
    /// All but tokens and policies is everybody's.
    Allow,
    /// Nothing is anybody's.
    Deny,
}

/// What rules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A key of the KV store, by its name.
    Key,
    /// Instances and their checks, by the name of the service.
    Service,
    /// A host and its checks, by its name.
    Node,
    /// Sessions, by the name of their host.
    Session,
    /// Events, by their name.
    Event,
    /// Prepared queries, by their name.
    Query,
    /// An agent itself, by the name of its host.
    Agent,
    /// The cluster as a whole.
    Operator,
    /// The keys of Consul's gossip.
    Keyring,
    /// Tokens and policies.
    Acl,
    /// Consul's mesh; there is none here.
    Mesh,
    /// Consul's cluster peering; there is none here.
    Peering,
}

impl Resource {
    /// Those whose rules have a name.
    const NAMED: [Self; 7] =
        [Self::Key, Self::Service, Self::Node, Self::Session, Self::Event, Self::Query, Self::Agent];

    /// Those that there is one of.
    const PLAIN: [Self; 5] = [Self::Operator, Self::Keyring, Self::Acl, Self::Mesh, Self::Peering];

    /// The word in rules and in what is said of them.
    pub fn word(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Service => "service",
            Self::Node => "node",
            Self::Session => "session",
            Self::Event => "event",
            Self::Query => "query",
            Self::Agent => "agent",
            Self::Operator => "operator",
            Self::Keyring => "keyring",
            Self::Acl => "acl",
            Self::Mesh => "mesh",
            Self::Peering => "peering",
        }
    }

    /// Whether the case of its names counts. Those of hosts, services and queries are told apart without it, and so are
    /// they in rules: what `Web` is denied, `web` is denied.
    fn minds_case(self) -> bool {
        matches!(self, Self::Key | Self::Event)
    }

    /// The levels that rules about it can have.
    fn levels(self) -> impl Iterator<Item = Level> {
        Level::ALL.into_iter().filter(move |level| *level != Level::List || self == Self::Key)
    }
}
