//! Single values: what a text must be to name a zone, an address, an engine. Pure; used by flags and files alike.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use ipnet::IpNet;
use kvstore_core::{credentials::Digest, names::NodeKey};

#[cfg(feature = "etcd")]
use crate::engine::EtcdAddress;
use crate::http::digest;

/// A shorter token could be found by trying.
const MIN_TOKEN_BYTES: usize = 16;

/// The port of DNS, where an address stands without one.
const DNS_PORT: u16 = 53;

/// Where HTTP is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpAddr {
    /// Port 0: any free one.
    Tcp(SocketAddr),
    /// The same, over TLS.
    Tls(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl fmt::Display for HttpAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Who answers for other domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recursor {
    /// Those of the host's `resolv.conf`.
    System,
    /// This one.
    At(SocketAddr),
    /// This one for one domain, and nobody else for that.
    For {
        /// Lower-case, no dot at the end.
        domain: String,
        /// Where.
        at: SocketAddr,
    },
}

/// An engine as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineName {
    /// Nothing is kept.
    Memory,
    /// Files in the data directory.
    Embedded,
    /// An etcd that several kvstores share.
    #[cfg(feature = "etcd")]
    Etcd(Box<EtcdAddress>),
}

impl FromStr for EngineName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            "embedded" => Ok(Self::Embedded),
            #[cfg(feature = "etcd")]
            _ if text.starts_with("etcd://") => Ok(Self::Etcd(Box::new(text.parse()?))),
            #[cfg(not(feature = "etcd"))]
            _ if text.starts_with("etcd://") => {
                Err("this kvstore was built without etcd; build it with --features etcd, which wants protoc".into())
            }
            _ => Err(format!("there is no engine {text:?}; use embedded, memory or etcd://HOST:PORT,...")),
        }
    }
}

/// `IP:PORT`, `https://IP:PORT` or `unix:///PATH`.
pub(crate) fn http_addr(text: &str) -> Result<HttpAddr, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        return match path.strip_prefix('/') {
            Some(_) => Ok(HttpAddr::Unix(path.into())),
            None => Err(format!("{text:?} has no absolute path; use unix:///PATH")),
        };
    }
    if let Some(address) = text.strip_prefix("https://") {
        return dns_addr(address).map(HttpAddr::Tls);
    }
    let address = text.strip_prefix("http://").unwrap_or(text);
    address.parse().map(HttpAddr::Tcp).map_err(|_| format!("{text:?} is not IP:PORT, https://IP:PORT or unix:///PATH"))
}

/// `IP:PORT`.
pub(crate) fn https_addr(text: &str) -> Result<SocketAddr, String> {
    dns_addr(text.strip_prefix("https://").unwrap_or(text))
}

/// `IP:PORT`.
pub(crate) fn dns_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is not IP:PORT"))
}

/// `IP`, `IP:PORT` or `auto`; `DOMAIN=IP` or `DOMAIN=IP:PORT` for one domain.
pub(crate) fn recursor(text: &str) -> Result<Recursor, String> {
    let parts = text.split_once('=').map(|(domain, at)| (domain.trim(), at.trim()));
    match parts {
        None if text == "auto" => Ok(Recursor::System),
        None => recursor_address(text).map(Recursor::At),
        Some((_, "auto")) => Err(format!(
            "{text:?}: the resolvers of resolv.conf are asked about all domains or none; name one by its address"
        )),
        Some((name, at)) => Ok(Recursor::For { domain: domain(name)?, at: recursor_address(at)? }),
    }
}

fn recursor_address(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().ok();
    let address = with_port.or_else(|| Some(SocketAddr::new(text.parse().ok()?, DNS_PORT)));
    let wrong = "is not IP, IP:PORT or \"auto\", nor DOMAIN=IP or DOMAIN=IP:PORT for one domain";
    address.filter(|at| at.port() != 0).ok_or_else(|| format!("{text:?} {wrong}"))
}

/// A secret that lets its holder in; what is wrong with it is said without it.
pub(crate) fn token(text: &str) -> Result<Digest, String> {
    let fits = text.len() >= MIN_TOKEN_BYTES && text.bytes().all(|c| c.is_ascii_graphic());
    let wrong = || format!("a token has at least {MIN_TOKEN_BYTES} characters, all of them visible ASCII ones");
    fits.then(|| digest(text)).ok_or_else(wrong)
}

/// A network such as `10.0.0.0/8`, or one address.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let one = || text.parse::<IpAddr>().map(IpNet::from);
    let net = text.parse().or_else(|_| one());
    net.map_err(|_| format!("{text:?} is no network; write it as 10.0.0.0/8 or fd00::/8"))
}

/// `NAME=SERVICE`, where the name may begin with `*.`.
pub(crate) fn alias(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').map(|(name, service)| (name.trim(), service.trim()));
    let parts = parts.filter(|(name, service)| !name.is_empty() && !service.is_empty());
    let (name, service) =
        parts.ok_or_else(|| format!("{text:?} is not NAME=SERVICE, such as *.apps.example=haproxy"))?;
    Ok((name.to_lowercase(), service.to_lowercase()))
}

/// One IP address.
pub(crate) fn ip_address(text: &str) -> Result<IpAddr, String> {
    if text.contains("{{") {
        return Err(format!("{text:?}: templates of addresses are not understood; give the IP address itself"));
    }
    text.parse().map_err(|_| format!("{text:?} is not an IP address"))
}

/// IP addresses or `unix:///PATH` with blanks between, as Consul's `client_addr` and `addresses`.
pub(crate) fn addresses<T>(text: &str, one: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let all: Vec<T> = text.split_whitespace().map(one).collect::<Result<_, _>>()?;
    if all.is_empty() { Err("no address given".into()) } else { Ok(all) }
}

