//! `registrar doctor`: looks at all that a run needs, one after the other, and says what would be wrong. Registers one
//! entry that leads nobody anywhere, and removes it again.

use std::{
    error::Error as StdError,
    fmt,
    io::{self, ErrorKind},
};

use kvstore_client::{Client, ClientConfig, Error as ClientError, with_causes};
use serde::Serialize;

use crate::{
    address::{self, HostAddress, Source},
    config::Config,
    docker::{Connection, Identity},
    explain::explain,
    plan::Mark,
    registry::{Registry, Trouble},
    state,
};

/// More warnings about containers would hide the rest; `registrar list` has them all.
const MAX_WARNINGS: usize = 10;

/// What was looked at, and how that is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// In a word.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Not looked at, since something before it is bad.
    Skipped,
    /// A run would go on, but perhaps not as its user thinks.
    Doubtful,
    /// A run would not do its work.
    Bad,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Good => "ok",
            Verdict::Skipped => "-",
            Verdict::Doubtful => "doubt",
            Verdict::Bad => "BAD",
        };
        write!(f, "{verdict:<5} {:<10} {}", self.subject, self.text)?;
        self.advice.iter().try_for_each(|advice| write!(f, "\n{:17}try: {advice}", ""))
    }
}

impl Finding {
    fn new(subject: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { subject, verdict, text: text.into(), advice: None }
    }

    fn good(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Good, text)
    }

    fn doubtful(subject: &'static str, text: impl Into<String>) -> Self {
        Self::new(subject, Verdict::Doubtful, text)
    }

    fn bad(subject: &'static str, error: &dyn StdError) -> Self {
        Self::new(subject, Verdict::Bad, with_causes(error))
    }

    fn skipped(subject: &'static str, why: &str) -> Self {
        Self::new(subject, Verdict::Skipped, why)
    }

    fn advice(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

/// Looks at everything, in the order in which a run needs it.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let identity = docker(config, &mut findings).await;
    let state = own_state(config, &mut findings);
    let address = own_address(config, &mut findings).await;
    let answers = registries(config, &mut findings).await;
    match (identity, state, address) {
        _ if !answers => findings.push(Finding::skipped("writing", "no registry answers")),
        (Some(identity), Some(state), Some(address)) => {
            findings.push(writing(config, &identity.mark(&state), address).await);
        }
        _ => findings.push(Finding::skipped("writing", "as whom and with what address is not known, see above")),
    }
    containers(config, &mut findings).await;
    findings
}

async fn docker(config: &Config, findings: &mut Vec<Finding>) -> Option<Identity> {
    match Connection::open(&config.docker).await {
        Ok((connection, identity)) => {
            let (engine, place, host) = (connection.engine(), &config.docker.address, &identity.host);
            findings.push(Finding::good("docker", format!("{engine} at {place}, on host {host}")));
            Some(identity)
        }
        Err(error) => {
            findings.push(Finding::bad("docker", &error).advice(about_docker(&error)));
            None
        }
    }
}

