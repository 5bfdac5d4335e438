//! How a program is told as whom it talks to the registry, and whom it trusts to be that: options, environment and keys
//! of a file, the same in all of them.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use clap::{Args, builder::FalseyValueParser};
use serde::Deserialize;

use crate::{ClientConfig, TlsConfig, tls::Identity};

/// Token and TLS, under Consul's names for them.
#[derive(Args, Clone, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Access {
    /// Token for the registry; better given by --token-file or the environment, where others on the host do not see it.
    #[arg(long, global = true, env = "CONSUL_HTTP_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File with the token for the registry; read again when it changes.
    #[arg(long, global = true, env = "CONSUL_HTTP_TOKEN_FILE", value_name = "FILE")]
    #[serde(alias = "token_file")]
    pub token_file: Option<PathBuf>,
    /// Speak TLS with the registry, also where its address does not begin with https://.
    #[arg(long, global = true, env = "CONSUL_HTTP_SSL", value_parser = FalseyValueParser::new())]
    pub ssl: bool,
    /// `false` takes any certificate of the registry: then whoever is on the way can read the token.
    #[arg(long, global = true, env = "CONSUL_HTTP_SSL_VERIFY", value_name = "BOOL", value_parser = truth)]
    #[serde(alias = "ssl_verify")]
    pub ssl_verify: Option<bool>,
    /// File of authorities (PEM) that are trusted beside those of this host; read again when it changes.
    #[arg(long, global = true, env = "CONSUL_CACERT", value_name = "FILE")]
    #[serde(alias = "ca_file")]
    pub ca_file: Option<PathBuf>,
    /// Directory of such files.
    #[arg(long, global = true, env = "CONSUL_CAPATH", value_name = "DIR")]
    #[serde(alias = "ca_path")]
    pub ca_path: Option<PathBuf>,
    /// Certificate (PEM) to show to a registry that asks for one; read again when it changes.
    #[arg(long, global = true, env = "CONSUL_CLIENT_CERT", value_name = "FILE")]
    #[serde(alias = "client_cert")]
    pub client_cert: Option<PathBuf>,
    /// Private key of that certificate.
    #[arg(long, global = true, env = "CONSUL_CLIENT_KEY", value_name = "FILE")]
    #[serde(alias = "client_key")]
    pub client_key: Option<PathBuf>,
    /// Name in the registry's certificate, where it is not that in the address.
    #[arg(long, global = true, env = "CONSUL_TLS_SERVER_NAME", value_name = "NAME")]
    #[serde(alias = "tls_server_name")]
    pub tls_server_name: Option<String>,
}

/// The token is nobody's business.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// As Go reads a truth; an empty variable is as none.
fn truth(text: &str) -> Result<bool, String> {
    match text {
        "" | "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("true or false".into()),
    }
}

/// What cannot be meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// A certificate alone, or a key alone.
    #[error("client-cert and client-key: one of them is missing")]
    HalfIdentity,
}

impl Access {
    /// These, and from `weaker` what they leave open. A token in one place replaces a token file in a weaker one, and the
    /// other way round; certificate and key belong together in the same way.
    pub fn over(self, weaker: Self) -> Self {
        let (me, weaker) = (self.given(), weaker.given());
        let (token, token_file) = if me.token.is_some() || me.token_file.is_some() {
            (me.token, me.token_file)
        } else {
            (weaker.token, weaker.token_file)
        };
        let (client_cert, client_key) = if me.client_cert.is_some() || me.client_key.is_some() {
            (me.client_cert, me.client_key)
        } else {
            (weaker.client_cert, weaker.client_key)
        };
        Self {
            token,
            token_file,
            ssl: me.ssl || weaker.ssl,
            ssl_verify: me.ssl_verify.or(weaker.ssl_verify),
            ca_file: me.ca_file.or(weaker.ca_file),
            ca_path: me.ca_path.or(weaker.ca_path),
            client_cert,
            client_key,
            tls_server_name: me.tls_server_name.or(weaker.tls_server_name),
        }
    }

    /// The same with relative paths beginning at `base`.
    pub fn at(mut self, base: &Path) -> Self {
        let paths =
            [&mut self.token_file, &mut self.ca_file, &mut self.ca_path, &mut self.client_cert, &mut self.client_key];
        for path in paths.into_iter().flatten().filter(|path| !path.as_os_str().is_empty()) {
            *path = base.join(&path);
        }
        self
    }

