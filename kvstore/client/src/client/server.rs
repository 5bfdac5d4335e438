//! One of the addresses: how it is spoken to.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};
use rustls::RootCertStore;

use super::ClientConfig;
use crate::{
    Error,
    fresh::Fresh,
    pem,
    tls::{self, Identity, Trust, TrustError},
};

/// How TLS is spoken at `https://` addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Files of certificates, or directories of such, trusted beside what the system trusts.
    pub authorities: Vec<PathBuf>,
    /// Shown to a server that asks.
    pub identity: Option<Identity>,
    /// Whom to ask for and to expect, instead of the address's host.
    pub server_name: Option<String>,
    /// Any certificate is taken, so anybody on the way can listen.
    pub unverified: bool,
}

impl TlsConfig {
    /// The files that it names.
    fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(|identity| [&identity.certificates, &identity.key]);
        self.authorities.iter().chain(identity).cloned().collect()
    }

    fn load(&self) -> Result<rustls::ClientConfig, TrustError> {
        let trust = if self.unverified {
            Trust::Anybody
        } else {
            let mut roots = tls::of_system();
            roots.extend(pem::authorities(&self.authorities)?.roots);
            Trust::Roots(roots)
        };
        tls::client_config(trust, self.identity.as_ref())
    }
}

/// A registry's address, and the connections to it.
pub(super) struct Server {
    /// As configured, for messages.
    pub(super) address: String,
    /// What the paths of calls are put to.
    pub(super) base: Url,
    /// The header `Host`, where it is not what `base` says.
    pub(super) host: Option<String>,
    /// Shown if asked for, for messages.
    pub(super) identity: Option<Identity>,
    /// Made anew, with connections of its own, when certificates change.
    pub(super) http: Fresh<reqwest::Client, TrustError>,
}

impl Server {
    pub(super) fn new(address: &str, config: &ClientConfig) -> Result<Self, Error> {
        let bad = |why: &dyn ToString| Error::Address { address: address.into(), why: why.to_string() };
        let socket = address.strip_prefix("unix://").map(PathBuf::from);
        let text = match &socket {
            Some(_) => "http://localhost".to_owned(),
            None if address.contains("://") => address.to_owned(),
            None => format!("http://{address}"),
        };
        let mut base = Url::parse(&text).map_err(|e| bad(&e))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(bad(&"only http, https and unix are spoken"));
        }
        if base.scheme() == "http" {
            return Ok(Self {
                address: address.into(),
                base,
                host: None,
                identity: None,
                http: Fresh::new(Vec::new(), move || Ok(plain(socket.clone())))?,
            });
        }
        let tls = config.tls.clone();
        let elsewhere = match &tls.server_name {
            Some(name) => Some(rename(&mut base, name).map_err(|why| bad(&why))?),
            None => None,
        };
        let host = elsewhere.as_ref().map(|place| place.authority.clone());
        let identity = tls.identity.clone();
        let http = Fresh::new(tls.files(), move || {
            let mut builder = builder().tls_backend_preconfigured(tls.load()?);
            if let Some(place) = &elsewhere {
                builder = builder.dns_resolver(place.clone());
            }
            Ok(builder.build().expect(ONLY_OURS))
        })?;
        Ok(Self { address: address.into(), base, host, identity, http })
    }
}

const ONLY_OURS: &str = "nothing of it is foreign but TLS, which was made before";

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .pool_idle_timeout(Duration::from_secs(30))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
}

/// Without TLS; said in so many words, for reading the system's certificates takes a while.
fn plain(socket: Option<PathBuf>) -> reqwest::Client {
    let nobody = tls::client_config(Trust::Roots(RootCertStore::empty()), None).expect("no file is read");
    let mut builder = builder().tls_backend_preconfigured(nobody);
    if let Some(path) = socket {
        builder = builder.unix_socket(path);
    }
    builder.build().expect(ONLY_OURS)
}

/// Puts `name` into `base`, so that TLS asks for it and expects it; gives where connections go all the same.
fn rename(base: &mut Url, name: &str) -> Result<Elsewhere, String> {
    let host = base.host_str().unwrap_or_default().to_owned();
    let authority = base.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
    let unfit = || format!("{name:?} is no name of a server");
    base.set_host(Some(name)).map_err(|_| unfit())?;
    // Nobody would be asked for the address of an address.
    match base.domain() {
        Some(domain) if domain.eq_ignore_ascii_case(name) => {}
        _ => return Err(unfit()),
    }
    let lookup = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Elsewhere { host: lookup, authority })
}

/// The addresses of one host, whatever name is asked for.
#[derive(Clone)]
struct Elsewhere {
    host: String,
    /// With the port, as in the address.
    authority: String,
}

impl Resolve for Elsewhere {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}
