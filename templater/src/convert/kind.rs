//! What is known of values: what their items are, and how their fields are called.

/// What a value is, as far as that decides how its fields are called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Unknown,
    Text,
    Instances,
    Instance,
    Services,
    Service,
    Nodes,
    Node,
    /// A node with its services.
    NodeWithServices,
    NodeServices,
    NodeService,
    Checks,
    Check,
    Pairs,
    Pair,
    /// Instances by tag or metadata.
    InstancesBy,
    /// Services by tag.
    ServicesBy,
    /// Keys below keys.
    PairsBy,
    Map,
}

impl Kind {
    /// What the items of such a list or map are.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Instances => Self::Instance,
            Self::InstancesBy => Self::Instances,
            Self::Services => Self::Service,
            Self::ServicesBy => Self::Services,
            Self::Nodes => Self::Node,
            Self::NodeServices => Self::NodeService,
            Self::Checks => Self::Check,
            Self::Pairs => Self::Pair,
            Self::PairsBy => Self::Map,
            _ => Self::Unknown,
        }
    }

    pub(super) fn is_map(self) -> bool {
        matches!(self, Self::InstancesBy | Self::ServicesBy | Self::PairsBy | Self::Map)
    }

    /// A name for a variable of this kind.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Instance | Self::NodeService => "instance",
            Self::Instances => "instances",
            Self::Service => "service",
            Self::Services => "services",
            Self::Node | Self::NodeWithServices => "node",
            Self::Check => "check",
            Self::Pair => "pair",
            Self::Pairs => "pairs",
            _ => "item",
        }
    }

    /// How a field is called, and of what kind it is.
    pub(super) fn field(self, name: &str) -> (&'static str, Self) {
        use Kind::{
            Check, Checks, Instance, Node, NodeService, NodeServices, NodeWithServices, Pair, Service, Text, Unknown,
        };
        match (self, name) {
            (Instance, "Node") => ("node.name", Text),
            (Instance, "NodeID") => ("node.id", Text),
            (Instance, "NodeAddress") => ("node.address", Text),
            (Instance, "NodeDatacenter") => ("node.dc", Text),
            (Instance, "NodeMeta") => ("node.meta", Kind::Map),
            (Instance, "NodeTaggedAddresses") => ("node.tagged_addresses", Kind::Map),
            (Instance, "ServiceMeta") | (NodeService | Node, "Meta") => ("meta", Kind::Map),
            (Instance, "ServiceTaggedAddresses") | (Node, "TaggedAddresses") => ("tagged_addresses", Kind::Map),
            (Instance, "Checks") => ("checks", Checks),
            (Instance, "Weights") => ("weights", Unknown),
            (Instance | NodeService | Node, "ID") | (Check, "CheckID") => ("id", Text),
            (Instance | Service | Check, "Name") | (Node, "Node") | (NodeService, "Service") => ("name", Text),
            (Instance | NodeService | Node, "Address") => ("address", Text),
            (Instance | NodeService, "Port") => ("port", Text),
            (Instance | Service | NodeService, "Tags") => ("tags", Unknown),
            (Instance | Check, "Status") => ("status", Text),
            (Node, "Datacenter") => ("dc", Text),
            (NodeWithServices, "Node") => ("", Node),
            (NodeWithServices, "Services") => ("services", NodeServices),
            (Check, "Output") => ("output", Text),
            (Check, "Notes") => ("notes", Text),
            (Check, "Type") => ("kind", Text),
            (Check, "ServiceID") => ("service_id", Text),
            (Pair, "Key") => ("key", Text),
            (Pair, "Path") => ("path", Text),
            (Pair, "Value") => ("value", Text),
            (Pair, "Flags") => ("flags", Text),
            (Pair, "CreateIndex") => ("create_index", Text),
            (Pair, "ModifyIndex") => ("modify_index", Text),
            (Pair, "LockIndex") => ("lock_index", Text),
            (Pair, "Session") => ("session", Text),
            (Unknown, "Passing") => ("passing", Text),
            (Unknown, "Warning") => ("warning", Text),
            _ => ("?", Unknown),
        }
    }
}
