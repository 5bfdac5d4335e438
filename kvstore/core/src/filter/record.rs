//! The rows of answers as filters see them: field by field, by the names of the API.

use std::collections::BTreeMap;

use serde_json::Value as JsonValue;

use super::schema::{self, Kind, Schema};
use crate::{
    InstanceView, State,
    row::{Check, Instance, Meta, Node, TaggedAddress, Weights},
};

/// Something with fields that a filter can ask for.
pub trait Record {
    /// The field `name` of the record's schema; of the kind that the schema says.
    fn value(&self, name: &str) -> Value<'_>;
}

/// What a field holds; see [`Kind`].
#[allow(missing_docs)] // the kinds tell
pub enum Value<'a> {
    Text(&'a str),
    Int(i64),
    Bool(bool),
    Texts(&'a [String]),
    Pairs(Option<&'a Meta>),
    Addresses(&'a BTreeMap<String, TaggedAddress>),
    Record(Box<dyn Record + 'a>),
    Records(Vec<Box<dyn Record + 'a>>),
}

/// What a record answers for a name that its schema has not.
const NOTHING: Value<'_> = Value::Records(Vec::new());

/// A host; [`schema::NODE`].
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct NodeRecord<'a> {
    pub node: &'a Node,
    pub datacenter: &'a str,
}

impl Record for NodeRecord<'_> {
    fn value(&self, name: &str) -> Value<'_> {
        self.field(name)
    }
}

impl<'a> NodeRecord<'a> {
    fn field(self, name: &str) -> Value<'a> {
        let Self { node, datacenter } = self;
        match name {
            "ID" => Value::Text(&node.id),
            "Node" => Value::Text(&node.name),
            "Address" => Value::Text(&node.address),
            "Datacenter" => Value::Text(datacenter),
            "TaggedAddresses" => Value::Pairs(node.tagged_addresses.as_ref()),
            "Meta" => Value::Pairs(node.meta.as_ref()),
            "PeerName" => Value::Text(""),
            _ => NOTHING,
        }
    }
}

/// An instance; [`schema::SERVICE`].
#[derive(Clone, Copy)]
pub struct ServiceRecord<'a>(pub &'a Instance);

impl Record for ServiceRecord<'_> {
    fn value(&self, name: &str) -> Value<'_> {
        self.field(name)
    }
}

impl<'a> ServiceRecord<'a> {
    fn field(self, name: &str) -> Value<'a> {
        let Self(instance) = self;
        match name {
            "Kind" => Value::Text(&instance.kind),
            "ID" => Value::Text(instance.id.as_str()),
            "Service" => Value::Text(&instance.service),
            "Tags" => Value::Texts(&instance.tags),
            "Meta" => Value::Pairs(instance.meta.as_ref()),
            "Port" => Value::Int(instance.port.into()),
            "Address" => Value::Text(&instance.address),
            "SocketPath" => Value::Text(&instance.socket_path),
            "TaggedAddresses" => Value::Addresses(&instance.tagged_addresses),
            "Weights" => Value::Record(Box::new(instance.weights)),
            "EnableTagOverride" => Value::Bool(instance.enable_tag_override),
            "Proxy" => Json::record(&instance.proxy, schema::PROXY),
            "Connect" => Json::record(&instance.connect, schema::CONNECT),
            "PeerName" => Value::Text(""),
            _ => NOTHING,
        }
    }
}

/// An instance and its host in one; [`schema::CATALOG`].
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct CatalogRecord<'a> {
    pub node: &'a Node,
    pub instance: &'a Instance,
    pub datacenter: &'a str,
}

impl Record for CatalogRecord<'_> {
    fn value(&self, name: &str) -> Value<'_> {
        let &Self { node, instance, datacenter } = self;
        match (name, name.strip_prefix("Service")) {
            ("NodeMeta", _) => Value::Pairs(node.meta.as_ref()),
            ("ServiceName", _) => Value::Text(&instance.service),
            (_, Some(own)) => ServiceRecord(instance).field(own),
            (_, None) => NodeRecord { node, datacenter }.field(name),
        }
    }
}

