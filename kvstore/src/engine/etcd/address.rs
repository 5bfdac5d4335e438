//! `etcd://HOST:PORT,HOST:PORT?prefix=/flotilla`: where etcd is, what in it is ours, and how one gets in. Pure.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use kvstore_client::GoDuration;

/// Where keys are unless said otherwise.
const PREFIX: &str = "/flotilla";

/// The longest silence of an agent, unless said otherwise.
const LEASE: Duration = Duration::from_secs(10);

/// How long that may be: etcd counts seconds, and takes no fewer than 2.
const LEASES: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_mins(10);

/// As `--engine` names it. No secret is in it: a password is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `HOST:PORT` of each member; one is used, the others in its stead.
    pub members: Vec<String>,
    /// What all keys begin with; `/` at its beginning, none at its end.
    pub prefix: String,
    /// Whose certificates of etcd are believed, as PEM; given, TLS is spoken.
    pub ca_file: Option<PathBuf>,
    /// The own certificate and its key, as PEM.
    pub identity: Option<Identity>,
    /// Who we are to etcd.
    pub user: Option<User>,
    /// An agent that was silent for so long is dead to the others.
    pub lease: Duration,
}

/// Files of a certificate and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct Identity {
    pub cert_file: PathBuf,
    pub key_file: PathBuf,
}

/// A user of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub struct User {
    pub name: String,
    pub password_file: PathBuf,
}

impl Address {
    /// Whether TLS is spoken.
    pub fn is_tls(&self) -> bool {
        self.ca_file.is_some()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd://{}?prefix={}", self.members.join(","), self.prefix)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("etcd://").ok_or_else(|| format!("{text:?} does not begin with etcd://"))?;
        let (members, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        if members.contains('@') {
            return Err("a password does not belong into an address; use ?user=NAME&password_file=FILE".into());
        }
        let members = members.trim_end_matches('/').split(',').map(member).collect::<Result<_, _>>()?;
        let mut said = Said::default();
        for (name, value) in form_urlencoded::parse(parameters.as_bytes()) {
            said.take(&name, &value)?;
        }
        Ok(Self {
            members,
            prefix: said.prefix.unwrap_or_else(|| PREFIX.into()),
            identity: both(said.cert_file, said.key_file, "cert_file", "key_file")?
                .map(|(cert_file, key_file)| Identity { cert_file: cert_file.into(), key_file: key_file.into() }),
            user: both(said.user, said.password_file, "user", "password_file")?
                .map(|(name, password_file)| User { name, password_file: password_file.into() }),
            ca_file: said.ca_file.map(PathBuf::from),
            lease: said.lease.as_deref().map_or(Ok(LEASE), lease)?,
        })
        .and_then(|address: Self| match &address.identity {
            Some(_) if !address.is_tls() => Err("cert_file is used with TLS only; name etcd's ca_file too".into()),
            _ => Ok(address),
        })
    }
}

/// The parameters, as far as they were said.
#[derive(Default)]
struct Said {
    prefix: Option<String>,
    ca_file: Option<String>,
    cert_file: Option<String>,
    key_file: Option<String>,
    user: Option<String>,
    password_file: Option<String>,
    lease: Option<String>,
}

impl Said {
    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let place = match name {
            "prefix" => &mut self.prefix,
            "ca_file" => &mut self.ca_file,
            "cert_file" => &mut self.cert_file,
            "key_file" => &mut self.key_file,
            "user" => &mut self.user,
            "password_file" => &mut self.password_file,
            "lease" => &mut self.lease,
            _ => {
                return Err(format!(
                    "etcd has no parameter {name:?}; use prefix, ca_file, cert_file, key_file, user, password_file or lease"
                ));
            }
        };
        let value = if name == "prefix" { prefix(value)? } else { value.to_owned() };
        if value.is_empty() {
            return Err(format!("etcd's parameter {name} is empty"));
        }
        match place.replace(value) {
            Some(_) => Err(format!("etcd's parameter {name} is there twice")),
            None => Ok(()),
        }
    }
}

fn both(
    one: Option<String>,
    other: Option<String>,
    one_name: &str,
    other_name: &str,
) -> Result<Option<(String, String)>, String> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one, other))),
        (None, None) => Ok(None),
        _ => Err(format!("etcd's parameters {one_name} and {other_name} belong together")),
    }
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn member(text: &str) -> Result<String, String> {
    let fits = url::Url::parse(&format!("etcd://{text}")).is_ok_and(|url| {
        url.host_str().is_some_and(|host| !host.is_empty())
            && url.port().is_some_and(|port| port != 0)
            && url.path().is_empty()
    });
    if fits { Ok(text.to_owned()) } else { Err(format!("{text:?} is not HOST:PORT of an etcd")) }
}

fn lease(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(GoDuration(lease)) if LEASES.contains(&lease) && lease.subsec_nanos() == 0 => Ok(lease),
        _ => Err(format!("the lease {text:?} is not whole seconds from 2s to 10m")),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && !text.ends_with('/') && !text.chars().any(char::is_control);
    if fits {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no prefix; it begins with / and does not end with it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_all_that_is_needed() {
        let plain: Address = "etcd://10.0.0.1:2379,etcd-2:2379,[::1]:2379".parse().unwrap();
        assert_eq!(plain.members, ["10.0.0.1:2379", "etcd-2:2379", "[::1]:2379"]);
        assert_eq!((plain.prefix.as_str(), plain.is_tls(), &plain.user), ("/flotilla", false, &None));
        assert_eq!(plain.lease, Duration::from_secs(10));
        let full =
            "etcd://h:1?prefix=/a/b%20c&ca_file=/ca.pem&cert_file=c&key_file=k&user=me&password_file=p&lease=1m30s";
        let full: Address = full.parse().unwrap();
        assert_eq!((full.prefix.as_str(), full.is_tls(), full.lease), ("/a/b c", true, Duration::from_secs(90)));
        assert_eq!(full.identity, Some(Identity { cert_file: "c".into(), key_file: "k".into() }));
        assert_eq!(full.user, Some(User { name: "me".into(), password_file: "p".into() }));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("etcd://", "is not HOST:PORT"),
            ("etcd://h", "is not HOST:PORT"),
            ("etcd://h:0", "is not HOST:PORT"),
            ("etcd://h:1,", "is not HOST:PORT"),
            ("etcd://h:1/flotilla", "is not HOST:PORT"),
            ("etcd://me:secret@h:1", "a password does not belong"),
            ("etcd://h:1?prefix=flotilla", "is no prefix"),
            ("etcd://h:1?prefix=/", "is no prefix"),
            ("etcd://h:1?prefix=", "is no prefix"),
            ("etcd://h:1?prefix=/a&prefix=/b", "twice"),
            ("etcd://h:1?prefx=/a", "no parameter \"prefx\""),
            ("etcd://h:1?user=me", "user and password_file belong together"),
            ("etcd://h:1?ca_file=a&cert_file=c", "cert_file and key_file belong together"),
            ("etcd://h:1?cert_file=c&key_file=k", "name etcd's ca_file"),
            ("etcd://h:1?ca_file=", "ca_file is empty"),
            ("etcd://h:1?lease=1s", "not whole seconds from 2s to 10m"),
            ("etcd://h:1?lease=2500ms", "not whole seconds from 2s to 10m"),
            ("etcd://h:1?lease=10", "not whole seconds from 2s to 10m"),
        ] {
            let said = text.parse::<Address>().expect_err(text);
            assert!(said.contains(why), "{text}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }
}