fn about_docker(error: &(dyn StdError + 'static)) -> &'static str {
    match io_kind(error) {
        Some(ErrorKind::PermissionDenied) => "run it as root, or in the group that owns the socket (docker)",
        Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            "see that Docker runs; --docker or DOCKER_HOST says where it listens"
        }
        _ => "--docker (DOCKER_HOST) says where it listens, --docker-tls and --docker-cert-path how to speak TLS",
    }
}

fn io_kind(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    let mut chain = std::iter::successors(Some(error), |&error| error.source());
    chain.find_map(|error| match error.downcast_ref() {
        Some(bollard::errors::Error::SocketNotFoundError(_)) => Some(ErrorKind::NotFound),
        _ => error.downcast_ref().map(io::Error::kind),
    })
}

fn own_state(config: &Config, findings: &mut Vec<Finding>) -> Option<String> {
    match state::known(config.state_dir.as_deref()) {
        Ok(id) => {
            let text = if id == "-" { "none yet; the first run makes one".to_owned() } else { id.clone() };
            findings.push(Finding::good("identity", text));
            Some(id)
        }
        Err(error) => {
            findings.push(Finding::bad("identity", &error));
            None
        }
    }
}

async fn own_address(config: &Config, findings: &mut Vec<Finding>) -> Option<HostAddress> {
    let registry = config.registry.addresses.first().map(String::as_str).unwrap_or_default();
    let found = match config.address.resolve(config.policy.choices.family, registry).await {
        Ok(found) => found,
        Err(error) => {
            findings.push(Finding::bad("address", &error).advice("give this host's address by --ip"));
            return None;
        }
    };
    let (main, source) = (found.main, &config.address);
    let whence = match source {
        Source::Given(_) => "as it was given".to_owned(),
        Source::Interface(name) => format!("of the interface {name}"),
        Source::Route => format!("on the way to {registry}"),
    };
    let text = format!("published ports are registered at {main}, {whence}");
    let only_here = main.is_loopback() && *source == Source::Route && !config.policy.choices.internal;
    findings.push(if only_here {
        Finding::doubtful("address", format!("{text}: only this host reaches it")).advice("--ip, if others shall")
    } else if !address::is_of_this_host(main) {
        Finding::doubtful("address", format!("{text}: no interface of this host has it"))
            .advice("another --ip, unless somebody forwards it to here")
    } else {
        Finding::good("address", text)
    });
    Some(found)
}

/// Each of them; whether one answers.
async fn registries(config: &Config, findings: &mut Vec<Finding>) -> bool {
    findings.extend(config.registry.warning().map(|warning| Finding::doubtful("registry", warning)));
    let (mut answers, mut silent) = (0, Vec::new());
    for address in &config.registry.addresses {
        let one = ClientConfig { addresses: vec![address.clone()], ..config.registry.clone() };
        let asked = async { Client::new(&one)?.leader().await };
        match asked.await {
            Ok(leader) if leader.is_empty() => {
                silent.push(Finding::doubtful("registry", format!("{address} answers, but has no leader")));
            }
            Ok(_) => {
                answers += 1;
                findings.push(Finding::good("registry", format!("{address} answers")));
            }
            Err(error) => silent.push(Finding::bad("registry", &error).advice(about_registry(&error))),
        }
    }
    // One is enough.
    if answers > 0 {
        for finding in &mut silent {
            finding.verdict = Verdict::Doubtful;
        }
    }
    findings.extend(silent);
    answers > 0
}

fn about_registry(error: &ClientError) -> &'static str {
    match error {
        ClientError::Tls { .. } => "registrar --help shows what can be said about TLS, from --ssl to --tls-server-name",
        ClientError::Status { status: 401 | 403, .. } => "a token that may read, by --token-file or --token",
        _ => "see that it runs; --registry or CONSUL_HTTP_ADDR says where it listens",
    }
}

async fn writing(config: &Config, mark: &Mark, address: HostAddress) -> Finding {
    let done = async {
        let registry: Registry = config.registry()?;
        // Fails, too, where another registrar keeps this node.
        registry.view(mark).await?;
        Ok::<_, Trouble>(registry.try_writing(mark, address.main).await?)
    };
    match done.await {
        Ok(()) => Finding::good("writing", "an entry was registered and removed again"),
        Err(error) => {
            let refused = matches!(&error, Trouble::Call(error) if matches!(error.status(), Some(401 | 403)));
            let finding = Finding::bad("writing", &error);
            if refused {
                finding.advice("a token that may write services, by --token-file or --token")
            } else {
                finding
            }
        }
    }
}

async fn containers(config: &Config, findings: &mut Vec<Finding>) {
    let Ok(all) = explain(config, None).await else {
        findings.push(Finding::skipped("containers", "they cannot be listed, see above"));
        return;
    };
    let instances: usize = all.iter().map(|one| one.instances.len()).sum();
    let text = format!("{} running, {instances} instances of them would be registered", all.len());
    findings.push(Finding::good("containers", text));
    let mut warnings =
        all.iter().flat_map(|one| one.warnings.iter().map(move |why| format!("{}: {why}", one.container)));
    findings.extend(warnings.by_ref().take(MAX_WARNINGS).map(|why| Finding::doubtful("containers", why)));
    let more = warnings.count();
    if more > 0 {
        let text = format!("{more} more such warnings");
        findings.push(Finding::doubtful("containers", text).advice("registrar list shows them all"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_line_and_its_advice_another() {
        let finding = Finding::bad("docker", &io::Error::other("on fire")).advice("put it out");
        assert_eq!(finding.to_string(), "BAD   docker     on fire\n                 try: put it out");
        assert_eq!(Finding::good("registry", "answers").to_string(), "ok    registry   answers");
    }

    #[test]
    fn advice_goes_by_the_cause() {
        for (kind, word) in [
            (ErrorKind::PermissionDenied, "in the group that owns the socket"),
            (ErrorKind::NotFound, "see that Docker runs"),
            (ErrorKind::BrokenPipe, "--docker-tls"),
        ] {
            assert!(about_docker(&io::Error::from(kind)).contains(word), "{kind}");
        }
    }
}