/// A check; [`schema::CHECK`].
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct CheckRecord<'a> {
    pub state: &'a State,
    pub check: &'a Check,
}

impl Record for CheckRecord<'_> {
    fn value(&self, name: &str) -> Value<'_> {
        let Self { state, check } = self;
        match name {
            "Node" => Value::Text(state.node(&check.node).map_or(check.node.as_str(), |node| &node.name)),
            "CheckID" => Value::Text(check.id.as_str()),
            "Name" => Value::Text(&check.name),
            "Status" => Value::Text(check.status.as_str()),
            "Notes" => Value::Text(&check.notes),
            "Output" => Value::Text(&check.output),
            "ServiceID" => Value::Text(check.service.as_ref().map_or("", |id| id.as_str())),
            "ServiceName" => Value::Text(state.instance_of(check).map_or("", |instance| &instance.service)),
            "ServiceTags" => Value::Texts(state.instance_of(check).map_or(&[], |instance| &instance.tags)),
            "Type" => Value::Text(&check.kind),
            "Interval" => Value::Text(&check.interval),
            "Timeout" => Value::Text(&check.timeout),
            "ExposedPort" => Value::Int(0),
            "PeerName" => Value::Text(""),
            _ => NOTHING,
        }
    }
}

/// An instance with host and checks; [`schema::ENTRY`].
#[derive(Clone, Copy)]
#[allow(missing_docs)]
pub struct EntryRecord<'a> {
    pub state: &'a State,
    pub view: InstanceView<'a>,
    pub datacenter: &'a str,
}

impl Record for EntryRecord<'_> {
    fn value(&self, name: &str) -> Value<'_> {
        let &Self { state, view, datacenter } = self;
        match name {
            "Node" => Value::Record(Box::new(NodeRecord { node: view.node, datacenter })),
            "Service" => Value::Record(Box::new(ServiceRecord(view.instance))),
            "Checks" => {
                let record = |check| Box::new(CheckRecord { state, check }) as Box<dyn Record>;
                Value::Records(view.checks().map(|check| record(check)).collect())
            }
            _ => NOTHING,
        }
    }
}

impl Record for TaggedAddress {
    fn value(&self, name: &str) -> Value<'_> {
        match name {
            "Address" => Value::Text(&self.address),
            "Port" => Value::Int(self.port.into()),
            _ => NOTHING,
        }
    }
}

impl Record for Weights {
    fn value(&self, name: &str) -> Value<'_> {
        match name {
            "Passing" => Value::Int(self.passing.into()),
            "Warning" => Value::Int(self.warning.into()),
            _ => NOTHING,
        }
    }
}

/// What a row keeps as the JSON that a client sent: what it lacks is empty, zero or false.
#[derive(Clone, Copy)]
struct Json<'a> {
    object: &'a JsonValue,
    schema: Schema,
}

impl<'a> Json<'a> {
    fn record(object: &'a JsonValue, schema: Schema) -> Value<'a> {
        Value::Record(Box::new(Self { object, schema }))
    }
}

impl Record for Json<'_> {
    fn value(&self, name: &str) -> Value<'_> {
        let value = &self.object[name];
        match schema::field(self.schema, name) {
            Some(Kind::Text) => Value::Text(value.as_str().unwrap_or_default()),
            Some(Kind::Int) => Value::Int(value.as_i64().unwrap_or_default()),
            Some(Kind::Bool) => Value::Bool(value.as_bool().unwrap_or_default()),
            Some(Kind::Record(schema)) => Self::record(value, schema),
            Some(Kind::Records(schema)) => {
                let record = |object| -> Box<dyn Record> { Box::new(Self { object, schema }) };
                Value::Records(value.as_array().into_iter().flatten().map(record).collect())
            }
            // No schema of these says so.
            Some(Kind::Texts | Kind::Pairs | Kind::Keyed(_)) | None => NOTHING,
        }
    }
}
