//! Of instances, services and keys.
#![allow(clippy::needless_pass_by_value)] // the engine hands them over

use std::{collections::BTreeMap, net::IpAddr};

use tera::{
    Error, Kwargs, State, TeraResult, Value,
    value::{Key, Map},
};

/// `{tag: [item, ..]}` of items that have `tags`; the tags sorted, the items in their order.
pub(super) fn by_tag(items: &[Value], _: Kwargs, _: &State) -> TeraResult<Value> {
    let mut groups = BTreeMap::<String, Vec<Value>>::new();
    for item in items {
        let tags = item.get_from_path("tags").and_then(Value::as_array);
        let tags = tags.ok_or_else(|| Error::message("by_tag: an item of the list has no `tags`"))?;
        for tag in tags {
            groups.entry(tag.to_string()).or_default().push(item.clone());
        }
    }
    Ok(groups.into())
}

/// `{"A_B": [instance, ..]}` by the values of several keys of their metadata, sorted.
pub(super) fn by_meta(items: &[Value], kwargs: Kwargs, _: &State) -> TeraResult<Value> {
    let keys = kwargs.must_get::<Vec<String>>("keys")?;
    let default = kwargs.get::<&str>("default")?.unwrap_or_default();
    let mut groups = BTreeMap::<String, Vec<Value>>::new();
    for item in items {
        let meta = item.get_from_path("meta").and_then(Value::as_map);
        let meta = meta.ok_or_else(|| Error::message("by_meta: an item of the list has no `meta`"))?;
        let value = |key: &String| meta.get(&Key::from(key.clone())).and_then(Value::as_str).unwrap_or(default);
        let name = keys.iter().map(value).collect::<Vec<_>>().join("_");
        groups.entry(name).or_default().push(item.clone());
    }
    Ok(groups.into())
}

/// `{top: {rest: value}}` of the keys that `kv_list(recurse=true)` gives, by the first segment of each.
pub(super) fn by_key(items: &[Value], _: Kwargs, _: &State) -> TeraResult<Value> {
    let mut groups = BTreeMap::<String, Map>::new();
    for item in items {
        let text = |name| item.get_from_path(name).and_then(Value::as_str);
        let (Some(key), Some(value)) = (text("key"), text("value")) else {
            return Err(Error::message("by_key: an item of the list has no `key` and `value`; use kv_list()"));
        };
        let (top, rest) = key.split_once('/').unwrap_or((key, ""));
        let group = groups.entry(top.to_owned()).or_default();
        group.insert(rest.to_owned().into(), value.into());
    }
    Ok(groups.into())
}

/// The address of an instance on a Docker network, or of a family: its own if that fits, else one of its others.
pub(super) fn addr(instance: &Value, kwargs: Kwargs, _: &State) -> TeraResult<String> {
    let family = kwargs.get::<u8>("family")?;
    let net = kwargs.get::<&str>("net")?;
    let text = |path| instance.get_from_path(path).and_then(Value::as_str);
    let id = text("id").unwrap_or_default();
    let tagged = instance.get_from_path("tagged_addresses").and_then(Value::as_map);
    let tagged = tagged.ok_or_else(|| Error::message("addr: this is no instance; use one that service() gives"))?;
    let address_of = |value: &'_ Value| value.get_from_path("address").and_then(Value::as_str).map(str::to_owned);
    let mut candidates: Vec<String> = if let Some(net) = net {
        tagged.get(&Key::from(format!("net.{net}"))).and_then(address_of).into_iter().collect()
    } else {
        let mut others: Vec<_> = tagged.iter().map(|(name, value)| (name.to_string(), address_of(value))).collect();
        others.sort();
        text("address").map(str::to_owned).into_iter().chain(others.into_iter().filter_map(|o| o.1)).collect()
    };
    let is_of = |address: &String| match (family, address.parse::<IpAddr>()) {
        (None, _) => true,
        (Some(family), Ok(ip)) => ip.is_ipv4() == (family == 4),
        (Some(_), Err(_)) => false,
    };
    candidates.retain(is_of);
    candidates.into_iter().next().ok_or_else(|| {
        let on = net.map(|net| format!(" on network {net}")).unwrap_or_default();
        let of = family.map(|family| format!(" of family {family}")).unwrap_or_default();
        Error::message(format!("addr: instance {id} has no address{on}{of}"))
    })
}

/// `address:port` of an instance, IPv6 in brackets.
pub(super) fn hostport(instance: &Value, _: Kwargs, _: &State) -> TeraResult<String> {
    let address = instance.get_from_path("address").and_then(Value::as_str);
    let port = instance.get_from_path("port").and_then(Value::as_u64);
    match (address, port) {
        (Some(address), Some(port)) if address.contains(':') => Ok(format!("[{address}]:{port}")),
        (Some(address), Some(port)) => Ok(format!("{address}:{port}")),
        _ => Err(Error::message("hostport: this has no `address` and `port`")),
    }
}
