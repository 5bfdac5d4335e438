//! What is of the host that renders: variables, addresses, files, the time.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;
use tera::{Error, Kwargs, TeraResult, Value};

use super::SharedScope;
use crate::values::{Answer, Dependency};

pub(super) fn get_env(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let name = kwargs.must_get::<&str>("name")?;
    let default = kwargs.get::<&Value>("default")?;
    match (scope.lock().setting.host.environment.get(name), default) {
        (Some(value), _) => Ok(value.as_str().into()),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => {
            Err(Error::message(format!("environment variable `{name}` is not set; set it or give a default")))
        }
    }
}

pub(super) fn file(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let path = kwargs.must_get::<&str>("path")?;
    let default = kwargs.get::<&Value>("default")?;
    let wanted = {
        let setting = &scope.lock().setting;
        match &setting.bounds.file_root {
            Some(root) => Dependency::File { root: root.clone(), path: relative(Path::new(path)) },
            None => Dependency::File { root: "/".into(), path: relative(&setting.directory.join(path)) },
        }
    };
    let shown = wanted.to_string();
    let answer = scope.read(wanted);
    Ok(match (answer.as_deref(), default) {
        (Some(Answer::File(Ok(text))), _) => text.as_str().into(),
        (_, Some(default)) => default.clone(),
        (Some(Answer::File(Err(why))), None) => {
            scope.lock().blocked.push(format!("{shown} {why}"));
            "".into()
        }
        _ => "".into(),
    })
}

/// Below a root, a leading slash means that root.
fn relative(path: &Path) -> std::path::PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

pub(super) fn host_ip(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let family = kwargs.get::<u8>("family")?.unwrap_or(4);
    let interface = kwargs.get::<&str>("interface")?;
    let network = kwargs.get::<&str>("cidr")?;
    let network: Option<IpNet> = network
        .map(|text| {
            text.parse().map_err(|_| Error::message(format!("host_ip(): {text:?} is no network; write 10.0.0.0/8")))
        })
        .transpose()?;
    let host = scope.lock().setting.host.clone();
    let fits = |(name, address): &&(String, IpAddr)| {
        address.is_ipv4() == (family == 4)
            && interface.is_none_or(|wanted| wanted == name)
            && network.is_none_or(|net| net.contains(address))
    };
    match host.addresses.iter().find(fits) {
        Some((_, address)) => Ok(address.to_string().into()),
        None => Err(Error::message("host_ip(): this host has no such address")),
    }
}

pub(super) fn now(scope: &SharedScope, kwargs: &Kwargs) -> TeraResult<Value> {
    let now = scope.lock().now;
    if kwargs.get::<bool>("unix")?.unwrap_or(false) {
        return Ok(now.as_second().into());
    }
    let format = kwargs.get::<&str>("format")?.unwrap_or("%Y-%m-%dT%H:%M:%SZ");
    let text = jiff::fmt::strtime::format(format, now);
    text.map(Value::from).map_err(|e| Error::message(format!("now(): format {format:?}: {e}")))
}