/// A name for a host, as the catalog takes it.
pub(crate) fn node_name(text: &str) -> Result<String, String> {
    NodeKey::new(text).map_err(|e| e.to_string())?;
    Ok(text.into())
}

/// Lower-case letters, digits, `-` and `_`; upper case is folded, as in Consul.
pub(crate) fn datacenter(text: &str) -> Result<String, String> {
    let folded = text.to_ascii_lowercase();
    let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    if folded.is_empty() || folded.len() > 63 || !folded.bytes().all(valid) {
        return Err(format!("{text:?} is no name for a datacenter; use letters, digits, - and _"));
    }
    Ok(folded)
}

/// A zone: labels of letters, digits, `-` and `_`, folded, without the dot at the end.
pub(crate) fn domain(text: &str) -> Result<String, String> {
    let folded = text.trim_end_matches('.').to_ascii_lowercase();
    let valid = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    let label = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(valid);
    if folded.len() > 200 || !folded.split('.').all(label) {
        return Err(format!("{text:?} is no domain; use letters, digits and - between dots"));
    }
    Ok(folded)
}

/// A UUID, spelled with hyphens.
pub(crate) fn uuid(text: &str) -> Result<String, String> {
    let parsed = uuid::Uuid::parse_str(text.trim()).map_err(|_| format!("{text:?} is not a UUID"))?;
    Ok(parsed.hyphenated().to_string())
}

/// `KEY:VALUE` of the host's metadata.
pub(crate) fn meta_pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once(':').unwrap_or((text, ""));
    if key.is_empty() { Err(format!("{text:?} is not KEY:VALUE")) } else { Ok((key.into(), value.into())) }
}

/// A level, in Consul's words too.
pub(crate) fn log_level(text: &str) -> Result<String, String> {
    let folded = text.to_ascii_lowercase();
    let level = if folded == "err" { "error" } else { &folded };
    match level {
        "trace" | "debug" | "info" | "warn" | "error" => Ok(level.into()),
        _ => Err(format!("{text:?} is no log level; use trace, debug, info, warn or error")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(http_addr("127.0.0.1:0"), Ok(HttpAddr::Tcp(([127, 0, 0, 1], 0).into())));
        assert_eq!(http_addr("http://[::1]:80").unwrap().to_string(), "http://[::1]:80");
        assert_eq!(http_addr("https://[::1]:81"), https_addr("[::1]:81").map(HttpAddr::Tls));
        assert_eq!(http_addr("unix:///run/x").unwrap().to_string(), "unix:///run/x");
        assert_eq!(recursor("10.0.0.2"), Ok(Recursor::At(([10, 0, 0, 2], 53).into())));
        assert_eq!(recursor("::1").unwrap(), Recursor::At("[::1]:53".parse().unwrap()));
        assert_eq!(recursor("auto"), Ok(Recursor::System));
        let of = |domain: &str, at: &str| Ok(Recursor::For { domain: domain.into(), at: at.parse().unwrap() });
        assert_eq!(recursor("Corp.Example.=10.0.0.2"), of("corp.example", "10.0.0.2:53"));
        assert_eq!(recursor("10.in-addr.arpa = ::1"), of("10.in-addr.arpa", "[::1]:53"));
        assert_eq!(recursor("_msdcs.corp=[::1]:5353"), of("_msdcs.corp", "[::1]:5353"));
        for bad in ["corp=auto", "corp=", "=10.0.0.2", "corp=dns.example", "a b=10.0.0.2", ".=10.0.0.2", "10.0.0.2:0"] {
            assert!(recursor(bad).is_err(), "{bad}");
        }
        assert_eq!(addresses("127.0.0.1  ::1", ip_address).unwrap().len(), 2);
        for bad in ["localhost:8500", "127.0.0.1", "unix://x", "unix://", "https://localhost:1", ""] {
            assert!(http_addr(bad).is_err(), "{bad}");
        }
        assert!(dns_addr("53").is_err() && recursor("dns.example").is_err() && addresses(" ", ip_address).is_err());
        assert!(ip_address("{{ GetPrivateIP }}").unwrap_err().contains("templates"));
    }

    #[test]
    fn names_are_folded_and_checked() {
        assert_eq!(datacenter("DC1").as_deref(), Ok("dc1"));
        assert_eq!(domain("Consul.").as_deref(), Ok("consul"));
        assert_eq!(domain("sd.example.com").as_deref(), Ok("sd.example.com"));
        assert_eq!(log_level("ERR").as_deref(), Ok("error"));
        assert_eq!(meta_pair("a:b:c"), Ok(("a".into(), "b:c".into())));
        assert!(datacenter("d c").is_err() && datacenter("").is_err());
        assert!(domain("").is_err() && domain("a..b").is_err() && domain(".").is_err() && domain("a b").is_err());
        assert!(log_level("loud").is_err() && meta_pair(":x").is_err() && uuid("x").is_err());
    }

    #[test]
    fn an_engine_that_is_not_there_is_named() {
        assert_eq!("memory".parse(), Ok(EngineName::Memory));
        #[cfg(not(feature = "etcd"))]
        assert!("etcd://127.0.0.1:2379".parse::<EngineName>().unwrap_err().contains("built without etcd"));
        #[cfg(feature = "etcd")]
        assert!("etcd://127.0.0.1".parse::<EngineName>().unwrap_err().contains("is not HOST:PORT"));
        assert!("raft".parse::<EngineName>().unwrap_err().contains("no engine"));
    }
}