    /// How to reach the registry at one of `addresses`. No file is looked at yet.
    ///
    /// # Errors
    /// [`AccessError`]
    pub fn config(self, addresses: Vec<String>) -> Result<ClientConfig, AccessError> {
        let me = self.given();
        let identity = match (me.client_cert, me.client_key) {
            (Some(certificates), Some(key)) => Some(Identity { certificates, key }),
            (None, None) => None,
            _ => return Err(AccessError::HalfIdentity),
        };
        let tls = TlsConfig {
            authorities: me.ca_file.into_iter().chain(me.ca_path).collect(),
            identity,
            server_name: me.tls_server_name,
            unverified: me.ssl_verify == Some(false),
        };
        let addresses = if me.ssl { addresses.into_iter().map(secure).collect() } else { addresses };
        Ok(ClientConfig { addresses, tls, token: me.token, token_file: me.token_file, ..ClientConfig::default() })
    }

    /// An empty text, such as that of a variable that is set to nothing, gives nothing.
    fn given(mut self) -> Self {
        for text in [&mut self.token, &mut self.tls_server_name] {
            text.take_if(|text| text.trim().is_empty());
        }
        let paths =
            [&mut self.token_file, &mut self.ca_file, &mut self.ca_path, &mut self.client_cert, &mut self.client_key];
        for path in paths {
            path.take_if(|path| path.as_os_str().is_empty());
        }
        self
    }
}

/// Whoever asks for TLS is never left without; a socket of this host needs none.
fn secure(address: String) -> String {
    match address.split_once("://") {
        Some(("http", rest)) => format!("https://{rest}"),
        Some(_) => address,
        None => format!("https://{address}"),
    }
}

impl ClientConfig {
    /// What its user must be told aloud: that TLS keeps nobody out.
    pub fn warning(&self) -> Option<&'static str> {
        (self.tls.unverified && self.addresses.iter().any(|address| address.starts_with("https://"))).then_some(
            "the registry's certificate is NOT verified (ssl-verify, CONSUL_HTTP_SSL_VERIFY): whoever is on the way can \
             read the token and answer in its place",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_for_tls_gets_it() {
        let ssl = Access { ssl: true, ..Access::default() };
        let given = ["http://a:1", "b:2", "https://c:3", "unix:///d"].map(str::to_owned).to_vec();
        let config = ssl.config(given.clone()).unwrap();
        assert_eq!(config.addresses, ["https://a:1", "https://b:2", "https://c:3", "unix:///d"]);
        assert_eq!(Access::default().config(given.clone()).unwrap().addresses, given);
    }

    #[test]
    fn the_stronger_place_wins_and_pairs_stay_together() {
        let strong = Access {
            token: Some("mine".into()),
            client_cert: Some("a.pem".into()),
            ca_file: Some(PathBuf::new()),
            ..Access::default()
        };
        let weak = Access {
            token_file: Some("file".into()),
            client_cert: Some("b.pem".into()),
            client_key: Some("b.key".into()),
            ca_file: Some("ca.pem".into()),
            ssl_verify: Some(false),
            ..Access::default()
        };
        let merged = strong.over(weak.clone()).at(Path::new("/etc"));
        assert_eq!((merged.token.as_deref(), &merged.token_file), (Some("mine"), &None));
        assert_eq!(merged.ca_file.as_deref(), Some(Path::new("/etc/ca.pem")), "an empty text says nothing");
        assert_eq!(merged.config(Vec::new()).unwrap_err(), AccessError::HalfIdentity);
        let config = Access::default().over(weak).config(vec!["https://h".into()]).unwrap();
        let identity = Identity { certificates: "b.pem".into(), key: "b.key".into() };
        assert_eq!((config.tls.identity.as_ref(), config.token_file), (Some(&identity), Some("file".into())));
        assert!(config.tls.unverified);
    }

    #[test]
    fn what_lets_anybody_in_is_told_aloud() {
        let of = |verify, address: &str| {
            let access = Access { ssl_verify: verify, ..Access::default() };
            access.config(vec![address.into()]).unwrap().warning()
        };
        assert!(of(Some(false), "https://h").is_some_and(|text| text.contains("NOT verified")));
        assert_eq!(
            (of(Some(true), "https://h"), of(None, "https://h"), of(Some(false), "http://h")),
            (None, None, None)
        );
        for (text, verified) in [("", Ok(true)), ("1", Ok(true)), ("False", Ok(false)), ("no", Err(()))] {
            assert_eq!(truth(text).map_err(drop), verified, "{text:?}");
        }
    }
}
